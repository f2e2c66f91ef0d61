"""Notebook setup: plots work without the internet, with all they need in the notebook itself."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import panel
from bokeh.models.ui import UIElement
from panel.io.notebook import patch_inline_stylesheets
from panel.viewable import Viewable


def load() -> None:
    """Load HoloViews with its scripts inline, and inline Panel's style sheets in each plot.

    HoloViews shows plots through Panel, which loads its style sheets from a server even if it is
    set to have everything inline.
    """
    hv.extension("bokeh", inline=True, logo=False)
    if _inline_stylesheets not in Viewable._preprocessing_hooks:
        Viewable._preprocessing_hooks.append(_inline_stylesheets)


def _inline_stylesheets(viewable: Any, root: Any) -> None:
    """Inline the style sheets of a plot that is shown in a notebook."""
    if panel.state.curdoc is None:  # a served page has a document, and gets them from its server
        for model in root.select({"type": UIElement}):
            patch_inline_stylesheets(model)
