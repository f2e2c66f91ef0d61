"""What a person does by hand, inside the worker: preview, merge, undo, map a pair's landscape."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.analysis.landscape import Landscape, LandscapeData
from m2n2lab.analysis.members import spread
from m2n2lab.analysis.merge_preview import BenchData, bench_data
from m2n2lab.core.records import Generation, Proposal, Standing
from m2n2lab.utils.errors import InputError, choose

from .ballot import SIDES, Booth
from .gallery import Gallery, Looking

if TYPE_CHECKING:
    from m2n2lab.analysis.lineage import Lineage
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.population import Member
    from m2n2lab.core.task import Sample

Solved = NDArray[np.bool_]

ANSWERS: dict[str, Callable[[Solved, Solved, Solved], Solved]] = {
    "all": lambda a, b, child: np.ones_like(a),
    "A or B wrong": lambda a, b, child: ~(a & b),
    "A not B": lambda a, b, child: a & ~b,
    "B not A": lambda a, b, child: b & ~a,
    "child wrong": lambda a, b, child: ~child,
}
"""Which data points are shown, by name: (D,), from what A, B and the child solve, (D,) each."""

VOTES = ("ballot", *SIDES)
"""What can be ordered of the booth."""

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

    Raises:
        InputError: no such ``which``.
    """

    which: str = "all"
    group: str | None = None

    def __post_init__(self) -> None:
        choose("filter", self.which, ANSWERS)


@dataclass(frozen=True)
class Answer:
    """One data point with what A, B and the child make of it."""

    a: Sample
    b: Sample
    child: Sample


RECENT = 120
"""Members that can be picked though they have died: plots are drawn in turn and lag behind."""


class Workbench:
    """The bench of one search; only its worker touches it.

    Attributes:
        data: parents and child as last previewed, or ``None``.
        note: why there is no preview, or what became of the last merge by hand.
        answers: data points with what A, B and the child make of them, some of those that match.
        matching: how many match.
        landscape: of the pair on the bench, as far as it is known.
        gallery: what members draw.
        booth: where a person chooses between pictures.
    """

    def __init__(self, evolver: Evolver, lineage: Lineage) -> None:
        self._lineage = lineage
        self.data: BenchData | None = None
        self.note = ""
        self.answers: tuple[Answer, ...] = ()
        self.matching = 0
        self.landscape: LandscapeData | None = None
        self.gallery = Gallery(evolver, lineage)
        self.booth = Booth(evolver)
        self._took: deque[float] = deque(maxlen=5)  # seconds of the last children
        self._evolver = evolver
        self._shown: dict[int, Member] = {}  # on pages of late, the latest last
        self._seeds = np.random.default_rng(0)  # its own: looking changes nothing of the search
        self._genomes: tuple[Any, ...] = ()  # of A, B and the child, who may die meanwhile
        self._answered: tuple[BenchData, Filter] | None = None  # whose answers are shown
        self._map: Landscape | None = None
        self._standing: Standing | None = None  # when the last preview was made
        self._before: tuple[dict[str, Any], int] | None = None  # state to go back to, and when

    def took(self, seconds: float) -> None:
        """Note how long a child took."""
        self._took.append(seconds)

    def remember(self) -> None:
        """Keep who lives now for those who pick a pair from what pages show of it."""
        members = self._evolver.archive.members
        for member in members:
            self._shown.pop(member.id, None)
            self._shown[member.id] = member
        for id in [*self._shown][: -RECENT - len(members)]:
            del self._shown[id]

    @property
    def slow(self) -> bool:
        """Whether a child takes longer than ``LIVE``; one may have been held up, or be known."""
        return len(self._took) > 1 and median_low(self._took) > LIVE

    @property
    def undoable(self) -> bool:
        """Whether the last thing that happened was a merge by hand."""
        return self._before is not None and self._before[1] == self._evolver.generation

    @property
    def stale(self) -> bool:
        """Whether the child on the bench can no longer be made, because a parent has died."""
        if self.data is None:
            return True
        try:
            self._evolver.check(self.data.proposal)
        except InputError:
            return True
        return False

    @property
    def dated(self) -> bool:
        """Whether somebody came or went since the last preview."""
        return self._standing is not self._evolver.archive.standing

    def show(self, choice: Choice, wanted: Filter) -> None:
        """Preview a choice; what cannot be previewed leaves the last one and says why."""
        evolver, began = self._evolver, time.monotonic()
        try:
            proposal = self._proposal(choice)
            died = self._died(proposal)
            self.data = bench_data(evolver, proposal, self._lineage, parents=died)
        except InputError as error:
            self.note = str(error)
            self.answer(wanted)
            return
        self.note = ""
        self.took(time.monotonic() - began)
        self._standing = evolver.archive.standing
        a, b = (parent.genome for parent in died or evolver.check(proposal))
        child = evolver.breed(proposal) if died is None else evolver.offspring(proposal, (a, b))
        self._genomes = (a, b, child)
        first, second = proposal.parents
        if self._map is None or self._map.parents != (first, second):
            self._map = Landscape(evolver, (first, second), genomes=(a, b))
            self.landscape = self._map.data()
        self.answer(wanted)

    def _died(self, proposal: Proposal) -> tuple[Member, Member] | None:
        """Return the parents of a pair that was shown a moment ago and has died since.

        While a search runs at full speed most of those who are on the page have.
        """
        archive = self._evolver.archive
        if all(id in archive for id in proposal.parents):
            return None
        a, b = (self._shown.get(id) for id in proposal.parents)
        return (a, b) if a and b else None

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

    def living(self, choice: Choice) -> tuple[Choice, str]:
        """Return a choice in which others stand for parents that have died, and a word on it."""
        archive, words = self._evolver.archive, []
        for name in ("a", "b"):
            old = getattr(choice, name)
            if old is not None and old not in archive:
                new = (
                    archive.best.id
                    if name == "a"
                    else self._mate(archive.best.id if choice.a is None else choice.a)
                )
                choice = replace(choice, **{name: new, "seed": None})
                words.append(f"Member {old} does not live; {new} stands for it as {name.upper()}.")
        return choice, " ".join(words)

    def answer(self, wanted: Filter) -> None:
        """Choose the data points that are shown."""
        data, evolver, task = self.data, self._evolver, self._evolver.task
        if data is None or self._answered == (data, wanted):
            return
        self._answered = None  # they may be stopped on the way
        where = ANSWERS[wanted.which](*(data.scores >= 1.0))
        if wanted.group is not None:
            try:
                group = task.classes.index(choose("class", wanted.group, task.classes))
            except InputError as error:
                self.note = str(error)
                return
            where = where & (task.groups == group)
        self.matching, chosen = int(where.sum()), spread(task, where, SHOWN)
        rows = []
        for genome in self._genomes:
            model = evolver.space.materialise(genome)
            rows.append(task.samples(model, chosen) if len(chosen) else [])
        self.answers = tuple(Answer(*samples) for samples in zip(*rows, strict=True))
        self._answered = data, wanted

    def look(self, looking: Looking | None) -> bool:
        """Bring the gallery to what there is; returns whether pictures are missing."""
        proposal = self.data.proposal if self.data else None
        return self.gallery.look(looking, proposal, self._genomes[2] if self._genomes else None)

    def vote(self, order: str) -> None:
        """Put another two pictures up, for ``"ballot"``, or take the choice of one side."""
        if self.data is None:
            self.note = "There is nobody on the bench to choose between."
        elif order == "ballot":
            self.note = self.booth.ask(self.data, self._genomes)
        elif (scores := self.booth.vote(order, self.data)) is not None:
            try:
                self.data = bench_data(self._evolver, self.data.proposal, self._lineage, scores)
            except InputError as error:  # a parent has died
                self.note = str(error)

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
        try:
            state = self._evolver.state_dict()
        except InputError:  # CMA-ES has none
            state = None
        try:
            generation = self._evolver.tell(self.data.proposal, self.data.scores[2])
        except InputError as error:  # it was merged before
            self.note = str(error)
            return None
        self._before = None if state is None else (state, generation.step)
        final = " It cannot be taken back with this method." if state is None else ""
        self.note = generation.outcome + final
        return generation

    def undo(self) -> bool:
        """Take back the last merge by hand, if nothing happened since; returns whether it did."""
        if self._before is None or not self.undoable:
            self.note = "There is no merge by hand to take back."
            return False
        state, _ = self._before
        self._evolver.take_back(state)
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
