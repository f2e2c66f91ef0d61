"""Stores of which bytes changed: refused with the place, or the same; never another archive."""

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import pytest
from helpers.merges import run
from helpers.stores import change, recording, same, search, state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2n2lab import store
from m2n2lab.store.schema import MIGRATIONS, DamageError, StoreError
from m2n2lab.store.tables import TABLES, checksum

EARLIER = Path(__file__).resolve().parents[1] / "data" / "earlier" / "runs.db"


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """A store of two runs, the second a branch, and the searches."""
    path = tmp_path_factory.mktemp("whole") / "runs.db"
    first = search(task)
    with store.record(first, path, batch=20):
        first.run(90)
    second = store.branch(path, 1, 60, task=task)
    with store.record(second, path, batch=20):
        second.run(50)
    return path, (first, second)


def everything(path, task):
    """Read all that can be read of both runs."""
    found = []
    for number in (1, 2):
        evolver = store.resume(path, number, task=task)
        found.append((state(evolver), evolver.records.table().tobytes()))
        found.append(store.whole_history(path, number).table().tobytes())
        found.append(json.dumps(store.told(path, number)))
        found.append(store.replay(path, number, store.steps(path, number)[5]).fitness.tobytes())
    return [*found, store.runs(path)]


def test_the_checksum_of_a_row_is_the_same_in_every_python():
    assert checksum((1, -5, 2**62, 0.1, 1e300, "ä·", "", b"\0\xff", None)) == 2935703617
    assert checksum(()) == 932418520


def _columns():
    return [
        (table, name)
        for kind, table in TABLES.items()
        for name in (*kind._fields, "checksum")
        if name != "run" and (table, name) != ("genomes", "id")  # it would be bred again
    ]


@pytest.mark.parametrize(("table", "column"), _columns())
def test_a_changed_value_is_refused_with_its_place(table, column, whole, task, db):
    shutil.copy(whole[0], db)
    first = {"seeds": "seed = 0", "founders": "row = 1", "runs": "run = 2"}
    where = first.get(table)
    if where is None:
        where = f"rowid = (SELECT max(rowid) FROM {table} WHERE run = 2)"
        if table in ("steps", "living"):
            where = f"step = (SELECT max(step) FROM {table} WHERE run = 2)"
    where += "" if table == "runs" else " AND run = 2"
    before = sqlite3.connect(db).execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
    value = before[0] + b"\1" if isinstance(before[0], bytes) else f"{before[0]}1"
    if not isinstance(before[0], (bytes, str)):
        value = (before[0] or 0) + 70
    change(db, f"UPDATE {table} SET {column} = ? WHERE {where}", value, seal=False)
    with pytest.raises(StoreError) as caught:
        everything(db, task)
    assert isinstance(caught.value, DamageError)
    assert "run 2" in str(caught.value)
    assert f"m2n2lab check {db} says what can still be read" in str(caught.value)
    assert same(whole[1][0], store.resume(db, 1, task=task)) or table == "runs"
    found = store.check(db)
    assert [bool(each.problems) for each in found.runs][:2] == [False, True]


@pytest.mark.parametrize("table", TABLES.values())
def test_a_lost_row_is_refused(table, whole, task, db):
    keys = {"runs": "run = 2", "seeds": "seed = 1", "founders": "row = 2"}
    keys |= {"steps": "step = 75", "living": "step = 110"}
    shutil.copy(whole[0], db)
    if table == "genomes":
        newest = "id = (SELECT max(id) FROM genomes WHERE run = 2)"
        change(db, f"DELETE FROM genomes WHERE run = 2 AND {newest}", seal=False)
        assert same(whole[1][1], store.resume(db, 2, task=task))  # bred again
        return
    change(db, f"DELETE FROM {table} WHERE run = 2 AND {keys[table]}", seal=False)
    with pytest.raises(DamageError):
        everything(db, task)
    assert not store.check(db).is_whole


def test_steps_before_the_damage_can_still_be_read(whole, task, db, capsys):
    shutil.copy(whole[0], db)
    change(db, "UPDATE steps SET best = 77 WHERE run = 1 AND step = 50", seal=False)
    with pytest.raises(DamageError, match=r"step 50 of run 1 .* \(branch\(…, step=49\)\)"):
        store.resume(db, 1, task=task)
    assert same(search(task).run(49), store.branch(db, 1, 49, task=task))
    found = store.check(db)
    assert found.runs[0].steps == range(50)
    assert found.runs[1].steps == range(60, 111)
    assert "step 50 of run 1" in found.runs[0].problems[0]
    status, printed, _ = run("check", db)
    assert status == 1
    assert "run 1: steps 0 to 49 can be read" in printed
    status, printed, _ = run("check", db, "--json")
    assert status == 1
    assert [each["last"] for each in json.loads(printed)["runs"]] == [49, 110]


def test_a_whole_store_passes_the_check(whole):
    found = store.check(whole[0])
    assert found.is_whole
    assert found.has_checksums
    assert [each.steps for each in found.runs] == [range(91), range(60, 111)]
    status, printed, _ = run("check", whole[0])
    assert (status, printed.splitlines()[-1]) == (0, "Nothing is wrong.")


def flip(path, whole, place, bit):
    data = bytearray(whole)
    data[place] ^= 1 << bit
    path.write_bytes(data)


def flipped(whole, task, db, count):
    """Flip single bits of a store; return how many were refused, and how many changed nothing."""
    expected, data = everything(whole[0], task), whole[0].read_bytes()
    draw, refused = random.Random(count), 0
    for _ in range(count):
        place, bit = draw.randrange(len(data)), draw.randrange(8)
        flip(db, data, place, bit)
        try:
            found = everything(db, task)
        except StoreError:
            refused += 1
        else:
            assert found[:-1] == expected[:-1], f"bit {bit} of byte {place}"
        with contextlib.suppress(StoreError):
            store.check(db)
    return refused, count - refused


def test_one_flipped_bit_is_refused_or_changes_nothing(whole, task, db):
    refused, same_as_before = flipped(whole, task, db, 30)
    assert refused > 10
    assert refused + same_as_before == 30


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_refused_or_change_nothing(whole, task, db, capsys):
    refused, same_as_before = flipped(whole, task, db, 1_000)
    with capsys.disabled():
        print(f"\n1,000 flipped bits: {refused} refused, {same_as_before} changed nothing, 0 other")
    assert refused > 400


ODD_TEXTS = ["", "x", "[]", "{}", "null", '[["x"]]', "\x1b[2J[/x]", '{"a":' * 900 + "1" + "}" * 900]
ODD_BYTES = [b"", b"\xff\0", b"b", b"r{}", b"v" + zlib.compress(b"0"), b"m" + b"\xff" * 20]
ODD_VALUES = st.sampled_from([*ODD_TEXTS, *ODD_BYTES, None, -1, 0, 3, 2**62, 1.5, float("inf")])


FORGERIES = [
    ("steps", "train", "x"),
    ("steps", "rng", ODD_BYTES[5]),
    ("steps", "step", "x"),
    ("runs", "task", "{}"),
    ("runs", "space", "{}"),
    ("runs", "options", "{}"),
    ("runs", "seeds", 2**62),
    ("founders", "parents", '[["x"]]'),
    ("genomes", "id", "x"),
    ("genomes", "genome", ODD_BYTES[4]),
]


def forged(whole, task, db, table, column, value):
    """Write a value, with a checksum, into all rows of a run; all that reads a store reads it."""
    shutil.copy(whole[0], db)
    with contextlib.suppress(sqlite3.IntegrityError):
        change(db, f"UPDATE {table} SET {column} = ? WHERE run = 2", value)
    said = []
    for read in (store.runs, store.check, lambda path: everything(path, task)):
        try:
            read(db)
        except StoreError as error:
            said.append(str(error))
    said += [line for command in ("runs", "check") for line in run(command, db)[1:]]
    assert "\x1b" not in "".join(said)


@pytest.mark.parametrize(("table", "column", "value"), FORGERIES)
def test_a_forged_value_is_read_or_refused(table, column, value, whole, task, db):
    forged(whole, task, db, table, column, value)


@pytest.mark.slow
@given(st.sampled_from(_columns()), ODD_VALUES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_forged_value_is_read_or_refused(whole, task, db, place, value):
    forged(whole, task, db, *place, value)


# -- copies --------------------------------------------------------------------------------------


def record_on_and_on(path, ready):
    evolver = search(__import__("helpers.stores", fromlist=["small"]).small())
    with store.record(evolver, path, batch=7):
        evolver.run(20)
        ready.send(True)
        evolver.run(1_000_000)


@pytest.mark.slow
def test_a_plain_copy_of_a_store_in_use_is_read_or_refused(task, db, tmp_path):
    copy, found = tmp_path / "copy.db", []
    with recording(record_on_and_on, db):
        for _ in range(15):
            copy.with_name("copy.db-wal").unlink(missing_ok=True)
            shutil.copy(db, copy)
            try:
                evolver = store.resume(copy, task=task)
            except StoreError as error:
                found.append(str(error))
            else:
                assert same(search(task).run(evolver.generation), evolver)
                found.append("")
    assert len(found) == 15


def test_a_backup_of_a_store_in_use_is_one_whole_file(task, db, tmp_path):
    last = 0
    with recording(record_on_and_on, db):
        for number in range(4):
            copy = tmp_path / f"copy {number}.db"
            status, _, _ = run("backup", db, copy)
            assert status == 0
            evolver = store.resume(copy, task=task)
            assert evolver.generation >= last
            last = evolver.generation
            assert store.check(copy).is_whole
    assert same(search(task).run(last), evolver)
    assert sorted(os.listdir(tmp_path))[:4] == [f"copy {number}.db" for number in range(4)]


def test_a_backup_replaces_nothing_and_leaves_nothing_if_it_fails(whole, tmp_path, monkeypatch):
    mine = tmp_path / "mine.db"
    mine.write_text("precious")
    status, _, error = run("backup", whole[0], mine)
    assert status == 2
    assert "exists already" in error
    assert mine.read_text() == "precious"

    def fail(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    status, _, error = run("backup", whole[0], tmp_path / "copy.db")
    assert status == 3
    assert "Input/output error" in error
    assert os.listdir(tmp_path) == ["mine.db"]


# -- versions ------------------------------------------------------------------------------------


def test_a_store_of_an_earlier_version_is_read_as_it_is(tmp_path):
    path = Path(shutil.copy(EARLIER, tmp_path))
    before = path.read_bytes()
    assert [each.last for each in store.runs(path)] == [60] * 7
    found = store.check(path)
    assert found.is_whole
    assert not found.has_checksums
    status, printed, _ = run("check", path)
    assert status == 0
    assert "have no checksums" in printed
    assert path.read_bytes() == before


def test_a_store_of_an_earlier_version_is_brought_up_to_date_with_a_copy_and_a_note(tmp_path):
    path = Path(shutil.copy(EARLIER, tmp_path))
    status, _, error = run("resume", path, "--run", 6, "--steps", 5)
    assert status == 0
    assert "Note: The store" in error
    assert f"version 1 to {len(MIGRATIONS)}; as it was it is kept in" in error
    copy = tmp_path / "runs.db.version-1"
    assert str(store.runs(copy)) == str(store.runs(EARLIER))
    assert not store.check(copy).has_checksums
    found = store.check(path)
    assert found.is_whole
    assert found.has_checksums
    assert store.runs(path)[5].last == 65
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # only once
        assert run("resume", path, "--run", 6, "--steps", 1)[0] == 0


def test_wrong_bytes_of_an_earlier_version_are_refused_in_a_sentence(tmp_path):
    draw, data, path = random.Random(1), EARLIER.read_bytes(), tmp_path / "runs.db"
    for _ in range(40):
        flip(path, data, draw.randrange(len(data)), draw.randrange(8))
        for number in (1, 6):
            try:
                store.replay(path, number)
                store.whole_history(path, number)
                store.told(path, number)
            except StoreError:
                pass


# -- disks ---------------------------------------------------------------------------------------

LIMITED = """
import os, resource, sys
from m2n2lab.cli import program

kind, *sys.argv[1:] = sys.argv[1:]
if kind == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
elif os.geteuid() == 0:  # root may write to any file
    os.access = lambda path, mode: mode != os.W_OK
program()
"""


def limited(kind, *arguments):
    """Run the command line on a disk that is full, or that can only be read."""
    command = [sys.executable, "-c", LIMITED, kind, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_full_disk_ends_the_command_with_the_reason_and_what_is_not_recorded(tmp_path):
    path = Path(shutil.copy(EARLIER, tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run("resume", path, "--run", 6, "--steps", 0)
    status, said = limited("full", "resume", path, "--run", 6, "--steps", 2_000)
    assert status == 3, said
    assert "SQLite says 'disk I/O error'" in said
    assert "observed, but are not recorded, and will be taken again with the same outcome" in said
    assert store.resume(path, 6).generation >= 60


@pytest.mark.slow
def test_a_store_that_can_only_be_read_ends_the_command_before_any_step(tmp_path):
    path = Path(shutil.copy(EARLIER, tmp_path))
    path.chmod(0o444)
    status, said = limited("read", "resume", path, "--run", 6, "--steps", 3)
    assert status == 3, said
    assert "got one that can only be read" in said
    assert path.read_bytes() == EARLIER.read_bytes()
