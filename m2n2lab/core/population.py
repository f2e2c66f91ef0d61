"""Population: one state of an archive, its members and all that is computed from them."""

from __future__ import annotations

import copy
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.records import Standing
from m2n2lab.core.tally import LARGE, Tally
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError

MAX_DOT_LENGTH = 8192
"""Longest dot product that is left to BLAS: from 10,000 numbers on it uses threads of its own,
which slow torch's down and add in another order."""


def weighted_sums(scores: Floats, weights: Floats) -> Floats:
    """Return Σ_j s_kj w_j (K,) of scores (K, D) and weights (D,).

    The order of summation does not depend on the number of threads; three times faster than
    ``einsum``.
    """
    sums: Floats = np.vecdot(scores[:, :MAX_DOT_LENGTH], weights[:MAX_DOT_LENGTH])
    for start in range(MAX_DOT_LENGTH, len(weights), MAX_DOT_LENGTH):
        end = start + MAX_DOT_LENGTH
        sums += np.vecdot(scores[:, start:end], weights[start:end])
    return sums


class ModelMaker(Protocol):
    """A space, as far as its members need it; ``model`` is optional."""

    def materialise(self, genome: Any) -> Any:
        """Return the model that a task scores; valid until the next call."""

    def save(self, model: Any, path: str | Path) -> None:
        """Write the model of a member to a file."""

    def angle(self, a: Any, b: Any) -> float:
        """Return the angle ω in radians between the weights of two genomes."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model of the archive.

    ::

        net = evolver.best.model()            # a module, or a tensor of weights, of your own
        evolver.best.save("best.safetensors")

    Attributes:
        id: never reused.
        born: step at which it was submitted; 0 for a seed.
        parents: ids of its parents; empty for seeds and external models.
        genome: its space's representation of the model (a vector, a recipe).
        score: its mean score over the data points.
        space: the space that makes its model; not part of comparisons, and left out when a member
            is pickled.
    """

    id: int
    born: int
    parents: tuple[int, ...]
    genome: Any = field(repr=False)
    score: float
    space: ModelMaker | None = field(default=None, repr=False, compare=False)

    def model(self, device: str = "cpu") -> Any:
        """Return its model: a copy of the caller's own, which the search does not change.

        Args:
            device: where its weights are, ``"cpu"`` or ``"cuda"``.

        Raises:
            InputError: there is no such device, the model cannot be loaded, or the member was
                unpickled alone.
        """
        space = self._checked_space()
        if hasattr(space, "model"):
            return space.model(self.genome, device)
        model = copy.deepcopy(space.materialise(self.genome))
        return model.to(device) if hasattr(model, "to") else model

    def save(self, path: str | Path) -> None:
        """Write its model to ``path`` as its space does: a safetensors file, or a folder.

        Raises:
            InputError: it cannot be written, or the member was unpickled alone.
        """
        self._checked_space().save(self, path)

    def _checked_space(self) -> ModelMaker:
        if self.space is None:
            raise InputError(
                f"Member {self.id} must belong to a search to have a model, got one without its "
                f"space, as from a pickle; use space.materialise(member.genome) of its search."
            )
        return self.space

    def __reduce__(self) -> tuple[Any, ...]:
        return Member, (self.id, self.born, self.parents, self.genome, self.score)


@dataclass(frozen=True)
class Population:
    """One state of the archive, replaced as a whole: an interrupted step leaves no half state.

    ``rows[r]`` is the member whose scores are row r of ``scores``, or ``None``; ``spare`` is an
    empty row for the scores of a child that is judged. Derived values are computed on first use
    and cached, as the state never changes.
    """

    rows: tuple[Member | None, ...]
    spare: int
    scores: NDArray[Any]  # (P + 1, D), booleans with a tally; the spare row is of no member
    z: Floats  # (D,)
    weights: Floats  # (D,) c_j / z_j^α
    fitness: Floats  # (P + 1,) zero in empty rows
    scale: float  # the score that counts as a full one in ``entropy``
    pinned: frozenset[int] = frozenset()  # ids of members that no child displaces
    tally: Tally | None = None  # of right/wrong scores, if there are many

    @cached_property
    def row_of(self) -> dict[int, int]:
        """Row of each member by id, oldest first."""
        alive = ((member.id, row) for row, member in enumerate(self.rows) if member is not None)
        return dict(sorted(alive))

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """(P,) rows of the members, oldest first."""
        return np.fromiter(self.row_of.values(), dtype=np.intp, count=len(self.row_of))

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """(P,) the members, oldest first."""
        return tuple(sorted((m for m in self.rows if m is not None), key=lambda m: m.id))

    @cached_property
    def best(self) -> Member:
        """The member with the highest mean score; the oldest of equals.

        Raises:
            InputError: there are no members.
        """
        if not self.members:
            raise InputError("The best of an archive must be a member, got none; add one first.")
        return max(self.members, key=lambda member: member.score)

    def in_space(self, space: ModelMaker | None) -> Population:
        """Return the population with members whose models ``space`` makes."""
        rows = (None if member is None else replace(member, space=space) for member in self.rows)
        return replace(self, rows=tuple(rows))

    @cached_property
    def standing(self) -> Standing:
        """Ids and fitness, oldest first, with coverage and entropy."""
        fitness = self.fitness[self.order]
        fitness.flags.writeable = False
        best, train = (self.best.id, self.best.score) if self.members else (-1, float("nan"))
        return Standing(tuple(self.row_of), fitness, best, train, self.coverage, self.entropy)

    @cached_property
    def unsolved(self) -> NDArray[np.intp]:
        """Indices of the data points on which no member scores."""
        return np.flatnonzero(self.z == 0.0)

    @property
    def coverage(self) -> float:
        """Share of data points on which some member scores, in [0, 1]."""
        return 1.0 - len(self.unsolved) / len(self.z)

    @cached_property
    def entropy(self) -> float:
        """Mean binary entropy of the data points (see ``Archive.entropy``)."""
        p = np.clip(self.z / (max(len(self.row_of), 1) * self.scale), 0.0, 1.0)
        p = p[(p > 0.0) & (p < 1.0)]
        bits = p * np.log2(p) + (1.0 - p) * np.log2(1.0 - p)
        return float(abs(bits.sum())) / len(self.z)  # every term is negative; abs, not to give -0.0

    @cached_property
    def payouts(self) -> Floats:
        """(D,) c_j z_j / z_j^α: the fitness that each data point gives to all members together."""
        return self.weights * self.z

    def gains_over(self, row: int) -> Floats:
        """Return Σ_B max(s_Bj − s_Aj, 0) (D,), A the member in ``row``."""
        if self.scores.size < LARGE:
            gains = np.maximum(self.scores - self.scores[row], 0.0)
            gains[self.spare] = 0.0
            return np.asarray(gains.sum(axis=0))
        sums = np.zeros(len(self.z))
        gain = np.empty(min(len(sums), MAX_DOT_LENGTH))
        # Block by block, which stay in the processor's cache; member by member in each.
        for start in range(0, len(sums), MAX_DOT_LENGTH):
            block = slice(start, start + MAX_DOT_LENGTH)
            total, mine = sums[block], self.scores[row, block]
            for other in sorted(self.row_of.values()):
                part = np.subtract(self.scores[other, block], mine, out=gain[: len(total)])
                total += np.maximum(part, 0.0, out=part)
        return sums

    @cached_property
    def fitness_wheel(self) -> list[float]:
        """Roulette wheel of the fitness (see ``wheel``)."""
        return self.wheel(self.fitness)

    def wheel(self, chances: Floats, without: int | None = None) -> list[float]:
        """Return a roulette wheel: running sums of ``chances`` (P + 1,).

        Args:
            chances: of each row; if all are 0, members have equal chances.
            without: the row that is not drawn then, unless it is the only member.
        """
        if not chances.any():
            chances = np.array([float(member is not None) for member in self.rows])
            if without is not None and chances.sum() > 1.0:
                chances[without] = 0.0
        sums: list[float] = np.cumsum(chances).tolist()
        return sums

    def pick(self, wheel: list[float], u: float) -> int:
        """Return the id that ``u`` in [0, 1) picks from a roulette wheel."""
        row = bisect_right(wheel, u * wheel[-1])
        if row == len(wheel):  # u * total was rounded up to the total
            row = wheel.index(wheel[-1])
        member = self.rows[row]
        assert member is not None  # empty rows have no chance
        return member.id
