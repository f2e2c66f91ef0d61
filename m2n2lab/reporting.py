"""A search in the terminal: its progress while it runs, then what came of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from m2n2lab import __version__
from m2n2lab.display import percent
from m2n2lab.history import COLUMNS

if TYPE_CHECKING:
    from rich.progress import Task as Bar

    from m2n2lab.evolver import Evolver

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, bar: Bar) -> Text:
        return Text(f"{bar.speed or 0:,.0f} steps/s", style="progress.data.speed")


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


def watched_run(evolver: Evolver, last: int, title: str) -> bool:
    """Step up to step ``last`` under a progress bar; returns whether Ctrl-C ended it early."""
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
        bar = progress.add_task(title, total=last, completed=evolver.generation, found="")
        chunk, column = 1, COLUMNS.index("accepted")
        accepted = int(evolver.records.column("accepted").sum())
        while evolver.generation < last and not pressed:
            began, at, row = time.perf_counter(), evolver.generation, len(evolver.records)
            evolver.run(min(chunk, last - at), until=lambda generation: bool(pressed))
            accepted += int(evolver.records.table(row)[:, column].sum())
            found = (
                f"best {percent(evolver.best.score)} train, {percent(evolver.test)} test, "
                f"{percent(accepted / len(evolver.records))} accepted"
            )
            progress.update(bar, completed=evolver.generation, found=found)
            # About ten refreshes a second, whatever a step costs.
            chunk = max(1, round(chunk * min(0.1 / (time.perf_counter() - began), 2.0)))
        return bool(pressed) and evolver.generation < last


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
    train = evolver.task.by_class(archive.scores[archive.ids.index(best.id)])
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
    }


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
    console.print(
        f"coverage {percent(result['coverage'])} of data points, "
        f"entropy {result['entropy']:.2f} bit a point, {result['members']} members",
        highlight=False,
    )
