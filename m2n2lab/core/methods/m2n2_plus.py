"""The lab's own variant of M2N2, ``m2n2+``: weight decay with mutation, reach without it.

**Mutated children.** Noise that is added generation after generation is a random walk: weights that
the training data do not decide grow without bound, and what they do to other data is chance. With
decay λ a child keeps 1 − λ of every weight before the noise of variance σ² is added, so that such a
weight stays near σ / √(2λ) (an Ornstein–Uhlenbeck process) and what is selected stands out. Trained
seeds are mutated too.

**Children without mutation**, as those of checkpoints. A SLERP with a mix in [0, 1] lies between
its parents, so what all members have in common can only be kept, and the span of the archive
shrinks with every step. The mix is stretched to [−r, 1 + r]: a child can take more than all of one
parent and less than nothing of the other.

Everything else is as in M2N2; ``benchmarks/variant.py`` tells what it brings, and which other ideas
were tried.
"""

from __future__ import annotations

from typing import Any

from m2n2lab.core.evolver import Evolver
from m2n2lab.core.task import Task
from m2n2lab.utils.errors import real_number

DECAY = 0.002
"""λ, the share of each weight that a child loses before it is mutated."""

REACH = 0.5
"""r without mutation: how far beyond its parents a child can go, in parts of the way between."""


class Plus(Evolver):
    """M2N2 whose weights decay, or whose children may lie beyond their parents.

    The mix of a proposal still runs from 0 to 1: it is the place on the stretched line, so 0.5 is
    half of each parent as ever.

    Args:
        task, seeds, options: as for ``Evolver``.
        decay: λ, for children that are mutated; 0 is M2N2.
        reach: r; by default 0 with mutation, as M2N2, and ``REACH`` without.
    """

    method = "m2n2+"
    trained_mutation = 0.01

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        decay: float = DECAY,
        reach: float | None = None,
        **options: Any,
    ) -> None:
        if reach is None:
            reach = 0.0 if options.get("mutation") else REACH
        self.decay = real_number("decay", decay, 0.0, 1.0)
        self.reach = real_number("reach", reach, 0.0, 10.0)
        super().__init__(task, seeds, **options)
        self.options |= {"decay": self.decay, "reach": self.reach}

    def mutate(self, genome: Any, seed: int) -> Any:
        """Return (1 − λ)·genome + N(0, σ²), a function of ``seed`` alone."""
        return self.space.mutate(genome, self.mutation, seed, self.decay)

    def merge(self, a: Any, b: Any, split: int, mix: float) -> Any:
        """Return the split-point SLERP at the place that ``mix`` has on the stretched line."""
        return self.space.merge(a, b, split, stretched(mix, self.reach))


def stretched(mix: float, reach: float) -> float:
    """Return the place in [−reach, 1 + reach] of a mix in [0, 1]; the middle stays."""
    return mix + reach * (2.0 * mix - 1.0)
