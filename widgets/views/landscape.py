"""Landscape view: the child's score over split and mix, for the pair on the bench."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from m2n2lab.analysis.landscape import LandscapeData
from m2n2lab.viz.draw_landscape import (
    best_cell,
    draw_landscape,
    landscape_limits,
    landscape_tooltip,
)
from m2n2lab.viz.theme import Theme

from ..session.snapshot import Snapshot
from .live_plot import LivePlot


class LandscapeView(LivePlot):
    """Score over split × mix, filled in from coarse to fine; a click loads a cell.

    Args:
        theme: colours.
        load: called with the split and the mix of the cell that was picked.
    """

    def __init__(self, theme: Theme, load: Callable[[int, float], object]) -> None:
        super().__init__(theme)
        self._load = load
        self._data: LandscapeData | None = None

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data, bench = snapshot.landscape, snapshot.bench
        if data is None or bench is None or not (data.done or self.handles):
            return
        self._data = data
        split, mix = bench.proposal.split or 0, bench.proposal.mix or 0.0
        at = split / max(bench.size, 1), mix

        def draw() -> Any:
            return draw_landscape(data, at, self.theme, self.hooks)

        if self.fresh(draw, data, bench):
            # Bokeh's first row is the lowest, as is the first mix.
            scores = (100 * data.scores).astype(np.float32)
            self.fill("Image", image=[scores], **landscape_tooltip(data))
            low, high = landscape_limits(data)
            self.handles["Image"]["color_mapper"].update(low=low, high=high)
            self.fill("best", **best_cell(data))
            self.fill("bench", split=[at[0]], mix=[at[1]])

    def picked(self, x: float, y: float) -> None:
        """Load the cell at a share of the split's range and a mix."""
        if self._data is not None:
            self._load(*self._data.cell(x * int(self._data.splits[-1]), y))
