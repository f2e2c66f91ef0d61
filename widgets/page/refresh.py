"""Having a page look again, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tornado.ioloop import IOLoop

if TYPE_CHECKING:
    from bokeh.document import Document


class Wake:
    """Has a page do something soon, with its document locked; may be called in any thread.

    A search's thread must not even ask a document for it: which document is the current one Bokeh
    keeps for all threads together. Changed while another page shows something, part of that is
    sent by another way, and what is sent after it may come before it and stay.

    Args:
        document: the page's. It is made in the thread that serves it.
        woken: what is done; once for all calls that come before it.
    """

    def __init__(self, document: Document, woken: Callable[[], object]) -> None:
        self._document: Document | None = document
        self._woken = woken
        self._asked = False
        self._loop = IOLoop.current()

    def __call__(self) -> None:
        """Ask for it; returns at once."""
        if not self._asked:  # one at a time, or clicks would queue behind them
            self._asked = True
            self._loop.add_callback(self._schedule)

    def end(self) -> None:
        """Do nothing any more: the page is gone."""
        self._document = None

    def _schedule(self) -> None:
        if self._document is not None:
            self._document.add_next_tick_callback(self._wake)

    def _wake(self) -> None:
        self._asked = False
        self._woken()
