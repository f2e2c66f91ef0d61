"""The base class of executors: a pool of workers that takes the steps of a search."""

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
    ``with`` block. A run ends once all children in flight are told.

    A worker that dies, or needs longer than ``timeout``, is replaced, and its proposal goes to
    another one; after ``MAX_RETRIES`` more tries it is skipped, reported in the log and in
    ``skipped``. What a run leaves untold when it ends by an error is asked for again by the next.

    Args:
        workers: W, the number of workers, and of proposals in flight.
        timeout: seconds that one evaluation may take; no limit by default.
        threads: torch threads of each worker.

    Attributes:
        arrivals: the order of asking and telling, for ``Replayed``.
        skipped: proposals that were given up.

    Raises:
        InputError: numbers that are too small.
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
        """Tell up to ``steps`` children; after one for which ``until`` is true, ask for no more.

        ``catch`` and ``retries`` are those of ``Evolver.run``; a worker that is lost counts for
        neither.

        Raises:
            InputError: scores or models that cannot be used, workers that cannot start.
            EvaluationError: the task raised. Children in flight are told before.
            KeyboardInterrupt: Ctrl-C; likewise, but a second one drops them.
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
            InputError: models that cannot be sent to workers.
        """
        self.load(evolver.task, evolver.space)
        arrivals, skipped = self.arrivals, self.skipped
        return Dispatch(self, evolver, arrivals, skipped, steps, until, catch, retries)
