"""Runs: the searches of one browser session, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from m2n2lab.config.settings import Settings
from m2n2lab.utils.allowance import Allowance
from m2n2lab.utils.errors import InputError

from ..session.recording import not_recorded
from ..session.session import Session
from ..session.shutdown import searching
from ..session.stepper import no_workers
from .shared_models import build_shared

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.task import Task
    from m2n2lab.executors import Crew

    from ..session.run_recorder import RunRecorder

MAX_RUNS = 8
"""Searches that a browser session holds."""

MAX_SEARCHES = 256
"""Searches that this process holds: each has a thread."""

RUNS_PER_SECOND, RUNS_AT_ONCE = 0.5, 5.0
"""Searches that a browser session may begin in the long run, and after a rest: each takes a part
of a second to begin, in which others wait."""


@dataclass(frozen=True, eq=False)
class Run:
    """One search.

    Attributes:
        number: counted from 1 in its browser session; never reused.
        settings: of its search.
        session: its worker.
        origin: number of the run that it branched from, and the step; ``None`` if it did not.
    """

    number: int
    settings: Settings
    session: Session
    origin: tuple[int, int] | None = None

    @property
    def title(self) -> str:
        """A short label of the search."""
        return titled(self.settings, self.origin)


@dataclass
class Runs:
    """Searches that are watched and compared together; pages read ``all`` and give orders.

    Attributes:
        tasks: made already, by their names in settings, to be shared by runs.
        store: where all are recorded; by default each in a temporary file that ends with it.
        recorded: whether runs are recorded.
        build: makes the evolver of one run, on a task that is made already, if any.
        executor: makes the workers of one run, if children are not scored in its own thread.
        all: the runs, the oldest first; replaced as a whole.
        replaced: the run that was replaced last, paused, and the one in its place.
    """

    tasks: Mapping[str, Task] = field(default_factory=dict)
    store: Path | None = None
    recorded: bool = True
    build: Callable[[Settings, Task | None], Evolver] = build_shared
    executor: Callable[[Settings], Crew | None] = no_workers
    all: tuple[Run, ...] = ()
    replaced: tuple[Run, Run] | None = None
    _count: int = 0
    _started: bool = False
    _allowance: Allowance = field(default_factory=lambda: Allowance(RUNS_PER_SECOND, RUNS_AT_ONCE))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self, attended: bool = True) -> None:
        """Start the workers: once a page is opened (see ``Session.start``)."""
        with self._lock:
            self._started = True
            for run in self.all:
                run.session.start(attended)

    def numbered(self, number: int) -> Run | None:
        """Return the run with a number, if there is one."""
        return next((run for run in self.all if run.number == number), None)

    def add(self, settings: Settings, error: InputError | None = None) -> Run:
        """Add a run.

        Args:
            settings: of its search.
            error: why the search cannot be made, if that is known already; the page shows it.

        Raises:
            InputError: there are ``MAX_RUNS`` already.
        """
        with self._lock:
            self._check_room()
            run = self._make(settings, None if error is None else partial(_refuse, error))
            self.all = (*self.all, run)
        return run

    def branch(self, old: Run, step: int) -> Run:
        """Add a run that goes on from the state of an old one after a step.

        Raises:
            InputError: there are ``MAX_RUNS`` already.
        """
        with self._lock:
            self._check_room()
            make = partial(old.session.recording.branch, step)
            run = self._make(old.settings, make, (old.number, step))
            self.all = (*self.all, run)
        return run

    def _check_room(self) -> None:
        if len(self.all) >= MAX_RUNS:
            raise InputError(
                f"A page holds at most {MAX_RUNS} runs, and {len(self.all)} are there; remove one "
                f"first."
            )

    def _make(
        self,
        settings: Settings,
        make: Callable[[], Evolver] | None = None,
        origin: tuple[int, int] | None = None,
    ) -> Run:
        """Make a run, by default from its settings.

        Raises:
            InputError: too many were made just now, or there are too many in all.
        """
        if not self._allowance.try_to_take():
            raise InputError(
                f"A page begins at most {RUNS_AT_ONCE:g} searches at once, and then one every "
                f"{1 / RUNS_PER_SECOND:g} seconds; "
                f"wait a moment, and try again."
            )
        if searching() >= MAX_SEARCHES:
            raise InputError(
                f"This server holds at most {MAX_SEARCHES} searches, and as many are there; remove "
                f"runs, or close pages that nobody looks at."
            )
        self._count += 1
        title = titled(settings, origin)
        make = make or partial(self.build, settings, self.tasks.get(settings.task))
        record, executor = partial(self._record, title), partial(self.executor, settings)
        session = Session(make, title, settings.threads, record=record, executor=executor)
        run = Run(self._count, settings, session, origin)
        if self._started:
            session.start()
        return run

    def _record(self, title: str, evolver: Evolver) -> RunRecorder | str:
        """Start to record a search, in its worker."""
        if not self.recorded:
            return not_recorded(evolver)
        from ..session.run_recorder import start_recorder  # imports SQLite: not needed before

        return start_recorder(evolver, title, self.store)

    def renew(self, old: Run, settings: Settings) -> Run:
        """Replace an old run, which pauses, by a new one; returns that (see ``undo_replace``)."""
        with self._lock:
            run = self._make(settings)
            self._replace(old, run)
        return run

    def undo_replace(self) -> Run | None:
        """Put the run that was replaced last in its place again; returns it, if there is one."""
        with self._lock:
            if self.replaced is None:
                return None
            old, run = self.replaced
            self.replaced = None
            self.all = tuple(old if each is run else each for each in self.all)
        run.session.close()
        return old

    def _forget_replaced(self) -> None:
        if self.replaced is not None:
            self.replaced[0].session.close()
            self.replaced = None

    def _replace(self, old: Run, run: Run) -> None:
        if self.replaced and self.replaced[1] is old and not old.session.snapshot.step:
            # Reset was pressed twice: what is worth having back is the run before.
            old.session.close()
            self.replaced = self.replaced[0], run
        else:
            self._forget_replaced()
            old.session.orders.pause()
            self.replaced = old, run
        if old in self.all:
            self.all = tuple(run if each is old else each for each in self.all)
        else:  # removed on another page meanwhile
            self.all = (*self.all, run)

    def restart(self, old: Run) -> Run:
        """Replace a run, which pauses, by the same search from its beginning; returns that.

        A branched run begins again where it branched, by its own record or, if it failed before it
        had one, by the other's.
        """
        if old.origin is None:
            return self.renew(old, old.settings)

        def again() -> Evolver:
            try:
                return old.session.recording.branch(step)
            except InputError:
                parent = self.numbered(number)
                if parent is None:
                    raise
                return parent.session.recording.branch(step)

        number, step = old.origin
        with self._lock:
            run = self._make(old.settings, again, old.origin)
            self._replace(old, run)
        return run

    def remove(self, run: Run) -> None:
        """End and remove a run; the last one stays."""
        with self._lock:
            if len(self.all) < 2 or run not in self.all:
                return
            self.all = tuple(each for each in self.all if each is not run)
            if self.replaced is not None and self.replaced[1] is run:
                self._forget_replaced()
        run.session.close()

    def close(self) -> None:
        """End all runs; returns at once."""
        self._forget_replaced()
        for run in self.all:
            run.session.close()


def titled(settings: Settings, origin: tuple[int, int] | None) -> str:
    """Return a short label of a search, with the run and the step that it branched from, if any."""
    branched = f" · from run {origin[0]}, step {origin[1]:,}" if origin else ""
    return settings.title + branched


def _refuse(error: InputError) -> Evolver:
    raise error
