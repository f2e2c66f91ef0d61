"""Commands for checkpoints: ``inspect``, ``merge``, ``rebuild`` and ``convert``."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from m2n2lab.cli.shared_options import (
    MERGING,
    MODELS,
    OUTPUT,
    Channels,
    Components,
    Config,
    Dtype,
    EmaFrom,
    Exclude,
    Freeze,
    Groups,
    Include,
    Map,
    ScheduleFrom,
    SeedMap,
    TextEncoderFrom,
    Tokenizer,
    TrustRemoteCode,
    VaeFrom,
    Variant,
    Vocab,
    named_patterns,
    option,
    picture_options,
    seed_map,
    seed_number,
)
from m2n2lab.cli.shown import shown
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number
from m2n2lab.utils.files import temporary_folder

if TYPE_CHECKING:
    from m2n2lab.checkpoint.checks.preflight import Preflight
    from m2n2lab.checkpoint.io.checkpoint import Checkpoint
    from m2n2lab.checkpoint.plan import Plan
    from m2n2lab.checkpoint.space import CheckpointSpace
    from m2n2lab.core.operators import Crossover
    from m2n2lab.core.operators.parts import Parts
    from m2n2lab.core.records import Proposal
    from m2n2lab.core.spaces.layout import Layout

PROBLEM_FIELDS = ("file", "tensor", "expected", "found", "fix")
"""Of a problem in JSON."""

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="A B …",
        help="Folders, .safetensors files or hub ids; BASE+LORA or BASE+LORA:0.8 adds an adapter.",
    ),
]
Out = Annotated[
    Path,
    option(
        OUTPUT,
        *("--out", "-o"),
        help="Folder to create, new or empty; or a new .safetensors file if A is one, or a "
        "pipeline of which such files are known.",
    ),
]


def inspect(
    sources: Sources,
    components: Components = [],  # noqa: B006  # Typer copies it, and takes no tuple here
    vocab: Vocab = None,
    names: Map = [],  # noqa: B006
    variant: Variant = None,
    headers: Annotated[
        bool, typer.Option("--headers", help="Read headers only: quick, but without cosines.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option("--top", help="Only so many tensors, those that differ most."),
    ] = None,
    sort: Annotated[
        str,
        typer.Option("--sort", help="Order of tensors: file, difference, angle or parameters."),
    ] = "file",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the tensors of checkpoints, how they differ, and all reasons why a merge would fail.

    The difference of a tensor is the norm of B - A, as a share of that of A. The exit status is 1
    if they cannot be merged.
    """
    if top is not None:
        whole_number("top", top, 1)
    choose("order of tensors", sort, ("file", "difference", "angle", "parameters"))
    from m2n2lab.checkpoint import Problems

    first, found = _check(
        sources,
        as_json,
        headers,
        components=components or None,
        vocab=_vocab(vocab),
        variant=variant,
        map=names,
    )
    rows = _tensor_rows(first, found.plan.layout if found.plan else None)
    omega = None
    if found.plan and not headers:
        try:
            omega, notes = _compare(found.plan, sources[1:], rows, quiet=as_json)
            found = replace(found, notes=notes)
        except Problems as error:  # such as NaN, which only the weights themselves show
            found = replace(found, problems=error.problems)
    if top is not None or sort != "file":
        rows = _sorted(rows, sort if sort != "file" else "difference")[:top]
    if as_json:
        typer.echo(json.dumps(_inspection(sources, found, rows, omega), indent=2))
    else:
        _print_inspection(sources, found, rows, omega)
    if found.problems:
        raise typer.Exit(1)


def _check(
    sources: list[str], quiet: bool, headers: bool, **options: Any
) -> tuple[Checkpoint | None, Preflight]:
    """Return the first checkpoint, if it can be opened, and the result of the preflight."""
    from m2n2lab.checkpoint import Checkpoint, Preflight, Problems, preflight
    from m2n2lab.checkpoint.io.hub import outline

    try:
        with _bars(quiet) as bar:
            bar.next("opening", 0)
            if len(sources) > 1:
                found = preflight(sources, progress=bar.advance, headers=headers, **options)
                return found.plan.base if found.plan else None, found
            components, variant = options["components"], options["variant"]
            with temporary_folder() as folder:
                known = outline(sources[0], folder, variant) if headers else None
                place = folder if known == "headers" else sources[0]
                opened = Checkpoint.open(place, components, bar.advance, variant)
            return opened, Preflight((), opened.changes.notes, None)
    except Problems as error:
        return None, Preflight(error.problems, (), None)


def _vocab(vocab: str | None) -> Any:
    from m2n2lab.checkpoint.tokens.vocabulary import MODES

    return choose("way to treat vocabularies", vocab or "refuse", MODES)


def _tensor_rows(checkpoint: Checkpoint | None, layout: Layout | None) -> list[dict[str, Any]]:
    """Return one row for each tensor of the flat vector."""
    if checkpoint is None:
        return []
    layout = layout or checkpoint.layout
    return [
        {
            "tensor": name,
            "kind": checkpoint.entry(name).dtype,
            "shape": list(shape),
            "parameters": math.prod(shape),
            "offset": offset,
        }
        for (name, shape), offset in zip(layout.shapes.items(), layout.offsets, strict=False)
    ]


def _sorted(rows: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Return the rows of tensors, the largest first."""
    key = {"angle": "angle_degrees"}.get(by, by)

    def size(row: dict[str, Any]) -> float:
        value = row.get(key, 0.0)
        return max(value.values()) if isinstance(value, dict) else float(value)

    return sorted(rows, key=size, reverse=True)


def _compare(
    plan: Plan, names: list[str], rows: list[dict[str, Any]], quiet: bool
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Add to each tensor how it differs from the first seed's.

    Returns:
        The models' angles in degrees, and remarks.
    """
    with _open_space(plan, quiet) as (space, _):
        first, *others = space.seeds
        for source, other in zip(names, others, strict=True):
            angles, distances = space.angles(first, other), space.distances(first, other)
            for row, omega, distance in zip(rows, angles, distances, strict=True):
                row.setdefault("difference", {})[source] = distance
                row.setdefault("angle_degrees", {})[source] = math.degrees(omega)
                row.setdefault("cosine", {})[source] = math.cos(omega)
        found = {
            source: math.degrees(space.angle(first, other))
            for source, other in zip(names, others, strict=True)
        }
        return found, space.notes


def _inspection(
    sources: list[str],
    found: Preflight,
    rows: list[dict[str, Any]],
    omega: dict[str, float] | None,
) -> dict[str, Any]:
    return {
        "checkpoints": sources,
        "parameters": sum(row["parameters"] for row in rows),
        "angle_degrees": omega,
        "problems": [
            {name: getattr(problem, name) for name in PROBLEM_FIELDS} for problem in found.problems
        ],
        "notes": list(found.notes),
        "tensors": rows,
    }


def _print_inspection(
    sources: list[str],
    found: Preflight,
    rows: list[dict[str, Any]],
    omega: dict[str, float] | None,
) -> None:
    console = Console()
    if rows:
        table = Table(box=None, header_style="bold")
        table.add_column("tensor", overflow="fold")
        for name in ("dtype", "shape", "parameters", "begins at"):
            table.add_column(name, justify="right")
        for source in omega or {}:
            table.add_column(shown(f"difference from {source}"), justify="right")
            table.add_column(shown("angle"), justify="right")
            table.add_column(shown(f"cosine with {source}"), justify="right")
        for row in rows:
            compared = [
                text
                for source in omega or {}
                for text in (
                    f"{row['difference'][source]:.3g}",
                    f"{row['angle_degrees'][source]:.3g}°",
                    f"{row['cosine'][source]:.7f}",
                )
            ]
            shape = " × ".join(map(str, row["shape"])) or "scalar"
            figures = (f"{row['parameters']:,}", f"{row['offset']:,}")
            table.add_row(shown(row["tensor"]), row["kind"], shape, *figures, *compared)
        console.print(table)
        total = sum(row["parameters"] for row in rows)
        console.print(f"{total:,} parameters in {len(rows):,} tensors", highlight=False)
    for source, degrees in (omega or {}).items():
        console.print(shown(f"angle ω between {sources[0]} and {source}: {degrees:.2f}°"))
    for note in found.notes:
        console.print(shown(f"Note: {note}"), soft_wrap=True)
    for problem in found.problems:
        console.print(shown(f"Problem: {problem}", style="red"), soft_wrap=True)
    if found.plan and not found.problems:
        console.print("These can be merged.", style="green")


def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [BASE]",
            help="Two checkpoints, and those that a crossover takes as its base; one alone with "
            "an adapter (BASE+LORA:0.8) gets the adapter baked in.",
        ),
    ],
    out: Out,
    mix: Annotated[
        float, option(MERGING, "--mix", help="w: weight of B before the split point.")
    ] = 0.5,
    split: Annotated[
        str,
        option(
            MERGING,
            "--split",
            help="Split point: a fraction of the flat vector in [0, 1], or the name (or its "
            "beginning) of the first tensor after it. 1 is plain SLERP. Several are separated by "
            "commas.",
        ),
    ] = "1",
    blocks: Annotated[
        str | None,
        typer.Option(
            "--blocks",
            help="w of blocks of a picture model: IN00-IN11=0.3,MID=0.5,OUT00-OUT11=0.7, BASE for "
            "all else, D00 and S00 (FLUX) or B00 of transformers, or preset:GRAD_V. Others have "
            "--mix.",
        ),
    ] = None,
    crossover: Annotated[
        str,
        option(
            MERGING,
            "--crossover",
            help="Merge by another rule: lerp, splits, per-layer, add-difference, sum-of-three, "
            "task-arithmetic, ties or dare, with parameters as in add-difference:base=2, which is "
            "A + mix (B - C), and ties:base=2,density=0.3 (2 is the third checkpoint, C).",
        ),
    ] = "slerp",
    include: Include = [],  # noqa: B006  # as above
    exclude: Exclude = [],  # noqa: B006
    freeze: Freeze = [],  # noqa: B006
    groups: Groups = [],  # noqa: B006
    rng: Annotated[
        int,
        option(
            MERGING,
            "--rng",
            help="Seed of what is drawn: splits and mixes of further groups, DARE's masks.",
        ),
    ] = 0,
    granularity: Annotated[
        str, option(MERGING, "--granularity", help="One angle per model or per tensor.")
    ] = "model",
    dtype: Dtype = None,
    components: Components = [],  # noqa: B006
    vocab: Vocab = None,
    names: Map = [],  # noqa: B006
    variant: Variant = None,
    tokenizer: Tokenizer = None,
    text_encoder_from: TextEncoderFrom = None,
    trust_remote_code: TrustRemoteCode = False,
    vae_from: VaeFrom = None,
    schedule_from: ScheduleFrom = None,
    ema_from: EmaFrom = None,
    channels: Channels = None,
    config: Config = None,
    form: Annotated[
        str | None,
        option(
            OUTPUT,
            "--as",
            help="Of picture models: file, one file as of ComfyUI and A1111; folder, the files of "
            "A; diffusers, a pipeline. By default as the name of the result says.",
        ),
    ] = None,
    as_adapter: Annotated[
        bool,
        option(
            OUTPUT,
            "--as-adapter",
            help="Save a merge of adapters of one base as an adapter of that base.",
        ),
    ] = False,
    rank: Annotated[
        int | None,
        option(OUTPUT, "--rank", help="Rank of the adapter that is saved; 16 by default."),
    ] = None,
    dry_run: Annotated[
        bool, option(OUTPUT, "--dry-run", help="Print what would be done, and stop.")
    ] = False,
) -> None:
    """Merge two checkpoints by SLERP with a split point into a folder that loads as they do.

    Before the split point the child is SLERP at w, from it on at 1 − w (arXiv 2508.16204), or a
    merge by another crossover with these shares. The folder appears once it is complete.
    """
    from m2n2lab.checkpoint import Problems, preflight
    from m2n2lab.checkpoint.io.single_file import is_single_file
    from m2n2lab.checkpoint.picture_options import PictureOptions
    from m2n2lab.checkpoint.special_tokens import checked_tokenizer
    from m2n2lab.core.operators import Crossover, Splits
    from m2n2lab.core.records import Proposal

    first, *others = [text.strip() for text in split.split(",")]
    rule = _rule(Crossover.of(crossover), blocks, bool(others))
    if len(sources) > 1:
        _check_count(sources, rule)
    mix = real_number("mix", mix, 0.0, 1.0)
    number = seed_number(tokenizer, len(sources))
    choose("granularity", granularity, ("model", "tensor"))
    if rank is not None:
        whole_number("rank", rank, 1)
        if not as_adapter:
            raise InputError(
                "--rank is that of an adapter that is saved, got no --as-adapter; add it, or leave "
                "--rank out."
            )
    if text_encoder_from is not None:
        if number is not None:
            raise InputError(
                "--tokenizer and --text-encoder-from both choose the tokenizer, got both; give one "
                "of them."
            )
        number = int(real_number("text-encoder-from", text_encoder_from, 0, len(sources) - 1))
    of_file = is_single_file(sources[0])  # which has no tokenizer, but perhaps text encoders
    pictures = picture_options(
        len(sources),
        vae=vae_from,
        schedule=schedule_from,
        ema=ema_from,
        text_encoder=str(number) if of_file and number is not None else None,
        channels=channels,
        config=config,
    )
    number = None if of_file else number
    options: dict[str, Any] = {
        "components": components or None,
        "dtype": dtype,
        "vocab": _vocab(vocab),
        "variant": variant,
        "trust_remote_code": trust_remote_code,
        "map": names,
        "pictures": PictureOptions(**pictures, form=form),
    }
    with _bars(quiet=False) as bar:
        bar.next("opening", 0)
        found = preflight(sources, out=out, progress=bar.advance, **options)
    if found.plan is None:
        raise Problems(*found.problems)
    console = Console(stderr=True)
    checked_tokenizer(found.plan, number)
    layout = found.plan.layout
    at = _split_index(first, layout)
    if others:
        places = [_split_index(text, layout) / layout.size for text in others]
        rule = Splits(at=tuple(places))
    limits = {"include": include, "exclude": exclude, "freeze": freeze}
    parts = _parts(layout, groups, **limits)
    proposal = Proposal((0, 1), at, mix, whole_number("rng", rng, 0))
    for note in found.notes:
        console.print(shown(f"Note: {note}"), soft_wrap=True)
    memory = decimal(found.memory + _tensor_memory(found.plan, rule))
    cuts = _cuts(rule, proposal, layout, parts) if len(sources) > 1 else "adapters alone"
    summary = (
        f"{layout.size:,} parameters; {cuts}; about "
        f"{decimal(found.written)} to write, {found.seconds:.0f} s on a disk of 1 GB/s, "
        f"{memory} of memory"
    )
    console.print(shown(summary), soft_wrap=True)
    if dry_run:
        return
    began = time.perf_counter()
    description = _description(rule, proposal, layout, parts)
    description += "".join(
        f", {name} {' '.join(patterns)}" for name, patterns in limits.items() if patterns
    )
    description += ", an angle for each tensor" if granularity == "tensor" else ""
    with _open_space(found.plan, False, granularity=granularity, tokenizer=number) as (space, bar):
        for note in space.notes[len(found.plan.notes) :]:
            console.print(shown(f"Note: {note}"), soft_wrap=True)
        if len(sources) > 1:
            child = _crossed(rule, proposal, space, parts)
        else:
            child, description = space.seeds[0], "its adapters added to the base"
        if as_adapter:
            _save_as_adapter(space, child, out, rank, description, bar, console)
        else:
            bar.next("merging", found.plan.cost)
            space.save(child, out, description, bar.advance)
    _print_done(console, out, time.perf_counter() - began)


def _save_as_adapter(
    space: CheckpointSpace,
    child: Any,
    out: Path,
    rank: int | None,
    description: str,
    bar: _Bar,
    console: Console,
) -> None:
    """Save a merge as an adapter, and print what that loses of each tensor."""
    from m2n2lab.checkpoint.as_adapter import DEFAULT_RANK, overall_error, save_as_adapter

    bar.next("factoring", 0)
    rank = DEFAULT_RANK if rank is None else rank
    saved = save_as_adapter(space, child, out, rank, description, bar.advance)
    table = Table(box=None, header_style="bold")
    table.add_column("tensor", overflow="fold")
    for name in ("norm of the difference", "lost"):
        table.add_column(name, justify="right")
    for each in saved:
        table.add_row(shown(each.name), f"{each.norm:.4g}", f"{each.error:.3%}")
    console.print(table)
    console.print(f"rank {rank}: {overall_error(saved):.3%} of the difference is lost in all")


def _check_count(sources: list[str], rule: Crossover) -> None:
    """Check that there are A and B, and the base of a crossover that has one.

    Raises:
        InputError: there are more or fewer.
    """
    base = rule.parameters.get("base")
    needed = 2 if not isinstance(base, int) else max(2, base + 1)
    if len(sources) == needed:
        return
    if base is None:
        raise InputError(
            f"A merge takes two checkpoints, A and B, got {len(sources)}; merge further ones into "
            f"the result, or choose a rule for three: --crossover sum-of-three:base=2, or "
            f"add-difference:base=2."
        )
    raise InputError(
        f"A merge by {rule!r} takes {needed} checkpoints, A and B, and those up to its base "
        f"(number {base}, counted from 0), got {len(sources)}; give a base as the third one with "
        f"base=2."
    )


def _rule(rule: Crossover, blocks: str | None, several: bool) -> Crossover:
    """Return the crossover with weights of blocks, or one that several splits can be given to.

    Raises:
        InputError: options exclude each other.
    """
    from m2n2lab.core.operators import Blocks, Lerp, Slerp

    if several and (blocks is not None or rule != Slerp()):
        raise InputError(
            "Several splits are for SLERP without blocks, got --blocks or --crossover too; give "
            "one split, or leave these out."
        )
    if blocks is None:
        return rule
    if rule not in (Slerp(), Lerp()):
        raise InputError(
            f"--blocks is for the crossovers slerp and lerp, got {rule!r}; leave one of them out."
        )
    return Blocks(blocks, linear=rule == Lerp())


def _parts(layout: Layout, groups: list[str], **limits: list[str]) -> Parts | None:
    """Return the parts of a merge that options name; ``None`` without any."""
    from m2n2lab.core.operators.parts import Parts

    named = named_patterns(groups)
    if not named and not any(limits.values()):
        return None
    return Parts(layout, named or None, **limits)


def _crossed(rule: Crossover, proposal: Proposal, space: CheckpointSpace, parts: Any) -> Any:
    """Return the recipe of the child of the first two seeds."""
    from m2n2lab.core.operators import Slerp
    from m2n2lab.core.operators.parts import crossover_rng

    a, b, *_ = space.seeds
    if parts is not None:
        return parts.cross(rule, a, b, proposal, space)
    if rule == Slerp():
        return space.merge(a, b, int(proposal.split or 0), float(proposal.mix or 0.0))
    return rule(a, b, proposal, space, crossover_rng(proposal))


def _cuts(rule: Crossover, proposal: Proposal, layout: Layout, parts: Parts | None) -> str:
    """Return splits and mixes of a merge, or of each of its groups, as text."""
    from m2n2lab.core.operators import Blocks, Splits

    if parts is None:
        cuts = [int(proposal.split or 0)]
        if isinstance(rule, Splits):
            cuts = sorted([*cuts, *(round(place * layout.size) for place in rule.at)])
        places = ", ".join(f"{cut:,} ({layout.locate(cut)})" for cut in cuts)
        own = f", blocks {rule.described(layout)}" if isinstance(rule, Blocks) else ""
        return f"split at {places}, mix {proposal.mix:g}{own}"
    return "; ".join(
        f"{group.name}: {group.size:,} in {len(group.layout.shapes):,} tensors, split at "
        f"{cut.split:,} of them ({group.layout.locate(cut.split)}), mix {cut.mix:g}"
        for group, cut in zip(parts.groups, parts.cuts(proposal), strict=True)
    )


def _description(rule: Crossover, proposal: Proposal, layout: Layout, parts: Parts | None) -> str:
    """Return how a merge is made as a sentence."""
    from m2n2lab.core.operators import Blocks, Slerp, Splits

    if isinstance(rule, Splits) and rule.at and parts is None:
        cuts = _cuts(rule, proposal, layout, parts).removeprefix("split at ")
        return f"SLERP of A and B, whose shares are exchanged at parameters {cuts}"
    what = "SLERP" if rule == Slerp() else repr(rule)
    if isinstance(rule, Blocks) and parts is None:
        what = f"{'Lerp' if rule.linear else 'SLERP'} by blocks ({rule.described(layout)})"
    if parts is not None:
        cuts = _cuts(rule, proposal, layout, parts)
        return f"{what} of A and B by groups of tensors ({cuts}; rng {proposal.seed})"
    at, mix = int(proposal.split or 0), float(proposal.mix or 0.0)
    found = f"{what} of A and B with mix {mix if at else 1.0 - mix:g}"
    if 0 < at < layout.size:
        found += f" before parameter {at:,} ({layout.locate(at)}) and {1.0 - mix:g} from it on"
    return found if isinstance(rule, Blocks | Slerp) else f"{found}, rng {proposal.seed}"


def _tensor_memory(plan: Plan, rule: Crossover) -> int:
    """Return the bytes that TIES, or another rule for whole tensors, needs for the largest."""
    from m2n2lab.core.operators import TensorRule

    # In float64 three inputs, the shares, and up to five arrays that TIES makes of them.
    return 8 * 9 * max(plan.sizes.values()) if isinstance(rule, TensorRule) else 0


def _split_index(split: str, layout: Layout) -> int:
    """Return the index of a split point given as a fraction of the vector or a tensor's name."""
    try:
        fraction = float(split)
    except ValueError:
        offsets = zip(layout.shapes, layout.offsets, strict=False)
        found = next((offset for name, offset in offsets if split and name.startswith(split)), None)
        if found is None:
            raise InputError(
                f"split must be a number in [0, 1] or the beginning of a tensor's name, got "
                f"{split!r}; m2n2lab inspect lists the names."
            ) from None
        return found
    return round(real_number("split", fraction, 0.0, 1.0) * layout.size)


def rebuild(
    recipe: Annotated[Path, typer.Argument(help="The recipe.json of a merge.")],
    out: Out,
    seeds: Annotated[
        list[str],
        option(
            MODELS,
            "--seed",
            help="Current path or hub id of a seed; one for each, in the recipe's order.",
        ),
    ] = [],  # noqa: B006  # as above
    places: SeedMap = [],  # noqa: B006
) -> None:
    """Repeat a merge from its recipe, byte for byte, or report which seed has changed."""
    from m2n2lab.checkpoint import rebuild

    began = time.perf_counter()
    with _bars(quiet=False) as bar:
        bar.next("checking the seeds", 0)
        rebuild(
            recipe,
            out,
            seeds or None,
            bar.advance,
            starting=lambda plan: bar.next("merging", plan.cost),
            seed_map=seed_map(places),
        )
    _print_done(Console(stderr=True), out, time.perf_counter() - began)


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Folder, file or hub id to convert.")
    ],
    out: Out,
    config: Config = None,
) -> None:
    """Convert pickles into safetensors, a pipeline into one file, or one file into a pipeline.

    Pickled weights (.bin, .pt, .ckpt) become a folder with safetensors, tensors only; merges do so
    by themselves, once, in the user's cache. A pipeline of diffusers becomes one file of ComfyUI
    where OUT ends in .safetensors, and a single file of a picture model a pipeline.
    """
    from m2n2lab.checkpoint.checks.preflight import is_one_file
    from m2n2lab.checkpoint.convert_picture import convert_picture
    from m2n2lab.checkpoint.io.hub import from_hub
    from m2n2lab.checkpoint.io.pickles import convert, pickled_bytes
    from m2n2lab.checkpoint.io.single_file import is_single_file

    began = time.perf_counter()
    place = Path(source) if Path(source).exists() else from_hub(source)
    with _bars(quiet=False) as bar:
        bar.next("converting", pickled_bytes(place))
        if is_one_file(out) or is_single_file(place) or config is not None:
            convert_picture(place, out, config, bar.advance)
        else:
            convert(place, out, bar.advance)
    _print_done(Console(stderr=True), out, time.perf_counter() - began)


def push(
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of a saved merge, with recipe.json.")
    ],
    name: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="Repository on the Hugging Face hub.")
    ],
    public: Annotated[
        bool,
        option(OUTPUT, "--public", help="Make a new repository public; it is private otherwise."),
    ] = False,
    message: Annotated[
        str, option(OUTPUT, "--message", help="Message of the commit.")
    ] = "Upload a merged model",
) -> None:
    """Upload a saved merge to the Hugging Face hub, into a private repository unless it exists.

    Log in once with hf auth login, or set HF_TOKEN.
    """
    from m2n2lab.checkpoint.record.merge_record import Record
    from m2n2lab.checkpoint.record.upload import push

    address = push(folder, name, private=not public, message=message)
    console = Console(stderr=True)
    console.print(shown(f"{folder} is at {address}"), soft_wrap=True)
    if paths := Record.read(folder / "recipe.json").absolute_paths:
        console.print(
            shown(
                f"Note: The recipe, in recipe.json and in the weights, has the paths of seeds as "
                f"they were given ({', '.join(paths)}); merge with paths relative to the working "
                f"directory to publish none of this computer."
            ),
            soft_wrap=True,
        )


def _print_done(console: Console, out: Path, seconds: float) -> None:
    files = [out] if out.is_file() else out.rglob("*")
    size = sum(path.stat().st_size for path in files if path.is_file())
    console.print(shown(f"{out}: {size:,} bytes in {seconds:.1f} s"), soft_wrap=True)


class _Bar:
    """A progress bar in bytes, with one line for each phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._line = progress.add_task("", visible=False)

    def next(self, phase: str, total: int) -> None:
        self._progress.update(self._line, visible=False)
        self._line = self._progress.add_task(phase, total=total or None)

    def advance(self, done: int) -> None:
        self._progress.advance(self._line, done)


@contextmanager
def _bars(quiet: bool) -> Iterator[_Bar]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        yield _Bar(progress)


@contextmanager
def _open_space(plan: Plan, quiet: bool, **options: Any) -> Iterator[tuple[CheckpointSpace, _Bar]]:
    from m2n2lab.checkpoint import CheckpointSpace

    with _bars(quiet) as bar:
        bar.next("reading", plan.read)
        yield CheckpointSpace.of(plan, progress=bar.advance, **options), bar
