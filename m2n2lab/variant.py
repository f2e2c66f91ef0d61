"""The lab's own variant of M2N2: children that may go beyond their parents.

A SLERP with a mix in [0, 1] lies between its parents, so what all members have in common can only
be kept, and without mutation the span of the archive shrinks with every step. ``m2n2+`` stretches
the mix to [−r, 1 + r]: a child can take more than all of one parent and less than nothing of the
other. Everything else is as in M2N2; ``benchmarks/variant.py`` tells what it brings, and which
other ideas were tried.
"""

from __future__ import annotations

from typing import Any

from m2n2lab.errors import real_number
from m2n2lab.evolver import Evolver
from m2n2lab.tasks.base import Task

REACH = 0.5
"""r, how far beyond its parents a child can go, in parts of the way from one to the other."""


class Plus(Evolver):
    """M2N2 whose children may lie beyond their parents.

    The mix of a proposal still runs from 0 to 1: it is the place on the stretched line, so 0.5 is
    half of each parent as ever.

    Args:
        task, seeds, options: as for ``Evolver``.
        reach: r; 0 is M2N2.
    """

    method = "m2n2+"

    def __init__(self, task: Task, seeds: Any, *, reach: float = REACH, **options: Any) -> None:
        self.reach = real_number("reach", reach, 0.0, 10.0)
        super().__init__(task, seeds, **options)
        self.options["reach"] = self.reach

    def merge(self, a: Any, b: Any, split: int, mix: float) -> Any:
        """Return the split-point SLERP at the place that ``mix`` has on the stretched line."""
        return self.space.merge(a, b, split, stretched(mix, self.reach))


def stretched(mix: float, reach: float) -> float:
    """Return the place in [−reach, 1 + reach] of a mix in [0, 1]; the middle stays."""
    return mix + reach * (2.0 * mix - 1.0)
