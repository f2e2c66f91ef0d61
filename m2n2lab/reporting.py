"""A search in a terminal: progress, an ETA, and Ctrl-C that keeps what was found."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from m2n2lab.display import percent
from m2n2lab.history import COLUMNS
from m2n2lab.tasks.generation import Halted, Watch
from m2n2lab.tasks.generation import Progress as Asked

if TYPE_CHECKING:
    from rich.progress import Task as Bar
    from rich.progress import TaskID

    from m2n2lab.evolver import Evolver
    from m2n2lab.settings import Settings

REFRESH = 0.1
"""Seconds of steps between two looks at the progress."""


class _Rate(ProgressColumn):
    """Steps a second, or seconds a step where these are long."""

    def render(self, bar: Bar) -> Text:
        speed = bar.speed or 0.0
        words = f"{1 / speed:.1f} s a step" if 0.0 < speed < 1.0 else f"{speed:,.0f} steps/s"
        return Text(words, style="progress.data.speed")


@contextmanager
def _stop_on_interrupt() -> Iterator[list[bool]]:
    """Yield a list that fills at the first Ctrl-C; a second one interrupts at once."""
    pressed: list[bool] = []

    def press(number: int, frame: Any) -> None:
        pressed.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class _Report:
    """One line of a terminal that says how far a search is."""

    progress: Progress
    bar: TaskID
    found: str = ""

    def asked(self, asked: Asked) -> None:
        """Say how far the questions of one evaluation are."""
        words = f"question {asked.done} of {asked.total}, {asked.rate:,.0f} tokens/s"
        self.progress.update(self.bar, found=f"{self.found} {words}".strip())

    def stepped(self, evolver: Evolver, accepted: int) -> None:
        """Say what there is after some steps."""
        self.found = (
            f"best {percent(evolver.best.score)} train, {percent(evolver.test)} test, "
            f"{percent(accepted / max(evolver.generation, 1))} accepted"
        )
        self.progress.update(self.bar, completed=evolver.generation, found=self.found)


def search(settings: Settings, steps: int) -> tuple[Evolver, float, bool]:
    """Make a search and take ``steps`` steps under a progress bar.

    Returns:
        The evolver, the seconds that the steps took, and whether Ctrl-C ended them early.

    Raises:
        InputError: what the settings, the task or the seeds refuse.
        KeyboardInterrupt: Ctrl-C before there was anything to keep.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[found]}"),
    )
    console = Console(stderr=True)
    with (
        _stop_on_interrupt() as pressed,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task(settings.title, total=steps, found="opening the seeds")
        report = _Report(progress, bar)
        task = settings.make_task()
        task.watch(Watch(report.asked, lambda: bool(pressed)))
        try:
            evolver = settings.make(task)
        except Halted:
            raise KeyboardInterrupt from None
        progress.reset(bar, total=steps)  # the seeds' scores are no part of the pace
        began = time.perf_counter()
        stopped = _take(evolver, steps, pressed, report)
        seconds = time.perf_counter() - began
    task.watch(Watch())
    return evolver, seconds, stopped


def _take(evolver: Evolver, steps: int, pressed: list[bool], report: _Report) -> bool:
    """Take ``steps`` steps; returns whether Ctrl-C ended them early."""
    chunk, accepted, column = 1, 0, COLUMNS.index("accepted")
    report.stepped(evolver, accepted)
    while evolver.generation < steps and not pressed:
        began, at = time.perf_counter(), evolver.generation
        try:
            evolver.run(min(chunk, steps - at), until=lambda generation: bool(pressed))
        except Halted:
            return True
        accepted += int(evolver.records.table(at)[:, column].sum())
        report.stepped(evolver, accepted)
        # About ten refreshes a second, whatever a step costs.
        chunk = max(1, round(chunk * min(REFRESH / (time.perf_counter() - began), 2.0)))
    return bool(pressed) and evolver.generation < steps
