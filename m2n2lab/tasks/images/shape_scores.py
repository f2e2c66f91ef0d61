"""Scorer of shapes: recognises a picture by its nearest drawing, and rates its sharpness."""

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

SHARPNESS_SCALE = 0.12
"""Root mean square difference to the nearest drawing at which sharpness is 1/e."""

OFFSETS_PIXELS = (-1.0, 0.0, 1.0)
"""Offsets of shapes from the centre, along each axis."""


class Recognised(NamedTuple):
    """Scene recognised in a picture.

    Attributes:
        scene: the scene of the nearest drawing; ``None`` if that is a plain colour.
        sharpness: exp(−(d / 0.12)²) for a root mean square difference d to that drawing.
    """

    scene: Scene | None
    sharpness: float


class _Drawings(NamedTuple):
    """Drawings that pictures are compared with.

    Attributes:
        scenes: (M,) their scenes; ``None`` for plain colours.
        flat: (M, 3·S²) the drawings.
        squares: (M,) their squared norms.
    """

    scenes: tuple[Scene | None, ...]
    flat: NDArray[np.float32]
    squares: NDArray[np.float32]


@cache
def _drawings() -> _Drawings:
    shown: list[Scene | None] = []
    drawn = []
    for scene in scenes():
        for dx in OFFSETS_PIXELS:
            for dy in OFFSETS_PIXELS:
                shown.append(scene)
                drawn.append(draw(scene, dx, dy))
    for name in (*COLOURS, *BACKGROUNDS):
        shown.append(None)
        drawn.append(np.broadcast_to(np.array(RGB[name], np.float32) / 255, (SIDE, SIDE, 3)))
    flat = np.stack(drawn).reshape(len(drawn), -1)
    return _Drawings(tuple(shown), flat, np.einsum("mi,mi->m", flat, flat))


def recognise(pictures: NDArray[np.float32]) -> list[Recognised]:
    """Recognise the scenes in pictures (n, S, S, 3) in [0, 1].

    Raises:
        InputError: pictures have another size.
    """
    if pictures.ndim != 4 or pictures.shape[1:] != (SIDE, SIDE, 3):
        raise InputError(
            f"Shapes are recognised in pictures of {SIDE}×{SIDE} pixels and 3 colours, got an "
            f"array of shape {pictures.shape}; score other pictures with CLIP."
        )
    drawings = _drawings()
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    squares = np.einsum("ni,ni->n", flat, flat)
    distances = squares[:, None] - 2 * flat @ drawings.flat.T + drawings.squares  # (n, M)
    nearest = distances.argmin(axis=1)
    errors = np.maximum(distances[np.arange(len(flat)), nearest], 0.0) / flat.shape[1]
    sharp = np.exp(-errors / SHARPNESS_SCALE**2)
    return [Recognised(drawings.scenes[m], float(s)) for m, s in zip(nearest, sharp, strict=True)]


@cache
def _captioned() -> dict[str, Scene]:
    return {scene.caption(language): scene for scene in scenes() for language in LANGUAGES}


def scene_of(prompt: str) -> Scene | None:
    """Return the scene whose caption a prompt is, or ``None``."""
    return _captioned().get(prompt)


def _small(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pictures in [0, 1], averaged down to S pixels a side from a multiple of it."""
    scaled = pictures.astype(np.float32) / np.float32(255)
    count, height, width, colours = scaled.shape
    if height % SIDE or width % SIDE:
        return scaled
    folded = scaled.reshape(count, SIDE, height // SIDE, SIDE, width // SIDE, colours)
    small: NDArray[np.float32] = folded.mean(axis=(2, 4), dtype=np.float32)
    return small


def shape_scores(pictures: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float64]:
    """Return how well pictures (n, H, W, 3) match their prompts, (n,) in [0, 1].

    Shape, colour, size and background count a quarter each, compared with the nearest of 2,592
    drawings; the sum is multiplied by the picture's sharpness. Plain pictures score 0; so does
    noise, which is far from every drawing. Pictures of a multiple of 32 pixels a side are averaged
    down first.

    Raises:
        InputError: a prompt is no caption of a scene, or pictures have another size.
    """
    scores = np.zeros(len(prompts))
    found = recognise(_small(pictures))
    for index, (prompt, recognised) in enumerate(zip(prompts, found, strict=True)):
        asked = scene_of(prompt)
        if asked is None:
            raise InputError(
                f"A prompt for shapes must be a caption such as "
                f"{scenes()[0].caption('English')!r}, got {prompt[:60]!r}; score other prompts "
                f"with CLIP."
            )
        if recognised.scene is not None:
            right = sum(a == b for a, b in zip(asked, recognised.scene, strict=True))
            scores[index] = right / len(asked) * recognised.sharpness
    return scores
