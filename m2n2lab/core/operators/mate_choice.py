"""Mate choice: the second parent of a child, for a first one that is drawn by fitness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from m2n2lab.core.operators.operator import Operator
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import real_number


class Candidates(Protocol):
    """The members of an archive, as a mate choice sees them: the oldest first."""

    @property
    def ids(self) -> tuple[int, ...]:
        """(P,) the members' ids."""

    @property
    def fitness(self) -> Floats:
        """(P,) their fitness."""

    @property
    def scores(self) -> Floats:
        """(P, D) their scores."""

    @property
    def weights(self) -> Floats:
        """(D,) what a score of 1 on each data point adds to fitness."""

    def attraction(self) -> Floats:
        """Return g(A, B) (P, P), rows A and columns B."""

    def angles(self, parent: int) -> Floats:
        """Return ω in radians between the weights of a member and of all (P,)."""

    def draw_parent(self, u: float) -> int:
        """Return the id that ``u`` in [0, 1) picks in proportion to fitness."""

    def draw_mate(self, parent: int, u: float) -> int:
        """Return the id that ``u`` in [0, 1) picks in proportion to g(parent, ·)."""


class MateChoice(Operator, ABC):
    """A way to choose parent B for parent A."""

    what = "mate"

    @abstractmethod
    def __call__(self, archive: Candidates, parent: int, u: float) -> int:
        """Return the id of parent B.

        Args:
            archive: the members, their scores and fitness.
            parent: id of parent A.
            u: a uniform number in [0, 1), the only chance that a choice has.
        """


@dataclass(frozen=True, repr=False)
class Attraction(MateChoice, name="attraction"):
    """A mate in proportion to what it can do that A lacks, g(A, B) (arXiv 2508.16204, §3.3)."""

    def __call__(self, archive: Candidates, parent: int, u: float) -> int:
        """Return a mate in proportion to g(A, B)."""
        return archive.draw_mate(parent, u)


@dataclass(frozen=True, repr=False)
class Compatible(MateChoice, name="compatible"):
    """A mate in proportion to attraction × compatibility, g(A, B) · max(cos ω, 0)^power.

    Models whose weights lie far apart, such as those trained from different starts, are seldom
    good when merged, whatever each can do. Their angle ω is known before any evaluation. The
    paper names a measure of compatibility as future work (arXiv 2508.16204, §6).

    Args:
        power: how much compatibility counts; 0 is attraction alone.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        real_number("power", self.power, 0.0, 100.0)

    def __call__(self, archive: Candidates, parent: int, u: float) -> int:
        """Return a mate in proportion to attraction × compatibility."""
        ids, scores = archive.ids, archive.scores
        row = ids.index(parent)
        cosines = np.cos(archive.angles(parent)).clip(0.0) ** self.power
        chances = np.maximum(scores - scores[row], 0.0) @ archive.weights * cosines
        chances[row] = 0.0
        if not chances.any():  # nobody compatible is better anywhere
            return archive.draw_mate(parent, u)
        sums = np.cumsum(chances)
        return ids[min(int(sums.searchsorted(u * sums[-1], side="right")), len(ids) - 1)]


@dataclass(frozen=True, repr=False)
class ByFitness(MateChoice, name="fitness"):
    """A mate in proportion to fitness, as A is drawn; it may be A itself."""

    def __call__(self, archive: Candidates, parent: int, u: float) -> int:
        """Return a mate in proportion to fitness."""
        return archive.draw_parent(u)


@dataclass(frozen=True, repr=False)
class AtRandom(MateChoice, name="random"):
    """Any other member with the same chance."""

    def __call__(self, archive: Candidates, parent: int, u: float) -> int:
        """Return any other member, or A if it is the only one."""
        others = [id for id in archive.ids if id != parent] or [parent]
        return others[min(int(u * len(others)), len(others) - 1)]
