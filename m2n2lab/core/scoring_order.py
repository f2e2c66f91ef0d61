"""Scoring order: a child's data points, those first that are likely to decide.

An unscored data point j can decide at most the cost of failing there, c_j. Whether the child fails
is predicted from models with known scores s_mj: the parents' scores, each with its share of the
child, and those of each member. A child scores mostly where both parents do and hardly ever where
neither does, and it resembles further on what it has resembled so far. By Bayes' rule, with x_i the
scores so far, where each model predicts the child's score on a data point with odds of 3 to 1,

    p_j = Σ_m w_m s_mj,    w_m ∝ π_m 3^(Σ_i 1 − |x_i − s_mi|),

where the prior π gives the parents' scores a half and all members the other half. The next data
points are those of the largest c_j (1 − MAX_PROBABILITY · p_j).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.utils.arrays import Floats, Indices

MAX_PROBABILITY = 0.95
"""Probability of a score where all models score; below 1, so that their costs still order such."""

MODEL_ODDS = 3.0
"""Odds with which a model predicts the child's score on a data point."""


class Order:
    """The data points of one child, chunk by chunk.

    Args:
        cost: (D,) cost of failing; infinite where nothing is certain before.
        members: (P, D) scores of the members, in [0, 1].
        parents: (D,) scores of the parents, each with its share of the child, if it has any.
        kinds: data points of each value of ``Task.kinds``, which are scored together.
        chunk: maximum number of data points in a chunk.
    """

    def __init__(
        self,
        cost: Floats,
        members: Floats,
        parents: Floats | None,
        kinds: Sequence[Indices],
        chunk: int,
    ) -> None:
        self._cost, self._kinds, self._chunk = cost, kinds, chunk
        self._models = members if parents is None else np.vstack([members, parents])
        self._log = np.zeros(len(self._models))
        if parents is not None:
            self._log[-1] = math.log(len(members))

    def add(self, indices: Indices, scores: NDArray[Any]) -> None:
        """Add the child's scores (n,), in [0, 1], on data points (n,)."""
        likeness = 1.0 - np.abs(scores - self._models[:, indices])
        self._log += math.log(MODEL_ODDS) * likeness.sum(axis=1)

    @property
    def prediction(self) -> Floats:
        """(D,) p_j, the predicted scores of the child."""
        weights = np.exp(self._log - self._log.max())
        # Not by @, whose order of summation depends on the machine: a replay needs the same chunks.
        prediction: Floats = (weights[:, None] * self._models).sum(axis=0) / weights.sum()
        return prediction

    def next(self, unseen: NDArray[np.bool_]) -> Indices:
        """Return the data points to score next (n,), some of ``unseen`` (D,), all of one kind."""
        expected_loss = self._cost * (1.0 - MAX_PROBABILITY * self.prediction)
        left = [points[unseen[points]] for points in self._kinds]
        chunks = [self._first(points, expected_loss) for points in left if len(points)]
        return max(chunks, key=lambda chunk: float(expected_loss[chunk].sum()))

    def _first(self, left: Indices, expected_loss: Floats) -> Indices:
        """Return the first chunk of the data points left, cut into chunks of about equal size."""
        chunks = -(-len(left) // self._chunk)
        return left[np.argsort(-expected_loss[left], kind="stable")[: -(-len(left) // chunks)]]
