"""Looking back in a session, and branching from there."""

import os
import sqlite3
import tempfile
import threading
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
from helpers.sessions import PATIENCE, wait_for
from helpers.stores import same
from m2n2lab.widgets.html.figures import figures_html
from m2n2lab.widgets.runs.runs import MAX_RUNS, Runs
from m2n2lab.widgets.session.run_recorder import (
    FOLDER_PREFIX,
    STORE_NAME,
    RunRecorder,
    remove_orphans,
    start_recorder,
)
from m2n2lab.widgets.session.session import Session
from m2n2lab.widgets.session.snapshot import Past

from m2n2lab import Evolver, InputError, make_evolver, store
from m2n2lab.analysis.maps import niches_data
from m2n2lab.config.settings import Settings
from m2n2lab.core.methods.map_elites import MapElites
from m2n2lab.store.schema import StoreError
from m2n2lab.store.writer import Writer


@pytest.fixture
def make(tiny, tiny_seeds):
    return lambda: Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)


@pytest.fixture
def session(make, tmp_path):
    path = tmp_path / "runs.db"
    session = Session(make, title="mine", record=partial(start_recorder, title="mine", store=path))
    session.start()
    yield session
    session.close()
    assert session.join(PATIENCE)


def stepped(session, steps):
    session.orders.step(steps)
    done = session.snapshot.step + steps
    return wait_for(session, lambda s: s.step == done and s.phase == "paused")


def started(steps, store=None):
    """Return runs, and the only one of them, which has taken so many steps."""
    runs = Runs(store=store)
    first = runs.add(Settings(hidden=(4,), threads=1))
    runs.start()
    stepped(first.session, steps)
    return runs, first


def looked(session, step):
    session.orders.view_step(step)
    return wait_for(session, lambda s: s.past is not None and s.past.step == step)


def test_the_past_is_what_the_page_showed_then(session):
    start = wait_for(session, lambda s: s.phase == "paused")
    then = stepped(session, 25)
    now = stepped(session, 30)
    for shown in (then, start):
        seen = looked(session, shown.step).seen
        for field in fields(Past):
            a, b = getattr(seen, field.name), getattr(shown, field.name)
            parts = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
            for part, expected in parts:
                np.testing.assert_array_equal(part, expected, err_msg=field.name)
    # What is not of the archive goes on, and now is one order away.
    assert seen.curves is session.snapshot.curves
    session.orders.view_step(None)
    assert wait_for(session, lambda s: s.past is None).seen.step == now.step


def test_the_past_is_what_the_store_replays(session, tiny, tmp_path):
    stepped(session, 40)
    for step in (1, 17, 39):
        past = looked(session, step).past
        expected = niches_data(
            store.replay(tmp_path / "runs.db", step=step), tiny, ("seed 0", "seed 1")
        )
        for part, other in zip(past.niches, expected, strict=True):
            np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("method", ["ga", "map-elites", "cycle-qd", "cma-es", "brute-force"])
def test_every_method_can_be_looked_back_at(tiny, tiny_seeds, method):
    def make():
        return make_evolver(method, tiny, tiny_seeds, rng=0)

    session = Session(make, record=partial(start_recorder, title=method))
    session.start()
    then = stepped(session, 8)
    stepped(session, 8)
    seen = looked(session, 8).seen
    assert (seen.best, seen.train, seen.test) == (then.best, then.train, then.test)
    np.testing.assert_array_equal(seen.niches.scores, then.niches.scores)
    session.close()
    assert session.join(PATIENCE)


def test_only_the_newest_place_of_the_slider_is_looked_at(session, monkeypatch):
    stepped(session, 60)
    seen, held, go = [], threading.Event(), threading.Event()
    past = RunRecorder.past
    monkeypatch.setattr(
        RunRecorder, "past", lambda recorder, step: seen.append(step) or past(recorder, step)
    )
    end = session.subscribe(lambda: held.set() or go.wait(PATIENCE))
    session.orders.select(0)
    assert held.wait(PATIENCE)  # the worker cannot take orders meanwhile
    for step in range(50, 20, -1):
        session.orders.view_step(step)
    end()
    go.set()
    wait_for(session, lambda s: s.past is not None and s.past.step == 21)
    assert seen == [21]


def test_the_search_goes_on_while_the_page_looks_back(session):
    stepped(session, 30)
    past = looked(session, 12).past
    session.orders.run()
    on = wait_for(session, lambda s: s.step > 50)
    assert on.past is past
    assert (on.seen.step, on.seen.phase) == (12, "running")


def test_a_step_that_is_the_last_again_is_the_present(session):
    stepped(session, 10)
    session.orders.choose(split=30)
    wait_for(session, lambda s: s.bench is not None and s.bench.proposal.split == 30)
    session.orders.command("merge")
    wait_for(session, lambda s: s.step == 11 and s.phase == "paused")
    assert looked(session, 10).seen.step == 10
    session.orders.command("undo")
    wait_for(session, lambda s: s.step == 10 and s.past is None)
    assert session.orders.past is None


@pytest.mark.parametrize("step", [-1, 40, 1_000])
def test_what_is_no_step_of_the_past_is_the_present(session, step):
    stepped(session, 40)
    session.orders.view_step(step)
    wait_for(session, lambda s: session.orders.past is None)
    assert session.snapshot.past is None
    assert session.snapshot.message == ""


def test_a_branch_is_the_uninterrupted_run_bit_for_bit(session, make):
    stepped(session, 50)
    for step in (0, 23, 50):
        same(session.recording.branch(step).run(30), make().run(step + 30))


def test_options_that_are_functions_and_classes_of_a_notebook_go_along_into_a_branch(
    tiny, tiny_seeds
):
    class Grid(MapElites):
        pass

    def make():
        return Grid(
            tiny,
            tiny_seeds,
            mutation=0.05,
            behaviours=lambda scores: (scores[:20].mean(), scores[20:].mean()),
            axes=(("easy", 0, 1), ("hard", 0, 1)),
        )

    session = Session(make, record=partial(start_recorder, title="mine"))
    session.start()
    stepped(session, 20)
    branched = session.recording.branch(7)
    assert type(branched) is Grid
    same(branched.run(30), make().run(37))
    session.close()
    assert session.join(PATIENCE)


def test_a_run_branches_beside_another_and_goes_its_own_way():
    runs, first = started(12)
    run = runs.branch(first, 7)
    assert runs.all == (first, run)
    assert run.title == "digits · m2n2 · seed 0 · from run 1, step 7"
    begun = wait_for(run.session, lambda s: s.phase == "paused")
    assert (begun.step, begun.first) == (7, 7)
    assert list(begun.curves.step) == list(range(8))  # its past is drawn, and can be read there
    on = stepped(run.session, 5)
    assert on.test == first.session.snapshot.test
    runs.close()
    assert all(each.session.join(PATIENCE) for each in runs.all)


def test_a_page_with_all_its_runs_says_so_before_it_branches():
    runs = Runs()
    first, *_ = (runs.add(Settings()) for _ in range(MAX_RUNS))
    with pytest.raises(InputError, match="at most 8 runs"):
        runs.branch(first, 0)


def test_a_search_of_a_page_leaves_no_file_and_no_trace_on_its_evolver(make):
    evolver, recorders = make(), []

    def record(evolver):
        recorders.append(start_recorder(evolver, title=""))
        return recorders[0]

    session = Session(lambda: evolver, record=record)
    session.start()
    stepped(session, 5)
    folder = recorders[0].path.parent
    assert [path for path in folder.iterdir() if path.name == "run.db"]
    assert evolver.stored is None  # nothing says that it could be taken up again there
    session.close()
    assert session.join(PATIENCE)
    assert not folder.exists()


def test_a_store_of_ones_own_is_kept_and_can_be_taken_up_again(tiny, tmp_path):
    path = tmp_path / "runs.db"
    runs, first = started(12, store=path)
    other = runs.branch(first, 7)
    wait_for(other.session, lambda s: s.step == 7)
    stepped(other.session, 2)
    runs.close()
    assert all(run.session.join(PATIENCE) for run in runs.all)
    assert [(run.run, run.start, run.last, run.parent) for run in store.runs(path)] == [
        (1, 0, 12, None),
        (2, 7, 9, 1),
    ]
    assert store.resume(path, 1).generation == 12


def test_models_that_cannot_be_stored_only_have_no_past(make):
    session = Session(make, record=lambda evolver: "Such models cannot be stored.")
    session.start()
    shown = stepped(session, 5)
    assert (shown.first, shown.unrecorded_reason) == (None, "Such models cannot be stored.")
    session.orders.view_step(2)
    wait_for(session, lambda s: session.orders.past is None)
    assert stepped(session, 5).message == ""
    with pytest.raises(InputError, match="cannot be stored"):
        session.recording.branch(2)
    session.close()
    assert session.join(PATIENCE)


# -- faults ------------------------------------------------------------------------------------


def failed(session):
    """Wait until a search stands still because of a fault."""
    return wait_for(session, lambda s: s.phase == "failed" and s.step == len(session.history))


def connection(path):
    """Return the connection by which this process writes a store."""
    writer = Writer.open(path)  # the one that the session has opened
    with writer.transaction() as file:
        pass
    writer.close()
    return file


def test_a_locked_store_pauses_with_the_reason_and_nothing_is_lost(
    session, make, tmp_path, monkeypatch
):
    path = tmp_path / "runs.db"
    stepped(session, 5)
    connection(path).execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    session.orders.run()
    shown = failed(session)
    assert "close the other program that uses it" in shown.message
    assert "close the other program that uses it" in figures_html(shown)
    session.orders.view_step(2)  # what waits must be written first
    assert (
        "close the other program that uses it"
        in wait_for(session, lambda s: session.orders.past is None).message
    )
    other.execute("ROLLBACK")
    other.close()
    step = session.snapshot.step
    session.orders.step(10)
    done = wait_for(session, lambda s: s.step == step + 10 and s.phase == "paused")
    assert done.message == ""
    looked(session, step)
    same(session.recording.branch(done.step), make().run(done.step))


def test_a_full_disk_pauses_with_the_reason_and_nothing_is_lost(session, make, tmp_path):
    stepped(session, 5)
    file = connection(tmp_path / "runs.db")
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    file.execute(f"PRAGMA max_page_count = {pages}")
    session.orders.run()
    assert "free some space" in failed(session).message
    file.execute("PRAGMA max_page_count = 1000000")
    step = session.snapshot.step
    session.orders.step(10)
    done = wait_for(session, lambda s: s.step == step + 10 and s.phase == "paused")
    assert done.message == ""
    same(session.recording.branch(done.step), make().run(done.step))


# -- what is left behind -----------------------------------------------------------------------


def test_recordings_of_killed_servers_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, young, living, other = (
        tmp_path / name
        for name in (
            f"{FOLDER_PREFIX}dead",
            f"{FOLDER_PREFIX}young",
            f"{FOLDER_PREFIX}living",
            "other",
        )
    )
    for folder in (dead, young, living, other):
        folder.mkdir()
        (folder / STORE_NAME).touch()
    writer = Writer.open(living / STORE_NAME)
    for folder in (dead, living, other):
        os.utime(folder, (1.0, 1.0))
    assert remove_orphans() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [young.name, living.name, "other"]
    )
    writer.close()


def test_a_branched_run_that_is_reset_begins_where_it_branched():
    runs, first = started(12)
    second = runs.branch(first, 7)
    second.session.orders.step(3)
    shown = wait_for(second.session, lambda s: s.step == 10 and s.phase == "paused")
    runs.remove(first)  # its own record is enough
    third = runs.restart(second)
    begun = wait_for(third.session, lambda s: s.phase == "paused")
    assert (begun.step, begun.first) == (7, 7)
    assert third.title.endswith("from run 1, step 7")
    assert runs.replaced == (second, third)
    third.session.orders.step(3)
    again = wait_for(third.session, lambda s: s.step == 10 and s.phase == "paused")
    assert again.niches.ids == shown.niches.ids
    assert np.array_equal(again.niches.scores, shown.niches.scores)
    fresh = runs.restart(runs.add(Settings(threads=1)))
    assert wait_for(fresh.session, lambda s: s.phase == "paused").step == 0
    runs.close()


def test_a_branched_run_can_be_reset_again_before_it_has_begun():
    runs, first = started(9)
    run, past = runs.branch(first, 4), []
    for _ in range(5):  # a person's clicks come faster than searches are made
        past.append(run)
        run = runs.restart(run)
    assert wait_for(run.session, lambda s: s.phase in ("paused", "failed")).step == 4
    assert runs.replaced == (past[0], run)  # none of the others had begun
    assert all(old.session.join(PATIENCE) for old in past[1:])
    assert runs.all == (first, run)
    runs.close()


def test_a_branched_run_that_could_not_begin_is_reset_from_its_parent_run(monkeypatch):
    runs, first = started(9)

    def full(*_: object, **__: object) -> None:
        raise StoreError("The disk is full; free some space.")

    with monkeypatch.context() as patch:
        patch.setattr("m2n2lab.widgets.session.run_recorder.branch", full)
        second = runs.branch(first, 4)
        assert "free some space" in wait_for(second.session, lambda s: s.phase == "failed").message
    third = runs.restart(second)
    assert wait_for(third.session, lambda s: s.phase in ("paused", "failed")).step == 4
    runs.close()
