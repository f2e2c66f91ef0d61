"""Cells of maps that are picked in the page's script, ``cells.js``, which moves the frames."""

from __future__ import annotations

import json
import math

import panel as pn

from .live_plot import LivePlot


class Cells:
    """Passes a cell that was picked in the browser to its map.

    Args:
        maps: whose cells can be picked.

    Attributes:
        pane: to be placed on the page as ``cell``, where the script finds it; it shows nothing.
    """

    def __init__(self, *maps: LivePlot) -> None:
        self._maps = {type(found).__name__: found for found in maps}
        self.pane = pn.widgets.TextInput(name="cell", visible=False)
        self.pane.param.watch(lambda event: self._pick(event.new), "value")

    def _pick(self, picked: str) -> None:
        """Pass on the name of a map and what was picked, as JSON; anything else is ignored."""
        try:
            name, x, y, _ = json.loads(picked)
            x, y = float(x), float(y)
        except (TypeError, ValueError):
            return
        found = self._maps.get(name) if isinstance(name, str) else None
        if found is not None and math.isfinite(x) and math.isfinite(y):
            found.picked(x, y)
