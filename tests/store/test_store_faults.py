"""No step is lost: killed processes, full disks, locks, other versions, tasks that fail."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.stores import (
    STEPS,
    change,
    record_until_killed,
    recording,
    same,
    same_archive,
    search,
)

from m2n2lab import Evolver, store, tasks
from m2n2lab.store import schema
from m2n2lab.store.schema import StoreError
from m2n2lab.store.writer import Writer
from m2n2lab.tasks import from_function

# -- killed ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(task):
    return search(task).run(STEPS)


def killed(path, moment):
    """Record a search in a process that is killed after ``moment`` seconds."""
    with recording(record_until_killed, path):
        time.sleep(moment)


def check_resumed(task, path, uninterrupted):
    """Check that a run of a killed process resumes to the same end; return its last step."""
    resumed = store.resume(path, task=task)
    stopped = resumed.generation
    assert same_archive(search(task).run(stopped).archive, resumed.archive)
    resumed.run(STEPS - stopped, store=path)
    assert same(uninterrupted, resumed)
    assert same(uninterrupted, store.resume(path, task=task))
    return stopped


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))]
)
def test_a_killed_run_resumes_to_the_end_of_an_uninterrupted_one(number, task, db, uninterrupted):
    killed(db, number * random.uniform(0.0, 0.1))
    check_resumed(task, db, uninterrupted)


@pytest.mark.slow
def test_200_kills_at_random_moments_change_nothing(task, tmp_path, uninterrupted, capsys):
    began = time.perf_counter()
    search(task).run(STEPS, store=tmp_path / "whole.db")
    whole = time.perf_counter() - began  # a quick machine would be done before most kills
    stops = set()
    for number in range(200):
        path = tmp_path / f"{number}.db"
        killed(path, random.uniform(0.0, whole))
        stops.add(check_resumed(task, path, uninterrupted))
    with capsys.disabled():
        print(
            f"\n200 kills of a recorded search at {len(stops)} different steps: 200 resumed as one"
        )
    assert len(stops) > 10


# -- readers and writers -----------------------------------------------------------------------


def test_a_second_writer_is_refused_until_the_first_process_ends(task, db):
    with recording(record_until_killed, db) as process:
        with pytest.raises(StoreError, match=f"process {process.pid} on .* is writing to it"):
            search(task).run(1, store=db)
        assert store.runs(db)[0].run == 1  # reading is allowed
    search(task).run(1, store=db)
    assert [run.run for run in store.runs(db)] == [1, 2]


def test_one_process_records_several_runs_at_once_but_none_twice(task, db):
    first, second = search(task), search(task, rng=1)
    with store.record(first, db), store.record(second, db):
        first.run(5)
        second.run(6)
        with pytest.raises(StoreError, match="is already being recorded"):
            first.run(1, store=db)
    assert [run.last for run in store.runs(db)] == [5, 6]


def test_readers_see_consistent_steps_while_one_process_writes(task, db):
    evolver, wrong, stop = search(task), [], threading.Event()
    whole = search(task)
    seen = [whole.archive.standing.ids]
    for _ in range(300):
        whole.step()
        seen.append(whole.archive.standing.ids)

    def read():
        while not stop.is_set():
            try:
                for step in (store.steps(db)[-1], 0):
                    if store.replay(db, step=step).ids != seen[step]:
                        wrong.append(step)
            except Exception as error:
                wrong.append(error)

    with store.record(evolver, db, batch=3):
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        evolver.run(300)
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []


def test_a_search_is_recorded_from_any_thread_that_steps_it(task, db):
    evolver = search(task)
    with store.record(evolver, db, batch=4):
        for _ in range(5):
            thread = threading.Thread(target=evolver.run, args=(3,))
            thread.start()
            thread.join()
            evolver.run(2)
    assert same(search(task).run(25), store.resume(db, task=task))


def test_a_step_that_none_follows_is_written_by_one_thread_that_ends_with_the_recorder(task, db):
    def flushers():
        return sum(thread.name == "m2n2lab recorder" for thread in threading.enumerate())

    def wait_for(condition):
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert condition()

    evolver, others = search(task), flushers()
    with store.record(evolver, db):
        for step in (1, 2, 3):
            evolver.step()
            wait_for(lambda step=step: store.steps(db)[-1] == step)
            assert flushers() == others + 1
    wait_for(lambda: flushers() == others)


# -- full and locked ---------------------------------------------------------------------------


def test_a_full_disk_stops_the_run_with_the_reason_and_loses_no_step(task, db):
    evolver = search(task)
    recorder = store.record(evolver, db, batch=10)
    evolver.run(20)
    writer = Writer.open(db)  # that of the recorder: a process has one for each store
    with writer.transaction() as file:
        (pages,) = file.execute("PRAGMA page_count").fetchone()
        file.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"full.*free some space and go on"):
        evolver.run(5_000)
    stopped = evolver.generation
    assert 20 < stopped < 5_020
    with pytest.raises(StoreError, match="full"):  # still
        evolver.step()
    with pytest.raises(StoreError, match="full"):
        recorder.close()
    with writer.transaction() as file:
        file.execute("PRAGMA max_page_count = 1000000")
    evolver.run(15)
    recorder.close()
    writer.close()
    assert evolver.generation == stopped + 16
    assert same(search(task).run(stopped + 16), store.resume(db, task=task))


def test_a_store_locked_by_another_program_stops_the_run_and_loses_no_step(task, db, monkeypatch):
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    evolver = search(task)
    with store.record(evolver, db, batch=5):
        evolver.run(7)
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked.*close the other program that uses it"):
            evolver.run(10)
        other.execute("ROLLBACK")
        other.close()
        evolver.run(12 - evolver.generation)
    assert same(search(task).run(12), store.resume(db, task=task))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda scores: scores.astype(float) * np.nan, "must be finite"),
        (lambda scores: 1 / 0, "division"),
        (lambda scores: scores[:-1], "one score per data point"),
    ],
)
def test_a_task_that_fails_on_one_child_keeps_all_steps_and_goes_on(task, db, bad, words):
    asked = []

    def score(model, at):
        asked.append(len(asked))
        right = task.evaluate(model)
        return bad(right) if len(asked) == 18 else right

    def named(function):
        return from_function(function, task.points, name="odd")

    seeds = task.random_seeds(2, scale=0.5)
    evolver = Evolver(named(score), seeds, mutation=0.2)
    with store.record(evolver, db), pytest.raises((ValueError, ZeroDivisionError), match=words):
        evolver.run(40)
    assert evolver.generation == 15
    well = named(lambda model, at: task.evaluate(model))
    resumed = store.resume(db, task=well).run(10, store=db)
    assert same(Evolver(well, seeds, mutation=0.2).run(25), resumed)


def test_a_missing_folder_is_named(task, tmp_path):
    with pytest.raises(StoreError, match=r"must be in a folder that exists, got .*none; create it"):
        search(task).run(1, store=tmp_path / "none" / "runs.db")


def test_an_interrupted_run_keeps_all_steps(task, db):
    evolver = search(task)

    def interrupt(generation):
        if generation.step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolver.run(20, until=interrupt, store=db)
    assert store.steps(db)[-1] == 9


# -- versions ----------------------------------------------------------------------------------


def test_a_newer_store_is_refused_and_an_older_one_is_brought_up_to_date(task, db, monkeypatch):
    search(task).run(12, store=db)
    newer = (*schema.MIGRATIONS, "ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT 'none';")
    with monkeypatch.context() as later:
        later.setattr(schema, "MIGRATIONS", newer)
        older = store.runs(db)
        with pytest.warns(UserWarning, match="from version 2 to 3; as it was it is kept in .*n-2"):
            resumed = search(task, rng=1).run(3, store=db)
        assert store.runs(f"{db}.version-2") == older
        assert same(resumed, store.resume(db, task=task))
        assert same(search(task).run(12), store.resume(db, 1, task=task))
        with sqlite3.connect(db) as file:
            assert file.execute("SELECT note FROM runs").fetchall() == [("none",), ("none",)]
    for use in (store.runs, lambda path: search(task).run(1, store=path)):
        with pytest.raises(StoreError, match="must be of version 2 or older, got version 3; open"):
            use(db)


def test_a_migration_that_fails_leaves_the_store_as_it_was(task, db, monkeypatch):
    search(task).run(3, store=db)
    bad = (*schema.MIGRATIONS, "ALTER TABLE runs ADD COLUMN note TEXT; SELECT nonsense;")
    with monkeypatch.context() as later:
        later.setattr(schema, "MIGRATIONS", bad)
        with (
            pytest.warns(UserWarning, match="version 2 to 3"),
            pytest.raises(StoreError, match="nonsense"),
        ):
            search(task).run(1, store=db)
    assert store.resume(db, task=task).generation == 3


def test_other_files_are_refused_and_kept(task, tmp_path):
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as file:
        file.execute("CREATE TABLE mine (a)")
    text = tmp_path / "notes.txt"
    text.write_text("dear diary, " * 100)
    for path, words in ((other, "of another program"), (text, "damaged or not a store")):
        before = path.read_bytes()
        for use in (store.runs, lambda path: search(task).run(1, store=path)):
            with pytest.raises(StoreError, match=words):
                use(path)
        assert path.read_bytes() == before
    with pytest.raises(StoreError, match="no such file"):
        store.runs(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_wrong_run_step_task_or_seed_is_refused_with_the_right_ones(task, db):
    search(task).run(5, store=db)
    for call, words in (
        (lambda: store.replay(db, 7), "has no run 7; choose one of: 1"),
        (lambda: store.replay(db, 1, 6), r"must be in \[0, 5\] for run 1, got 6"),
        (lambda: store.resume(db), "give it as task="),
        (
            lambda: store.resume(db, task=tasks.digits()),
            "must be the run's 'small' with 40 data points, got 'digits'",
        ),
        (
            lambda: store.resume(db, task=task, seeds=task.random_seeds(2, rng=9)),
            "seed 0 must have SHA-256",
        ),
    ):
        with pytest.raises(StoreError, match=words):
            call()


def test_a_child_that_is_bred_differently_on_this_computer_is_refused(task, db):
    evolver = search(task).run(60, store=db)
    displaced = next(
        int(id)
        for id, accepted in zip(
            evolver.records.column("child"), evolver.records.column("accepted"), strict=True
        )
        if accepted and id not in evolver.archive
    )
    change(db, "UPDATE steps SET mark = mark + 1 WHERE child = ?", displaced)
    with pytest.raises(StoreError, match="rounds differently"):
        store.branch(db, step=displaced - 1, task=task)
    assert same(evolver, store.resume(db, task=task))


def test_importing_the_lab_does_not_load_the_store():
    code = "import sys, m2n2lab.core.evolver; print('m2n2lab.store' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


# -- read-only storage -------------------------------------------------------------------------


@pytest.fixture
def unwritable_folder():
    """Yield a function that makes a folder of store files which this process cannot write to."""
    folder = Path(tempfile.mkdtemp())

    @contextlib.contextmanager
    def closed(*files):
        for file in files:
            shutil.copy(file, folder)
            (folder / file.name).chmod(0o444)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # root may write anywhere
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)

    yield closed
    shutil.rmtree(folder)


def test_a_store_in_a_folder_that_cannot_be_written_to_is_read(task, tmp_path, unwritable_folder):
    path = tmp_path / "runs #1?.db"  # odd names are no part of an address
    search(task).run(50, store=path)
    with unwritable_folder(path) as folder:
        found = store.runs(folder / path.name)
        assert os.listdir(folder) == [path.name]
    assert found == store.runs(path)
    assert found[0].last == 50


def test_steps_in_a_wal_that_cannot_be_read_are_not_left_out(task, tmp_path, unwritable_folder):
    path = tmp_path / "runs.db"
    with store.record(search(task), path) as evolver_record:
        assert evolver_record is not None
        wal = tmp_path / "runs.db-wal"
        assert wal.stat().st_size
        with (
            unwritable_folder(path, wal) as folder,
            pytest.raises(StoreError, match=r"runs\.db-wal"),
        ):
            store.runs(folder / "runs.db")
