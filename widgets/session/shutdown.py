"""Searches that were started: they share the interpreter with pages, and end before Python does."""

from __future__ import annotations

import atexit
import sys
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


GIVE_WAY = 0.0005
"""Seconds after which a worker lets a page have the interpreter: Python's own 5 ms, several times a
click, are felt while a model answers."""


def started(search: Closable) -> None:
    """Note a search that shares the interpreter with pages, and will have to be ended."""
    sys.setswitchinterval(min(sys.getswitchinterval(), GIVE_WAY))
    STARTED.add(search)


@atexit.register
def close_all(patience: float = 5.0) -> bool:
    """End every search, since one that still steps when Python ends would abort the process.

    Args:
        patience: most seconds to wait for the steps that are under way.

    Returns:
        Whether all have ended.
    """
    for search in STARTED:
        search.close()
    until = time.monotonic() + patience
    return all(search.join(max(until - time.monotonic(), 0.0)) for search in STARTED)
