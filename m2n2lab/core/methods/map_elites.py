"""MAP-Elites: the best model of each cell of a grid of behaviours, with M2N2's merge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.archive import Archive, Capacity
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, whole_number


class GridArchive(Archive):
    """MAP-Elites' archive: the best model of each cell of a grid of behaviours.

    Args:
        halves: (D,) whether a data point counts for the first behaviour (else the second).
            A model's behaviours are its mean scores on either half.
        side: cells per side; the archive has up to side² members.
    """

    def __init__(self, halves: NDArray[np.bool_], side: int = 10) -> None:
        self.side = side
        self.halves = halves
        self._cells: dict[int, tuple[int, int]] = {}  # cells of the members, by id
        super().__init__(len(halves), side * side, alpha=0.0)

    def cell(self, scores: Floats) -> tuple[int, int]:
        """Return the cell that scores (D,) fall in; a perfect half falls in the last cell."""
        # A half without data points has score 0.
        first, second = (
            float(scores[half].sum()) / max(int(half.sum()), 1)
            for half in (self.halves, ~self.halves)
        )
        top = self.side - 1
        return min(int(first * self.side), top), min(int(second * self.side), top)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as ``Archive.load_state_dict``; cells by id of the old members are dropped."""
        self._cells = {}
        super().load_state_dict(state)

    def _contest(self, fitness: list[float]) -> tuple[bool, int | None]:
        """Accept a child if its cell is empty or the cell's elite has a lower score."""
        population = self._population
        self._cells = {
            id: self._cells.get(id) or self.cell(population.scores[row])
            for id, row in population.row_of.items()
        }
        mine = self.cell(population.scores[population.spare])
        for id, cell in self._cells.items():
            if cell == mine:
                row = population.row_of[id]
                return fitness[population.spare] > fitness[row], row
        return True, None

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

    def _new_archive(self, size: int, alpha: float, capacity: Capacity) -> Archive:
        side = round(whole_number("archive_size", size, 1) ** 0.5)
        if side * side != size or alpha != 0.0 or capacity != "one":
            raise InputError(
                f"MAP-Elites needs a square archive_size, alpha 0 and capacity 'one', got "
                f"{size}, {alpha:g} and {capacity!r}; leave them out for its 10×10 grid."
            )
        groups = self.task.groups if len(self.task.classes) > 1 else np.arange(self.task.points)
        return GridArchive(groups % 2 == 1, side)
