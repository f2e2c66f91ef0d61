"""Layout: the tensors along a flat vector."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.utils.errors import InputError, described

if TYPE_CHECKING:
    from torch import Tensor


class Layout:
    """Names and shapes of the tensors along a flat vector.

    Args:
        shapes: tensor name → shape, in the order along the vector.

    Attributes:
        offsets: (T + 1,) first index of each tensor, and N.
        size: N, length of the vector.

    Raises:
        InputError: ``shapes`` is no mapping of names to sequences of integers >= 0.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = _checked(shapes)
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


def _checked(shapes: Any) -> dict[str, tuple[int, ...]]:
    """Return names and shapes.

    Raises:
        InputError: they are something else.
    """
    if isinstance(shapes, Mapping):
        found = {name: tuple(shape) for name, shape in shapes.items() if _is_shape(shape)}
        if len(found) == len(shapes) and all(isinstance(name, str) for name in found):
            return found
    raise InputError(
        f"A layout must be shapes by name of the tensor, got {described(shapes)}; give for "
        f"example {{'weight': (10, 64), 'bias': (10,)}}."
    )


def _is_shape(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(n, (int, np.integer)) and n >= 0 for n in value
    )
