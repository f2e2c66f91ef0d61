"""Server log: a filter for reports of what is no fault."""

from __future__ import annotations

import logging
import traceback

BOKEH_CONNECTION = ("bokeh/server/connection.py", "session")
"""File and function where Bokeh asks for a session that its connection has given up already."""


class LostTwice(logging.Filter):
    """A filter for the traceback of a page whose loss Bokeh notices twice.

    Bokeh's keep-alive gives up a connection whose ping finds the socket closed. If a last message
    or the end of the socket is reported right after, that connection is asked for its session once
    more and fails. Nothing is wrong: the page is gone, and so is its session. The traceback would
    read as if the search had been lost.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be printed."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, AssertionError):
            return True
        last = traceback.extract_tb(error.__traceback__)[-1]
        path, name = BOKEH_CONNECTION
        return not (last.filename.replace("\\", "/").endswith(path) and last.name == name)


_lost_twice = LostTwice()


def keep_quiet() -> None:
    """Add the filter to the server's loggers; calling it again changes nothing."""
    for name in ("tornado.application", "bokeh.server.protocol_handler"):
        logging.getLogger(name).addFilter(_lost_twice)
