"""Judges of pictures: photographs that they should be like, reward models, and aesthetics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m2n2lab.tasks.images.diffusion import Prompt
from m2n2lab.tasks.images.picture_models import PictureModel
from m2n2lab.tasks.images.scorers import CLIPSCORE_FACTOR, PictureScorer
from m2n2lab.utils.arrays import Bytes, Floats
from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.files import open_regular

LOWEST_RATING, HIGHEST_RATING = 1.0, 10.0
"""Ratings that aesthetic predictors were trained on."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class Photographs(PictureScorer):
    """Likeness of pictures and the photographs that their prompts describe, (1 + cos) / 2.

    This is the score of arXiv 2508.16204, §4.3: the cosine of the features of both, scaled to
    [0, 1]. The paper subtracts the worst score of the population on each photograph before the
    competition: ``--capacity range``.

    A prompt names its photograph (``Prompt.photograph``, in a file of prompts behind a tab);
    without a name it is that with the prompt's text as its name.

    Args:
        folder: the photographs.
        source: a folder or hub id of a CLIP or another model that embeds pictures.

    Raises:
        InputError: there is no such folder, or the model cannot be loaded.
    """

    def __init__(self, folder: str | Path, source: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(
                f"{folder} must be a folder of photographs, but there is none; check the path."
            )
        self._files = {path.name: path for path in photographs(self.folder)}
        self._files |= {path.stem: path for path in self._files.values()}
        self.model = PictureModel(source)
        self._known: dict[Path, Floats] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the sources, from which another process loads it."""
        return Photographs, (str(self.folder), self.model.source)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Check that there is a photograph for each prompt.

        Raises:
            InputError: one is missing.
        """
        for prompt in prompts:
            self._file(prompt)

    def score(self, pictures: Bytes, prompts: Sequence[Prompt]) -> Floats:
        """Return (1 + cos) / 2 of each picture and the photograph of its prompt."""
        photos = np.stack([self._features(self._file(prompt)) for prompt in prompts])
        cosines = np.einsum("nd,nd->n", self.model.embed(pictures), photos)
        return np.asarray(((1.0 + cosines) / 2.0).clip(0.0, 1.0))

    def _file(self, prompt: Prompt) -> Path:
        name = prompt.photograph or prompt.text
        if name not in self._files:
            raise InputError(
                f"There must be a photograph for each prompt in {self.folder}, got none named "
                f"{name!r}; write its file name behind the prompt and a tab."
            )
        return self._files[name]

    def _features(self, path: Path) -> Floats:
        if path not in self._known:
            self._known[path] = self.model.embed([read_photograph(path)])[0]
        return self._known[path]


def photographs(folder: Path) -> list[Path]:
    """Return the pictures in a folder, in order."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)


def read_photograph(path: Path) -> Bytes:
    """Return a picture (H, W, 3) from a file.

    Raises:
        InputError: it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with open_regular(path) as file, Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} must be a picture, but it cannot be read ({first_line(error)}); replace it."
        ) from None


class Reward(PictureScorer):
    """A model of what people prefer, such as PickScore, as a number in [0, 1].

    Models of pictures and texts in the shape of CLIP, as PickScore, are read as ``Clip`` reads
    them, min(2.5 max(cos, 0), 1). Of classifiers of pairs of picture and text, the probability of
    the last class is taken: a match, or a good picture. Of one logit it is its sigmoid.

    Args:
        source: a folder or hub id; the class is the one that its config names.
        processor: a folder or hub id of its processor, if its own has none.

    Raises:
        InputError: the model cannot be loaded.
    """

    def __init__(self, source: str | Path, processor: str | Path | None = None) -> None:
        self.model = PictureModel(source, processor)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the source, from which another process loads it."""
        return Reward, (self.model.source, self.model.processor_source)

    def score(self, pictures: Bytes, prompts: Sequence[Prompt]) -> Floats:
        """Return the reward of each picture for its prompt, (n,).

        Raises:
            InputError: the model gives no such number.
        """
        out = self.model.both(pictures, [prompt.text for prompt in prompts])
        logits = next((out[k] for k in ("itm_score", "logits") if out.get(k) is not None), None)
        if "image_embeds" in out and "text_embeds" in out:
            cosines = torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds)
            found = (CLIPSCORE_FACTOR * cosines.double()).clamp(0, 1)
        elif logits is not None and logits.ndim == 2:
            rows = logits.double()
            found = rows[:, 0].sigmoid() if rows.shape[1] == 1 else rows.softmax(dim=1)[:, -1]
        else:
            raise InputError(
                f"The reward model {self.model.source} must give embeddings of pictures and texts "
                f"or a logit for each pair, got {', '.join(out)}; use another one."
            )
        return np.asarray(found.cpu().numpy())


class Aesthetic(PictureScorer):
    """Rating of a picture from 1 to 10 by a linear head on a CLIP's features, scaled to [0, 1].

    Heads are those of LAION's aesthetic predictor, one layer, and of the improved one
    (https://github.com/christophschuhmann/improved-aesthetic-predictor), several without a
    nonlinearity between them, as safetensors: ``weight`` and ``bias``, or ``layers.0.weight`` …

    Args:
        head: the file, or a folder with one.
        source: a folder or hub id of the CLIP that it was trained on.

    Raises:
        InputError: the head or the CLIP cannot be loaded, or they do not fit each other.
    """

    def __init__(self, head: str | Path, source: str | Path) -> None:
        self.head, self.model = str(head), PictureModel(source)
        self._layers = _linear_layers(Path(head))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the sources, from which another process loads it."""
        return Aesthetic, (self.head, self.model.source)

    def score(self, pictures: Bytes, prompts: Sequence[Prompt]) -> Floats:
        """Return the rating of each picture, (n,); prompts do not matter.

        Raises:
            InputError: the head does not fit the CLIP.
        """
        values = self.model.embed(pictures)
        for weight, bias in self._layers:
            if weight.shape[1] != values.shape[1]:
                raise InputError(
                    f"The head {self.head} must fit the features of {self.model.source}, "
                    f"{values.shape[1]} numbers, got one for {weight.shape[1]}; use the CLIP that "
                    f"it was trained on."
                )
            values = values @ weight.T + bias
        scaled = (values[:, 0] - LOWEST_RATING) / (HIGHEST_RATING - LOWEST_RATING)
        return np.asarray(scaled.clip(0.0, 1.0))


def _linear_layers(path: Path) -> list[tuple[Floats, Floats]]:
    """Return weights and biases of a file's linear layers, in order.

    Raises:
        InputError: the file cannot be read, or holds others.
    """
    from safetensors.torch import load_file

    file = next(iter(sorted(path.glob("*.safetensors"))), path) if path.is_dir() else path
    try:
        tensors = {name: value.double().numpy() for name, value in load_file(file).items()}
    except Exception as error:  # files raise many classes
        raise InputError(
            f"{path} must be a head in a .safetensors file, but it cannot be read "
            f"({first_line(error)}); convert it with m2n2lab convert."
        ) from error

    def number(name: str) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", name)]

    names = sorted((name for name in tensors if name.endswith("weight")), key=number)
    layers = [
        (tensors[name], tensors.get(f"{name.removesuffix('weight')}bias", np.zeros(1)))
        for name in names
    ]
    widths = [weight.shape for weight, _ in layers]
    fit = all(shape[-1] == before[0] for before, shape in pairwise(widths))
    if not layers or any(len(shape) != 2 for shape in widths) or not fit or widths[-1][0] != 1:
        raise InputError(
            f"{path} must hold linear layers down to one number, got weights of shapes "
            f"{', '.join(map(str, widths)) or 'none'}; give the head of an aesthetic predictor."
        )
    return layers
