"""Base class of executors: a pool of workers that takes the steps of a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from m2n2lab.core.records import Generation
from m2n2lab.executors.dispatch import Dispatch, Skipped
from m2n2lab.executors.pool import Pool
from m2n2lab.executors.replay import Arrivals
from m2n2lab.utils.errors import whole_number

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver


class Crew(Pool):
    """An executor for ``evolver.run``: scores children on several workers.

    Workers start with the first run and stay for the next ones, until ``close`` or the end of a
    ``with`` block. A run ends once the scores of all children in flight have arrived.

    A worker that ends unexpectedly, or needs longer than ``timeout``, is replaced, and its proposal
    is sent to another one; after ``MAX_RETRIES`` retries it is skipped, and reported in the log and
    in ``skipped``. Proposals without scores when a run ends by an error are asked for again by the
    next run.

    Args:
        workers: W, the number of workers, and of proposals in flight.
        timeout: seconds that one evaluation may take; no limit by default.
        threads: torch threads of each worker.

    Attributes:
        arrivals: the order of asking and telling of the last search, for ``Replayed``; another
            search, or steps taken elsewhere between two runs, begin another record.
        skipped: proposals that were given up.

    Raises:
        InputError: an argument is too small.
    """

    def __init__(self, workers: int, timeout: float | None, threads: int) -> None:
        super().__init__(workers, timeout, threads)
        self.arrivals = Arrivals()
        self.skipped: list[Skipped] = []

    def run(
        self,
        evolver: Evolver,
        steps: int,
        until: Callable[[Generation], bool] | None = None,
        catch: tuple[type[Exception], ...] = (),
        retries: int = 0,
    ) -> None:
        """Take up to ``steps`` steps; after one for which ``until`` is true, ask for no more.

        ``catch`` and ``retries`` are those of ``Evolver.run``; a worker that is lost counts for
        neither.

        Raises:
            InputError: scores or models cannot be used, or workers cannot start.
            EvaluationError: the task raised. Children in flight are finished before.
            KeyboardInterrupt: Ctrl-C. Children in flight are finished before; a second Ctrl-C
                drops them.
        """
        self.dispatch(evolver, whole_number("steps", steps, 0), until, catch, retries).run()

    def dispatch(
        self,
        evolver: Evolver,
        steps: int = 0,
        until: Callable[[Generation], bool] | None = None,
        catch: tuple[type[Exception], ...] = (),
        retries: int = 0,
    ) -> Dispatch:
        """Return a run that its caller polls (see ``Dispatch``); workers begin to start.

        Raises:
            InputError: the task or the space cannot be sent to workers.
        """
        self.load(evolver.task, evolver.space)
        if not self.arrivals.continues(evolver):
            self.arrivals = Arrivals()
        arrivals, skipped = self.arrivals, self.skipped
        return Dispatch(self, evolver, arrivals, skipped, steps, until, catch, retries)
