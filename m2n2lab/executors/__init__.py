"""Executors: evaluations in worker processes or on Ray; without one they run in this thread.

Workers run asynchronously: each gets the next proposal as soon as it is free, and the evolver is
told each child when its scores arrive. There are no generations to wait for.

Modules, each above those before it: ``worker`` scores genomes; ``pool`` starts workers, sends jobs
and waits for results; ``replay`` records the order of asking and telling; ``dispatch`` keeps the
proposals in flight; ``base`` joins them to an executor; ``process_executor`` and ``ray_executor``
implement workers as processes and as Ray actors.
"""

from m2n2lab.executors.base import Crew
from m2n2lab.executors.dispatch import Skipped
from m2n2lab.executors.process_executor import ProcessExecutor
from m2n2lab.executors.ray_executor import RayExecutor
from m2n2lab.executors.replay import Arrivals, Replayed
from m2n2lab.executors.worker import EvaluationError

__all__ = [
    "Arrivals",
    "Crew",
    "EvaluationError",
    "ProcessExecutor",
    "RayExecutor",
    "Replayed",
    "Skipped",
]
