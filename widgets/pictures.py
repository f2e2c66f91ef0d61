"""Small pictures made of numbers, as data URIs: nothing is fetched, and nothing is text."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2n2lab.theme import Theme, ramp, seed_colours

HEIGHT = 13
"""Pixels over which a painting's shares are spread."""


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Return a picture (H, W) or (H, W, 3) as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def sample_uri(image: NDArray[np.float32], dark: bool) -> str:
    """Return a picture in [0, 1] as a data URI; grey ones as dark ink on light paper."""
    ink = image if dark or image.ndim == 3 else 1.0 - image
    return png_uri((np.clip(ink, 0.0, 1.0) * 255).astype(np.uint8))


def rgb(colours: list[str]) -> NDArray[np.uint8]:
    """Return colours ``#rrggbb`` as numbers (n, 3)."""
    return np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], np.uint8)


def painting_uri(painting: NDArray[np.float64], theme: Theme) -> str:
    """Return a painting (BINS, K + 1) as a strip: each stretch is stacked of its seeds' shares."""
    colours = rgb(seed_colours(theme, painting.shape[1] - 1))
    tops = np.round(np.cumsum(painting, axis=1) * HEIGHT)  # (BINS, K + 1) in pixels
    rows = np.arange(HEIGHT)[:, np.newaxis, np.newaxis]
    seed = np.minimum((rows >= tops).sum(axis=2), len(colours) - 1)
    return png_uri(colours[seed])


def shares_words(painting: NDArray[np.float64]) -> str:
    """Say how much of a member came from each seed, the one with most first."""
    shares = painting.mean(axis=0)
    names = [*(f"seed {k}" for k in range(len(shares) - 1)), "outside"]
    order = [k for k in np.argsort(-shares, kind="stable") if shares[k] >= 0.0005]
    return ", ".join(f"{names[k]} {100 * shares[k]:.1f} %" for k in order)


def heat_uri(values: NDArray[np.float64], theme: Theme) -> str:
    """Return values (n,) in [0, 1] as a row of cells in the ramp; NaN is background."""
    colours = rgb([*ramp(theme), theme.card])
    known = np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0)
    places = np.where(np.isnan(values), len(colours) - 1, np.round(known * (len(colours) - 2)))
    return png_uri(colours[places.astype(int)][np.newaxis])


def css_variables(theme: Theme, **more: Any) -> str:
    """Return a theme's colours as declarations of CSS variables."""
    names = ("page", "card", "line", "text", "quiet", "faint", "child")
    colours = {name: getattr(theme, name) for name in names} | more
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
