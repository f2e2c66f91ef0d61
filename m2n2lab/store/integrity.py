"""Integrity: what of a store is as it was recorded, and copies of stores that are in use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from m2n2lab.store.catalog import run_number, snapshot
from m2n2lab.store.codec import unpack_genome
from m2n2lab.store.pins import pins_of
from m2n2lab.store.reader import RunInfo, archive_state, id_offset, run_info
from m2n2lab.store.schema import (
    CHECKED_VERSION,
    DamageError,
    StoreError,
    StoreFile,
    connect,
    copy_to,
)
from m2n2lab.store.tables import FounderRow, GenomeRow, LivingRow, StepRow
from m2n2lab.utils.files import check_unused


class CheckedRun(NamedTuple):
    """What of a run can be read.

    Attributes:
        run: its number.
        steps: the steps at which its archive can be read, or an empty range.
        problems: what is not as it was recorded; empty if all is.
    """

    run: int
    steps: range
    problems: tuple[str, ...]


class CheckedStore(NamedTuple):
    """What of a store can be read.

    Attributes:
        runs: its runs, as far as they are known.
        problems: what is wrong with the file as a whole.
        has_checksums: whether its rows have checksums; those of the first version have none, so
            that only their form could be checked.
    """

    runs: tuple[CheckedRun, ...]
    problems: tuple[str, ...]
    has_checksums: bool

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not any(run.problems for run in self.runs)


def check(path: str | Path) -> CheckedStore:
    """Check every row of a store, and the structure of its file; nothing is changed.

    Raises:
        StoreError: it is no store, or not even its tables can be found.
    """
    with snapshot(path) as file:
        problems = list[str]()
        with _noting(problems):
            found = [text for (text,) in file.execute("PRAGMA integrity_check(5)")]
            problems += [] if found == ["ok"] else [f"SQLite finds {text!r}" for text in found]
        known = set[int]()
        for table in ("runs", "seeds", "living"):
            with _noting(problems):
                known |= {run for (run,) in file.execute(f"SELECT DISTINCT run FROM {table}")}
        with _noting(problems):
            if known:
                run_number(file, path, None)
        numbers = sorted(run for run in known if isinstance(run, int))
        if len(numbers) != len(known):
            problems.append("a run has no number")
        runs = tuple(_checked(file, path, run) for run in numbers)
        return CheckedStore(runs, tuple(problems), file.version >= CHECKED_VERSION)


def backup(path: str | Path, copy: str | Path) -> None:
    """Copy a store as it is now, also while a search is recorded in it.

    The copy is one file, complete or absent.

    Raises:
        InputError: the store cannot be read, or the copy exists or cannot be written.
    """
    source, target = Path(path), Path(copy)
    check_unused(target)
    with closing(connect(source)) as file:
        copy_to(file, target)


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Add the reason for which something cannot be read to a list."""
    try:
        yield
    except (StoreError, sqlite3.Error) as error:
        text = error.what if isinstance(error, DamageError) else str(error)
        if text not in problems:
            problems.append(text)


def _checked(file: StoreFile, path: str | Path, run: int) -> CheckedRun:
    problems = list[str]()
    steps = range(0)
    with _noting(problems):
        steps = _readable(file, run_info(file, path, run), problems)
    return CheckedRun(run, steps, tuple(problems))


def _readable(file: StoreFile, info: RunInfo, problems: list[str]) -> range:
    """Return the steps of a run at which its archive can be read; note all problems on the way."""
    run, start, last = info.run, info.start, info.start
    with _noting(problems):
        for row in file.rows(StepRow, "WHERE run = ? ORDER BY step", run):
            if row.step != last + 1:
                raise file.damaged(f"step {last + 1:,} of run {run} is lost")
            last += 1
    with _noting(problems):
        pins_of(file, run)
    ends = list[int]()
    for kind in (FounderRow, LivingRow):
        with _noting(problems):
            for each in file.rows(kind, "WHERE run = ?", run):
                ends += [each.step] if isinstance(each, LivingRow) else []
    for (id,) in file.execute("SELECT id FROM genomes WHERE run = ?", (run,)).fetchall():
        if not isinstance(id, int):
            problems.append(f"a model of run {run} has no number")
            continue
        before = len(problems)
        with _noting(problems):
            for row_of in file.rows(GenomeRow, "WHERE run = ? AND id = ?", run, id):
                with file.decoding(f"the model of member {id} of run {run}"):
                    unpack_genome(row_of.genome)
        if len(problems) > before:  # it was made in this step
            last = min(last, max(id - id_offset(file, run), start) - 1)
    candidates = [last, *(step for step in sorted(ends, reverse=True) if step < last), start]
    for step in candidates:
        found = list[str]()
        with _noting(found):
            archive_state(file, info, step)
            return range(start, step + 1)
        for text in found:
            problems += [] if text in problems else [text]
    return range(start, start)
