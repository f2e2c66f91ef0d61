"""Time: shows the archive of any step so far, branches from there, undoes and does again."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any, ClassVar

import panel as pn
import param

from m2n2lab.utils.errors import InputError
from m2n2lab.viz.theme import Theme

from ..html.assets import asset
from ..session.orders import Mailbox
from ..session.snapshot import Snapshot
from ..views.styles import SMALL
from ..views.themed import Themed, host_css

NOW = -1
"""Value of a slider that follows the search."""


class TimeSlider(Themed):
    """A slider over the steps of a search, whose right end is now."""

    _esm = asset("controls/time_slider.js")
    _stylesheets: ClassVar = [asset("controls/time_slider.css")]

    first = param.Integer(default=0, doc="The earliest step.")
    last = param.Integer(default=0, doc="The last step of the search so far.")
    at = param.Integer(default=NOW, doc="The step that is looked at, or NOW.")


class TimeView:
    """The slider, with buttons back to now, for a branch from the step it shows, undo and redo.

    Pages of one browser session show the same step, as they show the same bench.

    Args:
        orders: returns those of the search on the page.
        branch: called with a step from which another run branches; may raise an ``InputError``.
        theme: colours.
    """

    def __init__(
        self, orders: Callable[[], Mailbox], branch: Callable[[int], object], theme: Theme
    ) -> None:
        self._orders = orders
        self._branch = branch
        self._seen = 0  # the step that the page shows
        self._updating = False  # while the page itself sets the slider
        self.slider = TimeSlider.themed(theme, styles={"flex": "1 1 240px"})
        small: dict[str, Any] = {"margin": (0, 3), "disabled": True, "stylesheets": [SMALL]}
        self.now = pn.widgets.Button(name="Now", **small)
        self.branch = pn.widgets.Button(name="Branch from here", **small)
        self.undo = pn.widgets.Button(name="Undo", **small)
        self.redo = pn.widgets.Button(name="Redo", **small)
        colours = f"{host_css(theme)} .said {{ color: var(--parent_b); }}"
        font = {"font": "12px system-ui, sans-serif"}
        self.message = pn.pane.HTML("", margin=(0, 4), stylesheets=[colours], styles=font)
        self.slider.param.watch(lambda event: self._move(event.new), "at")
        self.now.on_click(lambda event: self._orders().view_step(None))
        self.branch.on_click(lambda event: self._branch_from_step())
        self.undo.on_click(lambda event: self._orders().command("undo"))
        self.redo.on_click(lambda event: self._orders().command("redo"))
        self.pane = pn.FlexBox(
            self.slider,
            pn.Row(self.undo, self.redo, margin=0),
            pn.Row(self.now, self.branch, margin=0),
            self.message,
            align_items="center",
            gap="2px 4px",
            margin=0,
            sizing_mode="stretch_width",
        )

    def _move(self, at: int) -> None:
        if not self._updating:
            self._orders().view_step(None if at == NOW else at)

    def _branch_from_step(self) -> None:
        try:
            self._branch(self._seen)
        except InputError as error:
            self.show_message(str(error))

    def show_message(self, text: str) -> None:
        """Show what cannot be done; an empty text shows nothing."""
        self.message.object = f'<div class="said" role="alert">{escape(text)}</div>' if text else ""

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot, and the step that is ordered: the worker may not show it yet."""
        past = self._orders().past
        recorded = snapshot.first is not None and snapshot.phase != "closed"
        self._seen = snapshot.seen.step
        first = snapshot.step if snapshot.first is None else snapshot.first
        self._updating = True
        self.slider.param.update(first=first, last=snapshot.step, at=NOW if past is None else past)
        self._updating = False
        self.now.disabled = past is None
        self.branch.disabled = not recorded
        self.undo.disabled = not snapshot.undo
        self.redo.disabled = not snapshot.redo
        if snapshot.unrecorded_reason:
            self.show_message(snapshot.unrecorded_reason)
