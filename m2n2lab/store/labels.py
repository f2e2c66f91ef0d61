"""Labels: names, notes and pins of recorded runs, and the removal of runs.

They are kept in a table of their own, which a store has from the first label on: stores without it
are read as before.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from m2n2lab.store.catalog import real, snapshot
from m2n2lab.store.pins import forget_pins
from m2n2lab.store.schema import StoreFile
from m2n2lab.store.tables import RunRow
from m2n2lab.store.writer import Writer

_TABLE = """
CREATE TABLE IF NOT EXISTS labels (
  run INTEGER PRIMARY KEY,
  name TEXT NOT NULL DEFAULT '',
  note TEXT NOT NULL DEFAULT '',
  pinned INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,   -- hidden, and removed when the store is tidied
  settings TEXT NOT NULL DEFAULT ''     -- JSON: those of the page or command that began it
)
"""

_TABLES = ("steps", "living", "genomes", "founders", "seeds", "labels", "runs")
"""Tables with rows of a run; its own row goes last."""


_NO_LABELS = (
    "(SELECT NULL AS run, NULL AS name, NULL AS note, NULL AS pinned, NULL AS deleted, "
    "NULL AS settings WHERE 0)"
)


class Labelled(NamedTuple):
    """A run of a list, and what a person has added to it.

    Attributes:
        run: its number.
        title, method, task: what was recorded.
        created: when, in UTC.
        start, last: its first and last step.
        test: held-out score of the best member, at the last step.
        name, note: a person's; empty without.
        pinned: whether it is kept however many runs there are.
        settings: JSON of the settings that it was begun with; empty if unknown.
    """

    run: int
    title: str
    method: str
    task: str
    created: str
    start: int
    last: int
    test: float
    name: str
    note: str
    pinned: bool
    settings: str


def labelled(path: Path) -> list[Labelled]:
    """Return the runs of a store that have a step and are not deleted, the latest first.

    Raises:
        StoreError: it cannot be read.
    """
    with snapshot(path) as file:
        marks = "labels" if _has_labels(file) else _NO_LABELS
        rows = file.execute(
            "SELECT runs.run, title, method, json_extract(task, '$.name'), created, start, step, "
            "test, ifnull(name, ''), ifnull(note, ''), ifnull(pinned, 0), ifnull(settings, '') "
            "FROM runs JOIN steps ON steps.run = runs.run AND "
            "step = (SELECT max(step) FROM steps WHERE run = runs.run) "
            f"LEFT JOIN {marks} AS labels ON labels.run = runs.run "
            "WHERE ifnull(deleted, 0) = 0 ORDER BY runs.run DESC"
        ).fetchall()
    return [Labelled(*row)._replace(test=real(row[7]), pinned=bool(row[10])) for row in rows]


def label(path: Path, run: int, **fields: Any) -> None:
    """Set fields of a run's label: ``name``, ``note``, ``pinned``, ``deleted``, ``settings``.

    Raises:
        StoreError: another process writes to the store, or it cannot be written.
    """
    writer = Writer.open(path)
    try:
        with writer.transaction() as file:
            write_label(file, run, **fields)
    finally:
        writer.close()


def write_label(file: sqlite3.Connection, run: int, **fields: Any) -> None:
    """Set fields of a run's label within a transaction."""
    file.execute(_TABLE)
    file.execute("INSERT OR IGNORE INTO labels (run) VALUES (?)", (run,))
    for name, value in fields.items():
        file.execute(f"UPDATE labels SET {name} = ? WHERE run = ?", (value, run))


def tidy(path: Path) -> None:
    """Remove deleted runs, and those without a step; not those that are being recorded.

    Raises:
        StoreError: another process writes to the store, or it cannot be written.
    """
    writer = Writer.open(path)
    try:
        with writer.transaction() as file:
            file.execute(_TABLE)
            rows = file.execute(
                "SELECT run FROM runs WHERE run IN (SELECT run FROM labels WHERE deleted) "
                "OR NOT EXISTS (SELECT 1 FROM steps WHERE steps.run = runs.run)"
            ).fetchall()
            for (run,) in rows:
                if run not in writer.runs:
                    _remove(file, run)
    finally:
        writer.close()


def trim(path: Path, limit: int) -> list[int]:
    """Remove the oldest runs without a name or a pin until the store holds at most ``limit`` bytes.

    Runs that are being recorded stay.

    Returns:
        the numbers of the runs that are gone.

    Raises:
        StoreError: another process writes to the store, or it cannot be written.
    """
    gone: list[int] = []
    writer = Writer.open(path)
    try:
        with writer.transaction() as file:
            if _size(file) <= limit:
                return gone
            file.execute(_TABLE)
            rows = file.execute(
                "SELECT runs.run FROM runs LEFT JOIN labels ON labels.run = runs.run "
                "WHERE ifnull(name, '') = '' AND ifnull(pinned, 0) = 0 ORDER BY runs.run"
            ).fetchall()
            for (run,) in rows:
                if _size(file) <= limit:
                    break
                if run not in writer.runs:
                    _remove(file, run)
                    gone.append(run)
    finally:
        writer.close()
    return gone


def _remove(file: StoreFile, run: int) -> None:
    for table in _TABLES:
        file.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
    forget_pins(file, run)
    # Its number may be used again, by a run that others did not branch from.
    branched = [*file.rows(RunRow, "WHERE parent = ?", run)]
    file.write(row._replace(parent=None) for row in branched)


def _size(file: sqlite3.Connection) -> int:
    """Return the bytes that are in use: those of removed runs are free for others."""
    page, pages, free = (
        int(file.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    return page * (pages - free)


def _has_labels(file: sqlite3.Connection) -> bool:
    found = file.execute("SELECT 1 FROM sqlite_master WHERE name = 'labels'").fetchone()
    return found is not None
