"""Layout: the tensors along a flat vector."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


class Layout:
    """Names and shapes of the tensors along a flat vector.

    Args:
        shapes: tensor name → shape, in the order along the vector.

    Attributes:
        offsets: (T + 1,) first index of each tensor, and N.
        size: N, length of the vector.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {k: tuple(v) for k, v in shapes.items()}
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes.values()]
        self.offsets: tuple[int, ...] = (0, *np.cumsum(sizes, dtype=np.int64).tolist())
        self.size: int = self.offsets[-1]
        self._slices = tuple(
            zip(self.shapes, self.offsets, self.offsets[1:], self.shapes.values(), strict=False)
        )

    def locate(self, index: int) -> str:
        """Return the tensor and row of a flat index as text, such as ``W1 row 43``."""
        if not 0 <= index < self.size:
            return "the end" if index == self.size else "outside"
        at = bisect_right(self.offsets, index) - 1
        name, shape = list(self.shapes.items())[at]
        inside = index - self.offsets[at]
        if len(shape) < 2:
            return f"{name} entry {inside}"
        return f"{name} row {inside // int(np.prod(shape[1:]))}"

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of ``vector`` (N,) by tensor name, in their shapes."""
        return {name: vector[start:end].view(shape) for name, start, end, shape in self._slices}


def check_stretches(edges: Sequence[int], count: int, size: int) -> None:
    """Check that edges (E+1,) are non-decreasing from 0 to ``size``, for ``count`` stretches.

    Raises:
        InputError: they are not.
    """
    ends = np.asarray(edges)
    runs = ends.ndim == 1 and len(ends) > 1 and bool((np.diff(ends) >= 0).all())
    if not runs or (ends[0], ends[-1]) != (0, size) or count != len(ends) - 1:
        raise InputError(
            f"edges must be non-decreasing integers from 0 to {size} with a mix for each "
            f"stretch between them, got {list(edges)} with {count} mixes; give one edge more than "
            f"mixes."
        )
