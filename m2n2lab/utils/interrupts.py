"""A latch for Ctrl-C: the first press sets a flag, so that work can end in an orderly way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Latch:
    """A flag that the first Ctrl-C sets.

    Attributes:
        pressed: whether Ctrl-C was pressed.
    """

    pressed: bool = False


@contextmanager
def interrupt_latch(override: bool = False) -> Iterator[Latch]:
    """Catch the first Ctrl-C during the ``with`` block; a second one raises ``KeyboardInterrupt``.

    The previous handler is restored at the end. Outside the main thread Python allows no handler,
    and the flag is never set.

    A process that ignores Ctrl-C, as shells have those do that run in the background, goes on so.

    Args:
        override: replace any handler. By default only Python's own is replaced: others, such as
            that of an outer latch, stay as they are.
    """
    latch = Latch()
    before = signal.getsignal(signal.SIGINT)
    if override:
        mine = before not in (None, signal.SIG_IGN)
    else:
        mine = before is signal.default_int_handler
    if not mine or threading.current_thread() is not threading.main_thread():
        yield latch
        return

    def press(number: int, frame: FrameType | None) -> None:
        latch.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, press)
    try:
        yield latch
    finally:
        signal.signal(signal.SIGINT, before)
