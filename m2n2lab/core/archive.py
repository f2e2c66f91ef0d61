"""The archive: who lives, what each member solves, and what that is worth.

Notation as in the paper (arXiv 2508.16204, §3): P members, D data points, s_kj ≥ 0 the score of
member k on data point j, z_j = Σ_k s_kj, c_j the capacity of data point j.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.extensions import extension
from m2n2lab.core.population import Member, Population, weighted_sums
from m2n2lab.core.records import Partial, Standing, Verdict
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number

Capacity = Literal["one", "max"]


def _total(scores: NDArray[Any]) -> float:
    """Return the sum of scores (D,), a quick count where they are booleans."""
    return float(np.count_nonzero(scores) if scores.dtype == np.bool_ else scores.sum())


class Archive:
    """A population in which members compete for data points.

    Competition: fitness_k = Σ_j c_j s_kj / z_j^α, where z_j = 0 counts as 1: a data point that
    many members solve is worth less to each. Attraction: g(A,B) = Σ_j c_j / z_j^α ·
    max(s_Bj − s_Aj, 0), what B can do that A lacks. Replacement: the child is counted in and
    the lowest of all leaves; of equals the oldest does.

    Sums over data points are taken in one fixed order whatever the number of threads, so equal
    scores give equal archives bit for bit.

    Args:
        points: D, number of data points.
        size: P, how many members can live.
        alpha: α of the competition; 1 is the paper's, 0 makes it a plain genetic algorithm.
        capacity: ``"one"`` for right/wrong scores (c_j = 1), ``"max"`` for graded ones
            (c_j = max_k s_kj).
        shares: (D,) factors of c_j, and of a score in the mean, 1 on average; ``None`` for all 1.

    Raises:
        InputError: sizes below 1, α negative or not finite, unknown capacity, not one share for
            each data point.
    """

    def __init__(
        self,
        points: int,
        size: int = 20,
        alpha: float = 1.0,
        capacity: Capacity = "one",
        shares: ArrayLike | None = None,
    ) -> None:
        self.points = whole_number("points", points, 1)
        self.size = whole_number("archive_size", size, 1)
        # Beyond 10, z^α of small graded scores leaves the range of doubles.
        self.alpha = real_number("alpha", alpha, 0.0, 10.0)
        self.capacity = choose("capacity", capacity, ("one", "max"))
        self.shares = None if shares is None else np.asarray(shares, float)
        if self.shares is not None and self.shares.shape != (self.points,):
            raise InputError(
                f"shares must be one factor for each of the {self.points} data points, but shape "
                f"{self.shares.shape} came; give one each, or leave shares out."
            )
        scores = np.zeros((self.size + 1, self.points))
        self._graded = False  # until a score comes that is neither 0 nor 1
        self._now = self._count((None,) * (self.size + 1), scores)

    # -- competition and replacement -----------------------------------------------------------

    def _weigh(self, z: Floats, scores: Floats) -> Floats:
        """Return c_j / z_j^α (D,) for totals ``z`` over the rows of ``scores``."""
        # Right/wrong scores have whole totals, which saves a comparison in every step.
        crowd = np.where(z == 0.0, 1.0, z) if self._graded else np.maximum(z, 1.0)
        if self.alpha != 1.0:
            crowd **= self.alpha
        weights: Floats = (scores.max(axis=0) if self.capacity == "max" else 1.0) / crowd
        return weights if self.shares is None else weights * self.shares

    def _mean(self, scores: NDArray[Any]) -> float:
        """Return the mean of scores (D,), each data point with its share."""
        if self.shares is None:
            return _total(scores) / self.points
        return float(weighted_sums(scores[None].astype(float), self.shares)[0]) / self.points

    def _count(self, rows: tuple[Member | None, ...], scores: Floats) -> Population:
        """Return the state in which ``rows`` live; clears every other row's scores."""
        scores[[member is None for member in rows]] = 0.0
        z = scores.sum(axis=0)
        weights = self._weigh(z, scores)
        fitness = weighted_sums(scores, weights)
        return Population(rows, rows.index(None), scores, z, weights, fitness)

    def _contest(self, fitness: list[float]) -> tuple[bool, int | None]:
        """Decide for a child counted into ``fitness`` (P + 1,), its scores in the spare row.

        Returns:
            Whether it lives, and the row of the member it displaces or had to beat.
        """
        now = self._now
        if len(self) < self.size:
            return True, None
        others = [*fitness[: now.spare], math.inf, *fitness[now.spare + 1 :]]
        lowest = min(others)
        row = others.index(lowest)
        if others.count(lowest) > 1:
            ties = ((m.id, r) for r, m in enumerate(now.rows) if m and fitness[r] == lowest)
            row = min(ties)[1]
        return fitness[now.spare] >= lowest, row  # at a draw the child stays

    def judge(self, scores: ArrayLike | Partial) -> Verdict:
        """Say what would happen to a child with ``scores`` (D,); nothing changes.

        Raises:
            InputError: scores of another shape, negative, NaN or infinite; or partial ones of a
                child that could still live.
        """
        if isinstance(scores, Partial):
            verdict = replace(self.judge(scores.best), unseen=scores.unseen)
            if verdict.accepted:
                raise InputError(
                    f"Only a child that cannot live may be given up, but {scores.unseen} data "
                    f"points that would decide it are unscored; score all of them."
                )
            return verdict
        now = self._now
        child = now.scores[now.spare]
        given = self._checked(scores)
        child[:] = given
        weights = self._weigh(now.z + child, now.scores)
        # A list: Python is faster than NumPy on a handful of numbers.
        fitness: list[float] = weighted_sums(now.scores, weights).tolist()
        accepted, row = self._contest(fitness)
        mine = fitness[now.spare]
        rival = None if row is None else now.rows[row]
        return Verdict(
            accepted=accepted,
            score=self._mean(given),
            fitness=mine,
            rank=1 + sum([other > mine for other in fitness]),
            of=len(self) + 1,
            rival=rival.id if rival else None,
            rival_fitness=None if row is None else fitness[row],
            alone=int(np.count_nonzero(child[now.unsolved])),
        )

    def add(
        self,
        id: int,
        genome: Any,
        scores: ArrayLike,
        *,
        born: int = 0,
        parents: tuple[int, ...] = (),
    ) -> Verdict:
        """Judge a child and, where it is accepted, let it in: exactly what ``judge`` says.

        Raises:
            InputError: as ``judge``; or the id lives already.
        """
        if id in self._now.row_of:
            raise InputError(f"A new member needs a new id, but {id} lives already; take another.")
        verdict = self.judge(scores)
        self.admit(id, genome, verdict, born=born, parents=parents)
        return verdict

    def admit(
        self, id: int, genome: Any, verdict: Verdict, *, born: int, parents: tuple[int, ...]
    ) -> None:
        """Let in the child that was judged last, where its verdict accepts it."""
        now = self._now
        if verdict.accepted:
            rows = list(now.rows)
            rows[now.spare] = Member(id, born, parents, genome, verdict.score)
            if verdict.displaced is not None:
                rows[now.row_of[verdict.displaced]] = None
            # A copy, so that whoever reads the state before, in any thread, keeps it whole.
            self._now = self._count(tuple(rows), now.scores.copy())

    def _checked(self, scores: ArrayLike) -> NDArray[Any]:
        """Return scores (D,), known to be finite and not negative."""
        try:
            array = np.asarray(scores)
        except ValueError:  # rows of different lengths
            array = np.asarray(scores, dtype=object)
        if array.shape != (self.points,) or array.dtype.kind not in "biuf":
            raise InputError(
                f"Scores must be one number for each of the {self.points} data points, shape "
                f"({self.points},), but shape {array.shape} came ({array.dtype}); score every data "
                f"point."
            )
        if array.dtype != np.bool_:
            bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
            if len(bad):
                raise InputError(
                    f"Scores must be finite and at least 0, but data point {bad[0]} got "
                    f"{array[bad[0]]}; mend the task, or give such a data point 0."
                )
            self._graded = self._graded or bool(((array != 0) & (array != 1)).any())
        return array

    # -- attraction and mate choice ------------------------------------------------------------

    def attraction(self) -> Floats:
        """Return g(A, B) (P, P), rows A and columns B, members oldest first."""
        scores = self.scores
        gains = (np.maximum(scores - mine, 0.0) for mine in scores)
        return np.array([weighted_sums(gain, self._now.weights) for gain in gains])

    def draw_parent(self, u: float) -> int:
        """Return the id that ``u`` in [0, 1) picks in proportion to fitness."""
        return self._now.pick(self._now.fitness_wheel, u)

    def draw_mate(self, parent: int, u: float) -> int:
        """Return the id that ``u`` in [0, 1) picks in proportion to g(parent, ·).

        When nobody beats the parent anywhere, in proportion to fitness without the parent.

        g is a sum over data points, so a mate can be drawn in two moves that cost D and P
        operations instead of P·D: first a data point j in proportion to what beating the parent
        there is worth to all, c_j / z_j^α · Σ_B max(s_Bj − s_Aj, 0); then one of those who beat
        it there, in proportion to max(s_Bj − s_Aj, 0).

        Raises:
            InputError: the parent does not live.
        """
        now = self._now
        row = self._row(parent)
        mine = now.scores[row]
        if self._graded:
            gains = np.maximum(now.scores - mine, 0.0)
            gains[now.spare] = 0.0
            sums = np.cumsum(now.weights * gains.sum(axis=0))
        else:  # max(s_B - s_A, 0) = s_B (1 - s_A) for scores of 0 and 1
            sums = np.add.accumulate(now.pots * (1.0 - mine))
        total = float(sums[-1])
        if total == 0.0:
            return self._draw_other(row, u)
        point = int(sums.searchsorted(u * total, side="right"))
        if point == len(sums):  # u * total was rounded up to the total
            point = int(sums.searchsorted(total))
        below = float(sums[point - 1]) if point else 0.0
        # The rest of u, once it has chosen the data point, is uniform again.
        rest = (u * total - below) / (float(sums[point]) - below)
        bar = float(mine[point])
        column = [max(score - bar, 0.0) for score in now.scores[:, point].tolist()]
        column[now.spare] = 0.0
        return now.pick(list(accumulate(column)), min(rest, 1.0))

    def _draw_other(self, row: int, u: float) -> int:
        """Draw in proportion to fitness, but not the member in ``row`` unless it lives alone."""
        worth = self._now.fitness.copy()
        worth[row] = 0.0
        return self._now.pick(self._now.wheel(worth, without=row), u)

    # -- who lives -----------------------------------------------------------------------------

    def _row(self, id: int) -> int:
        try:
            return self._now.row_of[id]
        except (KeyError, TypeError):
            alive = ", ".join(map(str, self.ids)) or "nobody"
            raise InputError(
                f"Member {id!r} does not live in the archive; choose one of: {alive}."
            ) from None

    def __repr__(self) -> str:
        return f"Archive({len(self)} of {self.size} members, {self.points:,} data points)"

    def _repr_html_(self) -> str:
        html: str = extension("html")(self)
        return html

    def __len__(self) -> int:
        return len(self._now.row_of)

    def __contains__(self, id: object) -> bool:
        return id in self._now.row_of

    def __getitem__(self, id: int) -> Member:
        """Return a member by id.

        Raises:
            InputError: nobody with that id lives.
        """
        member = self._now.rows[self._row(id)]
        assert member is not None
        return member

    def pair(self, parents: Any) -> tuple[int | None, int | None]:
        """Return the ids of A and B where they are given by hand.

        Raises:
            InputError: not a pair, or one of them does not live.
        """
        if parents is None:
            return None, None
        try:
            a, b = parents
        except (TypeError, ValueError):
            raise InputError(
                f"parents must be two ids (A, B), or (A, None) to draw B, but {parents!r} came; "
                f"choose among the living: {', '.join(map(str, self.ids))}."
            ) from None
        return (None if a is None else self[a].id), (None if b is None else self[b].id)

    @property
    def ids(self) -> tuple[int, ...]:
        """(P,) ids of the living, oldest first; every array below has this order."""
        return self.standing.ids

    @property
    def members(self) -> tuple[Member, ...]:
        """(P,) the living."""
        return self._now.members

    @property
    def population(self) -> Population:
        """All of one moment; it stays whole, in any thread, while the archive goes on."""
        return self._now

    @property
    def standing(self) -> Standing:
        """Ids and fitness of the living; the same object until somebody comes or goes."""
        return self._now.standing

    @property
    def fitness(self) -> Floats:
        """(P,) fitness of the living."""
        return self._now.standing.fitness

    @property
    def scores(self) -> Floats:
        """(P, D) a copy of the scores."""
        return self._now.scores[self._now.order]

    def scores_of(self, id: int) -> Floats:
        """Return a copy of a member's scores (D,).

        Raises:
            InputError: nobody with that id lives.
        """
        scores: Floats = self._now.scores[self._row(id)].copy()
        return scores

    @property
    def z(self) -> Floats:
        """(D,) z_j, the sum of all members' scores on each data point."""
        return self._now.z.copy()

    @property
    def weights(self) -> Floats:
        """(D,) c_j / z_j^α, what a score of 1 on each data point adds to a member's fitness."""
        return self._now.weights.copy()

    @property
    def best(self) -> Member:
        """The member with the highest mean score; the oldest of equals."""
        return self._now.best

    def best_with(self, id: int, genome: Any, verdict: Verdict) -> tuple[int, Any]:
        """Return id and genome of whoever is best once a child that is accepted is let in."""
        best = (verdict.score, id, genome)
        for member in self.members:
            # Of equals the oldest is best, and the child is the youngest.
            if member.id != verdict.displaced and (member.score, -member.id) > (best[0], -best[1]):
                best = (member.score, member.id, member.genome)
        return best[1:]

    @property
    def coverage(self) -> float:
        """Share of data points on which some member scores, in [0, 1]."""
        return self._now.coverage

    @property
    def entropy(self) -> float:
        """Mean binary entropy of the data points, in bits, in [0, 1].

        H = −1/D Σ_j p_j log2 p_j + (1 − p_j) log2(1 − p_j), with p_j = z_j / P the share of
        members that solve data point j: 0 when all agree on every point, 1 when half of them
        solve each. Scores above 1 count as 1.
        """
        return self._now.entropy

    # -- saving --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return members and scores by row, as plain values and genomes, to be restored exactly."""
        now = self._now
        empty = Member(-1, 0, (), None, 0.0)
        rows = [member or empty for member in now.rows]
        scores = now.scores.copy()
        scores[now.spare] = 0.0
        return {
            "ids": [member.id for member in rows],
            "born": [member.born for member in rows],
            "parents": [list(member.parents) for member in rows],
            "genomes": [member.genome for member in rows],
            "scores": scores,
            "graded": self._graded,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from a ``state_dict``.

        Raises:
            InputError: the state is of an archive of another size or with other data points.
        """
        scores = np.array(state["scores"], dtype=float)
        if scores.shape != self._now.scores.shape:
            raise InputError(
                f"The state must be of {self.size} members and {self.points} data points, but "
                f"one of {len(scores) - 1} and {scores.shape[1]} came; make the archive to fit."
            )
        mean = [self._mean(row) for row in scores]
        saved = zip(
            state["ids"], state["born"], state["parents"], state["genomes"], mean, strict=True
        )
        rows = tuple(
            Member(id, born, tuple(parents), genome, score) if id >= 0 else None
            for id, born, parents, genome, score in saved
        )
        self._graded = bool(state["graded"])
        self._now = self._count(rows, scores)
