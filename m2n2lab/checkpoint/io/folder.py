"""Weight files of a folder: which ones to read, and which cannot be merged, by name and header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from m2n2lab.checkpoint.io.dtypes import EIGHT_BITS
from m2n2lab.checkpoint.io.names import PICKLE_SUFFIXES, TRAINING_FILES
from m2n2lab.checkpoint.io.problems import Collector, Problem, Problems, unreadable
from m2n2lab.checkpoint.io.scales import scales
from m2n2lab.checkpoint.io.tensor_file import TensorFile, read_header
from m2n2lab.utils.files import read_text
from m2n2lab.utils.json_text import read_json_file

STEMS = ("model", "diffusion_pytorch_model")
"""File names of weights in transformers and diffusers, without suffix."""

_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)?\.safetensors")
_STEM_NAME = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model)(\.(?P<a>\w+))?(?P<shard>-\d{5}-of-\d{5})?(\.(?P<b>\w+))?"
    r"\.safetensors(?P<index>(\.(?P<c>\w+))?\.index(\.(?P<d>\w+))?\.json)?"
)
"""Files of weights and their indices, in all places where libraries have written the variant:
``model.fp16.safetensors``, ``model.fp16-00001-of-00002.safetensors`` with
``model.safetensors.index.fp16.json``, and the older ``model-00001-of-00002.fp16.safetensors``."""
_QUANTISED = re.compile(
    r"\.(qweight|qzeros|scales_and_zeros|absmax|quant_map|quant_state|SCB|weight_scale|weight_scale_inv)\b"
)


def read_json(path: Path, problems: Collector) -> dict[str, Any]:
    """Return the object in a JSON file; ``{}`` if there is none, with a problem if it is broken."""
    try:
        value = read_json_file(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.add(unreadable(path, error))
        return {}
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    problems.add(
        Problem(
            file=str(path),
            expected="a JSON object",
            found="other text",
            fix="download or copy it again",
        )
    )
    return {}


class WeightName(NamedTuple):
    """A file name of weights, or of the index of shards, in its parts.

    Attributes:
        plain: the name without the variant, such as ``"model.safetensors"``.
        variant: ``"fp16"`` in ``model.fp16.safetensors``; ``None`` in a plain name.
        is_index: whether it is an index.
        is_shard: whether it is one of several shards.
    """

    plain: str
    variant: str | None
    is_index: bool
    is_shard: bool


def weight_name(name: str) -> WeightName | None:
    """Return the parts of a file name of weights; ``None`` for other files."""
    found = _STEM_NAME.fullmatch(name)
    if found is None:
        return None
    variants = [found[group] for group in "abcd" if found[group]]
    if len(variants) > 1:
        return None
    index = found["index"] is not None
    plain = f"{found['stem']}{found['shard'] or ''}.safetensors{'.index.json' if index else ''}"
    return WeightName(plain, variants[0] if variants else None, index, found["shard"] is not None)


def variants_of(folder: Path) -> set[str | None]:
    """Return the variants of the weights in a folder; ``None`` is the plain one."""
    names = (weight_name(path.name) for path in folder.glob("*.safetensors*"))
    return {name.variant for name in names if name is not None}


def chosen_variant(folder: Path, wanted: str | None) -> str | None:
    """Return the variant that is read: the wanted one, else the plain one, else the first."""
    there = variants_of(folder)
    if wanted in there or None in there or not there:
        return wanted if wanted in there else None
    return sorted(filter(None, there))[0]


def index_of(folder: Path, variant: str | None) -> Path | None:
    """Return the index of a variant's shards if these are what is read; ``None`` otherwise."""
    named = {
        name.plain: path
        for path in sorted(folder.glob("*.safetensors*"))
        if (name := weight_name(path.name)) is not None and name.variant == variant
    }
    for stem in STEMS:
        index = named.get(f"{stem}.safetensors.index.json")
        # With a single file beside the shards, transformers loads the file, diffusers the shards.
        if index is not None and not (stem == "model" and "model.safetensors" in named):
            return index
    return None


def weight_files(
    folder: Path, problems: Collector, variant: str | None = None
) -> tuple[TensorFile, ...]:
    """Return the files that hold a model's weights, by their headers.

    Args:
        folder: the model's folder.
        problems: what is wrong is added to it.
        variant: the variant to read where it is there, such as ``"fp16"``; otherwise, and by
            default, the plain files are read or, if there are none, the only variant's.
    """
    if len(several := sorted(filter(None, variants_of(folder)))) > 1 and (
        None not in variants_of(folder) and variant not in several
    ):
        problems.add(
            Problem(
                file=str(folder),
                expected="one model",
                found=f"several variants: {', '.join(several)}",
                fix=f"choose one with variant={several[0]!r} (--variant {several[0]})",
            )
        )
        return ()
    variant = chosen_variant(folder, variant)
    if index := index_of(folder, variant):
        return _shards(index, problems)
    found = sorted(folder.glob("*.safetensors"))
    named = {path: name for path in found if (name := weight_name(path.name)) is not None}
    whole = [path for path, name in named.items() if name.variant == variant and not name.is_shard]
    parts = [path for path, name in named.items() if name.variant == variant and name.is_shard]
    chosen = whole or parts or found
    if any(_SHARD.fullmatch(path.name) for path in chosen):
        problems.extend(_without_index(folder, chosen))
    elif len(chosen) == 1:
        return read_headers(chosen, problems)
    elif not chosen:
        problems.add(_no_weights(folder))
    else:
        problems.add(
            Problem(
                file=str(folder),
                expected="one model",
                found=f"several: {', '.join(path.name for path in chosen[:4])}",
                fix="give the path of the file that is meant",
            )
        )
    return ()


def read_headers(paths: Iterable[Path], problems: Collector) -> tuple[TensorFile, ...]:
    """Return the files with valid headers; the others become problems."""
    files = []
    for path in paths:
        try:
            files.append(read_header(path))
        except Problems as wrong:
            problems.extend(wrong.problems)
    return tuple(files)


def _shards(index: Path, problems: Collector) -> tuple[TensorFile, ...]:
    places = read_json(index, problems).get("weight_map")
    if not isinstance(places, dict) or set(map(type, places.values())) != {str}:
        problems.add(
            Problem(
                file=str(index),
                expected="a weight_map of tensor names to files",
                found=f"{places!r:.60}",
                fix="download or copy it again",
            )
        )
        return ()
    files = []
    for name in sorted(set(places.values())):
        path = index.parent / name
        if Path(name).name == name and path.is_file():
            files.append(path)
            continue
        count = sum(place == name for place in places.values())
        problems.add(
            Problem(
                file=str(path),
                expected=f"a shard with {count:,} tensors, as {index.name} says",
                found="no such file",
                fix="download or copy it as well",
            )
        )
    shards = read_headers(files, problems)
    where: dict[str, str] = {}
    for file in shards:
        for name in file.entries:
            if name not in where or _is_in(name, file, places):
                where[name] = file.path.name
    read = {file.path.name for file in shards}
    for name, place in places.items():
        if place in read and where.get(name) != place:
            problems.add(
                Problem(
                    file=str(index.parent / place),
                    tensor=name,
                    expected=f"this tensor in {place}, as {index.name} says",
                    found=f"it in {where[name]}" if name in where else "none of that name",
                    fix="download or copy the shard again",
                )
            )
    return tuple(
        # A tensor in two shards, as transformers reads it: that of the shard which the index names.
        replace(file, entries={k: v for k, v in file.entries.items() if _is_in(k, file, places)})
        for file in shards
    )


def _is_in(name: str, file: TensorFile, places: Mapping[str, str]) -> bool:
    return places.get(name, file.path.name) == file.path.name


def _without_index(folder: Path, found: list[Path]) -> list[Problem]:
    """Return a problem for each file missing beside shards without an index."""
    names = {path.name for path in found}
    match = next(m for path in found if (m := _SHARD.fullmatch(path.name)))
    stem, _, count, legacy = match.groups()
    wanted = [f"{stem}-{i + 1:05d}-of-{count}{legacy or ''}.safetensors" for i in range(int(count))]
    plain, _, variant = stem.partition(".")
    variant = variant or (legacy or "").removeprefix(".")
    wanted.append(f"{plain}.safetensors.index.{f'{variant}.' if variant else ''}json")
    return [
        Problem(
            file=str(folder / name),
            expected="every shard and their index",
            found="no such file",
            fix="download or copy it as well",
        )
        for name in wanted
        if name not in names
    ]


def _no_weights(folder: Path) -> Problem:
    for path in sorted(folder.iterdir()):
        if refused := unsupported_format(path):
            return refused
    if name := hub_id(folder):
        return Problem(
            file=name,
            expected="a model in safetensors files or pickles",
            found="no weights in this computer's cache of the hub, only other files",
            fix=f"run it with a network, or download them there: hf download {name}",
        )
    if (folder / "config.json").is_file():
        return Problem(
            file=str(folder),
            expected="its weights too",
            found="only its config",
            fix="copy its model.safetensors or pytorch_model.bin there, shards and index included",
        )
    return Problem(
        file=str(folder),
        expected="a model in safetensors files",
        found="none there",
        fix="give the folder that holds model.safetensors, or a diffusers pipeline",
    )


def hub_id(folder: Path) -> str | None:
    """Return the hub id of a local copy in the hub's cache; ``None`` for other folders."""
    place = folder.absolute()
    kind, _, name = place.parent.parent.name.partition("--")
    is_copy = place.parent.name == "snapshots" and kind == "models" and name
    return name.replace("--", "/") if is_copy else None


def unsupported_format(path: Path) -> Problem | None:
    """Return the problem of a weight file in another format, or ``None``."""
    suffix = path.suffix.lower()
    if suffix in PICKLE_SUFFIXES and path.name not in TRAINING_FILES:
        return Problem(
            file=str(path),
            expected="safetensors",
            found="a pickle, which can run any code when loaded and is never opened",
            fix="load it where you trust it, and save its tensors with safetensors.torch.save_file",
        )
    if suffix == ".gguf":
        return Problem(
            file=str(path),
            expected="safetensors",
            found="a GGUF file, whose weights are quantised",
            fix="use the model that it was made from",
        )
    return None


def find_unmergeable(
    folder: Path, config: Mapping[str, Any], files: Iterable[TensorFile], problems: Collector
) -> None:
    """Add a problem for quantised weights, which cannot be averaged."""
    if config.get("quantization_config"):
        problems.add(_quantised(folder / "config.json", None, "quantization_config in its config"))
    for file in files:
        scaled = set(scales(file.entries).values())
        for name, entry in file.entries.items():
            low = entry.dtype.startswith(("F8_", "F6_", "F4")) and entry.dtype not in EIGHT_BITS
            whole = entry.dtype in ("I8", "U8", "I32") and len(entry.shape) > 1
            if (
                low
                or (_QUANTISED.search(name) and name not in scaled)
                or (whole and name.endswith(".weight"))
            ):
                problems.add(_quantised(file.path, name, f"{entry.dtype} numbers"))
                break


def _quantised(path: Path, tensor: str | None, found: str) -> Problem:
    return Problem(
        file=str(path),
        tensor=tensor,
        expected="weights in bfloat16, float16, float32, float64 or 8-bit floats",
        found=f"quantised weights ({found})",
        fix="use the model before quantisation, or dequantise it "
        "(transformers: model.dequantize().save_pretrained(FOLDER))",
    )


def stated_licence(folder: Path) -> str | None:
    """Return the licence that a folder's model card states, or ``None``."""
    try:
        text = read_text(folder / "README.md", errors="replace")
    except OSError:
        return None
    card = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    # One name or a YAML list in either style, of which the first is taken.
    pattern = r"^license:[ \t]*(?:\[|\n[ \t]*-)?[ \t]*[\"']?([^\s\"'\[\],]+)"
    line = re.search(pattern, card[1], re.MULTILINE) if card else None
    return line[1] if line else None
