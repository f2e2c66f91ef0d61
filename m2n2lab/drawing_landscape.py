"""The HoloViews object of a landscape: a pair's children over split and mix."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np

from m2n2lab.drawing import Hook, base, colorbar, part
from m2n2lab.hover import explained
from m2n2lab.landscape import CELLS, LandscapeData
from m2n2lab.theme import Theme, ramp

LANDSCAPE_BOUNDS = (
    -0.5 / (CELLS - 1),
    -0.5 / (CELLS - 1),
    1 + 0.5 / (CELLS - 1),
    1 + 0.5 / (CELLS - 1),
)
"""Edges of a landscape whose outer cells are centred on 0 and 1."""


def best_cell(data: LandscapeData) -> dict[str, list[float]]:
    """Return where the best cell is, as x and y of at most one point."""
    if data.best is None:
        return {"x": [], "y": []}
    row, column = data.best
    return {
        "x": [float(data.splits[column] / max(int(data.splits[-1]), 1))],
        "y": [float(data.mixes[row])],
    }


def landscape_limits(data: LandscapeData) -> tuple[float, float]:
    """Return the scores, in per cent, that get the ends of the ramp."""
    known = data.scores[~np.isnan(data.scores)] * 100
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return low, max(high, low + 1e-9)


_SENTENCE = """Split at <b>$x{split}</b> ($x{share}), mix <b>$x{mix}</b>: <b>$x{score}</b>
<p>$x{made}</p><p>$x{rest}</p>"""
_CODE = """
  const splits = own("splits"), mixes = own("mixes"), last = splits.length - 1
  const nearest = (share) => Math.min(Math.max(Math.round(share * last), 0), last)
  const row = nearest(y), column = nearest(x), cell = row * (last + 1) + column
  const mix = mixes[row], score = own("image")[cell], known = own("known")[cell] == "1"
  const of_b = (part) => `${Math.round(100 * part)}\u00a0% B`
  // Where one side of the split is empty, one mix is everywhere.
  const only = column == 0 ? 1 - mix : column == last ? mix : NaN
  return {split: splits[column].toLocaleString("en"), mix: mix.toFixed(2),
          share: `${Math.round(100 * splits[column] / splits[last])}\u00a0%`,
          score: isNaN(score) ? "not evaluated yet" : `${score.toFixed(1)}\u00a0%`,
          made: only == 0 ? "This is A itself." : only == 1 ? "This is B itself."
            : isNaN(only) ? `${of_b(mix)} before the split, ${of_b(1 - mix)} after it.`
            : `${of_b(only)} everywhere.`,
          rest: known || isNaN(score) ? "" : "Not evaluated yet: the score of a cell nearby."}
"""


def landscape_words(data: LandscapeData) -> dict[str, list[Any]]:
    """Return columns, beside the map itself, from which the browser words what it shows."""
    return {
        "splits": [data.splits.tolist()],
        "mixes": [data.mixes.tolist()],
        "known": ["".join("01"[known] for known in data.known.ravel().tolist())],
    }


def draw_landscape(
    data: LandscapeData, at: tuple[float, float], theme: Theme, hooks: tuple[Hook, ...] = ()
) -> Any:
    """Draw a child's score over split and mix, with the bench's place and the best cell marked.

    Args:
        data: what is known.
        at: the bench's split, as a share of the vector, and mix.
        theme: colours.
        hooks: as for the other plots.
    """
    explain = explained(theme, _SENTENCE, _CODE, landscape_words(data))
    image = hv.Image(
        100 * data.scores[::-1],
        bounds=(*LANDSCAPE_BOUNDS,),
        kdims=["split", "mix"],
        vdims=["score"],
    ).opts(
        cmap=ramp(theme),
        clim=landscape_limits(data),
        clipping_colors={"NaN": theme.card},
        colorbar=True,
        clabel="",
        colorbar_opts=colorbar(theme),
        **part(explain, *hooks),
    )
    best = hv.Points(tuple(best_cell(data).values()), label="best").opts(
        color=theme.text, marker="star", size=13, line_color=theme.card, show_legend=False,
        **part(*hooks),
    )  # fmt: skip
    bench = hv.Points(([at[0]], [at[1]]), label="bench").opts(
        color=theme.child, marker="circle_cross", fill_alpha=0.0, size=14, line_width=2.5,
        show_legend=False, **part(*hooks),
    )  # fmt: skip
    return (image * best * bench).opts(
        xlim=(LANDSCAPE_BOUNDS[0], LANDSCAPE_BOUNDS[2]),
        ylim=(LANDSCAPE_BOUNDS[1], LANDSCAPE_BOUNDS[3]),
        xlabel="split (share of the vector before it)",
        ylabel="mix (share of B before it)",
        **base(theme, axes=False),
    )
