"""Run store: many runs in one SQLite file, recorded as they go and resumed bit for bit.

::

    evolver.run(10_000, store="runs.db")             # or: with m2n2lab.store.record(evolver, …):
    evolver = m2n2lab.Evolver.resume("runs.db")      # after a crash, on another day
    m2n2lab.store.replay("runs.db", step=500)        # the archive as it was
    m2n2lab.store.branch("runs.db", step=500)        # an evolver that goes on from there
    m2n2lab.store.check("runs.db")                   # whether all of it is as it was recorded
    m2n2lab.store.backup("runs.db", "copy.db")       # also while it is written to

One process writes, any number read meanwhile. Genomes are kept of current members; of past ones
the scores and the proposals are kept, which is enough to breed them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2n2lab.utils.lazy import lazy_names

if TYPE_CHECKING:
    from m2n2lab.core.records import Stored
    from m2n2lab.store.catalog import Run, runs, steps
    from m2n2lab.store.export import told, whole_history
    from m2n2lab.store.integrity import CheckedRun, CheckedStore, backup, check
    from m2n2lab.store.reader import past, replay
    from m2n2lab.store.recorder import Recorder, record
    from m2n2lab.store.restore import branch, resume
    from m2n2lab.store.schema import StoreError

# Loaded when they are first used: listing the runs of a store needs neither NumPy nor torch.
_HOMES = {
    "CheckedRun": "m2n2lab.store.integrity",
    "CheckedStore": "m2n2lab.store.integrity",
    "Recorder": "m2n2lab.store.recorder",
    "Run": "m2n2lab.store.catalog",
    "StoreError": "m2n2lab.store.schema",
    "Stored": "m2n2lab.core.records",
    "backup": "m2n2lab.store.integrity",
    "branch": "m2n2lab.store.restore",
    "check": "m2n2lab.store.integrity",
    "past": "m2n2lab.store.reader",
    "record": "m2n2lab.store.recorder",
    "replay": "m2n2lab.store.reader",
    "resume": "m2n2lab.store.restore",
    "runs": "m2n2lab.store.catalog",
    "steps": "m2n2lab.store.catalog",
    "told": "m2n2lab.store.export",
    "whole_history": "m2n2lab.store.export",
}

__all__ = [
    "CheckedRun",
    "CheckedStore",
    "Recorder",
    "Run",
    "StoreError",
    "Stored",
    "backup",
    "branch",
    "check",
    "past",
    "record",
    "replay",
    "resume",
    "runs",
    "steps",
    "told",
    "whole_history",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
