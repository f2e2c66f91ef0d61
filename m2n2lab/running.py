"""Many steps of a search, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from m2n2lab.errors import whole_number
from m2n2lab.records import Generation

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver


def run(evolver: Evolver, steps: int, until: Callable[[Generation], bool] | None) -> None:
    """Take up to ``steps`` steps, stopping after one for which ``until`` is true.

    Raises:
        InputError: a negative number of steps.
    """
    for _ in range(whole_number("steps", steps, 0)):
        generation = evolver.step()
        if until is not None and until(generation):
            break
