"""Lineage view: descent of members, and the seeds' shares over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
from bokeh.events import Tap

from m2n2lab.analysis.lineage_arrays import LineageData, SharesData, lineage_geometry, member_at
from m2n2lab.viz.draw_lineage import (
    birth_columns,
    draw_lineage,
    draw_shares,
    edge_columns,
    lane_ticks,
    life_columns,
    share_columns,
)
from m2n2lab.viz.draw_maps import name_ticks
from m2n2lab.viz.theme import Theme

from ..html.pictures import KEY_CSS, css_variables, seeds_key
from .live_plot import LivePlot
from .toggles import Toggles

SPANS = ("recent", "whole run")
"""Spans of the lineage: the last births or all."""


_SHAPES = {
    "lives": '<circle cx="6" cy="6" r="3.5" fill="var(--quiet)"/>',
    "died": '<path d="M3 3 9 9M9 3 3 9" stroke="var(--faint)" stroke-width="1.5"/>',
    "by hand": '<path d="M6 0 10 6 6 12 2 6Z" fill="var(--child)"/>',
    "by hand, died": '<path d="M6 1 9.5 6 6 11 2.5 6Z" fill="none" stroke="var(--child)"/>',
    "chosen": '<circle cx="6" cy="6" r="5" fill="none" stroke="var(--text)"/>',
    "share of it that came this way": '<path d="M0 6H12" stroke="var(--strong)" stroke-width="4"/>',
}
"""Marks in the plot, as SVG, by their meaning."""

_KEY = "".join(
    f'<span class="key"><svg width="12" height="12">{shape}</svg> {meaning}</span> '
    for meaning, shape in _SHAPES.items()
)

_KEY_CSS = f"""
{KEY_CSS}
.keys {{ font: 11px system-ui, sans-serif; color: var(--quiet); }}
.keys svg {{ vertical-align: -2px; }}
"""


class LineageView(LivePlot):
    """Lives in lanes along time; a click chooses a member.

    Args:
        theme: colours.
        select: called with the id of the member that was clicked.
    """

    def __init__(self, theme: Theme, select: Callable[[int], object]) -> None:
        super().__init__(theme)
        self._select = select
        self._data: LineageData | None = None
        self.span = Toggles.themed(theme, label="Steps shown", options=list(SPANS), value=SPANS[0])
        self.span.param.watch(lambda event: self._respan(), "value")
        self.key = _key_pane(theme, _KEY)

    @property
    def whole(self) -> bool:
        """Whether the whole run is shown, not only its recent part."""
        return bool(self.span.value == SPANS[1])

    def _respan(self) -> None:
        # Held: if a button is pressed right after a choice, Panel answers that without the
        # document's lock, and Bokeh refuses changes then.
        with pn.io.hold():
            self.update(self._data)

    def update(self, data: LineageData | None) -> None:
        """Show another lineage."""
        if data is None:
            return
        self._data = data

        def draw() -> Any:
            return draw_lineage(data, self.theme, self.whole, self.hooks)

        if self.fresh(draw, data, self.span.value):
            self.fill("edges", **edge_columns(data, self.theme, self.whole))
            self.fill("lines", **life_columns(data, self.theme, self.whole))
            for name, columns in birth_columns(data, self.whole).items():
                self.fill(name, **columns)
            around = lineage_geometry(data, self.whole)
            figure = self.handles["lines"]["plot"]
            figure.x_range.update(start=around.start, end=around.end)
            figure.y_range.end = data.lanes
            name_ticks(figure.yaxis[0], lane_ticks(data))

    def hook(self, plot: Any, element: Any) -> None:
        """Keep the Bokeh objects of one element, and handle clicks on the figure."""
        super().hook(plot, element)
        if element.label == "lines":
            plot.state.on_event(Tap, self._tapped)

    def _tapped(self, event: Any) -> None:
        if self._data is not None:
            chosen = member_at(self._data, event.x, event.y, self.whole)
            if chosen is not None:
                self._select(chosen)


def _key_pane(theme: Theme, keys: str) -> Any:
    """Return a pane with the key of marks or colours."""
    colours = css_variables(theme, strong=theme.ramp[4])
    return pn.pane.HTML(
        f'<div class="keys">{keys}</div>',
        stylesheets=[f"{_KEY_CSS} .keys {{ {colours} }}"],
        sizing_mode="stretch_width",
        margin=0,
    )


class SharesView(LivePlot):
    """Share of each seed in the living members, as stacked areas over the steps."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme)
        self.key = _key_pane(theme, "")

    def update(self, data: SharesData | None) -> None:
        """Show other shares."""
        if data is None:
            return
        keys = seeds_key(data.shares[-1], data.names, self.theme)
        self.key.object = f'<div class="keys" data-testid="shares">{keys}</div>'

        def draw() -> Any:
            return draw_shares(data, self.theme, self.hooks)

        if self.fresh(draw, data):
            for name, columns in share_columns(data).items():
                self.fill(name, **columns)
            figure = next(iter(self.handles.values()))["plot"]
            figure.x_range.end = max(int(data.steps[-1]), 1)
