"""CycleQD: tasks take turns as the quality, with the other tasks as behaviours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from m2n2lab.core.methods.behaviours import Behaviours, Measure, Named
from m2n2lab.core.methods.map_elites import DEFAULT_SIDES, GridArchive, MapElites
from m2n2lab.core.records import Generation, Partial, Verdict
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Floats

LOWEST_CHANCE, HIGHEST_CHANCE = 0.5, 0.8
"""Factors of a parent's chance for the lowest and the highest of the elites' scores in a task."""

Values = tuple[float, ...]


class CycleArchive(GridArchive):
    """The elites of n grids, one for each of n values of a model, such as its scores in n tasks.

    In grid k value k is the quality and the others are the behaviours: each cell's elite is the
    member with the highest quality, the oldest of equals. A child is accepted if it becomes the
    elite of its cell in some grid. A member that is in no grid any more leaves, one a step.

    Args:
        points, behaviours, sides, top: as for ``GridArchive``; an axis for each value.

    Attributes:
        turn: number of the grid whose turn it is: parents are its elites.
    """

    def __init__(
        self, points: int, behaviours: Behaviours, sides: Sequence[int], top: float = 1.0
    ) -> None:
        self.turn = 0
        self._decisive = 0  # the grid that decided about the child that was judged last
        self._child: Values = ()  # the values of that child
        super().__init__(points, behaviours, sides, top)

    @staticmethod
    def cells_of(sides: Sequence[int]) -> int:
        """Return the number of cells of all grids."""
        return sum(math.prod(sides[:k]) * math.prod(sides[k + 1 :]) for k in range(len(sides)))

    def elites(self, grid: int) -> dict[tuple[int, ...], int]:
        """Return the id of each elite of a grid, by cell."""
        return self._elites(grid, self._population.scale)

    def _elites(self, grid: int, scale: float) -> dict[tuple[int, ...], int]:
        values, found = self._member_values(), dict[tuple[int, ...], int]()
        for id, whole in self._member_cells(scale).items():  # oldest first
            cell = _without(whole, grid)
            if cell not in found or values[found[cell]][grid] < values[id][grid]:
                found[cell] = id
        return found

    def _contest(self, fitness: list[float]) -> tuple[bool, int | None]:
        """Accept a child that becomes an elite; a member that is none any more leaves."""
        population, values = self._population, self._member_values()
        rows, scale = population.row_of, self._child_scale()
        self._child = child = self.behaviours.values(population.scores[population.spare])
        whole = self._cell(child, scale)
        grids = [(self.turn + k) % len(child) for k in range(len(child))]
        elites = {k: self._elites(k, scale) for k in grids}
        rivals = {k: elites[k].get(_without(whole, k)) for k in grids}
        won = [k for k, id in rivals.items() if id is None or child[k] > values[id][k]]
        if not won:
            self._decisive = self.turn
            rival = rivals[self.turn]
            assert rival is not None  # an empty cell is won
            return False, rows[rival]
        kept = {
            id
            for k in grids
            for cell, id in elites[k].items()
            if k not in won or cell != _without(whole, k)
        }
        idle = [id for id in rows if id not in kept]
        self._decisive = won[0]
        if not idle:
            return True, None
        beaten = [k for k in won if rivals[k] in idle]
        if beaten:
            self._decisive = beaten[0]
            leaving = rivals[beaten[0]]
            assert leaving is not None
        else:  # one that an earlier child beat
            leaving = min(idle, key=lambda each: fitness[rows[each]])
            above = [k for k in won if child[k] >= values[leaving][k]]
            self._decisive = (above or won)[0]
        return True, rows[leaving]

    def judge(self, scores: ArrayLike | Partial) -> Verdict:
        """Return the verdict on a child; its fitness is the quality that decided."""
        verdict = super().judge(scores)
        grid, values = self._decisive, self._member_values()
        mine = self._child[grid]
        return replace(
            verdict,
            fitness=mine,
            rank=1 + sum([other[grid] > mine for other in values.values()]),
            rival_fitness=None if verdict.rival is None else values[verdict.rival][grid],
        )

    def draw_parent(self, u: float) -> int:
        """Return the id of the elite of this turn's grid that ``u`` in [0, 1) picks.

        Its chance is the product over all values of the value's place among those of the elites,
        from 0.5 for the lowest to 0.8 for the highest.
        """
        population = self._population
        return population.pick(population.wheel(self._chances()), u)

    def draw_mate(self, parent: int, u: float) -> int:
        """Return the id of another elite of this turn's grid, likewise, or of another member."""
        row, population, chances = self._row(parent), self._population, self._chances()
        chances[row] = 0.0
        if not chances.any():
            return self._draw_other(row, u)
        return population.pick(population.wheel(chances), u)

    def _chances(self) -> Floats:
        """Return the chance (P + 1,) of each row, without a common factor."""
        population, values = self._population, self._member_values()
        ids = sorted(self.elites(self.turn).values())
        table = np.array([values[id] for id in ids])  # (elites, n)
        low, high = table.min(axis=0), table.max(axis=0)
        spread = np.where(high > low, high - low, 1.0)
        place = np.where(high > low, (table - low) / spread, 1.0)
        chances = np.zeros(len(population.rows))
        factors = LOWEST_CHANCE + (HIGHEST_CHANCE - LOWEST_CHANCE) * place
        chances[[population.row_of[id] for id in ids]] = factors.prod(axis=1)
        return chances


def _without(cell: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return a cell without one coordinate."""
    return cell[:axis] + cell[axis + 1 :]


class CycleQd(MapElites):
    """CycleQD (arXiv 2410.14735) with M2N2's merge: MAP-Elites in a grid for each task.

    ::

        task = lab.tasks.gsm8k() + lab.tasks.webshop()
        lab.make_evolver("cycle-qd", task, seeds)

    In the grid of a task its score is the quality, and the scores in the other tasks are the
    behaviours. The grids take turns, one a step: both parents are elites of the grid whose turn it
    is. The child competes in all grids. The merge and the mutation are those of the lab, not the
    paper's mean of task vectors and its mutation along singular vectors.

    A verdict's fitness is the mean score in the task that decided, that of the turn if the child
    is rejected. Proposals that are asked for ahead, as by workers, belong to the turn at which they
    were asked for.

    Args:
        task, seeds, alpha, capacity, options: as for ``MapElites``.
        archive_size: number of cells of all grids.
        behaviours: the values that take turns, as for ``MapElites``. By default one for each class
            or task if there are 2 to 4, else the halves of odd and even numbers.
        axes: 2 to 4 axes, (name, low, high) each, as for ``MapElites``.
        side: number of cells along each axis, or one number for all; 10 by default, 5 for four
            axes.
    """

    method = "cycle-qd"
    saves = True  # the turn is the number of the step
    axis_bounds = (2, 4)
    archive_type = CycleArchive

    archive: CycleArchive

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        behaviours: Named | Measure | None = None,
        **options: Any,
    ) -> None:
        if behaviours is None:
            low, high = self.axis_bounds
            behaviours = "classes" if low <= len(task.classes) <= high else "halves"
        super().__init__(task, seeds, behaviours=behaviours, **options)

    def _default_side(self) -> int:
        return DEFAULT_SIDES[len(self._behaviours.axes) - 1]

    def _size_text(self, archive_size: int, cells: int) -> str:
        n = len(self._behaviours.axes)
        return (
            f"CycleQD needs an archive_size that is the number of cells of all grids, {n} × side"
            f"{'²³'[n - 3] if n > 2 else ''}, got {archive_size} for {cells}; leave it out, or "
            f"give side."
        )

    def _learn(self, generation: Generation) -> None:
        self._take_turn()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as ``Evolver.load_state_dict``, with the turn of the next step."""
        super().load_state_dict(state)
        self._take_turn()

    def _take_turn(self) -> None:
        self.archive.turn = self._step % len(self._behaviours.axes)
