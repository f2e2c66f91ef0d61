"""Turns: a worker and a person may step the same search, but never at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

PATIENCE = 0.0002
"""Seconds between two looks whether somebody who waits has got a turn."""


class Turns:
    """A lock for one search, which whoever holds it may take again, and of which all get a share.

    Python gives a lock to whoever asks first, and a thread that steps without end asks again
    before another has woken up. So that thread calls ``give_way`` between two steps.

        with evolver.turn():                 # nobody else steps until these are done
            proposal = evolver.ask()
            evolver.tell(proposal)
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._waiting: set[object] = set()
        # Whether this thread has the turn. Conditions ask locks the same, and it saves a step 2 %.
        self.mine: Callable[[], bool] = self.lock._is_owned  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()  # a copy of a search has turns of its own

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Keep everybody else out for as long as the ``with`` block takes."""
        place = self.line_up()
        try:
            with self.lock:
                self.leave(place)
                yield
        finally:
            self.leave(place)

    def line_up(self) -> object:
        """Say that somebody waits; returns a place to be left when the turn has come."""
        place = object()
        self._waiting.add(place)
        return place

    def leave(self, place: object) -> None:
        """Say that whoever had this place has got a turn, or no longer wants one."""
        self._waiting.discard(place)

    def give_way(self) -> None:
        """Wait until all who wait now have got a turn; not to be called during one's own."""
        for place in tuple(self._waiting):
            while place in self._waiting:
                time.sleep(PATIENCE)


class Taken(Protocol):
    """What has turns."""

    turn: Turns


S = TypeVar("S", bound=Taken)
P = ParamSpec("P")
R = TypeVar("R")


def in_turn(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Let a method of a search run while nobody else steps."""

    @wraps(method)
    def taking_turn(self: S, /, *args: P.args, **named: P.kwargs) -> R:
        turn = self.turn
        if turn.mine():
            return method(self, *args, **named)
        place = turn.line_up()
        try:
            # The lock itself, not ``turn()``: no interrupt comes between taking and the block.
            with turn.lock:
                turn.leave(place)
                return method(self, *args, **named)
        finally:
            turn.leave(place)

    return taking_turn
