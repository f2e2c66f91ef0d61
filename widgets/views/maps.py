"""Map views: niches, attraction, curves and figures, each with a ``pane`` and an ``update``."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
import panel as pn
from bokeh.models.annotations import Span

from m2n2lab.analysis.lineage import called
from m2n2lab.analysis.maps import NICHE_MODES, AttractionData, cluster_order, niches_geometry
from m2n2lab.viz.draw_maps import (
    attraction_tooltip,
    cell_boxes,
    curves_end,
    draw_attraction,
    draw_curves,
    draw_niches,
    mate_ticks,
    member_ticks,
    name_ticks,
    niche_tooltip,
    row_boxes,
    start_columns,
)
from m2n2lab.viz.theme import Theme

from ..html.figures import FIGURES_CSS, figures_html
from ..session.snapshot import Snapshot
from ..session.workbench import Choice
from .live_plot import LivePlot
from .toggles import Toggles


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
            return draw_niches(data, snapshot.size, self.theme, self.mode, self.hooks, pair)

        if self.fresh(draw, data, self.mode):
            around = niches_geometry(data, snapshot.size)
            values = getattr(data, NICHE_MODES[self.mode])
            tooltips = niche_tooltip(data, self.mode)
            self.image(values, tooltips, around.width, around.height)
            x, top, base = around.crowd.values()
            # HoloViews makes a polygon of an area; its lower edge needs no more than two corners.
            self.fill("Area", x=np.append(x, x[[-1, 0]]), y=np.append(top, base[:2]))
            x0, y0, x1, y1 = around.bars.values()
            self.fill("Rectangles", left=x0, bottom=y0, right=x1, top=y1)
            self.fill("Labels", y=around.notes["y"])
        framed, self._framed = self._framed, (data.ids, pair)
        if self.handles and framed != self._framed:
            self.frame(row_boxes(data.ids, float(len(data.points)), pair, self.theme))
            name_ticks(
                self.handles["Image"]["plot"].yaxis[0],
                member_ticks(data.ids, pair, seeds=data.seeds),
            )


ORDERS = ("by fitness", "clustered")
"""Orders of the rows and columns of the attraction matrix."""


class AttractionView(LivePlot):
    """Who should meet whom: A × B; a click picks the pair.

    The browser sends ids, not places: a running search may have put other members into the cell
    before Python gets the click. The browser moves the frames itself, at once.

    Args:
        theme: colours.
        pick: called with the ids of A and B of the cell that was picked.
        choice: returns the last choice, which the bench may not show yet.
    """

    def __init__(
        self,
        theme: Theme,
        pick: Callable[[int, int], object],
        choice: Callable[[], Choice] = Choice,
    ) -> None:
        super().__init__(theme)
        self._pick, self._choice = pick, choice
        self._moved = False  # whether the browser has moved the frames since they were sent
        self._framed: tuple[object, ...] = ()
        self._snapshot = Snapshot()
        self._clustered: tuple[AttractionData, AttractionData] | None = None  # before and after
        self.order = Toggles.themed(
            theme, label="Members in order", options=list(ORDERS), value=ORDERS[0]
        )
        self.order.param.watch(lambda event: self._reorder(), "value")
        self.sentence = pn.pane.HTML("", margin=0, styles={"font": "12px system-ui, sans-serif"})

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        self._snapshot = snapshot
        data, pair = self._ordered(snapshot), self._wanted(snapshot)
        if data is None:
            return

        def draw() -> Any:
            return draw_attraction(data, self.theme, self.hooks, pair)

        if self.fresh(draw, data):
            self.image(data.worth, attraction_tooltip(data), *data.worth.shape)
        moved, self._moved = self._moved, False
        framed, self._framed = self._framed, (data, pair)
        # By identity: the data holds arrays.
        if moved or not framed or framed[0] is not data or framed[1] != pair:
            if self.handles:
                self.frame(cell_boxes(data.ids, pair, self.theme), moved)
                figure = self.handles["Image"]["plot"]
                name_ticks(figure.yaxis[0], member_ticks(data.ids, pair, "A", data.seeds))
                name_ticks(figure.xaxis[0], mate_ticks(data.ids, pair, data.seeds))
            self.sentence.object = self._sentence(data, pair)

    def clear(self) -> None:
        """Show neither cells nor a sentence about one."""
        super().clear()
        self._framed, self._snapshot, self.sentence.object = (), Snapshot(), ""

    def _wanted(self, snapshot: Snapshot) -> tuple[int, ...] | None:
        """Return the ids of the pair that was chosen or, without a choice, is on the bench."""
        choice, pair = self._choice(), _pair(snapshot)
        if pair is None or choice.a is None or choice.b is None:
            return pair
        return choice.a, choice.b

    def _reorder(self) -> None:
        with pn.io.hold():  # a choice may be handled without the document's lock
            self.update(self._snapshot)

    def _ordered(self, snapshot: Snapshot) -> AttractionData | None:
        """Return the matrix in the chosen order; the same object as long as nothing changes."""
        data = snapshot.attraction
        if data is None or snapshot.niches is None or self.order.value == ORDERS[0]:
            return data
        if self._clustered is None or self._clustered[0] is not data:
            # The rows of both are by fitness.
            self._clustered = data, data.ordered(cluster_order(snapshot.niches.scores))
        return self._clustered[1]

    def picked(self, x: float, y: float) -> None:
        """Pick the pair with the ids ``x`` and ``y``."""
        self._moved = True
        self._pick(int(x), int(y))

    def _sentence(self, data: AttractionData, pair: tuple[int, ...] | None) -> str:
        """Return a sentence about the cell of the pair."""
        if pair is None or pair[0] not in data.ids or pair[1] not in data.ids:
            return ""
        worth = data.worth[data.ids.index(pair[0]), data.ids.index(pair[1])]
        a, b = (
            f'<b style="color:{colour}">{escape(called(id, data.seeds))}</b>'
            for id, colour in zip(pair, (self.theme.parent_a, self.theme.parent_b), strict=True)
        )
        if np.isnan(worth):
            return f"{a} meets itself."
        return (
            f'{b} solves what {a} gets wrong, worth <b data-testid="attracted">{worth:.1f}</b> '
            f"points of reward, shared among all who solve them"
        )


class CurvesView(LivePlot):
    """Coverage, entropy and the best member's accuracy over the steps; a line marks a past step."""

    _mark: Span | None = None

    def hook(self, plot: Any, element: Any) -> None:
        """Keep the Bokeh objects, and add the line for a past step."""
        super().hook(plot, element)
        if element.label == "start":
            self._mark = Span(dimension="height", line_color=self.theme.text, visible=False)
            plot.state.add_layout(self._mark)

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        if self._mark is not None:
            past = snapshot.past
            self._mark.update(location=past and past.step, visible=past is not None)
        data = snapshot.curves
        if data is None:
            return

        def draw() -> Any:
            return draw_curves(data, self.theme, self.hooks)

        if self.fresh(draw, data):
            lines = data.lines()
            self.fill(next(iter(lines)), step=data.step, **lines)  # they share one source
            for name, columns in start_columns(data, self.theme).items():
                self.fill(name, **columns)
            self.handles["start"]["plot"].x_range.end = curves_end(data)


class FiguresView:
    """Step, state and speed, accuracy, coverage and acceptance; and why a search stopped."""

    def __init__(self) -> None:
        self.pane = pn.pane.HTML("", stylesheets=[FIGURES_CSS], margin=0)

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        self.pane.object = figures_html(snapshot)
