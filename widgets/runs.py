"""The searches of one desk, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from m2n2lab.errors import InputError
from m2n2lab.settings import Settings

from .session import Session

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.tasks.base import Task

MOST_RUNS = 8
"""Searches that a desk holds."""


@dataclass(frozen=True, eq=False)
class Run:
    """One search.

    Attributes:
        number: counted from 1 on its desk and never given twice.
        settings: how it is made.
        session: its worker.
    """

    number: int
    settings: Settings
    session: Session


@dataclass
class Runs:
    """Searches that are watched and compared together; pages read ``all`` and give orders.

    Attributes:
        tasks: made before, by the name that settings have for them, to be shared by runs.
        all: the runs, the oldest first; replaced as a whole.
    """

    tasks: Mapping[str, Task] = field(default_factory=dict)
    all: tuple[Run, ...] = ()
    _count: int = 0
    _started: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self, attended: bool = True) -> None:
        """Start the workers: only once somebody comes (see ``Session.start``)."""
        with self._lock:
            self._started = True
            for run in self.all:
                run.session.start(attended)

    def add(self, settings: Settings, error: InputError | None = None) -> Run:
        """Make one more run.

        Args:
            settings: how.
            error: why it cannot be made, if that is known already; its page then says so.

        Raises:
            InputError: there are ``MOST_RUNS`` already.
        """
        with self._lock:
            if len(self.all) >= MOST_RUNS:
                raise InputError(
                    f"A page holds at most {MOST_RUNS} runs, and {len(self.all)} are there; "
                    f"remove one first."
                )
            run = self._make(settings, error)
            self.all = (*self.all, run)
        return run

    def _make(self, settings: Settings, error: InputError | None = None) -> Run:
        self._count += 1
        make: Callable[[], Evolver] = partial(settings.make, self.tasks.get(settings.task))
        if error is not None:
            make = partial(_refuse, error)
        run = Run(self._count, settings, Session(make, settings.title, settings.threads))
        if self._started:
            run.session.start()
        return run

    def renew(self, old: Run, settings: Settings) -> Run:
        """Put a new run in the place of an old one, which ends; returns it."""
        with self._lock:
            run = self._make(settings)
            if old in self.all:
                self.all = tuple(run if each is old else each for each in self.all)
            else:  # somebody else has removed it meanwhile
                self.all = (*self.all, run)
        old.session.close()
        return run

    def remove(self, run: Run) -> None:
        """End a run and forget it; the last one stays."""
        with self._lock:
            if len(self.all) < 2 or run not in self.all:
                return
            self.all = tuple(each for each in self.all if each is not run)
        run.session.close()

    def close(self) -> None:
        """End all runs; returns at once."""
        for run in self.all:
            run.session.close()


def _refuse(error: InputError) -> Evolver:
    raise error
