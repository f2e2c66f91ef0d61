"""Brute force: SLERP ratios of two seeds, one after the other, without a split."""

from __future__ import annotations

from typing import Any

import numpy as np

from m2n2lab.core.archive import Capacity
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.history import COLUMNS
from m2n2lab.core.population import Member
from m2n2lab.core.records import Proposal
from m2n2lab.core.task import Task
from m2n2lab.utils.errors import InputError, whole_number


class BruteForce(Evolver):
    """A search over the SLERP ratios of two seeds from 0 to 1, without a split, again and again.

    Each proposal has the next ratio, whether or not those before it were told.

    Args:
        task, seeds, options: as for ``Evolver``; exactly two seeds.
        ratios: number of ratios.
    """

    method = "brute-force"
    own_operators = ("mate", "warmup")
    saves = True

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
        self._next: int | None = 0  # number of the next ratio; None until the history is looked up
        self._skipped: list[int] = []  # numbers below it that are still to be proposed

    def _draw(self, u_a: float, u_b: float, u_split: float, u_mix: float, seed: int) -> Proposal:
        number = self._position()
        if self._skipped:
            number = self._skipped.pop(0)
        else:
            self._next = number + 1
        ratio = (number % self.ratios) / (self.ratios - 1)
        return Proposal((0, 1), self.space.size, ratio, seed)

    def _position(self) -> int:
        """Return the number of the next new ratio."""
        if self._next is None:
            self._next, self._skipped = self._untold_ratios()
        return self._next

    def _untold_ratios(self) -> tuple[int, list[int]]:
        """Return the next number and those left out, from the ratios in the history."""
        table = self.records.table()
        a, b, split, mix, by_hand = (
            table[:, COLUMNS.index(name)]
            for name in ("parent_a", "parent_b", "split", "mix", "by_hand")
        )
        own = (a == 0) & (b == 1) & (split == self.space.size) & (by_hand == 0)
        indices = (mix[own] * (self.ratios - 1)).round().astype(int)
        told = np.bincount(indices, minlength=self.ratios)
        passes = int(told.min())
        done = np.flatnonzero(told > passes)
        end = int(done[-1]) + 1 if len(done) else 0
        start = passes * self.ratios
        return start + end, [start + index for index in range(end) if told[index] == passes]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of an ``Evolver``, with the ratios that are next."""
        position = self._position()
        return {**super().state_dict(), "ratio": position, "skipped": [*self._skipped]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; one without ratios, as from a store, has them in the history."""
        super().load_state_dict(state)
        self._next, self._skipped = state.get("ratio"), [*state.get("skipped", ())]

    def _parents(self, proposal: Proposal) -> tuple[Member, ...]:
        """Return the parents; the seeds can be merged after they have left the archive."""
        return self._founders if proposal.parents == (0, 1) else super()._parents(proposal)
