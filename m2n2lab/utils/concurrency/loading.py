"""Loading of models: one thread at a time, with reports of what is being loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[str], object]

_LOCK = threading.RLock()
_REPORT: ContextVar[Report | None] = ContextVar("report", default=None)


@contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Call ``report`` with a few words whenever this thread begins to load something."""
    token = _REPORT.set(report)
    try:
        yield
    finally:
        _REPORT.reset(token)


def report_loading(what: str) -> None:
    """Report what is being loaded, if this thread has somebody to report to."""
    report = _REPORT.get()
    if report is not None:
        report(what)


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Load something while no other thread does.

    Loading is not safe for threads in the libraries that do it: transformers makes models on a
    device without memory that it sets for the whole process, and the lazy modules of transformers
    and diffusers lack names while another thread imports them.

    Args:
        what: is loaded, in a few words.
    """
    if not _LOCK.acquire(blocking=False):
        report_loading(f"{what}, once another page has loaded its own")
        _LOCK.acquire()
    try:
        report_loading(what)
        yield
    finally:
        _LOCK.release()
