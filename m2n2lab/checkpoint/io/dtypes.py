"""The kinds of numbers that can be merged, and the arrays that hold them.

NumPy knows no bfloat16, so arrays carry their kind in their type by agreement: bfloat16 travels as
``uint16`` and float16 as ``int16``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from m2n2lab.utils.arrays import Array

DTYPES: Final[dict[str, type[np.generic]]] = {
    "BF16": np.uint16,
    "F16": np.int16,
    "F32": np.float32,
    "F64": np.float64,
}
"""Kinds by their names in safetensors, and how they travel."""

BYTES: Final = {kind: np.dtype(dtype).itemsize for kind, dtype in DTYPES.items()}
"""Bytes of one number of each kind."""

NAMES: Final = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
"""Kinds by the names that PyTorch gives them."""

TORCH_NAMES: Final = {kind: name for name, kind in NAMES.items()}
"""The names that PyTorch gives to kinds."""

SHORT: Final = {"bf16": "BF16", "fp16": "F16", "fp32": "F32", "fp64": "F64"}
"""Kinds by the names that people give them."""


def not_finite(source: Array) -> int | None:
    """Return the index of the first element that is NaN or infinite, or ``None``."""
    if source.dtype == np.uint16:
        bad = (source & 0x7F80) == 0x7F80
    elif source.dtype == np.int16:
        bad = (source & 0x7C00) == 0x7C00
    else:
        bad = ~np.isfinite(source)
    return int(bad.argmax()) if bad.any() else None
