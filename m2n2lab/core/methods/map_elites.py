"""MAP-Elites: the best model of each cell of a grid of behaviours, with M2N2's merge."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.archive import Archive, Capacity
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.scores import scale_of
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, whole_number


class GridArchive(Archive):
    """MAP-Elites' archive: the best model of each cell of a grid of behaviours.

    Both axes run from 0 to ``top``. Where all scores lie beyond it, or below a tenth of it, they
    run to a scale that fits (``scores.scale_of``). When that grows, several members can fall in one
    cell; they stay until children displace them.

    Args:
        halves: (D,) whether a data point counts for the first behaviour (else the second).
            A model's behaviours are its mean scores on either half.
        side: cells per side; the archive has up to side² members.
        top: the highest score that a data point can get.
    """

    def __init__(self, halves: NDArray[np.bool_], side: int = 10, top: float = 1.0) -> None:
        self.side = side
        self.halves = halves
        self._cells: dict[int, tuple[int, int]] = {}  # cells of the members, by id
        self._cells_scale = top  # on which they were computed
        super().__init__(len(halves), side * side, alpha=0.0, top=top)

    def cell(self, scores: Floats) -> tuple[int, int]:
        """Return the cell that scores (D,) fall in; a perfect half falls in the last cell."""
        return self._cell(scores, self._population.scale)

    def _cell(self, scores: Floats, scale: float) -> tuple[int, int]:
        # A half without data points has score 0.
        first, second = (
            float(scores[half].sum()) / max(int(half.sum()), 1) / scale
            for half in (self.halves, ~self.halves)
        )
        last = self.side - 1
        return min(int(first * self.side), last), min(int(second * self.side), last)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as ``Archive.load_state_dict``; cells by id of the old members are dropped."""
        self._cells = {}
        super().load_state_dict(state)

    def _contest(self, fitness: list[float]) -> tuple[bool, int | None]:
        """Accept a child if its cell is empty or its cell's worst member has a lower score."""
        population = self._population
        scores, rows = population.scores, population.row_of
        scale = scale_of(float(scores.max()), self.top) if self._judged_graded else self.top
        known = self._cells if scale == self._cells_scale else {}
        self._cells_scale = scale
        self._cells = {
            id: known.get(id) or self._cell(scores[row], scale) for id, row in rows.items()
        }
        mine = self._cell(scores[population.spare], scale)
        rivals = [rows[id] for id, cell in self._cells.items() if cell == mine]
        if rivals:
            row = min(rivals, key=lambda row: fitness[row])
            return fitness[population.spare] > fitness[row], row
        if len(self) < self.size:
            return True, None
        # There are as many members as cells, so some share one.
        count = Counter(self._cells.values())
        shared = [rows[id] for id, cell in self._cells.items() if count[cell] > 1]
        return True, min(shared, key=lambda row: fitness[row])

    def draw_mate(self, parent: int, u: float) -> int:
        """Return the id of another member that ``u`` in [0, 1) picks by fitness."""
        return self._draw_other(self._row(parent), u)


class MapElites(Evolver):
    """MAP-Elites over a 10×10 grid of (odd accuracy, even accuracy), with M2N2's merge.

    Parents are drawn in proportion to their scores. "Odd" and "even" refer to the numbers of the
    classes; a task with one class is halved by the numbers of its data points.

    Args:
        task, seeds, options: as for ``Evolver``; ``archive_size`` is the number of cells, a square
            number.
    """

    method = "map-elites"
    own_operators = ("mate", "competition", "replacement")
    lowest_leaves = False  # the cell's elite leaves

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        archive_size: int = 100,
        alpha: float = 0.0,
        capacity: Capacity = "one",
        **options: Any,
    ) -> None:
        super().__init__(
            task, seeds, archive_size=archive_size, alpha=alpha, capacity=capacity, **options
        )

    def _new_archive(self, size: int, alpha: float, capacity: Capacity | None) -> Archive:
        side = round(whole_number("archive_size", size, 1) ** 0.5)
        if side * side != size or alpha != 0.0 or capacity != "one":
            raise InputError(
                f"MAP-Elites needs a square archive_size, alpha 0 and capacity 'one', got "
                f"{size}, {alpha:g} and {capacity!r}; leave them out for its 10×10 grid."
            )
        groups = self.task.groups if len(self.task.classes) > 1 else np.arange(self.task.points)
        return GridArchive(groups % 2 == 1, side, self.task.top)
