"""Whether a browser keeps up with what it is sent."""

from __future__ import annotations

import time

import panel as pn

PATIENCE = 10.0
"""Seconds after which a browser that has not answered is sent the next plots all the same."""


class Pulse:
    """Beats that the browser answers once it has taken in what was sent before them.

    A socket takes whatever it is given. Without answers a browser that is slower than the search,
    as one of many on a small machine is, would be ever further behind what it shows, and the
    server would hold what waits for it.

    Attributes:
        pane: to be placed on the page; it shows nothing.
    """

    def __init__(self) -> None:
        self._beat = pn.widgets.IntInput(visible=False)
        self._answer = pn.widgets.IntInput(visible=False)
        self._beat.jscallback(value="answer.value = cb_obj.value", args={"answer": self._answer})
        self._beaten = 0.0
        self.pane = pn.Row(self._beat, self._answer, visible=False)

    def beat(self) -> None:
        """Ask the browser for an answer, after all that has been sent."""
        self._beaten = time.monotonic()
        self._beat.value = (self._beat.value or 0) + 1

    @property
    def waiting(self) -> bool:
        """Whether the browser has still to answer, and has time to."""
        unanswered = self._answer.value != self._beat.value
        return unanswered and time.monotonic() - self._beaten < PATIENCE
