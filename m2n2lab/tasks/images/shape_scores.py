"""Whether a picture shows what was asked, and how sharply: the nearest drawing tells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.tasks.images.shapes import (
    BACKGROUNDS,
    COLOURS,
    LANGUAGES,
    RGB,
    SIDE,
    Scene,
    draw,
    scenes,
)
from m2n2lab.utils.errors import InputError

SHARP = 0.12
"""Root mean square difference to the nearest drawing at which sharpness has fallen to 1/e."""

MOVES = (-1.0, 0.0, 1.0)
"""Pixels by which shapes may lie beside the middle, to each side."""


class Seen(NamedTuple):
    """What a picture seems to show.

    Attributes:
        scene: the scene of the nearest drawing; ``None`` where nothing at all is drawn.
        sharpness: exp(−(d / 0.12)²) for a root mean square difference d to that drawing.
    """

    scene: Scene | None
    sharpness: float


class _Drawings(NamedTuple):
    """Drawings that pictures are compared with.

    Attributes:
        shown: (M,) what each shows; ``None`` for plain ones.
        flat: (M, 3·S²) the drawings.
        squares: (M,) their squared lengths.
    """

    shown: tuple[Scene | None, ...]
    flat: NDArray[np.float32]
    squares: NDArray[np.float32]


@cache
def _drawings() -> _Drawings:
    shown: list[Scene | None] = []
    drawn = []
    for scene in scenes():
        for dx in MOVES:
            for dy in MOVES:
                shown.append(scene)
                drawn.append(draw(scene, dx, dy))
    for name in (*COLOURS, *BACKGROUNDS):
        shown.append(None)
        drawn.append(np.broadcast_to(np.array(RGB[name], np.float32) / 255, (SIDE, SIDE, 3)))
    flat = np.stack(drawn).reshape(len(drawn), -1)
    return _Drawings(tuple(shown), flat, np.einsum("mi,mi->m", flat, flat))


def seen(pictures: NDArray[np.float32]) -> list[Seen]:
    """Return what pictures (n, S, S, 3) in [0, 1] show.

    Raises:
        InputError: pictures of another size.
    """
    if pictures.ndim != 4 or pictures.shape[1:] != (SIDE, SIDE, 3):
        raise InputError(
            f"Shapes are looked for in pictures of {SIDE}×{SIDE} pixels and 3 colours, but an "
            f"array of shape {pictures.shape} came; score other pictures with CLIP."
        )
    drawings = _drawings()
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    squares = np.einsum("ni,ni->n", flat, flat)
    apart = squares[:, None] - 2 * flat @ drawings.flat.T + drawings.squares  # (n, M)
    nearest = apart.argmin(axis=1)
    errors = np.maximum(apart[np.arange(len(flat)), nearest], 0.0) / flat.shape[1]
    sharp = np.exp(-errors / SHARP**2)
    return [Seen(drawings.shown[m], float(s)) for m, s in zip(nearest, sharp, strict=True)]


@cache
def _asked() -> dict[str, Scene]:
    return {scene.caption(language): scene for scene in scenes() for language in LANGUAGES}


def scene_of(prompt: str) -> Scene | None:
    """Return the scene that a prompt is the caption of, or ``None``."""
    return _asked().get(prompt)


def _small(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pictures in [0, 1]; those of a multiple of S pixels are averaged down to S."""
    scaled = pictures.astype(np.float32) / np.float32(255)
    many, height, width, colours = scaled.shape
    if height % SIDE or width % SIDE:
        return scaled
    folded = scaled.reshape(many, SIDE, height // SIDE, SIDE, width // SIDE, colours)
    small: NDArray[np.float32] = folded.mean(axis=(2, 4), dtype=np.float32)
    return small


def shape_scores(pictures: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float64]:
    """Return how well pictures (n, H, W, 3) show what their prompts ask for, (n,) in [0, 1].

    Shape, colour, size and background are a quarter each, as the nearest of 2,592 drawings shows
    them, times the picture's sharpness. Nothing drawn scores 0, and so does noise, which is far
    from every drawing. Pictures of a multiple of 32 pixels a side are averaged down first.

    Raises:
        InputError: a prompt that is no scene's caption; pictures of another size.
    """
    scores = np.zeros(len(prompts))
    for place, (prompt, found) in enumerate(zip(prompts, seen(_small(pictures)), strict=True)):
        asked = scene_of(prompt)
        if asked is None:
            raise InputError(
                f"Shapes can be looked for where a prompt is a caption such as "
                f"{scenes()[0].caption('English')!r}, but {prompt[:60]!r} came; score other "
                f"prompts with CLIP."
            )
        if found.scene is not None:
            right = sum(a == b for a, b in zip(asked, found.scene, strict=True))
            scores[place] = right / len(asked) * found.sharpness
    return scores
