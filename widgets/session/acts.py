"""Acts: what people had a search do, one after the other, to be taken back and done again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.records import Generation

MAX_ACTS = 100
"""Acts that can be taken back: each keeps the archive before it."""

MAX_KEPT_STEPS = 2_000
"""Last steps that are kept with their scores, so that they are done again without an evaluation."""

MERGE, STEPS = "the merge", "steps"
"""Acts, as they are called in notes; others are called by what they are given."""


@dataclass(frozen=True)
class Act:
    """An act that can be taken back.

    Attributes:
        name: ``MERGE``, ``STEPS`` or what else it is called.
        state: of the search before it.
    """

    name: str
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """The step before it."""
        return int(self.state["step"])


@dataclass(frozen=True)
class KeptStep:
    """A step with all that it takes to submit the same child again.

    Attributes:
        generation: the step.
        genome: of its child, if that was accepted.
        rng: state of the generator after it.
    """

    generation: Generation
    genome: Any
    rng: Mapping[str, Any]


@dataclass(frozen=True)
class Undone:
    """An act that was taken back.

    Attributes:
        name: as of the ``Act``.
        count: number of its steps.
        steps: these, as far as they were kept.
        pinned: ids of the members that were pinned after it.
    """

    name: str
    count: int
    steps: tuple[KeptStep, ...]
    pinned: frozenset[int]


class Acts:
    """The acts of one search; only its worker uses them.

    Any act is a merge by hand, a number of steps in a row, or a change of pins. What other threads
    do to the search is theirs: nothing before that can be taken back.
    """

    def __init__(self, evolver: Evolver) -> None:
        self._evolver = evolver
        self._done: deque[Act] = deque(maxlen=MAX_ACTS)
        self._undone: list[Undone] = []
        self._steps: deque[KeptStep] = deque(maxlen=MAX_KEPT_STEPS)
        self._stepping = False  # whether the last act is of steps, which more may follow
        self._again = False  # whether the steps that are ordered were taken back before

    def forget(self) -> None:
        """Forget all acts: the search was moved by others."""
        self._done.clear()
        self._undone.clear()
        self._steps.clear()

    def observe(self, generation: Generation) -> None:
        """Keep a step."""
        archive = self._evolver.archive
        genome = archive[generation.child].genome if generation.accepted else None
        rng = self._evolver.rng.bit_generator.state
        self._steps.append(KeptStep(generation, genome, rng))

    def begin(self, name: str) -> bool:
        """Note the state before an act; returns whether it can be taken back."""
        if not self._again:
            self._undone.clear()
        self._stepping = self._again = False
        try:
            self._done.append(Act(name, self._evolver.state_dict()))
        except InputError:  # CMA-ES has none
            self._done.clear()
            return False
        return True

    def step(self) -> None:
        """Note that the search takes a step: those in a row are one act."""
        if not self._stepping:
            self.begin(STEPS)
            self._stepping = True

    def rest(self) -> None:
        """Note that the search rests: the next step is another act."""
        self._stepping = False

    def withdraw(self) -> None:
        """Forget the act that was begun: nothing came of it."""
        if self._done:
            self._done.pop()

    @property
    def last(self) -> str:
        """What ``undo`` would take back, as text; empty if there is nothing."""
        done = self._done
        while done and not self._stepping and not self._changed(done[-1]):
            done.pop()
        return self._text(done[-1]) if done and self._changed(done[-1]) else ""

    @property
    def next(self) -> str:
        """What ``redo`` would do again, as text; empty if there is nothing."""
        return _counted(self._undone[-1].name, self._undone[-1].count) if self._undone else ""

    @property
    def merge_is_last(self) -> bool:
        """Whether the last step was a merge by hand that can be taken back."""
        merge = self._done[-1] if self._done else None
        return merge is not None and merge.name == MERGE and merge.step < self._evolver.generation

    def _changed(self, act: Act) -> bool:
        """Return whether anything has come of an act."""
        pinned = frozenset(act.state["archive"]["pinned"])
        return act.step != self._evolver.generation or pinned != self._evolver.archive.pinned

    def _text(self, act: Act) -> str:
        return _counted(act.name, self._evolver.generation - act.step)

    def undo(self) -> str:
        """Take the last act back; returns what that was, or an empty text."""
        text, evolver = self.last, self._evolver
        if not text:
            return ""
        act = self._done.pop()
        steps = tuple(step for step in self._steps if step.generation.step > act.step)
        count, pinned = evolver.generation - act.step, evolver.archive.pinned
        self._undone.append(Undone(act.name, count, steps, pinned))
        for _ in steps:
            self._steps.pop()
        if count:
            evolver.take_back(act.state)
        else:
            self._pin(frozenset(act.state["archive"]["pinned"]))
        return text

    def redo(self) -> tuple[str, int]:
        """Do the act again that was taken back last.

        Returns:
            What that was, or an empty text; and the number of steps to take for it, which are the
            search's own and were too many to be kept.
        """
        text, evolver = self.next, self._evolver
        if not text:
            return "", 0
        act = self._undone.pop()
        self._again = True
        if act.count > len(act.steps):
            return text, act.count
        self.begin(act.name)
        for step in act.steps:
            generation = step.generation
            evolver.rng.bit_generator.state = step.rng
            child = step.genome if generation.proposal is None else generation.proposal
            evolver.tell(child, generation.scores, genome=step.genome)
        self._pin(act.pinned)
        return text, 0

    def _pin(self, ids: frozenset[int]) -> None:
        """Pin these members and no others."""
        evolver = self._evolver
        for id in evolver.archive.pinned - ids:
            evolver.pin(id, on=False)
        for id in ids - evolver.archive.pinned:
            evolver.pin(id)


def _counted(name: str, count: int) -> str:
    """Return the name of an act, with the number of steps."""
    if name != STEPS:
        return name
    return "1 step" if count == 1 else f"{count:,} steps"
