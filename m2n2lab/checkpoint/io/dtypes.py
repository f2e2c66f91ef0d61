"""Dtypes that can be merged, and the NumPy types that hold them.

NumPy has no bfloat16, so arrays carry the bits of 16-bit floats by convention: bfloat16 as
``uint16``, float16 as ``int16``.
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
"""NumPy types by dtype, named as in safetensors."""

DTYPE_BYTES: Final = {dtype: np.dtype(array).itemsize for dtype, array in DTYPES.items()}
"""Bytes of an element of each dtype."""

FROM_TORCH: Final = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
"""Dtypes by their names in PyTorch."""

TORCH_NAMES: Final = {dtype: name for name, dtype in FROM_TORCH.items()}
"""Names in PyTorch by dtype."""

FROM_SHORT: Final = {"bf16": "BF16", "fp16": "F16", "fp32": "F32", "fp64": "F64"}
"""Dtypes by their short names."""


def not_finite(source: Array) -> int | None:
    """Return the index of the first element that is NaN or infinite, or ``None``."""
    if source.dtype == np.uint16:
        bad = (source & 0x7F80) == 0x7F80
    elif source.dtype == np.int16:
        bad = (source & 0x7C00) == 0x7C00
    else:
        bad = ~np.isfinite(source)
    return int(bad.argmax()) if bad.any() else None
