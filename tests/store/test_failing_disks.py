"""Every call of the system that writes a file fails once: what is written is whole or absent."""

import contextlib
import errno
import hashlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import tensors
from helpers.faults import at_every_call
from helpers.merges import run
from helpers.stores import same, search

from m2n2lab import CheckpointSpace, InputError, save_archive, store
from m2n2lab.store import schema


def contents(folder):
    """Return the SHA-256 of each file below a folder, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def evolver(task):
    return search(task).run(30)


@pytest.fixture
def two(here):
    for k, name in enumerate("ab"):
        draw = torch.Generator().manual_seed(k)
        weights = {f"w{i}": torch.randn(40, generator=draw) for i in range(3)}
        tensors(Path(name, "model.safetensors"), weights)
        Path(name, "config.json").write_text("{}")
    return here


@pytest.mark.parametrize("function", ["pwrite", "fsync", "rename", "preadv", "mkdir"])
@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_merge_is_complete_or_absent_whichever_call_fails(function, form, two, monkeypatch):
    monkeypatch.setenv("M2N2LAB_CACHE", str(two / "cache"))
    seeds = ("a", "b") if form == "folder" else ("a/model.safetensors", "b/model.safetensors")
    name = "out" if form == "folder" else "out.safetensors"
    moved = "rename" if form == "folder" else "replace"
    function = moved if function == "rename" else function
    before, whole, failed = sorted(os.listdir()), None, 0

    def merge():
        space = CheckpointSpace(*seeds)
        space.save(space.merge(*space.seeds, split=50, mix=0.3), name)

    def clear():
        for path in Path().glob("out*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree("cache", ignore_errors=True)

    for number, error in at_every_call(function, lambda: (clear(), merge())):
        made = {key: value for key, value in contents(".").items() if key.startswith("out")}
        if error is None:
            whole = whole or made
            assert made == whole
            continue
        failed += 1
        assert isinstance(error, InputError), (number, error)
        assert not [path for path in os.listdir() if path.endswith(".partial")]
        there = Path(name).exists()
        assert made == whole if there and form == "folder" else not there or made == whole
        if not there and function != moved:
            assert sorted(set(os.listdir()) - {"cache"}) == before
    assert failed


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_archive_and_an_export_are_complete_or_as_before(function, evolver, tmp_path, db):
    with store.record(search(evolver.task), db) as recorder:
        recorder._evolver.run(20)
    path = tmp_path / "out"
    actions = {
        "archive": lambda: save_archive(evolver, path),
        "csv": lambda: run("export", db, 1, "--csv", path),
        "json": lambda: run("export", db, 1, "--json", path),
    }
    for action in actions.values():
        path.unlink(missing_ok=True)
        action()
        whole = path.read_bytes()
        for older in (None, b"older"):
            path.unlink(missing_ok=True)
            if older is not None:
                path.write_bytes(older)
            listed = sorted(os.listdir(tmp_path))
            for _, error in at_every_call(function, action):
                assert error is None or isinstance(error, InputError)
                assert path.read_bytes() in (whole, older) if path.exists() else older is None
                assert set(os.listdir(tmp_path)) - {"out"} == set(listed) - {"out"}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("function", ["fsync", "replace", "open"])
def test_a_backup_is_complete_or_absent_whichever_call_fails(function, code, task, tmp_path, db):
    search(task).run(20, store=db)
    copy = tmp_path / "copy.db"

    def backup():
        copy.unlink(missing_ok=True)
        store.backup(db, copy)

    for _, error in at_every_call(function, backup, code):
        assert error is None or isinstance(error, InputError)
        if copy.exists():
            assert store.check(copy).is_whole
        assert set(os.listdir(tmp_path)) <= {"copy.db", "runs.db", "runs.db-lock"}


class Failing:
    """A connection of a store whose n-th statement fails, and those after it."""

    def __init__(self, monkeypatch, number):
        self.calls, self.number = 0, number
        real = {name: getattr(sqlite3.Connection, name) for name in ("execute", "executemany")}

        def make(name):
            def call(connection, statement, *args):
                if statement.startswith(("INSERT", "DELETE", "COMMIT", "BEGIN IMM")):
                    self.calls += 1
                    if self.number and self.calls >= self.number:
                        raise sqlite3.OperationalError("database or disk is full")
                return real[name](connection, statement, *args)

            return call

        for name in real:
            monkeypatch.setattr(schema.StoreFile, name, make(name), raising=False)


def test_a_store_has_whole_steps_whichever_write_fails(task, tmp_path, monkeypatch):
    def record(path):
        evolver = search(task)
        recorder = store.record(evolver, path, batch=10)
        try:
            with recorder:
                evolver.run(45)
        finally:
            recorder.abandon()

    with monkeypatch.context() as patch:
        counted = Failing(patch, 0)
        record(tmp_path / "whole.db")
    assert counted.calls > 20
    stopped = set()
    for number in range(1, counted.calls + 1):
        path = tmp_path / f"{number}.db"
        with monkeypatch.context() as patch:
            Failing(patch, number)
            with pytest.raises(store.StoreError, match="full"):
                record(path)
        found = None
        with contextlib.suppress(store.StoreError):  # not even its tables were made
            found = store.check(path)
        if found is None:
            with pytest.raises(store.StoreError, match="must be a store, but it is empty"):
                store.check(path)
            continue
        assert found.is_whole
        if not found.runs:
            continue
        evolver = store.resume(path, task=task)
        stopped.add(evolver.generation)
        assert same(search(task).run(evolver.generation), evolver)
    assert stopped >= {0, 10, 20, 30, 40}
