"""Behaviours: what a model does, as coordinates in a grid, computed from its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.scores import as_scores
from m2n2lab.core.task import Task, Tasks
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, choose

Named = Literal["halves", "classes", "tasks"]
Measure = Callable[[Floats], Any]


class Axis(NamedTuple):
    """One coordinate of a grid: its name, and the values at which it begins and ends."""

    name: str
    low: float = 0.0
    high: float = 1.0


class GroupMeans:
    """The mean scores of groups of data points; 0 for a group without any.

    Args:
        groups: (n, D) whether a data point belongs to each of the n groups.
    """

    def __init__(self, groups: Sequence[NDArray[np.bool_]]) -> None:
        self.groups = tuple(groups)

    def __call__(self, scores: Floats) -> list[float]:
        """Return the mean of scores (D,) over each of the n groups."""
        return [float(scores[own].sum()) / max(int(own.sum()), 1) for own in self.groups]


class Behaviours:
    """The n behaviours of a model, as coordinates along named axes.

    Args:
        measure: scores (D,) → n finite numbers.
        axes: (n,) the axes. A value beyond the end of an axis falls in the cell at that end.
        scaled: whether the axes grow and shrink with the highest observed score, where that does
            not fit the declared one (see ``scores.scale_of``).
    """

    def __init__(self, measure: Measure, axes: Sequence[Axis], scaled: bool = False) -> None:
        self.measure, self.axes, self.scaled = measure, tuple(axes), scaled

    @classmethod
    def of(
        cls,
        task: Task,
        behaviours: Named | Measure,
        axes: Sequence[tuple[str, float, float]] | None,
        least: int,
        most: int,
    ) -> Behaviours:
        """Return behaviours from the options of a method.

        Args:
            task: the task that gives the scores.
            behaviours: the mean scores of the ``"halves"`` with odd and even numbers of classes (or
                of data points, if there is one class), of ``"classes"``, of ``"tasks"``; or a
                function scores (D,) → coordinates.
            axes: (name, low, high) of each coordinate; a function needs them, and the others have
                their groups' names and run from 0 to the top score by default.
            least, most: bounds of the number of axes.

        Raises:
            InputError: the task has no such groups or too many, or the axes do not fit.
        """
        given = None if axes is None else _axes(axes, least, most)
        if callable(behaviours):
            if given is None:
                raise InputError(
                    "A function as behaviours needs axes, got none; give axes=((name, low, high), "
                    "…), one for each number that it returns."
                )
            return cls(behaviours, given)
        groups, own = _named(task, choose("behaviours", behaviours, ("halves", "classes", "tasks")))
        if given is None and not least <= len(own) <= most:
            raise InputError(
                f"behaviours={behaviours!r} must be {least} to {most} axes, got {len(own)} "
                f"({', '.join(axis.name for axis in own[:5])}{', …' if len(own) > 5 else ''}); use "
                f"'halves', or a function of the scores."
            )
        if given is not None and len(given) != len(own):
            raise InputError(
                f"axes must be one (name, low, high) for each of the {len(own)} behaviours "
                f"{behaviours!r}, got {len(given)}; add or leave out some."
            )
        # One scale fits all axes only if they have one end.
        scaled = given is None and len({axis.high for axis in own}) == 1
        return cls(GroupMeans(groups), own if given is None else given, scaled)

    def values(self, scores: Floats) -> tuple[float, ...]:
        """Return the behaviours (n,) of a model with scores (D,).

        Raises:
            InputError: the function of a person returns another number of values, or a value that
                is not finite.
        """
        # A copy, because a function written in a notebook may change its argument.
        own = isinstance(self.measure, GroupMeans)
        found = self.measure(scores if own else scores.copy())
        array = np.atleast_1d(as_scores(found))
        good = array.dtype.kind in "bf" and array.shape == (len(self.axes),)
        if not good or not np.isfinite(array).all():
            names = ", ".join(axis.name for axis in self.axes)
            raise InputError(
                f"behaviours must give one finite number for each axis ({names}), got "
                f"{found!r:.80}; correct the function, or axes."
            )
        return tuple(array.astype(float).tolist())

    def cell(
        self, values: Sequence[float], sides: Sequence[int], unit: float = 1.0
    ) -> tuple[int, ...]:
        """Return the cell (n,) of behaviours (n,) in a grid with ``sides`` (n,) cells.

        Args:
            values: the behaviours.
            sides: number of cells along each axis.
            unit: factor of the axes' ends, if these are scaled.
        """
        found = []
        for value, (_, low, high), side in zip(values, self.axes, sides, strict=True):
            if self.scaled:
                low, high = low * unit, high * unit
            share = (value - low) / (high - low)
            found.append(min(int(min(max(share, 0.0), 1.0) * side), side - 1))
        return tuple(found)


def _named(task: Task, name: str) -> tuple[list[NDArray[np.bool_]], list[Axis]]:
    """Return groups of a task's data points, and an axis for each."""
    numbers, top = task.groups, task.top
    if name == "halves":
        numbers = numbers if len(task.classes) > 1 else np.arange(task.points)
        odd = numbers % 2 == 1
        return [odd, ~odd], [Axis("odd", 0.0, top), Axis("even", 0.0, top)]
    tops = [top] * len(task.classes)
    if isinstance(task, Tasks):
        tops = [each.top for each in task.tasks]
    elif name == "tasks":
        raise InputError(
            f"behaviours='tasks' needs several tasks, got {task.name!r} alone; add tasks with +, "
            f"or use 'classes'."
        )
    groups = [numbers == k for k in range(len(task.classes))]
    axes = [Axis(name, 0.0, high) for name, high in zip(task.classes, tops, strict=True)]
    return groups, axes


def _axes(axes: Any, least: int, most: int) -> list[Axis]:
    """Return the axes that a person gave.

    Raises:
        InputError: they are not ``least`` to ``most`` triples (name, low, high).
    """
    try:
        found = [Axis(name, float(low), float(high)) for name, low, high in axes]
    except (TypeError, ValueError):
        found = []
    if not least <= len(found) <= most or not all(isinstance(a.name, str) for a in found):
        raise InputError(
            f"axes must be {least} to {most} triples (name, low, high), got {axes!r:.80}; give for "
            f"example {[(f'axis {k + 1}', 0.0, 1.0) for k in range(least)]}."
        )
    for name, low, high in found:
        if not 0.0 < high - low < np.inf:
            raise InputError(
                f"Axis {name!r} must run from a finite number to a higher one, got {low:g} to "
                f"{high:g}; correct its range in axes."
            )
    return found
