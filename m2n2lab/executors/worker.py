"""Worker: a task and one live model, which scores genomes that are sent to it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.spaces.space import Space
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import InputError, message_of


class EvaluationError(RuntimeError):
    """A task or a space raised while a worker scored a child."""


class Job(NamedTuple):
    """A request to score a genome.

    Attributes:
        genome: the packed genome to score, or ``None`` for the one it had last.
        indices: (n,) data points, or ``None`` for all.
    """

    genome: Any
    indices: Indices | None


@dataclass(frozen=True)
class Failure:
    """An exception as text, because its class may not exist in the receiving process.

    Attributes:
        class_name: name of its class.
        message: its text.
        trace: its traceback.
        refused: whether it was an ``InputError``.
        bases: full names of its class and that class's bases.
    """

    class_name: str
    message: str
    trace: str
    refused: bool
    bases: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return an exception as text; to be called in its ``except`` block."""
        refused = isinstance(error, InputError)
        bases = tuple(map(_full_name, type(error).__mro__))
        text = message_of(error)
        return cls(type(error).__name__, text, traceback.format_exc(), refused, bases)

    def is_of(self, classes: tuple[type[Exception], ...]) -> bool:
        """Return whether it is of one of these classes, by name: they may be other objects here."""
        return any(_full_name(each) in self.bases for each in classes)

    def error(self, action: str) -> Exception:
        """Return the exception to raise in the receiving process."""
        if self.refused:
            return InputError(self.message)
        return EvaluationError(
            f"{action} raised {self.class_name}: {self.message or 'no message'}; "
            f"fix that and go on.\n{self.trace}"
        )


def _full_name(of: type) -> str:
    return f"{of.__module__}.{of.__qualname__}"


@dataclass(frozen=True)
class Lost:
    """The loss of a worker, and why."""

    reason: str


Result = NDArray[Any] | Failure | Lost | None
"""A message of a worker: scores, a failure, its loss, or ``None`` once it is ready."""


def pack(task: Task, space: Space) -> bytes:
    """Return a task and a space as bytes for workers; checkpoints are sent as their paths.

    Raises:
        InputError: they cannot be pickled.
    """
    try:
        return bytes(cloudpickle.dumps((task, space)))
    except Exception as error:
        raise InputError(
            f"Task {task.name!r} and its models must be sent to workers, but that failed "
            f"({type(error).__name__}: {message_of(error)}); keep open files, locks and "
            f"connections out of the task, or run without an executor."
        ) from error


class Worker:
    """Scores genomes that are sent to it.

    Args:
        packed: the result of ``pack``.
        threads: torch threads.
    """

    def __init__(self, packed: bytes, threads: int) -> None:
        self._packed, self._threads = packed, threads
        self._model: Any = None

    def ready(self) -> Failure | None:
        """Open the task and the space; return a failure, if there was one."""
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
            # A copy: the task may return memory that it uses again.
            return np.array(self._task.evaluate(self._model, job.indices))
        except Exception as error:
            return Failure.of(error)
