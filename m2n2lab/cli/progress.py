"""Progress: a search's progress line in the terminal, and the table of its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress
from rich.table import Table

from m2n2lab.cli.shown import shown
from m2n2lab.config.builders import build_evolver, build_task
from m2n2lab.utils.concurrency.interrupts import Latch, interrupt_latch
from m2n2lab.utils.text import percent, visible
from m2n2lab.utils.version import __version__
from m2n2lab.viz.progress_bar import REFRESH_SECONDS, status_text, terminal_bars

if TYPE_CHECKING:
    from rich.progress import TaskID

    from m2n2lab.config.settings import Settings
    from m2n2lab.core.evolver import Evolver, Executor
    from m2n2lab.core.records import Generation
    from m2n2lab.utils.progress import Progress as Evaluation

INTERRUPTED_STATUS = 130
"""Exit status after Ctrl-C, as in shells."""


@dataclass
class Report:
    """One line of a terminal that shows the progress of a search, which Ctrl-C ends.

    Attributes:
        progress: the display of the line.
        bar: the line's id in it.
        interrupt: set by Ctrl-C.
        status: the scores of the best member and the rate of acceptance, as text.
    """

    progress: Progress
    bar: TaskID
    interrupt: Latch
    status: str = ""

    def build(self, settings: Settings) -> Evolver:
        """Return the evolver of a search, whose seeds may take a while to be scored.

        Raises:
            InputError: the settings, the task or the seeds cannot be used.
            KeyboardInterrupt: Ctrl-C before there was a result.
        """
        from m2n2lab.utils.progress import Halted, Watch

        self.progress.update(self.bar, status="opening the seeds")
        task = build_task(settings)
        unwatch = task.watch(Watch(self._show_evaluation, lambda: self.interrupt.pressed))
        try:
            return build_evolver(settings, task, progress=self._show_bytes())
        except Halted:
            raise KeyboardInterrupt from None
        finally:
            unwatch()

    def show_notes(self, evolver: Evolver) -> None:
        """Print remarks on the merge of checkpoints, such as on their tokenizers."""
        for note in getattr(evolver.space, "notes", ()):
            self.progress.console.print(shown(f"Note: {note}"), soft_wrap=True)

    def _show_bytes(self) -> Callable[[int], None]:
        """Return a function that shows how many bytes of the seeds were converted or read."""
        total = 0

        def show(done: int) -> None:
            nonlocal total
            total += done
            self.progress.update(self.bar, status=f"opening the seeds: {decimal(total)}")

        return show

    def run(self, evolver: Evolver, last: int, executor: Executor | None = None) -> bool:
        """Run up to step ``last``; return whether Ctrl-C ended it early."""
        from m2n2lab.utils.progress import Halted, Watch

        unwatch = evolver.task.watch(Watch(self._show_evaluation, lambda: self.interrupt.pressed))
        self.progress.reset(self.bar, total=last, completed=evolver.generation)
        accepted = int(evolver.records.column("accepted").sum())
        next_refresh = 0.0

        def after_step(generation: Generation) -> bool:
            nonlocal accepted, next_refresh
            accepted += generation.accepted
            if (now := time.perf_counter()) >= next_refresh:
                next_refresh = now + REFRESH_SECONDS
                self._show_step(evolver, accepted)
            return self.interrupt.pressed

        self._show_step(evolver, accepted)
        try:
            evolver.run(max(last - evolver.generation, 0), after_step, executor)
        except Halted:
            return True
        finally:
            with suppress(Halted):  # of the best member's held-out score, if it is not known yet
                self._show_step(evolver, accepted)
            unwatch()
        return self.interrupt.pressed and evolver.generation < last

    def _show_evaluation(self, evaluation: Evaluation) -> None:
        """Show the progress of one evaluation."""
        self.progress.update(self.bar, status=f"{self.status} {evaluation.words}".strip())

    def _show_step(self, evolver: Evolver, accepted: int) -> None:
        self.status = status_text(evolver, accepted)
        if evolver.rejection is not None:
            self.status += f", {percent(_saved(evolver))} of scores saved"
        self.progress.update(self.bar, completed=evolver.generation, status=self.status)


@contextmanager
def nothing_new(evolver: Evolver, stopped: bool) -> Iterator[None]:
    """Let evaluations that take long end with ``Halted`` if the search was stopped.

    What they know already they still answer.
    """
    from m2n2lab.utils.progress import Watch

    unwatch = evolver.task.watch(Watch(halted=lambda: stopped))
    try:
        yield
    finally:
        unwatch()


@contextmanager
def reported(title: str, last: int) -> Iterator[Report]:
    """Show a progress line in the terminal for a search that runs up to step ``last``."""
    console = Console(stderr=True)
    with (
        interrupt_latch(override=True) as interrupt,
        terminal_bars(console, hidden=not console.is_terminal) as progress,
    ):
        yield Report(progress, progress.add_task(visible(title), total=last, status=""), interrupt)


def result_of(
    evolver: Evolver, about: dict[str, Any], taken: int, seconds: float, stopped: bool
) -> dict[str, Any]:
    """Return the result of a search, as ``--json`` prints it.

    Args:
        evolver: the search.
        about: its settings, as plain values.
        taken: number of steps that were taken now.
        seconds: the time that they took.
        stopped: whether Ctrl-C ended it early.
    """
    from m2n2lab.utils.progress import Halted

    archive, best = evolver.archive, evolver.best
    model = evolver.space.materialise(best.genome)
    train = evolver.task.by_class(archive.scores_of(best.id))
    test, mean = dict[str, float](), math.nan
    with nothing_new(evolver, stopped), suppress(Halted):
        test, mean = evolver.task.held_out_by_class(model), evolver.test
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
            "test": _or_none(mean),
        },
        "classes": {
            name: {"train": _or_none(score), "test": _or_none(test.get(name, math.nan))}
            for name, score in train.items()
        },
        "members": len(archive),
        "coverage": archive.coverage,
        "entropy": archive.entropy,
        "accepted": _or_none(float(accepted.mean()) if len(accepted) else float("nan")),
        "saved": _or_none(_saved(evolver)),
    }


def _saved(evolver: Evolver) -> float:
    """Return the share of scores that early rejection left out; NaN before the first step."""
    unseen = evolver.records.column("unseen")
    return float(unseen.mean()) / evolver.task.points if len(unseen) else float("nan")


def _or_none(value: float) -> float | None:
    """Return a number, or ``None`` for NaN, which JSON does not have."""
    return None if value != value else value


def print_result(evolver: Evolver, result: dict[str, Any]) -> None:
    """Print a result from ``result_of``: a table of classes, and some lines."""
    console = Console()
    table = Table(title=f"Best member {result['best']['id']}: accuracy by class")
    for name in ("class", "train", "test"):
        table.add_column(name, justify="right")
    nan = float("nan")
    for name, scores in result["classes"].items():
        train, test = (nan if scores[k] is None else scores[k] for k in ("train", "test"))
        table.add_row(shown(name), percent(train), percent(test))
    table.add_section()
    test = result["best"]["test"]
    table.add_row("all", percent(evolver.best.score), percent(nan if test is None else test))
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
