"""Where evaluations run: in this thread (no executor), in worker processes, or on Ray.

Workers are asked asynchronously: each gets the next proposal as soon as it is free, and children
are told in the order in which they arrive. There are no generations to wait for.
"""

from m2n2lab.executors.pool import Crew, Skipped
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
