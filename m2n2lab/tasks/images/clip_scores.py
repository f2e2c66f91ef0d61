"""CLIP scores: how well pictures match their prompts, by any CLIP of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from m2n2lab.utils.arrays import Bytes
from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.loading import loading

Scorer = Callable[[Bytes, Sequence[str]], ArrayLike]
"""Scores pictures (n, H, W, 3) in 0..255 by their prompts (n,); returns (n,) in [0, 1]."""

CLIPSCORE_FACTOR = 2.5
"""Factor of the cosine in CLIPScore (Hessel et al., arXiv 2104.08718)."""


class Clip:
    """Similarity of pictures and prompts by a CLIP: min(2.5 max(cos, 0), 1).

    Args:
        source: a folder or a hub id of a CLIP that transformers knows; code in its repository is
            never run.

    Raises:
        InputError: the model cannot be loaded, or does not embed both pictures and texts.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        self._model, self._processor = _load(self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the source, from which another process loads it."""
        return Clip, (self.source,)

    @torch.inference_mode()
    def __call__(self, pictures: Bytes, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return the similarity of each picture (n, H, W, 3) and its prompt, (n,)."""
        from PIL import Image

        given = self._processor(
            text=list(prompts),
            images=[Image.fromarray(picture) for picture in pictures],
            padding="max_length",  # as SigLIP was trained; scores then do not depend on the batch
            truncation=True,
            return_tensors="pt",
        )
        out = self._model(**given)
        cosines = torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds)
        return np.asarray((CLIPSCORE_FACTOR * cosines.double()).clamp(0, 1).cpu().numpy())


def _load(source: str) -> tuple[Any, Any]:
    try:
        with loading("loading the scorer"):
            import transformers

            auto: Any = transformers
            model = auto.AutoModel.from_pretrained(source, trust_remote_code=False)
            processor = auto.AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # files and the hub raise many classes
        reason = first_line(error)
        raise InputError(
            f"The scorer {source} could not be loaded ({type(error).__name__}: {reason}); give a "
            f"folder or a hub id of a CLIP that transformers knows."
        ) from error
    if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
        raise InputError(
            f"The scorer {source} must be a model of pictures and texts, such as CLIP, got "
            f"{type(model).__name__}; give a CLIP."
        )
    return model.eval(), processor


def checked_scores(found: ArrayLike, count: int) -> NDArray[np.float64]:
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
