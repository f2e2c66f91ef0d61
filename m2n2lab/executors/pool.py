"""Pool: workers that are started, sent jobs, waited for, and replaced when they are lost."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from m2n2lab.executors.worker import Job, Lost, Result, pack
from m2n2lab.utils.errors import real_number, whole_number

if TYPE_CHECKING:
    from typing_extensions import Self

    from m2n2lab.core.spaces.space import Space
    from m2n2lab.core.task import Task

POLL_SECONDS = 0.5
"""Longest wait for workers, after which a caller can check for Ctrl-C."""


@dataclass
class Assignment:
    """The job of a busy worker.

    Attributes:
        number: the job's number, returned with its result.
        deadline: monotonic time after which the worker counts as lost.
    """

    number: int
    deadline: float


class Answer(NamedTuple):
    """A message of a worker.

    Attributes:
        worker: its id.
        number: of the job; ``None`` if the worker was starting.
        result: scores, a failure, a loss, or ``None`` from a worker that is ready.
    """

    worker: int
    number: int | None
    result: Result


class Pool(ABC):
    """Workers, each with the task and one live model of its own.

    A worker is starting, idle or busy. It is lost if it ends, or needs longer than ``timeout`` for
    a job. A subclass implements workers as processes, or as actors of a cluster.

    Args:
        workers: W, the size of the pool.
        timeout: seconds that one job may take; no limit by default.
        threads: torch threads of each worker.

    Attributes:
        idle: ids of workers without a job.
        starting: ids of workers that are not ready yet.
        busy: the job of each other worker, by id.

    Raises:
        InputError: an argument is too small.
    """

    def __init__(self, workers: int, timeout: float | None, threads: int) -> None:
        self.workers = whole_number("workers", workers, 1)
        self.timeout = None if timeout is None else real_number("timeout", timeout, 1e-3)
        self.threads = whole_number("threads", threads, 1)
        self.idle: list[int] = []
        self.starting: set[int] = set()
        self.busy: dict[int, Assignment] = {}
        self._loaded: tuple[Task, Space] | None = None  # what the workers hold
        self._packed = b""
        self._started = 0  # ids are never used again

    # -- implemented by subclasses ---------------------------------------------------------------

    @abstractmethod
    def _start(self, worker: int, packed: bytes) -> None:
        """Begin to start a worker; its first result is ``None`` once it is ready."""

    @abstractmethod
    def _send(self, worker: int, job: Job) -> None:
        """Send a job to a worker that is ready."""

    @abstractmethod
    def _wait(self, timeout: float) -> Iterable[tuple[int, Result]]:
        """Return the results of workers, after at most ``timeout`` seconds."""

    @abstractmethod
    def _kill(self, worker: int) -> None:
        """End a worker at once, in any state; it may have ended already."""

    # -- common to all pools ---------------------------------------------------------------------

    def load(self, task: Task, space: Space) -> None:
        """Begin to start all missing workers; workers that hold another task or space are replaced.

        Raises:
            InputError: the task or the space cannot be sent to workers.
        """
        if self._loaded is None or self._loaded[0] is not task or self._loaded[1] is not space:
            self._packed = pack(task, space)
            self._end_workers()
            self._loaded = task, space
        while self.workers_alive < self.workers:
            self.start()

    @property
    def workers_alive(self) -> int:
        """Number of workers, including those that are starting."""
        return len(self.idle) + len(self.starting) + len(self.busy)

    def start(self) -> None:
        """Begin to start one more worker."""
        worker, self._started = self._started, self._started + 1
        self._start(worker, self._packed)
        self.starting.add(worker)

    def send(self, worker: int, number: int, job: Job) -> None:
        """Send a job to an idle worker; its result has the same number."""
        self.idle.remove(worker)
        now = time.monotonic()
        self.busy[worker] = Assignment(number, now + (self.timeout or float("inf")))
        self._send(worker, job)

    def wait(self, timeout: float = POLL_SECONDS) -> list[Answer]:
        """Return the answers that arrive within ``timeout`` seconds; lost workers are removed.

        Every other worker that answered is idle.
        """
        now = time.monotonic()
        nearest = min((each.deadline for each in self.busy.values()), default=float("inf"))
        results = dict(self._wait(min(max(nearest - now, 0.0), timeout)))
        for worker, assignment in self.busy.items():
            if worker not in results and assignment.deadline < time.monotonic():
                results[worker] = Lost(f"it took longer than the timeout of {self.timeout:g} s")
        answers = []
        for worker, result in results.items():
            if worker not in self.starting and worker not in self.busy:
                if worker in self.idle:  # it ended without a job
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
            answers.append(Answer(worker, number, result))
        return answers

    def close(self) -> None:
        """End all workers; the next run starts new ones."""
        self._end_workers()

    def _end_workers(self) -> None:
        for worker in (*self.idle, *self.starting, *self.busy):
            self._kill(worker)
        self.idle.clear()
        self.starting.clear()
        self.busy.clear()
        self._loaded = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
