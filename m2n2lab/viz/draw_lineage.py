"""Lineage plots: members' lives as lines over the steps, and the seeds' shares."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np

from m2n2lab.analysis.lineage_arrays import (
    LineageData,
    PaintingData,
    SharesData,
    lineage_geometry,
)
from m2n2lab.utils.text import percent
from m2n2lab.viz.draw_maps import (
    Hook,
    Ticks,
    column_hook,
    element_options,
    legend,
    member_ticks,
    plot_options,
    tick_hook,
)
from m2n2lab.viz.theme import Theme, painting_pixels, ramp, seed_colours
from m2n2lab.viz.tooltips import tooltip_hook

MAX_LANE_LABELS = 24
"""Largest number of lanes that are labelled with their member."""

MAX_COLUMN_LABELS = 12
"""Largest number of labels that fit below each other; more are set in two columns."""

FIGURE_SPACE = "\u2007"
"""A space as wide as a digit."""

MIN_LIFE_SHARE = 0.006
"""Shortest life of a displaced member with a mark, as a share of the steps shown: a few pixels."""

Columns = dict[str, Any]

_SENTENCE = "Member <b>$x{id}</b>, $x{origin}.<p>$x{life}</p><p>$x{gave}</p>"
_CODE = """
  const steps = (step) => step.toLocaleString("en"), born = own("born"), died = own("died")
  const parents = own("parents"), gave = own("gave")
  return {id: own("id"),
          origin: parents != "–" ? `child of ${parents}` : born ? "from outside" : "a seed",
          life: `Born at step ${steps(born)}, ${died == "alive" ? "alive" : "died at " + died};`
            + ` scores ${own("score")}.`,
          gave: gave == "–" ? "" : `${gave} of the chosen one came through it.`}
"""


def _options(theme: Theme, *hooks: Hook) -> dict[str, Any]:
    """Return the options that both plots share."""
    return {**plot_options(theme, *hooks, axes=False), "xformatter": "%d", "xlabel": "step"}


def lane_ticks(data: LineageData) -> Ticks:
    """Return ticks that name current members in their lanes: the focus and, of many, some."""
    every = max(-(-data.lanes // MAX_LANE_LABELS), 1)
    lanes = dict(zip(data.lane[data.alive].tolist(), data.ids[data.alive].tolist(), strict=True))
    own = next((lane for lane, id in lanes.items() if id == data.focus), 0)
    labels = [(lane, str(id)) for lane, id in lanes.items() if (lane - own) % every == 0]
    if len(labels) > MAX_COLUMN_LABELS:
        aside = FIGURE_SPACE * (max(len(text) for _, text in labels) + 1)
        labels = [(lane, aside * (k % 2) + text) for k, (lane, text) in enumerate(labels)]
    return [(data.lanes - lane - 0.5, text) for lane, text in labels]


def _strength(theme: Theme, shares: Any) -> tuple[Any, Any]:
    """Return colours and widths that grow with shares (n,); small ones stay visible."""
    colours, root = np.array(ramp(theme, start=2)), np.sqrt(np.clip(shares, 0.0, 1.0))
    return colours[np.round(root * (len(colours) - 1)).astype(int)], 1.0 + 3.0 * root


def life_columns(data: LineageData, theme: Theme, whole: bool = False) -> Columns:
    """Return the source of the lives: lines, their colours and widths, and tooltip values."""
    around = lineage_geometry(data, whole)
    lives = around.lives
    alive, gave = data.alive[lives], data.gave[lives]
    strong, width = _strength(theme, gave)
    parents = [
        " × ".join(str(id) for id in pair if id >= 0) or "–"
        for pair in data.parents[lives].tolist()
    ]
    died = [
        "alive" if live else str(end)
        for live, end in zip(alive, data.ended[lives].tolist(), strict=True)
    ]
    return {
        **around.lines,
        "color": np.where(gave > 0, strong, np.where(alive, theme.faint, theme.line)),
        "line_width": np.where(gave > 0, width, np.where(alive, 2.0, 1.0)),
        "id": data.ids[lives],
        "born": data.born[lives],
        "died": died,
        "parents": parents,
        "score": [percent(score) for score in data.score[lives].tolist()],
        "gave": [percent(share) if share else "–" for share in gave.tolist()],
    }


def edge_columns(data: LineageData, theme: Theme, whole: bool = False) -> Columns:
    """Return the source of the edges: lines, colours and widths; indirect ones are thin."""
    around = lineage_geometry(data, whole)
    given, direct = data.given[around.edges], data.direct[around.edges]
    strong, width = _strength(theme, given)
    return {
        **around.links,
        "color": np.where(given > 0, strong, theme.line),
        "line_width": 0.6 * np.where(given > 0, width, 1.0) * np.where(direct, 1.0, 0.6),
    }


def birth_columns(data: LineageData, whole: bool = False) -> dict[str, Columns]:
    """Return the sources of the births, by the fate of the child."""
    around = lineage_geometry(data, whole)
    births = np.zeros(len(data.ids), np.bool_)
    births[around.births] = True
    own = births & data.by_hand
    seen = data.ended - data.born >= MIN_LIFE_SHARE * (around.end - around.start)
    columns = {
        name: {"step": data.born[which].astype(np.float64), "lane": around.y[which]}
        for name, which in {
            "lives": births & ~data.by_hand & data.alive,
            "died": births & ~data.by_hand & ~data.alive & seen,
            "by hand, lives": own & data.alive,
            "by hand, died": own & ~data.alive,
        }.items()
    }
    # The focus is marked even if it was born before the steps shown.
    chosen = around.lives[data.ids[around.lives] == data.focus]
    first = np.maximum(data.born[chosen], max(around.start, 0.0))
    return {**columns, "chosen": {"step": first, "lane": around.y[chosen]}}


def draw_lineage(
    data: LineageData, theme: Theme, whole: bool = False, hooks: tuple[Hook, ...] = ()
) -> Any:
    """Draw lives as lines in lanes, time to the right, and edges from parents to births.

    Args:
        data: the lineage.
        theme: colours.
        whole: the whole run, otherwise its recent part.
        hooks: called with each HoloViews plot, for views that refresh the data.
    """
    around = lineage_geometry(data, whole)
    columns = life_columns(data, theme, whole)
    tooltip = tooltip_hook(theme, _SENTENCE, _CODE, columns)
    edges = _segments(edge_columns(data, theme, whole), "edges", hooks)
    lives = _segments(columns, "lines", (tooltip, *hooks))
    looks: dict[str, dict[str, Any]] = {
        "lives": {"marker": "circle", "color": theme.quiet, "size": 7},
        "died": {"marker": "x", "color": theme.faint, "size": 5, "line_width": 1.2},
        "by hand, lives": {"marker": "diamond", "color": theme.child, "size": 13},
        "by hand, died": {
            "marker": "diamond",
            "color": theme.child,
            "size": 13,
            "fill_color": theme.card,
            "line_width": 1.5,
        },
        "chosen": {"marker": "circle", "color": theme.text, "fill_alpha": 0.0, "size": 15},
    }
    births = [
        hv.Points((columns["step"], columns["lane"]), ["step", "lane"], label=name).opts(
            show_legend=False, **element_options(*hooks), **looks[name]
        )
        for name, columns in birth_columns(data, whole).items()
    ]
    return hv.Overlay([edges, lives, *births]).opts(
        xlim=(around.start, around.end),
        ylim=(0, data.lanes),
        yaxis="right",
        ylabel="living member",
        **_options(theme, tick_hook(y=lane_ticks(data)), *hooks),
    )


def _segments(columns: Columns, label: str, hooks: tuple[Hook, ...]) -> Any:
    """Return lines, drawn in order, whose colours and widths are columns too."""
    names = list(columns)
    looks = {name: name for name in ("color", "line_width")}
    read = column_hook(
        {name: columns[name] for name in looks}, line_color="color", line_width="line_width"
    )
    return hv.Segments(tuple(columns.values()), names[:4], names[4:], label=label).opts(
        show_legend=False, **element_options(read, *hooks), **looks
    )


def _unique_labels(names: tuple[str, ...]) -> list[str]:
    """Return names as labels that are all different, as HoloViews and legends need."""
    return [name if names.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(names)]


def share_columns(data: SharesData) -> dict[str, Columns]:
    """Return the sources of the stacked areas in per cent, as polygons, by seed."""
    tops = 100.0 * np.cumsum(data.shares, axis=1)
    around = np.append(data.steps, data.steps[::-1])
    return {
        name: {"x": around, "y": np.append(top - 100.0 * share, top[::-1])}
        for name, share, top in zip(_unique_labels(data.names), data.shares.T, tops.T, strict=True)
    }


def draw_shares(data: SharesData, theme: Theme, hooks: tuple[Hook, ...] = ()) -> Any:
    """Draw the seeds' mean shares over the members as stacked areas over the steps."""
    tops = 100.0 * np.cumsum(data.shares, axis=1)
    seeds = data.shares.shape[1] - 1
    areas = [
        hv.Area(
            (data.steps, tops[:, k], tops[:, k] - 100.0 * data.shares[:, k]),
            "step",
            ["top", "base"],
            label=name,
        ).opts(color=colour, line_width=0, show_legend=False, **element_options(*hooks))
        for k, (name, colour) in enumerate(
            zip(_unique_labels(data.names), seed_colours(theme, seeds), strict=True)
        )
    ]
    return hv.Overlay(areas).opts(
        xlim=(0, max(int(data.steps[-1]), 1)),
        ylim=(0, 100),
        ylabel="share of the living, %",
        **_options(theme, *hooks),
    )


def draw_painting(data: PaintingData, theme: Theme) -> Any:
    """Draw the seeds' shares along each member's flat vector, in the seeds' colours."""
    members, _, sources = data.shares.shape  # the seeds, and from outside
    pixels = np.concatenate([painting_pixels(painting, theme) for painting in data.shares])
    strips = hv.RGB(pixels, bounds=(0, 0, 1, members), kdims=["place", "member"])
    looks: dict[str, Any] = {"color": theme.card, **element_options()}
    found = data.shares.sum(axis=(0, 1)) > 0.0
    keys = [
        hv.Points(([-1.0], [-1.0]), label=name).opts(
            color=colour, marker="square", size=9, **element_options()
        )
        for name, colour, some in zip(
            _unique_labels(data.names), seed_colours(theme, sources - 1), found, strict=True
        )
        if some
    ]
    lines = [hv.HLine(float(row)).opts(line_width=3, **looks) for row in range(1, members)]
    borders = [hv.VLine(float(at)).opts(line_width=1, **looks) for at in data.borders]
    return hv.Overlay([strips.opts(**element_options()), *lines, *borders, *keys]).opts(
        xlim=(0, 1),
        ylim=(0, members),
        xlabel="place in the flat vector",
        ylabel="member, fittest on top",
        **legend(theme),
        **plot_options(theme, tick_hook(y=member_ticks(data.ids)), axes=False, ids=True),
    )
