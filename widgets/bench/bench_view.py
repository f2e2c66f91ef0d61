"""Bench view: parents side by side, the split, the mix, and the verdict on their child."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import panel as pn

from m2n2lab.analysis.merge_preview import BenchData
from m2n2lab.viz.theme import Theme

from ..html.bench import BENCH_CSS, note_html, scores_html, verdict_html
from ..session.session import Session
from ..session.snapshot import Snapshot
from ..session.workbench import Choice
from ..views.number_field import NumberField
from ..views.styles import FOCUS
from ..views.themed import host_css
from .split_editor import MixSlider, SplitEditor


class BenchView:
    """What is on the bench, with all controls to change it.

    Args:
        session: returns the session that takes the orders.
        theme: colours.
    """

    def __init__(self, session: Callable[[], Session], theme: Theme) -> None:
        self._session = session
        self._updating = False  # while the page itself sets widgets
        self._shown: tuple[object, ...] = ()
        self._data: BenchData | None = None  # on the page: the session may be further on already
        self._theme = theme
        html: dict[str, Any] = {
            "stylesheets": [BENCH_CSS, host_css(theme)],
            "sizing_mode": "stretch_width",
            "margin": (0, 4),
        }
        self._scores = pn.pane.HTML("", **html)
        self._verdict = pn.pane.HTML("", **html)
        self.a = NumberField.themed(theme, label="Parent A", width=66, margin=(0, 3))
        self.b = NumberField.themed(theme, label="Parent B", width=66, margin=(0, 3))
        self.at = NumberField.themed(theme, label="Split at", width=80, margin=(0, 3))
        self.mix = MixSlider.themed(theme, styles={"flex": "1 1 110px"}, margin=(0, 8))
        self.split = SplitEditor.themed(theme, sizing_mode="stretch_width", margin=(0, 8))
        self.preview = self._button("Preview", 82, theme.text, visible=False)
        self.merge = self._button("Merge", 68, theme.child)
        self.propose = self._button("Search’s next child", 130)
        self.save = self._button("Save", 52)
        self.a.param.watch(lambda event: self._choose(a=event.new), "value")
        self.b.param.watch(lambda event: self._choose(b=event.new), "value")
        self.at.param.watch(lambda event: self._choose(split=event.new), "value")
        self.split.param.watch(lambda event: self._choose(split=event.new), "split")
        self.mix.param.watch(lambda event: self._choose(mix=event.new), "value")
        buttons = {name: getattr(self, name) for name in ("preview", "merge", "propose", "save")}
        for name, button in buttons.items():
            button.on_click(lambda event, name=name: self._command(name))
        self.pane = pn.Column(
            self._scores,
            pn.FlexBox(self.a, self.b, self.at, self.mix, sizing_mode="stretch_width", margin=0),
            self.split,
            # Above the verdict, whose length would move them.
            pn.FlexBox(*buttons.values(), sizing_mode="stretch_width", margin=0, gap="0"),
            self._verdict,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _button(self, name: str, width: int, ink: str = "", **known: Any) -> pn.widgets.Button:
        """Return a button, filled with ``ink`` if given."""
        filled = f"background-color: {ink} !important; color: {self._theme.card} !important;"
        css = [FOCUS, f".bk-btn {{ {filled} }}" if ink else ""]
        return pn.widgets.Button(
            name=name, width=width, margin=(4, 3), disabled=True, stylesheets=css, **known
        )

    def pick(self, a: int, b: int) -> None:
        """Put a pair on the bench."""
        self._choose(a=a, b=b)

    def load(self, split: int, mix: float) -> None:
        """Put a split and a mix on the bench."""
        self._choose(split=split, mix=mix)

    def _command(self, name: str) -> None:
        data = self._data if name in ("merge", "save") else None
        self._session().orders.command(name, data.proposal if data else None)
        if name == "preview":
            self.preview.disabled = True  # until it is made
            self._shown = ()

    def _choose(self, **fields: Any) -> None:
        if self._updating:
            return
        data, orders = self._data, self._session().orders
        if data is not None and orders.choice.a is None and fields.keys() & {"a", "b"}:
            # A change of one parent of a pair keeps the other.
            a, b = data.proposal.parents
            fields = {"a": a, "b": b, **fields}
        orders.choose(**fields)
        if self._session().snapshot.slow:
            self.merge.disabled = True  # before the next snapshot shows it
            self._shown = ()
        with self._without_orders():
            self._set(orders.choice)

    @contextmanager
    def _without_orders(self) -> Iterator[None]:
        """Change widgets without giving orders."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    def _set(self, choice: Choice) -> None:
        """Set the widgets to a choice; they keep what it leaves open."""
        if choice.a is not None:
            self.a.value = choice.a
        if choice.b is not None:
            self.b.value = choice.b
        if choice.split is not None:
            self.split.split = self.at.value = choice.split
        if choice.mix is not None:
            self.split.mix = self.mix.value = choice.mix

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        # The last order counts, not the worker's state: nothing jumps back.
        choice, data = self._session().orders.choice, snapshot.bench
        shown = (
            *(data, choice, snapshot.note, snapshot.stale),
            *(snapshot.slow, snapshot.pending, snapshot.merged, snapshot.phase),
        )
        if shown == self._shown:
            return
        self._shown, self._data = shown, data
        ready = data is not None and snapshot.phase != "closed"
        unshown = snapshot.stale or snapshot.pending or snapshot.merged is not None
        self.merge.disabled = not ready or unshown
        self.save.disabled = not ready or snapshot.pending
        self.propose.disabled = snapshot.niches is None
        self.preview.param.update(visible=snapshot.slow, disabled=not ready)
        if data is None:
            self._scores.object, self._verdict.object = "", note_html(snapshot.note)
            for widget in (self.a, self.b, self.at, self.mix):
                widget.disabled = True
            return
        proposal = data.proposal
        a, b = proposal.parents
        with self._without_orders():
            for widget in (self.a, self.b, self.at, self.mix):
                widget.disabled = not ready
            self.at.last = data.size
            self.mix.angle = math.degrees(data.omega)
            self.split.present(data, self._theme)
            self._set(
                Choice(
                    a if choice.a is None else choice.a,
                    b if choice.b is None else choice.b,
                    proposal.split if choice.split is None else choice.split,
                    proposal.mix if choice.mix is None else choice.mix,
                )
            )
        self._scores.object = scores_html(data, self._theme, snapshot.pending or snapshot.stale)
        self._verdict.object = verdict_html(data, snapshot)
