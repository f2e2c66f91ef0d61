"""Views of a snapshot. Each has a ``pane`` and an ``update`` that shows a newer snapshot."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any, Protocol

import numpy as np
import panel as pn
from bokeh.events import Tap
from numpy.typing import NDArray

from m2n2lab.display import percent
from m2n2lab.drawing import (
    Boxes,
    cell_boxes,
    draw_attraction,
    draw_curves,
    draw_niches,
    mate_ticks,
    member_ticks,
    row_boxes,
    strongest,
)
from m2n2lab.plots import NICHE_MODES, AttractionData, niches_geometry
from m2n2lab.tasks.base import Sample
from m2n2lab.theme import Theme

from .pictures import css_variables, sample_uri
from .session import Snapshot
from .workbench import Answer


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


def _tick(axis: Any, ticks: list[tuple[float, str]]) -> None:
    """Put other ticks on an axis that has fixed ones."""
    axis.ticker.ticks = [place for place, _ in ticks]
    axis.major_label_overrides = dict(ticks)


def _pair(snapshot: Snapshot) -> tuple[int, ...] | None:
    """Return the ids of the parents on the bench."""
    return snapshot.bench.proposal.parents if snapshot.bench else None


class NichesView(LivePlot):
    """Members × data points, with solvers on top and fitness on the right."""

    mode = "worth"
    _framed: tuple[object, ...] = ()

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data, pair = snapshot.niches, _pair(snapshot)
        if data is None:
            return

        def draw() -> Any:
            return draw_niches(data, snapshot.size, self.theme, self.mode, (self.hook,), pair)

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
        framed, self._framed = self._framed, (data.ids, pair)
        if framed != self._framed:
            self.frame(row_boxes(data.ids, float(len(data.points)), pair, self.theme))


class AttractionView(LivePlot):
    """Who should meet whom: A × B; a click picks the pair.

    Args:
        theme: colours.
        pick: called with the ids of A and B of the cell that was clicked.
    """

    def __init__(self, theme: Theme, pick: Callable[[int, int], object]) -> None:
        super().__init__(theme)
        self._pick = pick
        self._ids: tuple[int, ...] = ()
        self._framed: tuple[object, ...] = ()
        self.words = pn.pane.HTML("", margin=0, styles={"font": "12px system-ui, sans-serif"})

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data, pair = snapshot.attraction, _pair(snapshot)
        if data is None:
            return

        def draw() -> Any:
            return draw_attraction(data, self.theme, (self.hook,), pair)

        self._ids = data.ids
        if self.fresh(draw, data):
            figure = self.image(data.worth, *data.worth.shape)
            _tick(figure.yaxis[0], member_ticks(data.ids))
            _tick(figure.xaxis[0], mate_ticks(data.ids))
        framed, self._framed = self._framed, (data, pair)
        # By identity: the data holds arrays.
        if not framed or framed[0] is not data or framed[1] != pair:
            self.frame(cell_boxes(data.ids, pair, self.theme))
            self.words.object = self._sentence(data, pair)

    def tapped(self, event: Any) -> None:
        """Pick the pair of the cell that was clicked."""
        many = len(self._ids)
        row, column = many - 1 - int(event.y // 1), int(event.x // 1)
        if 0 <= row < many and 0 <= column < many and row != column:
            self._pick(self._ids[row], self._ids[column])

    def _sentence(self, data: AttractionData, pair: tuple[int, ...] | None) -> str:
        """Say in words what the cell of the pair means."""
        if pair is None or pair[0] not in data.ids or pair[1] not in data.ids:
            return ""
        worth = data.worth[data.ids.index(pair[0]), data.ids.index(pair[1])]
        a = f'<b style="color:{self.theme.parent_a}">{pair[0]}</b>'
        b = f'<b style="color:{self.theme.parent_b}">{pair[1]}</b>'
        if np.isnan(worth):
            return f"{a} meets itself."
        return f'{b} solves what {a} misses, worth <b data-testid="attracted">{worth:.1f}</b>'


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
.answers .a { color: var(--parent_a); }
.answers .b { color: var(--parent_b); }
.answers .child { color: var(--child); }
.answers s { font-weight: 400; opacity: .75; }
"""


class AnswersView:
    """Data points with the truth, then what A, B and the child answer in their colours."""

    def __init__(self, theme: Theme) -> None:
        self.dark = theme.name == "dark"
        self._shown: tuple[Answer, ...] | None = None
        css = [_ANSWERS_CSS, f":host {{ {css_variables(theme)} }}"]
        self.pane = pn.pane.HTML("", stylesheets=css, sizing_mode="stretch_width", margin=0)

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        if snapshot.answers is self._shown:
            return
        self._shown = snapshot.answers
        cells = "".join(self._cell(answer) for answer in snapshot.answers)
        if not cells and snapshot.niches is not None:
            cells = "Nothing to show: no such data points, or the task has no samples."
        self.pane.object = f'<div class="answers" data-testid="answers">{cells}</div>'

    def _cell(self, answer: Answer) -> str:
        sample = answer.child
        said = " ".join(self._said(name, getattr(answer, name)) for name in ("a", "b", "child"))
        picture = (
            ""
            if sample.image is None
            else f'<img alt="" src="{sample_uri(sample.image, self.dark)}">'
        )
        text = "" if sample.text is None else escape(sample.text[:LONGEST])
        return f"<div>{picture}{text}{escape(sample.truth[:LONGEST])} {said}</div>"

    def _said(self, who: str, sample: Sample) -> str:
        tag, answer = "b" if sample.right else "s", escape(sample.prediction[:LONGEST])
        return f'<{tag} class="{who}">{answer}</{tag}>'
