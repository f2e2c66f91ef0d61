"""What a person does by hand, inside the worker: preview, merge, undo, map a pair's landscape."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.bench import BenchData, bench_data
from m2n2lab.errors import InputError
from m2n2lab.landscape import Landscape, LandscapeData
from m2n2lab.records import Generation, Proposal, Standing

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.lineage import Lineage
    from m2n2lab.tasks.base import Sample

ANSWERS = ("all", "A or B wrong", "child wrong")
"""Which data points are shown on the bench."""

LIVE = 0.1
"""Most seconds of a preview that is made at every movement of the hand."""

SHOWN = 24
"""Data points whose answers are shown."""


@dataclass(frozen=True)
class Choice:
    """What a page wants on the bench; ``None`` leaves a part to the workbench.

    Attributes:
        a, b: ids of the parents.
        split: index of the flat vector.
        mix: share of B before the split.
        seed: of the mutation noise, where an automatic proposal is being edited.
    """

    a: int | None = None
    b: int | None = None
    split: int | None = None
    mix: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Filter:
    """Which data points are shown.

    Attributes:
        which: one of ``ANSWERS``.
        group: name of the only class that is shown; ``None`` for all.
    """

    which: str = ANSWERS[0]
    group: str | None = None


@dataclass(frozen=True)
class Answer:
    """One data point with what A, B and the child make of it."""

    a: Sample
    b: Sample
    child: Sample


class Workbench:
    """The bench of one search; only its worker touches it.

    Attributes:
        data: parents and child as last previewed, or ``None``.
        note: why there is no preview, or what became of the last merge by hand.
        answers: data points with what A, B and the child make of them.
        landscape: of the pair on the bench, as far as it is known.
    """

    def __init__(self, evolver: Evolver, lineage: Lineage) -> None:
        self._lineage = lineage
        self.data: BenchData | None = None
        self.note = ""
        self.answers: tuple[Answer, ...] = ()
        self.landscape: LandscapeData | None = None
        self._took: deque[float] = deque(maxlen=5)  # seconds of the last children
        self._evolver = evolver
        self._seeds = np.random.default_rng(0)  # its own: looking changes nothing of the search
        self._map: Landscape | None = None
        self._standing: Standing | None = None  # when the last preview was made
        self._before: tuple[dict[str, Any], int] | None = None  # state to go back to, and when

    def took(self, seconds: float) -> None:
        """Note how long a child took."""
        self._took.append(seconds)

    @property
    def slow(self) -> bool:
        """Whether a child takes longer than ``LIVE``; one alone may have been held up."""
        return len(self._took) > 1 and min(self._took) > LIVE

    @property
    def undoable(self) -> bool:
        """Whether the last thing that happened was a merge by hand."""
        return self._before is not None and self._before[1] == self._evolver.generation

    @property
    def stale(self) -> bool:
        """Whether a parent on the bench has died."""
        archive = self._evolver.archive
        return self.data is None or any(id not in archive for id in self.data.proposal.parents)

    @property
    def dated(self) -> bool:
        """Whether somebody came or went since the last preview."""
        return self._standing is not self._evolver.archive.standing

    def show(self, choice: Choice, wanted: Filter) -> None:
        """Preview a choice; what cannot be previewed leaves the last one and says why."""
        began = time.monotonic()
        try:
            self.data = bench_data(self._evolver, self._proposal(choice))
        except InputError as error:
            self.note = str(error)
            return
        self.note = ""
        self.took(time.monotonic() - began)
        self._standing = self._evolver.archive.standing
        self.answer(wanted)
        parents = self.data.proposal.parents
        if self._map is None or self._map.parents != parents:
            self._map = Landscape(self._evolver, (parents[0], parents[1]))
            self.landscape = self._map.data()

    def _proposal(self, choice: Choice) -> Proposal:
        """Return a choice completed: the most attractive pair, the middle, half and half."""
        old = self.data.proposal if self.data else None
        if choice.a is None and choice.b is None and old and not self.dated:
            a, b = old.parents
        else:
            a = choice.a if choice.a is not None else self._evolver.archive.best.id
            b = choice.b if choice.b is not None else self._mate(a)
        size = self._evolver.space.size
        split = size // 2 if choice.split is None else choice.split
        mix = 0.5 if choice.mix is None else choice.mix
        seed = choice.seed
        if seed is None:  # the same noise while a person drags, or the preview would flicker
            same = old is not None and old.parents == (a, b)
            seed = old.seed if old and same else int(self._seeds.integers(2**53))
        return Proposal((a, b), split, mix, seed, ("parents", "split", "mix"))

    def _mate(self, a: int) -> int:
        archive = self._evolver.archive
        archive[a]  # or nobody could miss anything
        row = archive.attraction()[archive.ids.index(a)]
        return archive.ids[int(np.argmax(row))]

    def answer(self, wanted: Filter) -> None:
        """Choose the data points that are shown."""
        if self.data is None:
            return
        a, b, child = self.data.scores
        which = {
            "A or B wrong": np.minimum(a, b) < 1.0,
            "child wrong": child < 1.0,
        }.get(wanted.which, np.ones(len(a), dtype=bool))
        points = np.flatnonzero(which)
        places = np.unique(np.linspace(0, len(points) - 1, min(SHOWN, len(points))).astype(int))
        chosen: NDArray[np.intp] = points[places] if len(points) else points
        evolver = self._evolver
        genomes = [evolver.archive[id].genome for id in self.data.proposal.parents]
        genomes.append(evolver.breed(self.data.proposal))
        rows = [
            evolver.task.samples(evolver.space.materialise(genome), chosen) for genome in genomes
        ]
        self.answers = tuple(Answer(*samples) for samples in zip(*rows, strict=True))

    def merge(self, shown: Proposal | None = None) -> Generation | None:
        """Tell the child on the bench to the archive, and keep the way back.

        A page that has ``shown`` another proposal than the one on the bench merges nothing.
        """
        if shown is not None and self.data is not None and self.data.proposal != shown:
            self.note = "The bench has changed meanwhile; look at it, then merge."
            return None
        if self.data is None or self.stale:
            self.note = "A parent on the bench no longer lives; pick another pair."
            return None
        state = self._evolver.state_dict()
        generation = self._evolver.tell(self.data.proposal, self.data.scores[2])
        self._before = state, generation.step
        verdict = generation.verdict
        if generation.accepted:
            gone = (
                "" if verdict.displaced is None else f" and takes the place of {verdict.displaced}"
            )
            self.note = f"Child {generation.child} lives{gone}."
        else:
            self.note = (
                f"Child {generation.child} died: {verdict.rival} is fitter "
                f"({verdict.rival_fitness:.1f} against {verdict.fitness:.1f})."
            )
        return generation

    def undo(self) -> bool:
        """Take back the last merge by hand, if nothing happened since; returns whether it did."""
        if self._before is None or not self.undoable:
            self.note = "There is no merge by hand to take back."
            return False
        state, _ = self._before
        self._evolver.load_state_dict(state)
        self._evolver.records.forget_last()
        self._lineage.forget_last()
        self._before = None
        self.note = "The merge is taken back."
        return True

    def propose(self) -> Choice:
        """Ask the search for its next proposal, to be edited before it is evaluated."""
        proposal = self._evolver.ask()
        if len(proposal.parents) != 2:
            self.note = "This method does not merge two parents, so there is nothing to edit."
            return Choice()
        a, b = proposal.parents
        return Choice(a, b, proposal.split, proposal.mix, proposal.seed)

    def explore(self) -> bool:
        """Evaluate one more cell of the landscape; returns whether there was one."""
        began = time.monotonic()
        if self._map is None or not self._map.advance():
            return False
        self.took(time.monotonic() - began)
        self.landscape = self._map.data()
        return True
