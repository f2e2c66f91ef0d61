"""Catalog: the runs of a store and their last steps, read without loading NumPy or torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from m2n2lab.store.schema import CHECKED_VERSION, StoreError, StoreFile, connect, sqlite_errors
from m2n2lab.store.tables import RunRow, StepRow
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
def snapshot(path: str | Path) -> Iterator[StoreFile]:
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
        return [_summary(file, row) for row in file.rows(RunRow, "ORDER BY run")]


def _summary(file: StoreFile, row: RunRow) -> Run:
    last = last_step(file, row.run, row.start)
    found = file.rows(StepRow, "WHERE run = ? AND step = ?", row.run, last)
    step = next(found, None)
    (accepted,) = file.execute(
        "SELECT count(*) FROM steps WHERE run = ? AND accepted", (row.run,)
    ).fetchone()
    with file.decoding(f"the task of run {row.run}"):
        task = str(json.loads(row.task)["name"])
    return Run(
        run=row.run,
        title=row.title,
        method=row.method,
        task=task,
        created=row.created,
        start=row.start,
        last=last,
        accepted=accepted,
        train=real(step and step.train),
        test=real(step and step.test),
        parent=row.parent,
    )


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
        start = file.row(RunRow, "WHERE run = ?", number).start
        return range(start, last_step(file, number, start) + 1)


def last_step(file: StoreFile, run: int, start: int) -> int:
    """Return the last step of a run.

    Raises:
        DamageError: the steps and the members after them, which are written together, differ.
    """
    ends = [
        file.execute(f"SELECT max(step) FROM {table} WHERE run = ?", (run,)).fetchone()[0]
        for table in ("steps", "living")
    ]
    if not all(end is None or isinstance(end, int) for end in ends):
        raise file.damaged(f"a step of run {run} has no number")
    first, last = sorted(start if end is None else end for end in ends)
    if first != last and file.version >= CHECKED_VERSION:
        raise file.damaged(f"some steps of run {run} after {first:,} up to {last:,} are lost")
    return max(start, ends[0] or start)


def run_number(file: StoreFile, path: str | Path, run: int | None) -> int:
    """Return the number of a run, or of the last one for ``None``.

    Raises:
        StoreError: there is no such run.
    """
    known = [number for (number,) in file.execute("SELECT run FROM runs ORDER BY run")]
    if file.version >= CHECKED_VERSION:
        found = {number for (number,) in file.execute("SELECT DISTINCT run FROM seeds")}
        if found != set(known):
            raise file.damaged("the description of a run is lost")
    if not known:
        raise StoreError(f"{path} must hold a run, but it is empty; record one first.")
    if run is None:
        return int(known[-1])
    if whole_number("run", run, 1) not in known:
        raise StoreError(f"{path} has no run {run}; choose one of: {', '.join(map(str, known))}.")
    return run
