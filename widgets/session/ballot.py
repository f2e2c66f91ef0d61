"""A blind choice between two pictures: the child's, and one of its parents'."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.tasks.images.text2image import Text2Image
from m2n2lab.utils.arrays import Bytes, Floats
from m2n2lab.utils.errors import choose

if TYPE_CHECKING:
    from m2n2lab.analysis.merge_preview import BenchData
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.records import Proposal

SIDES = ("left", "right")


@dataclass(frozen=True, eq=False)
class Ballot:
    """Two pictures for one prompt.

    Attributes:
        prompt: what both were drawn for, from the same noise.
        left, right: (H, W, 3) the pictures.
        open: whether the choice is still to be made; whose they are is not told until then.
        words: what has been chosen so far.
    """

    prompt: str
    left: Bytes
    right: Bytes
    open: bool = True
    words: str = ""


class Booth:
    """Where a person chooses, prompt by prompt; only the worker touches it.

    Attributes:
        ballot: the last one; ``None`` before the first.
    """

    def __init__(self, evolver: Evolver) -> None:
        self._evolver = evolver
        self._task = evolver.task if isinstance(evolver.task, Text2Image) else None
        self._draws = np.random.default_rng(0)  # its own: looking changes nothing of the search
        self._of: Proposal | None = None  # whose child the choices are about
        self._won: dict[int, bool] = {}  # whether the child was chosen, by data point
        self._point, self._child, self._other = 0, "", ""
        self.ballot: Ballot | None = None

    def ask(self, data: BenchData, genomes: tuple[Any, ...]) -> str:
        """Put another two pictures up; returns why there are none, or nothing.

        Args:
            data: the bench.
            genomes: of A, B and the child there.
        """
        if self._task is None:
            return "Only pictures can be chosen between, and this task has none."
        if data.proposal != self._of:
            self._of, self._won = data.proposal, {}
        open = [point for point in range(self._task.points) if point not in self._won]
        if not open:
            return "You have chosen for every prompt; merge this child, or make another."
        self._point = int(self._draws.choice(open))
        other = int(self._draws.integers(2))
        prompt = self._task.prompts[self._point]
        pair = []
        for genome in (genomes[2], genomes[other]):
            model = self._evolver.space.materialise(genome)
            pair.append(self._task.draw(model, [prompt])[0].picture)
        side = int(self._draws.integers(2))
        self._child, self._other = SIDES[side], "AB"[other]
        left, right = pair if side == 0 else reversed(pair)
        self.ballot = Ballot(prompt.text, left, right, words=self._so_far())
        return ""

    def vote(self, side: str, data: BenchData) -> Floats | None:
        """Take a choice, and return the child's scores (D,) if it changes them.

        Where the child's picture is chosen its score becomes 1, and 0 where it is not.
        """
        won = choose("side", side, SIDES) == self._child
        if self.ballot is None or not self.ballot.open:
            return None
        if data.proposal != self._of:
            words = "The bench has changed meanwhile, so this choice does not count."
            self.ballot = replace(self.ballot, open=False, words=words)
            return None
        self._won[self._point] = won
        words = f"The child’s was {self._child}, {self._other}’s the other. {self._so_far()}"
        self.ballot = replace(self.ballot, open=False, words=words)
        scores: Floats = data.scores[2].copy()
        scores[list(self._won)] = list(self._won.values())
        return scores

    def _so_far(self) -> str:
        if not self._won:
            return ""
        many = len(self._won)
        return (
            f"You chose the child {sum(self._won.values())} of {many} "
            f"{'time' if many == 1 else 'times'}: its score there is 1 where you did and 0 where "
            f"you did not, and Merge counts that."
        )
