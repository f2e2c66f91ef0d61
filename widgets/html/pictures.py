"""Shares of seeds as pictures and keys, and the colours of a page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape

import numpy as np
from numpy.typing import NDArray

from m2n2lab.utils.text import percent
from m2n2lab.viz.pictures import png_uri
from m2n2lab.viz.theme import Theme, painting_pixels, ramp, rgb_values, seed_colours

MIN_SHARE = 0.0005
"""Share of a seed, or of the outside, below which it is not named."""


@cache
def _heat(theme: Theme) -> NDArray[np.uint8]:
    """Return the ramp and, last, the background (257, 3)."""
    return rgb_values((*ramp(theme), theme.card))


def painting_uri(painting: NDArray[np.float64], theme: Theme) -> str:
    """Return a painting (BINS, K + 1) as a strip: each bin is stacked from its seeds' shares."""
    return png_uri(painting_pixels(painting, theme))


def heat_uri(values: NDArray[np.float64], theme: Theme) -> str:
    """Return values (n,) in [0, 1] as a row of cells in the ramp; NaN is background."""
    colours, known = _heat(theme), np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0)
    places = np.where(np.isnan(values), len(colours) - 1, np.round(known * (len(colours) - 2)))
    return png_uri(colours[places.astype(int)][np.newaxis])


def shares_label(painting: NDArray[np.float64], names: Sequence[str]) -> str:
    """Return the share of each seed in a member, the largest first; not escaped."""
    shares = painting.mean(axis=0)
    order = [k for k in np.argsort(-shares, kind="stable") if shares[k] >= MIN_SHARE]
    return ", ".join(f"{names[k]} {percent(shares[k])}" for k in order)


def seeds_key(shares: NDArray[np.float64], names: Sequence[str], theme: Theme) -> str:
    """Return the key of the seeds' colours, with their shares (K + 1,), as HTML."""
    seeds = len(shares) - 1
    keys = zip(names, seed_colours(theme, seeds), shares.tolist(), strict=True)
    return "".join(
        f'<span class="key"><i style="background:{colour}"></i>{escape(name)} '
        f"{percent(share)}</span> "
        for k, (name, colour, share) in enumerate(keys)
        if share >= MIN_SHARE or k < seeds
    )


def css_variables(theme: Theme, **more: str) -> str:
    """Return a theme's colours as declarations of CSS variables."""
    names = ("page", "card", "line", "text", "quiet", "faint", "parent_a", "parent_b", "child")
    colours = {name: getattr(theme, name) for name in names} | more
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


KEY_CSS = """
.key { white-space: nowrap; margin-right: 10px; }
.key i { display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin-right: 4px; }
"""
