"""Type aliases of arrays; shapes are given where an array is described."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
