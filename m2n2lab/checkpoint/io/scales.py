"""Scales of weights in 8-bit floats, which single files keep beside the weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from m2n2lab.checkpoint.io.dtypes import DTYPES, EIGHT_BITS
from m2n2lab.checkpoint.io.tensor_file import Entry
from m2n2lab.utils.arrays import Array

_SCALE = re.compile(r"(.*\.|)(scale_weight|weight_scale)$")
"""Scales: of ComfyUI's ``scaled_fp8`` files and of other programs."""

_BESIDE = re.compile(r"(.*\.|)(scale_input|input_scale|comfy_quant)$")
"""What else is beside such weights, for arithmetic in 8 bits."""

_MARKER = re.compile(r"(.*\.|)scaled_fp8$")
"""An empty tensor that says that weights under its prefix have scales."""


def scales(entries: Mapping[str, Entry]) -> dict[str, str]:
    """Return the name of the scale of each weight of a file that has one.

    A scale is one number, or one for each row.
    """
    found = {}
    for name, entry in entries.items():
        if not (match := _SCALE.fullmatch(name)) or entry.dtype not in DTYPES:
            continue
        weight = entries.get(f"{match[1]}weight")
        if weight is None or weight.dtype not in EIGHT_BITS:
            continue
        if entry.size == 1 or (
            entry.shape[:1] == weight.shape[:1] and entry.size == entry.shape[0]
        ):
            found[f"{match[1]}weight"] = name
    return found


def beside_scales(names: Iterable[str], scaled: Mapping[str, str]) -> dict[str, str]:
    """Return what is of no use once scaled weights are widened: name → a weight it belongs to.

    Args:
        names: the tensors of a checkpoint.
        scaled: its scales by weight.
    """
    found = {scale: weight for weight, scale in scaled.items()}
    for name in names:
        if match := _BESIDE.fullmatch(name):
            weight = f"{match[1]}weight"
            if weight in scaled:
                found[name] = weight
        elif match := _MARKER.fullmatch(name):
            under = [weight for weight in scaled if weight.startswith(match[1])]
            if under:
                found[name] = under[0]
    return found


class Scaled:
    """Weights times their scales: float32 values, computed for those elements that are read.

    Args:
        bits: (n,) weights in 8 bits.
        scale: (1,) for all of them, or (rows,).
    """

    dtype = np.dtype(np.float32)

    def __init__(self, bits: Array, scale: Array) -> None:
        self._bits, self._scale = bits, _widened(scale)
        self.size = bits.size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> Array:
        start, stop, _ = part.indices(self.size)
        values = _widened(self._bits[start:stop])
        if self._scale.size == 1:
            return values * self._scale
        rows = np.arange(start, stop) // (self.size // self._scale.size)
        return values * self._scale[rows]


def _widened(source: Array) -> Array:
    """Return an array of one of ``DTYPES`` in float32."""
    from m2n2lab.checkpoint.kernels import blend  # numba takes a second to import

    values = np.empty(source.size, np.float32)
    blend([source], [1.0], values)
    return values
