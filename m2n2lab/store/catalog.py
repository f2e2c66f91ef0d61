"""Which runs a store holds, and how far they are: told without loading what runs are made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from m2n2lab.store.schema import StoreError, connect, sentences
from m2n2lab.utils.errors import whole_number


class Run(NamedTuple):
    """One run in a store, in a few words."""

    run: int
    title: str
    method: str
    task: str
    created: str  # UTC
    start: int  # the step at which it begins
    last: int  # the last step that is recorded
    accepted: int  # children that were let in
    train: float  # of the best member, at the last step
    test: float
    parent: int | None  # the run that it branched from


@contextmanager
def opened(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Open a store to read one moment of it, whoever writes meanwhile.

    Raises:
        StoreError: it cannot be read.
    """
    place = Path(path)
    with closing(connect(place)) as file, sentences(place):
        file.execute("BEGIN")
        yield file


def runs(path: str | Path) -> list[Run]:
    """Return the runs of a store, oldest first.

    Raises:
        StoreError: it cannot be read.
    """
    with opened(path) as file:
        rows = file.execute(
            "SELECT runs.run, title, method, json_extract(task, '$.name'), created, start, "
            "ifnull(step, start), "
            "(SELECT count(*) FROM steps WHERE run = runs.run AND accepted), "
            "train, test, parent FROM runs LEFT JOIN steps ON steps.run = runs.run AND "
            "step = (SELECT max(step) FROM steps WHERE run = runs.run) ORDER BY runs.run"
        ).fetchall()
    return [Run(*row)._replace(train=_real(row[8]), test=_real(row[9])) for row in rows]


def _real(value: float | None) -> float:
    """Return a number of the store, which keeps NaN as nothing."""
    return float("nan") if value is None else value


def steps(path: str | Path, run: int | None = None) -> range:
    """Return the steps at which a run's archive is known, from its start to its last.

    Args:
        path: the store.
        run: its number; the last one by default.

    Raises:
        StoreError: no such store or run.
    """
    with opened(path) as file:
        number = number_of(file, path, run)
        start, last = file.execute(
            "SELECT start, max(start, ifnull((SELECT max(step) FROM steps WHERE run = ?1), 0)) "
            "FROM runs WHERE run = ?1",
            (number,),
        ).fetchone()
    return range(start, last + 1)


def number_of(file: sqlite3.Connection, path: str | Path, run: int | None) -> int:
    """Return the number of a run, of the last one for ``None``.

    Raises:
        StoreError: no such run.
    """
    known = [number for (number,) in file.execute("SELECT run FROM runs ORDER BY run")]
    if not known:
        raise StoreError(f"{path} must hold a run, but none is there; record one first.")
    if run is None:
        return int(known[-1])
    if whole_number("run", run, 1) not in known:
        raise StoreError(f"{path} has no run {run}; choose one of: {', '.join(map(str, known))}.")
    return run
