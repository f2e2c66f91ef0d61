"""Early rejection: a child is given up as soon as it is certain that it cannot live.

A child lives unless its fitness, counted with itself in the archive, is below everybody else's
(``Archive.judge``). Write x_j for its score on data point j, s_rj for rival r's, z_j for the sum of
the members' scores, h_j for the data point's share. With the child counted in, a score there is
worth w_j(x) = h_j c_j(x) / (z_j + x)^α to everybody (0^α counts as 1), where c_j(x) = 1 for
capacity "one" and max(m_j, x), m_j = max_k s_kj, for capacity "max". So the child leads a rival by

    fitness_child − fitness_r = Σ_j d_rj(x_j),    d_rj(x) = w_j(x) (x − s_rj).

Each term depends on one score of the child alone. Whatever the unscored data points U will bring,

    lead_r ≤ Σ_{j∉U} d_rj(x_j) + Σ_{j∈U} M_rj,    M_rj = max_x d_rj(x),

and some completion reaches this, so no better bound exists for one rival. Nor for all of them: the
child is surely rejected when this is below 0 for every r, and where it is not for one r, there is a
completion in which the child is not below r and lives.

M_rj, for right/wrong scores, is the larger of d_rj(0) and d_rj(1). For graded x in [0, s_max]:

- capacity "one": d' has the sign of z + αs + (1 − α)x. For α ≤ 1, d grows up to s_max; else up to
  x* = (z + αs) / (α − 1), and falls from there.
- capacity "max": up to m_j the same, times a constant. From m_j on, d = h x (x − s) / (z + x)^α,
  whose derivative has the sign of q(x) = (2 − α)x² + (2z + (α − 1)s)x − zs. As q(s) ≥ 0 and
  x ≥ m ≥ s, d grows where α ≤ 2; else up to the larger root of q, and falls from there.

So the maximum is at one of a few places, all of which are tried. Where nobody scores (z = 0), d is
x^(1−α), or x^(2−α) for capacity "max": without bound towards x = 0 when the exponent is negative,
and such a data point must be scored before anything is certain.

How soon it is certain depends on the order of the data points (``m2n2lab.core.scoring_order``).
What failing on one costs the child is M_rj − d_rj(0), on the mean over rivals; for right/wrong
scores it falls as 1/(z_j + 1) does.
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
EVERY = slice(None)
Points = Indices | slice


class Bound:
    """What a child can still reach in one state of an archive.

    Args:
        archive: the archive, which must be full: while there is room every child lives.
        graded: whether scores are graded, or right or wrong.
        top: s_max, the highest score that a data point can get.

    Attributes:
        population: the state that this is about.
        cost: (D,) what failing costs, on the mean over rivals; infinite where all is open.
        start: (P,) the highest possible leads over each member before anything is scored.
    """

    def __init__(self, archive: Archive, graded: bool, top: float) -> None:
        self.population: Population = archive.population
        self._alpha, self._shares = archive.alpha, archive.shares
        self._wide = archive.capacity == "max"
        self._z, self._s = self.population.z, archive.scores  # (D,), (P, D)
        self._most = self._s.max(axis=0)  # (D,) m_j
        self._m = self._highest(graded, top)  # (P, D)
        self._open = np.isinf(self._m).any(axis=0)  # (D,) boundless until they are scored
        self._boundless = bool(self._open.any())
        self._m[:, self._open] = 0.0
        self.start: Floats = self._m.sum(axis=1)
        # Sums of D numbers, here and in the archive, err by less than D ε times the sum of their
        # sizes; 16 leaves room for powers and quotients. A rival's fitness is highest without the
        # child, but for the capacity, which the child may raise.
        best = (self._s * self._worth(np.full_like(self._z, top), EVERY, self._z)).sum(axis=1)
        size = np.abs(self._m).sum(axis=1) + 2.0 * best
        self._margin = 16.0 * (len(self._z) + 8) * EPSILON * size  # (P,)
        cost = (self._m - self._lead(np.zeros_like(self._z))).mean(axis=0)
        self.cost: Floats = np.where(self._open, np.inf, cost)

    def _worth(self, x: Floats, where: Points, z: Floats) -> Floats:
        """Return h c(x) / z^α on some data points for totals ``z``."""
        crowd = np.where(z == 0.0, 1.0, z)
        if self._alpha != 1.0:
            crowd **= self._alpha
        worth = (np.maximum(self._most[where], x) if self._wide else 1.0) / crowd
        return worth if self._shares is None else worth * self._shares[where]

    def _lead(self, x: Floats, where: Points = EVERY) -> Floats:
        """Return d_rj(x_j) (P, n) for scores (n,), or (P, n), on some data points."""
        return self._worth(x, where, self._z[where] + x) * (x - self._s[:, where])

    def _highest(self, graded: bool, top: float) -> Floats:
        """Return M_rj (P, D); infinite where there is none."""
        z, s, alpha = self._z, self._s, self._alpha
        places: list[Floats] = [np.full_like(z, top)]
        if not graded:
            places.append(np.zeros_like(z))
        else:
            turn = np.minimum(self._most, top) if self._wide else places[0]
            places.append(turn)
            if alpha > 1.0:
                places.append(np.minimum((z + alpha * s) / (alpha - 1.0), turn))
            if self._wide and alpha > 2.0:
                b, c = 2.0 * z + (alpha - 1.0) * s, (alpha - 2.0) * z * s
                root = (b + np.sqrt(np.maximum(b * b - 4.0 * c, 0.0))) / (2.0 * (alpha - 2.0))
                places.append(np.clip(root, turn, top))
        highest: Floats = np.max([self._lead(x) for x in places], axis=0)
        if graded and alpha > (2.0 if self._wide else 1.0):
            highest[:, z == 0.0] = np.inf
        return highest

    def change(self, indices: Indices, scores: NDArray[Any]) -> Floats:
        """Return what scores (n,) on ``indices`` (n,) add to the highest leads (P,): at most 0."""
        lead = self._lead(scores.astype(float), indices) - self._m[:, indices]
        return np.asarray(lead.sum(axis=1))

    def lost(self, leads: Floats, unseen: NDArray[np.bool_]) -> bool:
        """Whether a child with these highest leads (P,) is surely rejected.

        Args:
            leads: ``start`` and every ``change`` so far.
            unseen: (D,) which data points have no score yet.
        """
        below = bool((leads < -self._margin).all())
        return below and not (self._boundless and (self._open & unseen).any())


class Trial:
    """One child on its way through the data points, as far as it has to go.

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
        self._where: list[Indices] = []
        self._parts: list[NDArray[Any]] = []
        self._coming: Indices | None = None
        self.seen = 0

    def next(self) -> Indices | None:
        """Return the data points to score next (n,), or ``None`` where all is decided."""
        return None if self.seen == len(self._unseen) or self._lost() else self.upcoming()

    def upcoming(self) -> Indices:
        """Return the data points that are next in order (n,), whether they are needed or not."""
        if self._coming is None:
            every = np.arange(len(self._unseen))
            self._coming = self._order.next(self._unseen) if self._order else every
        return self._coming

    def add(self, indices: Indices, scores: NDArray[Any]) -> None:
        """Take the scores (n,) of the data points that ``next`` gave.

        Raises:
            InputError: a score that the task says it does not give.
        """
        task = self._rejection.task
        if scores.dtype != np.bool_:
            possible = scores <= task.top if task.graded else np.isin(scores, (0.0, task.top))
            if not possible.all():
                odd = int(np.argmin(possible))
                words = f"up to {task.top:g}" if task.graded else f"0 or {task.top:g}"
                raise InputError(
                    f"Early rejection relies on scores of {words}, as the task says, but data "
                    f"point {indices[odd]} got {scores[odd]}; set the task's graded and top to "
                    f"what it gives, or leave chunk out."
                )
        self._where.append(indices)
        self._parts.append(scores)
        self._coming = None
        self.seen += len(indices)
        self._unseen[indices] = False
        if self._order:
            self._order.add(indices, scores / task.top)
        if self._bound is not None and self._leads is not None:
            self._leads = self._leads + self._bound.change(indices, scores)

    def _lost(self) -> bool:
        """Whether the child is surely rejected, as the archive is now."""
        bound = self._rejection.bound()
        if bound is not self._bound:  # others were told since this child began
            self._bound = bound
            if bound is not None:
                self._leads = bound.start + bound.change(self._seen, np.concatenate(self._parts))
        return (
            bound is not None and self._leads is not None and bound.lost(self._leads, self._unseen)
        )

    @property
    def _seen(self) -> Indices:
        """The data points that were scored, as they came."""
        return np.concatenate([np.zeros(0, np.intp), *self._where])

    @property
    def scores(self) -> NDArray[Any] | Partial:
        """The scores (D,), or those that were enough to give the child up."""
        scores = np.concatenate(self._parts) if self._parts else np.zeros(0)
        where, many = self._seen, self._rejection.task.points
        if self.seen < many:
            return Partial(where, scores, many, self._rejection.task.top)
        full = np.empty(many, scores.dtype)
        full[where] = scores
        return full


class Rejection:
    """Scores children chunk by chunk, and only as long as they can still live.

    The search goes the very same way as with full scores. What is scored together is of one kind:
    answers to questions take a model as long for a few as for many.

    Args:
        archive: where they compete.
        task: scores them.
        chunk: data points that are scored at a time, at most.
        size: N, length of a model's flat vector, to tell how much of each parent a child has.

    Raises:
        InputError: a chunk below 1.
    """

    def __init__(self, archive: Archive, task: Task, chunk: int, size: int) -> None:
        self.chunk = whole_number("chunk", chunk, 1)
        self.task = task
        self._archive, self._size = archive, size
        self._kinds = [np.flatnonzero(task.kinds == kind) for kind in np.unique(task.kinds)]
        self._bound: Bound | None = None

    def bound(self) -> Bound | None:
        """Return the bound in the archive's present state; ``None`` while there is room for all."""
        archive = self._archive
        if len(archive) < archive.size:
            return None
        if self._bound is None or self._bound.population is not archive.population:
            self._bound = Bound(archive, self.task.graded, self.task.top)
        return self._bound

    def order(self, bound: Bound, proposal: Proposal | None) -> Order:
        """Return the order of the data points for a child, as proposed, in this state."""
        members, top = self._archive.scores, self.task.top
        parents = self._parents(proposal)
        mixed = None if parents is None else parents / top
        return Order(bound.cost, members / top, mixed, self._kinds, self.chunk)

    def _parents(self, proposal: Proposal | None) -> Floats | None:
        """Return the parents' scores (D,), each with its share of the child, where they live."""
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
        """Return the way of one child, as proposed, through the data points."""
        return Trial(self, proposal)

    def score(self, model: Any, proposal: Proposal | None = None) -> NDArray[Any] | Partial:
        """Return a model's scores (D,), or as many as showed that it cannot live."""
        trial = self.trial(proposal)
        while (indices := trial.next()) is not None:
            trial.add(indices, self.task.evaluate(model, indices))
        return trial.scores
