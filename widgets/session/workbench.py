"""Workbench: merges by hand inside the worker: preview, merge, undo, map a pair's landscape."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.analysis.formulas import FormulaData, formula_data
from m2n2lab.analysis.landscape import Landscape, LandscapeData
from m2n2lab.analysis.members import spread
from m2n2lab.analysis.merge_preview import BenchData, bench_data
from m2n2lab.core.records import Generation, Proposal, Standing
from m2n2lab.utils.errors import InputError, choose

from .acts import MERGE, Acts
from .blind_vote import SIDES, BlindVote
from .gallery import Gallery, GalleryRequest
from .readings import ReadingsData, readings_data

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
"""Filters of data points, by name: (D,), from what A, B and the child solve, (D,) each."""

VOTES = ("ballot", *SIDES)
"""Commands to the blind vote: another ballot, or a vote for one side."""

LIVE_PREVIEW_SECONDS = 0.1
"""Longest preview that is made at every movement of the hand."""

MAX_ANSWERS = 24
"""Data points whose answers are shown."""

RECENT_MEMBERS = 120
"""Dead members that can still be picked: plots are drawn in turn and lag behind."""


@dataclass(frozen=True)
class Choice:
    """What a page wants on the bench; the workbench chooses what is ``None``.

    Attributes:
        a, b: ids of the parents.
        split: first index after the split, in the flat vector.
        mix: share of B before the split.
        seed: of the mutation noise, if a proposal of the search is being edited.
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
        InputError: no such filter.
    """

    which: str = "all"
    group: str | None = None

    def __post_init__(self) -> None:
        choose("filter", self.which, ANSWERS)


@dataclass(frozen=True)
class FormulaRequest:
    """Of which weight and data point the equations are wanted; the bench chooses what is ``None``.

    Attributes:
        weight: index in the flat vector.
        point: number of the data point.
    """

    weight: int | None = None
    point: int | None = None


@dataclass(frozen=True)
class Answer:
    """One data point with the outputs of A, B and the child."""

    a: Sample
    b: Sample
    child: Sample


class Workbench:
    """The bench of one search; used by its worker alone.

    Attributes:
        data: parents and child as last previewed, or ``None``.
        note: why there is no preview, or the outcome of the last merge by hand.
        answers: some of the data points that match, with the outputs of A, B and the child.
        matching: number of data points that match.
        landscape: of the pair on the bench, as far as it is known.
        formula: equations of the pair with their numbers; ``None`` while no page shows them.
        readings: how the members read a drawing; ``None`` without one.
        gallery: pictures of members.
        blind_vote: votes between pictures.
        merged: the merge of the child on the bench, which is no preview any more; else ``None``.
        acts: what people had the search do.
    """

    def __init__(self, evolver: Evolver, lineage: Lineage, acts: Acts | None = None) -> None:
        self._lineage = lineage
        self.acts = Acts(evolver) if acts is None else acts
        self.data: BenchData | None = None
        self.note = ""
        self.answers: tuple[Answer, ...] = ()
        self.matching = 0
        self.landscape: LandscapeData | None = None
        self.formula: FormulaData | None = None
        self.readings: ReadingsData | None = None
        self.gallery = Gallery(evolver, lineage)
        self.blind_vote = BlindVote(evolver)
        self._durations: deque[float] = deque(maxlen=5)  # seconds of the last children
        self._evolver = evolver
        self._shown: dict[int, Member] = {}  # recently on pages, the latest last
        self._seeds = np.random.default_rng(0)  # its own: previews do not change the search
        self._genomes: tuple[Any, ...] = ()  # of A, B and the child, even if they have died
        self._explained: tuple[object, ...] = ()  # what the formula is of
        self._read: tuple[object, ...] = ()  # what the readings are of
        self._answered: tuple[Any, Filter] | None = None  # the scores that the answers are of
        self._map: Landscape | None = None
        self._standing: Standing | None = None  # when the last preview was made
        self._judged: Standing | None = None  # what the verdict is about
        self.merged: Generation | None = None
        self._merged_at = 0.0
        self._noted: tuple[str, int, float] | None = None  # the note with its step and time

    def took(self, seconds: float) -> None:
        """Note the duration of a child's evaluation."""
        self._durations.append(seconds)

    def remember(self) -> None:
        """Keep the living members: a pair may be picked from a page that still shows them."""
        members = self._evolver.archive.members
        for member in members:
            self._shown.pop(member.id, None)
            self._shown[member.id] = member
        for id in [*self._shown][: -RECENT_MEMBERS - len(members)]:
            del self._shown[id]

    @property
    def slow(self) -> bool:
        """Whether children take longer than ``LIVE_PREVIEW_SECONDS``.

        By their median: one may have been delayed, or known already.
        """
        return len(self._durations) > 1 and median_low(self._durations) > LIVE_PREVIEW_SECONDS

    @property
    def undoable(self) -> bool:
        """Whether the last step was a merge by hand that can be undone."""
        return self.acts.merge_is_last

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
    def is_lost(self) -> bool:
        """Whether so many steps were taken back that it knows too little of those before."""
        return self._lineage.now != self._evolver.generation

    def knows(self, choice: Choice) -> bool:
        """Return whether the chosen parents, as far as any are chosen, live."""
        return all(id is None or id in self._evolver.archive for id in (choice.a, choice.b))

    @property
    def outdated(self) -> bool:
        """Whether the archive has changed since the last preview."""
        return self._standing is not self._evolver.archive.standing

    def outcome_read(self, seconds: float) -> bool:
        """Return whether the search went on since the child was merged, and so long ago."""
        if self.merged is None or self._evolver.generation <= self.merged.step:
            return False
        return time.monotonic() - self._merged_at >= seconds

    def judge(self) -> None:
        """Judge the child on the bench again if the archive has changed: its scores are known."""
        standing = self._evolver.archive.standing
        if self.data is None or self.merged is not None or standing is self._judged or self.stale:
            return
        self._judged = standing
        self.data = replace(self.data, verdict=self._evolver.verdict(self.data.scores[2]))

    def forget_note(self, seconds: float) -> None:
        """Drop a note that is older than the last step, and than some seconds."""
        if self._noted is None or self._noted[0] != self.note:
            self._noted = self.note, self._evolver.generation, time.monotonic()
            return
        _, step, since = self._noted
        if step < self._evolver.generation and time.monotonic() - since >= seconds:
            self.note = ""

    def show(self, choice: Choice, wanted: Filter) -> bool:
        """Preview a choice; returns whether that can be done.

        If not, the last preview stays, and the note says why.
        """
        evolver, began = self._evolver, time.monotonic()
        try:
            proposal = self._proposal(choice)
            dead = self._dead_parents(proposal)
            self.data = bench_data(evolver, proposal, self._lineage, parents=dead)
        except InputError as error:
            self.note = str(error)
            self.answer(wanted)
            return False
        self.note, self.merged = "", None
        self.took(time.monotonic() - began)
        self._standing = self._judged = evolver.archive.standing
        a, b = (parent.genome for parent in dead or evolver.check(proposal))
        child = evolver.breed(proposal) if dead is None else evolver.offspring(proposal, (a, b))
        self._genomes = (a, b, child)
        first, second = proposal.parents
        if self._map is None or self._map.parents != (first, second):
            self._map = Landscape(evolver, (first, second), genomes=(a, b))
            self.landscape = self._map.data()
        self.answer(wanted)
        return True

    def _dead_parents(self, proposal: Proposal) -> tuple[Member, Member] | None:
        """Return the parents of a recently shown pair if one of them has died since.

        While a search runs at full speed, most members on the page have.
        """
        archive = self._evolver.archive
        if all(id in archive for id in proposal.parents):
            return None
        a, b = (self._shown.get(id) for id in proposal.parents)
        return (a, b) if a and b else None

    def _proposal(self, choice: Choice) -> Proposal:
        """Return a choice completed: the most attractive pair, the middle, a mix of 0.5."""
        old = self.data.proposal if self.data else None
        if choice.a is None and choice.b is None and old and not self.outdated:
            a, b = old.parents
        else:
            a = choice.a if choice.a is not None else self._evolver.archive.best.id
            b = choice.b if choice.b is not None else self._mate(a)
        size = self._evolver.space.size
        split = size // 2 if choice.split is None else choice.split
        mix = 0.5 if choice.mix is None else choice.mix
        seed = choice.seed
        if seed is None:  # the same noise while a person drags, or the preview would flicker
            same = old is not None and old.parents == (a, b) and self.merged is None
            seed = old.seed if old and same else int(self._seeds.integers(2**53))
        return Proposal((a, b), split, mix, seed, ("parents", "split", "mix"))

    def _mate(self, a: int) -> int:
        archive = self._evolver.archive
        archive[a]  # raises an InputError if it is dead
        row = archive.attraction()[archive.ids.index(a)]
        return archive.ids[int(np.argmax(row))]

    def with_living_parents(self, choice: Choice) -> tuple[Choice, str]:
        """Return a choice with dead parents replaced, and a message about each replacement."""
        archive, messages = self._evolver.archive, []
        for name in ("a", "b"):
            old = getattr(choice, name)
            if old is not None and old not in archive:
                new = (
                    archive.best.id
                    if name == "a"
                    else self._mate(archive.best.id if choice.a is None else choice.a)
                )
                choice = replace(choice, **{name: new, "seed": None})
                messages.append(
                    f"Member {old} does not live; {new} stands for it as {name.upper()}."
                )
        return choice, " ".join(messages)

    def answer(self, wanted: Filter) -> None:
        """Update the answers to a filter."""
        data, evolver, task = self.data, self._evolver, self._evolver.task
        if data is None:
            return
        # The scores stay the same object when the child is judged again.
        if self._answered and self._answered[0] is data.scores and self._answered[1] == wanted:
            return
        self._answered = None  # answering may be stopped
        where = ANSWERS[wanted.which](*(data.scores >= 1.0))
        if wanted.group is not None:
            try:
                group = task.classes.index(choose("class", wanted.group, task.classes))
            except InputError as error:
                self.note = str(error)
                return
            where = where & (task.groups == group)
        self.matching, chosen = int(where.sum()), spread(task, where, MAX_ANSWERS)
        rows = []
        for genome in self._genomes:
            model = evolver.space.materialise(genome)
            rows.append(task.samples(model, chosen) if len(chosen) else [])
        self.answers = tuple(Answer(*samples) for samples in zip(*rows, strict=True))
        self._answered = data.scores, wanted

    def explain(self, wanted: FormulaRequest | None) -> None:
        """Update the equations, or forget them if none are wanted."""
        if wanted is None or self.data is None:
            self.formula, self._explained = None, ()
            return
        made = wanted, self.data.scores, self._evolver.archive.standing, self.merged
        if self._explained and all(a is b for a, b in zip(made, self._explained, strict=True)):
            return
        self._explained = made
        child = self.data.scores[2] if self.merged is None else None
        self.formula = formula_data(
            self._evolver,
            self.data.proposal,
            self._genomes,
            child,
            wanted.weight,
            wanted.point,
        )

    def read(self, ink: tuple[int, ...] | None) -> None:
        """Update how the members read a drawing, or forget it if there is none."""
        if not ink:
            self.readings, self._read = None, ()
            return
        made = ink, self._evolver.archive.standing, self._genomes
        if self._read and all(a is b for a, b in zip(made, self._read, strict=True)):
            return
        self._read = made
        pair = self.data.proposal.parents if self.data else ()
        child = self._genomes[2] if self._genomes and self.merged is None else None
        self.readings = readings_data(self._evolver, ink, pair, child)

    def update_gallery(self, request: GalleryRequest | None) -> bool:
        """Update the gallery; returns whether pictures are missing."""
        proposal = self.data.proposal if self.data else None
        return self.gallery.update(request, proposal, self._genomes[2] if self._genomes else None)

    def vote(self, command: str) -> None:
        """Make another ballot, for ``"ballot"``, or count a vote for one side."""
        if self.data is None:
            self.note = "There is nobody on the bench to choose between."
        elif command == "ballot":
            self.note = self.blind_vote.ask(self.data, self._genomes)
        elif (scores := self.blind_vote.vote(command, self.data)) is not None:
            try:
                self.data = bench_data(self._evolver, self.data.proposal, self._lineage, scores)
            except InputError as error:  # a parent has died
                self.note = str(error)

    def merge(self, shown: Proposal | None = None) -> Generation | None:
        """Submit the child on the bench to the archive, and keep the state before.

        Nothing is merged if the page has ``shown`` another proposal than the one on the bench.
        """
        if shown is not None and self.data is not None and self.data.proposal != shown:
            self.note = "The bench has changed meanwhile; look at it, then merge."
            return None
        if self.merged is not None:
            self.note = "This child is merged already; change the pair, the split or the mix."
            return None
        if self.data is None or self.stale:
            self.note = "A parent on the bench no longer lives; pick another pair."
            return None
        can_be_undone = self.acts.begin(MERGE)
        try:
            generation = self._evolver.tell(self.data.proposal, self.data.scores[2])
        except InputError as error:  # it was merged before
            self.acts.withdraw()
            self.note = str(error)
            return None
        final = "" if can_be_undone else " It cannot be taken back with this method."
        self.merged, self._merged_at = generation, time.monotonic()
        self.note = generation.outcome + final
        return generation

    def model_of(self, which: Proposal | int | None) -> tuple[Any, str, str]:
        """Return the genome of a model, a name for it, and its origin as a sentence.

        Args:
            which: the child of the proposal that is shown, a member's id, or the best member.

        Raises:
            InputError: another child is on the bench, or the member is dead.
        """
        evolver = self._evolver
        name, step = evolver.task.name, evolver.generation
        if isinstance(which, Proposal):
            if self.data is None or self.data.proposal != which:
                raise InputError("The bench has changed meanwhile; look at it, then save.")
            pair = "-".join(map(str, which.parents))
            made = f"the child of {pair.replace('-', ' and ')} on the bench after step {step:,}"
            return self._genomes[2], f"{name}-child-of-{pair}", made
        archive = evolver.archive
        if which is not None and which not in archive:
            raise InputError(f"{which} does not live any more; its weights are gone.")
        member = archive.best if which is None else archive[which]
        made = f"member {member.id} of a search after step {step:,}"
        return member.genome, f"{name}-member-{member.id}", made

    def pin(self, id: int, on: bool) -> None:
        """Pin a member, so that no child displaces it, or no longer."""
        self.acts.begin(f"the {'' if on else 'un'}pinning of {id}")
        try:
            self._evolver.pin(id, on)
        except InputError as error:  # it has died meanwhile, or too many are
            self.acts.withdraw()
            self.note = str(error)
            return
        self.note = (
            f"Member {id} is pinned: no child takes its place."
            if on
            else f"Member {id} is not pinned any more: a better child may take its place."
        )

    def undo(self) -> bool:
        """Undo what was done last; returns whether there was anything."""
        text = self.acts.undo()
        if not text:
            self.note = "There is nothing to take back."
            return False
        self.merged = None
        self.note = f"{_sentence(text)} taken back."
        return True

    def redo(self) -> int:
        """Do again what was taken back last; returns the number of steps to take for it."""
        text, steps = self.acts.redo()
        if not text:
            self.note = "There is nothing to do again."
            return 0
        self.merged = None
        self.note = f"{_sentence(text)} done again."
        return steps

    def follow(self, other: Workbench) -> None:
        """Take over what holds for the same search after it was moved to another state."""
        self.note, self._durations = other.note, other._durations

    def propose(self) -> Choice:
        """Return the search's next proposal, to be edited before it is evaluated."""
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


def _sentence(text: str) -> str:
    """Return what was done as the beginning of a sentence."""
    return f"{text[0].upper()}{text[1:]} {'are' if text.endswith('steps') else 'is'}"
