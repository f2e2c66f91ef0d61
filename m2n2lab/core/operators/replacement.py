"""Replacement: whether a child becomes a member, and the member whose place it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.operators.operator import Operator
from m2n2lab.utils.arrays import Floats


class Contest(NamedTuple):
    """A child and the members that it competes with, oldest first; pinned ones are left out.

    Attributes:
        ids: (P,) the members' ids.
        fitness: (P,) their fitness, with the child counted in.
        scores: (P, D) their scores.
        child_fitness: the child's fitness.
        child_scores: (D,) its scores.
        has_room: whether there are fewer members than the archive has places.
    """

    ids: NDArray[np.int64]
    fitness: Floats
    scores: Floats
    child_fitness: float
    child_scores: Floats
    has_room: bool


class Replacement(Operator, ABC):
    """A rule that decides who leaves a full archive."""

    what = "replacement"

    lowest_leaves = False
    """Whether a child is rejected only for the lowest fitness, which early rejection needs."""

    @abstractmethod
    def __call__(self, contest: Contest) -> tuple[bool, int | None]:
        """Return whether the child is accepted, and the id of the member it displaces or not beats.

        ``None`` in its place only where there is room.
        """


@dataclass(frozen=True, repr=False)
class Lowest(Replacement, name="lowest"):
    """The member or child with the lowest fitness leaves, of equals the oldest, as in the paper."""

    lowest_leaves = True

    def __call__(self, contest: Contest) -> tuple[bool, int | None]:
        """Accept a child that is not below every member."""
        if contest.has_room:
            return True, None
        lowest = int(np.argmin(contest.fitness))  # of equals the first, which is the oldest
        accepted = contest.child_fitness >= contest.fitness[lowest]
        return bool(accepted), int(contest.ids[lowest])


@dataclass(frozen=True, repr=False)
class Crowding(Replacement, name="crowding"):
    """The member whose scores are nearest to the child's leaves, if the child is not below it.

    Crowding (De Jong 1975; Mahfoud 1995) keeps niches by letting like compete with like.
    """

    def __call__(self, contest: Contest) -> tuple[bool, int | None]:
        """Compare the child with the member that it is most alike."""
        if contest.has_room:
            return True, None
        distance = np.square(contest.scores - contest.child_scores).sum(axis=1)
        nearest = int(np.argmin(distance))
        accepted = contest.child_fitness >= contest.fitness[nearest]
        return bool(accepted), int(contest.ids[nearest])
