"""What the page's plots have in common: drawn once, then only their data is refreshed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import panel as pn
from bokeh.events import Tap
from numpy.typing import NDArray

from m2n2lab.drawing import Boxes, strongest
from m2n2lab.theme import Theme

from .snapshot import Snapshot


class View(Protocol):
    """What the page asks of a view."""

    pane: Any

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""


class LivePlot:
    """A HoloViews plot that is drawn once and whose Bokeh sources are then refreshed.

    A refresh takes a few milliseconds; drawing anew takes hundreds and makes the page jump.
    HoloViews freezes ranges, ticks and colour limits at the first data, so views set these
    themselves.
    """

    def __init__(self, theme: Theme) -> None:
        self.theme = theme
        self.pane = pn.pane.HoloViews(None, sizing_mode="stretch_both", linked_axes=False)
        self.handles: dict[str, dict[str, Any]] = {}
        self._seen: tuple[object, ...] = ()

    def hook(self, plot: Any, element: Any) -> None:
        """Keep the Bokeh objects of one element, by its label or else its type."""
        self.handles[element.label or type(element).__name__] = plot.handles
        plot.state.name = type(self).__name__  # to be found on the page by tests
        if type(element).__name__ == "Image":
            plot.state.on_event(Tap, self.tapped)

    def tapped(self, event: Any) -> None:
        """Answer a click on the plot at ``event.x``, ``event.y``; most views do not."""

    def fresh(self, draw: Callable[[], Any], *shown: object) -> bool:
        """Return whether sources must be refreshed, because other objects are ``shown`` now.

        The first objects are drawn by ``draw`` instead.
        """
        seen, self._seen = self._seen, shown
        if not seen:
            self.pane.object = draw()
        return bool(seen) and any(a is not b for a, b in zip(seen, shown, strict=True))

    def redraw(self) -> None:
        """Draw anew what is shown next: its kind is another one."""
        self._seen = ()

    def fill(self, name: str, **columns: Any) -> None:
        """Replace columns of an element's source."""
        self.handles[name]["source"].data.update(columns)

    def frame(self, boxes: Boxes) -> None:
        """Show other frames around what belongs to A and B."""
        left, bottom, right, top, colour = zip(*boxes, strict=True) if boxes else ((),) * 5
        columns = {"left": left, "bottom": bottom, "right": right, "top": top}
        # All at once, because their number changes; HoloViews names the colours by their use.
        columns["line_color"] = columns["colour"] = colour
        self.handles["pair"]["source"].data = {k: list(v) for k, v in columns.items()}

    def image(self, values: NDArray[Any], width: float, height: float) -> Any:
        """Show other values (P, ·) in the map and ranges that fit; returns the figure."""
        rows, columns = values.shape
        # Bokeh's first row is the lowest.
        self.fill("Image", image=[values[::-1]], dw=[columns], dh=[rows])
        self.handles["Image"]["color_mapper"].high = strongest(values)
        figure = self.handles["Image"]["plot"]
        figure.x_range.end, figure.y_range.end = width, height
        return figure
