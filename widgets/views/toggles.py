"""Toggles: a row of buttons of which one is pressed."""

from __future__ import annotations

from typing import ClassVar

import param

from ..html.assets import asset
from .themed import Themed


class Toggles(Themed):
    """A choice of one among a few, each a button that says whether it is pressed."""

    _esm = asset("views/toggles.js")
    _stylesheets: ClassVar = [asset("views/toggles.css")]

    label = param.String(default="", doc="What is chosen; spoken, not shown.")
    options = param.List(default=[], doc="The texts of the buttons.")
    value = param.String(default="", doc="The one that is pressed.")
