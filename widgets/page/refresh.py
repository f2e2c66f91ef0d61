"""Refresh scheduler: any thread may ask for a page to be refreshed soon, on its own event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tornado.ioloop import IOLoop

if TYPE_CHECKING:
    from bokeh.document import Document


REST_SECONDS = 0.05
"""Least time between two refreshes: a page whose clicks come faster would take all of the time."""


class RefreshScheduler:
    """Schedules refreshes of a page, with its document locked; may be called in any thread.

    A search's thread must not even ask a document for a callback: Bokeh keeps the current document
    for all threads together. If a document is changed while another page is shown, parts of the
    change are sent by another connection; what is sent later may arrive before them and is then
    overwritten.

    Args:
        document: the page's. The scheduler is made in the thread that serves it.
        refresh: called once for all requests made since its last call.
    """

    def __init__(self, document: Document, refresh: Callable[[], object]) -> None:
        self._document: Document | None = document
        self._refresh = refresh
        self._requested = False
        self._rest_until = 0.0
        self._loop = IOLoop.current()

    def request(self) -> None:
        """Ask for a refresh; returns at once."""
        if not self._requested:  # one at a time, or clicks would queue behind them
            self._requested = True
            self._loop.add_callback(self._schedule)

    def stop(self) -> None:
        """Do nothing any more: the page is gone."""
        self._document = None

    def _schedule(self) -> None:
        left = self._rest_until - self._loop.time()
        if left > 0:
            self._loop.call_later(left, self._schedule)
        elif self._document is not None:
            self._document.add_next_tick_callback(self._run)

    def _run(self) -> None:
        self._requested = False
        self._refresh()
        self._rest_until = self._loop.time() + REST_SECONDS
