"""Dtypes that can be merged, and the NumPy types that hold them.

NumPy has no bfloat16, so arrays carry the bits of 16-bit floats by convention: bfloat16 as
``uint16``, float16 as ``int16``; and 8-bit floats e4m3fn as ``uint8``, e5m2 as ``int8``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from m2n2lab.utils.arrays import Array

DTYPES: Final[dict[str, type[np.generic]]] = {
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.int8,
    "BF16": np.uint16,
    "F16": np.int16,
    "F32": np.float32,
    "F64": np.float64,
}
"""NumPy types by dtype, named as in safetensors."""

DTYPE_BYTES: Final = {dtype: np.dtype(array).itemsize for dtype, array in DTYPES.items()}
"""Bytes of an element of each dtype."""

EIGHT_BITS: Final = ("F8_E4M3", "F8_E5M2")
"""Dtypes in which weights are only kept: modules compute in ``WIDE``."""

WIDE: Final = "BF16"
"""Dtype that holds all numbers of ``EIGHT_BITS``."""

FROM_TORCH: Final = {
    **{"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
}
"""Dtypes by their names in PyTorch."""

TORCH_NAMES: Final = {dtype: name for name, dtype in FROM_TORCH.items()}
"""Names in PyTorch by dtype."""

FROM_SHORT: Final = {
    **{"bf16": "BF16", "fp16": "F16", "fp32": "F32", "fp64": "F64"},
    **{"fp8": "F8_E4M3", "fp8_e5m2": "F8_E5M2"},
}
"""Dtypes by their short names."""


def not_finite(source: Array) -> int | None:
    """Return the index of the first element that is NaN or infinite, or ``None``."""
    if source.dtype == np.uint16:
        bad = (source & 0x7F80) == 0x7F80
    elif source.dtype == np.int16:
        bad = (source & 0x7C00) == 0x7C00
    elif source.dtype == np.uint8:
        bad = (source & 0x7F) == 0x7F
    elif source.dtype == np.int8:
        bad = (source & 0x7C) == 0x7C
    else:
        bad = ~np.isfinite(source)
    return int(bad.argmax()) if bad.any() else None
