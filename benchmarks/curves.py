"""Many searches over all cores, each written down once it is finished and never run again.

Results are tidy CSV files in a folder: one for each way to search, with a row for each step that is
kept of each seed. A search that was cut short leaves nothing and is begun anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings
from m2n2lab.core.evolver import Evolver
from m2n2lab.utils.concurrency.processors import processors
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.files import writable_folder, write_atomically

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("seed", "step", "train", "test", "coverage", "entropy", "seconds")
"""Of a CSV file: ``train`` and ``test`` are the accuracies of the member that is best on the
training data, ``coverage`` the share of data points that some member solves, ``entropy`` in bits a
data point, ``seconds`` of CPU since the search began."""

POINTS = 50
"""Steps of a search that are kept, besides the start."""


class Search(NamedTuple):
    """One run of one way to search.

    Attributes:
        name: of the way to search, and of its file.
        steps: forward passes.
        settings: task, method, seed, options.
        make: makes the evolver of the settings; a function of a module, for it goes to a worker.
        measure: runs it and returns its rows, of which ``step`` is ``steps`` at the end; likewise a
            function of a module. ``measured`` by default.
    """

    name: str
    steps: int
    settings: Settings
    make: Callable[[Settings], Evolver] = build_evolver
    measure: Callable[[Search], pd.DataFrame] | None = None

    @property
    def seed(self) -> int:
        """The seed of everything random in it."""
        return self.settings.seed


def measured(search: Search) -> pd.DataFrame:
    """Run a search in one thread and return its rows."""
    torch.set_num_threads(1)
    evolver, rows, began = search.make(search.settings), [], process_time()
    for step in np.unique(np.linspace(0, search.steps, POINTS + 1).round().astype(int)).tolist():
        evolver.run(step - evolver.generation)
        now = evolver.archive.standing
        taken = process_time() - began
        rows.append((search.seed, step, now.train, evolver.test, now.coverage, now.entropy, taken))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def path(folder: Path, name: str) -> Path:
    """Return where the results of a way to search are."""
    return folder / f"{name}.csv"


def read(folder: Path, name: str) -> pd.DataFrame:
    """Return the rows of a way to search; none where nothing was run yet."""
    file = path(folder, name)
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=list(COLUMNS))


def finished(folder: Path, search: Search) -> bool:
    """Return whether a search was run to the end, with as many steps."""
    rows = read(folder, search.name)
    return bool(rows["step"][rows["seed"] == search.seed].max() == search.steps)


def write(folder: Path, search: Search, rows: pd.DataFrame) -> None:
    """Add the rows of a finished search to its file, in the place of older ones of its seed."""
    old = read(folder, search.name)
    parts = [part for part in (old[old["seed"] != search.seed], rows) if len(part)]
    table = pd.concat(parts).sort_values(["seed", "step"], kind="stable")
    write_atomically(path(folder, search.name), table.to_csv(index=False, float_format="%.5g"))


def gather(
    searches: Sequence[Search], folder: Path, workers: int | None = None, nice: int = 0
) -> None:
    """Run what is not finished yet, the longest first, and write each search when it is.

    Args:
        searches: all that shall be in the folder in the end.
        folder: of the CSV files.
        workers: processes, of one thread each; as many as there are cores by default.
        nice: how far they stand back behind other processes, 0 to 19.

    Raises:
        InputError: the folder cannot be written to, or another process writes to it; searches
            that failed, once all others are finished.
    """
    lock = FileLock(writable_folder(folder) / ".lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{folder} must be written by one process, but another one is at it; wait for it, or "
            f"choose another folder."
        ) from None
    with held:
        left = [search for search in searches if not finished(folder, search)]
        print(f"{len(searches) - len(left)} of {len(searches)} searches are finished", flush=True)
        if left:
            _gather(sorted(left, key=lambda search: -search.steps), folder, workers, nice)


def _gather(left: list[Search], folder: Path, workers: int | None, nice: int) -> None:
    began, failed = perf_counter(), []
    pool = ProcessPoolExecutor(
        min(workers or processors(), len(left)),
        mp_context=get_context("spawn"),  # torch's threads do not survive a fork
        initializer=_stand_back,
        initargs=(nice,),
    )
    try:
        futures: dict[Future[pd.DataFrame], Search] = {
            pool.submit(search.measure or measured, search): search for search in left
        }
        for number, future in enumerate(as_completed(futures), start=1):
            search = futures[future]
            words = f"{search.name}, seed {search.seed}"
            try:
                rows = future.result()
            except BrokenProcessPool:
                raise InputError(
                    f"All workers must live, but one was ended (out of memory?) at {words} or "
                    f"beside it; run the same command again to go on."
                ) from None
            except Exception as error:  # whatever a task raises, the others go on
                failed.append(f"{words} ({type(error).__name__}: {error})")
                continue
            write(folder, search, rows)
            minutes = (perf_counter() - began) / 60
            test = 100 * rows["test"].iloc[-1]
            print(f"{minutes:5.1f} min  {number}/{len(left)}  {words}: {test:.1f} %", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        raise InputError(
            f"Every search must reach its end, but {len(failed)} failed: {'; '.join(failed)}; "
            f"mend it and run the same command again."
        )


def _stand_back(nice: int) -> None:
    if nice and hasattr(os, "nice"):
        os.nice(nice)


def last(folder: Path, name: str, steps: int, column: str = "test") -> list[float]:
    """Return the last value of each seed of a way to search that took so many steps."""
    rows = read(folder, name)
    return [float(value) for value in rows[column][rows["step"] == steps]]
