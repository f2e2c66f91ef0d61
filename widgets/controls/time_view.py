"""The time slider: the archive of any step so far, and another way from there."""

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
"""Where the slider stands that follows the search."""


class TimeSlider(Themed):
    """A slider over the steps of a search, whose right end is now."""

    _esm = asset("controls/time_slider.js")
    _stylesheets: ClassVar = [asset("controls/time_slider.css")]

    first = param.Integer(default=0, doc="The earliest step.")
    last = param.Integer(default=0, doc="The step that the search has come to.")
    at = param.Integer(default=NOW, doc="The step that is looked at, or NOW.")


class TimeView:
    """The slider, a way back to now, and a branch from where it stands.

    Pages of one browser session show the same step, as they show the same bench.

    Args:
        orders: returns those of the search on the page.
        branch: called with a step to go on from in a run beside; may raise an ``InputError``.
        theme: colours.
    """

    def __init__(
        self, orders: Callable[[], Mailbox], branch: Callable[[int], object], theme: Theme
    ) -> None:
        self._orders = orders
        self._branch = branch
        self._seen = 0  # the step that the page shows
        self._quiet = False  # while the slider is set by the page itself
        self.slider = TimeSlider.themed(theme, styles={"flex": "1 1 240px"})
        small: dict[str, Any] = {"margin": (0, 3), "disabled": True, "stylesheets": [SMALL]}
        self.now = pn.widgets.Button(name="Now", **small)
        self.branch = pn.widgets.Button(name="Branch from here", **small)
        colours = f"{host_css(theme)} .said {{ color: var(--parent_b); }}"
        font = {"font": "12px system-ui, sans-serif"}
        self.said = pn.pane.HTML("", margin=(0, 4), stylesheets=[colours], styles=font)
        self.slider.param.watch(lambda event: self._move(event.new), "at")
        self.now.on_click(lambda event: self._orders().view_step(None))
        self.branch.on_click(lambda event: self._go_another_way())
        self.pane = pn.FlexBox(
            self.slider,
            self.now,
            self.branch,
            self.said,
            align_items="center",
            gap="2px 4px",
            margin=0,
            sizing_mode="stretch_width",
        )

    def _move(self, at: int) -> None:
        if not self._quiet:
            self._orders().view_step(None if at == NOW else at)

    def _go_another_way(self) -> None:
        try:
            self._branch(self._seen)
        except InputError as error:
            self.say(str(error))

    def say(self, words: str) -> None:
        """Say what cannot be done."""
        self.said.object = f'<div class="said" role="alert">{escape(words)}</div>' if words else ""

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot, and where the page wants to be: the worker may not be there yet."""
        past = self._orders().past
        known = snapshot.first is not None and snapshot.phase != "closed"
        self._seen = snapshot.seen.step
        first = snapshot.step if snapshot.first is None else snapshot.first
        self._quiet = True
        self.slider.param.update(first=first, last=snapshot.step, at=NOW if past is None else past)
        self._quiet = False
        self.now.disabled = past is None
        self.branch.disabled = not known
        if snapshot.unrecorded_reason:
            self.say(snapshot.unrecorded_reason)
