"""Several tasks as one, in which each weighs the same whatever its number of data points."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.errors import InputError
from m2n2lab.tasks.base import Indices, Sample, Task

if TYPE_CHECKING:
    from m2n2lab.spaces import Space
    from m2n2lab.tasks.generation import Watch


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
            classes=_apart([task.name for task in self.tasks]),
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


def _apart(names: Sequence[str]) -> list[str]:
    """Return names of which no two are equal: later ones get a number."""
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name} {number}"
        found.append(unique)
    return found
