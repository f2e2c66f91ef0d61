"""Searches of one server take turns, so that pages get the processors too."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from m2n2lab.processors import processors

QUICK = 0.1
"""Seconds up to which a step is worth waiting for by others."""


class Shifts:
    """Lets so many threads step at once; the others wait in line, first come, first served.

    Steps of a few milliseconds are mostly Python, which one thread runs at a time. Many searches
    together are not faster than a few, but whoever else wants the interpreter, as the pages do,
    has to wait for each of them.

    Args:
        places: threads that step at once.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._line: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold a place for as long as the ``with`` block takes."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def _take(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._line.append(mine)
        mine.acquire()  # until somebody gives this place away

    def _give(self) -> None:
        with self._lock:
            if self._line:  # given, not freed: whoever steps without end would take it again
                self._line.popleft().release()
            else:
                self._free += 1


SHIFTS = Shifts(max(processors() - 1, 1))
"""Of all searches with pages in this process; a processor is left to the pages."""
