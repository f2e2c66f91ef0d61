"""The tiny picture models that ship with the lab, and the task that they were made for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2n2lab.tasks.images.diffusion import Prompt, noise_of
from m2n2lab.tasks.images.shapes import LANGUAGES, Language, Part, scenes
from m2n2lab.tasks.images.text2image import Text2Image
from m2n2lab.tasks.registry import records_origin
from m2n2lab.utils.errors import InputError, whole_number

if TYPE_CHECKING:
    from m2n2lab.checkpoint import CheckpointSpace

HOME = Path(__file__).with_name("image_models")

SPECIALISTS = ("japanese", "english-round", "english-straight", "english-pointed")
"""Folders: coarse drawings of everything from Japanese captions, and sharp drawings of a third of
the shapes each from English ones."""


def captions(part: Part, languages: Sequence[Language], limit: int | None = None) -> list[Prompt]:
    """Return the captions of a part in each language; both languages draw from the same noise.

    Raises:
        InputError: no such part or language.
    """
    many = None if limit is None else whole_number("limit", limit, 1)
    return [
        Prompt(scene.caption(language), language, noise_of(scene.caption("English")))
        for language in languages
        for scene in scenes(part)[:many]
    ]


@records_origin
def shapes(
    limit: int = 24,
    held_out: int = 48,
    languages: Sequence[Language] = ("Japanese",),
    **options: Any,
) -> Text2Image:
    """Return captions of scenes that none of the zoo's models was trained on.

    Args:
        limit: scenes to search on, at most 50.
        held_out: scenes held out in both languages, at most 48.
        languages: in which captions are searched on.
        options: as for ``Text2Image``.

    Raises:
        InputError: an unknown language, numbers below 1.
    """
    asked = captions("search", languages, limit)
    tested = captions("test", LANGUAGES, held_out) if held_out else []
    return Text2Image(asked, tested, **options)


def trained() -> bool:
    """Return whether the specialists are there."""
    return all((HOME / name / "model_index.json").is_file() for name in SPECIALISTS)


def image_specialists(device: str = "cpu") -> CheckpointSpace:
    """Return the space of the four specialists: what a search that names no models starts from.

    They are kept in half precision, and scored in single where a CPU draws.

    Args:
        device: where they draw, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: they have not been trained yet, or there is no such device.
    """
    from m2n2lab.checkpoint import CheckpointSpace

    if not trained():
        raise InputError(
            f"The zoo's picture models must lie in {HOME}, but they have not been trained yet; "
            f"run python -m m2n2lab.zoo.train_images, or name models of your own with --seeds."
        )
    folders = [HOME / name for name in SPECIALISTS]
    dtype = "float16" if device.startswith("cuda") else "float32"
    return CheckpointSpace(*folders, dtype=dtype, device=device)
