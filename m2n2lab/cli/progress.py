"""A search in the terminal: its progress while it runs, then what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from m2n2lab.config.builders import build_evolver, build_task
from m2n2lab.utils.interrupts import Latch, interrupt_latch
from m2n2lab.utils.text import percent
from m2n2lab.utils.version import __version__

if TYPE_CHECKING:
    from rich.progress import Task as Bar
    from rich.progress import TaskID

    from m2n2lab.config.settings import Settings
    from m2n2lab.core.evolver import Evolver, Executor
    from m2n2lab.core.records import Generation
    from m2n2lab.utils.progress import Progress as Asked

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

REFRESH = 0.1
"""Least seconds between two looks at the progress."""


class _Rate(ProgressColumn):
    """Steps a second, or seconds a step where these are long."""

    def render(self, bar: Bar) -> Text:
        speed = bar.speed or 0.0
        words = f"{1 / speed:.1f} s a step" if 0.0 < speed < 1.0 else f"{speed:,.0f} steps/s"
        return Text(words, style="progress.data.speed")


@dataclass
class Report:
    """One line of a terminal that says how far a search is, and Ctrl-C that ends it.

    Attributes:
        progress: what draws the line.
        bar: which line it is.
        interrupt: set by Ctrl-C.
        found: what was found so far, in words.
    """

    progress: Progress
    bar: TaskID
    interrupt: Latch
    found: str = ""

    def make(self, settings: Settings) -> Evolver:
        """Return the evolver of a search, whose seeds may take a while to be scored.

        Raises:
            InputError: what the settings, the task or the seeds refuse.
            KeyboardInterrupt: Ctrl-C before there was anything to keep.
        """
        from m2n2lab.utils.progress import Halted, Watch

        self.progress.update(self.bar, found="opening the seeds")
        task = build_task(settings)
        end = task.watch(Watch(self._asked, lambda: self.interrupt.pressed))
        try:
            return build_evolver(settings, task)
        except Halted:
            raise KeyboardInterrupt from None
        finally:
            end()

    def run(self, evolver: Evolver, last: int, executor: Executor | None = None) -> bool:
        """Step up to step ``last``; returns whether Ctrl-C ended it early."""
        from m2n2lab.utils.progress import Halted, Watch

        end = evolver.task.watch(Watch(self._asked, lambda: self.interrupt.pressed))
        self.progress.reset(self.bar, total=last, completed=evolver.generation)
        accepted = int(evolver.records.column("accepted").sum())
        due = 0.0

        def stepped(generation: Generation) -> bool:
            nonlocal accepted, due
            accepted += generation.accepted
            if (now := time.perf_counter()) >= due:
                due = now + REFRESH
                self._stepped(evolver, accepted)
            return self.interrupt.pressed

        self._stepped(evolver, accepted)
        try:
            evolver.run(max(last - evolver.generation, 0), stepped, executor)
        except Halted:
            return True
        finally:
            end()
            self._stepped(evolver, accepted)
        return self.interrupt.pressed and evolver.generation < last

    def _asked(self, asked: Asked) -> None:
        """Say how far the questions of one evaluation are."""
        self.progress.update(self.bar, found=f"{self.found} {asked.words}".strip())

    def _stepped(self, evolver: Evolver, accepted: int) -> None:
        self.found = (
            f"best {percent(evolver.best.score)} train, {percent(evolver.test)} test, "
            f"{percent(accepted / max(len(evolver.records), 1))} accepted"
        )
        if evolver.rejection is not None:
            self.found += f", {percent(_saved(evolver))} of scores saved"
        self.progress.update(self.bar, completed=evolver.generation, found=self.found)


@contextmanager
def reported(title: str, last: int) -> Iterator[Report]:
    """Yield a line in the terminal for a search that goes up to step ``last``."""
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
        interrupt_latch(override=True) as interrupt,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        yield Report(progress, progress.add_task(title, total=last, found=""), interrupt)


def watched_run(evolver: Evolver, last: int, title: str, executor: Executor | None = None) -> bool:
    """Step up to step ``last`` under a progress bar; returns whether Ctrl-C ended it early."""
    with reported(title, last) as report:
        return report.run(evolver, last, executor)


def result_of(
    evolver: Evolver, about: dict[str, Any], taken: int, seconds: float, stopped: bool
) -> dict[str, Any]:
    """Return everything that the closing table and ``--json`` tell.

    Args:
        evolver: the search.
        about: what was searched, in plain values.
        taken: how many steps were taken now.
        seconds: how long they took.
        stopped: whether Ctrl-C ended it early.
    """
    archive, best = evolver.archive, evolver.best
    model = evolver.space.materialise(best.genome)
    train = evolver.task.by_class(archive.scores_of(best.id))
    test = evolver.task.held_out_by_class(model)
    accepted = evolver.records.column("accepted")
    return {
        "m2n2lab": __version__,
        **about,
        "steps": evolver.generation,
        "stopped": stopped,
        "seconds": round(seconds, 3),
        "steps_per_second": round(taken / seconds, 1),
        "best": {
            "id": best.id,
            "born": best.born,
            "parents": list(best.parents),
            "train": best.score,
            "test": _known(evolver.test),
        },
        "classes": {
            name: {"train": _known(score), "test": _known(test.get(name, float("nan")))}
            for name, score in train.items()
        },
        "members": len(archive),
        "coverage": archive.coverage,
        "entropy": archive.entropy,
        "accepted": _known(float(accepted.mean()) if len(accepted) else float("nan")),
        "saved": _known(_saved(evolver)),
    }


def _saved(evolver: Evolver) -> float:
    """Return the share of scores that early rejection left out; NaN before the first step."""
    unseen = evolver.records.column("unseen")
    return float(unseen.mean()) / evolver.task.points if len(unseen) else float("nan")


def _known(value: float) -> float | None:
    """Return a number, or ``None`` for NaN, which JSON does not have."""
    return None if value != value else value


def print_result(evolver: Evolver, result: dict[str, Any]) -> None:
    """Print what ``result_of`` returned: a table of classes, and two lines."""
    console = Console()
    table = Table(title=f"Best member {result['best']['id']}: accuracy by class")
    for name in ("class", "train", "test"):
        table.add_column(name, justify="right")
    nan = float("nan")
    for name, scores in result["classes"].items():
        train, test = (nan if scores[k] is None else scores[k] for k in ("train", "test"))
        table.add_row(Text(name), percent(train), percent(test))
    table.add_section()
    table.add_row("all", percent(evolver.best.score), percent(evolver.test))
    console.print(table)
    accepted = result["accepted"]
    console.print(
        f"{result['steps']:,} steps in {result['seconds']:.1f} s "
        f"({result['steps_per_second']:,.0f} steps/s)"
        f"{', stopped by Ctrl-C' if result['stopped'] else ''}; "
        f"{percent(nan if accepted is None else accepted)} of children accepted",
        highlight=False,
    )
    if result["saved"]:
        console.print(f"{percent(result['saved'])} of scores saved by early rejection")
    if result.get("skipped"):
        console.print(f"skipped because no worker could score them: {result['skipped']:,}")
    console.print(
        f"coverage {percent(result['coverage'])} of data points, "
        f"entropy {result['entropy']:.2f} bit a point, {result['members']} members",
        highlight=False,
    )
