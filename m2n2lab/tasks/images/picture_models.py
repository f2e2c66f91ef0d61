"""Picture models: CLIPs and other models of transformers that embed pictures, loaded without code.

CLIP, SigLIP, AltCLIP, and pairs of encoders (``VisionTextDualEncoderModel``) load alike, the
multilingual and Japanese ones among them; code in a model's repository is never run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m2n2lab.utils.arrays import Bytes, Floats
from m2n2lab.utils.concurrency.loading import loading
from m2n2lab.utils.errors import InputError, first_line

MAX_TOKENS = 10**6
"""Tokenizers that name a longer text than this name none."""

PADDED = ("roberta", "xlm-roberta", "camembert", "altclip_text_model")
"""Text encoders whose positions begin after the padding's, so that two are not for tokens."""


class PictureModel:
    """A model that embeds pictures, and texts if it is one of both.

    Args:
        source: a folder or a hub id.
        processor: a folder or hub id of the processor, if the model's has none.

    Raises:
        InputError: it cannot be loaded.
    """

    def __init__(self, source: str | Path, processor: str | Path | None = None) -> None:
        self.source, self.processor_source = str(source), processor and str(processor)
        self.model, self.processor = _load(self.source, self.processor_source or self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the sources, from which another process loads it."""
        return type(self), (self.source, self.processor_source)

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Bytes] | Bytes) -> Floats:
        """Return a vector of length 1 for each picture (H, W, 3), (n, d)."""
        given = self.processor(images=_images(pictures), return_tensors="pt")
        features = getattr(self.model, "get_image_features", self.model)
        out = features(pixel_values=given["pixel_values"].to(self._dtype))
        found = getattr(out, "pooler_output", None)
        if found is None and isinstance(out[0], torch.Tensor):
            found = out[0][:, 0]  # the first token stands for the whole picture
        if not isinstance(found, torch.Tensor) or found.ndim != 2:
            raise InputError(
                f"{self.source} must give a vector for each picture, got {type(out).__name__}; "
                f"give a CLIP or another model of pictures."
            )
        return np.asarray(torch.nn.functional.normalize(found.double()).cpu().numpy())

    @torch.inference_mode()
    def both(self, pictures: Bytes, texts: Sequence[str]) -> Any:
        """Return the model's output for pictures (n, H, W, 3) and their texts (n,)."""
        given = self.processor(
            text=list(texts),
            images=_images(pictures),
            padding="max_length",  # as SigLIP was trained; scores then do not depend on the batch
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        given["pixel_values"] = given["pixel_values"].to(self._dtype)
        return self.model(**given)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @property
    def _length(self) -> int | None:
        """The number of tokens of a text; ``None`` for the tokenizer's own."""
        tokenizer = getattr(self.processor, "tokenizer", None)
        if tokenizer is None or tokenizer.model_max_length < MAX_TOKENS:
            return None
        config = getattr(self.model.config, "text_config", self.model.config)
        length = int(getattr(config, "max_position_embeddings", 512))
        return length - (2 if config.model_type in PADDED else 0)


def _images(pictures: Sequence[Bytes] | Bytes) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(picture) for picture in pictures]


def _load(source: str, processor_source: str) -> tuple[Any, Any]:
    try:
        with loading("loading the scorer"):
            import transformers

            auto: Any = transformers
            model = _model_class(source).from_pretrained(source, trust_remote_code=False)
            processor = auto.AutoProcessor.from_pretrained(
                processor_source, trust_remote_code=False
            )
    except InputError:
        raise
    except Exception as error:  # files and the hub raise many classes
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            raise InputError(
                f"The scorer {source} has classes of its own, whose code is not run; give a model "
                f"that transformers knows, for Japanese a multilingual SigLIP, AltCLIP-m18 or a "
                f"VisionTextDualEncoder."
            ) from error
        raise InputError(
            f"The scorer {source} could not be loaded ({type(error).__name__}: {reason}); give a "
            f"folder or a hub id of a CLIP that transformers knows."
        ) from error
    return model.eval(), processor


def _model_class(source: str) -> Any:
    """Return the class that a model's config names, or else that of its model type."""
    import transformers

    auto: Any = transformers
    config = auto.AutoConfig.from_pretrained(source, trust_remote_code=False)
    named = getattr(config, "architectures", None) or [""]
    return getattr(transformers, named[0], auto.AutoModel)
