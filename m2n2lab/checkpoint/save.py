"""Saving: a merge written as a folder that loads as its seeds do, atomically and reproducibly.

The result has the files of the first seed: the same shards with the same tensors in the same order.
Weights are computed, rounded and written piece by piece in several threads, so that reading,
arithmetic and writing overlap and no tensor is ever held in memory as a whole, except those of
derived vectors (see ``derived_tensors``).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any, cast

import numpy as np

from m2n2lab.checkpoint.checks.preflight import (
    inside_a_seed,
    is_converted,
    is_one_file,
    output_conflict,
    wrong_form,
)
from m2n2lab.checkpoint.derived_tensors import DerivedTensors
from m2n2lab.checkpoint.io.checkpoint import Checkpoint, Part
from m2n2lab.checkpoint.io.dtypes import DTYPE_BYTES, DTYPES, EIGHT_BITS, TORCH_NAMES
from m2n2lab.checkpoint.io.folder import index_of, read_json, weight_name
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.io.parallel import (
    PIECE_ELEMENTS,
    Progress,
    chunks,
    no_progress,
)
from m2n2lab.checkpoint.io.problems import Collector, Problems
from m2n2lab.checkpoint.io.tensor_file import TensorFile, make_header
from m2n2lab.checkpoint.pipelines import describe
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.record.merge_record import Record, copied_files
from m2n2lab.checkpoint.record.model_card import card
from m2n2lab.checkpoint.special_tokens import with_token_ids
from m2n2lab.checkpoint.tokens.tokenizers import extend
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array
from m2n2lab.utils.concurrency.processors import is_running
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.file_access import BINARY, flush, rename_folder, reserve, write_at
from m2n2lab.utils.files import flush_folder

MAX_OPEN_FILES = 64
"""Files written at the same time: a process may open few, and large models have many."""

STALE_METADATA = (
    *("m2n2lab", "_quantization_metadata"),
    *("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash"),
)
"""Metadata of the first seed's files that describe its own weights; all other is kept."""


@dataclass(frozen=True)
class _Piece:
    """Elements ``start..stop`` of one tensor, and their offset in an open file."""

    file: int
    offset: int
    name: str
    start: int
    stop: int
    merged: bool


def save(
    plan: Plan,
    recipe: Recipe,
    out: str | Path,
    hashes: Hashes,
    record: Record,
    progress: Progress = no_progress,
    derived: DerivedTensors | None = None,
) -> Path:
    """Save the merge of the plan's seeds by a recipe.

    Args:
        plan: the seeds.
        recipe: their combination.
        out: the folder to make, or the file if its name ends so; it does not exist until it is
            complete.
        hashes: SHA-256 of all files that go into it, perhaps still being computed.
        record: the record to save beside the weights; its hashes are filled in.
        progress: called with the number of bytes read and written since the last call.
        derived: makes the tensors of derived vectors; new by default.

    Raises:
        InputError: the folder cannot be written, the disk is full, or a derived vector cannot be
            made.
        Problems: the folder exists and is not empty or lies inside a seed, a seed has changed or
            holds NaN or infinity, or the result does not fit its dtype.
    """
    out = Path(out)
    if problem := wrong_form(plan, out) or inside_a_seed(plan, out):
        raise Problems(problem)
    one_file = is_one_file(out)
    beside = [out.with_name(name) for name in _names_beside(out)] if one_file else []
    if conflicts := [problem for path in beside if (problem := output_conflict(path))]:
        raise Problems(*conflicts)
    if is_converted(plan, out):
        return _save_converted(plan, recipe, out, hashes, record, progress, derived)
    hashes.check()
    with atomic_folder(out, one_file) as folder:
        _copy_others(plan, record, hashes, folder)
        files = [
            (file, folder / (out.name if one_file else _target(plan, file.path, out.name)))
            for part in plan.base.parts
            for file in part.files
        ]
        draft = record.text  # as long as the complete one, thanks to its placeholders
        made = derived or DerivedTensors(plan)
        for k in range(0, len(files), MAX_OPEN_FILES):
            with ExitStack() as opened:
                pieces = [
                    piece
                    for file, path in files[k : k + MAX_OPEN_FILES]
                    for piece in _lay_out(plan, file, opened.enter_context(_open(path)), draft)
                ]
                made.run(
                    recipe,
                    pieces,
                    lambda piece: piece.name,
                    lambda piece, values: _write(plan, recipe, piece, values, record.statistics),
                    progress,
                )
        hashes.check(thorough=True)
        full = record.complete(plan, hashes.wait())
        for file, path in files:
            with _open(path) as handle:
                write_at(handle, _header(plan, file, full.text), 0)
        recipe_name, card_name = _names_beside(out) if one_file else ("recipe.json", "README.md")
        (folder / recipe_name).write_text(full.pretty, encoding="utf-8")
        (folder / card_name).write_text(card(plan, recipe, full), encoding="utf-8")
    return out


def _save_converted(
    plan: Plan,
    recipe: Recipe,
    out: Path,
    hashes: Hashes,
    record: Record,
    progress: Progress,
    derived: DerivedTensors | None,
) -> Path:
    """Save a merge in the form of the first seed, and convert it; raises as ``save``."""
    from m2n2lab.checkpoint.picture_conversion import write_file, write_folder

    to_file = is_one_file(out)
    if not to_file:  # before anything is merged, see that there are configs for it
        from m2n2lab.checkpoint.live.single_file_pipeline import FilePipeline

        FilePipeline.of(plan.base, plan.pictures.config)
    own_form = replace(plan, pictures=replace(plan.pictures, form=None))
    with atomic_folder(out, to_file) as folder:
        made = folder / (".merged" if to_file else ".merged.safetensors")
        save(own_form, recipe, made, hashes, record, progress, derived)
        if to_file:
            notes = made / "recipe.json", made / "README.md"
            text = record.complete(plan, hashes.wait()).text
            write_file(made, folder / out.name, {"m2n2lab": text})
        else:
            notes = tuple(folder / name for name in _names_beside(made))  # type: ignore[assignment]
            write_folder(Checkpoint.open(made), plan.pictures.config, folder)
        names = _names_beside(out) if to_file else ("recipe.json", "README.md")
        for path, name in zip(notes, names, strict=True):
            path.rename(folder / name)
        if to_file:
            shutil.rmtree(made)
        else:
            made.unlink()
    return out


def _names_beside(out: Path) -> tuple[str, str]:
    """Return the names of the recipe and the card beside a result that is one file."""
    return f"{out.stem}.recipe.json", f"{out.stem}.md"


@contextmanager
def _open(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | BINARY, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def _contents(plan: Plan, file: TensorFile) -> dict[str, tuple[str, str, tuple[int, ...], bool]]:
    """Return what is written of a file of the base: name → full name, dtype, shape, merged."""
    part = next(part for part in plan.base.parts if file in part.files)
    found = {}
    for name in file.entries:
        full = part.full(name)
        full = plan.base.aliases.get(full, full)
        if full in plan.merged_sizes:
            found[name] = (full, plan.dtypes[full], plan.shape(full), True)
        elif full not in plan.base.tied and not plan.is_left_out(full):
            found[name] = _as_carried(plan, full)
    for name in plan.added:  # of a single file, which has one part
        found[name] = _as_carried(plan, name)
    return found


def _as_carried(plan: Plan, name: str) -> tuple[str, str, tuple[int, ...], bool]:
    """Return what is written of a tensor that is copied: as ``_contents`` does."""
    seed = plan.provider(name)
    entry = seed.entry(name)
    return name, "I64" if seed.has_broken_positions(name) else entry.dtype, entry.shape, False


def _header(plan: Plan, file: TensorFile, text: str) -> bytes:
    tensors = {name: (dtype, shape) for name, (_, dtype, shape, _) in _contents(plan, file).items()}
    kept = {key: value for key, value in file.metadata.items() if key not in STALE_METADATA}
    return make_header(tensors, {"format": "pt", **kept, "m2n2lab": text})


def _lay_out(plan: Plan, file: TensorFile, handle: int, draft: str) -> Iterator[_Piece]:
    """Yield the pieces of one file, and then set its full length."""
    offset = len(_header(plan, file, draft))
    for full, dtype, _, merged in _contents(plan, file).values():
        width = DTYPE_BYTES[dtype] if merged else 1  # carried tensors are split as bytes
        for start, stop in chunks(plan.bytes(full) // width, PIECE_ELEMENTS):
            yield _Piece(handle, offset + start * width, full, start, stop, merged)
        offset += plan.bytes(full)
    reserve(handle, offset)


def _write(
    plan: Plan,
    recipe: Recipe,
    piece: _Piece,
    derived: Sequence[Array],
    statistics: Mapping[str, Sequence[float]],
) -> int:
    if not piece.merged:
        data = _carried(plan, piece.name, piece.start, piece.stop)
        write_at(piece.file, data, piece.offset)
        return 2 * len(data)
    dtype = DTYPES[plan.dtypes[piece.name]]
    if piece.name in statistics:  # of BatchNorm, computed anew
        from m2n2lab.checkpoint.kernels import blend  # late: it takes a second to import

        values = np.array(statistics[piece.name][piece.start : piece.stop], np.float64)
        result = np.empty(len(values), dtype)
        blend([values], [1.0], result)
        write_at(piece.file, result.data.cast("B"), piece.offset)
        return result.nbytes
    result = _scratch(piece.stop - piece.start, dtype)
    plan.result_into(recipe, piece.name, piece.start, piece.stop, result, derived)
    write_at(piece.file, result.data.cast("B"), piece.offset)
    return plan.bytes_read(piece.name, piece.start, piece.stop) + result.nbytes


def _carried(plan: Plan, name: str, start: int, stop: int) -> memoryview:
    """Return bytes of a tensor that is copied; position ids are repaired."""
    seed = plan.provider(name)
    if seed.has_broken_positions(name):
        return memoryview(np.arange(seed.entry(name).size, dtype="<i8").tobytes())[start:stop]
    return seed.raw(name, start, stop)


_thread_memory = threading.local()


def _scratch(size: int, dtype: Any) -> Array:
    """Return an array (size,) in a buffer that this thread uses again and again.

    Fresh memory would cost more than the sums that are written into it.
    """
    need = size * np.dtype(dtype).itemsize
    buffer = getattr(_thread_memory, "buffer", None)
    if buffer is None or len(buffer) < need:
        _thread_memory.buffer = buffer = np.empty(need, np.uint8)
    return cast("Array", buffer[:need].view(dtype))


# -- files beside the weights ------------------------------------------------------------------


def _copy_others(plan: Plan, record: Record, hashes: Hashes, folder: Path) -> None:
    known = {name for seed in record.seeds for name in seed["files"]}
    for source, name, key in copied_files(plan, record.tokenizer):
        if key not in known:  # added to the seed since the merge that is rebuilt
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.name != target.name and (of := weight_name(source.name)) and of.is_index:
            _write_json(target, _renamed(plan, read_json(source, Collector())))
        else:
            hashes.copy(source, target)
    if plan.base.kind == "diffusers":
        _write_pipeline(plan, record.tokenizer, folder)
    for part in plan.base.parts:
        if not plan.base.path.is_dir():
            continue
        inside = folder / part.folder.relative_to(plan.base.path)
        changed = with_token_ids(plan, record.tokenizer, _config(plan, part), "config.json")
        if changed != part.config:  # otherwise it was copied
            _write_json(inside / "config.json", changed)
        named = weight_name(part.files[0].path.name)
        index = index_of(part.folder, named.variant if named else None)
        if index is not None and (named is None or named.is_shard):
            _write_json(inside / _name(plan, index), _index(plan, part))
    _fit_tokens(plan, record.tokenizer, folder)


def _fit_tokens(plan: Plan, tokenizer: int, folder: Path) -> None:
    """Let the settings for generation and the tokenizer name the tokens that the result has."""
    if plan.base.kind != "transformers":
        return
    name = "generation_config.json"
    own = read_json(folder / name, Collector())
    if own and (changed := with_token_ids(plan, tokenizer, own, name)) != own:
        _write_json(folder / name, changed)
    rows = plan.vocabulary
    if rows is not None and rows.added and tokenizer == rows.tokenizer:
        extend(folder, rows.added)


def _write_pipeline(plan: Plan, texts_from: int, folder: Path) -> None:
    """Write what a pipeline has and its first seed has not: another index, an encoder of zeros."""
    pipeline = describe(plan, texts_from)
    if pipeline is None or not pipeline.rewritten:
        return
    original = read_json(plan.base.path / "model_index.json", Collector())
    _write_json(folder / "model_index.json", pipeline.index(original))
    if pipeline.null is not None:
        from m2n2lab.checkpoint.live.live_pipeline import null_encoder  # late: it imports torch

        for name, component in null_encoder(pipeline, plan.common_dtype).items():
            component.save_pretrained(folder / name)


def _name(plan: Plan, path: Path) -> str:
    """Return the name that a weight file of the base has in the result."""
    return path.name if path == plan.base.path else plan.result_name(path.name)


def _target(plan: Plan, path: Path, name: str) -> Path:
    """Return where the result has a weight file of the base.

    Single files of picture models, whose names say which they are, are named as the result.
    """
    if plan.base.is_picture_file and len(plan.base.files) == 1:
        return Path(f"{name}{path.suffix}")
    return Path(plan.base.relative(path)).with_name(_name(plan, path))


def _renamed(plan: Plan, index: Mapping[str, Any]) -> dict[str, Any]:
    """Return the index of shards with the names that they have in the result."""
    places = {name: plan.result_name(file) for name, file in index["weight_map"].items()}
    return {**index, "weight_map": places}


def _config(plan: Plan, part: Part) -> dict[str, Any]:
    """Return a part's config with the dtype and the size of the vocabulary that the merge has."""
    cut = {
        plan.base.entry(name).shape[0]: plan.shape(name)[0]
        for file in part.files
        for name in map(part.full, file.entries)
        if name in plan.sizes and plan.shape(name) != plan.base.entry(name).shape
    }
    # What a module of weights in 8 bits computes in.
    dtype = TORCH_NAMES.get(plan.common_dtype if plan.dtype in EIGHT_BITS else plan.dtype or "")

    def change(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):  # the config of a model inside the model
            return {inner: change(inner, one) for inner, one in value.items()}
        if key == "vocab_size" and isinstance(value, int):
            return cut.get(value, value)
        return dtype if dtype and value and key in ("dtype", "torch_dtype") else value

    return {key: change(key, value) for key, value in part.config.items()}


def _index(plan: Plan, part: Part) -> dict[str, Any]:
    """Return the index of a part's shards."""
    places: dict[str, str] = {}
    total = 0
    for file in part.files:
        for name, (full, *_) in _contents(plan, file).items():
            places[name] = _name(plan, file.path)
            total += plan.bytes(full)
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# -- atomic folders ----------------------------------------------------------------------------


_writing: set[Path] = set()
"""Temporary folders that this process is filling."""


@contextmanager
def atomic_folder(out: Path, one_file: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``out``, which is renamed to ``out`` on success.

    With ``one_file``, the files in it are moved beside ``out`` instead, and ``out`` itself last.

    Raises:
        InputError: ``out`` is being written already or cannot be written, or the disk is full.
        Problems: ``out`` exists and is not empty.
    """
    if problem := output_conflict(out):
        raise Problems(problem)
    parent = out.absolute().parent
    temporary = parent / f".{out.name}.{socket.gethostname()}-{os.getpid()}.partial"
    if temporary in _writing:
        raise InputError(f"{out} is being written already; wait for it, or choose another name.")
    above = [folder for folder in (parent, *parent.parents) if not os.path.exists(folder)]
    _writing.add(temporary)
    placed = list[Path]()
    try:
        _remove_leftovers(temporary)
        temporary.mkdir(parents=True)
        yield temporary
        flush_folder(temporary)  # otherwise a power cut could leave the name without the weights
        if one_file:
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == out.name):
                os.replace(path, parent / path.name)
                placed.append(parent / path.name)
        else:
            rename_folder(temporary, out)
            placed.append(out)
        flush(parent)
    except OSError as error:
        for path in placed:
            _remove(path)
        raise InputError(
            f"{out} could not be written: {error.strerror or error}; free some space or choose "
            f"another place. Nothing was left behind."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in above:  # rmdir removes only empty ones
            with suppress(OSError):
                folder.rmdir()
        _writing.discard(temporary)


def _remove(path: Path) -> None:
    """Remove a file or a folder as far as the system lets it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def _remove_leftovers(temporary: Path) -> None:
    """Remove what killed processes of this computer left beside a folder that is to be filled."""
    for left in temporary.parent.glob(f".*.{escape(socket.gethostname())}-*.partial"):
        number = left.name.removesuffix(".partial").rpartition("-")[2]
        # This process's own number was an earlier one's: in containers numbers repeat.
        mine = number == str(os.getpid()) and (left == temporary or left not in _writing)
        if number.isdecimal() and (mine or not is_running(int(number))):
            shutil.rmtree(left, ignore_errors=True)
