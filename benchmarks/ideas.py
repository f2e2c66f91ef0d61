"""Ideas that might make M2N2 better, each to be switched on by itself; shared by the benchmarks.

What pays goes into ``m2n2lab/core/methods/m2n2_plus.py``; the rest stays here, with its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from m2n2lab.config.settings import Settings
from m2n2lab.core.archive import Archive, Capacity
from m2n2lab.core.methods.m2n2_plus import Plus
from m2n2lab.core.population import weighted_sums
from m2n2lab.core.records import Generation, Proposal
from m2n2lab.core.spaces.space import Vector
from m2n2lab.utils.errors import choose, whole_number

RATE = 0.02
"""How fast the success rule changes the mutation: by so much of its logarithm a step."""


class IdeasArchive(Archive):
    """An archive with other mates, or with another loser.

    Args:
        appeal: mates are drawn in proportion to attraction to this power.
        union: the mate is the member that solves most together with the parent.
        loser: ``"lowest"`` as in M2N2; ``"shared"``, the lowest of those that are not alone on any
            data point; ``"nearest"``, the member that solves most nearly the same as the child.
    """

    def __init__(self, points: int, size: int, alpha: float, capacity: Capacity | None) -> None:
        self.appeal, self.union, self.loser = 1.0, False, "lowest"
        super().__init__(points, size, alpha, capacity)

    def draw_mate(self, parent: int, u: float) -> int:
        if self.appeal == 1.0 and not self.union:
            return super().draw_mate(parent, u)
        now, row = self._population, self._row(parent)
        weights = np.ones(self.points) if self.union else now.weights
        gains = weighted_sums(np.maximum(now.scores - now.scores[row], 0.0), weights)
        gains[now.spare] = 0.0
        if not gains.any():
            return self._draw_other(row, u)
        worth = (gains == gains.max()).astype(float) if self.union else gains**self.appeal
        return now.pick(np.cumsum(worth).tolist(), u)

    def _contest(self, fitness: list[float]) -> tuple[bool, int | None]:
        now = self._population
        if self.loser == "lowest" or len(self) < self.size:
            return super()._contest(fitness)
        others = [row for row, member in enumerate(now.rows) if member is not None]
        if self.loser == "nearest":
            apart = np.abs(now.scores - now.scores[now.spare]).sum(axis=1)
            row = min(others, key=lambda row: (apart[row], row))
        else:
            solved = now.scores > 0.0
            alone = (solved & (solved.sum(axis=0) == 1)).any(axis=1)
            shared = [row for row in others if not alone[row]] or others
            row = min(shared, key=lambda row: (fitness[row], row))
        return fitness[now.spare] >= fitness[row], row


class Ideas(Plus):
    """M2N2 and, one by one, what might make it better. For vectors.

    Args:
        task, seeds, options: as for ``Evolver``.
        reach: how far a child may go beyond its parents (see ``Plus``).
        splits: split points of a child.
        between: part of the vector in which its first split falls, 0 to 1.
        spread: the mutation of each child is drawn between 1/spread and spread times the given one,
            evenly in its logarithm.
        part: part of the vector that is mutated in a child, one stretch of it.
        decay: share of each weight that a child loses before it is mutated (see ``Plus``).
        success: share of children that should live; the mutation grows when more do, and shrinks
            when fewer do (Rechenberg's rule). ``None`` leaves it alone.
        appeal, union, loser: see ``IdeasArchive``.
    """

    method = "ideas"
    saves = False  # the rule's scale is not part of a state

    def __init__(
        self,
        task: Any,
        seeds: Any,
        *,
        reach: float = 0.0,
        splits: int = 1,
        between: tuple[float, float] = (0.0, 1.0),
        spread: float = 1.0,
        part: float = 1.0,
        decay: float = 0.0,
        success: float | None = None,
        appeal: float = 1.0,
        union: bool = False,
        loser: str = "lowest",
        **options: Any,
    ) -> None:
        self.splits = whole_number("splits", splits, 1)
        self.between, self.spread, self.success = between, spread, success
        self.part = part
        self.scale = 1.0
        super().__init__(task, seeds, reach=reach, decay=decay, **options)
        assert isinstance(self.archive, IdeasArchive)
        self.archive.appeal, self.archive.union = appeal, union
        self.archive.loser = choose("loser", loser, ("lowest", "shared", "nearest"))

    def _new_archive(self, size: int, alpha: float, capacity: Capacity | None) -> Archive:
        return IdeasArchive(self.task.points, size, alpha, capacity)

    def _cross(
        self, a: int, b: int | None, u_b: float, u_split: float, u_mix: float, seed: int
    ) -> Proposal:
        low, high = self.between
        return super()._cross(a, b, u_b, low + (high - low) * u_split, u_mix, seed)

    def offspring(self, proposal: Proposal, parents: Sequence[Any]) -> Any:
        draw = np.random.default_rng(proposal.seed)
        genome = parents[0]
        if len(parents) == 2:
            split, mix = int(proposal.split or 0), float(proposal.mix or 0.0)
            more = draw.integers(self.space.size, size=self.splits - 1).tolist()
            genome = self._cut(*parents, sorted([split, *more]), mix)
        if self.mutation:
            factor = math.exp(draw.uniform(-1.0, 1.0) * math.log(self.spread))
            sigma = self.mutation * self.scale * factor
            noisy = self.space.mutate(genome, sigma, proposal.seed, self.decay)
            start, size = int(draw.integers(self.space.size)), self.space.size
            mutated = (np.arange(size) - start) % size < self.part * size
            genome = Vector(np.where(mutated, noisy.values, genome.values))
        return genome

    def _cut(self, a: Any, b: Any, cuts: list[int], mix: float) -> Any:
        """Return a child whose mix changes sides at every cut."""
        if len(cuts) == 1:
            return self.crossed(a, b, Proposal((0, 1), cuts[0], mix, 0))
        ends = (Proposal((0, 1), at, mix, 0) for at in (self.space.size, 0))
        first, second = (self.crossed(a, b, end).values for end in ends)
        changed = np.searchsorted(cuts, np.arange(self.space.size), side="right") % 2 == 1
        return Vector(np.where(changed, second, first))

    def tell(self, child: Any, scores: Any = None, *, genome: Any = None) -> Generation:
        generation = super().tell(child, scores, genome=genome)
        if self.success is not None:
            self.scale *= math.exp(RATE * (generation.accepted - self.success))
        return generation


def search_on(task: Any, settings: Settings) -> Ideas:
    """Return the evolver of settings, whose options may be any idea, on a task of its own."""
    seeds = (task.trained_seeds if settings.pretrained else task.random_seeds)(rng=settings.seed)
    usual = {"mutation": settings.default_mutation}
    return Ideas(task, seeds, rng=settings.seed, **{**usual, **settings.options})
