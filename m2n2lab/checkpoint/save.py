"""Saving: a merge written as a folder that loads as its seeds do, atomically and reproducibly.

The result has the files of the first seed: the same shards with the same tensors in the same order.
Weights are computed, rounded and written piece by piece in several threads, so that reading,
arithmetic and writing overlap and no tensor is ever held in memory as a whole.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, cast

import numpy as np

from m2n2lab.checkpoint.checks import output_conflict
from m2n2lab.checkpoint.io.checkpoint import Part
from m2n2lab.checkpoint.io.dtypes import DTYPE_BYTES, DTYPES, TORCH_NAMES
from m2n2lab.checkpoint.io.folder import STEMS
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.io.parallel import (
    PIECE_ELEMENTS,
    Progress,
    chunks,
    no_progress,
    run_in_threads,
)
from m2n2lab.checkpoint.io.problems import Problems
from m2n2lab.checkpoint.io.tensor_file import TensorFile, make_header, reserve, write_at
from m2n2lab.checkpoint.merge_record import Record, copied_files
from m2n2lab.checkpoint.model_card import card
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.files import flush, flush_folder


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
) -> Path:
    """Save the merge of the plan's seeds by a recipe.

    Args:
        plan: the seeds.
        recipe: their combination.
        out: the folder to make; it does not exist until it is complete.
        hashes: SHA-256 of all files that go into it, perhaps still being computed.
        record: the record to save beside the weights; its hashes are filled in.
        progress: called with the number of bytes read and written since the last call.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
        Problems: the folder exists and is not empty, a seed holds NaN or infinity, or the result
            does not fit its dtype.
    """
    out = Path(out)
    with _atomic_folder(out) as folder:
        _copy_others(plan, record, folder)
        files = [
            (file, _open(folder / plan.base.relative(file.path)))
            for part in plan.base.parts
            for file in part.files
        ]
        try:
            draft = record.text  # as long as the complete one, thanks to its placeholders
            pieces = [
                piece for file, handle in files for piece in _lay_out(plan, file, handle, draft)
            ]
            run_in_threads(pieces, lambda piece: _write(plan, recipe, piece), progress)
            full = record.complete(plan, hashes.wait())
            for file, handle in files:
                write_at(handle, _header(plan, file, full.text), 0)
        finally:
            for _, handle in files:
                os.close(handle)
        (folder / "recipe.json").write_text(full.pretty, encoding="utf-8")
        (folder / "README.md").write_text(card(plan, recipe, full), encoding="utf-8")
    return out


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def _contents(plan: Plan, file: TensorFile) -> dict[str, tuple[str, str, tuple[int, ...], bool]]:
    """Return what is written of a file of the base: name → full name, dtype, shape, merged."""
    part = next(part for part in plan.base.parts if file in part.files)
    found = {}
    for name, entry in file.entries.items():
        full = part.full(name)
        if full in plan.sizes:
            found[name] = (full, plan.dtypes[full], plan.layout.shapes[full], True)
        elif full not in plan.base.tied:
            found[name] = (full, entry.dtype, entry.shape, False)
    return found


def _header(plan: Plan, file: TensorFile, text: str) -> bytes:
    tensors = {name: (dtype, shape) for name, (_, dtype, shape, _) in _contents(plan, file).items()}
    return make_header(tensors, {"format": file.metadata.get("format", "pt"), "m2n2lab": text})


def _lay_out(plan: Plan, file: TensorFile, handle: int, draft: str) -> Iterator[_Piece]:
    """Yield the pieces of one file, and then set its full length."""
    offset = len(_header(plan, file, draft))
    for full, dtype, _, merged in _contents(plan, file).values():
        width = DTYPE_BYTES[dtype] if merged else 1  # carried tensors are split as bytes
        for start, stop in chunks(plan.bytes(full) // width, PIECE_ELEMENTS):
            yield _Piece(handle, offset + start * width, full, start, stop, merged)
        offset += plan.bytes(full)
    reserve(handle, offset)


def _write(plan: Plan, recipe: Recipe, piece: _Piece) -> int:
    if not piece.merged:
        data = plan.base.raw(piece.name)[piece.start : piece.stop]
        write_at(piece.file, data, piece.offset)
        return 2 * len(data)
    dtype = DTYPES[plan.dtypes[piece.name]]
    result = _scratch(piece.stop - piece.start, dtype)
    plan.merge_into(recipe, piece.name, piece.start, piece.stop, result)
    write_at(piece.file, result.data.cast("B"), piece.offset)
    read = sum(s.nbytes for s in plan.sources(piece.name, piece.start, piece.stop))
    return read + result.nbytes


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


def _copy_others(plan: Plan, record: Record, folder: Path) -> None:
    known = {name for seed in record.seeds for name in seed["files"]}
    for source, name in copied_files(plan, record.tokenizer):
        if name not in known:  # added to the seed since the merge that is rebuilt
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for part in plan.base.parts:
        changed = _config(plan, part)
        if changed != part.config:  # otherwise it was copied
            _write_json(folder / part.name / "config.json", changed)
        for stem in STEMS:
            index = f"{stem}.safetensors.index.json"
            single = part.files[0].path.name == f"{stem}.safetensors"
            if (part.folder / index).exists() and not single:
                _write_json(folder / part.name / index, _index(plan, part))


def _config(plan: Plan, part: Part) -> dict[str, Any]:
    """Return a part's config with the dtype and the size of the vocabulary that the merge has."""
    cut = {
        plan.base.entry(name).shape[0]: plan.layout.shapes[name][0]
        for file in part.files
        for name in map(part.full, file.entries)
        if name in plan.sizes and plan.layout.shapes[name] != plan.base.entry(name).shape
    }
    dtype = TORCH_NAMES.get(plan.dtype or "")

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
            places[name] = file.path.name
            total += plan.bytes(full)
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# -- atomic folders ----------------------------------------------------------------------------


_writing: set[Path] = set()
"""Temporary folders that this process is filling."""


@contextmanager
def _atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``out``, which is renamed to ``out`` on success.

    Raises:
        InputError: ``out`` is being written already or cannot be written, or the disk is full.
        Problems: ``out`` exists and is not empty.
    """
    if problem := output_conflict(out):
        raise Problems(problem)
    host, parent = socket.gethostname(), out.absolute().parent
    temporary = parent / f".{out.name}.{host}-{os.getpid()}.partial"
    if temporary in _writing:
        raise InputError(f"{out} is being written already; wait for it, or choose another name.")
    above = [folder for folder in (parent, *parent.parents) if not os.path.exists(folder)]
    _writing.add(temporary)
    try:
        _remove_leftovers(out, host)
        temporary.mkdir(parents=True)
        yield temporary
        flush_folder(temporary)  # otherwise a power cut could leave the name without the weights
        os.rename(temporary, out)  # an empty folder of that name is replaced
        flush(parent)
    except OSError as error:
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


def _remove_leftovers(out: Path, host: str) -> None:
    """Remove what killed processes left behind when they merged into the same folder."""
    for folder in out.absolute().parent.glob(f".{escape(out.name)}.{escape(host)}-*.partial"):
        number = folder.name.removesuffix(".partial").rpartition("-")[2]
        # This process's own number was an earlier one's: in containers numbers repeat.
        if number.isdigit() and (int(number) == os.getpid() or not _alive(int(number))):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
