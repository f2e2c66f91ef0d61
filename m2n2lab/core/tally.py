"""Tally: fitness and attraction of right/wrong scores in large archives, by counting bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from m2n2lab.utils.arrays import Floats, Indices

LARGE = 2**19
"""Number of scores, rows times data points, from which an archive counts bits; smaller ones keep
their sums of products, bit for bit."""

WORD = 64
"""Bits of a word."""


class Tally:
    """How many data points of each total z every member solves.

    While c_j is 1 and scores are 0 or 1, the weight of a data point depends on its total alone, a
    whole number v. So with N_k(v) = |{j : s_kj = 1, z_j = v}|

        fitness_k = Σ_v N_k(v) / v^α,

    and likewise attraction, with the data points that B solves and A does not. Data points are put
    in the order of their totals, one bit each, the first of each total at the start of a word:
    then N_k(v) is the number of bits in a range of words. Counts are exact, in any order.

    Args:
        scores: (R, D) right or wrong, ``False`` in empty rows.
        z: (D,) their totals.
        weigh: returns the weights of totals.
    """

    def __init__(
        self, scores: NDArray[np.bool_], z: Floats, weigh: Callable[[Floats], Floats]
    ) -> None:
        totals = z.astype(np.int16 if len(scores) < 2**15 else np.int64)
        order = np.argsort(totals, kind="stable")  # (D,)
        numbers = np.bincount(totals)  # of data points of each total
        present = np.flatnonzero(numbers)  # (V,) the totals that occur
        numbers = numbers[present]
        words = -(-numbers // WORD)
        self._starts: Indices = np.cumsum(words) - words  # (V,) first word of each total
        first = np.cumsum(numbers) - numbers
        places = np.arange(len(z)) + np.repeat(self._starts * WORD - first, numbers)
        length = int(words.sum())
        self._points = np.full(length * WORD, len(z))  # the data point of each bit; D is none
        self._points[places] = order
        self._bits = np.empty((len(scores), length), np.uint64)  # (R, W)
        for row, mine in enumerate(scores):
            self._bits[row] = self._pack(mine)
        self._numbers = self._count(self._bits)  # (R, V) N_k(v)
        values = present.astype(float)
        self._now = weigh(values)  # (V,) weight of each total
        self._next = weigh(values + 1.0)  # and of one more

    def _pack(self, scores: NDArray[np.bool_]) -> NDArray[np.uint64]:
        """Return scores (D,) as words."""
        return np.packbits(np.append(scores, False)[self._points]).view(np.uint64)

    def _count(self, bits: NDArray[np.uint64]) -> Floats:
        """Return the number of bits (K, V) of each total in words (K, W)."""
        return np.add.reduceat(np.bitwise_count(bits), self._starts, axis=1, dtype=float)

    def fitness(self) -> Floats:
        """Return the fitness (R,) of all rows."""
        return np.asarray(np.vecdot(self._numbers, self._now))

    def fitness_with(self, child: NDArray[np.bool_], row: int) -> Floats:
        """Return the fitness (R,) of all rows with a child's scores (D,) in an empty ``row``."""
        mine = self._pack(child)
        shared = self._count(self._bits & mine)  # (R, V) solved by the child too
        shared[row] = self._count(mine[None])[0]
        rest = self._numbers - shared
        rest[row] = 0.0
        return np.asarray(np.vecdot(rest, self._now) + np.vecdot(shared, self._next))

    def attraction(self, rows: Indices) -> Floats:
        """Return g(A, B) (P, P) of some rows (P,), rows A and columns B."""
        bits = self._bits[rows]
        return np.array([np.vecdot(self._count(bits & ~mine), self._now) for mine in bits])
