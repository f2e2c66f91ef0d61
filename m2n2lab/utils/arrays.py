"""Type aliases of arrays, whose shapes are given where one is described; tensors as arrays."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from m2n2lab.utils.errors import InputError

Array: TypeAlias = NDArray[Any]
"""An array of any dtype."""

Bytes: TypeAlias = NDArray[np.uint8]
"""An array of uint8: raw bytes, or channels of pixels."""

Floats: TypeAlias = NDArray[np.float64]
"""An array of float64."""

Indices: TypeAlias = NDArray[np.intp]
"""An array of intp: positions in another array."""

Reals: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
"""An array of float32 or of float64."""


def tensor_array(tensor: Any) -> Array:
    """Return a torch tensor as an array; one that NumPy has no dtype for, as float32.

    Args:
        tensor: of any dtype and layout, with a gradient or on a GPU.

    Raises:
        InputError: it has no numbers, as on the device ``meta``.
    """
    if tensor.is_meta:
        raise InputError(
            f"A tensor must have numbers, got one of shape {tuple(tensor.shape)} on the device "
            f"'meta', which has none; load its values first."
        )
    tensor = tensor.detach().cpu()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg()
    try:
        return np.asarray(tensor)
    except TypeError:  # bfloat16, float8: exact in float32
        return np.asarray(tensor.float())
