"""Merge bench: two parents, a split and a mix, with the child and its verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.core.records import Proposal, Verdict
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.text import percent, plain

if TYPE_CHECKING:
    from m2n2lab.analysis.lineage import Lineage
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.population import Member
    from m2n2lab.core.task import Task


NOTABLE_LEAD = 0.05
"""Lead of one parent over the other in a class from which the verdict mentions the class."""

MAX_NAME_CHARS = 40
"""Maximum length of a class's name in a verdict."""


@dataclass(frozen=True, eq=False)  # compared by identity, because arrays have no plain equality
class BenchData:
    """A proposal, its parents and its child side by side.

    Attributes:
        proposal: the proposed merge.
        size: N, length of the flat vector.
        borders: (T+1,) first index of each tensor, and N.
        tensors: (T,) their names.
        rows: (T,) parameters in a row of each, 0 where it has no rows.
        omega: angle between the parents in radians.
        classes: names of the classes.
        accuracy: (3, C) mean score of A, B and the child in each class; NaN in an empty one.
        kept: (2, C) share of the scores of A, and of B, in each class that the child has too; NaN
            where there are none.
        scores: (3, D) their scores on each data point.
        verdict: the outcome for the child.
        paintings: of A and of B, (BINS, K + 1) each (see ``Lineage``); empty without a lineage.
        seeds: (K + 1,) names of the paintings' columns.
        beside: what the split does not move, as it is not merged or has a split of its own: first
            index, end, reason.
    """

    proposal: Proposal
    size: int
    borders: tuple[int, ...]
    tensors: tuple[str, ...]
    rows: tuple[int, ...]
    omega: float
    classes: tuple[str, ...]
    accuracy: Floats
    kept: Floats
    scores: Floats
    verdict: Verdict
    paintings: tuple[Floats, ...] = ()
    seeds: tuple[str, ...] = ()
    beside: tuple[tuple[int, int, str], ...] = ()

    @property
    def means(self) -> tuple[float, float, float]:
        """Mean scores of A, B and the child."""
        a, b, child = self.scores.mean(axis=1).tolist()
        return a, b, child

    @property
    def either(self) -> float:
        """Mean of the better parent's score on each data point, the ideal of a merge."""
        return float(self.scores[:2].max(axis=0).mean())


def bench_data(
    evolver: Evolver,
    proposal: Proposal,
    lineage: Lineage | None = None,
    child: Floats | None = None,
    parents: tuple[Member, Member] | None = None,
) -> BenchData:
    """Make and score the proposed child, and compare it with its parents; nothing changes.

    Args:
        evolver: the search.
        proposal: of two parents.
        lineage: has the parents' paintings, if it has observed the search.
        child: (D,) the child's scores; evaluated by default.
        parents: A and B if they may have left the archive; members by default.

    Raises:
        InputError: a parent is not in the archive, the split or mix is out of bounds, or the
            proposal has not two parents.
    """
    if parents is None:
        a, b = evolver.check(proposal)
        found = evolver.evaluate(proposal) if child is None else child
    else:
        a, b = parents
        proposal.check(evolver.space.size)
        bred = evolver.offspring(proposal, (a.genome, b.genome))
        found = _scored(evolver, bred) if child is None else child
    child = np.asarray(found, dtype=float)
    task, layout = evolver.task, evolver.space.layout
    scores = np.array([*(_scores(evolver, parent) for parent in (a, b)), child])
    return BenchData(
        proposal=proposal,
        size=evolver.space.size,
        borders=layout.offsets,
        tensors=tuple(layout.shapes),
        rows=tuple(math.prod(s[1:]) if len(s) > 1 else 0 for s in layout.shapes.values()),
        omega=evolver.space.angle(a.genome, b.genome),
        classes=task.classes,
        accuracy=np.array([task.means(row) for row in scores]),
        kept=np.array([_kept(task, row, child) for row in scores[:2]]),
        scores=scores,
        verdict=evolver.verdict(child),
        paintings=tuple(lineage.painting(id) for id in proposal.parents)
        if lineage is not None
        else (),
        seeds=() if lineage is None else lineage.names,
        beside=() if evolver.parts is None else tuple(evolver.parts.beside()),
    )


def _kept(task: Task, parent: Floats, child: Floats) -> Floats:
    """Return the share of a parent's scores (D,) in each class that the child (D,) has too (C,)."""
    own = np.asarray(task.means(parent), dtype=float)
    both = np.asarray(task.means(np.minimum(parent, child)), dtype=float)
    return np.divide(both, own, out=np.full_like(own, np.nan), where=own > 0)


def _scores(evolver: Evolver, parent: Member) -> Floats:
    """Return the scores (D,) of a parent, which may have left the archive."""
    if parent.id not in evolver.archive:
        return _scored(evolver, parent.genome)
    return evolver.archive.scores_of(parent.id)


def _scored(evolver: Evolver, genome: Any) -> Floats:
    return np.asarray(evolver.task.evaluate(evolver.space.materialise(genome)), dtype=float)


def describe_verdict(data: BenchData) -> str:
    """Return the verdict, and the classes that the child keeps of each parent, as sentences."""
    kept = [
        f"{data.kept[mine, best]:.0%} of what {name} gets right in "
        f"{plain(data.classes[best], MAX_NAME_CHARS)}"
        for name, mine, other in (("A", 0, 1), ("B", 1, 0))
        if (best := _strongest(data.accuracy[mine] - data.accuracy[other])) is not None
        and data.accuracy[2, best] >= (data.accuracy[0, best] + data.accuracy[1, best]) / 2
    ]
    keeps = f" It keeps {' and '.join(kept)}." if kept and len(data.classes) > 1 else ""
    return f"{data.verdict}{keeps}"


def describe_gain(data: BenchData) -> str:
    """Return why a child scores more than both parents, as a sentence; empty if it does not."""
    a, b, child = data.means
    if child <= max(a, b):
        return ""
    mine, its, made = data.scores
    kept = [
        f"{100 * np.mean(made[better] >= parent[better]):.0f} % of what {name} does better"
        for name, parent, better in (("A", mine, mine > its), ("B", its, its > mine))
        if better.any()
    ]
    why = f", because it keeps {' and '.join(kept)}" if kept else ""
    return f"It scores {percent(child)}, more than A ({percent(a)}) and B ({percent(b)}){why}."


def _strongest(lead: Floats) -> int | None:
    """Return the class in which one parent leads most, if by ``NOTABLE_LEAD``."""
    known = np.nan_to_num(lead, nan=-1.0)
    best = int(np.argmax(known))
    return best if known[best] >= NOTABLE_LEAD else None
