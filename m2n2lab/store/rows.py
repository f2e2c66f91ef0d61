"""Rows: generations as rows of the table ``steps``, and a history read back from them."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.history import COLUMNS, History
from m2n2lab.core.population import Population
from m2n2lab.core.records import Generation, Proposal, Standing

EMPTY = -1
"""Id of an empty row of an archive."""

MAX_INTEGER = 2**63 - 1
"""Largest integer of SQLite."""

INSERT_STEP = f"INSERT OR REPLACE INTO steps VALUES ({','.join('?' * 29)})"

PROPOSAL_COLUMNS = "child, outside, parent_a, parent_b, split, mix, seed, by_hand"
"""Columns from which ``proposal_of`` makes a proposal."""

MISSING = "9e999"
"""Infinity in SQL: stands for NULL, because no history holds an infinite number."""

_HISTORY = {
    "displaced": "CASE WHEN accepted THEN rival END",
    "by_hand": "outside OR by_hand != ''",
}
"""Columns of the history that are named otherwise in the store."""


def step_row(
    run: int, generation: Generation, graded: bool, rng: bytes, mark: int | None, scores: bytes
) -> tuple[Any, ...]:
    """Return a generation as a row of the table ``steps``."""
    proposal, verdict, after = generation.proposal, generation.verdict, generation.after
    a, b = (*generation.parents, None, None)[:2]
    split = mix = seed = None
    by_hand = ""
    if proposal is not None:
        split = None if proposal.split is None else int(proposal.split)
        mix, seed = proposal.mix, proposal.seed
        by_hand = " ".join(proposal.by_hand)
    return (
        run,
        generation.step,
        generation.child,
        proposal is None,
        a,
        b,
        split,
        mix,
        seed if seed is None or seed <= MAX_INTEGER else str(seed),
        by_hand,
        verdict.accepted,
        verdict.score,
        verdict.fitness,
        verdict.rank,
        verdict.of,
        verdict.rival,
        verdict.rival_fitness,
        verdict.alone,
        verdict.unseen,
        after.best,
        after.train,
        generation.test,
        after.coverage,
        after.entropy,
        len(after.ids),
        graded,
        rng,
        mark,
        scores,
    )


def proposal_of(row: tuple[Any, ...]) -> Proposal | None:
    """Return the proposal in ``PROPOSAL_COLUMNS``; ``None`` for an external model."""
    _, outside, a, b, split, mix, seed, by_hand = row
    if outside:
        return None
    parents = tuple(id for id in (a, b) if id is not None)
    return Proposal(parents, split, mix, int(seed), tuple(by_hand.split()))


def row_ids(population: Population) -> list[int]:
    """Return the members' ids by row of the archive."""
    return [EMPTY if member is None else member.id for member in population.rows]


def pack_ids(population: Population) -> bytes:
    """Return the members' ids by row as bytes."""
    return np.array(row_ids(population), "<i8").tobytes()


def unpack_ids(packed: bytes) -> list[int]:
    """Return the ids by row that ``pack_ids`` packed."""
    ids: list[int] = np.frombuffer(packed, "<i8").tolist()
    return ids


class Past(NamedTuple):
    """The history before a run began, as ``History.restore`` takes it."""

    table: NDArray[np.float64]  # (steps, columns)
    start: Standing
    class_means: dict[int, Sequence[float]]


def pack_past(records: History, now: Standing) -> bytes:
    """Return a history so far, and the standing before it, as bytes."""
    start = records.start or now
    head = {
        "columns": COLUMNS,
        "parts": list(records.class_means.items()),
        "start": {
            "ids": start.ids,
            "fitness": start.fitness.tolist(),
            "best": start.best,
            "train": start.train,
            "coverage": start.coverage,
            "entropy": start.entropy,
        },
    }
    table = records.table().astype("<f8").tobytes()
    return zlib.compress(json.dumps(head).encode() + b"\n" + table, 1)


def unpack_past(packed: bytes) -> Past:
    """Return the history that ``pack_past`` packed."""
    first_line, table = zlib.decompress(packed).split(b"\n", 1)
    head = json.loads(first_line)
    start = head["start"]
    fitness = np.array(start["fitness"])
    fitness.flags.writeable = False
    standing = Standing(
        tuple(start["ids"]),
        fitness,
        start["best"],
        start["train"],
        start["coverage"],
        start["entropy"],
    )
    rows = np.frombuffer(table, "<f8").reshape(-1, len(head["columns"])).astype(float)
    return Past(rows, standing, dict(head.get("parts", ())))  # the first stores lack them


def history_rows(file: sqlite3.Connection, run: int, last: int) -> NDArray[np.float64]:
    """Return a run's own steps up to ``last`` as rows of a history (steps, columns)."""
    columns = ", ".join(f"ifnull({_HISTORY.get(name, name)}, {MISSING})" for name in COLUMNS)
    rows = file.execute(
        f"SELECT {columns} FROM steps WHERE run = ? AND step <= ? ORDER BY step", (run, last)
    )
    # Value by value: for 50,000 steps this takes half as long as an array of tuples.
    values = np.fromiter(chain.from_iterable(rows), float)
    values[np.isinf(values)] = np.nan
    return values.reshape(-1, len(COLUMNS))
