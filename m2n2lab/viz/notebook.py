"""Plots in a notebook without the internet: whatever they need lies in the notebook itself."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import panel
from bokeh.models.ui import UIElement
from panel.io.notebook import patch_inline_stylesheets
from panel.viewable import Viewable


def load() -> None:
    """Load HoloViews; in a notebook with its scripts, and with Panel's style sheets in each plot.

    HoloViews shows plots through Panel, which fetches its style sheets from elsewhere even where
    it is told to have everything inline.
    """
    hv.extension("bokeh", inline=True, logo=False)
    if _stay_here not in Viewable._preprocessing_hooks:
        Viewable._preprocessing_hooks.append(_stay_here)


def _stay_here(viewable: Any, root: Any) -> None:
    """Put the style sheets of what is shown in a notebook into it."""
    if panel.state.curdoc is None:  # a served page has a document, and a server that brings them
        for model in root.select({"type": UIElement}):
            patch_inline_stylesheets(model)
