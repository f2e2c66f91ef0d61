"""Pins: which members of a run no child displaces, and from which step on.

They are kept in a table of their own, which a store has from the first pin on: stores without it
are read as before.
"""

from __future__ import annotations

import json
from operator import index
from typing import NamedTuple

from m2n2lab.store.schema import StoreFile
from m2n2lab.store.tables import checksum

_TABLE = """
CREATE TABLE IF NOT EXISTS pins (
  run INTEGER NOT NULL,
  step INTEGER NOT NULL,       -- from after this step on
  ids TEXT NOT NULL,           -- JSON: of the pinned members
  checksum INTEGER,
  PRIMARY KEY (run, step)
) WITHOUT ROWID
"""


class PinsRow(NamedTuple):
    """The members that are pinned from after a step on."""

    run: int
    step: int
    ids: str

    @classmethod
    def of(cls, run: int, step: int, ids: frozenset[int]) -> PinsRow:
        """Return the row of pinned members."""
        return cls(run, step, json.dumps(sorted(ids)))


def write_pins(file: StoreFile, rows: list[PinsRow]) -> None:
    """Write rows within a transaction, also in place of older ones."""
    if rows:
        file.execute(_TABLE)
        file.executemany(
            "INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)",
            [(*row, checksum(row)) for row in rows],
        )


def forget_pins(file: StoreFile, run: int, after: int = -1) -> None:
    """Remove the pins of a run from after a step, by default all."""
    if _has_pins(file):
        file.execute("DELETE FROM pins WHERE run = ? AND step > ?", (run, after))


def pins_of(file: StoreFile, run: int) -> list[tuple[int, frozenset[int]]]:
    """Return the steps after which other members were pinned, in order, and their ids.

    Raises:
        DamageError: a row is not as it was recorded.
    """
    if not _has_pins(file):
        return []
    found = []
    rows = "SELECT run, step, ids, checksum FROM pins WHERE run = ? ORDER BY step"
    for *values, expected in file.execute(rows, (run,)).fetchall():
        row = PinsRow(*values)
        if checksum(row) != expected:
            raise file.damaged(f"the pins of run {run} are not as they were recorded")
        with file.decoding(f"a pin of run {run}"):
            found.append((index(row.step), frozenset(map(index, json.loads(row.ids)))))
    return found


def pinned_after(file: StoreFile, run: int, step: int) -> frozenset[int]:
    """Return the ids of the members that are pinned after a step.

    Raises:
        DamageError: as ``pins_of``.
    """
    found = [ids for at, ids in pins_of(file, run) if at <= step]
    return found[-1] if found else frozenset()


def _has_pins(file: StoreFile) -> bool:
    found = file.execute("SELECT 1 FROM sqlite_master WHERE name = 'pins'").fetchone()
    return found is not None
