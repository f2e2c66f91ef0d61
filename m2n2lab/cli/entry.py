"""Entry point: the app with all commands, of which ``evolve`` and ``serve`` are defined here."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from m2n2lab.cli import checkpoint_commands, picture_commands, run_commands
from m2n2lab.cli.picture_commands import DrawingOptions
from m2n2lab.cli.progress import INTERRUPTED_STATUS, nothing_new, print_result, reported, result_of
from m2n2lab.cli.search_options import SearchOptions, SeveralValues, with_options
from m2n2lab.cli.shared_options import OUTPUT, SEARCH, option
from m2n2lab.cli.shown import shown
from m2n2lab.utils.concurrency.interrupts import ended_by_signals
from m2n2lab.utils.concurrency.processors import default_threads
from m2n2lab.utils.errors import InputError, is_of_disk, whole_number
from m2n2lab.utils.files import check_unused, writable_folder, write_atomically
from m2n2lab.utils.version import __version__

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

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


@app.command(cls=SeveralValues)
@with_options(SearchOptions)
def evolve(
    search: SearchOptions,
    steps: Annotated[
        int | None,
        option(
            SEARCH,
            "--steps",
            help="Number of steps: 10,000 by default, 100 for language, 120 for images.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None, option(OUTPUT, "--save", help="New file or folder for the best model.")
    ] = None,
    as_json: Annotated[bool, option(OUTPUT, "--json", help="Print one JSON object.")] = False,
    out: Annotated[
        Path | None,
        option(OUTPUT, "--out", help="Folder for history.csv, result.json and best.safetensors."),
    ] = None,
    store: Annotated[
        Path | None,
        option(OUTPUT, "--store", help="File to record the run in, for m2n2lab resume."),
    ] = None,
) -> None:
    """Run a search and print its result; Ctrl-C stops it and prints the result so far."""
    import torch

    executor_options, settings = search.executor_options, search.settings(default_threads())
    last = whole_number("steps", settings.steps if steps is None else steps, 0)
    folder = None if out is None else writable_folder(out)
    if save is not None:
        check_unused(save)
    if settings.draws:
        writable_folder(folder or Path())
    torch.set_num_threads(settings.threads)
    with reported(settings.title, last) as report:
        evolver = report.build(settings)
        report.show_notes(evolver)
        began = time.perf_counter()
        with (
            executor_options.opened() as executor,
            run_commands.recorded(evolver, store, settings.title, settings.to_json()),
        ):
            stopped = report.run(evolver, last, executor)
        seconds = time.perf_counter() - began
    about = {
        "task": settings.task,
        "method": settings.method,
        "seed": settings.seed,
        "pretrained": settings.pretrained,
        "models": list(settings.models),
        "options": {"mutation": evolver.options["mutation"], **settings.options},
        "executor": executor_options.executor,
        "skipped": len(executor.skipped) if executor else 0,
    }
    result = result_of(evolver, about, evolver.generation, seconds, stopped)
    if as_json:
        typer.echo(json.dumps(result, allow_nan=False))
    else:
        print_result(evolver, result)
    if folder is not None:
        write_atomically(folder / "history.csv", evolver.history.to_csv())
        write_atomically(folder / "result.json", json.dumps(result, indent=1, allow_nan=False))
        best = "best" if settings.checkpoints else "best.safetensors"
        evolver.space.save(evolver.best, folder / best)
        Console(stderr=True).print(shown(f"Wrote history.csv, result.json, {best} to {folder}"))
    if save is not None:
        evolver.space.save(evolver.best, save)
        Console(stderr=True).print(shown(f"Saved the best model to {save}"))
    if settings.draws:
        _draw_sheet(evolver, (folder or Path()) / "contact_sheet.png", stopped)
    if stopped:
        raise typer.Exit(INTERRUPTED_STATUS)


def _draw_sheet(evolver: Evolver, sheet: Path, stopped: bool) -> None:
    """Draw the contact sheet of a search, unless it was stopped and that would take long."""
    from m2n2lab.utils.progress import Halted
    from m2n2lab.viz.contact_sheet import sheet_of

    said = f"Drew the seeds and the best member in {sheet}"
    try:
        with nothing_new(evolver, stopped):
            write_atomically(sheet, sheet_of(evolver))
    except Halted:
        said = f"Did not draw {sheet}: not all of its pictures were there when the run was stopped"
    Console(stderr=True).print(shown(said), soft_wrap=True)


@app.command(cls=SeveralValues)
@with_options(SearchOptions)
def serve(
    search: SearchOptions,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 5006,
    origin: Annotated[
        list[str],
        typer.Option("--origin", help="Further HOST:PORT of the page, as of a proxy; repeatable."),
    ] = [],  # noqa: B006  # Typer copies it, and takes no tuple here
    token: Annotated[
        bool | None,
        typer.Option(
            "--token/--no-token",
            help="Ask for the token of the printed link. By default where others can reach --host.",
            show_default=False,
        ),
    ] = None,
    password: Annotated[
        bool,
        typer.Option(
            "--password", help="Ask for a password instead: M2N2LAB_PASSWORD, or typed at start."
        ),
    ] = False,
    cert: Annotated[
        Path | None, typer.Option("--cert", help="Certificate for TLS, in PEM format.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Its key, where that is another file.")
    ] = None,
    prefix: Annotated[
        str, typer.Option("--prefix", help="Path of the page, as behind a proxy: /lab.")
    ] = "",
    proxy_headers: Annotated[
        bool,
        typer.Option(
            "--proxy-headers", help="Trust X-Forwarded-For and -Proto: a proxy is before the page."
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="One search that all pages watch and steer together.")
    ] = False,
    window: Annotated[
        bool,
        typer.Option("--window", help="Open the page in a window; closing it stops the server."),
    ] = False,
    store: Annotated[
        str | None,
        option(
            OUTPUT,
            "--store",
            metavar="FILE|none",
            help="Where all runs are recorded; by default in the user's data folder.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        option(OUTPUT, "--output", help="Folder into which models are saved from the page."),
    ] = None,
    keep: Annotated[
        float,
        typer.Option("--keep", min=0.0, help="Minutes that the runs of a closed page are kept."),
    ] = 30.0,
) -> None:
    """Serve the dashboard; each browser page gets a search of its own, or all share one."""
    if show and window:
        raise InputError("--open and --window exclude each other, got both; give one of them.")
    if password and token is False:
        raise InputError(
            "--password and --no-token exclude each other, got both; give one of them."
        )
    from m2n2lab.widgets.server.access import given_password
    from m2n2lab.widgets.server.server import serve_dashboard

    options = search.executor_options
    # One core is left for the browser, which usually runs on the same machine.
    settings = search.settings(max(default_threads() - 1, 1), pretrained=True)
    serve_dashboard(
        settings,
        host,
        port,
        origin,
        show,
        window,
        shared,
        None if store in (None, "none") else Path(store),
        lambda _: options.make_executor(),
        keep,
        by_default=store is None,
        prefix=prefix,
        cert=cert,
        key=key,
        proxy_headers=proxy_headers,
        token=token,
        password=given_password(_ask_password) if password else None,
        output=output,
    )


def _ask_password() -> str:
    """Return a password that is typed twice, unseen."""
    text: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return text


app.command()(checkpoint_commands.inspect)
app.command()(checkpoint_commands.merge)
app.command()(checkpoint_commands.rebuild)
app.command()(checkpoint_commands.convert)
app.command()(checkpoint_commands.push)
app.command(cls=SeveralValues)(with_options(DrawingOptions)(picture_commands.sheet))
app.command(cls=SeveralValues)(with_options(DrawingOptions)(picture_commands.report))
app.command()(picture_commands.choose)
app.command()(run_commands.runs)
app.command()(run_commands.resume)
app.command()(run_commands.export)
app.command()(run_commands.check)
app.command()(run_commands.backup)


def _say(message: str) -> None:
    """Print a message to stderr, where that can be written to."""
    with suppress(OSError):
        Console(stderr=True).print(shown(message, keep="\n"), soft_wrap=True)


def _forget_output() -> None:
    """Let what is still to be written to full disks go nowhere, so that no flush fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # tests have streams without a number
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def main() -> None:
    """Run the command line; an ``InputError`` ends it with its sentence and status 2.

    The status is 3 if a disk is full or cannot be written to, 130 after Ctrl-C, 143 after SIGTERM
    and 129 where the terminal was closed; temporary files are removed then as well.
    """
    try:
        with ended_by_signals():
            app()
    except InputError as error:
        _say(f"Error: {error}")
        sys.exit(run_commands.PAUSED_STATUS if is_of_disk(error) else 2)
    except OSError as error:
        if not is_of_disk(error):
            raise
        _say(f"Error: The output could not be written: {error.strerror}; free some space.")
        _forget_output()
        sys.exit(run_commands.PAUSED_STATUS)
    except KeyboardInterrupt:  # before a search has begun, or for the second time
        sys.exit(INTERRUPTED_STATUS)
