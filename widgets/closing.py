"""Ending the searches that still run when Python ends."""

from __future__ import annotations

import atexit
import time
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from .session import Session

STARTED: WeakSet[Session] = WeakSet()
"""All searches whose worker was started."""


def started(session: Session) -> None:
    """Note a search that will have to be ended."""
    STARTED.add(session)


@atexit.register
def close_all(patience: float = 5.0) -> bool:
    """End every search, since one that still steps when Python ends would abort the process.

    Args:
        patience: most seconds to wait for the steps that are under way.

    Returns:
        Whether all have ended.
    """
    for session in STARTED:
        session.close()
    until = time.monotonic() + patience
    return all(session.join(max(until - time.monotonic(), 0.0)) for session in STARTED)
