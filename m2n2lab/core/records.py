"""Records of a search, small and frozen: proposal, partial, verdict, standing, generation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.extensions import extension
from m2n2lab.utils.errors import InputError, real_number, whole_number


@dataclass(frozen=True, slots=True)
class Proposal:
    """A child that could be made: its parents, split, mix and mutation seed, without its weights.

    Attributes:
        parents: ids of A and B; only A without crossover; empty where the method makes models
            without parents (CMA-ES).
        split: first index of the flat vector after the split, in [0, N]; ``None`` without
            crossover.
        mix: w, the share of B before the split and of A after it, in [0, 1]; ``None`` without
            crossover.
        seed: seed of the child's mutation noise; equal proposals make equal children.
        by_hand: names of the fields chosen by hand.
    """

    parents: tuple[int, ...]
    split: int | None
    mix: float | None
    seed: int
    by_hand: tuple[str, ...] = ()

    def edit(self, **changes: Any) -> Proposal:
        """Return a copy with some of ``parents``, ``split``, ``mix``, ``seed`` chosen by hand."""
        hand = tuple(dict.fromkeys((*self.by_hand, *changes)))
        return replace(self, **changes, by_hand=hand)

    @property
    def key(self) -> int:
        """A hash of all that makes the child, which ``by_hand`` does not."""
        try:
            return hash((tuple(self.parents), self.split, self.mix, self.seed))
        except TypeError:  # a field is no number, which ``check`` refuses
            return id(self)

    @property
    def child_text(self) -> str:
        """The child as text, by its parents."""
        parents = " × ".join(map(str, self.parents))
        return f"the child of {parents}" if parents else "a child without parents"

    def check(self, size: int) -> None:
        """Check the proposal against a space of ``size`` parameters.

        Raises:
            InputError: the seed is not an integer >= 0; or, for two parents, the split lies outside
                [0, size] or the mix outside [0, 1].
        """
        if type(self.seed) is not int or self.seed < 0:
            whole_number("seed", self.seed, 0)
        if len(self.parents) != 2:
            return
        split, mix = self.split, self.mix
        integer = isinstance(split, (int, np.integer)) and not isinstance(split, bool)
        if not integer or not 0 <= split <= size:  # type: ignore[operator]  # integer: not None
            raise InputError(
                f"A split must be an integer in [0, {size}] (the length of the vector), got "
                f"{split!r}; choose one inside."
            )
        if type(mix) is not float or not 0.0 <= mix <= 1.0:
            real_number("mix", mix, 0.0, 1.0)

    def _repr_html_(self) -> str:
        html: str = extension("html")(self)
        return html


@dataclass(frozen=True, slots=True)
class Partial:
    """Scores of a child that was rejected early, whatever its unscored data points would give.

    Attributes:
        indices: (n,) the scored data points.
        scores: (n,) their scores.
        points: D, number of data points.
        top: the highest score that a data point can get.
    """

    indices: NDArray[np.intp]
    scores: NDArray[Any]
    points: int
    top: float

    @property
    def unseen(self) -> int:
        """Number of data points without a score."""
        return self.points - len(self.indices)

    @property
    def with_gaps(self) -> NDArray[np.float64]:
        """(D,) the scores, with NaN where there is none."""
        full = np.full(self.points, np.nan)
        full[self.indices] = self.scores
        return full

    @property
    def best(self) -> NDArray[Any]:
        """(D,) the scores, with the highest possible one where there is none."""
        right = self.scores.dtype == np.bool_ and self.top == 1.0
        full = np.full(self.points, self.top, bool if right else float)
        full[self.indices] = self.scores
        return full


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a child's competition with the members, before or after it takes place.

    Attributes:
        accepted: whether the child becomes a member.
        score: its mean score over the data points.
        fitness: its fitness, with itself counted into the archive.
        rank: its rank by fitness, 1 for the fittest of ``of``.
        of: number of competitors, the child included.
        rival: id of the member that it displaces or, if it is rejected, of the member that it had
            to beat; ``None`` while the archive has room.
        rival_fitness: the rival's fitness with the child counted in, or ``None``.
        alone: number of data points on which the child scores and no member does.
        unseen: number of data points left unscored by early rejection. They count with the highest
            score, so ``score`` and ``fitness`` are upper bounds.
        spared: id of the member that would be the rival if it were not pinned, or ``None``.
    """

    accepted: bool
    score: float
    fitness: float
    rank: int
    of: int
    rival: int | None
    rival_fitness: float | None
    alone: int
    unseen: int = 0
    spared: int | None = None

    @property
    def displaced(self) -> int | None:
        """Id of the member that the child displaces, or ``None``."""
        return self.rival if self.accepted else None

    @property
    def told(self) -> str:
        """The fitness as text, with enough decimals to differ from the rival's."""
        return _distinct_text(self.fitness, self.rival_fitness)

    @property
    def fate(self) -> str:
        """The member that the child displaces or does not beat, as text."""
        if self.rival is None or self.rival_fitness is None:
            return "there is room for it"
        if self.spared == self.rival:
            return f"is up against {self.rival}, which is pinned"
        its = _distinct_text(self.rival_fitness, self.fitness)
        return f"{'displaces' if self.accepted else 'does not beat'} {self.rival} ({its})"

    def __str__(self) -> str:
        head = "Would live." if self.accepted else "Would not live."
        place = f"Fitness {self.told} ranks {self.rank} of {self.of} and {self.fate}"
        is_lowest = not self.accepted and self.rank == self.of and self.spared is None
        if is_lowest and self.rival_fitness is not None:
            its = _distinct_text(self.rival_fitness, self.fitness)
            place = (
                f"Fitness {self.told} is the lowest of {self.of}; the weakest member, "
                f"{self.rival}, has {its}"
            )
        text = f"{head} {place}."
        if self.spared not in (None, self.rival):
            text += f" Member {self.spared} would be its rival, but is pinned."
        if self.alone:
            points = "1 data point" if self.alone == 1 else f"{self.alone:,} data points"
            text += f" It scores on {points} where nobody else does."
        if self.unseen:
            points = "1 data point" if self.unseen == 1 else f"{self.unseen:,} data points"
            text += f" Given up with {points} unscored, counted as solved here."
        return text


@dataclass(frozen=True, slots=True)
class Standing:
    """The members, their fitness and what they solve together, at one moment.

    Attributes:
        ids: (P,) the members' ids, oldest first.
        fitness: (P,) their fitness, in the same order; read-only.
        best: id of the member with the best mean score; -1 for an empty archive.
        train: that member's mean score over the data points; NaN for an empty archive.
        coverage: share of data points that some member solves.
        entropy: diversity of the archive in bits per data point (see ``Archive.entropy``).
    """

    ids: tuple[int, ...]
    fitness: NDArray[np.float64]
    best: int
    train: float
    coverage: float
    entropy: float

    def of(self, member: int) -> float | None:
        """Return the fitness of a member by id, or ``None`` if it is not in the archive."""
        return float(self.fitness[self.ids.index(member)]) if member in self.ids else None


@dataclass(frozen=True, slots=True)
class Generation:
    """One step of the search as it happened: all that a view, a log or a replay needs.

    Attributes:
        step: number of the step, 1 for the first model submitted after the seeds.
        proposal: how the child was made; ``None`` for an external model.
        child: id of the child. Every child gets one, accepted or not; ids are never reused.
        verdict: whether it was accepted, its score, fitness and rank, and the displaced member.
        before: members and fitness before the step.
        after: members and fitness after the step (the same object if nothing changed).
        test: the best member's score on held-out data; NaN where the task has none.
        scores: (D,) the child's scores, or those that were enough to reject it early.
    """

    step: int
    proposal: Proposal | None
    child: int
    verdict: Verdict
    before: Standing
    after: Standing
    test: float
    scores: NDArray[Any] | Partial = field(repr=False, compare=False)

    @property
    def best(self) -> int:
        """Id of the member with the best mean score after the step."""
        return self.after.best

    @property
    def train(self) -> float:
        """That member's mean score over the data points."""
        return self.after.train

    @property
    def coverage(self) -> float:
        """Share of data points that some member solves after the step."""
        return self.after.coverage

    @property
    def entropy(self) -> float:
        """Diversity of the archive in bits per data point after the step."""
        return self.after.entropy

    @property
    def accepted(self) -> bool:
        """Whether the child became a member."""
        return self.verdict.accepted

    @property
    def displaced(self) -> int | None:
        """Id of the member that the child displaced, or ``None``."""
        return self.verdict.displaced

    @property
    def parents(self) -> tuple[int, ...]:
        """Ids of the parents, A first; empty for an external model."""
        return self.proposal.parents if self.proposal else ()

    @property
    def outcome(self) -> str:
        """The outcome for the child, as a sentence."""
        if not self.accepted:
            verdict = self.verdict
            return f"Child {self.child} died: its fitness {verdict.told} {verdict.fate}."
        if self.displaced is None:
            return f"Child {self.child} lives: there was room for it."
        return f"Child {self.child} lives and takes the place of {self.displaced}."

    def _repr_html_(self) -> str:
        html: str = extension("html")(self)
        return html

    def __repr__(self) -> str:
        return f"<{self}>"  # short: without the standings before and after

    def __str__(self) -> str:
        made = " × ".join(map(str, self.parents)) or "from outside"
        fate = "lives" if self.accepted else "dies"
        gone = "" if self.displaced is None else f", displaces {self.displaced}"
        return (
            f"step {self.step}: child {self.child} ({made}) scores {self.verdict.score:.1%}, "
            f"fitness {self.verdict.fitness:.1f}, rank {self.verdict.rank}, {fate}{gone}"
        )


@dataclass(frozen=True)
class Stored:
    """The run of a store that records a search, or from which the search was resumed.

    Attributes:
        path: the store.
        run: number of the run in it.
        branched: whether the search left that run, to be recorded as a new one.
    """

    path: Path
    run: int
    branched: bool = False


def _distinct_text(value: float, other: float | None) -> str:
    """Return a number with one decimal, or up to four if ``other`` would look the same."""
    if other is not None:
        for decimals in range(1, 5):
            if (text := f"{value:.{decimals}f}") != f"{other:.{decimals}f}":
                return text
    return f"{value:.1f}"
