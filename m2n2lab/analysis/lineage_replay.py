"""Who ever lived in a search that nobody watched, found again from its history."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.analysis.lineage import Lineage
from m2n2lab.core.history import COLUMNS
from m2n2lab.core.population import Member
from m2n2lab.core.records import Proposal

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver


def retraced(evolver: Evolver) -> Lineage:
    """Return the lineage of a search as if it had been watched from where its history begins.

    Of a seed that has died the score is not known (NaN): the history begins after it. Where the
    history does not lead to how the search stands, because a state was loaded meanwhile, only the
    living are known.
    """
    with evolver.turn():
        rows, start = evolver.records.table(), evolver.records.start
        steps = rows[:, COLUMNS.index("step")]
        now = evolver.generation
        if start is None or not np.array_equal(steps, np.arange(now - len(rows), now) + 1):
            return Lineage(evolver)
        began = now - len(rows)
        first = [_first(evolver, id) for id in start.ids]
        lineage = Lineage(evolver, first, began)
        for row in rows[rows[:, COLUMNS.index("accepted")] > 0]:
            _replay(lineage, dict(zip(COLUMNS, row.tolist(), strict=True)))
        lineage.now = now
        return lineage


def _first(evolver: Evolver, id: int) -> Member:
    """Return a member that lived before the history begins, as far as it is known."""
    if id in evolver.archive:
        return evolver.archive[id]
    seeds = evolver.space.seeds
    return Member(id, 0, (), seeds[id] if id < len(seeds) else None, math.nan)


def _replay(lineage: Lineage, row: dict[str, Any]) -> None:
    """Let a lineage see the birth that a row of the history tells of."""
    parents = tuple(int(row[k]) for k in ("parent_a", "parent_b") if not math.isnan(row[k]))
    outside = not parents and bool(row["by_hand"])
    proposal = Proposal(
        parents,
        split=None if math.isnan(row["split"]) else int(row["split"]),
        mix=None if math.isnan(row["mix"]) else row["mix"],
        seed=0,  # the history does not keep it, and a lineage does not ask
        by_hand=("parents",) if row["by_hand"] else (),
    )
    lineage.birth(
        int(row["step"]),
        int(row["child"]),
        None if outside else proposal,
        row["score"],
        None if math.isnan(row["displaced"]) else int(row["displaced"]),
    )
