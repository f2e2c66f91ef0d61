"""Replay of a search's history into a lineage, for a search that was not observed."""

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
    """Return the lineage of a search as if it had been observed since its history begins.

    The score of a seed that was displaced is unknown (NaN), because the history begins after it. If
    the history does not lead to the present archive, because a state was loaded meanwhile, only the
    present members are known.
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
    """Return a member from before the history begins, as far as it is known."""
    if id in evolver.archive:
        return evolver.archive[id]
    seeds = evolver.space.seeds
    return Member(id, 0, (), seeds[id] if id < len(seeds) else None, math.nan)


def _replay(lineage: Lineage, row: dict[str, Any]) -> None:
    """Add the birth in a row of the history to a lineage."""
    parents = tuple(int(row[k]) for k in ("parent_a", "parent_b") if not math.isnan(row[k]))
    outside = not parents and bool(row["by_hand"])
    proposal = Proposal(
        parents,
        split=None if math.isnan(row["split"]) else int(row["split"]),
        mix=None if math.isnan(row["mix"]) else row["mix"],
        seed=0,  # not in the history, and a lineage does not need it
        by_hand=("parents",) if row["by_hand"] else (),
    )
    lineage.birth(
        int(row["step"]),
        int(row["child"]),
        None if outside else proposal,
        row["score"],
        None if math.isnan(row["displaced"]) else int(row["displaced"]),
    )
