"""Tables: their rows as tuples, and the checksum that each row has."""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, get_args, get_type_hints


class RunRow(NamedTuple):
    """A search, from the step at which recording began."""

    run: int
    created: str
    title: str
    maker: str
    method: str
    options: str
    task: str
    shares: bytes | None
    space: str
    start: int
    born: int
    rng: bytes
    graded: int
    past: bytes
    parent: int | None
    seeds: int | None
    founders: int | None


class SeedRow(NamedTuple):
    """A model that a space was made from."""

    run: int
    seed: int
    name: str
    sha256: str
    genome: bytes | None


class FounderRow(NamedTuple):
    """A member of the archive when a run began."""

    run: int
    row: int
    id: int
    born: int
    parents: str
    scores: bytes


class GenomeRow(NamedTuple):
    """The genome of a member, an external model or a founder."""

    run: int
    id: int
    genome: bytes


class StepRow(NamedTuple):
    """A step of a run."""

    run: int
    step: int
    child: int
    outside: int
    parent_a: int | None
    parent_b: int | None
    split: int | None
    mix: float | None
    seed: int | str | None
    by_hand: str
    accepted: int
    score: float | None
    fitness: float | None
    rank: int
    rivals: int
    rival: int | None
    rival_fitness: float | None
    alone: int
    unseen: int
    best: int
    train: float | None
    test: float | None
    coverage: float | None
    entropy: float | None
    members: int
    graded: int
    rng: bytes
    mark: int | None
    scores: bytes


class LivingRow(NamedTuple):
    """The ids of the members after a step, by row of the archive."""

    run: int
    step: int
    ids: bytes


Row = RunRow | SeedRow | FounderRow | GenomeRow | StepRow | LivingRow

TABLES: dict[type[Any], str] = {
    RunRow: "runs",
    SeedRow: "seeds",
    FounderRow: "founders",
    GenomeRow: "genomes",
    StepRow: "steps",
    LivingRow: "living",
}


ADDED = ("seeds", "founders")
"""Columns that the first version had not."""


@cache
def field_types(kind: type[Any]) -> tuple[tuple[type, ...], ...]:
    """Return the types that each field of a table's rows may have."""
    return tuple(get_args(hint) or (hint,) for hint in get_type_hints(kind).values())


def insertion(kind: type[Any]) -> str:
    """Return the SQL that writes a sealed row of a table, also in place of an older one."""
    columns = (*kind._fields, "checksum")
    marks = ",".join("?" * len(columns))
    return f"INSERT OR REPLACE INTO {TABLES[kind]} ({', '.join(columns)}) VALUES ({marks})"


def checksum(values: Sequence[Any]) -> int:
    """Return the checksum of a row of numbers, texts, bytes and ``None``, as SQLite returns it.

    Every change of up to four bytes in a row alters it.
    """
    # Version 2 of marshal writes equal values as equal bytes in any Python, ten times as fast as
    # a text of them is made.
    return zlib.crc32(marshal.dumps(tuple(values), 2))


def sealed(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row with its checksum."""
    return (*values, checksum(values))
