"""What the server's log need not say."""

from __future__ import annotations

import logging
import traceback

BOKEH_CONNECTION = ("bokeh/server/connection.py", "session")
"""Where Bokeh asks for a session that the connection has given up already."""


class LostTwice(logging.Filter):
    """Keeps quiet about a page whose loss Bokeh notices twice.

    Bokeh's keep-alive gives up a connection whose ping finds the socket closed; when a last message
    or the socket's own end is told right after, that connection is asked for its session once more
    and fails. Nothing is wrong: the page has gone, and its session was let go. A traceback would be
    printed all the same, which reads as if the search had been lost.
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
    """Have the log leave out what is no fault; any number of times is as good as once."""
    for name in ("tornado.application", "bokeh.server.protocol_handler"):
        logging.getLogger(name).addFilter(_lost_twice)
