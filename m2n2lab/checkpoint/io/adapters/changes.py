"""Changes of a tensor by adapters, and the tensor that they lead to, computed on access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from m2n2lab.checkpoint.io.adapters.deltas import Delta
from m2n2lab.utils.arrays import Array, Floats

NORM_ELEMENTS = 1 << 19
"""Elements whose squares are summed at a time."""


BLOCK_ELEMENTS = 1 << 15
"""Elements that are changed at a time: what a change computes for them stays in a cache."""


@dataclass(frozen=True)
class Stretch:
    """The elements of a tensor that a delta belongs to: all, or some of its rows.

    Attributes:
        start: the first one.
        stop: end.
        offset: element of the delta that belongs to the first one.
    """

    start: int
    stop: int
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Change:
    """W + strength·Δ: what an adapter adds to a stretch of a tensor."""

    stretch: Stretch
    delta: Delta
    strength: float

    def apply(self, values: Floats, start: int) -> None:
        """Change the values of elements ``start..`` of the delta in place.

        Args:
            values: (n,) as earlier changes left them.
            start: index of the first in the delta.
        """
        values += self.strength * self.delta.values(start, start + values.size)


@dataclass(frozen=True, eq=False)
class Replacement(Change):
    """W + strength·(Δ − W): a tensor that was trained as a whole."""

    def apply(self, values: Floats, start: int) -> None:
        """Change the values of elements ``start..`` of the delta in place."""
        trained = self.delta.values(start, start + values.size)
        if self.strength == 1.0:
            values[:] = trained  # exactly
        else:
            values += self.strength * (trained - values)


@dataclass(frozen=True, eq=False)
class Decomposition(Change):
    """W + strength·(m/‖W₀+Δ‖·(W+Δ) − W): DoRA, which sets the norms of rows or columns.

    Attributes:
        magnitude: the norms m (n,).
        axis: 0 if they belong to the rows, 1 to the columns.
        inner: elements of a row that belong to one column, more than one in a convolution.
        base: the whole tensor W₀.
    """

    magnitude: Floats
    axis: int
    inner: int
    base: Array

    def apply(self, values: Floats, start: int) -> None:
        """Change the values of elements ``start..`` of the delta in place."""
        which = self._numbers(start, start + values.size)
        new = (self.magnitude / self._norms)[which]
        new *= values + self.delta.values(start, start + values.size)
        values += self.strength * (new - values)

    def _numbers(self, start: int, stop: int) -> Array:
        """Return the number of the norm of each element of the delta."""
        row, place = np.divmod(np.arange(start, stop), self.delta.shape[1])
        return row if self.axis == 0 else place // self.inner

    @cached_property
    def _norms(self) -> Floats:
        squares = np.zeros(self.magnitude.size)
        first = self.stretch.start
        for low in range(first, self.stretch.stop, NORM_ELEMENTS):
            high = min(low + NORM_ELEMENTS, self.stretch.stop)
            start = low - first + self.stretch.offset
            values = widened(self.base[low:high])
            values += self.delta.values(start, start + high - low)
            which = self._numbers(start, start + high - low)
            squares += np.bincount(which, values * values, minlength=squares.size)
        return np.maximum(np.sqrt(squares), np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class AdaptedTensor:
    """A flat tensor with the changes of adapters, in float64, computed on access.

    Attributes:
        base: the tensor that is changed.
        changes: the changes, in the order in which they are made.
    """

    base: Array
    changes: Sequence[Change]

    dtype = np.dtype(np.float64)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.base.size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, elements: slice) -> Floats:
        """Return the elements of a slice of step 1."""
        start, stop, _ = elements.indices(self.size)
        values = widened(self.base[start:stop])
        for change in self.changes:
            stretch = change.stretch
            last = min(stop, stretch.stop)
            for low in range(max(start, stretch.start), last, BLOCK_ELEMENTS):
                high = min(low + BLOCK_ELEMENTS, last)
                change.apply(
                    values[low - start : high - start], low - stretch.start + stretch.offset
                )
        return values


def widened(values: Array) -> Floats:
    """Return an array of one of ``DTYPES`` in float64."""
    from m2n2lab.checkpoint.kernels import blend  # numba takes a second to import

    found = np.empty(values.size)
    blend([values], [1.0], found)
    return found
