"""Many steps of a search, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from m2n2lab.errors import whole_number
from m2n2lab.records import Generation

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.store.recorder import Recorder


def run(
    evolver: Evolver,
    steps: int,
    until: Callable[[Generation], bool] | None,
    store: str | Path | None,
) -> None:
    """Take up to ``steps`` steps, stopping after one for which ``until`` is true.

    Raises:
        InputError: a negative number of steps, a store that cannot be written.
    """
    count = whole_number("steps", steps, 0)
    with nullcontext() if store is None else _recorded(evolver, store):
        for _ in range(count):
            generation = evolver.step()
            if until is not None and until(generation):
                break


def _recorded(evolver: Evolver, store: str | Path) -> Recorder:
    from m2n2lab.store import Recorder

    return Recorder(evolver, store)
