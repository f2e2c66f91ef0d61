"""Browser sessions: runs with the pages that show them; one outlives a page that is reloaded."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

from .runs import Run, Runs

RELOAD_GRACE_SECONDS = 3.0
"""Time that a browser session without pages is kept: long enough to reload its page."""


@dataclass(eq=False)
class BrowserSession:
    """Runs with the pages that show them.

    Attributes:
        runs: what the pages show.
        shown: the run that a new page shows first.
        shared: whether every page opens this session, which then stays when all are closed.
        key: identifies the session to a page that is reloaded; hard to guess.
    """

    runs: Runs
    shown: Run
    shared: bool = False
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    _pages: set[object] = field(default_factory=set)
    _last_closed: float = field(default_factory=time.monotonic)

    def connect(self, page: object) -> None:
        """Count a page that shows this session."""
        self._pages.add(page)

    def disconnect(self, page: object) -> None:
        """Stop counting a page."""
        if page in self._pages:
            self._pages.remove(page)
            self._last_closed = time.monotonic()

    @property
    def pages(self) -> int:
        """Number of pages that show it."""
        return len(self._pages)

    @property
    def abandoned(self) -> bool:
        """Whether no page has shown it for ``RELOAD_GRACE_SECONDS``."""
        if self.shared or self._pages:
            return False
        return time.monotonic() - self._last_closed > RELOAD_GRACE_SECONDS


class BrowserSessions:
    """The browser sessions of one server."""

    def __init__(self) -> None:
        self._sessions: dict[str, BrowserSession] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> BrowserSession | None:
        """Return the session with a key, if there is one."""
        self.close_abandoned()
        return self._sessions.get(key)

    def add(self, runs: Runs, shown: Run, shared: bool = False) -> BrowserSession:
        """Return a new session."""
        session = BrowserSession(runs, shown, shared)
        with self._lock:
            self._sessions[session.key] = session
        return session

    @property
    def pages(self) -> int:
        """Number of open pages, in all sessions."""
        return sum(session.pages for session in tuple(self._sessions.values()))

    def close_abandoned(self) -> None:
        """End the searches of abandoned sessions; returns at once."""
        with self._lock:
            abandoned = [session for session in self._sessions.values() if session.abandoned]
            for session in abandoned:
                del self._sessions[session.key]
        for session in abandoned:
            session.runs.close()


BROWSER_SESSIONS = BrowserSessions()
"""Those of this process: ``panel serve`` runs a page's script anew for each page."""
