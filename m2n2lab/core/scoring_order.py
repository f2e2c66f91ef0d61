"""In which order a child is tried on data points: those first that are likely to decide.

What an unscored data point can still decide is what failing there costs the child, c_j. Whether it
will is guessed from whom the child takes after. Like its parents, it scores mostly where both do
and hardly ever where neither does; and it scores like somebody whom it has resembled so far. So it
is taken for one of several models with scores s_mj: its parents' scores, each with its share of the
child, or those of any member. By Bayes' rule, with x_i what it scored so far and where each model
gives a child's score on a data point with odds of 3 to 1,

    p_j = Σ_m w_m s_mj,    w_m ∝ π_m 3^(Σ_i 1 − |x_i − s_mi|),

where π gives the parents' scores a half and all members the other half. The next data points are
those of the largest c_j (1 − HOPE · p_j).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.utils.arrays import Floats, Indices

HOPE = 0.95
"""How likely a child scores where everybody does: not surely, or all such would be last alike."""

ODDS = 3.0


class Order:
    """The data points of one child, chunk by chunk.

    Args:
        cost: (D,) what failing costs; infinite where nothing is certain before.
        members: (P, D) scores of the members, in [0, 1].
        parents: (D,) what the parents score, each with its share of the child, where it has any.
        kinds: data points that can be scored together, kind by kind.
        chunk: how many are, at most.
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
        """Take what the child scored (n,), in [0, 1], on data points (n,)."""
        likeness = 1.0 - np.abs(scores - self._models[:, indices])
        self._log += math.log(ODDS) * likeness.sum(axis=1)

    @property
    def guess(self) -> Floats:
        """(D,) p_j, what the child probably scores."""
        weights = np.exp(self._log - self._log.max())
        # Not by @, which may sum in another order elsewhere: a replay takes the same chunks again.
        guess: Floats = (weights[:, None] * self._models).sum(axis=0) / weights.sum()
        return guess

    def next(self, unseen: NDArray[np.bool_]) -> Indices:
        """Return the data points to score next (n,), of one kind and some of ``unseen`` (D,)."""
        worth = self._cost * (1.0 - HOPE * self.guess)
        left = [kind[unseen[kind]] for kind in self._kinds]
        chunks = [self._first(part, worth) for part in left if len(part)]
        return max(chunks, key=lambda chunk: float(worth[chunk].sum()))

    def _first(self, left: Indices, worth: Floats) -> Indices:
        """Return the first chunk of what is left of a kind, cut into chunks of about one size."""
        chunks = -(-len(left) // self._chunk)
        return left[np.argsort(-worth[left], kind="stable")[: -(-len(left) // chunks)]]
