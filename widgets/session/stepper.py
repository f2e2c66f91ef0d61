"""Stepper: one child after the other in the session's own thread, or several at once on workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from m2n2lab.utils.concurrency.fair_locks import FairSemaphore
from m2n2lab.utils.concurrency.processors import processors

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.executors import Crew
    from m2n2lab.executors.dispatch import Dispatch

POLL_SECONDS = 0.05
"""Most time to wait for a child from a worker before the orders are checked."""

QUICK_STEP_SECONDS = 0.1
"""Duration up to which other searches wait for a step."""

SHIFTS = FairSemaphore(max(processors() - 1, 1))
"""Limits the searches of this process that step at once; one processor is left to the pages.

Steps of a few milliseconds are mostly Python, which one thread runs at a time. Many searches at
once are no faster than a few, but pages would wait for each of them.
"""


def no_workers(*_: object) -> None:
    """Return no workers: children are scored in the session's own thread."""


class Stepper:
    """Takes the steps of one search, in its worker thread.

    Args:
        evolver: the search.
        executor: makes the workers at the first step; by default there are none.

    Attributes:
        under_way: whether a step is being taken in this thread.
        took: seconds that the last child took.
    """

    def __init__(self, evolver: Evolver, executor: Callable[[], Crew | None] = no_workers) -> None:
        self.under_way = False
        self.took = 0.0
        self._evolver = evolver
        self._executor = executor
        self._workers: Crew | None = None
        self._dispatch: Dispatch | None = None  # while children are in flight
        self._started = False  # whether the workers were asked for
        self._unbounded = False  # whether any number of children may be in flight

    def step(self, running: bool) -> None:
        """Take a step; on workers, send more children, and submit those that have arrived.

        Args:
            running: whether more steps follow; workers may then score any number of children.

        Raises:
            Halted: the evaluation was stopped.
        """
        if not self._started:
            self._workers, self._started = self._executor(), True
        if self._workers is None:
            self._step_in_thread()
            return
        dispatch = self._dispatch = self._dispatch or self._workers.dispatch(self._evolver)
        if self._unbounded and not running:
            dispatch.stop_asking()
        self._unbounded = running
        dispatch.allow(float("inf") if running else 1)
        self._poll(dispatch)

    def _step_in_thread(self) -> None:
        limit = SHIFTS() if self.took < QUICK_STEP_SECONDS else nullcontext()
        with self._evolver.turn(), limit:
            began = time.monotonic()
            self.under_way = True
            try:
                self._evolver.step()
            finally:
                self.under_way = False
            self.took = time.monotonic() - began

    def settle(self, halted: bool) -> bool:
        """Submit what still arrives from workers; returns whether more is in flight.

        Args:
            halted: whether no more is to be sent, although it was allowed.
        """
        if self._dispatch is None:
            return False
        if halted or self._unbounded:
            self._dispatch.stop_asking()
        self._poll(self._dispatch)
        return self._dispatch is not None

    def _poll(self, dispatch: Dispatch) -> None:
        dispatch.poll(POLL_SECONDS)
        self.took = dispatch.took
        if not dispatch.pending:
            self._dispatch = None
            dispatch.finish()

    @property
    def in_flight(self) -> str:
        """Label of the children that workers are scoring; empty if there are none."""
        if self._dispatch is None or self._workers is None:
            return ""
        starting = len(self._workers.starting)
        if starting and not self._dispatch.in_flight:
            return f"{starting} workers start" if starting > 1 else "a worker starts"
        return f"{self._dispatch.in_flight} in flight"

    def close(self) -> None:
        """End the workers; children in flight are dropped."""
        if self._dispatch is not None:
            self._dispatch.close()
            self._dispatch = None
        if self._workers is not None:
            self._workers.close()
