"""Commands for recorded runs: ``runs``, ``resume``, ``export``, ``check`` and ``backup``."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from m2n2lab.cli.executor_options import (
    Address,
    Executor,
    ExecutorOptions,
    Gpus,
    Threads,
    Timeout,
    Workers,
)
from m2n2lab.cli.progress import INTERRUPTED_STATUS, print_result, reported, result_of
from m2n2lab.cli.shared_options import (
    SEARCH,
    Batch,
    SeedMap,
    TrustRemoteCode,
    option,
    seed_map,
)
from m2n2lab.cli.shown import shown
from m2n2lab.utils.concurrency.processors import default_threads
from m2n2lab.utils.errors import InputError, message_of, whole_number
from m2n2lab.utils.files import write_atomically
from m2n2lab.utils.text import percent

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

PAUSED_STATUS = 3
"""Exit status of a run that failed and can be resumed."""

Store = Annotated[Path, typer.Argument(metavar="STORE", help="File with recorded runs.")]


@contextmanager
def recorded(
    evolver: Evolver, path: Path | None, title: str = "", settings: str = ""
) -> Iterator[None]:
    """Record a search if there is a path; if it fails, print the error and how to resume it.

    Raises:
        InputError: the store cannot be opened.
        typer.Exit: the search failed, so the run is paused.
    """
    if path is None:
        yield
        return
    from m2n2lab.store import Recorder

    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        recorder = Recorder(evolver, path, title, settings=settings)
    for note in notes:  # such as that a store of an earlier version was brought up to date
        Console(stderr=True).print(shown(f"Note: {note.message}"), soft_wrap=True)
    try:
        with recorder:
            yield
    except Exception as error:
        text = message_of(error)
        reason = text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
        waiting = recorder.abandon()
        lost = (
            f"; the {waiting:,} steps after it were observed, but are not recorded, and will be "
            f"taken again with the same outcome"
            if waiting
            else ""
        )
        text = (
            f"Paused at step {evolver.generation:,}: {reason}\nThe run is recorded up to step "
            f"{recorder.recorded:,}{lost}; go on with: m2n2lab resume {path} --run "
            f"{recorder.number}"
        )
        Console(stderr=True).print(shown(text, keep="\n"), soft_wrap=True)
        raise typer.Exit(PAUSED_STATUS) from error


def runs(
    store: Store,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the runs of a store."""
    from m2n2lab.store.catalog import runs

    found = runs(store)
    if as_json:
        values = [
            {name: None if value != value else value for name, value in run._asdict().items()}
            for run in found
        ]
        typer.echo(json.dumps(values, allow_nan=False))
        return
    table = Table(title=shown(str(store)))
    for name in ("run", "title", "steps", "accepted", "train", "test", "recorded", "from"):
        table.add_column(name, justify="left" if name in ("title", "recorded") else "right")
    for run in found:
        table.add_row(
            str(run.run),
            shown(run.title),
            f"{run.start:,}–{run.last:,}" if run.start else f"{run.last:,}",
            f"{run.accepted:,}",
            percent(run.train),
            percent(run.test),
            shown(run.created[:16].replace("T", " ")),
            "" if run.parent is None else f"run {run.parent}",
        )
    Console().print(table)


def resume(
    store: Store,
    run: Annotated[
        int | None, typer.Option("--run", help="Number of the run; the last one by default.")
    ] = None,
    steps: Annotated[int, option(SEARCH, "--steps", help="Number of further steps.")] = 10_000,
    places: SeedMap = [],  # noqa: B006  # Typer copies it, and takes no tuple here
    trust_remote_code: TrustRemoteCode = False,
    batch: Batch = None,
    executor: Executor = "here",
    workers: Workers = None,
    gpus: Gpus = None,
    address: Address = None,
    timeout: Timeout = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Continue a recorded run bit for bit, and record its further steps."""
    import torch

    from m2n2lab.store import resume

    further = whole_number("steps", steps, 0)
    options = ExecutorOptions(executor, workers, gpus, address, timeout, threads)
    torch.set_num_threads(
        default_threads() if threads is None else whole_number("threads", threads, 1)
    )
    evolver = resume(
        store,
        run,
        seed_map=seed_map(places),
        batch=batch,
        trust_remote_code=trust_remote_code,
    )
    assert evolver.stored is not None
    first = evolver.generation
    last = first + further
    title = f"{evolver.task.name} · {evolver.method} · run {evolver.stored.run}"
    began = time.perf_counter()
    with (
        options.opened() as pool,
        recorded(evolver, store),
        reported(title, last) as report,
    ):
        stopped = report.run(evolver, last, pool)
    about = {
        "task": evolver.task.name,
        "method": evolver.method,
        "run": evolver.stored.run,
        "options": evolver.options,
        "skipped": len(pool.skipped) if pool else 0,
    }
    seconds = time.perf_counter() - began
    result = result_of(evolver, about, evolver.generation - first, seconds, stopped)
    if as_json:
        typer.echo(json.dumps(result, allow_nan=False))
    else:
        print_result(evolver, result)
    if stopped:
        raise typer.Exit(INTERRUPTED_STATUS)


def export(
    store: Store,
    run: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run.")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="File for a table with one row per step.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="File for the same table as Parquet.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="File for the run without scores and weights.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="File for a page to look at, without a server or network."),
    ] = None,
    places: SeedMap = [],  # noqa: B006  # Typer copies it, and takes no tuple here
    batch: Batch = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write a recorded run as a table, as JSON, or as one HTML page."""
    from m2n2lab.store import resume, told, whole_history
    from m2n2lab.store.frames import parquet as parquet_bytes

    files = [path for path in (csv, parquet, as_json, html) if path is not None]
    if not files:
        raise InputError(
            "There is no file to write; give --csv, --parquet, --json or --html FILE, or several."
        )
    if csv is not None or parquet is not None:
        table = whole_history(store, run).frame()
        if csv is not None:
            write_atomically(csv, table.to_csv())
        if parquet is not None:
            write_atomically(parquet, parquet_bytes(table))
    if as_json is not None:
        write_atomically(as_json, json.dumps(told(store, run), allow_nan=False))
    if html is not None:
        evolver = resume(
            store,
            run,
            seed_map=seed_map(places),
            batch=batch,
            trust_remote_code=trust_remote_code,
        )
        evolver.plot.export(html, _code(store, run, evolver.generation))
    names = " and ".join(map(str, files))
    Console(stderr=True).print(shown(f"Wrote {names}"), soft_wrap=True)


def _code(store: Path, run: int, steps: int) -> str:
    """Return Python that makes a recorded run again, if the settings it began with are known."""
    from m2n2lab.config.builders import code_of
    from m2n2lab.config.settings import Settings
    from m2n2lab.store.labels import labelled

    found = next((each for each in labelled(store) if each.run == run), None)
    if found is None or not found.settings or found.start:  # a branch begins elsewhere
        return ""
    return code_of(Settings().from_json(found.settings), steps)


def check(
    store: Store,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check that a store is as it was recorded, and say what of a damaged one can be read.

    The exit status is 1 if anything is wrong.
    """
    from m2n2lab.store import check

    found = check(store)
    if as_json:
        runs = [
            {
                "run": run.run,
                "first": run.steps.start if run.steps else None,
                "last": run.steps.stop - 1 if run.steps else None,
                "problems": list(run.problems),
            }
            for run in found.runs
        ]
        whole = {"whole": found.is_whole, "checksums": found.has_checksums}
        typer.echo(json.dumps({**whole, "problems": list(found.problems), "runs": runs}, indent=2))
    else:
        console = Console()
        for problem in found.problems:
            console.print(shown(f"Problem: {problem}", style="red"), soft_wrap=True)
        for run in found.runs:
            steps = run.steps
            readable = f"steps {steps.start:,} to {steps.stop - 1:,}" if steps else "nothing"
            console.print(shown(f"run {run.run}: {readable} can be read"), soft_wrap=True)
            for problem in run.problems:
                console.print(shown(f"Problem: {problem}", style="red"), soft_wrap=True)
        if not found.has_checksums:
            note = "Note: rows of this version have no checksums; only their form was checked."
            console.print(note, soft_wrap=True)
        if found.is_whole:
            console.print("Nothing is wrong.", style="green")
    if not found.is_whole:
        raise typer.Exit(1)


def backup(
    store: Store,
    copy: Annotated[Path, typer.Argument(metavar="COPY", help="New file for the copy.")],
) -> None:
    """Copy a store as it is now into one file, also while a search is recorded in it."""
    from m2n2lab.store import backup

    backup(store, copy)
    Console(stderr=True).print(shown(f"Copied {store} to {copy}"), soft_wrap=True)
