"""Arguments of a search, checked where a person may give something else."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from m2n2lab.core.records import Proposal
from m2n2lab.core.scores import as_scores
from m2n2lab.core.spaces.space import Space
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Array
from m2n2lab.utils.errors import InputError, described, whole_number

SEED_BITS = 53
"""Bits of a drawn seed: a number that JSON and a double hold exactly."""


def checked_task(task: Any, seeds: Any) -> Task:
    """Return ``task``, checked to be one and not to be swapped with the seeds.

    Raises:
        InputError: it is no task.
    """
    if isinstance(task, Task):
        return task
    if isinstance(seeds, Task):
        advice = "give the task first and the seeds second"
    elif callable(task) and not hasattr(task, "parameters"):
        advice = (
            "make one of a function with m2n2lab.tasks.from_function(function, points=number of "
            "data points)"
        )
    else:
        advice = "make one with m2n2lab.tasks, such as tasks.from_function(function, points=100)"
    raise InputError(f"task must be a Task, got {described(task)}; {advice}.")


def checked_space(task: Task, seeds: Any, device: str | None) -> Space:
    """Return the space of a search: ``seeds`` itself, or the one that the task makes of them.

    Raises:
        InputError: the seeds cannot be merged, or the device is that of a given space.
    """
    if not isinstance(seeds, Space):
        space = task.space(seeds) if device is None else task.space(seeds, device=device)
    elif device is None:
        space = seeds
    else:
        raise InputError(
            f"device must be given to the space, got device={device!r} beside a "
            f"{type(seeds).__name__}; make the space with it: {type(seeds).__name__}(…, "
            f"device={device!r})."
        )
    return space


def known_scores(known: Any, seeds: int, points: int) -> Array | None:
    """Return the known scores (K, D) of the seeds, or ``None`` if they are to be evaluated.

    Raises:
        InputError: there is not one score for each seed and data point.
    """
    if known is None:
        return None
    scores = as_scores(known)
    if scores.shape != (seeds, points):
        raise InputError(
            f"known must be the scores of all seeds, shape ({seeds}, {points}) for {seeds} seeds "
            f"and {points} data points, got {described(known)} with shape {scores.shape}; give "
            f"all, or leave known out."
        )
    return scores


def drawn_seed(rng: Any) -> int:
    """Return the seed of a search: a number, or one drawn from a generator or the system.

    Args:
        rng: an integer >= 0; a NumPy ``Generator``, from which a seed is drawn; or ``None`` for
            another seed each time.

    Raises:
        InputError: it is anything else.
    """
    if rng is None:
        return secrets.randbits(SEED_BITS)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(1 << SEED_BITS))
    return whole_number("rng", rng, 0)


def checked_proposal(proposal: Any) -> Proposal:
    """Return ``proposal``, checked to be one.

    Raises:
        InputError: it is anything else.
    """
    if not isinstance(proposal, Proposal):
        raise InputError(
            f"A child must be given as a Proposal, got {described(proposal)}; ask() returns one, "
            f"and tell(model) takes a model that was never proposed."
        )
    return proposal


def checked_executor(executor: Any) -> Any:
    """Return ``executor``, checked to be one, or ``None``.

    Raises:
        InputError: it is anything else.
    """
    if executor is not None and (
        isinstance(executor, type) or not callable(getattr(executor, "run", None))
    ):
        raise InputError(
            f"executor must be an executor, got {described(executor)}; give for example "
            f"executor=m2n2lab.ProcessExecutor(workers=2)."
        )
    return executor
