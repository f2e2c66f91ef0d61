"""How well pictures fit their prompts: by any CLIP of transformers, or by a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from m2n2lab.utils.arrays import Bytes
from m2n2lab.utils.errors import InputError, first_line

Scorer = Callable[[Bytes, Sequence[str]], ArrayLike]
"""Takes pictures (n, H, W, 3) from 0 to 255 and their prompts (n,); returns (n,) in [0, 1]."""

STRETCH = 2.5
"""What a cosine is multiplied by, as CLIPScore does (Hessel et al., arXiv 2104.08718)."""


class Clip:
    """Similarity of pictures and prompts as a CLIP sees it: min(2.5 max(cos, 0), 1).

    Args:
        source: a folder or a hub id of a CLIP that transformers knows; code of a model's own is
            never run.

    Raises:
        InputError: it cannot be loaded, or does not tell pictures and texts alike.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        self._model, self._processor = _load(self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as the place that it was loaded from."""
        return Clip, (self.source,)

    @torch.inference_mode()
    def __call__(self, pictures: Bytes, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return the similarity of each picture (n, H, W, 3) and its prompt, (n,)."""
        from PIL import Image

        given = self._processor(
            text=list(prompts),
            images=[Image.fromarray(picture) for picture in pictures],
            padding="max_length",  # SigLIP was trained so, and a score must not depend on others
            truncation=True,
            return_tensors="pt",
        )
        out = self._model(**given)
        cosines = torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds)
        return np.asarray((STRETCH * cosines.double()).clamp(0, 1).cpu().numpy())


def _load(source: str) -> tuple[Any, Any]:
    import transformers

    auto: Any = transformers
    try:
        model = auto.AutoModel.from_pretrained(source, trust_remote_code=False)
        processor = auto.AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # whatever is wrong with the files, or with the way to the hub
        reason = first_line(error)
        raise InputError(
            f"The scorer {source} could not be loaded ({type(error).__name__}: {reason}); give a "
            f"folder or a hub id of a CLIP that transformers knows."
        ) from error
    if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
        raise InputError(
            f"A scorer must be a model of pictures and texts, such as CLIP, but {source} is a "
            f"{type(model).__name__}; give a CLIP."
        )
    return model.eval(), processor


def checked_scores(found: ArrayLike, many: int) -> NDArray[np.float64]:
    """Return the scores (n,) of a scorer.

    Raises:
        InputError: not one for each picture, or outside [0, 1].
    """
    scores = np.asarray(found.detach().cpu() if isinstance(found, torch.Tensor) else found, float)
    if scores.shape != (many,) or not ((scores >= 0) & (scores <= 1)).all():
        shown = np.array2string(scores, threshold=4, precision=3)
        raise InputError(
            f"A scorer must return one number from 0 to 1 for each of the {many} pictures, but "
            f"{shown} of shape {scores.shape} came; scale what it returns."
        )
    return scores
