"""Rows: generations as rows of the table ``steps``, and a history read back from them."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.history import COLUMNS, History
from m2n2lab.core.population import Population
from m2n2lab.core.records import Generation, Proposal, Standing
from m2n2lab.store.tables import StepRow

EMPTY = -1
"""Id of an empty row of an archive."""

MAX_INTEGER = 2**63 - 1
"""Largest integer of SQLite."""


def packed_step(
    run: int, generation: Generation, graded: bool, rng: bytes, mark: int | None, scores: bytes
) -> StepRow:
    """Return a generation as a row of the table ``steps``, as SQLite returns it."""
    proposal, verdict, after = generation.proposal, generation.verdict, generation.after
    a, b = (*generation.parents, None, None)[:2]
    split = mix = seed = None
    by_hand = ""
    if proposal is not None:
        split = None if proposal.split is None else int(proposal.split)
        mix, seed = proposal.mix, proposal.seed
        by_hand = " ".join(proposal.by_hand)
    return StepRow(
        run=run,
        step=generation.step,
        child=generation.child,
        outside=int(proposal is None),
        parent_a=a,
        parent_b=b,
        split=split,
        mix=_real(mix),
        seed=seed if seed is None or seed <= MAX_INTEGER else str(seed),
        by_hand=by_hand,
        accepted=int(verdict.accepted),
        score=_real(verdict.score),
        fitness=_real(verdict.fitness),
        rank=int(verdict.rank),
        rivals=int(verdict.of),
        rival=verdict.rival,
        rival_fitness=_real(verdict.rival_fitness),
        alone=int(verdict.alone),
        unseen=int(verdict.unseen),
        best=after.best,
        train=_real(after.train),
        test=_real(generation.test),
        coverage=_real(after.coverage),
        entropy=_real(after.entropy),
        members=len(after.ids),
        graded=int(graded),
        rng=rng,
        mark=mark,
        scores=scores,
    )


def _real(value: float | None) -> float | None:
    """Return a number as SQLite does, which has neither NaN nor a negative zero."""
    return None if value is None or value != value else float(value) + 0.0


def proposal_of(row: StepRow) -> Proposal | None:
    """Return the proposal of a step; ``None`` for an external model."""
    if row.outside:
        return None
    parents = tuple(id for id in (row.parent_a, row.parent_b) if id is not None)
    assert row.seed is not None  # every proposal has one
    return Proposal(parents, row.split, row.mix, int(row.seed), tuple(row.by_hand.split()))


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


def history_rows(rows: Iterable[StepRow]) -> NDArray[np.float64]:
    """Return steps as rows of a history (steps, columns)."""
    values = (
        math.nan if value is None else value
        for row in rows
        for value in (
            *(row.step, row.rival if row.accepted else None, row.parent_a, row.parent_b),
            *(row.best, row.child, row.split, row.rank, row.members, row.unseen),
            *(row.accepted, row.outside or row.by_hand != "", row.mix, row.score, row.fitness),
            *(row.train, row.test, row.coverage, row.entropy),
        )
    )
    return np.fromiter(values, float).reshape(-1, len(COLUMNS))
