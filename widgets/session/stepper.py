"""How a session steps its search: here one child after the other, or several at once on workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from m2n2lab.utils.fair_locks import FairSemaphore
from m2n2lab.utils.processors import processors

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.executors import Crew
    from m2n2lab.executors.dispatch import Dispatch

LOOK_EVERY = 0.05
"""Most seconds that a child from a worker is waited for without a look at the orders."""

QUICK = 0.1
"""Seconds up to which a step is worth waiting for by others."""

SHIFTS = FairSemaphore(max(processors() - 1, 1))
"""Searches of this process that step at once; one processor is left to the pages.

Steps of a few milliseconds are mostly Python, which one thread runs at a time. Many searches
together are not faster than a few, but the pages would wait for each of them.
"""


def here(*_: object) -> None:
    """Say that children are scored in the session's own thread."""


class Stepper:
    """Takes the steps of one search, in its worker thread.

    Args:
        evolver: the search.
        executor: makes the workers, when the first step is taken; by default there are none.

    Attributes:
        under_way: whether a step is, in this thread.
        took: seconds that the last child took.
    """

    def __init__(self, evolver: Evolver, executor: Callable[[], Crew | None] = here) -> None:
        self.under_way = False
        self.took = 0.0
        self._evolver = evolver
        self._executor = executor
        self._crew: Crew | None = None
        self._flight: Dispatch | None = None
        self._made = False  # whether the workers were asked for
        self._unbounded = False  # whether any number of children may fly

    def step(self, running: bool) -> None:
        """Take a step; on workers, let more children fly, and tell those that came.

        Args:
            running: whether more steps follow; on workers any number may fly then.

        Raises:
            Halted: somebody stopped the evaluation.
        """
        if not self._made:
            self._crew, self._made = self._executor(), True
        if self._crew is None:
            self._step_here()
            return
        flight = self._flight = self._flight or self._crew.dispatch(self._evolver)
        if self._unbounded and not running:
            flight.stop_asking()
        self._unbounded = running
        flight.allow(float("inf") if running else 1)
        self._beat(flight)

    def _step_here(self) -> None:
        shift = SHIFTS() if self.took < QUICK else nullcontext()
        with self._evolver.turn(), shift:
            began = time.monotonic()
            self.under_way = True
            try:
                self._evolver.step()
            finally:
                self.under_way = False
            self.took = time.monotonic() - began

    def settle(self, halted: bool) -> bool:
        """Tell what still comes from workers; returns whether there is more to come.

        Args:
            halted: whether no more is to be asked for, although it was allowed.
        """
        if self._flight is None:
            return False
        if halted or self._unbounded:
            self._flight.stop_asking()
        self._beat(self._flight)
        return self._flight is not None

    def _beat(self, flight: Dispatch) -> None:
        flight.poll(LOOK_EVERY)
        self.took = flight.took
        if not flight.pending:
            self._flight = None
            flight.finish()

    @property
    def words(self) -> str:
        """How many children fly, in words; empty where none do."""
        if self._flight is None or self._crew is None:
            return ""
        starting = len(self._crew.starting)
        if starting and not self._flight.in_flight:
            return f"{starting} workers start" if starting > 1 else "a worker starts"
        return f"{self._flight.in_flight} in flight"

    def close(self) -> None:
        """End the workers; what flies is never told."""
        if self._flight is not None:
            self._flight.close()
            self._flight = None
        if self._crew is not None:
            self._crew.close()
