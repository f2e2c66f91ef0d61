"""Checkpoints on disk: opened by their headers, merged at memory speed, saved with a recipe."""

from m2n2lab.checkpoint.as_adapter import save_as_adapter
from m2n2lab.checkpoint.checks.preflight import Preflight, preflight
from m2n2lab.checkpoint.from_record import rebuild
from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.checkpoint.space import CheckpointSpace

__all__ = [
    "Checkpoint",
    "CheckpointSpace",
    "Preflight",
    "Problem",
    "Problems",
    "preflight",
    "rebuild",
    "save_as_adapter",
]
