"""Catalog: the runs of a store and their last steps, read without loading NumPy or torch."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from m2n2lab.store.schema import StoreError, connect, sqlite_errors
from m2n2lab.utils.errors import file_path, whole_number


class Run(NamedTuple):
    """A summary of one run in a store."""

    run: int
    title: str
    method: str
    task: str
    created: str  # UTC
    start: int  # the step at which it begins
    last: int  # the last recorded step
    accepted: int  # number of accepted children
    train: float  # of the best member, at the last step
    test: float
    parent: int | None  # the run that it branched from


@contextmanager
def snapshot(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Open a store to read a consistent snapshot, even while it is written to.

    Raises:
        StoreError: it cannot be read.
    """
    path = file_path("path", path)
    with closing(connect(path)) as file, sqlite_errors(path):
        file.execute("BEGIN")
        yield file


def runs(path: str | Path) -> list[Run]:
    """Return the runs of a store, oldest first.

    Raises:
        StoreError: it cannot be read.
    """
    with snapshot(path) as file:
        rows = file.execute(
            "SELECT runs.run, title, method, json_extract(task, '$.name'), created, start, "
            "ifnull(step, start), "
            "(SELECT count(*) FROM steps WHERE run = runs.run AND accepted), "
            "train, test, parent FROM runs LEFT JOIN steps ON steps.run = runs.run AND "
            "step = (SELECT max(step) FROM steps WHERE run = runs.run) ORDER BY runs.run"
        ).fetchall()
    return [Run(*row)._replace(train=real(row[8]), test=real(row[9])) for row in rows]


def real(value: float | None) -> float:
    """Return a number of the store, which keeps NaN as NULL."""
    return float("nan") if value is None else value


def steps(path: str | Path, run: int | None = None) -> range:
    """Return the steps at which a run's archive is known, from its start to its last.

    Args:
        path: the store.
        run: its number; the last one by default.

    Raises:
        StoreError: there is no such store or run.
    """
    with snapshot(path) as file:
        number = run_number(file, path, run)
        start, last = file.execute(
            "SELECT start, max(start, ifnull((SELECT max(step) FROM steps WHERE run = ?1), 0)) "
            "FROM runs WHERE run = ?1",
            (number,),
        ).fetchone()
    return range(start, last + 1)


def run_number(file: sqlite3.Connection, path: str | Path, run: int | None) -> int:
    """Return the number of a run, or of the last one for ``None``.

    Raises:
        StoreError: there is no such run.
    """
    known = [number for (number,) in file.execute("SELECT run FROM runs ORDER BY run")]
    if not known:
        raise StoreError(f"{path} must hold a run, but it is empty; record one first.")
    if run is None:
        return int(known[-1])
    if whole_number("run", run, 1) not in known:
        raise StoreError(f"{path} has no run {run}; choose one of: {', '.join(map(str, known))}.")
    return run
