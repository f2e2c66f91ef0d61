"""Backpressure: the next plots wait until the browser has taken in the last ones."""

from __future__ import annotations

import time
from collections.abc import Callable

import panel as pn

ANSWER_TIMEOUT_SECONDS = 10.0
"""Time after which a browser that has not answered is sent the next plots all the same."""


class Backpressure:
    """Messages that the browser answers once it has taken in what was sent before them.

    A socket takes whatever it is given. Without answers, a browser that is slower than the search,
    such as one of many on a small machine, would fall further and further behind, and the server
    would hold what is still to be sent.

    Args:
        answered: called when the browser has answered.

    Attributes:
        pane: to be placed on the page; it shows nothing.
    """

    def __init__(self, answered: Callable[[], object] = lambda: None) -> None:
        self._sent = pn.widgets.IntInput(visible=False)
        self._answer = pn.widgets.IntInput(name="answered", visible=False)
        self._sent.jscallback(value="answer.value = cb_obj.value", args={"answer": self._answer})
        self._answer.param.watch(lambda event: answered(), "value")
        self._sent_at = 0.0
        self.pane = pn.Row(self._sent, self._answer, visible=False)

    def request_answer(self) -> None:
        """Ask the browser for an answer, after all that has been sent."""
        self._sent_at = time.monotonic()
        self._sent.value = (self._sent.value or 0) + 1

    @property
    def waiting(self) -> bool:
        """Whether the browser has still to answer, and has time to."""
        unanswered = self._answer.value != self._sent.value
        return unanswered and time.monotonic() - self._sent_at < ANSWER_TIMEOUT_SECONDS
