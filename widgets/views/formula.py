"""Formula view: the equations of the pair on the bench, with their numbers."""

from __future__ import annotations

from collections.abc import Callable

import panel as pn

from m2n2lab.viz.theme import Theme

from ..controls.number_field import NumberField
from ..html.formulas import FORMULAS_CSS, PARTS, formulas_html
from ..session.snapshot import Snapshot
from ..session.workbench import FormulaRequest
from .themed import host_css


class FormulaView:
    """Equations with their numbers, in a dialog that the page's script opens.

    Args:
        theme: colours.
        request: called with what is to be computed; ``None`` while the dialog is closed.

    Attributes:
        pane: to be placed in the dialog.
        opened: which of ``PARTS`` it was opened for; empty while it is closed. Set by the page's
            script, which finds this widget by its name.
    """

    def __init__(self, theme: Theme, request: Callable[[FormulaRequest | None], object]) -> None:
        self._request = request
        self._updating = False  # while the view itself sets the fields
        self._shown: tuple[object, ...] = ()
        looks = {"width": 110, "margin": (0, 3), "disabled": False}
        self.weight = NumberField.themed(theme, label="Weight", **looks)
        self.point = NumberField.themed(theme, label="Data point", **looks)
        self.opened = pn.widgets.TextInput(name="formula_opened", visible=False)
        self._html = pn.pane.HTML(
            "", stylesheets=[FORMULAS_CSS, host_css(theme)], sizing_mode="stretch_width", margin=0
        )
        self.pane = pn.Column(
            pn.FlexBox(self.weight, self.point, margin=0),
            self._html,
            sizing_mode="stretch_width",
            margin=0,
        )
        self._wanted = FormulaRequest()
        self.weight.param.watch(lambda event: self._choose(weight=event.new), "value")
        self.point.param.watch(lambda event: self._choose(point=event.new), "value")
        self.opened.param.watch(lambda event: self._open(event.new), "value")

    def request(self) -> None:
        """Ask for what the dialog shows, or for nothing while it is closed."""
        self._request(self._wanted if self.opened.value else None)

    def _open(self, part: str) -> None:
        """Follow the dialog: a part, with the data point after a colon if one was chosen."""
        _, _, point = part.partition(":")
        self._wanted = FormulaRequest(point=int(point) if point.isdecimal() else None)
        self._shown = ()
        self.request()

    def _choose(self, **fields: int) -> None:
        if self._updating:
            return
        wanted = {"weight": self.weight.value, "point": self.point.value, **fields}
        self._wanted = FormulaRequest(**wanted)
        self.request()

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data, part = snapshot.formula, self.opened.value.partition(":")[0]
        if not part or self._shown == (data, part):
            return
        self._shown = data, part
        if data is None:
            self._html.object = '<div class="formulas">There is no pair on the bench.</div>'
            return
        self._updating = True
        self.weight.last, self.point.last = data.size - 1, data.points - 1
        self.weight.value, self.point.value = data.weight.index, data.point.point
        self._updating = False
        self._html.object = formulas_html(data, part if part in PARTS else "weight")
