"""What runs at the other end: one live model, and the task that scores it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from m2n2lab.errors import InputError
from m2n2lab.spaces import Space
from m2n2lab.tasks.base import Indices, Task


class EvaluationError(RuntimeError):
    """A task or a space raised while a worker scored a child."""


class Job(NamedTuple):
    """What a worker is asked.

    Attributes:
        genome: the packed genome to score, or ``None`` for the one it had last.
        indices: (n,) data points, or ``None`` for all.
    """

    genome: Any
    indices: Indices | None


@dataclass(frozen=True)
class Failure:
    """An exception as text: its own class may not exist at the other end.

    Attributes:
        kind: name of its class.
        words: what it said.
        trace: its traceback.
        refused: whether it was an ``InputError``.
    """

    kind: str
    words: str
    trace: str
    refused: bool

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return an exception as text; called where it was caught."""
        words = str(error)
        return cls(
            type(error).__name__, words, traceback.format_exc(), isinstance(error, InputError)
        )

    def error(self, while_: str) -> Exception:
        """Return what to raise here."""
        if self.refused:
            return InputError(self.words)
        return EvaluationError(
            f"{while_} raised {self.kind}: {self.words or 'nothing said'}; mend that and go on.\n"
            f"{self.trace}"
        )


@dataclass(frozen=True)
class Lost:
    """A worker that will not answer any more, and why."""

    reason: str


Result = NDArray[Any] | Failure | Lost | None
"""What comes from a worker: scores, a failure, its end, or ``None`` once it is ready."""


def pack(task: Task, space: Space) -> bytes:
    """Return a task and a space for workers of our own; checkpoints go as their paths.

    Raises:
        InputError: they cannot be sent.
    """
    try:
        return bytes(cloudpickle.dumps((task, space)))
    except Exception as error:
        raise InputError(
            f"Task {task.name!r} and its models must be sent to workers, but that failed "
            f"({type(error).__name__}: {error}); keep open files, locks and connections out of the "
            f"task, or run without an executor."
        ) from error


class Worker:
    """Scores the genomes that it is sent.

    Args:
        packed: what ``pack`` gave.
        threads: torch threads.
    """

    def __init__(self, packed: bytes, threads: int) -> None:
        self._packed, self._threads = packed, threads
        self._model: Any = None

    def ready(self) -> Failure | None:
        """Open the task and the space; returns what failed."""
        try:
            import torch

            torch.set_num_threads(self._threads)
            self._task: Task
            self._space: Space
            self._task, self._space = cloudpickle.loads(self._packed)
            self._packed = b""
        except Exception as error:
            return Failure.of(error)
        return None

    def score(self, job: Job) -> NDArray[Any] | Failure:
        """Return the scores of a job."""
        try:
            if job.genome is not None:
                self._model = self._space.materialise(self._space.genome(job.genome))
            # A copy: what the task returns may be memory that it uses again.
            return np.array(self._task.evaluate(self._model, job.indices))
        except Exception as error:
            return Failure.of(error)
