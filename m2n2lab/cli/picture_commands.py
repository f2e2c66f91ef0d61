"""Commands for models that draw: ``sheet``, ``report`` and ``choose``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from m2n2lab.cli.executor_options import Threads
from m2n2lab.cli.progress import INTERRUPTED_STATUS
from m2n2lab.cli.shared_options import (
    MERGING,
    PICTURES,
    Batch,
    Channels,
    Components,
    Config,
    Device,
    Dtype,
    EmaFrom,
    Guidance,
    Negative,
    ScheduleFrom,
    Scorer,
    SeedMap,
    Size,
    StepsPerPicture,
    TextEncoderFrom,
    TrustRemoteCode,
    VaeFrom,
    Variant,
    option,
    picture_options,
    seed_map,
)
from m2n2lab.cli.shown import shown
from m2n2lab.config.settings import Settings
from m2n2lab.utils.concurrency.interrupts import interrupt_latch
from m2n2lab.utils.concurrency.processors import default_threads
from m2n2lab.utils.errors import InputError, whole_number
from m2n2lab.utils.files import write_atomically

if TYPE_CHECKING:
    from m2n2lab.checkpoint import CheckpointSpace
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.tasks.images.diffusion import Painter
    from m2n2lab.tasks.images.one_of_n import Choice, OneOfN
    from m2n2lab.tasks.images.reports import PictureReport
    from m2n2lab.utils.progress import Progress as Drawing
    from m2n2lab.utils.progress import Watch

Prompts = Annotated[
    Path, option(PICTURES, "--prompts", help="Text file with a prompt on each line.")
]


@dataclass(frozen=True)
class DrawingOptions:
    """Options of how models are opened and draw."""

    components: Components = field(default_factory=list)
    dtype: Dtype = None
    variant: Variant = None
    text_encoder_from: TextEncoderFrom = None
    trust_remote_code: TrustRemoteCode = False
    vae_from: VaeFrom = None
    schedule_from: ScheduleFrom = None
    ema_from: EmaFrom = None
    channels: Channels = None
    config: Config = None
    size: Size = None
    steps_per_picture: StepsPerPicture = None
    guidance: Guidance = None
    negative: Negative = None
    batch: Batch = None
    device: Device = "cpu"
    threads: Threads = None

    @property
    def painter(self) -> Painter:
        """What draws.

        Raises:
            InputError: a number is out of bounds.
        """
        from m2n2lab.tasks.images.diffusion import Painter

        return Painter(self.steps_per_picture, self.guidance, self.batch, self.size, self.negative)

    def space(self, models: list[str]) -> CheckpointSpace:
        """Return the space of some models.

        Raises:
            Problems: they cannot be merged.
            InputError: an option is unknown.
        """
        import torch

        from m2n2lab.config.builders import build_seeds

        threads = default_threads() if self.threads is None else self.threads
        settings = Settings(
            task="text2image",
            models=tuple(models),
            device=self.device,
            threads=whole_number("threads", threads, 1),
            components=tuple(self.components),
            dtype=self.dtype,
            variant=self.variant,
            text_encoder_from=self.text_encoder_from,
            trust_remote_code=self.trust_remote_code,
            pictures=picture_options(
                len(models),
                vae=self.vae_from,
                schedule=self.schedule_from,
                ema=self.ema_from,
                channels=self.channels,
                config=self.config,
            ),
        )
        settings.check()
        torch.set_num_threads(threads)
        space: CheckpointSpace = build_seeds(settings, None)
        return space


@contextmanager
def watched(title: str) -> Iterator[Watch]:
    """Show the progress of drawing in the terminal; Ctrl-C ends it within a denoising step."""
    from m2n2lab.utils.progress import Watch

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with (
        interrupt_latch(override=True) as interrupt,
        Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as bars,
    ):
        bar = bars.add_task(title, total=None, words="")

        def show(drawing: Drawing) -> None:
            bars.update(bar, completed=drawing.done, total=drawing.total, words=drawing.words)

        yield Watch(show, lambda: interrupt.pressed)


def _check_png(out: Path) -> None:
    """Check that a PNG can be written, before anything is drawn.

    Raises:
        InputError: the name is none of a PNG, or its folder does not exist.
    """
    if out.suffix.lower() != ".png" or not out.absolute().parent.is_dir():
        raise InputError(
            f"The pictures must be written to a .png file in a folder that exists, got {out}; "
            f"choose another name."
        )


def sheet(
    drawing: DrawingOptions,
    models: Annotated[
        list[str],
        typer.Argument(metavar="A B", help="Two models that draw: folders, files or hub ids."),
    ],
    prompts: Prompts,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")],
    x: Annotated[
        str,
        option(
            PICTURES,
            "--x",
            help="What varies from left to right, NAME=FIRST:LAST:COUNT or NAME=VALUE,VALUE, with "
            "mix, split, guidance, seed (of the noise) or a block such as MID or IN00-IN11.",
        ),
    ] = "mix=0:1:5",
    y: Annotated[
        str | None, option(PICTURES, "--y", help="What varies from top to bottom, likewise.")
    ] = None,
    mix: Annotated[
        float, option(MERGING, "--mix", help="w: weight of B before the split point.")
    ] = 0.5,
    split: Annotated[
        float, option(MERGING, "--split", help="Split point in [0, 1]; 1 is plain SLERP.")
    ] = 1.0,
    blocks: Annotated[
        str, option(MERGING, "--blocks", help="w of blocks, as for m2n2lab merge.")
    ] = "",
) -> None:
    """Draw what merges of two models draw, from the same noise in every cell, as one PNG.

    Ctrl-C ends it; the sheet then has the cells that were drawn.
    """
    from m2n2lab.tasks.images.text2image import read_prompts
    from m2n2lab.utils.progress import Halted
    from m2n2lab.viz.xyz_sheet import Axis, Cell, Sheet

    if len(models) != 2:
        raise InputError(f"A sheet takes two models, A and B, got {len(models)}; give two.")
    made = Sheet(
        Axis.of(x),
        None if y is None else Axis.of(y),
        read_prompts(prompts),
        mix,
        split,
        blocks,
        drawing.painter,
    )
    _check_png(out)
    console = Console(stderr=True)
    space = drawing.space(models)
    for note in space.notes:
        console.print(shown(f"Note: {note}"), soft_wrap=True)
    cells: list[Cell] = []
    stopped = False
    with watched("drawing") as watch:
        try:
            cells.extend(made.cells(space, watch))
        except Halted:
            stopped = True
    if cells:
        a, b = space.names
        write_atomically(out, made.png(cells, f"A {a}, B {b}"))
    total = made.columns * made.rows
    console.print(
        shown(f"{out}: {len(cells)} of {total} cells{', stopped by Ctrl-C' if stopped else ''}"),
        soft_wrap=True,
    )
    if stopped:
        raise typer.Exit(INTERRUPTED_STATUS)


def report(
    drawing: DrawingOptions,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A [B …]", help="Models that draw, as seeds of a search; the first a whole one."
        ),
    ],
    prompts: Prompts,
    photographs: Annotated[
        Path | None,
        option(PICTURES, "--photographs", help="Folder of photographs, for a Fréchet distance."),
    ] = None,
    translations: Annotated[
        Path | None,
        option(
            PICTURES,
            "--translations",
            help="The prompts in another language, line by line, for the agreement of both.",
        ),
    ] = None,
    features: Annotated[
        str | None,
        option(PICTURES, "--features", help="CLIP that compares pictures: a folder or hub id."),
    ] = None,
    scorer: Scorer = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Report on models that draw: mean score, Fréchet distance, agreement of two languages."""
    from m2n2lab.tasks.images.judges import photographs as files_of
    from m2n2lab.tasks.images.picture_models import PictureModel
    from m2n2lab.tasks.images.reports import Reporter
    from m2n2lab.tasks.images.scorer_names import scorer_of
    from m2n2lab.tasks.images.text2image import check_pipelines, read_prompts
    from m2n2lab.utils.progress import Halted

    if photographs is not None and not photographs.is_dir():
        raise InputError(f"{photographs} must be a folder of photographs; check the path.")
    reporter = Reporter(
        read_prompts(prompts),
        drawing.painter,
        None if features is None else PictureModel(features),
        () if photographs is None else files_of(photographs),
        () if translations is None else read_prompts(translations),
        None if scorer is None else scorer_of(scorer),
    )
    # A space needs two seeds; a single model is both.
    space = drawing.space(models if len(models) > 1 else models * 2)
    check_pipelines(space)
    found: dict[str, PictureReport] = {}
    stopped = False
    with watched("drawing") as watch:
        try:
            for name, genome in zip(models, space.seeds, strict=False):
                found[name] = reporter.report(space.materialise(genome), watch)
        except Halted:
            stopped = True
    if as_json:
        values = {
            name: {key: None if value != value else value for key, value in each._asdict().items()}
            for name, each in found.items()
        }
        typer.echo(json.dumps({"stopped": stopped, "models": values}, allow_nan=False))
    else:
        table = Table()
        table.add_column("model", overflow="fold")
        for title in ("mean score", "Fréchet distance", "agreement of languages"):
            table.add_column(title, justify="right")
        for name, each in found.items():
            cells = ("–" if value != value else f"{value:.4f}" for value in each)
            table.add_row(shown(name), *cells)
        Console().print(table)
    if stopped:
        raise typer.Exit(INTERRUPTED_STATUS)


def choose(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="File with recorded runs.")],
    run: Annotated[
        int | None, typer.Option("--run", help="Number of the run; the last one by default.")
    ] = None,
    children: Annotated[
        int, typer.Option("--children", help="Children in a round, at most seven.")
    ] = 3,
    rounds: Annotated[int, typer.Option("--rounds", help="Number of rounds.")] = 1,
    prompts: Annotated[
        int, option(PICTURES, "--choices", help="Prompts that you are asked about in a round.")
    ] = 3,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="PNG with the pictures to choose from.")
    ] = Path("choice.png"),
    places: SeedMap = [],  # noqa: B006  # Typer copies it, and takes no tuple here
    threads: Threads = None,
) -> None:
    """Pick the best of several children's pictures, and let them compete with what you picked.

    A picked child scores 1 on that prompt and the others 0; the best member's picture, which is
    among them, has to be beaten. The choices are recorded as steps of the run.
    """
    import torch

    from m2n2lab.cli.run_commands import recorded
    from m2n2lab.store import resume
    from m2n2lab.tasks.images.one_of_n import OneOfN
    from m2n2lab.utils.progress import Halted
    from m2n2lab.viz.contact_sheet import draw_choice

    _check_png(out)
    whole_number("rounds", rounds, 1)
    whole_number("choices", prompts, 1)
    torch.set_num_threads(
        default_threads() if threads is None else whole_number("threads", threads, 1)
    )
    evolver = resume(store, run, seed_map=seed_map(places))
    console = Console(stderr=True)
    stopped = False
    with recorded(evolver, store):
        for number in range(rounds):
            rng = np.random.default_rng(evolver.generation)
            points = rng.permutation(evolver.task.points)[:prompts].tolist()
            one = OneOfN(evolver, children, points, rng=evolver.generation)
            try:
                for point in one.points:
                    choice = _drawn(one, point, evolver)
                    write_atomically(out, draw_choice(choice))
                    console.print(shown(f"{out}: {choice.prompt.text}"), soft_wrap=True)
                    one.pick(choice, _picked(len(choice.pictures)))
                generations = one.tell()
            except (Halted, typer.Abort):
                one.put_back()
                stopped = True
                break
            accepted = sum(generation.accepted for generation in generations)
            console.print(
                f"round {number + 1}: {accepted} of {len(generations)} children accepted, best "
                f"member {evolver.best.id}",
                highlight=False,
            )
    if stopped:
        console.print("Stopped: the choices of this round do not count.")
        raise typer.Exit(INTERRUPTED_STATUS)


def _drawn(one: OneOfN, point: int, evolver: Evolver) -> Choice:
    """Return the pictures for a prompt, whose drawing Ctrl-C stops."""
    with watched("drawing") as watch:
        unwatch = evolver.task.watch(watch)
        try:
            return one.ask(point)
        finally:
            unwatch()


def _picked(count: int) -> int | None:
    """Ask for the best picture; return its number from 0, or ``None`` for none of them."""
    while True:
        answer: int = typer.prompt(f"Which is best? 1–{count}, 0 for none", type=int, err=True)
        if 0 <= answer <= count:
            return answer - 1 if answer else None
