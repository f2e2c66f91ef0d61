"""Run recorder: what a session keeps of its search, so that a page can look back and branch."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

import numpy as np

from m2n2lab.analysis.lineage import seed_names
from m2n2lab.analysis.maps import attraction_data, niches_data
from m2n2lab.core.history import COLUMNS
from m2n2lab.store import Recorder, StoreError, branch, past, replay
from m2n2lab.store.specs import EvolverSpec
from m2n2lab.store.writer import in_use
from m2n2lab.utils.errors import InputError

from .snapshot import ACCEPTANCE_WINDOW_CHILDREN, Past

if TYPE_CHECKING:
    from m2n2lab.core.archive import Archive
    from m2n2lab.core.evolver import Evolver

log = logging.getLogger("m2n2lab")

FOLDER_PREFIX, STORE_NAME = "m2n2lab-tape-", "run.db"
"""Names of a temporary recording: the start of its folder's, and the store in it."""

STORE_CREATION_SECONDS = 60.0
"""Time in which the store may still be missing from its folder."""


def remove_orphans() -> int:
    """Remove temporary recordings of killed processes; returns how many.

    A recording process holds the store's lock, which ends with it.
    """
    removed = 0
    for folder in Path(gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        try:
            age = time.time() - folder.stat().st_mtime
            if age > STORE_CREATION_SECONDS and not in_use(folder / STORE_NAME):
                shutil.rmtree(folder)
                removed += 1
        except OSError:  # another user's, or just removed
            continue
    return removed


class RunRecorder:
    """Records one search, in the user's own store or in a temporary one that ends with it.

    Args:
        evolver: the search, recorded from its current step on.
        title: what to call the run.
        store: the user's own, where a run begins with its first step; ``None`` for a temporary
            one.
        settings: JSON of the settings that the search was made from.

    Raises:
        StoreError: the store cannot be written.
        InputError: models that cannot be stored.
    """

    def __init__(
        self, evolver: Evolver, title: str, store: Path | None = None, settings: str = ""
    ) -> None:
        self._evolver = evolver
        self._folder: TemporaryDirectory[str] | None = None
        if store is None:
            self._folder = TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True)
            store = Path(self._folder.name, STORE_NAME)
        stored = evolver.stored
        self._test = evolver.test  # kept nowhere else for the members before the first step
        try:
            own = self._folder is None
            self._recorder = Recorder(evolver, store, title, empty=not own, settings=settings)
        except BaseException:
            self._remove()
            raise
        self.first = self._recorder.start
        if self._folder is not None:
            evolver.stored = stored  # a store that will be removed cannot be resumed

    @property
    def path(self) -> Path:
        """The store."""
        return self._recorder.path

    @property
    def run(self) -> int:
        """Number of the run in the store."""
        return self._recorder.run

    @property
    def number(self) -> int | None:
        """Number of the run in the user's own store; ``None`` before its first step or without."""
        return self._recorder.number if self._folder is None else None

    @property
    def kept(self) -> bool:
        """Whether what is recorded outlives the search."""
        return self._folder is None

    @property
    def last(self) -> int:
        """Last step of the search so far."""
        return self._evolver.generation

    def past(self, step: int) -> Past:
        """Return the archive as it was after a step; nothing is evaluated.

        Raises:
            StoreError: the last steps cannot be written, or there is no such step.
        """
        self._recorder.flush()
        archive, evolver = replay(self.path, self.run, step), self._evolver
        last = step - evolver.generation + len(evolver.records)  # rows up to that step
        seeds = seed_names(evolver.space)
        rows = evolver.records.table(max(last - ACCEPTANCE_WINDOW_CHILDREN, 0), last)
        accepted = rows[:, COLUMNS.index("accepted")]
        return Past(
            step=step,
            accepted=float(accepted.mean()) if len(accepted) else float("nan"),
            best=archive.best.id,
            train=archive.best.score,
            test=float(rows[-1, COLUMNS.index("test")]) if len(rows) else self._test,
            mean=float(np.mean([member.score for member in archive.members])),
            coverage=archive.coverage,
            size=archive.size,
            niches=niches_data(archive, evolver.task, seeds),
            attraction=attraction_data(archive, evolver.task, seeds),
        )

    def archives(self) -> list[tuple[int, Archive]]:
        """Return up to 200 recorded steps and the archives after them; none if they are lost.

        May be called in any thread.
        """
        try:
            self._recorder.flush()
            return [*past(self.path, self.run)]
        except StoreError as error:
            log.warning("The past of run %d cannot be exported: %s", self.run, error)
            return []

    def branch(self, step: int) -> Evolver:
        """Return an evolver as the search was after a step; may be called in any thread.

        Raises:
            StoreError: as ``past``, or the run cannot be resumed there.
        """
        self._recorder.flush()
        evolver = self._evolver
        missing = EvolverSpec.of(evolver).missing
        options = {name: evolver.options[name] for name in missing if name in evolver.options}
        return branch(
            self.path, self.run, step, task=evolver.task, kind=type(evolver), options=options
        )

    def close(self) -> None:
        """Write the last steps and close the store; a temporary one is removed."""
        try:
            self._recorder.close()
        except StoreError as error:
            if self._folder is None:
                log.error("The last steps of run %d are not recorded: %s", self.run, error)
        self._remove()

    def _remove(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def start_recorder(
    evolver: Evolver, title: str, store: Path | None = None, settings: str = ""
) -> RunRecorder | str:
    """Return a recorder, or why there is none: a search that cannot be recorded goes on without.

    Raises:
        StoreError: the user's own store cannot be written.
    """
    try:
        return RunRecorder(evolver, title, store, settings)
    except (InputError, OSError) as error:
        if store is not None and isinstance(error, StoreError):
            raise
        return str(error)
