"""Live plot: a HoloViews plot that is drawn once, and then only its data is refreshed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import numpy as np
import panel as pn
from bokeh.models import CustomJS
from numpy.typing import NDArray

from m2n2lab.viz.draw_maps import Boxes, Hook, ramp_limit
from m2n2lab.viz.theme import Theme

MAX_INLINE_NUMBERS = 50
"""Length up to which a column is cheaper inside a message than in two messages of its own."""

_NAME_PLOT = 'if (typeof name_plot !== "undefined") name_plot(cb_obj)'
"""Calls the page's script; a view may be shown elsewhere too."""


def _packed(values: Any) -> Any:
    """Return a column as it is sent best; screens show no more than single precision."""
    if not isinstance(values, np.ndarray):
        return values
    if values.size <= MAX_INLINE_NUMBERS:
        return values.tolist()
    return values.astype(np.float32) if values.dtype == np.float64 else values


class LivePlot:
    """A HoloViews plot that is drawn once and whose Bokeh sources are then refreshed.

    A refresh takes a few milliseconds; drawing again takes hundreds and makes the page jump.
    HoloViews fixes ranges, ticks and colour limits at the first data, so views set them.

    Attributes:
        pane: where it is on the page.
        handles: the Bokeh objects of each element, once it has been drawn.
        drawn: number of times that HoloViews has drawn it.
    """

    def __init__(self, theme: Theme) -> None:
        self.theme = theme
        self.pane = pn.pane.HoloViews(None, sizing_mode="stretch_both", linked_axes=False)
        self.handles: dict[str, dict[str, Any]] = {}
        self.drawn = 0
        self._seen: tuple[object, ...] = ()

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """Functions that HoloViews calls with each plot that it makes.

        It keeps them with the options of an element until the element is gone. A hook that referred
        to the view would keep the element, and with it the page and its search, for ever.
        """
        own = WeakMethod(self.hook)

        def hook(plot: Any, element: Any) -> None:
            if (found := own()) is not None:
                found(plot, element)

        return (hook,)

    def hook(self, plot: Any, element: Any) -> None:
        """Keep the Bokeh objects of one element, by its label or else its type."""
        self.handles[element.label or type(element).__name__] = plot.handles
        if plot.state.name is None:
            # By its name the page's script finds the plot; it has a size once it is in a browser.
            plot.state.name = type(self).__name__
            plot.state.js_on_change("inner_width", CustomJS(code=_NAME_PLOT))

    def picked(self, x: float, y: float) -> None:
        """Handle what was picked on the page (see ``cells.js``); by default do nothing."""

    def fresh(self, draw: Callable[[], Any], *shown: object) -> bool:
        """Return whether sources must be refreshed, because other objects are ``shown`` now.

        Until a page has shown the plot, ``draw`` draws it instead.
        """
        seen, self._seen = self._seen, shown
        changed = not seen or any(a is not b for a, b in zip(seen, shown, strict=True))
        if changed and not self.handles:
            self.drawn += 1
            self.pane.object = draw()
            return False
        return changed

    def redraw(self) -> None:
        """Draw the plot again at the next update."""
        self._seen = ()
        self.handles = {}

    def clear(self) -> None:
        """Show nothing until the next update: what was shown is of another search."""
        self.redraw()
        self.pane.object = None

    def fill(self, name: str, **columns: Any) -> None:
        """Replace columns of an element's source; equal ones are not sent again.

        Raises:
            KeyError: the source has no such column, so nothing would show it.
        """
        shown = self.handles[name]["source"].data
        if unread := columns.keys() - shown.keys():
            raise KeyError(f"The columns of {name} are {sorted(shown)}, got {sorted(unread)}.")
        fresh = {
            column: packed
            for column, values in columns.items()
            if not np.array_equal(shown.get(column, ()), packed := _packed(values))
        }
        if fresh:
            shown.update(fresh)

    def frame(self, boxes: Boxes, moved: bool = False) -> None:
        """Show frames around A and B; all are sent if the browser has ``moved`` them."""
        columns = map(list, zip(*boxes, strict=True) if boxes else ((),) * 5)
        left, bottom, right, top, colour = columns
        # HoloViews names the colours by their use.
        sides = {"left": left, "bottom": bottom, "right": right, "top": top, "line_color": colour}
        if moved:
            self.handles["pair"]["source"].data.update(sides)
        else:
            self.fill("pair", **sides)

    def image(
        self, values: NDArray[Any], tooltips: dict[str, Any], width: float, height: float
    ) -> Any:
        """Show other values (P, ·) in the map, and ranges that fit; returns the figure.

        Args:
            values: the first row is on top.
            tooltips: columns from which the browser describes the cells.
            width, height: ends of the ranges.
        """
        rows, columns = values.shape
        # Bokeh's first row is the lowest.
        values = values[::-1].astype(np.float32)
        self.fill("Image", image=[values], dw=[columns], dh=[rows], **tooltips)
        self.handles["Image"]["color_mapper"].high = ramp_limit(values)
        figure = self.handles["Image"]["plot"]
        figure.x_range.end, figure.y_range.end = width, height
        return figure
