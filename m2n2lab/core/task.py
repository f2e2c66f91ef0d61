"""Task: what the data points are, how a model scores on any of them, and the sum of several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.spaces.space import DenseSpace, Space
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import InputError, whole_number
from m2n2lab.utils.progress import Watch


@dataclass(frozen=True)
class Sample:
    """One data point and what a model made of it, to be shown.

    Attributes:
        index: the data point; −1 where it is none.
        truth: the expected answer, as text.
        prediction: the model's answer, as text.
        right: whether the answer counts as right.
        image: (H, W) grey or (H, W, 3) picture in [0, 1], or ``None``.
        text: the question as text, or ``None``.
        prompt: all that a language model was asked, or ``None``.
        answer: all that it wrote, as it is, or ``None``.
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
    """Scores models on data points; names, groups, samples and a held-out part are optional.

    Subclasses override ``score`` (and what else they know); ``from_function`` makes a task of
    one function.

    Args:
        points: D, number of data points.
        name: what views call the task.
        graded: whether scores are graded in [0, 1] rather than right or wrong.
        classes: names of the groups of data points.
        groups: (D,) index into ``classes`` for each data point; all 0 by default.
        names: (D,) names of the data points; their numbers by default.

    Attributes:
        shares: (D,) what each data point weighs, 1 on average; ``None`` where all weigh the same.
        top: the highest score that a data point can get.
        origin: how ``tasks.make_again`` makes it; ``None`` for a task of one's own.

    Raises:
        InputError: lengths that do not fit together.
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
        for what, found in (
            ("groups", len(numbers)),
            ("names", len(names) if names is not None else points),
        ):
            if found != self.points:
                raise InputError(
                    f"{what} must have one entry for each of the {self.points} data points, but "
                    f"{found} came; leave {what} out or give all."
                )
        if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
            raise InputError(
                f"groups must be a list of whole numbers, but {numbers.dtype} values of shape "
                f"{numbers.shape} came; number the classes from 0."
            )
        self.groups = numbers.astype(np.intp)
        if self.groups.min() < 0 or self.groups.max() >= len(self.classes):
            raise InputError(
                f"groups must lie in 0..{len(self.classes) - 1} (there are {len(self.classes)} "
                f"classes), but {self.groups.min()}..{self.groups.max()} came; name every class."
            )

    @property
    def kinds(self) -> Indices:
        """(D,) the kind of each data point: those of one kind are best scored together."""
        return np.zeros(self.points, np.intp)

    def score(self, model: Any, indices: Indices | None) -> ArrayLike:
        """Score a model on ``indices`` (n,), all data points if ``None``: (n,) scores.

        Right/wrong tasks return booleans, graded ones numbers in [0, 1]. A model that is a tensor
        may be the genome's own memory, and must not be changed.
        """
        raise NotImplementedError

    def evaluate(self, model: Any, indices: ArrayLike | None = None) -> NDArray[Any]:
        """Return the scores of a model: (D,), or (n,) for ``indices`` (n,).

        Raises:
            InputError: indices outside the data, or a task that returns another shape.
        """
        where = None if indices is None else self.checked_indices(indices)
        scores = self.score(model, where)
        scores = np.asarray(scores.detach().cpu() if hasattr(scores, "detach") else scores)
        expected = (self.points if where is None else len(where),)
        if scores.shape != expected:
            raise InputError(
                f"Task {self.name!r} must give one score a data point, shape {expected}, but gave "
                f"shape {scores.shape}; return one number for each index."
            )
        return scores

    def checked_indices(self, indices: ArrayLike) -> Indices:
        """Return indices (n,) as an array, known to be data points.

        Raises:
            InputError: not a list of whole numbers in [0, D).
        """
        where = np.asarray(indices)
        whole = where.ndim == 1 and (where.size == 0 or np.issubdtype(where.dtype, np.integer))
        if not whole or (where.size and not 0 <= where.min() <= where.max() < self.points):
            raise InputError(
                f"indices must be a list of data points from 0 to {self.points - 1}, but "
                f"{np.array2string(where, threshold=6)} came; choose among these."
            )
        return where.astype(np.intp)

    def held_out(self, model: Any) -> float:
        """Return the model's mean score on data that the search never sees; NaN without any."""
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
        """Return a SHA-256 of all that is known of its data points."""
        about = [self.name, self.points, self.graded, self.classes]
        names = None if self.names is None else list(map(str, self.names))
        digest = hashlib.sha256(json.dumps([about, names]).encode())
        digest.update(self.groups.astype("<i8").tobytes())
        return digest.hexdigest()

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return data points with the model's answers, to be shown; empty if it cannot."""
        return []

    def point_name(self, index: int) -> str:
        """Return the name of one data point."""
        return str(self.names[index] if self.names is not None else index)

    def check_space(self, space: Space) -> None:
        """See that models of this space can be scored.

        Raises:
            InputError: they cannot.
        """

    def watch(self, watch: Watch) -> Callable[[], None]:
        """Let ``watch`` follow evaluations too, and stop them, where these take long.

        Returns a function that ends it.
        """
        return _nothing

    def __add__(self, other: Task) -> Task:
        """Return both tasks as one, each with half of the capacity."""
        return Tasks([self, other])

    def space(self, seeds: Sequence[Any] | NDArray[Any]) -> Space:
        """Return the space in which bare seeds are merged.

        Raises:
            InputError: seeds that cannot be merged.
        """
        return DenseSpace(seeds)


class Tasks(Task):
    """Tasks one after the other: their data points are concatenated and grouped by task.

    ::

        task = m2n2lab.tasks.gsm8k(limit=200) + m2n2lab.tasks.webshop(limit=50)

    Every task has the same share of the capacity and of the mean score: the D_t data points of task
    t weigh D / (T · D_t) each, so 200 questions do not swamp 50 shopping trips.

    Args:
        tasks: the T tasks; tasks of several are taken apart.

    Raises:
        InputError: no task, or something that is none.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        flat: list[Task] = []
        for task in tasks:
            if not isinstance(task, Task):
                raise InputError(
                    f"Tasks must be a list of tasks, but {type(task).__name__} came among them; "
                    f"make one with m2n2lab.tasks."
                )
            flat += task.tasks if isinstance(task, Tasks) else (task,)
        if not flat:
            raise InputError("Tasks must be at least one task, but none came; give some.")
        self.tasks: tuple[Task, ...] = tuple(flat)
        many = [task.points for task in self.tasks]
        super().__init__(
            sum(many),
            name="+".join(task.name for task in self.tasks),
            graded=any(task.graded for task in self.tasks),
            classes=_distinct([task.name for task in self.tasks]),
            groups=np.repeat(np.arange(len(many)), many),
            names=[task.point_name(k) for task in self.tasks for k in range(task.points)],
        )
        self.top = max(task.top for task in self.tasks)
        origins = [task.origin for task in self.tasks]
        self.origin = None if None in origins else {"tasks": origins}
        self._starts = np.cumsum([0, *many])
        weights = self.points / (len(many) * np.array(many))
        self.shares = np.repeat(weights, many)

    def identity(self) -> str:
        """Return a SHA-256 of the tasks' own."""
        return hashlib.sha256(" ".join(task.identity() for task in self.tasks).encode()).hexdigest()

    @property
    def kinds(self) -> Indices:
        """(D,) the task of each data point."""
        return self.groups

    def _parts(self, where: Indices) -> list[tuple[Task, Indices, Indices]]:
        """Return each task that is asked, the places in ``where`` and its own data points."""
        owner = self.groups[where]
        parts = []
        for number, task in enumerate(self.tasks):
            places = np.flatnonzero(owner == number)
            if len(places):
                parts.append((task, places, where[places] - self._starts[number]))
        return parts

    def score(self, model: Any, indices: Indices | None) -> NDArray[Any]:
        """Return each task's scores in the order of ``indices`` (n,)."""
        if indices is None:
            return np.concatenate([task.evaluate(model) for task in self.tasks])
        scores = np.zeros(len(indices), float if self.graded else bool)
        for task, places, own in self._parts(indices):
            scores[places] = task.evaluate(model, own)
        return scores

    def held_out(self, model: Any) -> float:
        """Return the mean over the tasks of their held-out scores; NaN where one has none."""
        return float(np.mean([task.held_out(model) for task in self.tasks]))

    def held_out_by_class(self, model: Any) -> dict[str, float]:
        """Return each task's held-out score, where any has one."""
        found = [task.held_out(model) for task in self.tasks]
        named = dict(zip(self.classes, found, strict=True))
        return {} if np.isnan(found).all() else named

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return what each task shows, numbered as here, in the order of ``indices``."""
        where = self.checked_indices(indices)
        shown: dict[int, Sample] = {}
        for task, places, own in self._parts(where):
            for place, sample in zip(places.tolist(), task.samples(model, own), strict=False):
                shown[place] = replace(sample, index=int(where[place]))
        return [shown[place] for place in sorted(shown)]

    def check_space(self, space: Space) -> None:
        """See that every task can score models of this space."""
        for task in self.tasks:
            task.check_space(space)

    def space(self, seeds: Sequence[Any] | NDArray[Any]) -> Space:
        """Return the first task's space of these seeds."""
        return self.tasks[0].space(seeds)

    def watch(self, watch: Watch) -> Callable[[], None]:
        """Let ``watch`` follow every task's evaluations; returns a function that ends it."""
        ends = [task.watch(watch) for task in self.tasks]

        def end() -> None:
            for each in ends:
                each()

        return end


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names of which no two are equal: later ones get a number."""
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
    """Return the mean of values (n,) in each group (n,) by name; NaN for an empty group."""
    count = np.bincount(groups, minlength=len(names))
    total = np.bincount(groups, weights=values, minlength=len(names))
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return dict(zip(names, means.tolist(), strict=True))


def _nothing() -> None:
    pass


class _FunctionTask(Task):
    """A task made of one function, and of others for what is optional."""

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
        # A function that somebody wrote in a notebook may well change what it is given.
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
        function: ``(model, indices (n,)) → (n,)`` right or wrong, or graded scores. The model is
            what the space makes of a genome: a torch module where the seeds are modules.
        points: D, number of data points.
        held_out: ``model → float``, mean score on data that the search never sees.
        samples: ``(model, indices) → list of Sample`` to be shown.
        known: ``name``, ``graded``, ``classes``, ``groups``, ``names``, as for ``Task``.

    Raises:
        InputError: lengths that do not fit together.
    """
    return _FunctionTask(function, points, held_out, samples, **known)
