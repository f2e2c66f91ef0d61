"""Task: data points and how a model scores on them; and the sum of several tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.scores import MAX_SCORE, as_scores
from m2n2lab.core.spaces.space import DenseSpace, Space
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import (
    InputError,
    checked_flag,
    checked_function,
    described,
    real_number,
    whole_number,
)
from m2n2lab.utils.progress import Watch

MIN_TOP = 1e-300
"""Lowest value of a task's highest score."""


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
        graded: whether scores are graded, in [0, top], rather than right or wrong.
        top: the highest score that a data point can get; 1 by default.
        classes: names of the groups of data points.
        groups: (D,) index into ``classes`` for each data point; all 0 by default.
        names: (D,) names of the data points; their numbers by default.
        low: the lowest score that a data point can get. Competition needs scores >= 0, so
            ``evaluate`` subtracts it from all, and all means are above it. It is declared rather
            than taken from the models seen so far, which would change earlier scores whenever a
            worse one comes, and with them the outcome of every step.
        shares: (D,) weights of the data points in capacity and mean score, scaled to 1 on average;
            equal by default.

    Attributes:
        top: the highest score above ``low``, which ``evaluate`` can return.
        shares: (D,) weight of each data point, 1 on average; ``None`` for equal weights.
        origin: arguments with which ``tasks.make_again`` makes the task; ``None`` for other tasks.

    Raises:
        InputError: the lengths do not fit together.
    """

    shares: NDArray[np.float64] | None = None
    top: float = 1.0
    low: float = 0.0
    origin: Mapping[str, Any] | None = None

    def __init__(
        self,
        points: int,
        *,
        name: str = "task",
        graded: bool = False,
        top: float | None = None,
        classes: Sequence[str] = ("all",),
        groups: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        low: float | None = None,
        shares: ArrayLike | None = None,
    ) -> None:
        self.points = whole_number("points", points, 1)
        self.name = str(name)
        self.graded = checked_flag("graded", graded)
        if low is not None:
            self.low = real_number("low", low, -MAX_SCORE, MAX_SCORE)
        if top is not None:
            self.top = real_number("top", top, self.low + MIN_TOP, MAX_SCORE)
        self.top -= self.low
        if self.top <= 0.0:
            raise InputError(
                f"top must be above low={self.low:g}, got {self.top + self.low:g}; give the "
                f"highest and the lowest score that a data point can get."
            )
        self.classes = tuple(map(str, _entries("classes", classes, None)))
        numbers = np.zeros(self.points, np.intp)
        if groups is not None:
            numbers = np.asarray(_entries("groups", groups, self.points))
        self.names = None if names is None else _entries("names", names, self.points)
        if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
            raise InputError(
                f"groups must be a list of integers, got {numbers.dtype} values of shape "
                f"{numbers.shape}; number the classes from 0."
            )
        if shares is not None:
            self.shares = _shares(shares, self.points)
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

        Right/wrong tasks return booleans, graded ones numbers in [0, top]. A model that is a tensor
        may share its memory with the genome and must not be changed.
        """
        raise NotImplementedError

    def evaluate(self, model: Any, indices: ArrayLike | None = None) -> NDArray[Any]:
        """Return the scores of a model: (D,), or (n,) for ``indices`` (n,); booleans or float64.

        Raises:
            InputError: an index is no data point, or the task returns scores of another shape.
        """
        where = None if indices is None else self.checked_indices(indices)
        scores = as_scores(self.score(model, where))
        expected = (self.points if where is None else len(where),)
        if scores.shape != expected:
            raise InputError(
                f"Task {self.name!r} must give one score per data point, shape {expected}, got "
                f"shape {scores.shape}; return one number for each index."
            )
        return self._above_low(scores) if self.low else scores

    def _above_low(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return scores (n,) less ``low``; anything but numbers as it is, to be refused later."""
        if scores.dtype.kind not in "bf":
            return scores
        above: NDArray[Any] = scores - self.low
        if (below := above < 0.0).any():
            raise InputError(
                f"Task {self.name!r} must give scores >= {self.low:g}, its low, got "
                f"{scores[int(np.argmax(below))]:g}; declare a lower low."
            )
        return above

    def checked_indices(self, indices: ArrayLike) -> Indices:
        """Return indices (n,) as an array, checked to be data points.

        Raises:
            InputError: ``indices`` is not a list of integers in [0, D).
        """
        try:
            where = np.asarray(indices)
        except ValueError:  # rows of different lengths
            where = np.asarray(indices, dtype=object)
        except TypeError:  # a tensor without values
            where = np.array(described(indices))
        integer = where.ndim == 1 and (where.size == 0 or np.issubdtype(where.dtype, np.integer))
        if not integer or (where.size and not 0 <= where.min() <= where.max() < self.points):
            raise InputError(
                f"indices must be a list of data points in [0, {self.points - 1}], got "
                f"{np.array2string(where, threshold=6)}; choose among these."
            )
        return where.astype(np.intp)

    def held_out(self, model: Any) -> float:
        """Return the model's mean score on data that the search does not use; NaN without any.

        It is above ``low``, as the mean of ``evaluate``'s scores is.
        """
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
        if self.low:
            digest.update(f"low {self.low!r}".encode())
        if self.shares is not None:
            digest.update(self.shares.astype("<f8").tobytes())
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

    def space(self, seeds: Sequence[Any] | NDArray[Any], device: str | None = None) -> Space:
        """Return the space in which these seeds are merged, where none is given.

        Args:
            seeds: the models.
            device: where they are scored; the CPU by default.

        Raises:
            InputError: the seeds cannot be merged, or there is no such device.
        """
        return DenseSpace(seeds, device="cpu" if device is None else device)


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
            # Right/wrong scores of several tops are neither 0 nor the highest top.
            graded=any(task.graded for task in self.tasks) or len({t.top for t in self.tasks}) > 1,
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
        found = [(at, task.evaluate(model, own)) for task, at, own in self._by_task(indices)]
        # The dtype of what the tasks gave, whatever they declared: 0.08 is not cast to True.
        scores = np.zeros(len(indices), np.result_type(bool, *(part.dtype for _, part in found)))
        for positions, part in found:
            scores[positions] = part
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

    def space(self, seeds: Sequence[Any] | NDArray[Any], device: str | None = None) -> Space:
        """Return the first task's space of these seeds."""
        if device is None:
            return self.tasks[0].space(seeds)
        return self.tasks[0].space(seeds, device=device)

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


def _entries(argument: str, values: Any, count: int | None) -> Any:
    """Return the values of a list, checked to be ``count`` unless that is ``None``.

    Raises:
        InputError: it is no list, or has another length.
    """
    if not hasattr(values, "__len__"):
        raise InputError(f"{argument} must be a list, got {described(values)}; list the entries.")
    if count is not None and len(values) != count:
        raise InputError(
            f"{argument} must have one entry for each of the {count} data points, got "
            f"{len(values)}; leave {argument} out or give all."
        )
    return values


def _shares(shares: ArrayLike, points: int) -> NDArray[np.float64]:
    """Return weights (D,) scaled to 1 on average.

    Raises:
        InputError: there is not one finite number >= 0 for each data point, or all are 0.
    """
    weights = as_scores(shares)
    fits = weights.shape == (points,) and weights.dtype.kind in "bf"
    if not fits or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise InputError(
            f"shares must be a finite number >= 0 for each of the {points} data points and not all "
            f"0, got {described(shares)} with shape {weights.shape}; give one each, or leave "
            f"shares out."
        )
    scaled: NDArray[np.float64] = weights * (points / float(weights.sum()))
    return scaled


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
        if self._held_out is None:
            return super().held_out(model)
        return float(self._held_out(model)) - self.low

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        return self._samples(model, self.checked_indices(indices)) if self._samples else []


def from_function(
    function: Callable[[Any, Indices], ArrayLike],
    points: int,
    *,
    held_out: Callable[[Any], float] | None = None,
    samples: Callable[[Any, Indices], list[Sample]] | None = None,
    name: str = "task",
    graded: bool = False,
    top: float | None = None,
    low: float | None = None,
    classes: Sequence[str] = ("all",),
    groups: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    shares: ArrayLike | None = None,
) -> Task:
    """Return a task that scores models with one function.

    Args:
        function: ``(model, indices (n,)) → (n,)`` right/wrong or graded scores. The model is what
            the space makes of a genome: a torch module where the seeds are modules.
        points: D, number of data points.
        held_out: ``model → float``, mean score on data that the search does not use.
        samples: ``(model, indices) → list of Sample`` for display.
        name: name of the task in views.
        graded: whether scores are graded, in [low, top], rather than right or wrong.
        top: the highest score that a data point can get; 1 by default.
        low: the lowest score that a data point can get, if that is not 0, as for rewards; it is
            subtracted from all scores (see ``Task``).
        classes: names of the groups of data points.
        groups: (D,) index into ``classes`` for each data point; all 0 by default.
        names: (D,) names of the data points; their numbers by default.
        shares: (D,) weights of the data points; equal by default.

    Raises:
        InputError: a function cannot be called, or the lengths do not fit together.
    """
    if isinstance(function, int) and callable(points):
        raise InputError(
            f"from_function must get the function first, got points={described(function)} before "
            f"it; swap them."
        )
    checked_function("function", function, "(model, indices)")
    if held_out is not None:
        checked_function("held_out", held_out, "a model")
    if samples is not None:
        checked_function("samples", samples, "(model, indices)")
    return _FunctionTask(
        function,
        points,
        held_out,
        samples,
        name=name,
        graded=graded,
        top=top,
        low=low,
        classes=classes,
        groups=groups,
        names=names,
        shares=shares,
    )
