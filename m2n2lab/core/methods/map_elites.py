"""MAP-Elites: the best model of each cell of a grid of behaviours, with M2N2's merge."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from m2n2lab.core.archive import Archive, Capacity
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.methods.behaviours import Axis, Behaviours, Measure, Named
from m2n2lab.core.scores import scale_of
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, whole_number

DEFAULT_SIDES = {1: 10, 2: 10, 3: 5}
"""Cells along each axis of a grid, by the number of its axes."""


class GridArchive(Archive):
    """MAP-Elites' archive: the best model of each cell of a grid of behaviours.

    Where the axes grow with the scores (see ``Behaviours``), several members can fall in one cell;
    they stay until children displace them.

    Args:
        points: D, number of data points.
        behaviours: coordinates of a model, computed from its scores.
        sides: number of cells along each axis.
        top: the highest score that a data point can get.
    """

    def __init__(
        self, points: int, behaviours: Behaviours, sides: Sequence[int], top: float = 1.0
    ) -> None:
        self.behaviours, self.sides = behaviours, tuple(sides)
        self._values: dict[int, tuple[float, ...]] = {}  # behaviours of the members, by id
        self._cells: tuple[float, dict[int, tuple[int, ...]]] = (top, {})  # on a scale, by id
        super().__init__(points, self.cells_of(self.sides), alpha=0.0, top=top)

    @staticmethod
    def cells_of(sides: Sequence[int]) -> int:
        """Return the number of cells, which is that of places."""
        return math.prod(sides)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the grid."""
        return self.behaviours.axes

    def cell(self, scores: Floats) -> tuple[int, ...]:
        """Return the cell that scores (D,) fall in; a perfect group falls in the last one."""
        values = self.behaviours.values(np.asarray(scores, float))
        return self._cell(values, self._population.scale)

    def _cell(self, values: tuple[float, ...], scale: float) -> tuple[int, ...]:
        return self.behaviours.cell(values, self.sides, scale / self.top)

    def _child_scale(self) -> float:
        """Return the scale of scores with the child that is judged."""
        highest = float(self._population.scores.max())
        return scale_of(highest, self.top) if self._judged_graded else self.top

    def _member_values(self) -> dict[int, tuple[float, ...]]:
        """Return the behaviours of the members by id, each computed once."""
        scores, known = self._population.scores, self._values
        self._values = {
            id: known.get(id) or self.behaviours.values(scores[row])
            for id, row in self._population.row_of.items()
        }
        return self._values

    def _member_cells(self, scale: float) -> dict[int, tuple[int, ...]]:
        """Return the cells of the members by id, each computed once for a scale."""
        known_scale, known = self._cells
        known = known if scale == known_scale else {}
        cells = {
            id: known.get(id) or self._cell(values, scale)
            for id, values in self._member_values().items()
        }
        self._cells = scale, cells
        return cells

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as ``Archive.load_state_dict``; all that is known of old members is dropped."""
        self._values, self._cells = {}, (self.top, {})
        super().load_state_dict(state)

    def _contest(self, fitness: list[float]) -> tuple[bool, int | None]:
        """Accept a child if its cell is empty or its cell's worst member has a lower score."""
        population = self._population
        rows, scale = population.row_of, self._child_scale()
        cells = self._member_cells(scale)
        child = self.behaviours.values(population.scores[population.spare])
        mine = self._cell(child, scale)
        rivals = [rows[id] for id, cell in cells.items() if cell == mine]
        if rivals:
            row = min(rivals, key=lambda row: fitness[row])
            return fitness[population.spare] > fitness[row], row
        if len(self) < self.size:
            return True, None
        # There are as many members as cells, so some share one.
        number = Counter(cells.values())
        shared = [rows[id] for id, cell in cells.items() if number[cell] > 1]
        return True, min(shared, key=lambda row: fitness[row])

    def draw_mate(self, parent: int, u: float) -> int:
        """Return the id of another member that ``u`` in [0, 1) picks by fitness."""
        return self._draw_other(self._row(parent), u)


class MapElites(Evolver):
    """MAP-Elites over a grid of behaviours, with M2N2's merge.

    ::

        lab.make_evolver("map-elites", task, seeds, mutation=0.01)  # 10×10, odd and even accuracy
        lab.make_evolver("map-elites", task_a + task_b, seeds, behaviours="tasks", side=20)
        lab.make_evolver(
            "map-elites", task, seeds,
            behaviours=lambda scores: (scores[:50].mean(), scores[50:].mean()),
            axes=(("easy", 0, 1), ("hard", 0, 1)),
        )

    Each cell keeps the member with the highest sum of scores. Parents are drawn in proportion to
    these sums. As in pyribs, a value beyond the end of an axis falls in the cell at that end, and
    values that are not finite are refused.

    Args:
        task, seeds, options: as for ``Evolver``.
        archive_size: number of cells; 100 by default for two axes.
        behaviours: the mean scores of ``"halves"`` (the data points of classes with odd and even
            numbers; in a task with one class, those with odd and even numbers), of ``"classes"`` or
            of ``"tasks"``, one axis each; or a function of scores (D,) that returns a coordinate
            for each axis. A function is not stored: a recorded run is resumed and branched with
            ``options={"behaviours": function}``.
        axes: 1 to 3 axes, (name, low, high) each; a function needs them. Those of the other
            behaviours have the names of classes and tasks, and run from 0 to the top score.
        side: number of cells along each axis, or one number for all; 10 by default, 5 for three
            axes.
    """

    method = "map-elites"
    own_operators = ("mate", "competition", "replacement")
    lowest_leaves = False  # the cell's elite leaves
    axis_bounds = (1, 3)
    """Lowest and highest number of axes."""
    archive_type: type[GridArchive] = GridArchive

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        archive_size: int | None = None,
        alpha: float = 0.0,
        capacity: Capacity = "one",
        behaviours: Named | Measure = "halves",
        axes: Sequence[tuple[str, float, float]] | None = None,
        side: int | Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        self._behaviours = Behaviours.of(task, behaviours, axes, *self.axis_bounds)
        self._sides = self._checked_sides(side, archive_size)
        size = self.archive_type.cells_of(self._sides)
        super().__init__(task, seeds, archive_size=size, alpha=alpha, capacity=capacity, **options)
        self.options |= {"behaviours": behaviours, "axes": axes, "side": side}

    def _checked_sides(
        self, side: int | Sequence[int] | None, archive_size: int | None
    ) -> tuple[int, ...]:
        """Return the number of cells along each axis.

        Raises:
            InputError: they are not one number >= 1 for each axis, or do not give the archive size.
        """
        n = len(self._behaviours.axes)
        if side is None and archive_size is not None:
            size = whole_number("archive_size", archive_size, 1)
            cells_of = self.archive_type.cells_of
            least = bisect_left(range(1, size), size, key=lambda k: cells_of((k,) * n)) + 1
            sides = (least,) * n
        elif isinstance(side, Sequence) and not isinstance(side, str):
            sides = tuple(whole_number("side", each, 1) for each in side)
        else:
            sides = (self._default_side() if side is None else whole_number("side", side, 1),) * n
        if len(sides) != n:
            raise InputError(
                f"side must be one number, or one for each of the {n} axes, got {side!r}; add or "
                f"leave out some."
            )
        cells = self.archive_type.cells_of(sides)
        if archive_size is not None and cells != archive_size:
            raise InputError(self._size_text(archive_size, cells))
        return sides

    def _default_side(self) -> int:
        return DEFAULT_SIDES[len(self._behaviours.axes)]

    def _size_text(self, archive_size: int, cells: int) -> str:
        power = {1: "an", 2: "a square", 3: "a cubic"}[len(self._behaviours.axes)]
        return (
            f"MAP-Elites needs {power} archive_size that is the number of cells, got "
            f"{archive_size} for {cells}; leave it out, or give side."
        )

    def _new_archive(self, size: int, alpha: float, capacity: Capacity | None) -> Archive:
        if alpha != 0.0 or capacity != "one":
            raise InputError(
                f"Method {self.method!r} needs alpha 0 and capacity 'one', got {alpha:g} and "
                f"{capacity!r}; leave them out."
            )
        behaviours, top = self._behaviours, self.task.top
        return self.archive_type(self.task.points, behaviours, self._sides, top)
