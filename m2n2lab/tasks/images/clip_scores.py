"""CLIP scores: how well pictures match their prompts, by any CLIP of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m2n2lab.tasks.images.diffusion import Prompt
from m2n2lab.tasks.images.picture_models import PictureModel
from m2n2lab.tasks.images.scorers import CLIPSCORE_FACTOR, PictureScorer
from m2n2lab.utils.arrays import Bytes, Floats
from m2n2lab.utils.errors import InputError


class Clip(PictureScorer):
    """Similarity of pictures and prompts by a CLIP: min(2.5 max(cos, 0), 1).

    Args:
        source: a folder or a hub id of a CLIP that transformers knows, such as a multilingual
            SigLIP for Japanese; code in its repository is never run.
        processor: a folder or hub id of its processor, if its own has none.

    Raises:
        InputError: the model cannot be loaded, or does not embed both pictures and texts.
    """

    def __init__(self, source: str | Path, processor: str | Path | None = None) -> None:
        self.model = PictureModel(source, processor)
        self.source = self.model.source
        inner = self.model.model
        if not hasattr(inner, "get_image_features") or not hasattr(inner, "get_text_features"):
            raise InputError(
                f"The scorer {source} must be a model of pictures and texts, such as CLIP, got "
                f"{type(inner).__name__}; give a CLIP."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the source, from which another process loads it."""
        return Clip, (self.source, self.model.processor_source)

    def score(self, pictures: Bytes, prompts: Sequence[Prompt]) -> Floats:
        """Return the similarity of each picture (n, H, W, 3) and its prompt, (n,)."""
        out = self.model.both(pictures, [prompt.text for prompt in prompts])
        cosines = torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds)
        return np.asarray((CLIPSCORE_FACTOR * cosines.double()).clamp(0, 1).cpu().numpy())
