"""Preflight: all reasons why a merge would fail, found from names and headers alone."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from m2n2lab.checkpoint.checks.config_differences import behaviour_differences
from m2n2lab.checkpoint.checks.picture_checks import compare_pictures, tokenizer_clash
from m2n2lab.checkpoint.io.adapters.source import Source
from m2n2lab.checkpoint.io.checkpoint import (
    NOTHING_KNOWN,
    Checkpoint,
    Known,
    Part,
    scan,
    sort_key,
    with_adapters,
)
from m2n2lab.checkpoint.io.dtypes import EIGHT_BITS, FROM_SHORT, FROM_TORCH, WIDE
from m2n2lab.checkpoint.io.folder import read_json
from m2n2lab.checkpoint.io.hub import outline
from m2n2lab.checkpoint.io.names import EMBEDDINGS, HEADS, TABLES
from m2n2lab.checkpoint.io.parallel import PIECE_ELEMENTS, THREADS, Progress, no_progress
from m2n2lab.checkpoint.io.picture_layouts import FAMILIES, family_of_file
from m2n2lab.checkpoint.io.problems import Collector, Problem
from m2n2lab.checkpoint.io.single_file import is_single_file, open_as_components
from m2n2lab.checkpoint.io.single_file_names import describe_parts, part_of
from m2n2lab.checkpoint.name_map import (
    NameMap,
    align,
    firsts,
    holds_language_model,
    name_pairs,
    text_config,
)
from m2n2lab.checkpoint.picture_options import NO_PICTURE_OPTIONS, PictureOptions
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.record.merge_record import CHAT_TEMPLATES, copied_files
from m2n2lab.checkpoint.special_tokens import end_tokens
from m2n2lab.checkpoint.tokens.tokenizers import (
    Tokens,
    encoding_difference,
    first_clash,
    has_tokenizer,
    read_tokens,
    says_clash,
)
from m2n2lab.checkpoint.tokens.vocabulary import (
    MODES,
    CannotArrangeError,
    Mode,
    Vocabulary,
    arrange,
)
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.utils.errors import InputError, choose, described, is_of_disk
from m2n2lab.utils.files import MAX_TEXT_BYTES, read_file, read_text, temporary_folder

SIZE_KEYS = {
    "width": ("hidden_size", "n_embd", "d_model", "block_out_channels", "cross_attention_dim"),
    "width of the feed-forward layers": ("intermediate_size", "n_inner", "d_ff"),
    "depth": ("num_hidden_layers", "n_layer", "num_layers", "layers_per_block"),
    "attention heads": ("num_attention_heads", "n_head", "num_heads", "attention_head_dim"),
    "key-value heads": ("num_key_value_heads",),
}
"""Entries of configs that must agree for models to have one architecture."""

INPUT = re.compile(r"(conv_in|x_embedder|pos_embed\.proj|input_blocks\.0\.0|img_in)\.weight$")
"""First layers of denoisers, whose width says whether they are for inpainting."""

DISK_BYTES_PER_SECOND = 1e9
"""Speed that estimates assume: a solid-state disk."""


@dataclass(frozen=True)
class Preflight:
    """Result of checking a merge before any weight is read.

    Attributes:
        problems: reasons why it would fail; empty if there are none.
        notes: remarks on the result that do not prevent it.
        plan: the merge, or ``None`` if there are problems.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    plan: Plan | None

    @property
    def read(self) -> int:
        """Bytes of weights that a merge reads: once for inner products, once to merge them."""
        if self.plan is None:
            return 0
        return 2 * sum(file.length for seed in self.plan.seeds for file in seed.files)

    @property
    def written(self) -> int:
        """Bytes of weights that a merge writes."""
        return self.plan.written if self.plan else 0

    @property
    def seconds(self) -> float:
        """Estimated time of a merge on a disk of 1 GB/s."""
        return (self.read + self.written) / DISK_BYTES_PER_SECOND

    @property
    def memory(self) -> int:
        """Estimated peak memory in bytes beyond the system's file cache; the same for any model."""
        return 300_000_000 + THREADS * PIECE_ELEMENTS * 8


def preflight(
    sources: Sequence[str | Path],
    *,
    components: Sequence[str] | None = None,
    dtype: str | None = None,
    vocab: Mode = "refuse",
    variant: str | None = None,
    trust_remote_code: bool = False,
    map: NameMap | None = None,
    out: str | Path | None = None,
    progress: Progress = no_progress,
    known: Known | None = NOTHING_KNOWN,
    headers: bool = False,
    pictures: PictureOptions = NO_PICTURE_OPTIONS,
) -> Preflight:
    """Check whether checkpoints can be merged, reading only their headers.

    Checkpoints on the hub are downloaded once their configs and headers have passed.

    Args:
        sources: at least two checkpoints, or one with adapters (see ``Checkpoint.open``).
        components: components of diffusers pipelines to merge.
        dtype: ``"bfloat16"``, ``"float16"``, ``"float32"`` (or ``"bf16"``, ``"fp16"``, ``"fp32"``)
            for the result; that of the first seed by default.
        vocab: for vocabularies that differ, ``"refuse"``, or merge the rows that all seeds have
            and keep no others (``"common"``), all that any seed has (``"union"``) or those of
            the ``"first"``.
        variant: the variant of files to read where a checkpoint has it, such as ``"fp16"``; the
            result keeps its names. By default plain files are read, or the only variant's, and the
            result has plain names.
        trust_remote_code: whether code that comes with a model may be run. Without, the class of a
            pipeline of its own repository is replaced by its counterpart in diffusers.
        map: pairs of names or patterns, such as ``"language_model.model.*=model.*"``: the first
            seed's tensors, and those of other seeds that are merged into them, alone. It is found
            for a language model and one that holds it, such as a vision-language model.
        out: folder that the result will be written to; checked as well if given.
        progress: called with the number of bytes of pickles converted since the last call.
        known: what a module says of the tensors; ``None`` merges no buffers, as version 0.1 did.
        headers: whether the headers of checkpoints on the hub suffice: their weights are not
            downloaded then, so the plan cannot be carried out.
        pictures: whose parts the result of picture models has.

    Raises:
        InputError: an option is unknown, or there are fewer than two seeds.
    """
    choose("way to treat vocabularies", vocab, MODES)
    wanted = None if dtype is None else _safetensors_dtype(dtype)
    pairs = name_pairs(map)
    if not isinstance(sources, (str, os.PathLike)) and not hasattr(sources, "__len__"):
        raise InputError(
            f"A merge needs at least two checkpoints in a list, got {described(sources)}; list "
            f"their paths."
        )
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    for source in sources:
        if not isinstance(source, (str, os.PathLike)):
            raise InputError(
                f"A checkpoint must be a path or a hub id, got {described(source)}; give models in "
                f"memory, modules or vectors, to m2n2lab.DenseSpace([a, b])."
            )
    options = _Options(
        components, wanted, vocab, variant, trust_remote_code, pairs, known, pictures
    )
    with temporary_folder() as folder:
        found = _without_weights(sources, folder, options)
    if found is None or not (found.problems or headers):
        found = _checked(sources, sources, options, progress)
    problems, plan = Collector(), found.plan
    problems.extend(found.problems)
    if out is not None:
        _check_output(Path(out), plan, problems)
    return replace(found, problems=tuple(problems.found), plan=None if problems.found else plan)


class _Options(NamedTuple):
    """Options of ``preflight`` that decide what a merge is."""

    components: Sequence[str] | None
    dtype: str | None
    vocab: Mode
    variant: str | None
    trust_remote_code: bool
    pairs: tuple[str, ...]
    known: Known | None
    pictures: PictureOptions


def _without_weights(
    names: Sequence[str | Path], folder: Path, options: _Options
) -> Preflight | None:
    """Check checkpoints on the hub by their configs and headers, before they are downloaded.

    Args:
        names: the sources.
        folder: an empty folder to work in.
        options: those of the merge.

    Returns:
        The result; ``None`` if nothing would be downloaded, or too little is known without.
    """
    copies = [folder / str(k) for k in range(len(names))]
    kinds = [
        outline(str(name), copy, options.variant) for name, copy in zip(names, copies, strict=True)
    ]
    if not any(kinds):
        return None
    seen = [copy if kind else name for copy, name, kind in zip(copies, names, kinds, strict=True)]
    problems = Collector()
    if "configs" in kinds and not options.pairs:
        parts = [
            Part("", Path(place), config, ())
            for place in seen
            if (config := read_json(Path(place, "config.json"), Collector()))
        ]
        for part in parts[1:]:
            if holds_language_model(part) == holds_language_model(parts[0]):
                _compare_configs(parts[0], part, problems, [])
    known = [k for k, kind in enumerate(kinds) if kind != "configs"]
    found = None
    if len(known) > 1 and not problems.found:
        found = _checked([names[k] for k in known], [seen[k] for k in known], options, no_progress)
        problems.extend(found.problems)
    if not problems.found:
        return found if len(known) == len(names) else None
    told = {str(copy): str(name) for copy, name in zip(copies, names, strict=True)}
    notes = found.notes if found else ()
    return Preflight(tuple(problem.with_names(told) for problem in problems.found), notes, None)


def _checked(
    names: Sequence[str | Path],
    places: Sequence[str | Path],
    options: _Options,
    progress: Progress,
) -> Preflight:
    """Return the result of ``preflight`` for checkpoints that are read at ``places``.

    There may be a plan although there are problems.
    """
    components, wanted, vocab, variant, trusted, pairs, known, pictures = options
    problems, notes = Collector(), list[str]()
    opened, broken = list[Checkpoint](), set[int]()
    for name, place in zip(names, places, strict=True):
        each = Source.parse(place)
        own = Collector()
        if is_single_file(each.base) and opened and opened[0].kind == "diffusers":
            seed = open_as_components(each.base, opened[0], own, known)
            seed = seed and with_adapters(seed, each, own, progress)
        else:
            seed = scan(each, components, own, progress, known, variant)
        problems.extend(own.found)
        if seed is not None:
            if own.found:
                broken.add(len(opened))
            opened.append(replace(seed, id=str(name)) if name is not place else seed)
    plan = None
    if len(names) < 2 and not problems.found and not any(seed.adapters for seed in opened):
        raise InputError(
            f"A merge needs at least two checkpoints, got {'one' if names else 'none'}; add "
            f"another, or an adapter (BASE+ADAPTER)."
        )
    if len(opened) > 1 or (opened and len(names) == 1):
        opened, pairs = align(opened, pairs, problems)
        base, *others = opened
        notes += _says_map(opened, pairs)
        comparable = [base]
        tables, channels = set[str](), dict[str, int]()
        for k, other in enumerate(others, 1):
            whole = _compare_parts(base, other, problems, notes)
            if whole:
                notes += compare_pictures(base, other)
            # Every tensor of a file that could not be read would be reported as missing.
            if whole and not broken & {0, k}:
                comparable.append(other)
                _compare_names(base, other, problems, notes, pairs, pictures)
                tables |= _compare_shapes(base, other, problems, pictures, channels)
        arranged = _arrange(comparable, tables, vocab, problems, notes)
        plan = _plan(tuple(opened), wanted, arranged)
        plan = replace(
            plan, variant=variant, trust_remote_code=trusted, map=pairs, pictures=pictures
        )
        plan = _with_channels(plan, channels)
        if not problems.found:
            pictures.check(opened)
        if not plan.layout.size and not problems.found:
            problems.add(_nothing_to_merge(base))
        notes += _notes(plan)
        plan = replace(plan, notes=tuple(dict.fromkeys(notes)))
    if len(opened) < len(names):
        plan = None
    return Preflight(tuple(problems.found), tuple(dict.fromkeys(notes)), plan)


def _safetensors_dtype(dtype: str) -> str:
    name = str(dtype).removeprefix("torch.")
    known = {**FROM_TORCH, **FROM_SHORT}
    return known[choose("dtype for weights", name, known)]


class _Arranged(NamedTuple):
    """Tables of tokens whose rows differ, and what is done with them."""

    tables: frozenset[str] = frozenset()
    rows: Vocabulary | None = None


def _plan(
    seeds: tuple[Checkpoint, ...],
    dtype: str | None,
    arranged: _Arranged,
) -> Plan:
    base = seeds[0]
    common = arranged.rows.common if arranged.rows else 0
    everywhere = [name for name in base.merged if all(name in seed.merged for seed in seeds)]
    shapes = {
        name: (common, *shape[1:]) if name in arranged.tables else shape
        for name, shape in base.layout.shapes.items()
        if name in set(everywhere)
    }
    buffers = {
        name: base.entry(name).shape
        for name in base.buffers
        if all(name in seed.buffers for seed in seeds)
    }
    dtypes = {name: _result_dtype(base, name, dtype) for name in shapes}
    # Statistics are few, and more exact than weights need to be.
    dtypes |= {name: base.entry(name).dtype for name in buffers}
    return Plan(
        seeds,
        Layout(shapes),
        dtypes,
        arranged.rows,
        dtype,
        Layout(buffers),
    )


def _with_channels(plan: Plan, channels: Mapping[str, int]) -> Plan:
    """Return a plan that merges the input channels that all seeds have."""
    shapes = {
        name: (shape[0], channels.get(name, shape[1]), *shape[2:]) if name in channels else shape
        for name, shape in plan.layout.shapes.items()
    }
    return replace(plan, layout=Layout(shapes), channels=channels) if channels else plan


def _result_dtype(base: Checkpoint, name: str, wanted: str | None) -> str:
    """Return the dtype of a weight of the result.

    Scales are not written, so weights that have one are widened. Biases and norms, which are small
    and matter, are not narrowed to 8 bits.
    """
    entry = base.entry(name)
    own = WIDE if name in base.scaled else entry.dtype
    return own if wanted is None or (wanted in EIGHT_BITS and len(entry.shape) < 2) else wanted


def _compare_parts(
    base: Checkpoint, other: Checkpoint, problems: Collector, notes: list[str]
) -> bool:
    """Report differences of the configs; return whether comparing tensors is meaningful."""
    if other.mapped:
        return _compare_configs(base.parts[0], other.parts[0], problems, notes, mapped=True)
    if base.is_picture_file and other.is_picture_file:
        mine, its = (family_of_file(_file_shapes(seed)) for seed in (base, other))
        if None not in (mine, its) and mine != its:
            problems.add(
                Problem(
                    file=other.id,
                    expected=f"a file of {FAMILIES[str(mine)].title}, as {base.id} is",
                    found=f"one of {FAMILIES[str(its)].title}",
                    fix="merge models of one family, which read the same texts and latents",
                )
            )
            return False
    if "diffusers" in (base.kind, other.kind) and base.kind != other.kind:
        described = {True: "a pipeline of several models", False: "one model"}
        single = other if base.kind == "diffusers" else base
        pipeline = base if single is other else other
        same = [
            part.name
            for part in pipeline.parts
            if part.architecture == single.parts[0].architecture
        ]
        fix = "merge pipelines with pipelines, or their components by themselves"
        if single.is_picture_file:
            fix = (
                f"name the folder first, or make it a file: "
                f"m2n2lab convert {pipeline.id} -o NEW.safetensors"
            )
        problems.add(
            Problem(
                file=other.id,
                expected=f"{described[base.kind == 'diffusers']}, as {base.id} is",
                found=described[other.kind == "diffusers"],
                fix=f"choose the component that it is (--component {same[0]})" if same else fix,
            )
        )
        return False
    parts = {part.name: part for part in other.parts}
    alike = True
    for part in base.parts:
        if part.name in parts:
            alike &= _compare_configs(part, parts[part.name], problems, notes)
            continue
        alike = False
        common = [f"--component {both.name}" for both in base.parts if both.name in parts]
        problems.add(
            Problem(
                file=other.id,
                expected=f"a component {part.name!r}, as {base.id} has",
                found=f"only {', '.join(parts)}" if parts else "none",
                fix=f"choose components that all have ({' '.join(common) or '--component'})",
            )
        )
    return alike


def _file_shapes(seed: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {name: seed.entry(name).shape for name in seed.names}


def _compare_configs(
    a: Part, b: Part, problems: Collector, notes: list[str], mapped: bool = False
) -> bool:
    """Report differences of two configs; return whether they name one architecture.

    Of models whose names are mapped, the language models that they hold are compared.
    """
    if mapped:
        a, b = (part._replace(config=text_config(part)) for part in (a, b))
    file = str(b.folder / "config.json")

    def differ(what: str, expected: object, found: object) -> None:
        problems.add(
            Problem(
                file=file,
                expected=f"{what} {expected}, as in {a.folder}",
                found=str(found),
                fix="merge models of one architecture, best with a common ancestor",
            )
        )

    named = not mapped and all(
        part.config.get("architectures", "_class_name" in part.config) for part in (a, b)
    )
    mine, its = (part.architecture if named else part.config.get("model_type") for part in (a, b))
    if mine and its and mine != its:
        if not mapped:
            differ("the architecture", mine, its)
            return False
        if not (mine.startswith(its) or its.startswith(mine)):  # as qwen2_vl_text and qwen2
            notes.append(
                f"The language model of {a.folder} is {mine}, that of {b.folder} {its}; see that "
                f"they compute the same."
            )
    for what, keys in SIZE_KEYS.items():
        for key in keys:
            mine, its = a.config.get(key), b.config.get(key)
            if mine is not None and its is not None and mine != its:
                differ(f"{what} ({key})", mine, its)
    for key, (mine, its) in behaviour_differences(a, b).items():
        notes.append(
            f"{file} has {key} {its} where {a.folder} has {mine}; the result keeps the latter."
        )
    return True


def _compare_names(
    base: Checkpoint,
    other: Checkpoint,
    problems: Collector,
    notes: list[str],
    pairs: Sequence[str],
    pictures: PictureOptions,
) -> None:
    mine, its = ({*seed.merged, *seed.buffers} for seed in (base, other))
    if other.mapped:
        mine = set(firsts(mine, pairs))
    if base.is_picture_file and other.is_picture_file:
        notes += _compare_parts_of_files(base, other, pictures.chosen_parts)
        # All but the denoiser may be absent: the result keeps what the first file has.
        mine, its = ({n for n in names if part_of(n) == "denoiser"} for names in (mine, its))
    for name in sorted(filter(HEADS.search, mine ^ its), key=sort_key):
        untied, tied = (base, other) if name in mine else (other, base)
        if not (name in tied.tied or _ties(tied)):
            continue
        problems.add(
            Problem(
                file=str(untied.file(name)),
                tensor=name,
                expected=f"a head tied to the embedding, as in {tied.id}",
                found="a head of its own",
                fix=f"untie {tied.id} first (in transformers: load it with "
                f"tie_word_embeddings=False, copy its embedding into the head, save it)",
            )
        )
        mine.discard(name)
        its.discard(name)

    def extra(name: str) -> Problem:
        return Problem(
            file=str(other.file(name)),
            tensor=name,
            expected=f"only tensors that {base.id} has",
            found="one that it does not have",
            fix="merge models of one architecture",
        )

    def missing(name: str) -> Problem:
        return Problem(
            file=other.id,
            tensor=name,
            expected=f"this tensor, as in {base.id}",
            found="none of that name",
            fix="merge models of one architecture, or download this one again",
        )

    _add_summarised(problems, sorted(its - mine, key=sort_key), extra)
    _add_summarised(problems, sorted(mine - its, key=sort_key), missing)


def _compare_parts_of_files(
    base: Checkpoint, other: Checkpoint, chosen: Mapping[str, int | None]
) -> Iterator[str]:
    """Yield what the result of two single files carries from the first and leaves out.

    Args:
        base: the first.
        other: another one.
        chosen: parts that are taken from a seed that is named, and told elsewhere.
    """
    mine, its = set(base.merged), set(other.merged)
    if kept := sorted(mine - its):
        yield (
            f"{other.id} does not have all of {describe_parts(kept)} of {base.id}; the result "
            f"carries them unchanged."
        )
    if left := sorted(its - mine):
        yield f"{base.id} does not have {describe_parts(left)} of {other.id}; they are left out."
    if carried := [name for name in base.carried if part_of(name) not in chosen]:
        yield (f"The result carries what is not merged from {base.id}: {describe_parts(carried)}.")
    mine = {*base.carried}
    absent = [n for n in other.carried if n not in mine and part_of(n) not in chosen]
    if absent:
        yield f"{base.id} does not have {describe_parts(absent)} of {other.id}; they are left out."


def _says_map(seeds: Sequence[Checkpoint], pairs: Sequence[str]) -> Iterator[str]:
    """Yield what is merged, and what is not, of seeds whose tensors have other names."""
    base, *others = seeds
    for other in others:
        if not other.mapped:
            continue
        yield (
            f"Only {', '.join(pair.partition('=')[0] for pair in pairs)} of {base.id} is merged, "
            f"with {', '.join(pair.partition('=')[2] for pair in pairs)} of {other.id}; all other "
            f"tensors, files and settings are those of {base.id}."
        )
        if holds_language_model(other.parts[0]) and not holds_language_model(base.parts[0]):
            yield (
                f"The result is a language model, as {base.id} is; to keep the rest of {other.id}, "
                f"give that one first."
            )


def _ties(seed: Checkpoint) -> bool:
    """Return whether a checkpoint without a head uses its embedding as one."""
    tied = [part.config.get("tie_word_embeddings") for part in seed.parts]
    return False not in tied and any(map(EMBEDDINGS.search, seed.merged))


def _compare_shapes(
    base: Checkpoint,
    other: Checkpoint,
    problems: Collector,
    pictures: PictureOptions,
    channels: dict[str, int],
) -> set[str]:
    """Report tensors of different shape; return the tables of tokens that differ in their rows.

    First layers of which the base has further channels, for inpainting, are added to ``channels``
    if the common ones are to be merged.
    """
    shapes, expected = _shapes(other), _shapes(base)
    differ = [name for name, shape in expected.items() if shapes.get(name, shape) != shape]
    tables = {
        name
        for name in differ
        if TABLES.search(name)
        and name in base.layout.shapes
        and expected[name][1:] == shapes[name][1:]
    }

    def odd(name: str) -> Problem:
        found, fix = f"{shapes[name]}", "merge models of one architecture and size"
        if _is_inpainting(name, expected[name], shapes[name]):
            most, least = sorted((expected[name][1], shapes[name][1]), reverse=True)
            found += " (one of them is for inpainting)"
            fix = (
                f"{'' if most == expected[name][1] else 'name the model for inpainting first and '}"
                f"merge the {least} common channels, and keep its other {most - least}, with "
                f"channels='common' (--channels common), or merge two models for inpainting"
            )
        return Problem(
            file=str(other.file(name)),
            tensor=name,
            expected=f"shape {expected[name]}, as in {base.id}",
            found=found,
            fix=fix,
        )

    for name in differ:
        mine, its = expected[name], shapes[name]
        if pictures.channels == "common" and _is_inpainting(name, mine, its) and its[1] < mine[1]:
            channels[name] = min(channels.get(name, its[1]), its[1])
    odd_ones = [name for name in differ if name not in tables and name not in channels]
    _add_summarised(problems, odd_ones, odd)
    return tables


def _is_inpainting(name: str, a: Sequence[int], b: Sequence[int]) -> bool:
    """Return whether two shapes are those of a first layer, one of them for inpainting."""
    return (
        INPUT.search(name) is not None
        and (a[:1], a[2:]) == (b[:1], b[2:])
        and {a[1], b[1]} in ({4, 9}, {16, 33}, {64, 384})
    )


# -- tables of tokens --------------------------------------------------------------------------


def _arrange(
    seeds: Sequence[Checkpoint],
    differing: set[str],
    vocab: Mode,
    problems: Collector,
    notes: list[str],
) -> _Arranged:
    """Decide which rows of the tables of tokens are merged, and report disagreements."""
    base = seeds[0]
    tokens = [_tokens(seed) for seed in seeds]
    clash = _clash(seeds, tokens, notes)
    if not differing and (clash is None or vocab == "refuse"):
        if clash is not None:
            notes.append(clash.note)
        return _Arranged()
    tables = differing or {
        name
        for name in base.merged
        if EMBEDDINGS.search(name) and all(name in seed.merged for seed in seeds)
    }
    sizes = [min((s.entry(n).shape[0] for n in tables if n in s.merged), default=0) for s in seeds]
    every = tables | {
        name
        for name in base.merged
        if TABLES.search(name)
        and all(
            name in seed.merged and seed.entry(name).shape[0] == size
            for seed, size in zip(seeds, sizes, strict=True)
        )
    }
    every = {name for name in every if all(name in seed.merged for seed in seeds)}
    reason = None
    if vocab != "refuse":
        try:
            rows = arrange(sizes, tokens, vocab)
        except CannotArrangeError as error:
            reason = str(error)
        else:
            notes += _says_rows(seeds, sorted(every, key=sort_key), rows)
            notes += [clash.note] if clash is not None and clash.at is None else []
            return _Arranged(frozenset(every), rows)
    if not differing:
        notes += [clash.note] if clash else []
        return _Arranged()
    for seed, its in zip(seeds[1:], tokens[1:], strict=True):
        _refuse_tables(base, seed, differing, tokens[0], its, reason, problems)
    return _Arranged()


class _Clash(NamedTuple):
    """A disagreement of two tokenizers.

    Attributes:
        found: what they disagree on, and which they are.
        note: the same as a sentence.
        at: the id that stands for other tokens; ``None`` if texts are encoded differently.
    """

    found: str
    note: str
    at: int | None


def _tokens(seed: Checkpoint) -> Tokens | None:
    return read_tokens(seed.path) if seed.kind == "transformers" else None


def _clash(
    seeds: Sequence[Checkpoint], tokens: Sequence[Tokens | None], notes: list[str]
) -> _Clash | None:
    """Return the first disagreement of the seeds' tokenizers with the first one's."""
    base, mine = seeds[0], tokens[0]
    for seed, its in zip(seeds[1:], tokens[1:], strict=True):
        if base.kind != "transformers" or seed.kind != "transformers":
            continue
        if not (has_tokenizer(base.path) and has_tokenizer(seed.path)):
            continue
        pair = f"The tokenizers of {base.id} and {seed.id}"
        at = first_clash(mine, its) if mine and its else None
        if at is not None and mine and its:
            found = says_clash(mine, its, at)
            return _Clash(f"{found} ({base.id} and {seed.id})", f"{pair} differ: {found}.", at)
        try:
            difference = encoding_difference(base.path, seed.path)
        except (OSError, ValueError):
            notes.append(
                f"{pair} could not be compared by what they encode; see that they are the same."
            )
            continue
        if difference is not None:
            found = f"{difference} ({base.id} and {seed.id})"
            return _Clash(found, f"{pair} differ: {difference}.", None)
        if mine and its and (extra := mine.ids.keys() ^ its.ids.keys()):
            listed = ", ".join(map(repr, sorted(extra)[:4])) + (" …" if len(extra) > 4 else "")
            notes.append(f"{pair} differ in added tokens: only one of them has {listed}.")
    return None


def tokenizers_clash(plan: Plan) -> str | None:
    """Return on what the tokenizers of a merge's seeds disagree; ``None`` if on nothing.

    Added tokens that have rows of their own in the merge are no disagreement.
    """
    found = _clash(plan.seeds, [_tokens(seed) for seed in plan.seeds], [])
    if found is None or (plan.vocabulary is not None and found.at is not None):
        return None
    return found.found


def _says_rows(seeds: Sequence[Checkpoint], tables: Sequence[str], rows: Vocabulary) -> list[str]:
    """Return a note for each table and seed whose rows differ from the first one's."""
    base, further = seeds[0], rows.total - rows.common
    rest = "the others left out"
    if further:
        kept = "1 further one is" if further == 1 else f"{further:,} further ones are"
        rest = f"{kept} kept from the seeds that have their tokens"
    return [
        f"{name} has {rows.sizes[0]:,} rows in {base.id} and {size:,} in {seed.id}: the "
        f"{rows.common:,} common rows are merged, {rest}."
        for name in tables
        for seed, size in zip(seeds[1:], rows.sizes[1:], strict=True)
        if size != rows.sizes[0] or further or rows.common < size
    ]


def _refuse_tables(
    base: Checkpoint,
    other: Checkpoint,
    tables: set[str],
    mine: Tokens | None,
    its: Tokens | None,
    reason: str | None,
    problems: Collector,
) -> None:
    """Report tables whose rows differ, with a way to merge them if there is one."""
    for name in sorted(tables, key=sort_key):
        if name not in other.merged:
            continue
        rows, found = base.layout.shapes[name][0], other.layout.shapes[name][0]
        if rows == found:
            continue
        least = min(rows, found)
        at = first_clash(mine, its, least) if mine and its else None
        added = mine is not None and its is not None and at is not None
        added = added and at >= max(mine.base, its.base)  # type: ignore[operator,union-attr]
        clash = reason or (says_clash(mine, its, at) if mine and its and at is not None else None)
        fix = "use models with one tokenizer"
        if base.kind == "diffusers":
            clash = clash or tokenizer_clash(base, other, name.partition("/")[0])
            if clash:
                fix = (
                    "merge the denoisers alone (--component unet), with the texts of one "
                    "(--text-encoder-from)"
                )
        if added and not reason:
            fix = f"keep all tokens with vocab='union' (--vocab union), or {fix}"
        elif clash is None:
            fix = (
                f"keep the {least:,} common rows with vocab='common' (--vocab common), all of them "
                f"with 'union' or {base.id}'s with 'first', or {fix}"
            )
        problems.add(
            Problem(
                file=str(other.file(name)),
                tensor=name,
                expected=f"a vocabulary of {rows:,} rows, as in {base.id}",
                found=f"{found:,} rows" + (f", and {clash}" if clash else ""),
                fix=fix,
            )
        )


def _shapes(seed: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors that are merged."""
    return {name: seed.entry(name).shape for name in (*seed.merged, *seed.buffers)}


def _add_summarised(
    problems: Collector, names: list[str], problem: Callable[[str], Problem]
) -> None:
    """Add a problem of any number of tensors: three of them by name, then the number of others."""
    first = [problem(name) for name in names[:3]]
    if len(names) > 3:
        last = first[-1]
        more = f"{last.found} ({len(names) - 3:,} more likewise)"
        first[-1] = replace(last, found=more)
    problems.extend(first)


def _nothing_to_merge(base: Checkpoint) -> Problem:
    return Problem(
        file=base.id,
        expected=f"weights in {', '.join(FROM_TORCH)}",
        found="none",
        fix="give checkpoints that hold weights",
    )


def _lost_code(base: Checkpoint) -> list[str]:
    """Return the files of a checkpoint's own code that its config names and that are not there."""
    named: dict[str, Any] = base.parts[0].config["auto_map"]
    classes = [
        each
        for value in (named.values() if isinstance(named, Mapping) else ())
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, str) and "--" not in each  # else in another repository
    ]
    files = dict.fromkeys(f"{each.partition('.')[0]}.py" for each in classes)
    return [name for name in files if not (base.path / name).is_file()]


def _notes(plan: Plan) -> Iterable[str]:
    """Yield remarks on conversions, settings, dtypes and licences."""
    for seed in plan.seeds:
        if seed.source is not None:
            yield (
                f"{seed.id} holds pickles, of which nothing but the tensors was read; they were "
                f"converted once into {seed.path}."
            )
        yield from seed.changes.notes
    yield from _differences_of_use(plan)
    base = plan.base
    if base.kind == "transformers" and base.parts[0].config.get("auto_map"):
        code = ", ".join(path.name for path in sorted(base.path.glob("*.py")))
        lost = _lost_code(base)
        if code or not lost:
            yield (
                f"{base.id} comes with code of its own ({code or 'elsewhere on the hub'}), which "
                f"the result carries unread; it runs only where it is trusted (trust_remote_code)."
            )
        if lost:
            yield (
                f"{base.id} needs code of its own that is not there ({', '.join(lost)}), so the "
                f"result will not load; download or copy it to the other files, and merge again."
            )
    mixed = {
        dtype: seed.id
        for seed in reversed(plan.seeds)
        for dtype in {seed.entry(name).dtype for name in plan.sizes}
    }
    if len(mixed) > 1 or (plan.dtype and {plan.dtype} != set(mixed)):
        dtypes = ", ".join(f"{dtype} ({id})" for dtype, id in sorted(mixed.items()))
        result = ", ".join(sorted({plan.dtypes[name] for name in plan.sizes}))
        yield f"The seeds hold {dtypes}; the result will be {result}" + (
            "." if plan.dtype else ", as in the first seed; dtype (--dtype) chooses another."
        )
    scaled = [seed.id for seed in plan.seeds if plan.sizes.keys() & seed.scaled.keys()]
    if scaled:
        yield f"Weights of {' and '.join(scaled)} in 8 bits are read times their scales" + (
            f"; the result has them as {WIDE}, without scales."
            if plan.dtype is None and plan.base.id in scaled
            else "; the result has no scales."
        )
    for part, number in plan.pictures.chosen_parts.items() if plan.base.is_picture_file else ():
        own = [name for name in plan.seeds[number or 0].names if part_of(name) == part]
        if own and number is None:
            yield f"The result leaves out {describe_parts(own)} of {plan.base.id}."
        elif own:
            yield f"The result has {describe_parts(own)} of {plan.seeds[number or 0].id}."
    for name, common in plan.channels.items():
        yield (
            f"{plan.base.id} is for inpainting and has {plan.shape(name)[1]} input channels: the "
            f"{common} common ones are merged, and the others stay as they are."
        )
    if any(map(plan.base.has_broken_positions, plan.base.carried)):
        yield (
            f"{plan.base.id} holds position ids of text encoders as floats, which some programs "
            f"read wrongly; the result has them as the integers from 0."
        )
    stated = [
        (Source.parse(seed.id).base if seed.adapters else seed.id, seed.licence)
        for seed in plan.seeds
    ]
    stated += [(each.id, each.licence) for seed in plan.seeds for each in seed.adapters]
    licences = dict(stated)
    if len(set(licences.values())) > 1 or None in licences.values():
        listed = "; ".join(f"{id}: {licence or 'none stated'}" for id, licence in licences.items())
        yield f"The seeds' licences differ or are missing ({listed}); check which apply."


def _differences_of_use(plan: Plan) -> Iterable[str]:
    """Yield remarks on end tokens, chat templates and settings for generation that differ."""
    base, *others = plan.seeds
    if base.kind != "transformers":
        return
    mine = _use(base)
    for seed in others:
        its = _use(seed)
        for what, own in mine.items():
            if its[what] != own:
                yield (
                    f"{what} of {base.id} and {seed.id} differ"
                    + (
                        f": {_short(own)} and {_short(its[what])}"
                        if not what.endswith("chat templates")
                        else ""
                        if own and its[what]
                        else ": only one of them has one"
                    )
                    + "."
                )


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return (text[:80] + "…" if len(text) > 80 else text) or "none"


def _use(seed: Checkpoint) -> dict[str, Any]:
    """Return how a checkpoint is used: its end tokens, chat template and generation settings."""
    about = read_json(seed.path / "tokenizer_config.json", Collector())
    template: Any = about.get("chat_template")
    with suppress(OSError, UnicodeDecodeError):
        template = read_text(seed.path / "chat_template.jinja")
    further = sorted((seed.path / CHAT_TEMPLATES).glob("*.jinja"))
    settings = read_json(seed.path / "generation_config.json", Collector())
    others = {
        key: value
        for key, value in settings.items()
        if not key.endswith("_token_id")
        and key not in ("transformers_version", "_from_model_config")
    }
    return {
        "The tokens that end an answer": end_tokens(seed),
        "The chat templates": template,
        "The additional chat templates": [
            (path.name, read_file(path, MAX_TEXT_BYTES)) for path in further if path.is_file()
        ],
        "The settings for generation": dict(sorted(others.items())),
    }


def _check_output(out: Path, plan: Plan | None, problems: Collector) -> None:
    if problem := output_conflict(out) or (
        plan and (wrong_form(plan, out) or inside_a_seed(plan, out))
    ):
        problems.add(problem)
    parent = out.absolute().parent
    while not os.path.exists(parent):  # also false without permission to look
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        problems.add(
            Problem(
                file=str(parent),
                expected="a folder that can be written to",
                found=f"one that cannot ({error.strerror or error})",
                fix="choose another place for the result",
                of_disk=is_of_disk(error),
            )
        )
        return
    need = 0
    if plan:
        need = plan.written + sum(path.stat().st_size for path, _, _ in copied_files(plan, 0))
    free = shutil.disk_usage(parent).free
    if need > free:
        problems.add(
            Problem(
                file=str(out),
                expected=f"{need:,} bytes of space for the result",
                found=f"{free:,} bytes free",
                fix="free some space or choose another disk",
                of_disk=True,
            )
        )


def is_one_file(out: Path) -> bool:
    """Return whether a result of this name is one file."""
    return out.suffix in (".safetensors", ".sft")


def is_converted(plan: Plan, out: Path) -> bool:
    """Return whether a result has another form than the first seed: one file, or a pipeline."""
    if plan.base.kind == "diffusers":
        return is_one_file(out)
    return plan.pictures.form == "diffusers"


def wrong_form(plan: Plan, out: Path) -> Problem | None:
    """Return the problem of a result that cannot have the form that is asked for, or ``None``."""
    form, base, named = plan.pictures.form, plan.base, is_one_file(out)
    if form is not None and not (base.kind == "diffusers" or base.is_picture_file):
        return Problem(
            file=str(base.id),
            expected="a picture model, of which results have several forms",
            found="another model",
            fix="leave form (--as) out",
        )
    if form is not None and named != (form == "file"):
        return Problem(
            file=str(out),
            expected="the name of a file in .safetensors" if form == "file" else "that of a folder",
            found="that of a folder" if form == "file" else "that of a file",
            fix=f"choose another name, such as {_other_name(out)}",
        )
    whole = (base.path / "model_index.json").is_file()
    if not named or base.path.is_file() or (base.kind == "diffusers" and whole):
        return None
    return Problem(
        file=str(out),
        expected=f"the name of a folder, as {base.id} is one",
        found="that of a file",
        fix=f"choose a folder, such as {_other_name(out)}",
    )


def _other_name(out: Path) -> Path:
    return out.with_suffix("") if is_one_file(out) else out.with_name(f"{out.name}.safetensors")


def output_conflict(out: Path) -> Problem | None:
    """Return the problem of an output folder that cannot be used, or ``None``."""
    if os.path.islink(out) or os.path.ismount(out):
        found = "a mounted disk" if os.path.ismount(out) else "a symbolic link"
        fix = f"choose a new folder inside it, such as {out / 'merged'}"
    elif os.path.exists(out) and not _is_empty(out):
        found, fix = "something already there", "choose another name, or remove it first"
    else:
        return None
    return Problem(
        file=str(out), expected="a new or empty folder for the result", found=found, fix=fix
    )


def inside_a_seed(plan: Plan, out: Path) -> Problem | None:
    """Return the problem of an output that would change a seed's folder, or ``None``."""
    folders = [path for seed in plan.seeds for path in (seed.path, seed.source) if path]
    resolved = out.resolve()
    for folder in folders:
        if folder.is_dir() and folder.resolve() in (resolved, *resolved.parents):
            return Problem(
                file=str(out),
                expected="a folder for the result outside of the seeds",
                found=f"one inside {folder}",
                fix="choose another place",
            )
    return None


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:  # no folder, or no permission to read it
        return False
