"""What a session keeps of its search, so that a page can look back, and branch from there."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

import numpy as np

from m2n2lab.analysis.maps import AttractionData, NichesData, attraction_data, niches_data
from m2n2lab.core.history import COLUMNS
from m2n2lab.store import Recorder, StoreError, branch, replay
from m2n2lab.store.writer import in_use
from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

log = logging.getLogger("m2n2lab")

LIVED_OVER = 1_000
"""Children of which the share that lived is told."""


PREFIX, FILE = "m2n2lab-tape-", "run.db"
"""What temporary recordings are called: the folder, and the store in it."""

YOUNG = 60.0
"""Seconds in which a folder may still wait for the store to be made in it."""


def sweep() -> int:
    """Remove temporary recordings of processes that were killed; returns how many.

    Whoever records holds the store's lock, which ends with its process.
    """
    swept = 0
    for folder in Path(gettempdir()).glob(f"{PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime > YOUNG and not in_use(folder / FILE):
                shutil.rmtree(folder)
                swept += 1
        except OSError:  # of somebody else, or just gone
            continue
    return swept


@dataclass(frozen=True)
class Past:
    """The archive as it was after a step; its fields are those of a ``Snapshot`` of then."""

    step: int
    accepted: float
    best: int
    train: float
    test: float
    mean: float
    coverage: float
    size: int
    niches: NichesData
    attraction: AttractionData


class Tape:
    """A recording of one search: in the user's own store, or in a file that ends with the tape.

    Args:
        evolver: the search, from how it stands now.
        title: what to call the run.
        store: the user's own; ``None`` for a temporary one.

    Raises:
        StoreError: the store cannot be written.
        InputError: models that cannot be stored.
    """

    def __init__(self, evolver: Evolver, title: str, store: Path | None = None) -> None:
        self._evolver = evolver
        self._folder: TemporaryDirectory[str] | None = None
        if store is None:
            self._folder = TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
            store = Path(self._folder.name, FILE)
        came = evolver.stored
        self.first = evolver.generation
        self._test = evolver.test  # of the members before the first step nobody else keeps it
        try:
            self._recorder = Recorder(evolver, store, title)
        except BaseException:
            self._remove()
            raise
        if self._folder is not None:
            evolver.stored = came  # nobody can go on from what will be removed

    @property
    def path(self) -> Path:
        """The store."""
        return self._recorder.path

    @property
    def run(self) -> int:
        """The number of the run in it."""
        return self._recorder.run

    @property
    def last(self) -> int:
        """The step that the search has come to."""
        return self._evolver.generation

    def look(self, step: int) -> Past:
        """Return the archive as it was after a step; nothing is evaluated.

        Raises:
            StoreError: what waits cannot be written, or no such step.
        """
        self._recorder.flush()
        archive, evolver = replay(self.path, self.run, step), self._evolver
        last = step - evolver.generation + len(evolver.records)  # rows up to that step
        rows = evolver.records.table(max(last - LIVED_OVER, 0), last)
        lived = rows[:, COLUMNS.index("accepted")]
        return Past(
            step=step,
            accepted=float(lived.mean()) if len(lived) else float("nan"),
            best=archive.best.id,
            train=archive.best.score,
            test=float(rows[-1, COLUMNS.index("test")]) if len(rows) else self._test,
            mean=float(np.mean([member.score for member in archive.members])),
            coverage=archive.coverage,
            size=archive.size,
            niches=niches_data(archive, evolver.task),
            attraction=attraction_data(archive, evolver.task),
        )

    def branch(self, step: int) -> Evolver:
        """Return an evolver as the search was after a step; may be called in any thread.

        Raises:
            StoreError: as ``look``; or the run cannot be taken up again there.
        """
        self._recorder.flush()
        return branch(self.path, self.run, step, task=self._evolver.task)

    def close(self) -> None:
        """Write what waits, and let go of the store; a temporary one is removed."""
        try:
            self._recorder.close()
        except StoreError as error:
            if self._folder is None:
                log.error("The last steps of run %d are not recorded: %s", self.run, error)
        self._remove()

    def _remove(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def taped(evolver: Evolver, title: str, store: Path | None = None) -> Tape | str:
    """Return a tape, or why there is none: a search that cannot be recorded goes on without.

    Raises:
        StoreError: the user's own store cannot be written.
    """
    try:
        return Tape(evolver, title, store)
    except (InputError, OSError) as error:
        if store is not None and isinstance(error, StoreError):
            raise
        return str(error)
