"""Transport: buttons that run, pause, step and reset the search on the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn

from m2n2lab.viz.theme import Theme

from ..html.figures import PHASES
from ..runs.runs import Run
from ..session.orders import PACES, Mailbox
from ..session.snapshot import Snapshot
from ..views.styles import FOCUS, HIDDEN_NAME, SELECT, primary


class TransportView:
    """Buttons that run, pause, step and reset, and the pace.

    Args:
        orders: returns those of the search on the page.
        reset: called to start the same search again.
        undo: called to have back the run that was on the page before.
        ordered: called when an order was given, to show it before the worker follows it.
        theme: colours.
    """

    def __init__(
        self,
        orders: Callable[[], Mailbox],
        reset: Callable[[], None],
        undo: Callable[[], None],
        ordered: Callable[[], object],
        theme: Theme,
    ) -> None:
        close: dict[str, Any] = {"margin": (2, 3), "disabled": True}
        self.go = pn.widgets.Button(
            name="Run", button_type="primary", width=64, stylesheets=[primary(theme)], **close
        )
        close["stylesheets"] = [FOCUS]
        self.step = pn.widgets.Button(name="Step", width=52, **close)
        self.step_ten = pn.widgets.Button(name="×10", width=46, **close)
        self.reset = pn.widgets.Button(name="Reset", width=58, **close)
        self.undo = pn.widgets.Button(name="Undo reset", width=92, **{**close, "visible": False})
        self.pace = pn.widgets.Select(
            name="Pace",
            options=list(PACES),
            width=108,
            margin=(2, 3),
            stylesheets=[HIDDEN_NAME, SELECT],
        )
        self._orders, self._ordered = orders, ordered
        self.go.on_click(self._toggle)
        for one in (self.go, self.step, self.step_ten):
            one.js_on_click(args={"button": one, "words": PHASES}, code="order(button, words)")
        self.step.on_click(lambda event: orders().step())
        self.step_ten.on_click(lambda event: orders().step(10))
        self.reset.on_click(lambda event: reset())
        self.undo.on_click(lambda event: undo())
        self.pace.param.watch(lambda event: orders().pace(event.new), "value")
        self.pane = pn.Row(
            self.go,
            self.step,
            self.step_ten,
            self.reset,
            self.undo,
            margin=0,
            styles={"flex-wrap": "wrap"},
        )

    def _toggle(self, event: object) -> None:
        self._orders().toggle()
        self._ordered()

    def update(self, snapshot: Snapshot, replaced: Run | None) -> None:
        """Enable what can be done with the search, and with the run that it has replaced."""
        lost = 0 if replaced is None else replaced.session.snapshot.step
        self.undo.param.update(
            visible=lost > 0, disabled=False, description=f"Back to step {lost:,}"
        )
        ready = snapshot.niches is not None and snapshot.phase != "closed"
        name = "Pause" if snapshot.phase == "running" else "Run"
        self.go.param.update(name=name, disabled=not ready)
        self.step.disabled = self.step_ten.disabled = not ready
        self.reset.disabled = snapshot.phase == "closed"
