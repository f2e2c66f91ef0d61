"""Interrupting a kernel pauses the searches that its consoles run.

A kernel hears of an interrupt in two ways: a running cell ends with ``KeyboardInterrupt``, and
between cells it ignores the signal. So the first is looked for when a cell has ended, and the
second is handled while there is a console. Outside a kernel nothing is done.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

LOOK_EVERY = 0.5
"""Seconds between two looks whether the kernel ignores interrupts: it does so after every cell."""


class Interrupts:
    """What is to be paused when this process is interrupted."""

    def __init__(self) -> None:
        self._pauses: dict[object, Callable[[], object]] = {}
        self._shell: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, who: object, pause: Callable[[], object]) -> None:
        """Call ``pause`` at every interrupt, until ``who`` is forgotten."""
        self._pauses[who] = pause
        if self._shell is None and (shell := _kernel_shell()) is not None:
            self._shell = shell
            shell.events.register("post_run_cell", self._cell_ended)
            if threading.current_thread() is threading.main_thread():
                self._look(asyncio.get_event_loop())

    def forget(self, who: object) -> None:
        """End that, if it was begun."""
        self._pauses.pop(who, None)
        if not self._pauses and self._shell is not None:
            self._shell.events.unregister("post_run_cell", self._cell_ended)
            self._shell = None

    def pause(self) -> None:
        """Pause all."""
        for pause in tuple(self._pauses.values()):
            pause()

    def _cell_ended(self, result: Any) -> None:
        if isinstance(result.error_in_exec, KeyboardInterrupt):
            self.pause()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handle interrupts where the kernel ignores them, for as long as somebody wants it."""
        handler = signal.getsignal(signal.SIGINT)
        if not self._pauses:
            if handler == self._idle:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._timer = None
            return
        if handler == signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._idle)
        self._timer = loop.call_later(LOOK_EVERY, self._look, loop)

    def _idle(self, number: int, frame: object) -> None:
        self.pause()


def _kernel_shell() -> Any:
    """Return the shell of the kernel that this process is, or ``None``."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None


INTERRUPTS = Interrupts()
"""Of this process."""
