"""Many runs in one SQLite file: recorded as they go, taken up again to the last bit.

::

    evolver.run(10_000, store="runs.db")             # or: with m2n2lab.store.record(evolver, …):
    evolver = m2n2lab.Evolver.resume("runs.db")      # after a crash, on another day
    m2n2lab.store.replay("runs.db", step=500)        # the archive as it was
    m2n2lab.store.branch("runs.db", step=500)        # an evolver that goes another way from there

One process writes, any number read meanwhile. The genomes of the living are kept; of the dead
there are the scores and how they were bred, which is enough to breed them again.
"""

from m2n2lab.store.reading import Run, replay, runs, steps
from m2n2lab.store.recorder import Recorder, Stored
from m2n2lab.store.resuming import branch, resume
from m2n2lab.store.schema import StoreError
from m2n2lab.store.telling import told, whole_history

record = Recorder
"""Record a search in a ``with`` statement (see ``Recorder``)."""

__all__ = [
    "Recorder",
    "Run",
    "StoreError",
    "Stored",
    "branch",
    "record",
    "replay",
    "resume",
    "runs",
    "steps",
    "told",
    "whole_history",
]
