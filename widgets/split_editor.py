"""The draggable split: the flat vector as a strip that shows what the child is made of."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import param
from panel.custom import AnyWidgetComponent

from m2n2lab.bench import BenchData
from m2n2lab.theme import Theme

from .pictures import css_variables

_HERE = Path(__file__)


class SplitEditor(AnyWidgetComponent):
    """A strip of the flat vector with a split that is dragged, or moved by the arrow keys."""

    _esm = _HERE.with_suffix(".js").read_text(encoding="utf-8")
    _stylesheets: ClassVar = [_HERE.with_suffix(".css").read_text(encoding="utf-8")]

    size = param.Integer(default=1, doc="N, length of the flat vector.")
    split = param.Integer(default=0, doc="First index after the split.")
    mix = param.Number(default=0.5, doc="Share of B before the split.")
    borders = param.List(default=[0, 1], doc="First index of each tensor, and N.")
    names = param.List(default=[""], doc="Name of each tensor.")
    rows = param.List(default=[0], doc="Entries of a row of each tensor, 0 where it has none.")

    @classmethod
    def themed(cls, theme: Theme) -> SplitEditor:
        """Return an editor in the colours of a theme."""
        css = [*cls._stylesheets, f".split-editor {{ {css_variables(theme)} }}"]
        return cls(stylesheets=css, sizing_mode="stretch_width", margin=(0, 8))

    def present(self, data: BenchData, split: int, mix: float) -> None:
        """Show another vector, split and mix; what is the same already is not sent."""
        wanted = {
            "size": data.size,
            "borders": list(data.borders),
            "names": list(data.tensors),
            "rows": list(data.rows),
            "split": split,
            "mix": mix,
        }
        changed = {name: value for name, value in wanted.items() if getattr(self, name) != value}
        if changed:
            self.param.update(**changed)
