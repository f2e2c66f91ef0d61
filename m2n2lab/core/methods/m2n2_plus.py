"""The lab's variant of M2N2, ``m2n2+``: weight decay with mutation, extrapolation without it.

**With mutation.** Noise added generation after generation is a random walk: weights that the
training data do not determine grow without bound, and their effect on other data is random. With
decay λ a child keeps 1 − λ of every weight before noise of variance σ² is added, so such a weight
stays near σ / √(2λ) (an Ornstein–Uhlenbeck process) and selected changes stand out. Trained seeds
are mutated too.

**Without mutation**, as for checkpoints. A SLERP with a mix in [0, 1] lies between its parents, so
what all members have in common never changes, and the span of the archive shrinks with every step.
The mix is stretched to [−r, 1 + r]: a child can lie beyond either parent.

Everything else is as in M2N2; ``benchmarks/variant.py`` measures the gain and the other ideas that
were tried.
"""

from __future__ import annotations

from typing import Any

from m2n2lab.core.evolver import Evolver
from m2n2lab.core.operators.crossover import Slerp
from m2n2lab.core.task import Task
from m2n2lab.utils.errors import real_number

DECAY = 0.002
"""λ, the share of each weight that a child loses before it is mutated."""

REACH = 0.5
"""r without mutation: how far beyond a parent a child can lie, as a share of their distance."""


class Plus(Evolver):
    """M2N2 whose weights decay, or whose children can lie beyond their parents.

    The mix of a proposal still runs from 0 to 1, as a position on the stretched line; 0.5 is half
    of each parent.

    Args:
        task, seeds, options: as for ``Evolver``.
        decay: λ, for mutated children; 0 is M2N2.
        reach: r; by default 0 with mutation, as M2N2, and ``REACH`` without.
    """

    method = "m2n2+"
    own_operators = ("mutation",)
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
        if isinstance(self.crossover, Slerp):
            self.crossover = Slerp(self.reach)
        self.options |= {"decay": self.decay, "reach": self.reach}

    def mutate(self, genome: Any, seed: int) -> Any:
        """Return (1 − λ)·genome + N(0, σ²), a function of ``seed`` alone."""
        assert isinstance(self.mutation, float)  # it takes no other
        return self.space.mutate(genome, self.mutation, seed, self.decay)
