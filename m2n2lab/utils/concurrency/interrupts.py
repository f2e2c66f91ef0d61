"""Signals: Ctrl-C as a flag, and a program that signals end in an orderly way."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from m2n2lab.utils.ending_signals import ENDING


@dataclass
class Latch:
    """A flag that the first Ctrl-C sets.

    Attributes:
        pressed: whether Ctrl-C was pressed.
    """

    pressed: bool = False


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let Ctrl-C raise ``KeyboardInterrupt``, SIGTERM and SIGHUP ``SystemExit`` during the block.

    Ignored signals stay ignored; outside the main thread nothing changes.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers: dict[signal.Signals, Any] = dict.fromkeys(ENDING, _terminate)
        handlers[signal.SIGINT] = signal.default_int_handler
        for number, handler in handlers.items():
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what is half done is being removed
    sys.exit(128 + number)


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
