"""Scenes: coloured shapes on plain backgrounds, their captions in two languages, their drawings.

The part of a scene depends on its English caption alone, so no scene of the test part occurs in
training, in either language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.utils.errors import choose

Part = Literal["train", "search", "test"]
Language = Literal["Japanese", "English"]
Picture = NDArray[np.float32]
"""(S, S, 3) red, green and blue in [0, 1]."""

SIDE = 32
"""Pixels along a side."""

SUBPIXELS = 8
"""Sample points along a pixel's side, for its coverage by a shape."""

PARTS: tuple[Part, ...] = ("train", "search", "test")
LANGUAGES: tuple[Language, ...] = ("Japanese", "English")


class Word(NamedTuple):
    """A word in both languages."""

    english: str
    japanese: str


SHAPES = {
    "circle": Word("circle", "円"),
    "square": Word("square", "四角"),
    "triangle": Word("triangle", "三角"),
    "star": Word("star", "星"),
    "cross": Word("cross", "十字"),
    "ring": Word("ring", "輪"),
}
COLOURS = {
    "red": Word("red", "赤い"),
    "orange": Word("orange", "オレンジ色の"),
    "yellow": Word("yellow", "黄色い"),
    "green": Word("green", "緑の"),
    "cyan": Word("light blue", "水色の"),
    "blue": Word("blue", "青い"),
    "purple": Word("purple", "紫の"),
    "pink": Word("pink", "ピンクの"),
}
SIZES = {"small": Word("small", "小さな"), "large": Word("large", "大きな")}
BACKGROUNDS = {
    "white": Word("white", "白い"),
    "grey": Word("grey", "灰色の"),
    "black": Word("black", "黒い"),
}
PROPERTIES = (SHAPES, COLOURS, SIZES, BACKGROUNDS)
"""Properties of a scene, each with the words for its values."""

RADIUS = {"small": 6.5, "large": 13.0}
RGB = {
    "red": (216, 30, 40),
    "orange": (255, 130, 10),
    "yellow": (250, 225, 30),
    "green": (20, 140, 50),
    "cyan": (70, 205, 235),
    "blue": (30, 60, 200),
    "purple": (130, 40, 160),
    "pink": (255, 150, 195),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "black": (0, 0, 0),
}


class Scene(NamedTuple):
    """Contents of a picture.

    Attributes:
        shape: one of ``SHAPES``.
        colour: one of ``COLOURS``.
        size: one of ``SIZES``.
        background: one of ``BACKGROUNDS``.
    """

    shape: str
    colour: str
    size: str
    background: str

    def caption(self, language: Language) -> str:
        """Return the caption, which is the prompt for the picture.

        Raises:
            InputError: ``language`` is none of ``LANGUAGES``.
        """
        words = (SIZES[self.size], COLOURS[self.colour], SHAPES[self.shape])
        behind = BACKGROUNDS[self.background]
        if choose("language", language, LANGUAGES) == "English":
            return f"a {' '.join(word.english for word in words)} on {behind.english}"
        return f"{behind.japanese}背景に{''.join(word.japanese for word in words)}"

    @property
    def part(self) -> Part:
        """The part of the scene: a sixth each for the search and the test."""
        number = sha256(self.caption("English").encode()).digest()[0] % 6
        return "test" if number == 0 else "search" if number == 1 else "train"


def scenes(part: Part | None = None) -> list[Scene]:
    """Return all scenes of a part in a fixed shuffled order; of all parts for ``None``.

    Raises:
        InputError: ``part`` is none of ``PARTS``.
    """
    if part is not None:
        choose("part", part, PARTS)
    every = [Scene(*names) for names in product(SHAPES, COLOURS, SIZES, BACKGROUNDS)]
    mixed = sorted(every, key=lambda scene: sha256(scene.caption("Japanese").encode()).digest())
    return [scene for scene in mixed if part in (None, scene.part)]


# -- drawing -------------------------------------------------------------------------------------

Grid = NDArray[np.float64]


def _polygon(turns: int, inner: float) -> Callable[[Grid, Grid], NDArray[np.bool_]]:
    """Return the test for points inside an upright star of ``turns`` points and inner radius."""

    def inside(x: Grid, y: Grid) -> NDArray[np.bool_]:
        half = np.pi / turns
        # Folded to half a point of the star, whose edge is a straight line.
        angle = np.abs((np.arctan2(x, y) + half) % (2 * half) - half)
        far = np.hypot(x, y)
        px, py = far * np.cos(angle), far * np.sin(angle)
        ax, ay = inner * np.cos(half), inner * np.sin(half)
        return np.asarray((ax - 1.0) * py - ay * (px - 1.0) >= 0.0)

    return inside


INSIDE: Mapping[str, Callable[[Grid, Grid], NDArray[np.bool_]]] = {
    "circle": lambda x, y: x**2 + y**2 <= 0.95**2,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.8,
    "triangle": lambda x, y: _polygon(3, 0.5)(x / 1.15, (y + 0.2) / 1.15),
    "star": _polygon(5, 0.42),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.27) & (np.maximum(abs(x), abs(y)) <= 1),
    "ring": lambda x, y: (x**2 + y**2 <= 1.0) & (x**2 + y**2 >= 0.6**2),
}
"""Tests whether points (x to the right, y up) within the unit circle belong to a shape."""


@cache
def _cover(shape: str, radius: float, dx: float, dy: float) -> Picture:
    """Return how much of each pixel a shape covers, (S, S, 1)."""
    points = (np.arange(SIDE * SUBPIXELS) + 0.5) / SUBPIXELS - SIDE / 2
    x, y = (points[None, :] - dx) / radius, (-points[:, None] - dy) / radius
    covered = INSIDE[shape](*np.broadcast_arrays(x, y)).astype(np.float32)
    shares = covered.reshape(SIDE, SUBPIXELS, SIDE, SUBPIXELS).mean(axis=(1, 3))[..., None]
    return np.asarray(shares, np.float32)


def draw(scene: Scene, dx: float = 0.0, dy: float = 0.0, radius: float | None = None) -> Picture:
    """Return the picture of a scene.

    Args:
        scene: its contents.
        dx: offset of the shape to the right in pixels.
        dy: offset upwards in pixels.
        radius: radius of the shape in pixels, instead of that of its size.
    """
    front, back = (
        np.array(RGB[name], np.float32) / 255 for name in (scene.colour, scene.background)
    )
    cover = _cover(scene.shape, radius or RADIUS[scene.size], dx, dy)
    return np.asarray(cover * front + (1 - cover) * back, np.float32)


def coarse(picture: Picture, blur: float = 1.5, contrast: float = 0.8) -> Picture:
    """Return a picture drawn coarsely: blurred and with less contrast."""
    from scipy.ndimage import gaussian_filter

    soft = gaussian_filter(picture, (blur, blur, 0), mode="nearest")
    return np.asarray(0.5 + contrast * (soft - 0.5), np.float32)
