"""Scores: one number for each data point, as a search observes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.utils.arrays import tensor_array

MAX_SCORE = 1e100
"""Highest score that is accepted: with it, sums of weighted scores stay in the range of doubles."""


def as_scores(scores: Any) -> NDArray[Any]:
    """Return scores as an array: booleans as they are, all other numbers as float64.

    Sums of float16 overflow, and those of float32 differ from the sums of the same scores read from
    a store. Anything that holds no real numbers stays as it is, for the archive to refuse.

    Args:
        scores: an array, a list, or a torch tensor of any dtype, with a gradient or on a GPU; a
            list may hold such tensors.

    Raises:
        InputError: a tensor has no numbers.
    """
    if hasattr(scores, "detach"):
        scores = tensor_array(scores)
    elif isinstance(scores, (list, tuple)) and any(hasattr(score, "detach") for score in scores):
        scores = [tensor_array(score) if hasattr(score, "detach") else score for score in scores]
    try:
        array = np.asarray(scores)
    except ValueError:  # rows of different lengths
        array = np.asarray(scores, dtype=object)
    except TypeError:  # an object that refuses to be an array
        array = np.empty((), dtype=object)
    return array.astype(np.float64, copy=False) if array.dtype.kind in "iuf" else array


def scale_of(highest: float, top: float) -> float:
    """Return the score that counts as a full one where the highest observed one is ``highest``.

    It is ``top`` while ``highest`` lies in [top / 10, top], and else the least top · 2^k that is
    not below it: in steps, because a measure on this scale is only comparable between moments of
    equal scale.

    Args:
        highest: the highest observed score.
        top: the highest score that a data point can get, as declared.
    """
    scale = top
    while highest > scale:
        scale *= 2.0
    if 0.0 < highest < top / 10.0:
        while highest <= scale / 2.0:
            scale /= 2.0
    return scale
