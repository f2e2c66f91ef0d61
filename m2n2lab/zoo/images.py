"""Image models of the zoo, and the task they were trained for."""

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


STEPS, GUIDANCE = 6, 2.0
"""Denoising steps and guidance that the zoo's models were made for."""


def captions(part: Part, languages: Sequence[Language], limit: int | None = None) -> list[Prompt]:
    """Return the captions of a part in each language; both languages have the same noise.

    Raises:
        InputError: the part or a language is unknown.
    """
    count = None if limit is None else whole_number("limit", limit, 1)
    return [
        Prompt(scene.caption(language), language, noise_of(scene.caption("English")))
        for language in languages
        for scene in scenes(part)[:count]
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
        limit: number of scenes to search on, at most 50.
        held_out: number of held-out scenes in both languages, at most 48.
        languages: languages of the captions to search on.
        options: as for ``Text2Image``; 6 steps at guidance 2 by default, as these models were made
            for.

    Raises:
        InputError: a language is unknown, or a number below 1.
    """
    asked = captions("search", languages, limit)
    tested = captions("test", LANGUAGES, held_out) if held_out else []
    return Text2Image(asked, tested, **{"steps": STEPS, "guidance": GUIDANCE, **options})


def trained() -> bool:
    """Return whether the specialists have been trained."""
    return all((HOME / name / "model_index.json").is_file() for name in SPECIALISTS)


def image_specialists(device: str = "cpu") -> CheckpointSpace:
    """Return the space of the four specialists, the default seeds of a search over images.

    They are stored in half precision; on a CPU they draw in single precision.

    Args:
        device: device on which they draw, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: they have not been trained yet, or the device is not available.
    """
    from m2n2lab.checkpoint import CheckpointSpace

    if not trained():
        raise InputError(
            f"The zoo's image models must be in {HOME}, but they have not been trained yet; "
            f"run python -m m2n2lab.zoo.train_images, or name models of your own with --seeds."
        )
    folders = [HOME / name for name in SPECIALISTS]
    dtype = "float16" if device.startswith("cuda") else "float32"
    return CheckpointSpace(*folders, dtype=dtype, device=device)
