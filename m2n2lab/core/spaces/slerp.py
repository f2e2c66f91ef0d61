"""SLERP with a split point: the equation of a merge.

All of it is scalar arithmetic in double precision: a merge needs only the inner products of its two
parents, whatever their size and wherever their weights are stored.
"""

from __future__ import annotations

import math
from typing import NamedTuple

SIN_EPSILON = 1e-6
"""``sin ω`` up to which the parents count as (anti)parallel; SLERP is 0/0 there, lerp is used."""


class Coefficients(NamedTuple):
    """Factors of each parent on either side of the split."""

    a_before: float
    b_before: float
    a_after: float
    b_after: float


def angle(aa: float, bb: float, ab: float) -> float:
    """Return the angle ω in radians, in [0, π], between two vectors from their inner products.

    ω = arccos(clip(⟨A,B⟩ / (|A||B|), −1, 1)), the paper's angle over the whole flat vector
    (arXiv 2508.16204, §3.1). A zero vector has no direction; its angle is defined as 0, which
    makes the merge a lerp.

    Args:
        aa: ⟨A,A⟩.
        bb: ⟨B,B⟩.
        ab: ⟨A,B⟩.
    """
    norms = math.sqrt(aa) * math.sqrt(bb)
    if norms == 0.0:
        return 0.0
    return math.acos(min(1.0, max(-1.0, ab / norms)))


def slerp(omega: float, t: float) -> tuple[float, float]:
    """Return the factors of A and B in SLERP at ``t``: (1, 0) at t = 0 and (0, 1) at t = 1.

    f_t(A,B) = sin((1−t)ω)/sin ω · A + sin(tω)/sin ω · B, and (1−t)·A + t·B where sin ω ≤ 1e-6.
    """
    sine = math.sin(omega)
    if sine <= SIN_EPSILON:
        return 1.0 - t, t
    return math.sin((1.0 - t) * omega) / sine, math.sin(t * omega) / sine


def split_point(omega: float, mix: float) -> Coefficients:
    """Return the factors of a split-point merge: ``mix`` before the split, ``1 − mix`` after it.

    child[i] = f_w[i] for i < c and f_{1−w}[i] for i ≥ c, with w the mix and c the split.
    """
    a, b = slerp(omega, mix)
    # f_{1-w} is f_w with the parents' factors exchanged, so two sines are enough.
    return Coefficients(a, b, b, a)
