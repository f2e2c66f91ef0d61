"""Split editor: the split on a map of the flat vector; and the mix slider."""

from __future__ import annotations

import math
from typing import ClassVar

import param

from m2n2lab.analysis.merge_preview import BenchData
from m2n2lab.viz.theme import Theme

from ..html.assets import asset
from ..html.names import short_names
from ..html.pictures import painting_uri, shares_label
from ..views.themed import Themed


class SplitEditor(Themed):
    """A strip of the flat vector with a split that is dragged, or moved by the arrow keys.

    Above it, on the same scale, the seeds' shares in either parent.
    """

    _esm = asset("bench/split_editor.js")
    _stylesheets: ClassVar = [asset("bench/split_editor.css")]

    size = param.Integer(default=1, doc="N, length of the flat vector.")
    split = param.Integer(default=0, doc="First index after the split.")
    mix = param.Number(default=0.5, doc="Share of B before the split.")
    borders = param.List(default=[0, 1], doc="First index of each tensor, and N.")
    names = param.List(default=[""], doc="Name of each tensor.")
    rows = param.List(default=[0], doc="Entries of a row of each tensor, 0 if it has none.")

    beside = param.List(default=[], doc="What the split does not move: first index, end, reason.")
    made = param.List(default=[], doc="Paintings of A and B: dicts of a data URI and words.")

    def present(self, data: BenchData, theme: Theme) -> None:
        """Show another vector and other parents; equal values are not sent again."""
        values = {
            "size": data.size,
            "borders": list(data.borders),
            "names": list(short_names(data.tensors)),
            "rows": list(data.rows),
            "beside": [list(part) for part in data.beside],
            "made": [
                {
                    "uri": painting_uri(painting, theme),
                    "words": f"{name}: {shares_label(painting, data.seeds)}",
                }
                for name, painting in zip("AB", data.paintings, strict=False)
            ],
        }
        changed = {name: value for name, value in values.items() if getattr(self, name) != value}
        if changed:
            self.param.update(**changed)


class MixSlider(Themed):
    """The share of B before the split, and the angle between the parents."""

    _esm = asset("bench/mix_slider.js")
    _stylesheets: ClassVar = [asset("bench/mix_slider.css")]

    value = param.Number(default=0.5, bounds=(0.0, 1.0), doc="The mix.")
    angle = param.Number(default=math.nan, doc="Angle in degrees; NaN if there is no pair.")
    disabled = param.Boolean(default=True, doc="Whether it cannot be moved.")
