"""Workers in this thread, whose answers and whose ends are known beforehand."""

from collections import deque

import numpy as np

from m2n2lab.executors import Crew
from m2n2lab.executors.worker import Lost, Worker


class Scripted(Crew):
    """Workers in this thread that answer in a shuffled order, and fail when they are told to.

    Args:
        script: for each job what becomes of it: ``None`` to score it, a ``Lost``, or what is
            answered instead of its scores.
        starts: for each start the same.
    """

    def __init__(self, workers=3, script=(), starts=(), timeout=None):
        super().__init__(workers, timeout, 1)
        self.script, self.starts = deque(script), deque(starts)
        self.ends = {}
        self.waiting = {}
        self.draw = np.random.default_rng(0)

    def _start(self, worker, packed):
        self.ends[worker] = Worker(packed, 1)
        found = self.starts.popleft() if self.starts else None
        self.waiting[worker] = found or self.ends[worker].ready()

    def _send(self, worker, job):
        found = self.script.popleft() if self.script else None
        self.waiting[worker] = self.ends[worker].score(job) if found is None else found

    def _wait(self, timeout):
        worker = self.draw.choice(sorted(self.waiting)) if self.waiting else None
        return [] if worker is None else [(int(worker), self.waiting.pop(worker))]

    def _kill(self, worker):
        self.ends.pop(worker)
        self.waiting.pop(worker, None)


LOST = Lost("the power went")
