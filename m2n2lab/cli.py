"""The command line: ``evolve`` and ``serve`` here, what deals with checkpoints in ``merging``."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from m2n2lab import __version__, merging
from m2n2lab.display import percent
from m2n2lab.errors import InputError, whole_number
from m2n2lab.files import writable_folder, write_whole
from m2n2lab.history import COLUMNS
from m2n2lab.settings import Settings, default_threads

if TYPE_CHECKING:
    from rich.progress import Task as Bar

    from m2n2lab.evolver import Evolver

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Evolve merged models with M2N2: watch, pause and steer every generation.",
)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


# Options that evolve and serve share.
TaskName = Annotated[str, typer.Option("--task", help="digits or mnist.")]
MethodName = Annotated[str, typer.Option("--method", help="m2n2, ga, map-elites, cma-es, …")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Start from two specialists, without mutation.")
]
Data = Annotated[Path | None, typer.Option("--data", help="Folder with MNIST's IDX files.")]
Hidden = Annotated[list[int], typer.Option("--hidden", help="Width of a hidden layer; repeatable.")]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
Threads = Annotated[int | None, typer.Option("--threads", help="torch threads.")]
ArchiveSize = Annotated[int | None, typer.Option("--archive-size", help="Members that live.")]
Alpha = Annotated[float | None, typer.Option("--alpha", help="α of the competition.")]
Mutation = Annotated[float | None, typer.Option("--mutation", help="Noise added to a child.")]


def _settings(
    task: str,
    method: str,
    seed: int,
    pretrained: bool,
    data: Path | None,
    hidden: list[int],
    device: str,
    threads: int,
    archive_size: int | None,
    alpha: float | None,
    mutation: float | None,
) -> Settings:
    given = {"archive_size": archive_size, "alpha": alpha, "mutation": mutation}
    options = {name: value for name, value in given.items() if value is not None}
    settings = Settings(
        task, method, seed, pretrained, data, tuple(hidden), device, threads, options
    )
    settings.check()
    return settings


@app.command()
def evolve(
    task: TaskName = "digits",
    method: MethodName = "m2n2",
    steps: Annotated[int, typer.Option("--steps", help="Forward passes.")] = 10_000,
    seed: Seed = 0,
    pretrained: Pretrained = False,
    data: Data = None,
    hidden: Hidden = [256],  # noqa: B006  # Typer copies it, and takes no tuple here
    device: Device = "cpu",
    threads: Threads = None,
    archive_size: ArchiveSize = None,
    alpha: Alpha = None,
    mutation: Mutation = None,
    chunk: Annotated[
        int | None,
        typer.Option("--chunk", help="Score this many points at a time; stop once a child is out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for history.csv, result.json and best.safetensors."),
    ] = None,
) -> None:
    """Evolve on a task and print what came of it; Ctrl-C stops with the result so far."""
    import torch

    whole_number("steps", steps, 0)
    settings = _settings(
        task,
        method,
        seed,
        pretrained,
        data,
        hidden,
        device,
        default_threads() if threads is None else threads,
        archive_size,
        alpha,
        mutation,
    )
    if chunk is not None:
        settings.options["chunk"] = chunk
    folder = None if out is None else writable_folder(out)
    torch.set_num_threads(settings.threads)
    evolver = settings.make()
    began = time.perf_counter()
    stopped = _run(evolver, steps, settings.title)
    result = _result(evolver, settings, time.perf_counter() - began, stopped)
    if as_json:
        typer.echo(json.dumps(result, allow_nan=False))
    else:
        _print_result(evolver, result)
    if folder is not None:
        write_whole(folder / "history.csv", evolver.history.to_csv())
        write_whole(folder / "result.json", json.dumps(result, indent=1, allow_nan=False))
        evolver.space.save(evolver.best, folder / "best.safetensors")
        Console(stderr=True).print(f"Wrote history.csv, result.json, best.safetensors to {folder}")
    if stopped:
        raise typer.Exit(INTERRUPTED)


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


def _run(evolver: Evolver, steps: int, title: str) -> bool:
    """Take ``steps`` steps under a progress bar; returns whether Ctrl-C ended them early."""
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
        bar = progress.add_task(title, total=steps, found="")
        chunk, accepted, column = 1, 0, COLUMNS.index("accepted")
        while evolver.generation < steps and not pressed:
            began, at = time.perf_counter(), evolver.generation
            evolver.run(min(chunk, steps - at), until=lambda generation: bool(pressed))
            accepted += int(evolver.records.table(at)[:, column].sum())
            found = (
                f"best {percent(evolver.best.score)} train, {percent(evolver.test)} test, "
                f"{percent(accepted / evolver.generation)} accepted"
            )
            if evolver.rejection is not None:
                found += f", {percent(_saved(evolver))} of scores saved"
            progress.update(bar, completed=evolver.generation, found=found)
            # About ten refreshes a second, whatever a step costs.
            chunk = max(1, round(chunk * min(0.1 / (time.perf_counter() - began), 2.0)))
        return bool(pressed) and evolver.generation < steps


def _result(evolver: Evolver, settings: Settings, seconds: float, stopped: bool) -> dict[str, Any]:
    """Return everything that the closing table and ``--json`` tell."""
    archive, best = evolver.archive, evolver.best
    model = evolver.space.materialise(best.genome)
    train = evolver.task.by_class(archive.scores[archive.ids.index(best.id)])
    test = evolver.task.held_out_by_class(model)
    accepted = evolver.records.column("accepted")
    return {
        "m2n2lab": __version__,
        "task": settings.task,
        "method": settings.method,
        "seed": settings.seed,
        "pretrained": settings.pretrained,
        "options": {"mutation": evolver.mutation, **settings.options},
        "steps": evolver.generation,
        "stopped": stopped,
        "seconds": round(seconds, 3),
        "steps_per_second": round(evolver.generation / seconds, 1),
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


def _print_result(evolver: Evolver, result: dict[str, Any]) -> None:
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
    console.print(
        f"coverage {percent(result['coverage'])} of data points, "
        f"entropy {result['entropy']:.2f} bit a point, {result['members']} members",
        highlight=False,
    )


@app.command()
def serve(
    task: TaskName = "digits",
    method: MethodName = "m2n2",
    seed: Seed = 0,
    pretrained: Pretrained = False,
    data: Data = None,
    hidden: Hidden = [256],  # noqa: B006  # as above
    device: Device = "cpu",
    threads: Threads = None,
    archive_size: ArchiveSize = None,
    alpha: Alpha = None,
    mutation: Mutation = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 5006,
    origin: Annotated[
        list[str], typer.Option("--origin", help="Further HOST:PORT that pages come from.")
    ] = [],  # noqa: B006  # as above
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="One search that all pages watch and steer together.")
    ] = False,
    window: Annotated[
        bool, typer.Option("--window", help="Open it in a window; closing that ends the server.")
    ] = False,
) -> None:
    """Serve the dashboard; each browser page gets a search of its own, or all share one."""
    if show and window:
        raise InputError("--open and --window both open the page; give one of them.")
    from m2n2lab.widgets.server import serve_dashboard

    # One core is left for the browser, which usually is on the same machine.
    threads = max(default_threads() - 1, 1) if threads is None else threads
    settings = _settings(
        task, method, seed, pretrained, data, hidden, device, threads, archive_size, alpha, mutation
    )
    serve_dashboard(settings, host, port, origin, show, window, shared)


app.command()(merging.inspect)
app.command()(merging.merge)
app.command()(merging.rebuild)


def main() -> None:
    """Run the command line; bad input ends it with one sentence and status 2."""
    if sys.argv[1:2] in (["inspect"], ["merge"], ["rebuild"]):
        # numba looks for SciPy's BLAS before it compiles anything: a quarter of a second, for what
        # these commands do not use.
        sys.modules.setdefault("scipy.linalg.cython_blas", None)  # type: ignore[arg-type]
    try:
        app()
    except InputError as error:
        Console(stderr=True).print(Text(f"Error: {error}"), soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:  # before a search has begun, or pressed twice
        sys.exit(INTERRUPTED)
