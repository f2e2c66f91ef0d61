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
            width=122,
            margin=(2, 3),
            stylesheets=[HIDDEN_NAME, SELECT],
        )
        self._orders, self._ordered = orders, ordered
        self.go.on_click(self._toggle)
        for one in (self.go, self.step, self.step_ten):
            one.js_on_click(args={"button": one, "words": PHASES}, code="order(button, words)")
        self.step.on_click(lambda event: orders().step())
        self.step_ten.on_click(lambda event: orders().step(10))
        self.sure = pn.widgets.Button(
            name="Reset", button_type="danger", **{**close, "visible": False, "disabled": False}
        )
        self._restart = reset
        self._unrecorded = 0  # steps that Reset would lose
        self._asked_for = 0  # of these, what was asked about already
        self.reset.on_click(lambda event: self._ask_or_reset())
        self.sure.on_click(lambda event: self._reset())
        self.undo.on_click(lambda event: undo())
        self.pace.param.watch(lambda event: orders().pace(event.new), "value")
        self.pane = pn.Row(
            self.go,
            self.step,
            self.step_ten,
            self.reset,
            self.sure,
            self.undo,
            margin=0,
            styles={"flex-wrap": "wrap"},
        )

    def _toggle(self, event: object) -> None:
        self._orders().toggle()
        self._ordered()

    def _ask_or_reset(self) -> None:
        """Reset or, once for the steps so far, ask before steps are lost that nothing records."""
        if self.sure.visible:  # it is the answer no
            self._ask(False)
        elif self._unrecorded > self._asked_for:
            self._asked_for = self._unrecorded
            self._ask(True)
        else:
            self._reset()

    def _ask(self, on: bool) -> None:
        """Show the question, or no longer."""
        self.sure.param.update(visible=on, name=f"Reset {self._unrecorded:,} unrecorded steps")
        self.reset.param.update(name="Keep" if on else "Reset")

    def _reset(self) -> None:
        self._ask(False)
        self._asked_for = 0
        self._restart()

    def update(self, snapshot: Snapshot, run: Run, replaced: Run | None) -> None:
        """Enable what can be done with the search, and with the run that it has replaced."""
        self._unrecorded = run.unrecorded
        lost = 0 if replaced is None else replaced.session.snapshot.step
        self.undo.param.update(
            visible=lost > 0, disabled=False, description=f"Back to step {lost:,}"
        )
        ready = snapshot.niches is not None and snapshot.phase != "closed"
        name = "Pause" if snapshot.phase == "running" else "Run"
        self.go.param.update(name=name, disabled=not ready)
        self.step.disabled = self.step_ten.disabled = not ready
        self.reset.disabled = snapshot.phase == "closed"
