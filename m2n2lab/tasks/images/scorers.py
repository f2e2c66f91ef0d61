"""Scorers of pictures: what they are, functions as scorers, and weighted means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from m2n2lab.tasks.images.diffusion import Prompt
from m2n2lab.utils.arrays import Bytes, Floats
from m2n2lab.utils.errors import InputError

Scorer = Callable[[Bytes, Sequence[str]], ArrayLike]
"""Scores pictures (n, H, W, 3) in 0..255 by their prompts (n,); returns (n,) in [0, 1]."""

CLIPSCORE_FACTOR = 2.5
"""Factor of the cosine in CLIPScore (Hessel et al., arXiv 2104.08718)."""


class PictureScorer(ABC):
    """A scorer of pictures that knows the whole prompts, with the photographs they describe."""

    @abstractmethod
    def score(self, pictures: Bytes, prompts: Sequence[Prompt]) -> ArrayLike:
        """Return scores (n,) in [0, 1] of pictures (n, H, W, 3) for their prompts (n,)."""

    def check(self, prompts: Sequence[Prompt]) -> None:  # noqa: B027  # most can score all
        """Check that pictures for these prompts can be scored.

        Raises:
            InputError: they cannot.
        """

    def __call__(self, pictures: Bytes, prompts: Sequence[str]) -> ArrayLike:
        """Return scores of pictures for texts alone."""
        return self.score(pictures, [Prompt(text) for text in prompts])


class OfTexts(PictureScorer):
    """Any function of pictures and texts as a scorer."""

    def __init__(self, function: Scorer) -> None:
        self.function = function

    def score(self, pictures: Bytes, prompts: Sequence[Prompt]) -> ArrayLike:
        """Return the function's scores."""
        return self.function(pictures, [prompt.text for prompt in prompts])


class Weighted(PictureScorer):
    """A weighted mean of scorers.

    Args:
        parts: scorers with their weights, which are positive.
    """

    def __init__(self, parts: Sequence[tuple[PictureScorer, float]]) -> None:
        self.parts = tuple(parts)

    def score(self, pictures: Bytes, prompts: Sequence[Prompt]) -> Floats:
        """Return the weighted mean of the scores."""
        total = sum(weight for _, weight in self.parts)
        found = np.zeros(len(prompts))
        for scorer, weight in self.parts:
            scores = checked_scores(scorer.score(pictures, prompts), len(prompts))
            found += weight / total * scores
        return found.clip(0.0, 1.0)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Check that every scorer can score pictures for these prompts."""
        for scorer, _ in self.parts:
            scorer.check(prompts)


def checked_scores(found: ArrayLike, count: int) -> Floats:
    """Return a scorer's results as an array (n,), after checking them.

    Raises:
        InputError: there is not one score per picture, or one is outside [0, 1].
    """
    scores = np.asarray(found.detach().cpu() if isinstance(found, torch.Tensor) else found, float)
    if scores.shape != (count,) or not ((scores >= 0) & (scores <= 1)).all():
        shown = np.array2string(scores, threshold=4, precision=3)
        raise InputError(
            f"A scorer must return a number in [0, 1] for each of the {count} pictures, got "
            f"{shown} of shape {scores.shape}; scale its results."
        )
    return scores
