"""HoloViews objects of the arrays in ``plots``.

HoloViews is imported here, in the other ``drawing`` files and nowhere else in the core. Every plot
takes its colours from a theme through a hook, because HoloViews' own theme is global and two pages
may look different.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import holoviews as hv
import numpy as np
from bokeh.core.properties import value
from bokeh.models import CustomJSTickFormatter, FixedTicker
from numpy.typing import NDArray

from m2n2lab.analysis.maps import (
    NICHE_MODES,
    AttractionData,
    CurvesData,
    NichesData,
    choose_mode,
    niches_geometry,
)
from m2n2lab.utils.text import plain
from m2n2lab.viz.fonts import LETTERS
from m2n2lab.viz.notebook import load
from m2n2lab.viz.theme import Theme, curve_looks, ramp
from m2n2lab.viz.tooltips import explained, short

load()

Hook = Callable[[Any, Any], None]
Pair = tuple[int, ...] | None
Boxes = list[tuple[float, float, float, float, str]]
Ticks = list[tuple[float, str]]


def styled(theme: Theme, grid: bool = False, axes: bool = True, ids: bool = False) -> Hook:
    """Return a hook that gives a figure the colours and fonts of a theme."""

    def hook(plot: Any, element: Any) -> None:
        figure = plot.state
        figure.background_fill_color = figure.border_fill_color = theme.paper
        figure.outline_line_color = None
        figure.toolbar.logo = None
        figure.output_backend = "canvas"  # WebGL stalls where there is no graphics card
        for axis in figure.axis:
            axis.axis_line_color = theme.line if axes else None
            axis.major_tick_line_color = axis.minor_tick_line_color = None
            axis.major_label_text_color = axis.axis_label_text_color = theme.quiet
            axis.major_label_text_font = axis.axis_label_text_font = LETTERS
            axis.major_label_text_font_size = axis.axis_label_text_font_size = "11px"
            axis.axis_label_text_font_style = "normal"
            if ids:  # one a row: smaller, to stand apart on small screens too
                axis.major_label_text_font_size = "9px"
        for line in figure.grid:
            line.grid_line_color = theme.line if grid else None

    return hook


def sans(plot: Any, element: Any) -> None:
    """Set the font of a text; HoloViews takes the option for the name of a column."""
    plot.handles["glyph"].text_font = {"value": LETTERS}


def part(*hooks: Hook) -> dict[str, Any]:
    """Return what all elements of a plot have in common: no tools that pan or zoom it."""
    return {"default_tools": [], "hooks": list(hooks)}


def plot_options(theme: Theme, *hooks: Hook, **style: Any) -> dict[str, Any]:
    """Return what all plots have in common: they fill their place and show no toolbar."""
    return {"responsive": True, "toolbar": None, **part(styled(theme, **style), *hooks)}


def sized(plot: Any, height: int, width: int | None = None) -> Any:
    """Return a plot as it stands in a notebook, which gives it no height: as wide as there is room.

    Args:
        plot: from one of the drawing functions.
        height: in pixels.
        width: in pixels, where more would not help.
    """
    if width is None:
        return plot.opts(height=height)
    return plot.opts(height=height, width=width, responsive=False)


BARELY = 1e-9
"""Values of a niche map below this count as not solved."""


LEAST_STEPS = 10.0
"""Steps that the axis of the curves has at least."""


def strongest(values: NDArray[Any]) -> float:
    """Return the value that gets the end of the ramp, above ``BARELY`` whatever the values."""
    return max(float(np.nanmax(values, initial=0.0)), 2 * BARELY)


def name_ticks(axis: Any, ticks: Ticks) -> None:
    """Put ticks with names on an axis; what it shows already is not sent again.

    Not as ``major_label_overrides``: these may hold models, for which Bokeh searches the whole
    document at each change.
    """
    if not isinstance(axis.formatter, CustomJSTickFormatter):
        axis.formatter, axis.ticker = CustomJSTickFormatter(), FixedTicker()
    places = [place for place, _ in ticks]
    code = f"return new Map({json.dumps(ticks)}).get(tick) ?? ''"
    if axis.ticker.ticks != places:
        axis.ticker.ticks = places
    if axis.formatter.code != code:
        axis.formatter.code = code


def named(x: Ticks | None = None, y: Ticks | None = None) -> Hook:
    """Return a hook that names ticks on the axes of a plot."""

    def hook(plot: Any, element: Any) -> None:
        for axis, ticks in ((plot.state.xaxis[0], x), (plot.state.yaxis[0], y)):
            if ticks is not None:
                name_ticks(axis, ticks)

    return hook


LONGEST_TICK = 24
"""Characters of a class's name that fit under its columns."""


def member_ticks(ids: tuple[int, ...]) -> Ticks:
    """Return ticks that name the rows of a map, the first id on top."""
    return [(len(ids) - row - 0.5, str(id)) for row, id in enumerate(ids)]


def mate_ticks(ids: tuple[int, ...]) -> Ticks:
    """Return ticks that name the columns of a matrix."""
    return [(column + 0.5, str(id)) for column, id in enumerate(ids)]


def class_ticks(data: NichesData) -> Ticks:
    """Return ticks that name the groups of columns of a niche map."""
    centres = (data.edges[:-1] + data.edges[1:]) / 2
    filled = data.edges[1:] > data.edges[:-1]
    return [
        (float(x), plain(name, LONGEST_TICK))
        for x, name, some in zip(centres, data.classes, filled, strict=True)
        if some
    ]


def _outlines(boxes: Boxes, theme: Theme, hooks: tuple[Hook, ...]) -> Any:
    """Draw the frames around what belongs to the parents A and B."""

    def coloured(plot: Any, element: Any) -> None:
        # HoloViews makes no column of colours where there are none yet.
        plot.handles["source"].data["line_color"] = [box[-1] for box in boxes]
        plot.handles["glyph"].line_color = "line_color"

    return hv.Rectangles(boxes, vdims=["colour"], label="pair").opts(
        fill_alpha=0.0,
        line_color="colour",
        line_width=2,
        show_legend=False,
        **part(coloured, *hooks),
    )


def row_boxes(ids: tuple[int, ...], width: float, pair: Pair, theme: Theme) -> Boxes:
    """Return frames (x0, y0, x1, y1, colour) around the rows of A and B in a map."""
    return [
        (0.0, len(ids) - row - 1.0, width, len(ids) - row + 0.0, colour)
        for id, colour in zip(pair or (), (theme.parent_a, theme.parent_b), strict=False)
        if id in ids and (row := ids.index(id)) >= 0
    ]


def cell_boxes(ids: tuple[int, ...], pair: Pair, theme: Theme) -> Boxes:
    """Return frames around A's row and B's column of a matrix."""
    boxes = row_boxes(ids, float(len(ids)), pair and pair[:1], theme)
    if pair and pair[1] in ids:
        column = float(ids.index(pair[1]))
        boxes.append((column, 0.0, column + 1.0, float(len(ids)), theme.parent_b))
    return boxes


_NICHES_SENTENCE = (
    "Member <b>$x{member}</b> $x{does} data point <b>$x{point}</b>$x{kind}.<p>$x{rest}</p>"
)
_NICHES_CODE = """
  const ids = own("ids"), names = own("names"), classes = own("classes"), edges = own("edges")
  const many = ids.length, wide = edges[classes.length], about = own("about")
  const column = Math.min(Math.floor(x), wide - 1), low = Math.min(Math.floor(y), many - 1)
  const [point, solvers, weight] = [0, 1, 2].map((row) => about[row * wide + column])
  const shown = own("image")[low * wide + column]
  const score = own("mode") == "worth" ? shown / weight : Math.abs(shown)
  const solved = score > 0, others = solvers - solved
  const does = !solved ? "does not solve" : score > 0.999 ? "solves" : `scores ${number(score)} on`
  const rest = solved
    ? (!others ? "Nobody else does" : others == many - 1 ? "So do all others"
       : `So do ${others} of ${many - 1} others`) + `: worth ${number(weight * score)} to it.`
    : others ? `${others} of ${many} do: worth ${number(weight)} to each.` : "Nobody does."
  const group = classes[edges.findIndex((edge) => edge > column) - 1]
  return {member: ids[many - 1 - low], does, rest, point: names ? names[point] : point,
          kind: classes.length > 1 ? `, class ${group}` : ""}
"""


def niche_words(data: NichesData, mode: str) -> dict[str, list[Any]]:
    """Return columns, beside the map itself, from which the browser words what it shows."""
    about = np.array((data.points, data.solvers, data.weights), np.float32)
    return {
        "ids": [list(data.ids)],
        "classes": [short(data.classes)],
        "edges": [data.edges.tolist()],
        "about": [about],
        "mode": [mode],
    }


def draw_niches(
    data: NichesData,
    size: int,
    theme: Theme,
    mode: str = "worth",
    hooks: tuple[Hook, ...] = (),
    pair: Pair = None,
) -> Any:
    """Draw the niche map, solvers per data point above it and fitness beside it.

    Args:
        data: what is drawn.
        size: members that fit into the archive.
        theme: colours.
        mode: one of ``NICHE_MODES``.
        hooks: called with each HoloViews plot, for views that refresh the data.
        pair: ids of A and B, whose rows are framed.
    """
    values = getattr(data, NICHE_MODES[choose_mode(mode)])
    members, width = values.shape
    around = niches_geometry(data, size)
    names = None if data.names is None else short(data.names)
    words = niche_words(data, mode) | {"names": [names]}
    explain = explained(theme, _NICHES_SENTENCE, _NICHES_CODE, words)
    image = hv.Image(
        values, bounds=(0, 0, width, members), kdims=["data point", "member"], vdims=["worth"]
    ).opts(
        # What is solved at all stands out from the background, however little it is worth.
        cmap=ramp(theme, start=2),
        clim=(BARELY, strongest(values)),
        clipping_colors={"min": theme.card},
        **part(explain, *hooks),
    )
    area = hv.Area(tuple(around.crowd.values()), vdims=["solvers", "base"])
    fitness = hv.Rectangles(tuple(around.bars.values()))
    marks = [mark.opts(color=theme.faint, line_width=0, **part(*hooks)) for mark in (area, fitness)]
    borders = hv.Overlay([hv.VLine(float(edge)) for edge in data.edges[1:-1]]).opts(
        hv.opts.VLine(color=theme.card, line_width=1, **part())
    )
    notes = hv.Labels(tuple(around.notes.values()), vdims=["text"]).opts(
        text_color=theme.quiet,
        text_font_size="11px",
        text_align="left",
        text_baseline="bottom",
        **part(sans, *hooks),
    )
    frames = _outlines(row_boxes(data.ids, float(width), pair, theme), theme, hooks)
    return hv.Overlay([image, borders, *marks, notes, frames]).opts(
        xlim=(0, around.width),
        ylim=(0, around.height),
        xlabel="class of the data point",
        ylabel="member, fittest on top",
        **plot_options(
            theme, named(class_ticks(data), member_ticks(data.ids)), axes=False, ids=True
        ),
    )


def colorbar(theme: Theme) -> dict[str, Any]:
    """Return the options of a colour bar in a theme."""
    return {
        "background_fill_color": None,
        "major_label_text_color": theme.quiet,
        "major_label_text_font": LETTERS,
        "major_tick_line_color": None,
        "width": 10,
    }


_ATTRACTION_SENTENCE = '<b class="b">$x{b}</b> $x{does} <b class="a">$x{a}</b> $x{rest}'
_ATTRACTION_CODE = """
  const ids = own("ids"), classes = own("classes"), many = ids.length
  const column = Math.min(Math.floor(x), many - 1), low = Math.min(Math.floor(y), many - 1)
  const row = many - 1 - low, a = ids[row], b = ids[column]
  if (row == column) return {b, does: "meets itself."}
  const worth = own("image")[low * many + column]
  if (!(worth > 0)) return {a, b, does: "solves nothing that", rest: "misses."}
  const most = own("most")[row * many + column]
  const part = own("most")[(many + row) * many + column]
  const where = part > 0.999 * worth ? `; all of it class ${classes[most]}`
    : part > worth / 2 ? `; most of it class ${classes[most]} (${number(part)})`
    : `; class ${classes[most]} counts most (${number(part)})`
  return {a, b, does: "solves what",
          rest: `misses, worth ${number(worth)}${classes.length > 1 ? where : ""}.`}
"""


def attraction_words(data: AttractionData) -> dict[str, list[Any]]:
    """Return columns, beside the matrix itself, from which the browser words what it shows."""
    return {
        "ids": [list(data.ids)],
        "classes": [short(data.classes)],
        "most": [np.array((data.most, data.part), np.float32)],
    }


def draw_attraction(
    data: AttractionData, theme: Theme, hooks: tuple[Hook, ...] = (), pair: Pair = None
) -> Any:
    """Draw the attraction matrix: rows A, columns B, the fittest first; the pair is framed."""
    size = len(data.ids)
    explain = explained(theme, _ATTRACTION_SENTENCE, _ATTRACTION_CODE, attraction_words(data))
    image = hv.Image(
        data.worth, bounds=(0, 0, size, size), kdims=["B", "A"], vdims=["attraction"]
    ).opts(
        cmap=ramp(theme),
        clim=(0.0, strongest(data.worth)),
        clipping_colors={"NaN": theme.card},
        colorbar=True,
        clabel="",
        colorbar_opts=colorbar(theme),
        **part(explain, *hooks),
    )
    frames = _outlines(cell_boxes(data.ids, pair, theme), theme, hooks)
    return (image * frames).opts(
        xlim=(0, size),
        ylim=(0, size),
        xrotation=90,
        xlabel="B: could bring",
        ylabel="A: lacks",
        **plot_options(
            theme, named(mate_ticks(data.ids), member_ticks(data.ids)), axes=False, ids=True
        ),
    )


def _one_source(plot: Any, element: Any) -> None:
    """Let all curves read the first one's source, so that a refresh sends the steps once."""
    curves = [p.handles for p in plot.subplots.values() if type(p).__name__ == "CurvePlot"]
    source = curves[0]["source"]
    for handles in curves[1:]:
        source.data.update(handles["source"].data)
        handles["glyph_renderer"].data_source = handles["source"] = source


def _worded(words: dict[str, str]) -> Hook:
    """Return a hook that puts other words into a legend: labels of elements cannot be any text."""

    def hook(plot: Any, element: Any) -> None:
        for item in plot.state.legend[0].items:
            item.label = value(words[item.label["value"]])

    return hook


def legend(theme: Theme) -> dict[str, Any]:
    """Return the options of a small legend above a plot."""
    return {
        "legend_position": "top",
        "legend_cols": 2,
        "legend_opts": {
            "background_fill_alpha": 0.0,
            "border_line_color": None,
            "label_text_color": theme.quiet,
            "label_text_font": LETTERS,
            "label_text_font_size": "11px",
            "label_height": 13,
            "glyph_height": 13,
            "spacing": 6,
            "margin": 0,
            "padding": 0,
        },
    }


def curves_end(data: CurvesData) -> float:
    """Return the step at which the axis of the curves ends."""
    return max(float(data.step[-1]), LEAST_STEPS)


def start_columns(data: CurvesData, theme: Theme) -> dict[str, dict[str, list[Any]]]:
    """Return the sources of what stands for the curves before the first step, empty after it."""
    waiting = len(data.step) == 1
    values = [float(line[0]) for line in data.lines().values()] if waiting else []
    return {
        "start": {
            "step": data.step.tolist() * len(values),
            "value": values,
            "color": [look.colour for look in curve_looks(theme, len(data.classes))][: len(values)],
        },
        "waiting": {
            "x": [float(data.step[0]) + LEAST_STEPS / 2] * waiting,
            "y": [50.0] * waiting,
            "text": ["So far the seeds: Run or Step to begin."] * waiting,
        },
    }


def draw_curves(data: CurvesData, theme: Theme, hooks: tuple[Hook, ...] = ()) -> Any:
    """Draw coverage, entropy and the best member's accuracy over the steps, in per cent."""
    curves = [
        hv.Curve((data.step, values), "step", label, label=label).opts(
            color=look.colour, line_width=look.width, line_dash=look.dash, **part(*hooks)
        )
        for (label, values), look in zip(
            data.lines().items(), curve_looks(theme, len(data.classes)), strict=True
        )
    ]
    start, waiting = (tuple(c.values()) for c in start_columns(data, theme).values())
    dots = hv.Points(start, ["step", "value"], ["color"], label="start").opts(
        color="color", size=7, show_legend=False, **part(*hooks)
    )
    words = hv.Labels(waiting, vdims=["text"], label="waiting").opts(
        text_color=theme.quiet, text_font_size="12px", **part(sans, *hooks)
    )
    return hv.Overlay([*curves, dots, words]).opts(
        # Of a dot at the first step more than half is seen.
        xlim=(-0.02 * LEAST_STEPS, curves_end(data)),
        ylim=(0, 104),
        **legend(theme),
        xformatter="%d",
        xlabel="forward passes",
        ylabel="per cent",
        **plot_options(theme, _one_source, _worded(data.legend), grid=True, axes=False),
    )
