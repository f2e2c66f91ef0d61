"""Views of a snapshot. Each has a ``pane`` and an ``update`` that shows a newer snapshot."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from typing import Any, Protocol

import numpy as np
import panel as pn
from numpy.typing import NDArray
from PIL import Image

from m2n2lab.display import percent
from m2n2lab.drawing import (
    draw_attraction,
    draw_curves,
    draw_niches,
    mate_ticks,
    member_ticks,
    strongest,
)
from m2n2lab.plots import NICHE_MODES, niches_geometry
from m2n2lab.tasks.base import Sample
from m2n2lab.theme import Theme

from .session import Snapshot


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

    def fresh(self, draw: Callable[[], Any], *shown: object) -> bool:
        """Return whether sources must be refreshed, because other objects are ``shown`` now.

        The first objects are drawn by ``draw`` instead.
        """
        seen, self._seen = self._seen, shown
        if not seen:
            self.pane.object = draw()
        return bool(seen) and any(a is not b for a, b in zip(seen, shown, strict=True))

    def fill(self, name: str, **columns: Any) -> None:
        """Replace columns of an element's source."""
        self.handles[name]["source"].data.update(columns)

    def image(self, values: NDArray[Any], width: float, height: float) -> Any:
        """Show other values (P, ·) in the map and ranges that fit; returns the figure."""
        rows, columns = values.shape
        # Bokeh's first row is the lowest.
        self.fill("Image", image=[values[::-1]], dw=[columns], dh=[rows])
        self.handles["Image"]["color_mapper"].high = strongest(values)
        figure = self.handles["Image"]["plot"]
        figure.x_range.end, figure.y_range.end = width, height
        return figure


def _tick(axis: Any, ticks: list[tuple[float, str]]) -> None:
    """Put other ticks on an axis that has fixed ones."""
    axis.ticker.ticks = [place for place, _ in ticks]
    axis.major_label_overrides = dict(ticks)


class NichesView(LivePlot):
    """Members × data points, with solvers on top and fitness on the right."""

    mode = "worth"

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data = snapshot.niches
        if data is None:
            return

        def draw() -> Any:
            return draw_niches(data, snapshot.size, self.theme, self.mode, (self.hook,))

        if self.fresh(draw, data, self.mode):
            around = niches_geometry(data, snapshot.size)
            values = getattr(data, NICHE_MODES[self.mode])
            figure = self.image(values, around.width, around.height)
            _tick(figure.yaxis[0], member_ticks(data.ids))
            x, top, base = around.crowd.values()
            # The polygon that HoloViews makes of an area.
            self.fill("Area", x=np.append(x, x[::-1]), y=np.append(top, base))
            x0, y0, x1, y1 = around.bars.values()
            self.fill("Rectangles", left=x0, bottom=y0, right=x1, top=y1)
            self.fill("Labels", y=around.notes["y"])


class AttractionView(LivePlot):
    """Who should meet whom: A × B."""

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data = snapshot.attraction
        if data is None:
            return

        def draw() -> Any:
            return draw_attraction(data, self.theme, (self.hook,))

        if self.fresh(draw, data):
            figure = self.image(data.worth, *data.worth.shape)
            _tick(figure.yaxis[0], member_ticks(data.ids))
            _tick(figure.xaxis[0], mate_ticks(data.ids))


class CurvesView(LivePlot):
    """Coverage and the best member's accuracy over the steps."""

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data = snapshot.curves
        if data is None:
            return

        def draw() -> Any:
            return draw_curves(data, self.theme, (self.hook,))

        if self.fresh(draw, data):
            for label, values in data.lines().items():
                self.fill(label, **{"step": data.step, "per cent": values})
            figure = next(iter(self.handles.values()))["plot"]
            figure.x_range.end = max([*data.step[-1:].tolist(), 1.0])


PHASES = {
    "starting": "starting …",
    "paused": "paused",
    "running": "running",
    "failed": "stopped by an error",
    "closed": "closed",
}
"""Words for the phases of a session."""

_FIGURES_CSS = """
.figures { display: flex; flex-wrap: wrap; gap: 2px 20px; text-align: right;
           font-family: system-ui, sans-serif; }
.figures b { display: block; white-space: nowrap; font-size: 16px;
             font-variant-numeric: tabular-nums; }
.figures span { font-size: 11px; opacity: .7; white-space: nowrap; }
.message { color: #d55e00; max-width: 60ch; text-align: left; overflow-wrap: anywhere; }
"""


class FiguresView:
    """Step, state and speed, accuracy, coverage and acceptance; and why a search stopped."""

    def __init__(self) -> None:
        self.pane = pn.pane.HTML("", stylesheets=[_FIGURES_CSS], margin=0)

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        figures = (
            ("step", f"{snapshot.step:,}", "step"),
            ("phase", PHASES[snapshot.phase], f"{snapshot.speed:,.0f} steps/s"),
            ("test", percent(snapshot.test), f"best, held out (train {percent(snapshot.train)})"),
            ("coverage", percent(snapshot.coverage), "covered"),
            ("accepted", percent(snapshot.accepted), "accepted"),
        )
        cells = "".join(
            f'<div><b data-testid="{name}">{escape(value)}</b><span>{escape(words)}</span></div>'
            for name, value, words in figures
        )
        message = escape(snapshot.message[:LONGEST])
        alert = f'<div class="message" role="alert">{message}</div>' if message else ""
        self.pane.object = f'<div class="figures">{alert}{cells}</div>'


LONGEST = 500
"""Characters of a message or an answer that are shown."""

_ANSWERS_CSS = """
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(62px, 1fr)); gap: 8px;
           font: 600 12px system-ui, sans-serif; text-align: center; }
.answers img { width: 40px; height: 40px; image-rendering: pixelated; display: block;
               margin: 0 auto 4px; }
.answers div { border: 1px solid rgba(128, 128, 128, .3); border-radius: 6px; padding: 5px 2px;
               overflow-wrap: anywhere; }
.answers s { opacity: .6; font-weight: 400; }
.answers i { color: CHILD; font-style: normal; }
"""


class AnswersView:
    """Data points with the truth and the best member's answers."""

    def __init__(self, theme: Theme) -> None:
        self.dark = theme.name == "dark"
        css = _ANSWERS_CSS.replace("CHILD", theme.child)
        self.pane = pn.pane.HTML("", stylesheets=[css], sizing_mode="stretch_width", margin=0)

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        cells = "".join(self._cell(sample) for sample in snapshot.answers)
        if not cells and snapshot.niches is not None:
            cells = "Nothing to show: no such data points, or the task has no samples."
        self.pane.object = f'<div class="answers" data-testid="answers">{cells}</div>'

    def _cell(self, sample: Sample) -> str:
        answer = escape(sample.prediction[:LONGEST])
        said = f"<i>{answer}</i>" if sample.right else f"<s>{answer}</s>"
        picture = "" if sample.image is None else f'<img alt="" src="{self._uri(sample.image)}">'
        text = "" if sample.text is None else escape(sample.text[:LONGEST])
        return f"<div>{picture}{text}{escape(sample.truth[:LONGEST])} {said}</div>"

    def _uri(self, image: NDArray[np.float32]) -> str:
        """Return a picture in [0, 1] as a data URI; grey ones as dark ink on light paper."""
        ink = image if self.dark or image.ndim == 3 else 1.0 - image
        file = io.BytesIO()
        Image.fromarray((ink * 255).astype(np.uint8)).save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
