"""Early rejection: scoring of a child ends as soon as its rejection is certain.

A child is accepted unless its fitness, with itself counted into the archive, is below that of every
member (``Archive.judge``). Write x_j for its score on data point j, s_rj for rival r's, z_j for the
sum of the members' scores, h_j for the data point's share. With the child counted in, the weight of
a score there is w_j(x) = h_j c_j(x) / (z_j + x)^α (0^α counts as 1), where c_j(x) = 1 for capacity
"one" and max(m_j, x), m_j = max_k s_kj, for capacity "max". So the child leads a rival by

    fitness_child − fitness_r = Σ_j d_rj(x_j),    d_rj(x) = w_j(x) (x − s_rj).

Each term depends on one score of the child alone. Whatever it scores on the unscored data points U,

    lead_r ≤ Σ_{j∉U} d_rj(x_j) + Σ_{j∈U} M_rj,    M_rj = max_x d_rj(x),

and some completion reaches this, so no better bound exists for one rival. Nor for all of them: the
child is surely rejected when this is below 0 for every r, and if it is not for one r, there is a
completion in which the child is not below r and is accepted.

M_rj, for right/wrong scores, is the larger of d_rj(0) and d_rj(1). For graded x in [0, s_max]:

- capacity "one": d' has the sign of z + αs + (1 − α)x. For α ≤ 1, d grows up to s_max; else up to
  x* = (z + αs) / (α − 1), and falls from there.
- capacity "max": up to m_j the same, times a constant. From m_j on, d = h x (x − s) / (z + x)^α,
  whose derivative has the sign of q(x) = (2 − α)x² + (2z + (α − 1)s)x − zs. As q(s) ≥ 0 and
  x ≥ m ≥ s, d grows where α ≤ 2; else up to the larger root of q, and falls from there.

So the maximum is at one of a few scores, all of which are tried. Where no member scores (z = 0), d
is x^(1−α), or x^(2−α) for capacity "max": unbounded towards x = 0 if the exponent is negative, and
such a data point must be scored before anything is certain.

How soon it is certain depends on the order of the data points (``m2n2lab.core.scoring_order``).
The cost of failing on one is M_rj − d_rj(0), on the mean over rivals; for right/wrong scores it
falls as 1/(z_j + 1) does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.archive import Archive
from m2n2lab.core.population import Population
from m2n2lab.core.records import Partial, Proposal
from m2n2lab.core.scoring_order import Order
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Floats, Indices
from m2n2lab.utils.errors import InputError, whole_number

EPSILON = float(np.finfo(float).eps)
ALL_POINTS = slice(None)
Points = Indices | slice


class Bound:
    """The highest lead that a child can still reach over each member of one population.

    Args:
        archive: the archive, which must be full: while it has room every child is accepted.
        graded: whether scores are graded rather than right or wrong.
        top: s_max, the highest score that a data point can get.

    Attributes:
        population: the population.
        cost: (D,) cost of failing, on the mean over rivals; infinite where the lead is unbounded.
        start: (P,) the highest possible lead over each member before anything is scored.
    """

    def __init__(self, archive: Archive, graded: bool, top: float) -> None:
        self.population: Population = archive.population
        self._alpha, self._shares = archive.alpha, archive.shares
        self._capacity_max = archive.capacity == "max"
        self._z, self._s = self.population.z, archive.scores  # (D,), (P, D)
        self._best = self._s.max(axis=0)  # (D,) m_j
        self._max_leads = self._maxima(graded, top)  # (P, D) M_rj
        self._unbounded = np.isinf(self._max_leads).any(axis=0)  # (D,) until they are scored
        self._any_unbounded = bool(self._unbounded.any())
        self._max_leads[:, self._unbounded] = 0.0
        self.start: Floats = self._max_leads.sum(axis=1)
        # Sums of D numbers, here and in the archive, err by less than D ε times the sum of their
        # magnitudes; 16 leaves room for powers and quotients. A rival's fitness is highest without
        # the child, except that the child may raise the capacity.
        highest = np.full_like(self._z, top)
        fitness = (self._s * self._weight(highest, ALL_POINTS, self._z)).sum(axis=1)
        magnitude = np.abs(self._max_leads).sum(axis=1) + 2.0 * fitness
        self._margin = 16.0 * (len(self._z) + 8) * EPSILON * magnitude  # (P,)
        cost = (self._max_leads - self._lead(np.zeros_like(self._z))).mean(axis=0)
        self.cost: Floats = np.where(self._unbounded, np.inf, cost)

    def _weight(self, x: Floats, where: Points, z: Floats) -> Floats:
        """Return h c(x) / z^α on some data points for totals ``z``."""
        crowd = np.where(z == 0.0, 1.0, z)
        if self._alpha != 1.0:
            crowd **= self._alpha
        weight = (np.maximum(self._best[where], x) if self._capacity_max else 1.0) / crowd
        return weight if self._shares is None else weight * self._shares[where]

    def _lead(self, x: Floats, where: Points = ALL_POINTS) -> Floats:
        """Return d_rj(x_j) (P, n) for scores (n,), or (P, n), on some data points."""
        return self._weight(x, where, self._z[where] + x) * (x - self._s[:, where])

    def _maxima(self, graded: bool, top: float) -> Floats:
        """Return M_rj (P, D); infinite where the lead is unbounded."""
        z, s, alpha = self._z, self._s, self._alpha
        candidates: list[Floats] = [np.full_like(z, top)]
        if not graded:
            candidates.append(np.zeros_like(z))
        else:
            turn = np.minimum(self._best, top) if self._capacity_max else candidates[0]
            candidates.append(turn)
            if alpha > 1.0:
                candidates.append(np.minimum((z + alpha * s) / (alpha - 1.0), turn))
            if self._capacity_max and alpha > 2.0:
                b, c = 2.0 * z + (alpha - 1.0) * s, (alpha - 2.0) * z * s
                root = (b + np.sqrt(np.maximum(b * b - 4.0 * c, 0.0))) / (2.0 * (alpha - 2.0))
                candidates.append(np.clip(root, turn, top))
        maxima: Floats = np.max([self._lead(x) for x in candidates], axis=0)
        if graded and alpha > (2.0 if self._capacity_max else 1.0):
            maxima[:, z == 0.0] = np.inf
        return maxima

    def change(self, indices: Indices, scores: NDArray[Any]) -> Floats:
        """Return the change of the highest leads (P,) by scores (n,) on ``indices`` (n,); <= 0."""
        change = self._lead(scores.astype(float), indices) - self._max_leads[:, indices]
        return np.asarray(change.sum(axis=1))

    def rejects(self, leads: Floats, unseen: NDArray[np.bool_]) -> bool:
        """Return whether a child with these highest leads (P,) is certain to be rejected.

        Args:
            leads: ``start`` and every ``change`` so far.
            unseen: (D,) which data points have no score yet.
        """
        below = bool((leads < -self._margin).all())
        return below and not (self._any_unbounded and (self._unbounded & unseen).any())


class Trial:
    """The scoring of one child, chunk by chunk, as far as the decision needs.

    ::

        trial = rejection.trial(proposal)
        while (indices := trial.next()) is not None:
            trial.add(indices, task.evaluate(model, indices))
        evolver.tell(proposal, trial.scores)
    """

    def __init__(self, rejection: Rejection, proposal: Proposal | None) -> None:
        self._rejection = rejection
        self._bound = rejection.bound()
        self._order = None if self._bound is None else rejection.order(self._bound, proposal)
        self._leads = None if self._bound is None else self._bound.start
        self._unseen = np.ones(rejection.task.points, bool)
        self._indices: list[Indices] = []  # of each chunk
        self._scores: list[NDArray[Any]] = []  # of each chunk
        self._upcoming: Indices | None = None
        self.seen = 0

    def next(self) -> Indices | None:
        """Return the data points to score next (n,), or ``None`` once the outcome is certain."""
        return None if self.seen == len(self._unseen) or self._rejected() else self.upcoming()

    def upcoming(self) -> Indices:
        """Return the data points that are next in order (n,), whether they are needed or not."""
        if self._upcoming is None:
            every = np.arange(len(self._unseen))
            self._upcoming = self._order.next(self._unseen) if self._order else every
        return self._upcoming

    def add(self, indices: Indices, scores: NDArray[Any]) -> None:
        """Add the scores (n,) of the data points that ``next`` returned.

        Raises:
            InputError: a score contradicts the task's ``graded`` and ``top``.
        """
        task = self._rejection.task
        if scores.dtype != np.bool_:
            possible = scores <= task.top if task.graded else np.isin(scores, (0.0, task.top))
            if not possible.all():
                odd = int(np.argmin(possible))
                expected = f"<= {task.top:g}" if task.graded else f"0 or {task.top:g}"
                raise InputError(
                    f"Early rejection needs scores {expected}, as the task's graded and top say, "
                    f"got {scores[odd]} on data point {indices[odd]}; set graded and top to what "
                    f"the task gives, or leave chunk out."
                )
        self._indices.append(indices)
        self._scores.append(scores)
        self._upcoming = None
        self.seen += len(indices)
        self._unseen[indices] = False
        if self._order:
            self._order.add(indices, scores / task.top)
        if self._bound is not None and self._leads is not None:
            self._leads = self._leads + self._bound.change(indices, scores)

    def _rejected(self) -> bool:
        """Return whether the child is certain to be rejected by the present archive."""
        bound = self._rejection.bound()
        if bound is not self._bound:  # the archive has changed since this trial began
            self._bound = bound
            if bound is not None:
                self._leads = bound.start + bound.change(self._seen, np.concatenate(self._scores))
        return (
            bound is not None
            and self._leads is not None
            and bound.rejects(self._leads, self._unseen)
        )

    @property
    def _seen(self) -> Indices:
        """The scored data points, in the order in which they were scored."""
        return np.concatenate([np.zeros(0, np.intp), *self._indices])

    @property
    def scores(self) -> NDArray[Any] | Partial:
        """The scores (D,), or those that were enough to reject the child."""
        scores = np.concatenate(self._scores) if self._scores else np.zeros(0)
        indices, points = self._seen, self._rejection.task.points
        if self.seen < points:
            return Partial(indices, scores, points, self._rejection.task.top)
        full = np.empty(points, scores.dtype)
        full[indices] = scores
        return full


class Rejection:
    """Early rejection in one archive: scores children chunk by chunk, until the outcome is certain.

    The results of the search are the same as with full scores. Only data points with equal
    ``Task.kinds`` are scored together.

    Args:
        archive: where the children compete.
        task: scores them.
        chunk: maximum number of data points scored at a time.
        size: N, length of a model's flat vector, for the share of each parent in a child.

    Raises:
        InputError: ``chunk`` is below 1.
    """

    def __init__(self, archive: Archive, task: Task, chunk: int, size: int) -> None:
        self.chunk = whole_number("chunk", chunk, 1)
        self.task = task
        self._archive, self._size = archive, size
        self._kinds = [np.flatnonzero(task.kinds == kind) for kind in np.unique(task.kinds)]
        self._bound: Bound | None = None

    def bound(self) -> Bound | None:
        """Return the bound for the archive's present population; ``None`` while it has room."""
        archive = self._archive
        if len(archive) < archive.size:
            return None
        if self._bound is None or self._bound.population is not archive.population:
            self._bound = Bound(archive, self.task.graded, self.task.top)
        return self._bound

    def order(self, bound: Bound, proposal: Proposal | None) -> Order:
        """Return the order of the data points for the proposed child under this bound."""
        members, top = self._archive.scores, self.task.top
        parents = self._parents(proposal)
        mixed = None if parents is None else parents / top
        return Order(bound.cost, members / top, mixed, self._kinds, self.chunk)

    def _parents(self, proposal: Proposal | None) -> Floats | None:
        """Return the parents' scores (D,) by their shares of the child; ``None`` if unknown."""
        archive = self._archive
        parents = proposal.parents if proposal else ()
        if not parents or not all(parent in archive for parent in parents):
            return None
        scores = [archive.scores_of(parent) for parent in parents]
        if proposal is None or proposal.split is None or proposal.mix is None:
            return scores[0]
        before = proposal.split / self._size
        b = proposal.mix * before + (1.0 - proposal.mix) * (1.0 - before)
        return (1.0 - b) * scores[0] + b * scores[-1]

    def trial(self, proposal: Proposal | None = None) -> Trial:
        """Return the trial of the proposed child, or of an external model."""
        return Trial(self, proposal)

    def score(self, model: Any, proposal: Proposal | None = None) -> NDArray[Any] | Partial:
        """Return a model's scores (D,), or those that were enough to reject it."""
        trial = self.trial(proposal)
        while (indices := trial.next()) is not None:
            trial.add(indices, self.task.evaluate(model, indices))
        return trial.scores
