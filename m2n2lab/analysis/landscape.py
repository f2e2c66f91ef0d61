"""Landscape of one pair: the child's score over split × mix, from coarse to fine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.records import Proposal
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, whole_number

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver


CELLS = 17
"""Splits and mixes of a landscape, 2^k + 1, so that halving the step reaches all."""


class LandscapeData(NamedTuple):
    """A landscape as far as it is evaluated.

    Attributes:
        parents: ids of A and B.
        splits: (n,) indices of the flat vector, from 0 to N.
        mixes: (n,) from 0 to 1.
        scores: (n, n) mean score of the child, rows mixes and columns splits; a cell that was not
            evaluated yet has the score of the coarser cell that contains it, or NaN.
        known: (n, n) which cells were evaluated.
        best: row and column of the best evaluated cell, or ``None``.
    """

    parents: tuple[int, int]
    splits: NDArray[np.int64]
    mixes: Floats
    scores: Floats
    known: NDArray[np.bool_]
    best: tuple[int, int] | None

    @property
    def done(self) -> int:
        """Number of evaluated cells."""
        return int(np.count_nonzero(self.known))

    @property
    def complete(self) -> bool:
        """Whether all cells were evaluated."""
        return self.done == self.scores.size

    def cell(self, split: float, mix: float) -> tuple[int, float]:
        """Return the split and mix of the nearest cell, for a click on the map."""
        column = int(np.argmin(np.abs(self.splits - split)))
        row = int(np.argmin(np.abs(self.mixes - mix)))
        return int(self.splits[column]), float(self.mixes[row])


class Landscape:
    """A landscape of one pair that is evaluated cell by cell.

    Mutation is left out, because its noise would differ from cell to cell.

    Args:
        evolver: the search.
        parents: ids of A and B.
        cells: splits and mixes, 2^k + 1.
        genomes: of A and B, which need not be members then.

    Raises:
        InputError: a parent is not in the archive, or ``cells`` is not 2^k + 1.
    """

    def __init__(
        self,
        evolver: Evolver,
        parents: tuple[int, int],
        cells: int = CELLS,
        genomes: tuple[Any, Any] | None = None,
    ) -> None:
        if (whole_number("cells", cells, 2) - 1) & (cells - 2):
            raise InputError(
                f"cells must be one more than a power of two, got {cells}; take 9 or {CELLS}."
            )
        self.parents = parents
        self._evolver = evolver
        # Genomes, because the parents may leave the archive before the map is complete.
        if genomes is None:
            a, b = evolver.check(Proposal(parents, 0, 0.0, 0))
            genomes = a.genome, b.genome
        self._a, self._b = genomes
        self._splits = np.linspace(0, evolver.space.size, cells).round().astype(np.int64)
        self._mixes = np.linspace(0.0, 1.0, cells)
        self._exact = np.full((cells, cells), np.nan)
        self._shown = self._exact.copy()
        self._left = deque(_coarse_to_fine(cells))

    def advance(self) -> bool:
        """Evaluate the next cell; returns whether there was one."""
        if not self._left:
            return False
        row, column, reach = self._left[0]
        space, task = self._evolver.space, self._evolver.task
        at = Proposal(self.parents, int(self._splits[column]), float(self._mixes[row]), 0)
        child = self._evolver.crossed(self._a, self._b, at)
        score = float(np.mean(task.evaluate(space.materialise(child))))
        self._left.popleft()  # only now, because an evaluation can be stopped
        self._exact[row, column] = score
        around = np.s_[
            max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1
        ]
        unknown = np.isnan(self._exact[around])
        self._shown[around][unknown] = score
        self._shown[row, column] = score
        return True

    def data(self) -> LandscapeData:
        """Return the landscape as far as it is evaluated."""
        known = ~np.isnan(self._exact)
        best = None
        if known.any():
            row, column = np.unravel_index(np.nanargmax(self._exact), self._exact.shape)
            best = int(row), int(column)
        return LandscapeData(
            self.parents, self._splits, self._mixes, self._shown.copy(), known, best
        )


def landscape_data(evolver: Evolver, a: int, b: int, cells: int = CELLS) -> LandscapeData:
    """Evaluate a pair's whole landscape, which takes ``cells``² children.

    Args:
        evolver: the search; other threads can step it meanwhile.
        a, b: ids of the parents.
        cells: splits and mixes, 2^k + 1.

    Raises:
        InputError: a parent is not in the archive, or ``cells`` is not 2^k + 1.
    """
    landscape, more = Landscape(evolver, (a, b), cells), True
    while more:
        with evolver.turn():
            more = landscape.advance()
    return landscape.data()


def _coarse_to_fine(cells: int) -> Iterator[tuple[int, int, int]]:
    """Return row, column and extent of each cell to its neighbours, coarsest first."""
    seen: set[tuple[int, int]] = set()
    step = cells - 1
    while step >= 1:
        for row in range(0, cells, step):
            for column in range(0, cells, step):
                if (row, column) not in seen:
                    seen.add((row, column))
                    yield row, column, step // 2
        step //= 2
