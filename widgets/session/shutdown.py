"""Shutdown: started searches share the interpreter with pages, and end before Python does."""

from __future__ import annotations

import atexit
import sys
import threading
import time
from typing import Protocol
from weakref import WeakSet


class Closable(Protocol):
    """A search in a thread of its own."""

    def close(self) -> None:
        """Ask the thread to end; returns at once."""

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end; returns whether it has."""


STARTED: WeakSet[Closable] = WeakSet()
"""All searches whose worker was started."""

_LOCK = threading.Lock()

SWITCH_INTERVAL_SECONDS = 0.0005
"""Time after which a worker lets a page have the interpreter: Python's default of 5 ms, several
times a click, is felt while a model answers."""


def register(search: Closable) -> None:
    """Register a started search, to be ended before Python ends."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_SECONDS))
    with _LOCK:
        STARTED.add(search)


def searching() -> int:
    """Return the number of searches whose worker has not ended."""
    with _LOCK:
        started = tuple(STARTED)
    return sum(not search.join(0.0) for search in started)


@atexit.register
def close_all(timeout: float = 5.0) -> bool:
    """End every search: one that still steps when Python ends would abort the process.

    Args:
        timeout: most seconds to wait for the current steps.

    Returns:
        Whether all have ended.
    """
    for search in STARTED:
        search.close()
    until = time.monotonic() + timeout
    return all(search.join(max(until - time.monotonic(), 0.0)) for search in STARTED)
