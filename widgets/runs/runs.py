"""Runs: the searches of one browser session, side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2n2lab.config.settings import Settings
from m2n2lab.utils.concurrency.allowance import Allowance
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

RUNS_PER_SECOND, RUNS_AT_ONCE = 0.5, 12.0
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
        stored: number of the run of the store that it was opened from; ``None`` if it was not.
        name: a person's name for it.
        began: when it was put on the page, in seconds since the epoch.
    """

    number: int
    settings: Settings
    session: Session
    origin: tuple[int, int] | None = None
    stored: int | None = None
    name: str = ""
    began: float = field(default_factory=time.time)

    @property
    def title(self) -> str:
        """The name or, without one, a short label of the search."""
        return self.name or self.label

    @property
    def label(self) -> str:
        """A short label of the search."""
        return titled(self.settings, self.origin)

    @property
    def unrecorded(self) -> int:
        """Number of steps that end with it."""
        recording, step = self.session.recording, self.session.snapshot.step
        return 0 if recording.kept else max(step - (recording.first or 0), 0)


@dataclass
class Runs:
    """Searches that are watched and compared together; pages read ``all`` and give orders.

    Attributes:
        tasks: made already, by their names in settings, to be shared by runs.
        store: where all are recorded; by default each in a temporary file that ends with it.
        recorded: whether runs are recorded.
        build: makes the evolver of one run, on a task that is made already, if any.
        executor: makes the workers of one run, if children are not scored in its own thread.
        output: the folder into which models are saved; by default none is.
        all: the runs, the oldest first; replaced as a whole.
        replaced: the run that was replaced last, paused, and the one in its place.
        removed: the run that was removed last, if that can be undone, and its place among others.
        labels: fields of labels (see ``store.labels``) of runs that are not in the store, by the
            runs' numbers.
    """

    tasks: Mapping[str, Task] = field(default_factory=dict)
    store: Path | None = None
    recorded: bool = True
    build: Callable[[Settings, Task | None], Evolver] = build_shared
    executor: Callable[[Settings], Crew | None] = no_workers
    output: Path | None = None
    all: tuple[Run, ...] = ()
    replaced: tuple[Run, Run] | None = None
    removed: tuple[Run, int] | None = None
    labels: dict[int, dict[str, Any]] = field(default_factory=dict)
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

    def open(self, number: int, settings: Settings, name: str = "", copy: bool = False) -> Run:
        """Add a run of the store, which goes on where it ended.

        Args:
            number: of the run in the store.
            settings: that it was begun with, as far as they are known.
            name: a person's name for it.
            copy: leave the run as it is, and record a new one that branches from its end.

        Raises:
            InputError: there is no store, or there are ``MAX_RUNS`` already.
        """
        with self._lock:
            self._check_room()
            if self.store is None:
                raise InputError("Runs must be recorded to be opened, got no store; give --store.")
            make = partial(_restored, self.store, number, copy)
            run = self._make(settings, make, stored=number, name=name)
            self.all = (*self.all, run)
        return run

    def adopt(self, run: Run) -> Run:
        """Add a run that another browser session has given up, and return it.

        Raises:
            InputError: there are ``MAX_RUNS`` already.
        """
        with self._lock:
            self._check_room()
            self._count += 1
            own = replace(run, number=self._count, origin=None)
            self.all = (*self.all, own)
        return own

    def release(self, run: Run) -> None:
        """Give a run up without ending it: another browser session adopts it."""
        with self._lock:
            self.all = tuple(each for each in self.all if each is not run)

    def rename(self, run: Run, name: str) -> Run:
        """Give a run another name; returns it as it is now."""
        with self._lock:
            named = replace(run, name=name)
            self.all = tuple(named if each is run else each for each in self.all)
            if self.replaced is not None and self.replaced[1] is run:
                self.replaced = self.replaced[0], named
        return named

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
        stored: int | None = None,
        name: str = "",
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
        title = name or titled(settings, origin)
        make = make or partial(self.build, settings, self.tasks.get(settings.task))
        record, executor = partial(self._record, settings, title), partial(self.executor, settings)
        session = Session(
            make, title, settings.threads, record=record, executor=executor, output=self.output
        )
        run = Run(self._count, settings, session, origin, stored, name)
        if self._started:
            session.start()
        return run

    def _record(self, settings: Settings, title: str, evolver: Evolver) -> RunRecorder | str:
        """Start to record a search, in its worker."""
        if not self.recorded:
            return not_recorded(evolver)
        from ..session.run_recorder import start_recorder  # imports SQLite: not needed before

        return start_recorder(evolver, title, self.store, settings.to_json())

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
        if old.stored is not None and self.store is not None:
            make = partial(_restored, self.store, old.stored, copy=True, again=True)
            with self._lock:
                run = self._make(old.settings, make, stored=old.stored)
                self._replace(old, run)
            return run
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

    def remove(self, run: Run, undoable: bool = False) -> None:
        """End and remove a run; the last one stays.

        Args:
            run: the run.
            undoable: it only pauses, for ``undo_remove``, until another one is removed.
        """
        with self._lock:
            if len(self.all) < 2 or run not in self.all:
                return
            self._forget_removed()
            if undoable:
                self.removed = run, self.all.index(run)
            self.all = tuple(each for each in self.all if each is not run)
            if self.replaced is not None and self.replaced[1] is run:
                self._forget_replaced()
        if undoable:
            run.session.orders.pause()
        else:
            run.session.close()

    def undo_remove(self) -> Run | None:
        """Put the run that was removed last in its place again; returns it, if there is one.

        Raises:
            InputError: there are ``MAX_RUNS`` already.
        """
        with self._lock:
            if self.removed is None:
                return None
            self._check_room()
            run, place = self.removed
            self.removed = None
            self.all = (*self.all[:place], run, *self.all[place:])
        return run

    def _forget_removed(self) -> None:
        if self.removed is not None:
            self.removed[0].session.close()
            self.removed = None

    def close(self) -> None:
        """End all runs; returns at once."""
        self._forget_replaced()
        self._forget_removed()
        for run in self.all:
            run.session.close()


def titled(settings: Settings, origin: tuple[int, int] | None) -> str:
    """Return a short label of a search, with the run and the step that it branched from, if any."""
    branched = f" · from run {origin[0]}, step {origin[1]:,}" if origin else ""
    return settings.title + branched


CLOSING_SECONDS = 10.0
"""Most time that a run of the store is waited for, which has just been closed."""


def _restored(store: Path, number: int, copy: bool, again: bool = False) -> Evolver:
    """Return the evolver of a run of a store.

    Args:
        store, number: the run.
        copy: the evolver is recorded as a new run, not as the same.
        again: begin where the run begins, not where it ends.

    Raises:
        StoreError: it cannot be restored.
    """
    from m2n2lab.store import branch, resume, steps
    from m2n2lab.store.writer import is_recorded

    if copy:
        return branch(store, number, steps(store, number)[0] if again else None)
    until = time.monotonic() + CLOSING_SECONDS
    while is_recorded(store, number) and time.monotonic() < until:
        time.sleep(0.05)
    return resume(store, number)


def _refuse(error: InputError) -> Evolver:
    raise error
