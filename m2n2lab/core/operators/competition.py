"""Competition: the weight of each data point in the fitness of all members."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from m2n2lab.core.operators.operator import Operator
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import real_number


class Competition(Operator, ABC):
    """A rule that weighs data points: fitness_k = Σ_j v_j (s_kj − b_j).

    ::

        class Rare(m2n2lab.Competition):
            def weights(self, scores):                      # (P, D)
                return 1.0 / (1.0 + (scores > 0).sum(axis=0)) ** 2
    """

    what = "competition"

    can_bound = False
    """Whether early rejection can bound the fitness of a child of which few scores are known; it
    can for the competition of the paper."""

    @abstractmethod
    def weights(self, scores: Floats) -> Floats:
        """Return v (D,), not negative, for the scores (P, D) of members and child, less b."""

    def base(self, scores: Floats) -> Floats | None:
        """Return b (D,), subtracted from all scores (P, D) first; ``None`` for nothing."""
        return None


@dataclass(frozen=True, repr=False)
class Range(Competition, name="range"):
    """Competition for what distinguishes the members: v_j = max_k s'_kj / (Σ_k s'_kj)^α.

    The worst score of all on each data point is subtracted first, s'_kj = s_kj − min_k s_kj, as the
    paper does for images (arXiv 2508.16204): the capacity of a data point is the range of its
    scores. Early rejection is refused, as a child can lower the minimum.

    Args:
        alpha: α.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        real_number("alpha", self.alpha, 0.0, 10.0)

    def base(self, scores: Floats) -> Floats:
        """Return min_k s_kj (D,)."""
        lowest: Floats = scores.min(axis=0)
        return lowest

    def weights(self, scores: Floats) -> Floats:
        """Return max_k s'_kj / (Σ_k s'_kj)^α (D,); 0 where all are equal."""
        totals = scores.sum(axis=0)
        crowd = np.where(totals == 0.0, 1.0, totals) ** self.alpha
        weights: Floats = scores.max(axis=0) / crowd
        return weights
