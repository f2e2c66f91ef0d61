"""Stretches of a flat vector: the check of their edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m2n2lab.utils.errors import InputError


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
