"""Signals that end a program; loads nothing else, so that they can be taken care of at once."""

from __future__ import annotations

import signal

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C, ``kill``, and a terminal that is closed."""
