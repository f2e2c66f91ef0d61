"""Many steps of a search, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from m2n2lab.errors import whole_number
from m2n2lab.records import Generation
from m2n2lab.tasks.generation import Halted

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.store.recorder import Recorder


class Executor(Protocol):
    """Takes steps elsewhere, or in another order (see ``m2n2lab.executors``)."""

    def run(self, evolver: Evolver, steps: int, until: Callable[[Generation], bool] | None) -> None:
        """Take up to ``steps`` steps."""


def step(evolver: Evolver) -> Generation:
    """Ask, evaluate as far as it takes to decide, and tell once.

    A step that is stopped on the way is as if it never began.

    Raises:
        Halted: somebody stopped the evaluation; the next step asks for the same child.
    """
    at, drawn = evolver.generation, evolver.rng.bit_generator.state
    try:
        proposal = evolver.ask()
        if evolver.rejection is None:
            return evolver.tell(proposal, evolver.evaluate(proposal))
        model = evolver.space.materialise(evolver.breed(proposal))
        return evolver.tell(proposal, evolver.rejection.score(model, proposal))
    except (Halted, KeyboardInterrupt):
        if evolver.generation == at:
            evolver.rng.bit_generator.state = drawn
        raise


def run(
    evolver: Evolver,
    steps: int,
    until: Callable[[Generation], bool] | None,
    executor: Executor | None,
    store: str | Path | None,
) -> None:
    """Take up to ``steps`` steps, stopping after one for which ``until`` is true.

    Raises:
        InputError: a negative number of steps, a store that cannot be written.
    """
    count = whole_number("steps", steps, 0)
    with nullcontext() if store is None else _recorded(evolver, store):
        if executor is not None:
            executor.run(evolver, count, until)
            return
        for _ in range(count):
            generation = evolver.step()
            if until is not None and until(generation):
                break


def _recorded(evolver: Evolver, store: str | Path) -> Recorder:
    from m2n2lab.store import Recorder

    return Recorder(evolver, store)
