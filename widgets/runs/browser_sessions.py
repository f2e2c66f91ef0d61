"""Who sits at which runs: a desk outlives a page that is loaded again, and then ends."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

from .runs import Run, Runs

GRACE = 3.0
"""Seconds that a desk waits for a page to come back: long enough to load it again."""


@dataclass(eq=False)
class Desk:
    """Runs with the pages that show them.

    Attributes:
        runs: what the pages show.
        key: what a page that is loaded again says to find its desk; hard to guess.
        shown: the run that a new page shows first.
        shared: whether every page comes here, and the desk stays when all have left.
    """

    runs: Runs
    shown: Run
    shared: bool = False
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    _pages: set[object] = field(default_factory=set)
    _left: float = field(default_factory=time.monotonic)

    def enter(self, page: object) -> None:
        """Count a page that shows this desk."""
        self._pages.add(page)

    def leave(self, page: object) -> None:
        """Count a page no more."""
        if page in self._pages:
            self._pages.remove(page)
            self._left = time.monotonic()

    @property
    def pages(self) -> int:
        """How many pages show it."""
        return len(self._pages)

    @property
    def deserted(self) -> bool:
        """Whether nobody has sat here for ``GRACE`` seconds."""
        return not (self.shared or self._pages) and time.monotonic() - self._left > GRACE


class Desks:
    """The desks of one server."""

    def __init__(self) -> None:
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> Desk | None:
        """Return the desk with a key, if there is one."""
        self.sweep()
        return self._desks.get(key)

    def add(self, runs: Runs, shown: Run, shared: bool = False) -> Desk:
        """Return a new desk."""
        desk = Desk(runs, shown, shared)
        with self._lock:
            self._desks[desk.key] = desk
        return desk

    @property
    def pages(self) -> int:
        """How many pages are open, on all desks."""
        return sum(desk.pages for desk in tuple(self._desks.values()))

    def sweep(self) -> None:
        """End the searches of the desks that everybody has left; returns at once."""
        with self._lock:
            gone = [desk for desk in self._desks.values() if desk.deserted]
            for desk in gone:
                del self._desks[desk.key]
        for desk in gone:
            desk.runs.close()


DESKS = Desks()
"""Of this process: ``panel serve`` runs a page's script anew for each page."""
