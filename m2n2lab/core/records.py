"""The small frozen values that travel through the lab: proposal, verdict, standing, generation."""

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
    """A child that could be made: everything about it but its weights.

    Attributes:
        parents: ids of A and B; only A where the method does not cross over; empty where the
            method makes models without parents (CMA-ES).
        split: first index of the flat vector that belongs to the part after the split, in
            [0, N]; ``None`` without crossover.
        mix: w, the share of B before the split and of A after it, in [0, 1]; ``None`` without
            crossover.
        seed: draws the child's mutation noise; the same proposal is always the same child.
        by_hand: names of the fields that a person chose.
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

    def check(self, size: int) -> None:
        """See that its numbers can be used in a space of ``size`` parameters.

        Raises:
            InputError: a seed that is no whole number; of two parents, a split outside [0, size] or
                a mix outside [0, 1].
        """
        if type(self.seed) is not int or self.seed < 0:
            whole_number("seed", self.seed, 0)
        if len(self.parents) != 2:
            return
        split, mix = self.split, self.mix
        whole = isinstance(split, (int, np.integer)) and not isinstance(split, bool)
        if not whole or not 0 <= split <= size:  # type: ignore[operator]  # None is not whole
            raise InputError(
                f"A split must be a whole number from 0 to {size} (the length of the vector), but "
                f"{split!r} came; choose one inside."
            )
        if type(mix) is not float or not 0.0 <= mix <= 1.0:
            real_number("mix", mix, 0.0, 1.0)

    def _repr_html_(self) -> str:
        html: str = extension("html")(self)
        return html


@dataclass(frozen=True, slots=True)
class Partial:
    """Scores of a child that was given up because it cannot live, whatever the others would be.

    Attributes:
        indices: (n,) the data points that were scored.
        scores: (n,) their scores.
        points: D, how many data points there are.
        top: the highest score that a data point can get.
    """

    indices: NDArray[np.intp]
    scores: NDArray[Any]
    points: int
    top: float

    @property
    def unseen(self) -> int:
        """How many data points were not scored."""
        return self.points - len(self.indices)

    @property
    def with_gaps(self) -> NDArray[np.float64]:
        """(D,) the scores, and NaN wherever there is none."""
        full = np.full(self.points, np.nan)
        full[self.indices] = self.scores
        return full

    @property
    def best(self) -> NDArray[Any]:
        """(D,) the scores, with the highest wherever there is none."""
        right = self.scores.dtype == np.bool_ and self.top == 1.0
        full = np.full(self.points, self.top, bool if right else float)
        full[self.indices] = self.scores
        return full


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would happen to a child with these scores, and why.

    Attributes:
        accepted: whether it would live.
        score: its mean score over the data points.
        fitness: its fitness, counted with itself in the archive.
        rank: 1 for the fittest of ``of``.
        of: how many compete, the child included.
        rival: id of the member that would die for it or, if it would not live, of the member it
            had to beat; ``None`` while there is room for all.
        rival_fitness: that member's fitness with the child counted in, or ``None``.
        alone: data points that the child scores on and no member does.
        unseen: data points that were left unscored, because the child could not live any more. They
            count with the highest score here, so that ``score`` is the most it could have been.
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

    @property
    def displaced(self) -> int | None:
        """Id of the member that would die for the child, or ``None``."""
        return self.rival if self.accepted else None

    @property
    def told(self) -> str:
        """Its fitness as text, which looks unlike its rival's where they differ."""
        return _apart(self.fitness, self.rival_fitness)

    @property
    def fate(self) -> str:
        """Whom it displaces, or whom it does not beat, in words."""
        if self.rival is None or self.rival_fitness is None:
            return "there is room for it"
        its = _apart(self.rival_fitness, self.fitness)
        return f"{'displaces' if self.accepted else 'does not beat'} {self.rival} ({its})"

    def __str__(self) -> str:
        head = "Would live." if self.accepted else "Would not live."
        words = f"{head} Fitness {self.told} ranks {self.rank} of {self.of} and {self.fate}."
        if self.alone:
            points = "1 data point" if self.alone == 1 else f"{self.alone:,} data points"
            words += f" It scores on {points} where nobody else does."
        if self.unseen:
            points = "1 data point" if self.unseen == 1 else f"{self.unseen:,} data points"
            words += f" Given up with {points} unscored, counted as solved here."
        return words


@dataclass(frozen=True, slots=True)
class Standing:
    """Who lives, how fit they are and what they solve together, at one moment.

    Attributes:
        ids: (P,) the members' ids, oldest first.
        fitness: (P,) their fitness, in the same order; read-only.
        best: id of the member with the best mean score; -1 where nobody lives.
        train: that member's mean score over the data points; NaN where nobody lives.
        coverage: share of data points that some member solves.
        entropy: diversity of the archive in bits a data point (see ``Archive.entropy``).
    """

    ids: tuple[int, ...]
    fitness: NDArray[np.float64]
    best: int
    train: float
    coverage: float
    entropy: float

    def of(self, member: int) -> float | None:
        """Return the fitness of a member by id, or ``None`` where it does not live."""
        return float(self.fitness[self.ids.index(member)]) if member in self.ids else None


@dataclass(frozen=True, slots=True)
class Generation:
    """One step of the search, as it happened: everything a view, a log or a replay needs.

    Attributes:
        step: 1 for the first model told after the seeds.
        proposal: how the child was made; ``None`` for a model that came from outside.
        child: id of the child. Every child gets one, accepted or not; ids are never reused.
        verdict: whether it lives, its score, fitness and rank, and whom it displaced.
        before: members and fitness before the child came.
        after: members and fitness once it was decided (the same object where nothing changed).
        test: the best member's score on held-out data; NaN where the task has none.
        scores: (D,) the child's scores, or the part of them that was enough to give it up.
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
        """Id of the member with the best mean score, once the child was decided."""
        return self.after.best

    @property
    def train(self) -> float:
        """That member's mean score over the data points."""
        return self.after.train

    @property
    def coverage(self) -> float:
        """Share of data points that some member solves, once the child was decided."""
        return self.after.coverage

    @property
    def entropy(self) -> float:
        """Diversity of the archive in bits a data point, once the child was decided."""
        return self.after.entropy

    @property
    def accepted(self) -> bool:
        """Whether the child lives."""
        return self.verdict.accepted

    @property
    def displaced(self) -> int | None:
        """Id of the member that died for the child, or ``None``."""
        return self.verdict.displaced

    @property
    def parents(self) -> tuple[int, ...]:
        """Ids of the parents, A first; empty for a model that came from outside."""
        return self.proposal.parents if self.proposal else ()

    @property
    def outcome(self) -> str:
        """What became of the child, in a sentence."""
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
        return f"<{self}>"  # without the members' fitness before and after

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
    """The run of a store that records a search, or that it came from.

    Attributes:
        path: the store.
        run: number of the run in it.
        branched: whether the search left that run, to be recorded as one of its own.
    """

    path: Path
    run: int
    branched: bool = False


def _apart(value: float, other: float | None) -> str:
    """Return a number with one decimal, or up to four where ``other`` would look the same."""
    if other is not None:
        for decimals in range(1, 5):
            if (text := f"{value:.{decimals}f}") != f"{other:.{decimals}f}":
                return text
    return f"{value:.1f}"
