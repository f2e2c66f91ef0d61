"""Map plots: the niche map, the attraction matrix and the curves, and options all plots share.

HoloViews is imported in the ``draw_…`` modules only. Every plot takes its colours from a theme
through a hook, because HoloViews' own theme is global, and two pages may have different themes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import holoviews as hv
import numpy as np
from bokeh.core.properties import value
from bokeh.model import Model
from bokeh.models import CustomJS, CustomJSTickFormatter, FixedTicker, NoOverlap
from numpy.typing import NDArray

from m2n2lab.analysis.lineage import called
from m2n2lab.analysis.maps import (
    NICHE_MODES,
    AttractionData,
    CurvesData,
    NichesData,
    choose_mode,
    niches_geometry,
)
from m2n2lab.utils.text import plain
from m2n2lab.viz.fonts import FONT_STACK
from m2n2lab.viz.notebook import load
from m2n2lab.viz.theme import DARK, Theme, curve_looks, ramp
from m2n2lab.viz.tooltips import short_names, tooltip_hook

load()

_DARK = files("m2n2lab.viz").joinpath("dark.js").read_text(encoding="utf-8")

Hook = Callable[[Any, Any], None]
Pair = tuple[int, ...] | None
Boxes = list[tuple[float, float, float, float, str]]
Ticks = list[tuple[float, str]]


_NAMED_COLOURS = (
    *("card", "page", "line", "text", "quiet", "faint"),
    *("parent_a", "parent_b", "child"),
)


def _dark_script(theme: Theme) -> CustomJS:
    """Return the script that makes a plot dark in a dark notebook."""
    pairs = {
        light: dark
        for name in (
            "card",
            "page",
            "line",
            "text",
            "quiet",
            "faint",
            "parent_a",
            "parent_b",
            "child",
        )
        for light, dark in [(getattr(theme, name), getattr(DARK, name))]
    }
    pairs |= dict(zip(theme.runs, DARK.runs, strict=True))
    pairs |= dict(zip(theme.seeds, DARK.seeds, strict=True)) | {theme.outside: DARK.outside}
    stops = [list(theme.ramp), list(DARK.ramp)]
    return CustomJS(args={"colours": pairs, "stops": stops}, code=_DARK)


LABELS_WIDTH = 70
"""Least width in pixels beside a map for the names of its members."""


def theme_hook(theme: Theme, grid: bool = False, axes: bool = True, ids: bool = False) -> Hook:
    """Return a hook that gives a figure the colours and fonts of a theme."""

    def hook(plot: Any, element: Any) -> None:
        figure = plot.state
        figure.background_fill_color = figure.border_fill_color = theme.paper
        figure.outline_line_color = None
        figure.toolbar.logo = None
        if theme.paper is not None:
            figure.js_on_change("inner_width", _dark_script(theme))
        figure.title.update(
            text_color=theme.quiet,
            text_font=FONT_STACK,
            text_font_size="11px",
            text_font_style="normal",
            text_line_height=1.1,
        )
        figure.output_backend = "canvas"  # WebGL stalls where there is no graphics card
        for axis in figure.axis:
            axis.axis_line_color = theme.line if axes else None
            axis.major_tick_line_color = axis.minor_tick_line_color = None
            axis.major_label_text_color = axis.axis_label_text_color = theme.quiet
            axis.major_label_text_font = axis.axis_label_text_font = FONT_STACK
            axis.major_label_text_font_size = axis.axis_label_text_font_size = "11px"
            axis.axis_label_text_font_style = "normal"
            if ids:  # one per row: smaller, and on small screens not all
                axis.major_label_text_font_size = "10px"
        if ids:
            figure.xaxis.major_label_policy = NoOverlap(min_distance=0)
            figure.min_border_left = LABELS_WIDTH  # or a pair's letters would push the cells aside
        for line in figure.grid:
            line.grid_line_color = theme.line if grid else None

    return hook


def font_hook(plot: Any, element: Any) -> None:
    """Set the font of a text; HoloViews takes the option for the name of a column."""
    plot.handles["glyph"].text_font = {"value": FONT_STACK}


GLYPHS = ("glyph", "selection_glyph", "nonselection_glyph", "hover_glyph", "muted_glyph")
"""Attributes of a renderer that hold its marks, in each of their states."""


def column_hook(columns: Mapping[str, Any], **looks: str) -> Hook:
    """Return a hook that draws the looks of a mark from columns of its source.

    HoloViews makes one constant of a column whose values are all alike, which would then hold for
    whatever is shown later.

    Args:
        columns: columns of the source.
        looks: for each attribute of the mark, the name of its column.
    """

    def hook(plot: Any, element: Any) -> None:
        renderer = plot.handles["glyph_renderer"]
        plot.handles["source"].data.update(columns)
        for glyph in (getattr(renderer, state, None) for state in GLYPHS):
            if isinstance(glyph, Model):  # not "auto"
                glyph.update(**looks)

    return hook


def element_options(*hooks: Hook) -> dict[str, Any]:
    """Return the options that all elements of a plot share: no tools that pan or zoom it."""
    return {"default_tools": [], "hooks": list(hooks)}


def plot_options(theme: Theme, *hooks: Hook, **style: Any) -> dict[str, Any]:
    """Return the options that all plots share: they fill their container, without a toolbar."""
    return {
        "responsive": True,
        "toolbar": None,
        **element_options(theme_hook(theme, **style), *hooks),
    }


def sized(plot: Any, height: int, width: int | None = None) -> Any:
    """Return a plot with a size for notebooks, which give it no height; as wide as the page.

    Args:
        plot: the plot.
        height: in pixels.
        width: in pixels, if the plot should not be as wide as the page.
    """
    if width is None:
        return plot.opts(height=height)
    return plot.opts(height=height, width=width, responsive=False)


SOLVED_THRESHOLD = 1e-9
"""Values of a niche map below this count as not solved."""

MIN_AXIS_STEPS = 10.0
"""Smallest number of steps on the axis of the curves."""

MAX_TICK_CHARS = 24
"""Longest name of a class that fits under its columns."""


def ramp_limit(values: NDArray[Any]) -> float:
    """Return the value at the end of the colour ramp, which is above ``SOLVED_THRESHOLD``."""
    return max(float(np.nanmax(values, initial=0.0)), 2 * SOLVED_THRESHOLD)


def name_ticks(axis: Any, ticks: Ticks) -> None:
    """Put ticks with names on an axis; unchanged ones are not sent again.

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


def tick_hook(x: Ticks | None = None, y: Ticks | None = None) -> Hook:
    """Return a hook that names ticks on the axes of a plot."""

    def hook(plot: Any, element: Any) -> None:
        for axis, ticks in ((plot.state.xaxis[0], x), (plot.state.yaxis[0], y)):
            if ticks is not None:
                name_ticks(axis, ticks)

    return hook


MAX_MEMBER_CHARS = 14
"""Longest name of a member beside its row."""


def _named(ids: tuple[int, ...], pair: Pair, letters: str, seeds: tuple[str, ...]) -> list[str]:
    """Return what members are called, the pair with its letters: colours alone do not tell them."""
    texts = []
    for id in ids:
        letter = "".join(x for x, parent in zip("AB", pair or (), strict=False) if parent == id)
        letter = "".join(x for x in letter if x in letters)
        name = plain(called(id, seeds), MAX_MEMBER_CHARS)
        texts.append(f"{letter} {name}" if letter else name)
    return texts


def member_ticks(
    ids: tuple[int, ...], pair: Pair = None, letters: str = "AB", seeds: tuple[str, ...] = ()
) -> Ticks:
    """Return ticks that name the rows of a map, the first id at the top, and the pair's letters."""
    names = _named(ids, pair, letters, seeds)
    return [(len(ids) - row - 0.5, name) for row, name in enumerate(names)]


def mate_ticks(ids: tuple[int, ...], pair: Pair = None, seeds: tuple[str, ...] = ()) -> Ticks:
    """Return ticks that name the columns of a matrix, where B is."""
    return [(column + 0.5, name) for column, name in enumerate(_named(ids, pair, "B", seeds))]


def class_ticks(data: NichesData) -> Ticks:
    """Return ticks that name the groups of columns of a niche map."""
    centres = (data.edges[:-1] + data.edges[1:]) / 2
    filled = data.edges[1:] > data.edges[:-1]
    return [
        (float(x), plain(name, MAX_TICK_CHARS))
        for x, name, some in zip(centres, data.classes, filled, strict=True)
        if some
    ]


def _frames(boxes: Boxes, theme: Theme, hooks: tuple[Hook, ...]) -> Any:
    """Draw frames around the rows and columns of the parents A and B."""
    colours = {"line_color": [box[-1] for box in boxes]}
    return hv.Rectangles(boxes, vdims=["colour"], label="pair").opts(
        fill_alpha=0.0,
        line_color="colour",
        line_width=2,
        show_legend=False,
        **element_options(column_hook(colours, line_color="line_color"), *hooks),
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
  const members = own("members"), names = own("names"), classes = own("classes")
  const edges = own("edges")
  const many = members.length, wide = edges[classes.length], about = own("about")
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
  return {member: members[many - 1 - low], does, rest, point: names ? names[point] : point,
          kind: classes.length > 1 ? `, class ${group}` : ""}
"""


def niche_tooltip(data: NichesData, mode: str) -> dict[str, list[Any]]:
    """Return the columns from which the browser makes the tooltip, besides the map itself."""
    about = np.array((data.points, data.solvers, data.weights), np.float32)
    return {
        "ids": [list(data.ids)],
        "members": [short_names(data.labels)],
        "classes": [short_names(data.classes)],
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
    """Draw the niche map, with solvers per data point above it and fitness beside it.

    Args:
        data: the niches.
        size: largest number of members in the archive.
        theme: colours.
        mode: one of ``NICHE_MODES``.
        hooks: called with each HoloViews plot, for views that refresh the data.
        pair: ids of A and B, whose rows are framed.
    """
    values = getattr(data, NICHE_MODES[choose_mode(mode)])
    members, width = values.shape
    around = niches_geometry(data, size)
    names = None if data.names is None else short_names(data.names)
    about = niche_tooltip(data, mode) | {"names": [names]}
    tooltip = tooltip_hook(theme, _NICHES_SENTENCE, _NICHES_CODE, about)
    image = hv.Image(
        values, bounds=(0, 0, width, members), kdims=["data point", "member"], vdims=["worth"]
    ).opts(
        # Solved points differ from the background, however little they are worth.
        cmap=ramp(theme, start=2),
        clim=(SOLVED_THRESHOLD, ramp_limit(values)),
        clipping_colors={"min": theme.card},
        **element_options(tooltip, *hooks),
    )
    area = hv.Area(tuple(around.crowd.values()), vdims=["solvers", "base"])
    fitness = hv.Rectangles(tuple(around.bars.values()))
    marks = [
        mark.opts(color=theme.faint, line_width=0, **element_options(*hooks))
        for mark in (area, fitness)
    ]
    borders = hv.Overlay([hv.VLine(float(edge)) for edge in data.edges[1:-1]]).opts(
        hv.opts.VLine(color=theme.card, line_width=1, **element_options())
    )
    notes = hv.Labels(tuple(around.notes.values()), vdims=["text"]).opts(
        text_color=theme.quiet,
        text_font_size="11px",
        text_align="right",
        text_baseline="bottom",
        **element_options(font_hook, *hooks),
    )
    frames = _frames(row_boxes(data.ids, float(width), pair, theme), theme, hooks)
    return hv.Overlay([image, borders, *marks, notes, frames]).opts(
        xlim=(0, around.width),
        ylim=(0, around.height),
        title="models that solve each point\n(the more, the less it is worth)",
        xlabel="class of the data point",
        ylabel="member, fittest on top",
        **plot_options(
            theme,
            tick_hook(class_ticks(data), member_ticks(data.ids, pair, seeds=data.seeds)),
            axes=False,
            ids=True,
        ),
    )


def colorbar(theme: Theme) -> dict[str, Any]:
    """Return the options of a colour bar in a theme."""
    return {
        "background_fill_color": None,
        "major_label_text_color": theme.quiet,
        "major_label_text_font": FONT_STACK,
        "major_tick_line_color": None,
        "width": 10,
    }


_ATTRACTION_SENTENCE = '<b class="b">$x{b}</b> $x{does} <b class="a">$x{a}</b> $x{rest}'
_ATTRACTION_CODE = """
  const members = own("members"), classes = own("classes"), many = members.length
  const column = Math.min(Math.floor(x), many - 1), low = Math.min(Math.floor(y), many - 1)
  const row = many - 1 - low, a = members[row], b = members[column]
  if (row == column) return {b, does: "meets itself."}
  const worth = own("image")[low * many + column]
  if (!(worth > 0)) return {a, b, does: "solves nothing that", rest: "gets wrong."}
  const most = own("most")[row * many + column]
  const part = own("most")[(many + row) * many + column]
  const where = part > 0.999 * worth ? `; all of it class ${classes[most]}`
    : part > worth / 2 ? `; most of it class ${classes[most]} (${number(part)})`
    : `; class ${classes[most]} counts most (${number(part)})`
  return {a, b, does: "solves what",
          rest: `gets wrong, worth ${number(worth)}${classes.length > 1 ? where : ""}.`}
"""


def attraction_tooltip(data: AttractionData) -> dict[str, list[Any]]:
    """Return the columns from which the browser makes the tooltip, besides the matrix itself."""
    return {
        "ids": [list(data.ids)],
        "members": [short_names(data.labels)],
        "classes": [short_names(data.classes)],
        "most": [np.array((data.most, data.part), np.float32)],
    }


def draw_attraction(
    data: AttractionData, theme: Theme, hooks: tuple[Hook, ...] = (), pair: Pair = None
) -> Any:
    """Draw the attraction matrix: rows A, columns B, the fittest first; frame the pair."""
    size = len(data.ids)
    tooltip = tooltip_hook(theme, _ATTRACTION_SENTENCE, _ATTRACTION_CODE, attraction_tooltip(data))
    image = hv.Image(
        data.worth, bounds=(0, 0, size, size), kdims=["B", "A"], vdims=["attraction"]
    ).opts(
        cmap=ramp(theme),
        clim=(0.0, ramp_limit(data.worth)),
        clipping_colors={"NaN": theme.card},
        colorbar=True,
        clabel="",
        colorbar_opts=colorbar(theme),
        **element_options(tooltip, *hooks),
    )
    frames = _frames(cell_boxes(data.ids, pair, theme), theme, hooks)
    return (image * frames).opts(
        xlim=(0, size),
        ylim=(0, size),
        xrotation=90,
        xlabel="B (column): what it could add",
        ylabel="A (row): what it gets wrong",
        **plot_options(
            theme,
            tick_hook(
                mate_ticks(data.ids, pair, data.seeds),
                member_ticks(data.ids, pair, "A", data.seeds),
            ),
            axes=False,
            ids=True,
        ),
    )


def _one_source(plot: Any, element: Any) -> None:
    """Share the first curve's source among all curves, so that a refresh sends the steps once."""
    curves = [p.handles for p in plot.subplots.values() if type(p).__name__ == "CurvePlot"]
    source = curves[0]["source"]
    for handles in curves[1:]:
        source.data.update(handles["source"].data)
        handles["glyph_renderer"].data_source = handles["source"] = source


def _legend_hook(texts: dict[str, str]) -> Hook:
    """Return a hook that sets the texts of a legend, because elements' labels are restricted."""

    def hook(plot: Any, element: Any) -> None:
        for item in plot.state.legend[0].items:
            item.label = value(texts[item.label["value"]])

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
            "label_text_font": FONT_STACK,
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
    return max(float(data.step[-1]), MIN_AXIS_STEPS)


def start_columns(data: CurvesData, theme: Theme) -> dict[str, dict[str, list[Any]]]:
    """Return the sources of dots and a note, which replace the curves before the first step."""
    waiting = len(data.step) == 1
    values = [float(line[0]) for line in data.lines().values()] if waiting else []
    return {
        "start": {
            "step": data.step.tolist() * len(values),
            "value": values,
            "color": [look.colour for look in curve_looks(theme, len(data.classes))][: len(values)],
        },
        "waiting": {
            "x": [float(data.step[0]) + MIN_AXIS_STEPS / 2] * waiting,
            "y": [50.0] * waiting,
            "text": ["So far the seeds: Run or Step to begin."] * waiting,
        },
    }


def draw_curves(data: CurvesData, theme: Theme, hooks: tuple[Hook, ...] = ()) -> Any:
    """Draw coverage, entropy and the best member's accuracy over the steps, in per cent."""
    curves = [
        hv.Curve((data.step, values), "step", label, label=label).opts(
            color=look.colour, line_width=look.width, line_dash=look.dash, **element_options(*hooks)
        )
        for (label, values), look in zip(
            data.lines().items(), curve_looks(theme, len(data.classes)), strict=True
        )
    ]
    start, waiting = start_columns(data, theme).values()
    coloured = column_hook(start, line_color="color", fill_color="color", hatch_color="color")
    dots = hv.Points(tuple(start.values()), ["step", "value"], ["color"], label="start").opts(
        color="color", size=7, show_legend=False, **element_options(coloured, *hooks)
    )
    note = hv.Labels(tuple(waiting.values()), vdims=["text"], label="waiting").opts(
        text_color=theme.quiet, text_font_size="12px", **element_options(font_hook, *hooks)
    )
    return hv.Overlay([*curves, dots, note]).opts(
        # More than half of a dot at the first step is visible.
        xlim=(-0.02 * MIN_AXIS_STEPS, curves_end(data)),
        ylim=(0, 104),
        **legend(theme),
        xformatter="%d",
        xlabel="forward passes",
        ylabel="per cent",
        **plot_options(theme, _one_source, _legend_hook(data.legend), grid=True, axes=False),
    )
