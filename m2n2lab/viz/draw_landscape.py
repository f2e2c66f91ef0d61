"""Landscape plot: the scores of a pair's children over split and mix."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
from bokeh.models import NumeralTickFormatter

from m2n2lab.analysis.landscape import LandscapeData
from m2n2lab.viz.draw_maps import Hook, colorbar, element_options, font_hook, plot_options
from m2n2lab.viz.theme import Theme, ramp
from m2n2lab.viz.tooltips import tooltip_hook

MARGIN = 0.075
"""Margin beside the map, as a share of its side: for the names of its corners."""

LEGEND = "★ best · ⊕ bench"


def corners(data: LandscapeData, theme: Theme) -> dict[str, list[Any]]:
    """Return positions, names and colours of the labels beside the corners, which are the parents.

    The mix is B's share before the split: mix 0 is A if all of the vector lies before the split,
    and B if none does.
    """
    a, b = ("A", theme.parent_a), ("B", theme.parent_b)
    aside = _half(data) + MARGIN / 2
    marks = [(-aside, 0.0, *b), (-aside, 1.0, *a), (1 + aside, 0.0, *a), (1 + aside, 1.0, *b)]
    return dict(zip(("x", "y", "text", "colour"), map(list, zip(*marks, strict=True)), strict=True))


def _half(data: LandscapeData) -> float:
    """Return half the width of a cell; the outer cells are centred on 0 and 1."""
    return 0.5 / (len(data.mixes) - 1)


def best_cell(data: LandscapeData) -> dict[str, list[float]]:
    """Return the position of the best cell, as x and y of at most one point."""
    if data.best is None:
        return {"x": [], "y": []}
    row, column = data.best
    return {
        "x": [float(data.splits[column] / max(int(data.splits[-1]), 1))],
        "y": [float(data.mixes[row])],
    }


def landscape_limits(data: LandscapeData) -> tuple[float, float]:
    """Return the scores, in per cent, at the ends of the colour ramp."""
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


def landscape_tooltip(data: LandscapeData) -> dict[str, list[Any]]:
    """Return the columns from which the browser makes the tooltip, besides the map itself."""
    return {
        "splits": [data.splits.tolist()],
        "mixes": [data.mixes.tolist()],
        "known": ["".join("01"[known] for known in data.known.ravel().tolist())],
    }


def draw_landscape(
    data: LandscapeData,
    at: tuple[float, float] | None,
    theme: Theme,
    hooks: tuple[Hook, ...] = (),
) -> Any:
    """Draw a child's score over split and mix, with marks at the bench's choice and the best cell.

    Args:
        data: the scores so far.
        at: the bench's split, as a share of the vector, and mix; ``None`` without a bench.
        theme: colours.
        hooks: called with each HoloViews plot, for views that refresh the data.
    """
    tooltip = tooltip_hook(theme, _SENTENCE, _CODE, landscape_tooltip(data))
    half = _half(data)
    image = hv.Image(
        100 * data.scores[::-1],
        bounds=(-half, -half, 1 + half, 1 + half),
        kdims=["split", "mix"],
        vdims=["score"],
    ).opts(
        cmap=ramp(theme),
        clim=landscape_limits(data),
        clipping_colors={"NaN": theme.card},
        colorbar=True,
        clabel="",
        # The scale of a single cell spans almost nothing, and would show a dozen digits.
        colorbar_opts={**colorbar(theme), "formatter": NumeralTickFormatter(format="0[.]00")},
        **element_options(tooltip, *hooks),
    )
    names = hv.Labels(tuple(corners(data, theme).values()), vdims=["text", "colour"]).opts(
        text_color="colour",
        text_font_size="13px",
        text_font_style="bold",
        **element_options(font_hook),
    )
    text = LEGEND if at else LEGEND.rpartition(" · ")[0]
    best = hv.Points(tuple(best_cell(data).values()), label="best").opts(
        color=theme.text, marker="star", size=13, line_color=theme.card, show_legend=False,
        **element_options(*hooks),
    )  # fmt: skip
    bench = hv.Points([at] if at else [], ["split", "mix"], label="bench").opts(
        color=theme.child, marker="circle_cross", fill_alpha=0.0, size=14, line_width=2.5,
        show_legend=False, **element_options(*hooks),
    )  # fmt: skip
    return hv.Overlay([image, names, best, bench]).opts(
        title=text,
        xlim=(-half - MARGIN, 1 + half + MARGIN),
        ylim=(-half, 1 + half),
        xlabel="split (share of the vector before it)",
        ylabel="mix (share of B before it)",
        **plot_options(theme, _centred, axes=False),
    )


def _centred(plot: Any, element: Any) -> None:
    """Put the title over the middle of the map."""
    plot.state.title.align = "center"
