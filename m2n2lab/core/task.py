"""Task: data points and how a model scores on them; and the sum of several tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from m2n2lab.core.spaces.space import DenseSpace, Space
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import InputError, whole_number
from m2n2lab.utils.progress import Watch


@dataclass(frozen=True)
class Sample:
    """One data point and a model's answer, for display.

    Attributes:
        index: the data point; −1 if the sample is not one.
        truth: the expected answer, as text.
        prediction: the model's answer, as text.
        right: whether the answer counts as right.
        image: (H, W) grey or (H, W, 3) picture in [0, 1], or ``None``.
        text: the question as text, or ``None``.
        prompt: the full prompt of a language model, or ``None``.
        answer: its full, unedited answer, or ``None``.
    """

    index: int
    truth: str
    prediction: str
    right: bool
    image: NDArray[np.float32] | None = None
    text: str | None = None
    prompt: str | None = None
    answer: str | None = None


class Task:
    """Data points that models are scored on; names, groups, samples and held-out data are optional.

    Subclasses override ``score`` and, as far as they can, the other methods; ``from_function``
    makes a task of one function.

    Args:
        points: D, number of data points.
        name: name of the task in views.
        graded: whether scores are graded in [0, 1] rather than right or wrong.
        classes: names of the groups of data points.
        groups: (D,) index into ``classes`` for each data point; all 0 by default.
        names: (D,) names of the data points; their numbers by default.

    Attributes:
        shares: (D,) weight of each data point, 1 on average; ``None`` for equal weights.
        top: the highest score that a data point can get.
        origin: arguments with which ``tasks.make_again`` makes the task; ``None`` for other tasks.

    Raises:
        InputError: the lengths do not fit together.
    """

    shares: NDArray[np.float64] | None = None
    top: float = 1.0
    origin: Mapping[str, Any] | None = None

    def __init__(
        self,
        points: int,
        *,
        name: str = "task",
        graded: bool = False,
        classes: Sequence[str] = ("all",),
        groups: ArrayLike | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.points = whole_number("points", points, 1)
        self.name = name
        self.graded = graded
        self.classes = tuple(map(str, classes))
        numbers = np.zeros(self.points, np.intp) if groups is None else np.asarray(groups)
        self.names = names
        for argument, length in (
            ("groups", len(numbers)),
            ("names", len(names) if names is not None else points),
        ):
            if length != self.points:
                raise InputError(
                    f"{argument} must have one entry for each of the {self.points} data points, "
                    f"got {length}; leave {argument} out or give all."
                )
        if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
            raise InputError(
                f"groups must be a list of integers, got {numbers.dtype} values of shape "
                f"{numbers.shape}; number the classes from 0."
            )
        self.groups = numbers.astype(np.intp)
        if self.groups.min() < 0 or self.groups.max() >= len(self.classes):
            raise InputError(
                f"groups must lie in [0, {len(self.classes) - 1}] (there are {len(self.classes)} "
                f"classes), got [{self.groups.min()}, {self.groups.max()}]; name every class."
            )

    @property
    def kinds(self) -> Indices:
        """(D,) a number for each data point; those with equal numbers are best scored together."""
        return np.zeros(self.points, np.intp)

    def score(self, model: Any, indices: Indices | None) -> ArrayLike:
        """Return a model's scores (n,) on ``indices`` (n,), or on all data points if ``None``.

        Right/wrong tasks return booleans, graded ones numbers in [0, 1]. A model that is a tensor
        may share its memory with the genome and must not be changed.
        """
        raise NotImplementedError

    def evaluate(self, model: Any, indices: ArrayLike | None = None) -> NDArray[Any]:
        """Return the scores of a model: (D,), or (n,) for ``indices`` (n,).

        Raises:
            InputError: an index is no data point, or the task returns scores of another shape.
        """
        where = None if indices is None else self.checked_indices(indices)
        scores = self.score(model, where)
        if isinstance(scores, Tensor):
            scores = scores.detach().cpu()
            scores = scores.float() if scores.dtype == torch.bfloat16 else scores  # NumPy has none
        scores = np.asarray(scores)
        expected = (self.points if where is None else len(where),)
        if scores.shape != expected:
            raise InputError(
                f"Task {self.name!r} must give one score per data point, shape {expected}, got "
                f"shape {scores.shape}; return one number for each index."
            )
        return scores

    def checked_indices(self, indices: ArrayLike) -> Indices:
        """Return indices (n,) as an array, checked to be data points.

        Raises:
            InputError: ``indices`` is not a list of integers in [0, D).
        """
        where = np.asarray(indices)
        integer = where.ndim == 1 and (where.size == 0 or np.issubdtype(where.dtype, np.integer))
        if not integer or (where.size and not 0 <= where.min() <= where.max() < self.points):
            raise InputError(
                f"indices must be a list of data points in [0, {self.points - 1}], got "
                f"{np.array2string(where, threshold=6)}; choose among these."
            )
        return where.astype(np.intp)

    def held_out(self, model: Any) -> float:
        """Return the model's mean score on data that the search does not use; NaN without any."""
        return float("nan")

    def held_out_by_class(self, model: Any) -> dict[str, float]:
        """Return the held-out score of each class by name; empty without held-out data."""
        return {}

    def by_class(self, scores: ArrayLike) -> dict[str, float]:
        """Return the mean of scores (D,) over the data points of each class, by name."""
        return dict(zip(self.classes, self.means(scores), strict=True))

    def means(self, scores: ArrayLike) -> tuple[float, ...]:
        """Return the mean of scores (D,) over the data points of each class; NaN without any."""
        numbers = range(len(self.classes))  # names may be the same
        return tuple(mean_by_group(np.asarray(scores, float), self.groups, numbers).values())

    def identity(self) -> str:
        """Return a SHA-256 of the task's description of its data points."""
        about = [self.name, self.points, self.graded, self.classes]
        names = None if self.names is None else list(map(str, self.names))
        digest = hashlib.sha256(json.dumps([about, names]).encode())
        digest.update(self.groups.astype("<i8").tobytes())
        return digest.hexdigest()

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return data points with the model's answers, for display; empty if there are none."""
        return []

    def point_name(self, index: int) -> str:
        """Return the name of one data point."""
        return str(self.names[index] if self.names is not None else index)

    def check_space(self, space: Space) -> None:
        """Check that models of this space can be scored.

        Raises:
            InputError: they cannot.
        """

    def watch(self, watch: Watch) -> Callable[[], None]:
        """Let ``watch`` observe and stop evaluations, if these take long.

        Returns a function that ends this.
        """
        return _nothing

    def __add__(self, other: Task) -> Task:
        """Return both tasks as one, each with half of the capacity."""
        return Tasks([self, other])

    def space(self, seeds: Sequence[Any] | NDArray[Any]) -> Space:
        """Return the space in which these seeds are merged, where none is given.

        Raises:
            InputError: the seeds cannot be merged.
        """
        return DenseSpace(seeds)


class Tasks(Task):
    """Tasks one after the other: their data points are concatenated and grouped by task.

    ::

        task = m2n2lab.tasks.gsm8k(limit=200) + m2n2lab.tasks.webshop(limit=50)

    Every task has the same share of the capacity and of the mean score: the D_t data points of task
    t weigh D / (T · D_t) each, so 200 questions do not swamp 50 shopping trips.

    Args:
        tasks: the T tasks; a ``Tasks`` among them is replaced by its tasks.

    Raises:
        InputError: the list is empty or holds something else than a task.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        flat: list[Task] = []
        for task in tasks:
            if not isinstance(task, Task):
                raise InputError(
                    f"Tasks must be a list of tasks, got {type(task).__name__} among them; "
                    f"make one with m2n2lab.tasks."
                )
            flat += task.tasks if isinstance(task, Tasks) else (task,)
        if not flat:
            raise InputError("Tasks must be at least one task, got none; give some.")
        self.tasks: tuple[Task, ...] = tuple(flat)
        sizes = [task.points for task in self.tasks]
        super().__init__(
            sum(sizes),
            name="+".join(task.name for task in self.tasks),
            graded=any(task.graded for task in self.tasks),
            classes=_distinct([task.name for task in self.tasks]),
            groups=np.repeat(np.arange(len(sizes)), sizes),
            names=[task.point_name(k) for task in self.tasks for k in range(task.points)],
        )
        self.top = max(task.top for task in self.tasks)
        origins = [task.origin for task in self.tasks]
        self.origin = None if None in origins else {"tasks": origins}
        self._starts = np.cumsum([0, *sizes])
        weights = self.points / (len(sizes) * np.array(sizes))
        self.shares = np.repeat(weights, sizes)

    def identity(self) -> str:
        """Return a SHA-256 of the tasks' identities."""
        return hashlib.sha256(" ".join(task.identity() for task in self.tasks).encode()).hexdigest()

    @property
    def kinds(self) -> Indices:
        """(D,) number of each data point's task."""
        return self.groups

    def _by_task(self, where: Indices) -> list[tuple[Task, Indices, Indices]]:
        """Return each concerned task, its positions in ``where`` and its own data points."""
        owner = self.groups[where]
        found = []
        for number, task in enumerate(self.tasks):
            positions = np.flatnonzero(owner == number)
            if len(positions):
                found.append((task, positions, where[positions] - self._starts[number]))
        return found

    def score(self, model: Any, indices: Indices | None) -> NDArray[Any]:
        """Return each task's scores in the order of ``indices`` (n,)."""
        if indices is None:
            return np.concatenate([task.evaluate(model) for task in self.tasks])
        scores = np.zeros(len(indices), float if self.graded else bool)
        for task, positions, own in self._by_task(indices):
            scores[positions] = task.evaluate(model, own)
        return scores

    def held_out(self, model: Any) -> float:
        """Return the mean over the tasks of their held-out scores; NaN where one has none."""
        return float(np.mean([task.held_out(model) for task in self.tasks]))

    def held_out_by_class(self, model: Any) -> dict[str, float]:
        """Return each task's held-out score by name, if any task has one."""
        found = [task.held_out(model) for task in self.tasks]
        named = dict(zip(self.classes, found, strict=True))
        return {} if np.isnan(found).all() else named

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return each task's samples, with this task's indices, in the order of ``indices``."""
        where = self.checked_indices(indices)
        shown: dict[int, Sample] = {}
        for task, positions, own in self._by_task(where):
            for position, sample in zip(positions.tolist(), task.samples(model, own), strict=False):
                shown[position] = replace(sample, index=int(where[position]))
        return [shown[position] for position in sorted(shown)]

    def check_space(self, space: Space) -> None:
        """Check that every task can score models of this space."""
        for task in self.tasks:
            task.check_space(space)

    def space(self, seeds: Sequence[Any] | NDArray[Any]) -> Space:
        """Return the first task's space of these seeds."""
        return self.tasks[0].space(seeds)

    def watch(self, watch: Watch) -> Callable[[], None]:
        """Let ``watch`` observe every task's evaluations; return a function that ends this."""
        ends = [task.watch(watch) for task in self.tasks]

        def end() -> None:
            for each in ends:
                each()

        return end


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, made distinct by numbers after later ones."""
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name} {number}"
        found.append(unique)
    return found


Name = TypeVar("Name")


def mean_by_group(
    values: NDArray[np.float64], groups: Indices, names: Sequence[Name]
) -> dict[Name, float]:
    """Return the mean of values (n,) in each of the groups (n,) by name; NaN for an empty one."""
    count = np.bincount(groups, minlength=len(names))
    total = np.bincount(groups, weights=values, minlength=len(names))
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return dict(zip(names, means.tolist(), strict=True))


def _nothing() -> None:
    pass


class _FunctionTask(Task):
    """A task made of a scoring function and optional functions for the rest."""

    def __init__(
        self,
        function: Callable[[Any, Indices], ArrayLike],
        points: int,
        held_out: Callable[[Any], float] | None,
        samples: Callable[[Any, Indices], list[Sample]] | None,
        **known: Any,
    ) -> None:
        super().__init__(points, **known)
        self._all = np.arange(self.points)
        self._function = function
        self._held_out = held_out
        self._samples = samples

    def score(self, model: Any, indices: Indices | None) -> ArrayLike:
        # A function written in a notebook may change its argument.
        model = model.clone() if hasattr(model, "clone") else model
        return self._function(model, self._all if indices is None else indices)

    def held_out(self, model: Any) -> float:
        return super().held_out(model) if self._held_out is None else float(self._held_out(model))

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        return self._samples(model, self.checked_indices(indices)) if self._samples else []


def from_function(
    function: Callable[[Any, Indices], ArrayLike],
    points: int,
    *,
    held_out: Callable[[Any], float] | None = None,
    samples: Callable[[Any, Indices], list[Sample]] | None = None,
    **known: Any,
) -> Task:
    """Return a task that scores models with one function.

    Args:
        function: ``(model, indices (n,)) → (n,)`` right/wrong or graded scores. The model is what
            the space makes of a genome: a torch module where the seeds are modules.
        points: D, number of data points.
        held_out: ``model → float``, mean score on data that the search does not use.
        samples: ``(model, indices) → list of Sample`` for display.
        known: ``name``, ``graded``, ``classes``, ``groups``, ``names``, as for ``Task``.

    Raises:
        InputError: the lengths do not fit together.
    """
    return _FunctionTask(function, points, held_out, samples, **known)
