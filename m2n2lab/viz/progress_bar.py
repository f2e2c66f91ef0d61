"""Progress bar of a search: one line in a terminal, or a bar in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from m2n2lab.utils.progress import Watch
from m2n2lab.utils.text import percent, plain

if TYPE_CHECKING:
    from rich.progress import Task as Bar

    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.records import Generation
    from m2n2lab.utils.progress import Progress as Evaluation

REFRESH_SECONDS = 0.1
"""Shortest time between two updates of a bar."""

MAX_NAME_CHARS = 40
"""Longest name of a task that is shown in full."""


def speed_text(steps_per_second: float) -> str:
    """Return steps per second, or seconds per step if that is more than one, as text."""
    slow = 0.0 < steps_per_second < 1.0
    return f"{1 / steps_per_second:.1f} s a step" if slow else f"{steps_per_second:,.0f} steps/s"


def status_text(evolver: Evolver, accepted: int) -> str:
    """Return the best member's scores and the share of accepted children as text."""
    return (
        f"best {percent(evolver.best.score)} train, {percent(evolver.test)} test, "
        f"{percent(accepted / max(len(evolver.records), 1))} accepted"
    )


class _Speed(ProgressColumn):
    """Speed of a bar, see ``speed_text``."""

    def render(self, bar: Bar) -> Text:
        return Text(speed_text(bar.speed or 0.0), style="progress.data.speed")


def terminal_bars(console: Console, hidden: bool = False) -> Progress:
    """Return rich's display of bars, whose field ``status`` follows each."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    return Progress(*columns, console=console, disable=hidden)


class _Display(Protocol):
    """A bar on the screen."""

    def show(self, steps: int, status: str) -> None:
        """Show the number of steps taken, and a text."""

    def close(self) -> None:
        """Leave the bar as it is."""


class _TerminalBar:
    """A bar in the last line of the terminal; in a file, its last state."""

    def __init__(self, title: str, first: int, last: int) -> None:
        self._bars = terminal_bars(Console(stderr=True))
        self._bar = self._bars.add_task(title, total=last, completed=first, status="")
        self._bars.start()

    def show(self, steps: int, status: str) -> None:
        self._bars.update(self._bar, completed=steps, status=status)

    def close(self) -> None:
        self._bars.stop()


class _NotebookBar:
    """A bar in the output of a notebook's cell, as HTML: no widgets are needed."""

    def __init__(self, title: str, first: int, last: int) -> None:
        import IPython.display

        display: Any = IPython.display.display
        self._title, self._first, self._last = title, first, last
        self._start = time.monotonic()
        self._handle = display(self._bundle(first, ""), raw=True, display_id=True)

    def _bundle(self, steps: int, status: str) -> dict[str, str]:
        seconds = max(time.monotonic() - self._start, 1e-9)
        speed = speed_text((steps - self._first) / seconds)
        text = f"{steps:,}/{self._last:,} {speed} {status}".strip()
        bar = f'<progress value="{steps}" max="{self._last}" aria-label="steps"></progress>'
        return {
            "text/plain": f"{self._title} {text}",
            "text/html": f"<div>{escape(self._title)} {bar} {escape(text)}</div>",
        }

    def show(self, steps: int, status: str) -> None:
        self._handle.update(self._bundle(steps, status), raw=True)

    def close(self) -> None:
        pass


def _in_notebook() -> bool:
    """Return whether output goes to a notebook."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def progress_bar(evolver: Evolver, steps: int) -> Iterator[None]:
    """Show a bar of the next ``steps`` steps of a search, until the block ends."""
    first = evolver.generation
    make = _NotebookBar if _in_notebook() else _TerminalBar
    title = f"{evolver.method} · {plain(evolver.task.name, MAX_NAME_CHARS)}"
    bar: _Display = make(title, first, first + steps)
    accepted = int(evolver.records.column("accepted").sum())
    status, next_refresh = "", 0.0

    def show() -> None:
        nonlocal status, next_refresh
        next_refresh = time.monotonic() + REFRESH_SECONDS
        status = status_text(evolver, accepted)
        bar.show(evolver.generation, status)

    def observe(generation: Generation) -> None:
        nonlocal accepted
        accepted += generation.accepted
        if time.monotonic() >= next_refresh:
            show()

    def observe_evaluation(evaluation: Evaluation) -> None:
        bar.show(evolver.generation, f"{status} {evaluation.words}".strip())

    unsubscribe = evolver.subscribe(observe)
    unwatch = evolver.task.watch(Watch(observe_evaluation))
    try:
        show()
        yield
        show()
    finally:
        unsubscribe()
        unwatch()
        bar.close()
