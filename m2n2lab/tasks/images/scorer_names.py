"""Scorers by name: ``clip:…``, ``reference:…``, ``reward:…``, ``aesthetic:…``, weighted means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from m2n2lab.tasks.images.clip_scores import Clip
from m2n2lab.tasks.images.judges import Aesthetic, Photographs, Reward
from m2n2lab.tasks.images.scorers import OfTexts, PictureScorer, Scorer, Weighted
from m2n2lab.utils.errors import InputError, choose, real_number

NAMES = {
    "clip": "clip:MODEL",
    "reference": "reference:FOLDER@MODEL",
    "reward": "reward:MODEL",
    "aesthetic": "aesthetic:HEAD@MODEL",
}
"""Names of scorers, and how they are written."""

TWO = ("reference", "aesthetic")
"""Scorers that need a model beside what they are named by."""

_WEIGHT = re.compile(r"(.+)=([0-9.eE+-]+)")


def scorer_of(value: str | Path | Scorer | PictureScorer) -> PictureScorer:
    """Return the scorer that is meant by a name, a folder or hub id of a CLIP, or a function.

    ::

        clip:MODEL                   how well pictures match their prompts
        reference:FOLDER@MODEL       how alike they are to the photographs that prompts describe
        reward:MODEL                 a model of what people prefer; reward:MODEL@PROCESSOR
        aesthetic:HEAD@MODEL         a linear head on a CLIP's features
        clip:MODEL=0.7,aesthetic:HEAD@MODEL=0.3    their weighted mean

    Raises:
        InputError: a name is unknown, a weight is not positive, or a model cannot be loaded.
    """
    if isinstance(value, PictureScorer):
        return value
    if not isinstance(value, str | Path):
        return OfTexts(value)
    text = str(value)
    if isinstance(value, Path) or Path(text).exists():
        return _named(text)
    parts = [_weighted(part.strip()) for part in text.split(",") if part.strip()]
    if len(parts) == 1:
        return _named(parts[0][0])
    return Weighted([(_named(name), weight) for name, weight in parts])


def _weighted(text: str) -> tuple[str, float]:
    found = _WEIGHT.fullmatch(text)
    if not found:
        return text, 1.0
    try:
        weight: Any = float(found[2])
    except ValueError:
        return text, 1.0
    return found[1], real_number(f"The weight of {found[1]}", weight, 1e-9)


def _named(text: str) -> PictureScorer:
    name, colon, rest = text.partition(":")
    if not colon or Path(text).exists() or (len(name) == 1 and name.isalpha()):  # C:\models
        return Clip(text)
    source, _, second = rest.rpartition("@") if "@" in rest else (rest, "", "")
    choose("scorer", name, NAMES)
    if not rest or (name in TWO and not second):
        raise InputError(
            f"A scorer must be written as {NAMES[name]}, got {text!r}; name what is missing."
        )
    return _made(name, source, second or None)


def _made(name: str, source: str, second: str | None) -> PictureScorer:
    if name == "clip":
        return Clip(source, second)
    if name == "reward":
        return Reward(source, second)
    assert second is not None
    return Photographs(source, second) if name == "reference" else Aesthetic(source, second)
