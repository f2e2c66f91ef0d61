"""Shares: how much of each model a child's buffers have, which are merged by weighted means.

A share is never negative and a model's shares add up to 1, so that a merged variance lies between
those of the models, whatever the factors of their weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from m2n2lab.utils.arrays import Floats


def shares_of(factors: ArrayLike) -> Floats:
    """Return max(f_ek, 0) / Σ_l max(f_el, 0) for factors (E, K); a row without any is the first's.

    Factors that are not negative and add up to 1, as those of a lerp, are the shares.
    """
    positive = np.maximum(np.asarray(factors, float), 0.0)
    positive[~positive.any(axis=1), 0] = 1.0
    shares: Floats = positive / positive.sum(axis=1, keepdims=True)
    return shares


def linear_shares(mixes: Sequence[float]) -> Floats:
    """Return the shares (E, 2) of A and B, 1 − t and t, for mixes t (E,), cut to [0, 1]."""
    t = np.clip(np.asarray(mixes, float), 0.0, 1.0)
    return np.column_stack((1.0 - t, t))


def shares_at(edges: Sequence[int], shares: Floats, places: ArrayLike) -> Floats:
    """Return the shares (n, K) at places (n,) in [0, N), of those (E, K) between edges (E+1,)."""
    found: Floats = shares[np.searchsorted(np.asarray(edges), places, side="right") - 1]
    return found
