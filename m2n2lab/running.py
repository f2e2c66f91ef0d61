"""Many steps of a search, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from m2n2lab.errors import whole_number
from m2n2lab.records import Generation

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver


class Executor(Protocol):
    """Takes steps elsewhere, or in another order (see ``m2n2lab.executors``)."""

    def run(self, evolver: Evolver, steps: int, until: Callable[[Generation], bool] | None) -> None:
        """Take up to ``steps`` steps."""


def run(
    evolver: Evolver,
    steps: int,
    until: Callable[[Generation], bool] | None,
    executor: Executor | None,
) -> None:
    """Take up to ``steps`` steps, stopping after one for which ``until`` is true.

    Raises:
        InputError: a negative number of steps.
    """
    if executor is not None:
        executor.run(evolver, steps, until)
        return
    for _ in range(whole_number("steps", steps, 0)):
        generation = evolver.step()
        if until is not None and until(generation):
            break
