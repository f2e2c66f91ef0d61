"""Browser sessions: runs with the pages that show them; one outlives a page that is reloaded."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .people import People
from .runs import Run, Runs

RELOAD_GRACE_SECONDS = 3.0
"""Time without pages after which searches pause, or end if nothing was done: enough to reload."""

KEEP_SECONDS = 1_800.0
"""Time that a browser session in which something was done is kept for its page to come back."""

MAX_KEPT = 32
"""Browser sessions without pages that are kept; of more, those end that were left first."""


@dataclass(eq=False)
class BrowserSession:
    """Runs with the pages that show them.

    Attributes:
        runs: what the pages show.
        shown: the run that a new page shows first.
        shared: whether every page opens this session, which then stays when all are closed.
        key: identifies the session to a page that is reloaded; hard to guess.
        people: who is before the pages, if it is shared.
    """

    runs: Runs
    shown: Run
    shared: bool = False
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    people: People = field(default_factory=People)
    _pages: set[object] = field(default_factory=set)
    _expected: set[object] = field(default_factory=set)  # sent to browsers that load them
    _last_closed: float = field(default_factory=time.monotonic)
    _resting: tuple[Run, ...] = ()  # paused because all pages were gone

    def expect(self, page: object) -> None:
        """Keep the session for a page that is sent to a browser."""
        self._expected.add(page)

    def connect(self, page: object) -> None:
        """Count a page that shows this session; searches go on that rested without one."""
        self._expected.discard(page)
        self._pages.add(page)
        resting, self._resting = self._resting, ()
        for run in resting:
            run.session.orders.run()

    def rest(self) -> None:
        """Pause the searches: nobody sees them."""
        running = tuple(run for run in self.runs.all if run.session.orders.now.running)
        self._resting += running
        for run in running:
            run.session.orders.pause()

    def disconnect(self, page: object) -> None:
        """Stop counting a page."""
        if page in self._pages | self._expected:
            self._pages.discard(page)
            self._expected.discard(page)
            self._last_closed = time.monotonic()

    @property
    def pages(self) -> int:
        """Number of pages that show it."""
        return len(self._pages)

    @property
    def abandoned_seconds(self) -> float:
        """Time for which no page has shown it; 0 if that does not matter."""
        waited_for = self.shared or self._pages or self._expected
        return 0.0 if waited_for else time.monotonic() - self._last_closed

    @property
    def used(self) -> bool:
        """Whether something was done in it that would be lost."""
        return any(run.session.snapshot.step for run in self.runs.all)


class BrowserSessions:
    """The browser sessions of one server.

    Attributes:
        keep_seconds: time that a session in which something was done is kept without pages.
    """

    def __init__(self) -> None:
        self.keep_seconds = KEEP_SECONDS
        self._sessions: dict[str, BrowserSession] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> BrowserSession | None:
        """Return the session with a key, if there is one."""
        self.close_abandoned()
        return self._sessions.get(key)

    def holder(self, store: Path, number: int) -> tuple[BrowserSession, Run] | None:
        """Return the session that records a run of a store, and the run there, if there is one."""
        for session in tuple(self._sessions.values()):
            if session.runs.store != store:
                continue
            for run in session.runs.all:
                if run.session.recording.number == number:
                    return session, run
        return None

    def take(self, session: BrowserSession, run: Run) -> None:
        """Take a run from a session that no page shows; without another run it is forgotten."""
        session.runs.release(run)
        rest = session.runs.all
        if rest:
            session.shown = session.shown if session.shown in rest else rest[0]
            return
        with self._lock:
            self._sessions.pop(session.key, None)
        session.runs.close()

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
        """Pause the searches of abandoned sessions, or end them; returns at once."""
        with self._lock:
            left = [
                session
                for session in self._sessions.values()
                if session.abandoned_seconds > RELOAD_GRACE_SECONDS
            ]
            left.sort(key=lambda session: session.abandoned_seconds)
            used = [s for s in left if s.used and s.abandoned_seconds <= self.keep_seconds]
            kept = used[:MAX_KEPT]
            ended = [session for session in left if session not in kept]
            for session in ended:
                del self._sessions[session.key]
        for session in kept:
            session.rest()
        for session in ended:
            session.runs.close()


BROWSER_SESSIONS = BrowserSessions()
"""Those of this process: ``panel serve`` runs a page's script anew for each page."""
