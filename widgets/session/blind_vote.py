"""Blind vote between two pictures: the child's and one of its parents'."""

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
        open: whether a vote is still to be cast; whose they are is hidden until then.
        message: whose they were, and the votes so far.
    """

    prompt: str
    left: Bytes
    right: Bytes
    open: bool = True
    message: str = ""


class BlindVote:
    """A person's votes on one child, prompt by prompt; used by the worker alone.

    Attributes:
        ballot: the last one; ``None`` before the first.
    """

    def __init__(self, evolver: Evolver) -> None:
        self._evolver = evolver
        self._task = evolver.task if isinstance(evolver.task, Text2Image) else None
        self._rng = np.random.default_rng(0)  # its own: votes do not change the search
        self._proposal: Proposal | None = None  # whose child the votes are about
        self._won: dict[int, bool] = {}  # whether the child won, by data point
        self._point, self._child_side, self._parent = 0, "", ""  # of the last ballot
        self.ballot: Ballot | None = None

    def ask(self, data: BenchData, genomes: tuple[Any, ...]) -> str:
        """Make another ballot; returns why there is none, or an empty text.

        Args:
            data: the pair and child on the bench.
            genomes: of A, B and the child.
        """
        if self._task is None:
            return "Only pictures can be chosen between, and this task has none."
        if data.proposal != self._proposal:
            self._proposal, self._won = data.proposal, {}
        open = [point for point in range(self._task.points) if point not in self._won]
        if not open:
            return "You have chosen for every prompt; merge this child, or make another."
        self._point = int(self._rng.choice(open))
        parent = int(self._rng.integers(2))
        prompt = self._task.prompts[self._point]
        pair = []
        for genome in (genomes[2], genomes[parent]):
            model = self._evolver.space.materialise(genome)
            pair.append(self._task.draw(model, [prompt])[0].picture)
        side = int(self._rng.integers(2))
        self._child_side, self._parent = SIDES[side], "AB"[parent]
        left, right = pair if side == 0 else reversed(pair)
        self.ballot = Ballot(prompt.text, left, right, message=self._votes_so_far())
        return ""

    def vote(self, side: str, data: BenchData) -> Floats | None:
        """Count a vote, and return the child's scores (D,) if it changes them.

        The child's score at the prompt becomes 1 if its picture is chosen, else 0.
        """
        won = choose("side", side, SIDES) == self._child_side
        if self.ballot is None or not self.ballot.open:
            return None
        if data.proposal != self._proposal:
            message = "The bench has changed meanwhile, so this choice does not count."
            self.ballot = replace(self.ballot, open=False, message=message)
            return None
        self._won[self._point] = won
        whose = f"The child’s was {self._child_side}, {self._parent}’s the other."
        message = f"{whose} {self._votes_so_far()}"
        self.ballot = replace(self.ballot, open=False, message=message)
        scores: Floats = data.scores[2].copy()
        scores[list(self._won)] = list(self._won.values())
        return scores

    def _votes_so_far(self) -> str:
        if not self._won:
            return ""
        many = len(self._won)
        return (
            f"You chose the child {sum(self._won.values())} of {many} "
            f"{'time' if many == 1 else 'times'}: its score there is 1 where you did and 0 where "
            f"you did not, and Merge counts that."
        )
