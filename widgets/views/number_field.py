"""Number field: a whole number that is typed, or counted by the arrow keys."""

from __future__ import annotations

from typing import ClassVar

import param

from ..html.assets import asset
from .themed import Themed

NO_LAST = -1
"""``last`` of a field without a largest number."""


class NumberField(Themed):
    """A field that says what it refuses, and always shows the number that is used."""

    _esm = asset("views/number_field.js")
    _stylesheets: ClassVar = [asset("views/number_field.css")]

    label = param.String(default="", doc="Its name.")
    value = param.Integer(default=0, doc="The number that is used.")
    last = param.Integer(default=NO_LAST, doc="The largest one, if there is one.")
    disabled = param.Boolean(default=True, doc="Whether nothing can be typed.")
