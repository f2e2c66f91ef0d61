"""Brute force: SLERP ratios of two seeds, one after the other, without a split."""

from __future__ import annotations

from typing import Any

from m2n2lab.core.archive import Capacity
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.population import Member
from m2n2lab.core.records import Proposal
from m2n2lab.core.task import Task
from m2n2lab.utils.errors import InputError, whole_number


class BruteForce(Evolver):
    """A search over the SLERP ratios of two seeds from 0 to 1, without a split, again and again.

    Args:
        task, seeds, options: as for ``Evolver``; exactly two seeds.
        ratios: number of ratios.
    """

    method = "brute-force"

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        ratios: int = 10_000,
        alpha: float = 0.0,
        capacity: Capacity = "one",
        **options: Any,
    ) -> None:
        self.ratios = whole_number("ratios", ratios, 2)
        super().__init__(task, seeds, alpha=alpha, capacity=capacity, **options)
        self.options["ratios"] = self.ratios
        if len(self.space.seeds) != 2:
            raise InputError(
                f"Brute force needs exactly two seeds, got {len(self.space.seeds)}; choose two."
            )
        # Not from the archive, in which there may be room for one of them only.
        a, b = (Member(id, 0, (), seed, float("nan")) for id, seed in enumerate(self.space.seeds))
        self._seeds = (a, b)

    def _draw(self, u_a: float, u_b: float, u_split: float, u_mix: float, seed: int) -> Proposal:
        ratio = (self.generation % self.ratios) / (self.ratios - 1)
        return Proposal((0, 1), self.space.size, ratio, seed)

    def _parents(self, proposal: Proposal) -> tuple[Member, ...]:
        """Return the parents; the seeds can be merged after they have left the archive."""
        return self._seeds if proposal.parents == (0, 1) else super()._parents(proposal)
