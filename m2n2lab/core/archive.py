"""Archive: members, their scores, and fitness under competition.

Notation as in the paper (arXiv 2508.16204, §3): P members, D data points, s_kj ≥ 0 the score of
member k on data point j, z_j = Σ_k s_kj, c_j the capacity of data point j.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.extensions import extension
from m2n2lab.core.operators.competition import Competition, Range
from m2n2lab.core.operators.replacement import Contest, Replacement
from m2n2lab.core.population import (
    MAX_DOT_LENGTH,
    Member,
    ModelMaker,
    Population,
    weighted_sums,
)
from m2n2lab.core.records import Partial, Standing, Verdict
from m2n2lab.core.scores import MAX_SCORE, as_scores, scale_of
from m2n2lab.core.tally import LARGE, Tally
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number

Capacity = Literal["one", "max", "range"]

MIN_CROWD = 1e-150
"""Lowest z^α that weighs graded scores, which keeps 1 / z^α in the range of doubles."""

ORDINARY_TOTALS = (1e-12, 1e12)
"""Bounds of the highest total max_j z_j within which graded scores are weighed as they are."""


def unit_of(z: Floats) -> float:
    """Return the unit in which graded scores with totals ``z`` (D,) are weighed.

    z^α of likelihoods such as 1e-200 leaves the range of doubles. Measured in another unit, all
    fitness is multiplied by one constant, which changes no outcome.
    """
    highest = float(z.max())
    low, high = ORDINARY_TOTALS
    return 1.0 if highest == 0.0 or low <= highest <= high else 2.0 ** math.frexp(highest)[1]


def _total(scores: NDArray[Any]) -> float:
    """Return the sum of scores (D,); booleans are counted, which is faster."""
    return float(np.count_nonzero(scores) if scores.dtype == np.bool_ else scores.sum())


def _attraction_by_distances(scores: Floats, weights: Floats) -> Floats:
    """Return g(A, B) (P, P) of scores (P, D) and weights (D,), ten times as fast as in sums.

    max(b − a, 0) = (b − a + |b − a|) / 2, and |b − a| is the same for both directions. What is
    below the rounding of the sums counts as 0.
    """
    import torch

    apart, sums = torch.zeros(1, dtype=torch.float64), np.zeros(len(scores))
    for start in range(0, len(weights), MAX_DOT_LENGTH):
        block = slice(start, start + MAX_DOT_LENGTH)
        worth = scores[:, block] * weights[block]
        apart = apart + torch.nn.functional.pdist(torch.from_numpy(worth), p=1.0)
        sums += worth.sum(axis=1)
    distances = np.zeros((len(scores), len(scores)))
    distances[np.triu_indices(len(scores), 1)] = apart.numpy()
    gains = (sums - sums[:, None] + distances + distances.T) / 2.0
    return np.where(gains > 1e-12 * (sums + sums[:, None]), gains, 0.0)


class Archive:
    """A population in which members compete for data points.

    Competition: fitness_k = Σ_j c_j s_kj / z_j^α, where z_j = 0 counts as 1: a data point that
    many members solve adds less to each. Attraction: g(A,B) = Σ_j c_j / z_j^α ·
    max(s_Bj − s_Aj, 0), what B can do that A lacks. Replacement: the child is counted in, and the
    member or child with the lowest fitness leaves; of equals the oldest. Pinned members stay.

    The order of sums over data points does not depend on the number of threads, so equal scores
    give equal archives bit for bit. Right/wrong scores of large archives are counted as bits
    (``core.tally.Tally``).

    Args:
        points: D, number of data points.
        size: P, maximum number of members.
        alpha: α of the competition; 1 is the paper's, 0 makes it a plain genetic algorithm.
        capacity: ``"one"`` for right/wrong scores (c_j = 1), ``"max"`` for graded ones
            (c_j = max_k s_kj), ``None`` for the one that the observed scores need. While all
            scores are 0 or 1, both give the same fitness. ``"range"`` subtracts the worst score on
            each data point first (see ``operators.competition.Range``).
        shares: (D,) factors of c_j, and of a score in the mean, 1 on average; ``None`` for all 1.
        top: the highest score that a data point can get, for ``entropy``.
        competition: weighs data points otherwise; α and the capacity have no effect then.
        replacement: decides who leaves, if not the member with the lowest fitness.

    Attributes:
        space: the space of the members' models, if it is known.

    Raises:
        InputError: a size is below 1, α is negative or not finite, the capacity is unknown, or
            there is not one share per data point.
    """

    space: ModelMaker | None = None

    def __init__(
        self,
        points: int,
        size: int = 20,
        alpha: float = 1.0,
        capacity: Capacity | None = "one",
        shares: ArrayLike | None = None,
        top: float = 1.0,
        competition: Competition | None = None,
        replacement: Replacement | None = None,
    ) -> None:
        self.points = whole_number("points", points, 1)
        self.size = whole_number("archive_size", size, 1)
        # Beyond 10, z^α of small graded scores leaves the range of doubles.
        self.alpha = real_number("alpha", alpha, 0.0, 10.0)
        chosen = None if capacity is None else choose("capacity", capacity, ("one", "max", "range"))
        self._capacity: str | None = chosen
        self.top = top
        if capacity == "range" and competition is None:
            competition = Range(self.alpha)
        self.competition, self.replacement = competition, replacement
        self.shares = None if shares is None else np.asarray(shares, float)
        if self.shares is not None and self.shares.shape != (self.points,):
            raise InputError(
                f"shares must be one factor for each of the {self.points} data points, got shape "
                f"{self.shares.shape}; give one each, or leave shares out."
            )
        scores = np.zeros((self.size + 1, self.points))
        self._graded = False  # until there is a score that is neither 0 nor 1
        self._judged_graded = False  # the same, with the child that was judged last
        self._population = self._new_population((None,) * (self.size + 1), scores)

    # -- competition and replacement -----------------------------------------------------------

    @property
    def graded(self) -> bool:
        """Whether a score that is neither 0 nor 1 was observed."""
        return self._graded

    @property
    def capacity(self) -> Capacity:
        """The capacity that holds for the scores observed so far."""
        if self._capacity == "range":
            return "range"
        return "max" if self._is_max(self._graded) else "one"

    def _is_max(self, graded: bool) -> bool:
        return self._capacity == "max" or (graded and self._capacity is None)

    def _weigh(self, z: Floats, scores: Floats, graded: bool) -> Floats:
        """Return c_j / z_j^α (D,) for totals ``z`` over the rows of ``scores``."""
        unit = 1.0
        if graded:
            unit = unit_of(z)
            crowd = np.where(z == 0.0, 1.0, z if unit == 1.0 else z / unit)
        else:  # totals are integers, which saves a comparison in every step
            crowd = np.maximum(z, 1.0)
        if self.alpha != 1.0:
            crowd **= self.alpha
        if graded:
            np.maximum(crowd, MIN_CROWD, out=crowd)
        capacity = scores.max(axis=0) / unit if self._is_max(graded) else 1.0
        weights: Floats = capacity / crowd
        return weights if self.shares is None else weights * self.shares

    def _counts_bits(self, scores: NDArray[Any]) -> bool:
        """Return whether rows (P + 1, D) are many, right or wrong, and weighed as usual."""
        plain = type(self) is Archive and self.competition is None and self.replacement is None
        return plain and not self._graded and self.shares is None and scores.size >= LARGE

    def _compete(
        self, z: Floats, scores: Floats, alive: Sequence[int], graded: bool
    ) -> tuple[Floats, Floats]:
        """Return the weights (D,) and the fitness (P + 1,) of all rows, 0 in empty ones.

        Args:
            z: (D,) totals over the rows.
            scores: (P + 1, D), 0 in empty rows.
            alive: rows that are not empty.
            graded: whether a score is neither 0 nor 1.
        """
        if self.competition is None:
            weights = self._weigh(z, scores, graded)
            return weights, weighted_sums(scores, weights)
        fitness = np.zeros(len(scores))
        if not alive:
            return np.ones(self.points), fitness
        compared = scores[alive]
        base = self.competition.base(compared)
        compared = compared if base is None else compared - base
        weights = np.asarray(self.competition.weights(compared), float)
        if weights.shape != (self.points,) or not (weights >= 0.0).all():
            raise InputError(
                f"A competition must give one weight >= 0 for each of the {self.points} data "
                f"points, got shape {weights.shape} with {weights.min():g} as the lowest; correct "
                f"{type(self.competition).__name__}.weights."
            )
        weights = weights if self.shares is None else weights * self.shares
        fitness[alive] = weighted_sums(compared, weights)
        return weights, fitness

    def _mean(self, scores: NDArray[Any]) -> float:
        """Return the mean of scores (D,), each data point with its share."""
        if self.shares is None:
            return _total(scores) / self.points
        return float(weighted_sums(scores[None].astype(float), self.shares)[0]) / self.points

    def _new_population(
        self,
        rows: tuple[Member | None, ...],
        scores: NDArray[Any],
        pinned: frozenset[int] = frozenset(),
    ) -> Population:
        """Return the population of the members in ``rows``; clears the scores of empty rows."""
        scores[[member is None for member in rows]] = 0.0
        tally = None
        if self._counts_bits(scores):
            scores = scores.astype(np.bool_, copy=False)  # an eighth of the memory to copy
            z = scores.sum(axis=0, dtype=np.int32).astype(float)
            # The highest score on a data point is 1 where its total is not 0.
            tally = Tally(scores, z, lambda v: self._weigh(v, np.sign(v)[None], False))
            weights, fitness = self._weigh(z, np.sign(z)[None], False), tally.fitness()
        else:
            scores = scores.astype(float, copy=False)
            z = scores.sum(axis=0)
            alive = [r for r, member in enumerate(rows) if member is not None]
            weights, fitness = self._compete(z, scores, alive, self._graded)
        scale = scale_of(float(scores.max()), self.top) if self._graded else self.top
        spare = rows.index(None)
        return Population(rows, spare, scores, z, weights, fitness, scale, pinned, tally)

    def _contest(self, fitness: list[float]) -> tuple[bool, int | None]:
        """Decide on a child counted into ``fitness`` (P + 1,), its scores in the spare row.

        Returns:
            Whether it is accepted, and the row of the member it displaces or had to beat.
        """
        population = self._population
        if self.replacement is not None:
            return self._replace(self.replacement, fitness)
        if len(self) < self.size:
            return True, None
        others = [*fitness[: population.spare], math.inf, *fitness[population.spare + 1 :]]
        lowest = min(others)
        row = others.index(lowest)
        if others.count(lowest) > 1:
            ties = ((m.id, r) for r, m in enumerate(population.rows) if m and fitness[r] == lowest)
            row = min(ties)[1]
        return fitness[population.spare] >= lowest, row  # at a draw the child stays

    def _replace(self, replacement: Replacement, fitness: list[float]) -> tuple[bool, int | None]:
        """Return the decision of a replacement of its own kind, as ``_contest``."""
        population = self._population
        rows = {id: row for id, row in population.row_of.items() if fitness[row] < math.inf}
        order = np.array([*rows.values()], np.intp)
        values = np.array(fitness)
        contest = Contest(
            ids=np.array([*rows], np.int64),
            fitness=values[order],
            scores=population.scores[order],
            child_fitness=fitness[population.spare],
            child_scores=population.scores[population.spare].copy(),
            has_room=len(self) < self.size,
        )
        accepted, rival = replacement(contest)
        if rival is None and contest.has_room:
            return bool(accepted), None
        if rival not in rows:
            raise InputError(
                f"A replacement must name a member, got {rival!r}; give an id of contest.ids, or "
                f"None while contest.has_room."
            )
        return bool(accepted), rows[int(rival)]

    def judge(self, scores: ArrayLike | Partial) -> Verdict:
        """Return the verdict on a child with ``scores`` (D,); nothing changes.

        Raises:
            InputError: the scores have another shape, are negative, NaN or above ``MAX_SCORE``; or
                they are partial and could still be accepted.
        """
        if isinstance(scores, Partial):
            verdict = replace(self.judge(scores.best), unseen=scores.unseen)
            if verdict.accepted:
                raise InputError(
                    f"Only a child that cannot be accepted may be rejected early, but "
                    f"{scores.unseen} unscored data points could decide for it; score all of them."
                )
            return verdict
        population = self._population
        given = self._checked(scores)
        graded = self._graded or bool(
            given.dtype != np.bool_ and ((given != 0) & (given != 1)).any()
        )
        self._judged_graded = graded
        if graded and population.scores.dtype == np.bool_:
            population = replace(population, scores=population.scores.astype(float))
            self._population = population
        child = population.scores[population.spare]
        child[:] = given
        if population.tally is not None and not graded:
            competed = population.tally.fitness_with(given.astype(np.bool_), population.spare)
        else:
            alive = [*population.row_of.values(), population.spare]
            _, competed = self._compete(population.z + child, population.scores, alive, graded)
        # A list, because Python is faster than NumPy on a handful of numbers.
        fitness: list[float] = competed.tolist()
        accepted, row = self._contest(fitness)
        spared = None
        if population.pinned:
            accepted, row, spared = self._spare(fitness, row)
        mine = fitness[population.spare]
        return Verdict(
            accepted=accepted,
            score=self._mean(given),
            fitness=mine,
            rank=1 + sum([other > mine for other in fitness]),
            of=len(self) + 1,
            rival=None if row is None else self._id_of(row),
            rival_fitness=None if row is None else fitness[row],
            alone=int(np.count_nonzero(child[population.unsolved])),
            spared=spared,
        )

    def _id_of(self, row: int) -> int:
        member = self._population.rows[row]
        assert member is not None  # a rival is a member
        return member.id

    def _spare(
        self, fitness: list[float], without: int | None
    ) -> tuple[bool, int | None, int | None]:
        """Decide on a child as ``_contest``, but that pinned members stay.

        Args:
            fitness: (P + 1,)
            without: the row that ``_contest`` returns.

        Returns:
            As ``_contest``, and the id of the pinned member that would be the rival.
        """
        population = self._population
        unbeatable = fitness.copy()
        for id in population.pinned:
            unbeatable[population.row_of[id]] = math.inf
        accepted, row = self._contest(unbeatable)
        if row is not None and self._id_of(row) in population.pinned:  # the elite of its cell
            return False, row, self._id_of(row)
        return accepted, row, None if without in (None, row) else self._id_of(without)

    def add(
        self,
        id: int,
        genome: Any,
        scores: ArrayLike,
        *,
        born: int = 0,
        parents: tuple[int, ...] = (),
    ) -> Verdict:
        """Judge a child and admit it if it is accepted; returns the verdict of ``judge``.

        Raises:
            InputError: as ``judge``; or a member has this id.
        """
        if id in self._population.row_of:
            raise InputError(
                f"A new member needs a new id, but {id} is in the archive; choose another."
            )
        verdict = self.judge(scores)
        self.admit(id, genome, verdict, born=born, parents=parents)
        return verdict

    def admit(
        self, id: int, genome: Any, verdict: Verdict, *, born: int, parents: tuple[int, ...]
    ) -> None:
        """Admit the child that was judged last, if its verdict accepts it."""
        population = self._population
        first_graded = self._judged_graded and not self._graded
        self._graded = self._judged_graded
        if verdict.accepted:
            rows = list(population.rows)
            rows[population.spare] = Member(id, born, parents, genome, verdict.score, self.space)
            if verdict.displaced is not None:
                rows[population.row_of[verdict.displaced]] = None
            # A copy, because other threads may still read the previous population.
            self._population = self._new_population(
                tuple(rows), population.scores.copy(), population.pinned
            )
        elif first_graded:  # weights of data points that no member solves change
            self._population = self._new_population(
                population.rows, population.scores.copy(), population.pinned
            )

    def pin(self, id: int, on: bool = True) -> None:
        """Keep a member: no child displaces it until it is unpinned.

        Args:
            id: of the member.
            on: ``False`` unpins it.

        Raises:
            InputError: no member has that id, or no place would be left for children.
        """
        population, id = self._population, self[id].id
        pinned = population.pinned | {id} if on else population.pinned - {id}
        if on and len(pinned) >= self.size:
            raise InputError(
                f"At most {self.size - 1} of {self.size} members can be pinned, so that a place is "
                f"left for children, got {id} as one more; unpin another first."
            )
        if pinned != population.pinned:
            self._population = replace(population, pinned=pinned)

    @property
    def pinned(self) -> frozenset[int]:
        """Ids of the members that no child displaces."""
        return self._population.pinned

    def _checked(self, scores: ArrayLike) -> NDArray[Any]:
        """Return scores (D,) as an array, checked to lie in [0, ``MAX_SCORE``]."""
        array = as_scores(scores)
        if array.shape != (self.points,) or array.dtype.kind not in "bf":
            raise InputError(
                f"Scores must be one number for each of the {self.points} data points, shape "
                f"({self.points},), got shape {array.shape} ({array.dtype}); score every data "
                f"point."
            )
        if array.dtype != np.bool_:
            bad = np.flatnonzero(~((array >= 0.0) & (array <= MAX_SCORE)))
            if len(bad):
                advice = (
                    "declare the lowest possible score as the task's low=, which is then "
                    "subtracted from all scores"
                    if array[bad[0]] < 0.0
                    else "correct the task, or score such a data point 0"
                )
                raise InputError(
                    f"Scores must be finite numbers <= {MAX_SCORE:g} and >= 0, got "
                    f"{array[bad[0]]:g} on data point {bad[0]}; {advice}."
                )
        return array

    # -- attraction and mate choice ------------------------------------------------------------

    def attraction(self) -> Floats:
        """Return g(A, B) (P, P), rows A and columns B, members oldest first."""
        population = self._population
        if population.tally is not None:
            return population.tally.attraction(population.order)
        scores, weights = self.scores, population.weights
        if scores.size >= LARGE:
            return _attraction_by_distances(scores, weights)
        sums = np.zeros((len(scores), len(scores)))
        # Block by block, which stay in the processor's cache; in the order of ``weighted_sums``.
        for start in range(0, self.points, MAX_DOT_LENGTH):
            block = slice(start, start + MAX_DOT_LENGTH)
            part, weight = scores[:, block], weights[block]
            gain = np.empty_like(part)
            for row, mine in enumerate(part):
                np.maximum(np.subtract(part, mine, out=gain), 0.0, out=gain)
                sums[row] += np.vecdot(gain, weight)
        return sums

    def angles(self, parent: int) -> Floats:
        """Return ω in radians between a member's weights and those of all (P,), oldest first.

        Raises:
            InputError: the parent is not in the archive, or it is an archive of scores alone.
        """
        if self.space is None:
            raise InputError(
                "Angles between members need a space, but this archive has scores alone; take that "
                "of an evolver."
            )
        mine = self[parent].genome
        return np.array([self.space.angle(mine, member.genome) for member in self.members])

    def draw_parent(self, u: float) -> int:
        """Return the id of the member that ``u`` in [0, 1) picks in proportion to fitness."""
        return self._population.pick(self._population.fitness_wheel, u)

    def draw_mate(self, parent: int, u: float) -> int:
        """Return the id of the member that ``u`` in [0, 1) picks in proportion to g(parent, ·).

        If no member beats the parent anywhere, in proportion to fitness, without the parent.

        g is a sum over data points, so a mate can be drawn in two draws that cost D and P
        operations instead of P·D: first a data point j in proportion to its part of the sum over
        all mates, c_j / z_j^α · Σ_B max(s_Bj − s_Aj, 0); then one of the members that beat the
        parent there, in proportion to max(s_Bj − s_Aj, 0).

        Raises:
            InputError: the parent is not in the archive.
        """
        population = self._population
        row = self._row(parent)
        mine = population.scores[row]
        if self._graded or self.competition is not None:
            sums = np.cumsum(population.weights * population.gains_over(row))
        else:  # max(s_B - s_A, 0) = s_B (1 - s_A) for scores of 0 and 1
            sums = np.add.accumulate(population.payouts * (1.0 - mine))
        total = float(sums[-1])
        if total == 0.0:
            return self._draw_other(row, u)
        point = int(sums.searchsorted(u * total, side="right"))
        if point == len(sums):  # u * total was rounded up to the total
            point = int(sums.searchsorted(total))
        below = float(sums[point - 1]) if point else 0.0
        # What is left of u after the first draw is uniform again.
        rest = (u * total - below) / (float(sums[point]) - below)
        bar = float(mine[point])
        column = [max(score - bar, 0.0) for score in population.scores[:, point].tolist()]
        column[population.spare] = 0.0
        return population.pick(list(accumulate(column)), min(rest, 1.0))

    def _draw_other(self, row: int, u: float) -> int:
        """Draw in proportion to fitness, not the member in ``row`` unless it is the only one."""
        chances = self._population.fitness.copy()
        chances[row] = 0.0
        return self._population.pick(self._population.wheel(chances, without=row), u)

    # -- members -------------------------------------------------------------------------------

    def _row(self, id: int) -> int:
        try:
            return self._population.row_of[id]
        except (KeyError, TypeError):
            members = ", ".join(map(str, self.ids)) or "none"
            raise InputError(
                f"Member {id!r} is not in the archive; choose one of: {members}."
            ) from None

    def __repr__(self) -> str:
        return f"Archive({len(self)} of {self.size} members, {self.points:,} data points)"

    def _repr_html_(self) -> str:
        html: str = extension("html")(self)
        return html

    def __len__(self) -> int:
        return len(self._population.row_of)

    def __contains__(self, id: object) -> bool:
        return id in self._population.row_of

    def __getitem__(self, id: int) -> Member:
        """Return a member by id.

        Raises:
            InputError: no member has that id.
        """
        member = self._population.rows[self._row(id)]
        assert member is not None
        return member

    def pair(self, parents: Any) -> tuple[int | None, int | None]:
        """Return the ids of A and B where they are given by hand, else ``None``.

        Raises:
            InputError: ``parents`` is not a pair, or one of them is not in the archive.
        """
        if parents is None:
            return None, None
        try:
            a, b = parents
        except (TypeError, ValueError):
            raise InputError(
                f"parents must be two ids (A, B), or (A, None) to draw B, got {parents!r}; "
                f"choose among the members: {', '.join(map(str, self.ids))}."
            ) from None
        return (None if a is None else self[a].id), (None if b is None else self[b].id)

    @property
    def ids(self) -> tuple[int, ...]:
        """(P,) ids of the members, oldest first; every array below has this order."""
        return self.standing.ids

    @property
    def members(self) -> tuple[Member, ...]:
        """(P,) the members."""
        return self._population.members

    @property
    def population(self) -> Population:
        """The present population; it never changes, so any thread may keep it."""
        return self._population

    @property
    def standing(self) -> Standing:
        """Ids and fitness of the members; the same object until the members change."""
        return self._population.standing

    @property
    def fitness(self) -> Floats:
        """(P,) fitness of the members."""
        return self._population.standing.fitness

    @property
    def scores(self) -> Floats:
        """(P, D) a copy of the scores."""
        return self._population.scores[self._population.order].astype(float, copy=False)

    def scores_of(self, id: int) -> Floats:
        """Return a copy of a member's scores (D,).

        Raises:
            InputError: no member has that id.
        """
        scores: Floats = self._population.scores[self._row(id)].astype(float)
        return scores

    @property
    def z(self) -> Floats:
        """(D,) z_j, the sum of all members' scores on each data point."""
        return self._population.z.copy()

    @property
    def weights(self) -> Floats:
        """(D,) c_j / z_j^α, which a score of 1 on each data point adds to a member's fitness."""
        return self._population.weights.copy()

    @property
    def best(self) -> Member:
        """The member with the highest mean score; the oldest of equals.

        Raises:
            InputError: the archive is empty.
        """
        return self._population.best

    def best_with(self, id: int, genome: Any, verdict: Verdict) -> tuple[int, Any]:
        """Return id and genome of the best member after admitting an accepted child."""
        best = (verdict.score, id, genome)
        for member in self.members:
            # Of equals the oldest wins, and the child is the youngest.
            if member.id != verdict.displaced and (member.score, -member.id) > (best[0], -best[1]):
                best = (member.score, member.id, member.genome)
        return best[1:]

    @property
    def coverage(self) -> float:
        """Share of data points on which some member scores, in [0, 1]."""
        return self._population.coverage

    @property
    def entropy(self) -> float:
        """Mean binary entropy of the data points, in bits, in [0, 1].

        H = −1/D Σ_j p_j log2 p_j + (1 − p_j) log2(1 − p_j), with p_j = z_j / P the share of
        members that solve data point j: 0 when all agree on every point, 1 when half of them
        solve each. Graded scores count as shares of ``top``, or of a scale that fits them where
        all lie beyond it or far below (``scores.scale_of``).
        """
        return self._population.entropy

    # -- saving --------------------------------------------------------------------------------

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, whose members have lost their space."""
        self.__dict__.update(state)
        self._population = self._population.in_space(self.space)

    def state_dict(self) -> dict[str, Any]:
        """Return members and scores by row, as plain values and genomes, for an exact restore."""
        population = self._population
        empty = Member(-1, 0, (), None, 0.0)
        rows = [member or empty for member in population.rows]
        scores = population.scores.astype(float)
        scores[population.spare] = 0.0
        return {
            "ids": [member.id for member in rows],
            "born": [member.born for member in rows],
            "parents": [list(member.parents) for member in rows],
            "genomes": [member.genome for member in rows],
            "scores": scores,
            "graded": self._graded,
            "pinned": sorted(population.pinned),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from a ``state_dict``.

        Raises:
            InputError: the state is from an archive of another size or number of data points.
        """
        scores = np.array(state["scores"], dtype=float)
        if scores.shape != self._population.scores.shape:
            raise InputError(
                f"The state must be of {self.size} members and {self.points} data points, got "
                f"{len(scores) - 1} and {scores.shape[1]}; make an archive that fits."
            )
        mean = [self._mean(row) for row in scores]
        saved = zip(
            state["ids"], state["born"], state["parents"], state["genomes"], mean, strict=True
        )
        rows = tuple(
            Member(id, born, tuple(parents), genome, score, self.space) if id >= 0 else None
            for id, born, parents, genome, score in saved
        )
        self._graded = self._judged_graded = bool(state["graded"])
        pinned = frozenset(state.get("pinned", ())).intersection(state["ids"])
        self._population = self._new_population(rows, scores, pinned)
