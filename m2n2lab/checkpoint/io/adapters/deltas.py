"""Deltas: matrices that adapters add to weights, kept as factors and computed element by element.

Their elements are numbered along the rows, as those of the weight that they belong to; a weight of
a convolution is a matrix with a row for each output channel. All arithmetic is in float64, in an
order that depends on nothing but the shapes, so that the same bytes come out whatever the pieces.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from m2n2lab.checkpoint.io.dtypes import DTYPES
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.checkpoint.io.tensor_file import TensorFile
from m2n2lab.utils.arrays import Array, Floats

KEPT_BYTES = 1 << 24
"""Memory for factors that are kept when others are read: the pieces of one delta come in a row."""

PIECE_ELEMENTS = 1 << 16
"""Elements of a Kronecker product that are computed at a time, since each needs its indices."""

Factors = tuple[Array, Array]


class Delta(Protocol):
    """A matrix of which any stretch can be computed."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def values(self, start: int, stop: int) -> Floats:
        """Return the elements ``start..stop`` along the rows.

        Raises:
            Problems: the adapter holds NaN or infinity.
        """


@dataclass(frozen=True, eq=False)
class LowRank:
    """The product of a tall and a wide matrix.

    Attributes:
        shape: rows and columns.
        factors: reads the matrices (rows, r) and (r, columns), in float32 or float64.
        scale: factor of the first.
    """

    shape: tuple[int, int]
    factors: Callable[[], Factors]
    scale: float = 1.0

    def values(self, start: int, stop: int) -> Floats:
        """Return the elements ``start..stop`` along the rows."""
        from m2n2lab.checkpoint.kernels import product  # numba takes a second to import

        left, right = _kept(self)
        first, last = start // self.shape[1], -(-stop // self.shape[1])
        rows = left[first:last].astype(np.float64) * self.scale
        done = first * self.shape[1]
        return product(rows, right, start - done, stop - done)


class _Kept:
    """The factors of the deltas that were used last: ``KEPT_BYTES`` of them and one pair more."""

    def __init__(self) -> None:
        self._found: OrderedDict[LowRank | Kronecker, Factors] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, delta: LowRank | Kronecker) -> Factors:
        """Return the factors of a delta, contiguous."""
        with self._lock:  # others wait for what is being read, rather than read it again
            if delta not in self._found:
                while self._bytes() > KEPT_BYTES:
                    self._found.popitem(last=False)
                left, right = map(np.ascontiguousarray, delta.factors())
                self._found[delta] = left, right
            self._found.move_to_end(delta)
            return self._found[delta]

    def _bytes(self) -> int:
        return sum(factor.nbytes for pair in self._found.values() for factor in pair)


_kept = _Kept()


@dataclass(frozen=True, eq=False)
class Hadamard:
    """The product of two matrices, element by element: LoHa."""

    a: Delta
    b: Delta

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.a.shape

    def values(self, start: int, stop: int) -> Floats:
        """Return the elements ``start..stop`` along the rows."""
        return self.a.values(start, stop) * self.b.values(start, stop)


@dataclass(frozen=True, eq=False)
class Kronecker:
    """The Kronecker product of two small matrices: LoKr.

    Attributes:
        shape: rows and columns.
        factors: reads the two matrices, the scale included.
        second: shape of the second.
    """

    shape: tuple[int, int]
    factors: Callable[[], Factors]
    second: tuple[int, int]

    def values(self, start: int, stop: int) -> Floats:
        """Return the elements ``start..stop`` along the rows."""
        first, second = _kept(self)
        rows, columns = self.second
        found = np.empty(stop - start)
        for low in range(start, stop, PIECE_ELEMENTS):
            high = min(low + PIECE_ELEMENTS, stop)
            i, j = np.divmod(np.arange(low, high), self.shape[1])
            part = first[i // rows, j // columns] * second[i % rows, j % columns]
            found[low - start : high - start] = part
        return found


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor of an adapter's file as it is, times a scale.

    Attributes:
        shape: rows and columns.
        file: the file.
        name: the tensor.
        scale: its factor.
    """

    shape: tuple[int, int]
    file: TensorFile
    name: str
    scale: float = 1.0

    def values(self, start: int, stop: int) -> Floats:
        """Return the elements ``start..stop`` along the rows."""
        return read(self.file, self.name, start, stop) * self.scale


def matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a weight as a matrix with a row for each output channel."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def narrow(file: TensorFile, name: str) -> Array:
    """Return an adapter's tensor in float32, or in float64 if it is stored so; raises as ``read``.

    In half the memory, these are the same numbers.
    """
    return _read(file, name, np.float64 if file.entries[name].dtype == "F64" else np.float32)


def read(file: TensorFile, name: str, start: int = 0, stop: int | None = None) -> Floats:
    """Return elements ``start..stop`` of an adapter's tensor in float64.

    Raises:
        Problems: it holds no floating-point numbers, or NaN or infinity.
    """
    return _read(file, name, np.float64, start, stop)


def _read(
    file: TensorFile, name: str, dtype: type, start: int = 0, stop: int | None = None
) -> Array:
    from m2n2lab.checkpoint.kernels import blend  # as above

    stop = file.entries[name].size if stop is None else stop
    if file.entries[name].dtype not in DTYPES:
        raise Problems(_wrong_numbers(file, name, f"{file.entries[name].dtype} numbers"))
    found: Array = np.empty(stop - start, dtype)
    if not blend([file.stored(name)[start:stop]], [1.0], found):
        raise Problems(_wrong_numbers(file, name, "NaN or infinity"))
    return found


def number(file: TensorFile, name: str) -> float:
    """Return the only element of an adapter's tensor, which may be an integer.

    Raises:
        Problems: it has others, or is no finite number.
    """
    entry = file.entries[name]
    if entry.size != 1:
        raise Problems(_wrong_numbers(file, name, f"shape {entry.shape}"))
    if entry.dtype in ("I64", "I32", "I16", "I8"):
        return float(int.from_bytes(file.raw(name), "little", signed=True))
    return float(read(file, name)[0])


def _wrong_numbers(file: TensorFile, name: str, found: str) -> Problem:
    return Problem(
        file=str(file.path),
        tensor=name,
        expected=f"finite numbers in {', '.join(DTYPES)}",
        found=found,
        fix="repair this adapter or leave it out",
    )
