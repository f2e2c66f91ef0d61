"""Fair locks: a thread that takes a lock again and again does not starve waiting threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

POLL_SECONDS = 0.0002
"""Interval at which a thread that gives way checks that the waiting threads have had the lock."""


class FairLock:
    """A reentrant lock without starvation.

    Python's lock goes to the thread that asks first, and a thread that loops asks again before a
    waiting thread has woken up. So a thread that loops calls ``give_way`` between two rounds.

        with evolver.turn():                 # no other thread steps during this block
            proposal = evolver.ask()
            evolver.tell(proposal)
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._waiting: set[object] = set()
        # Whether this thread holds the lock. ``threading.Condition`` uses the same method; it
        # saves 2 % of a step.
        self.owned: Callable[[], bool] = self.lock._is_owned  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[type[FairLock], tuple[()]]:
        return FairLock, ()  # a copy is another lock

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the lock during the ``with`` block."""
        ticket = self.enqueue()
        try:
            with self.lock:
                self.dequeue(ticket)
                yield
        finally:
            self.dequeue(ticket)

    def enqueue(self) -> object:
        """Register a waiting thread and return its ticket for ``dequeue``."""
        ticket = object()
        self._waiting.add(ticket)
        return ticket

    def dequeue(self, ticket: object) -> None:
        """Remove a thread that holds the lock or no longer waits for it."""
        self._waiting.discard(ticket)

    def give_way(self) -> None:
        """Wait until all threads that wait now have had the lock; not to be called holding it."""
        for ticket in tuple(self._waiting):
            while ticket in self._waiting:
                time.sleep(POLL_SECONDS)


class HasTurn(Protocol):
    """An object with a fair lock ``turn``."""

    turn: FairLock


S = TypeVar("S", bound=HasTurn)
P = ParamSpec("P")
R = TypeVar("R")


def in_turn(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Decorate a method so that it holds the lock ``turn`` of its object."""

    @wraps(method)
    def locked(self: S, /, *args: P.args, **named: P.kwargs) -> R:
        turn = self.turn
        if turn.owned():
            return method(self, *args, **named)
        ticket = turn.enqueue()
        try:
            # The lock itself, not ``turn()``: no interrupt falls between taking it and the block.
            with turn.lock:
                turn.dequeue(ticket)
                return method(self, *args, **named)
        finally:
            turn.dequeue(ticket)

    return locked


class FairSemaphore:
    """A semaphore that serves waiting threads in their order of arrival.

    Args:
        places: number of threads that may hold it at once.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._queue: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Number of threads that wait for a place."""
        return len(self._queue)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold a place during the ``with`` block."""
        self._acquire()
        try:
            yield
        finally:
            self._release()

    def _acquire(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._queue.append(mine)
        mine.acquire()  # until another thread hands its place over

    def _release(self) -> None:
        with self._lock:
            if self._queue:  # handed over, not freed: a thread that loops would take it again
                self._queue.popleft().release()
            else:
                self._free += 1
