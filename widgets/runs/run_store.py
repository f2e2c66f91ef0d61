"""Run store: where a server records all runs unless it is told otherwise, and how much it keeps."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from m2n2lab.store.labels import tidy, trim
from m2n2lab.store.schema import StoreError
from m2n2lab.store.writer import Writer

LIMIT_BYTES = 2 * 1024**3
"""Most bytes of recorded runs: beyond, the oldest without a name or a pin are removed."""

MAX_STORES = 100
"""Servers of one user that record at once, each into a store of its own."""

REMOVED: dict[Path, int] = {}
"""Number of runs that were removed from a store since the server started, to be told."""


def runs_folder() -> Path:
    """Return the folder of recorded runs; the variable ``M2N2LAB_RUNS`` moves it."""
    return Path(os.environ.get("M2N2LAB_RUNS") or user_data_path("m2n2lab") / "runs")


def open_run_store() -> Writer:
    """Open the first store of the user's folder that no other process writes to.

    Raises:
        StoreError: none can be written.
    """
    folder = runs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"Runs must be recorded in a folder that can be written to, got {folder}: "
            f"{error.strerror or error}; name another with the variable M2N2LAB_RUNS."
        ) from error
    for number in range(1, MAX_STORES + 1):
        path = folder / ("runs.db" if number == 1 else f"runs-{number}.db")
        try:
            return Writer.open(path)
        except StoreError:
            if number == MAX_STORES:
                raise
    raise AssertionError  # the loop returns or raises


def keep_small(path: Path, limit: int = LIMIT_BYTES) -> int:
    """Remove what a store need not keep; returns how many runs were too many.

    Raises:
        StoreError: the store cannot be written.
    """
    tidy(path)
    gone = len(trim(path, limit))
    if gone:
        REMOVED[path] = REMOVED.get(path, 0) + gone
    return gone
