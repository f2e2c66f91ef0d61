"""Interrupts: interrupting a kernel pauses the searches that its consoles run.

A kernel handles an interrupt in two ways: a running cell ends with ``KeyboardInterrupt``, and
between cells the signal is ignored. So every cell is checked when it has ended, and the ignored
signal is handled while there is a console. Outside a kernel nothing is done.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

from m2n2lab.utils.concurrency.subscribers import Subscribers

POLL_SECONDS = 0.5
"""Time between two checks whether the kernel ignores interrupts: it does so after every cell."""


class Interrupts:
    """Pauses all subscribers when this process is interrupted."""

    def __init__(self) -> None:
        self._pauses: Subscribers[Callable[[], object]] = Subscribers()
        self._shell: Any = None

    def subscribe(self, pause: Callable[[], object]) -> Callable[[], None]:
        """Call ``pause`` at every interrupt; returns a function that ends the subscription."""
        unsubscribe = self._pauses.add(pause)
        if self._shell is None and (shell := _kernel_shell()) is not None:
            self._shell = shell
            shell.events.register("post_run_cell", self._cell_ended)
            if threading.current_thread() is threading.main_thread():
                self._poll(asyncio.get_event_loop())

        def end() -> None:
            unsubscribe()
            if not self._pauses and self._shell is not None:
                self._shell.events.unregister("post_run_cell", self._cell_ended)
                self._shell = None

        return end

    def pause(self) -> None:
        """Pause all subscribers."""
        for pause in self._pauses:
            pause()

    def _cell_ended(self, result: Any) -> None:
        if isinstance(result.error_in_exec, KeyboardInterrupt):
            self.pause()

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handle the signal whenever the kernel ignores it, as long as there are subscribers."""
        handler = signal.getsignal(signal.SIGINT)
        if not self._pauses:
            if handler == self._handle:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            return
        if handler == signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._handle)
        loop.call_later(POLL_SECONDS, self._poll, loop)

    def _handle(self, number: int, frame: object) -> None:
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
"""Those of this process."""
