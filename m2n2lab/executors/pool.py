"""Workers of one kind: who is idle, who scores what, and who must be replaced."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from m2n2lab.errors import real_number, whole_number
from m2n2lab.executors.replay import Arrivals
from m2n2lab.executors.worker import Job, Lost, Result, pack
from m2n2lab.records import Generation, Proposal

if TYPE_CHECKING:
    from typing_extensions import Self

    from m2n2lab.evolver import Evolver
    from m2n2lab.executors.dispatch import Flight

POLL = 0.5
"""Most seconds until Ctrl-C is noticed."""


class Skipped(NamedTuple):
    """A proposal that no worker could score, and why the last try failed."""

    proposal: Proposal
    reason: str


@dataclass
class Busy:
    """What a worker is at."""

    number: int  # of the proposal; its answer is thrown away where nobody waits for it any more
    deadline: float


class Crew(ABC):
    """Scores children on several workers, each with the task and one live model of its own.

    An executor for ``evolver.run``. Workers start with the first run and stay for the next ones,
    until ``close`` or the end of a ``with`` block. A run ends once all children in flight are told.

    A worker that dies, or needs longer than ``timeout``, is replaced, and its proposal goes to
    another one; after ``RETRIES`` more tries it is skipped, reported in the log and in ``skipped``.

    Args:
        workers: W, how many there are, and how many proposals are in flight.
        timeout: seconds that one evaluation may take; no limit by default.
        threads: torch threads of each worker.

    Attributes:
        arrivals: the order of asking and telling, for ``Replayed``.
        skipped: proposals that were given up.

    Raises:
        InputError: numbers that are too small.
    """

    def __init__(self, workers: int, timeout: float | None, threads: int) -> None:
        self.workers = whole_number("workers", workers, 1)
        self.timeout = None if timeout is None else real_number("timeout", timeout, 1e-3)
        self.threads = whole_number("threads", threads, 1)
        self.arrivals = Arrivals()
        self.skipped: list[Skipped] = []
        self.idle: list[int] = []
        self.starting: set[int] = set()
        self.busy: dict[int, Busy] = {}
        self._held: tuple[Any, Any] | None = None  # task and space that the workers have
        self._packed = b""
        self._born = 0  # workers are numbered and no number is used again

    # -- what a kind of workers knows ------------------------------------------------------------

    @abstractmethod
    def _start(self, worker: int, packed: bytes) -> None:
        """Begin to start a worker; ``None`` comes from it once it is ready."""

    @abstractmethod
    def _send(self, worker: int, job: Job) -> None:
        """Give a ready worker something to do."""

    @abstractmethod
    def _wait(self, timeout: float) -> Iterable[tuple[int, Result]]:
        """Return what came from workers, after at most ``timeout`` seconds."""

    @abstractmethod
    def _kill(self, worker: int) -> None:
        """End a worker at once, whatever it does; dead ones too."""

    # -- what all have in common -----------------------------------------------------------------

    def run(
        self, evolver: Evolver, steps: int, until: Callable[[Generation], bool] | None = None
    ) -> None:
        """Tell up to ``steps`` children; after one for which ``until`` is true, ask for no more.

        Raises:
            InputError: scores or models that cannot be used, workers that cannot start.
            EvaluationError: the task raised. Children in flight are told before.
            KeyboardInterrupt: Ctrl-C; likewise, but a second one drops them.
        """
        self.fly(evolver, whole_number("steps", steps, 0), until).run()

    def fly(
        self,
        evolver: Evolver,
        steps: int = 0,
        until: Callable[[Generation], bool] | None = None,
    ) -> Flight:
        """Return a run that is taken beat by beat (see ``Flight``); workers begin to start.

        Raises:
            InputError: models that cannot be sent to workers.
        """
        from m2n2lab.executors.dispatch import Flight

        task, space = evolver.task, evolver.space
        if self._held is None or self._held[0] is not task or self._held[1] is not space:
            self._packed = pack(task, space)
            self._end_workers()
            self._held = task, space
        while self.here < self.workers:
            self.start()
        return Flight(self, evolver, steps, until)

    @property
    def here(self) -> int:
        """How many workers there are."""
        return len(self.idle) + len(self.starting) + len(self.busy)

    def start(self) -> None:
        """Begin to start one more worker."""
        worker, self._born = self._born, self._born + 1
        self._start(worker, self._packed)
        self.starting.add(worker)

    def send(self, worker: int, number: int, job: Job) -> None:
        """Give an idle worker a job for a proposal."""
        self.idle.remove(worker)
        now = time.monotonic()
        self.busy[worker] = Busy(number, now + (self.timeout or float("inf")))
        self._send(worker, job)

    def wait(self, most: float = POLL) -> list[tuple[int, int | None, Result]]:
        """Return worker, number of its proposal, and what came from it; the worker is idle then.

        Waits for at most so many seconds.

        Those that died, or took too long, are gone.
        """
        now = time.monotonic()
        nearest = min((busy.deadline for busy in self.busy.values()), default=float("inf"))
        came = dict(self._wait(min(max(nearest - now, 0.0), most)))
        for worker, busy in self.busy.items():
            if worker not in came and busy.deadline < time.monotonic():
                came[worker] = Lost(f"it took longer than the timeout of {self.timeout:g} s")
        results = []
        for worker, result in came.items():
            if worker not in self.starting and worker not in self.busy:
                if worker in self.idle:  # died while it had nothing to do
                    self.idle.remove(worker)
                    self._kill(worker)
                    self.start()
                continue
            unready = worker in self.starting and result is not None
            self.starting.discard(worker)
            number = self.busy.pop(worker).number if worker in self.busy else None
            if unready or isinstance(result, Lost):
                self._kill(worker)
            else:
                self.idle.append(worker)
            results.append((worker, number, result))
        return results

    def close(self) -> None:
        """End all workers; the next run starts new ones."""
        self._end_workers()

    def _end_workers(self) -> None:
        for worker in (*self.idle, *self.starting, *self.busy):
            self._kill(worker)
        self.idle.clear()
        self.starting.clear()
        self.busy.clear()
        self._held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
