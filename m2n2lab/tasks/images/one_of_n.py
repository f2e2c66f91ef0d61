"""One of N: a person picks the best of several children's pictures, which becomes their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2n2lab.core.records import Generation, Proposal
from m2n2lab.tasks.images.diffusion import Prompt
from m2n2lab.tasks.images.text2image import Text2Image
from m2n2lab.utils.arrays import Bytes, Floats
from m2n2lab.utils.errors import InputError, real_number

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

MAX_PICTURES = 8
"""Most pictures that a person is asked to choose from."""


class Choice(NamedTuple):
    """Pictures for one prompt, from the same noise, in an order that does not say whose they are.

    Attributes:
        point: the prompt's data point.
        prompt: the prompt.
        pictures: (H, W, 3) red, green and blue in 0..255, of each candidate.
        order: number of the candidate of each picture; the last candidate is the best member.
    """

    point: int
    prompt: Prompt
    pictures: list[Bytes]
    order: tuple[int, ...]


class OneOfN:
    """A round of choices between children of a search and its best member.

    ::

        round = OneOfN(evolver, children=3, points=[0, 1])
        for point in round.points:
            choice = round.ask(point)  # choice.pictures, to be shown
            round.pick(choice, 2)      # the third one is the best
        round.tell()

    On a prompt that was asked, the child whose picture was picked scores 1 and all others score 0;
    if the best member's was picked, or none, all children score 0. On other prompts they have the
    scores that the task gives them.

    Args:
        evolver: a search over models that draw.
        children: number of children, which are proposed as the search would.
        points: data points whose prompts are asked; all by default.
        rng: seed of the order of pictures; it does not change the search.

    Raises:
        InputError: the task draws no pictures, there are too many children, or a point is none.
    """

    def __init__(
        self,
        evolver: Evolver,
        children: int = 3,
        points: Sequence[int] | None = None,
        rng: int = 0,
    ) -> None:
        if not isinstance(evolver.task, Text2Image):
            raise InputError(
                f"A choice is between pictures, got a search on {evolver.task.name}; use one whose "
                f"task is text2image."
            )
        # With the best member's, whose picture has to be beaten.
        count = int(real_number("children", children, 1, MAX_PICTURES - 1))
        self._evolver, self._task = evolver, evolver.task
        chosen = range(self._task.points) if points is None else points
        self.points = tuple(self._task.checked_indices(list(chosen)).tolist())
        self.proposals: list[Proposal] = evolver.ask(count)
        self._genomes = [evolver.breed(proposal) for proposal in self.proposals]
        self._best = evolver.best.genome
        self._rng = np.random.default_rng(rng)
        self._picked: dict[int, int | None] = {}

    def ask(self, point: int) -> Choice:
        """Return the pictures for a prompt.

        Raises:
            Halted: drawing was stopped.
        """
        prompt = self._task.prompts[point]
        order = self._rng.permutation(len(self._genomes) + 1).tolist()
        candidates: list[Any] = [*self._genomes, self._best]
        drawn: dict[int, Bytes] = {}
        for number, genome in enumerate(candidates):
            model = self._evolver.space.materialise(genome)
            drawn[number] = self._task.draw(model, [prompt], score=False)[0].picture
        return Choice(point, prompt, [drawn[number] for number in order], tuple(order))

    def pick(self, choice: Choice, picture: int | None) -> None:
        """Count a choice: the number of the best picture from 0, or ``None`` if none is good.

        Raises:
            InputError: there is no such picture.
        """
        if picture is not None:
            last = len(choice.order) - 1
            picture = int(real_number("picture", picture, 0, last))
        self._picked[choice.point] = None if picture is None else choice.order[picture]

    def scores(self, child: int) -> Floats:
        """Return the scores (D,) of a child, by its number, with what was picked.

        Raises:
            Halted: the evaluation of prompts that were not asked was stopped.
        """
        found = np.zeros(self._task.points)
        left = [point for point in range(self._task.points) if point not in self._picked]
        if left:
            model = self._evolver.space.materialise(self._genomes[child])
            found[left] = self._task.score(model, np.array(left, np.intp))
        for point, picked in self._picked.items():
            found[point] = float(picked == child)
        return found

    def tell(self) -> list[Generation]:
        """Let all children compete with their scores; return what became of each.

        Raises:
            Halted: an evaluation was stopped; no child has competed then.
        """
        scores = [self.scores(child) for child in range(len(self.proposals))]
        return [
            self._evolver.tell(proposal, found, genome=genome)
            for proposal, found, genome in zip(self.proposals, scores, self._genomes, strict=True)
        ]

    def put_back(self) -> None:
        """Give the children back to the search, which proposes them again."""
        for proposal in self.proposals:
            self._evolver.put_back(proposal)
