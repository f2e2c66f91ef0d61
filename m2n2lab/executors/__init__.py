"""Executors: evaluations in worker processes or on Ray; without one they run in this thread.

Workers are asked asynchronously: each gets the next proposal as soon as it is free, and children
are told in the order in which they arrive. There are no generations to wait for.

Modules, each above those before it: ``worker`` scores genomes; ``pool`` starts workers, sends jobs
and waits for results; ``replay`` records in which order children were told; ``dispatch`` keeps the
proposals in flight; ``base`` joins them to an executor; ``process_executor`` and ``ray_executor``
say what a worker is.
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
