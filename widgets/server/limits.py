"""Limits: what one page may ask of a server that others use too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from m2n2lab.utils.errors import InputError

MAX_PAGES = 128
"""Pages that a server holds, each with some megabytes."""

MAX_QUEUE = 64
"""Pages that wait to be made; each takes half a second."""

PAUSE_SHARE = 0.3
"""Time between two pages that are made, as a share of what the last one took: in it clicks on other
pages are answered."""

SOCKETS_PER_SECOND, SOCKETS_AT_ONCE = 20.0, 20.0
"""Websockets that are opened in the long run, and after a rest; each takes some milliseconds."""

ORDERS_PER_SECOND = 80.0
"""Messages of one page that are read in a second; a person who drags a slider gives up to 60."""

ORDERS_AT_ONCE = 80.0
"""Messages of one page that are read at once after a rest."""

MAX_MESSAGE_BYTES = 1_000_000
"""Size of a message from a page: a click has some hundred bytes."""

MAX_BODY_BYTES = 65_536
"""Size of the body of a request: only the form for a password has one."""

IDLE_SECONDS = 120
"""Time after which a connection without a request is closed."""


class Turnstile:
    """Makes pages one at a time, and not too many.

    Making one keeps the server busy for half a second. In between it answers other pages.

    Args:
        held: returns the number of pages that the server holds.
    """

    def __init__(self, held: Callable[[], int]) -> None:
        self._held = held
        self._waiting = 0
        self._rest_until = 0.0
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn to make a page.

        Raises:
            InputError: there are too many pages, or too many wait already.
        """
        if self._held() + self._waiting >= MAX_PAGES:
            raise InputError(
                f"This server holds at most {MAX_PAGES} pages, and all are taken; close pages that "
                f"nobody looks at, and load this one again in a minute."
            )
        if self._waiting >= MAX_QUEUE:
            raise InputError(
                f"{self._waiting} pages wait to be opened before this one; load it again in a "
                f"minute."
            )
        self._waiting += 1
        try:
            async with self._lock:
                await asyncio.sleep(max(self._rest_until - time.monotonic(), 0.0))
                began = time.monotonic()
                try:
                    yield
                finally:
                    now = time.monotonic()
                    self._rest_until = now + PAUSE_SHARE * (now - began)
        finally:
            self._waiting -= 1
