"""Themes: the colours of all views, light and dark, safe for colour-blind readers."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Theme(NamedTuple):
    """Colours of one appearance."""

    name: str
    page: str
    card: str
    line: str
    text: str
    quiet: str  # secondary text
    faint: str  # bars and marks that should stay in the background
    parent_a: str
    parent_b: str
    child: str
    ramp: tuple[str, ...]  # quantities, from the background to the strongest
    seeds: tuple[str, ...]  # one hue for each seed, only for its share in a model
    outside: str  # share of a model that is from no seed
    runs: tuple[str, ...]  # one hue for each search, or each of a search's few classes
    paper: str | None = None  # background of a plot; None for the page's own colour

    @property
    def on_paper(self) -> Theme:
        """The theme with its own background, for pages of unknown colour such as a notebook."""
        return self._replace(paper=self.card)


LIGHT = Theme(
    name="light",
    page="#f6f6f2",
    card="#ffffff",
    line="#e2e2e2",
    text="#1b1b1f",
    quiet="#646a73",
    faint="#b9bdc2",
    parent_a="#0072b2",
    parent_b="#b84a00",
    child="#007d58",
    ramp=("#ffffff", "#f0eef5", "#d6cbe7", "#b29cd3", "#8664b2", "#583092", "#2c0c58"),
    seeds=("#dcb545", "#71366b", "#4fc3d9", "#8f1d22", "#4a2fc4", "#5c8a00"),
    outside="#8a8f96",
    runs=("#1b1b1f", "#aa3377", "#997700", "#0f8b8d", "#7a5195", "#c44536", "#5c8a00", "#8a8f96"),
)

DARK = Theme(
    name="dark",
    page="#131417",
    card="#1c1e22",
    line="#2e3137",
    text="#f2f2f2",
    quiet="#a0a5ad",
    faint="#565b63",
    parent_a="#56b4e9",
    parent_b="#f08a3c",
    child="#35c794",
    ramp=("#1c1e22", "#24212e", "#3e305c", "#634896", "#8e6cc4", "#bca0e4", "#f6eeff"),
    seeds=("#e2c040", "#a9479f", "#7fe3d8", "#bd2844", "#5d52e5", "#bfe394"),
    outside="#6a7078",
    runs=("#f2f2f2", "#ee77b0", "#e0c040", "#5fd3d3", "#b79cf0", "#ff8a75", "#b5d86a", "#a0a5ad"),
)

THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def ramp(theme: Theme, start: int = 0, steps: int = 256) -> list[str]:
    """Return ``steps`` colours interpolated along a theme's ramp, as ``#rrggbb``.

    Args:
        theme: the theme.
        start: index of the ramp's first colour; 0 is the background.
        steps: number of colours.
    """
    stops = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in theme.ramp[start:]]
    colours = []
    for k in range(steps):
        at = k / (steps - 1) * (len(stops) - 1)
        low = min(int(at), len(stops) - 2)
        part = at - low
        mixed = (round(a + (b - a) * part) for a, b in zip(stops[low], stops[low + 1], strict=True))
        colours.append("#" + "".join(f"{value:02x}" for value in mixed))
    return colours


def ink(colour: str) -> str:
    """Return black or white, whichever is easier to read on ``colour``."""
    ground = _luminance(colour)

    def contrast(text: str) -> float:
        low, high = sorted((ground, _luminance(text)))
        return (high + 0.05) / (low + 0.05)

    return max("#000000", "#ffffff", key=contrast)


@cache
def _luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb``, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class CurveLook(NamedTuple):
    """Style of a curve of a search's progress."""

    colour: str
    width: float
    dash: str  # lengths of strokes and gaps in pixels; empty for a solid line


def curve_looks(theme: Theme, classes: int) -> tuple[CurveLook, ...]:
    """Return a style for each curve of ``CurvesData.lines`` (4 + classes,)."""
    return (
        CurveLook(theme.quiet, 1.5, ""),
        CurveLook(theme.quiet, 1.5, "2 3"),
        CurveLook(theme.faint, 1.5, ""),
        CurveLook(theme.text, 2.5, ""),
        *(CurveLook(theme.runs[1 + k], 2.0, "") for k in range(classes)),
    )


def seed_colours(theme: Theme, seeds: int) -> list[str]:
    """Return a colour for each seed and, as the last one, for external models (K + 1,).

    The hues differ for colour-blind readers. There are six; a seventh seed has the first one.
    """
    return [*(theme.seeds[k % len(theme.seeds)] for k in range(seeds)), theme.outside]


@cache
def rgb_values(colours: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return colours ``#rrggbb`` as an array (n, 3)."""
    return np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], np.uint8)


STRIP_PIXELS = 13
"""Height of a painting in pixels."""


def painting_pixels(
    painting: NDArray[np.float64], theme: Theme, height: int = STRIP_PIXELS
) -> NDArray[np.uint8]:
    """Return a painting (BINS, K + 1) as a strip (height, BINS, 3) of its seeds' shares."""
    colours = rgb_values(tuple(seed_colours(theme, painting.shape[1] - 1)))
    tops = np.round(np.cumsum(painting, axis=1) * height)  # (BINS, K + 1) in pixels
    rows = np.arange(height)[:, np.newaxis, np.newaxis]
    seed = np.minimum((rows >= tops).sum(axis=2), len(colours) - 1)
    pixels: NDArray[np.uint8] = colours[seed]
    return pixels
