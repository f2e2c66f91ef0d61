"""Saving: a folder that loads as its seeds do, complete or not there, and the same again.

The result has the files of the first seed: the same shards, in each the same tensors in the same
order. Weights are computed, rounded and written piece by piece in several threads, so that
reading, arithmetic and writing overlap and no tensor is ever held as a whole.
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

from m2n2lab.checkpoint.checks import taken
from m2n2lab.checkpoint.io.checkpoint import Part
from m2n2lab.checkpoint.io.dtypes import BYTES, DTYPES, TORCH_NAMES
from m2n2lab.checkpoint.io.folder import STEMS
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.io.parallel import PIECE, Progress, chunks, nothing, spread
from m2n2lab.checkpoint.io.problems import Problems
from m2n2lab.checkpoint.io.tensor_file import TensorFile, make_header, reserve, write_at
from m2n2lab.checkpoint.merge_record import Record, copied
from m2n2lab.checkpoint.model_card import card
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array
from m2n2lab.utils.errors import InputError


@dataclass(frozen=True)
class _Piece:
    """A stretch of one tensor, and where it goes."""

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
    progress: Progress = nothing,
) -> Path:
    """Write the model that a recipe makes of the plan's seeds.

    Args:
        plan: the seeds.
        recipe: their combination.
        out: the folder to make; nothing is there until all is complete.
        hashes: SHA-256 of all files that go into it, perhaps still being computed.
        record: what is told of it; completed with the hashes.
        progress: called with the bytes that were just read and written.

    Raises:
        InputError: the folder exists or cannot be written, the disk is full.
        Problems: a seed holds NaN or infinity, or the result does not fit its kind.
    """
    out = Path(out)
    with _whole_folder(out) as folder:
        _copy_others(plan, record, folder)
        sheets = [
            (file, _open(folder / plan.base.relative(file.path)))
            for part in plan.base.parts
            for file in part.files
        ]
        try:
            draft = record.text  # as long as the full one: zeros stand for every hash
            pieces = [
                piece for file, handle in sheets for piece in _lay_out(plan, file, handle, draft)
            ]
            spread(pieces, lambda piece: _write(plan, recipe, piece), progress)
            full = record.complete(plan, hashes.wait())
            for file, handle in sheets:
                write_at(handle, _header(plan, file, full.text), 0)
        finally:
            for _, handle in sheets:
                os.close(handle)
        (folder / "recipe.json").write_text(full.pretty, encoding="utf-8")
        (folder / "README.md").write_text(card(plan, recipe, full), encoding="utf-8")
    return out


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def _contents(plan: Plan, file: TensorFile) -> dict[str, tuple[str, str, tuple[int, ...], bool]]:
    """Return what of a file of the base is written: name → full name, kind, shape, merged."""
    part = next(part for part in plan.base.parts if file in part.files)
    found = {}
    for name, entry in file.entries.items():
        full = part.full(name)
        if full in plan.sizes:
            found[name] = (full, plan.kinds[full], plan.layout.shapes[full], True)
        elif full not in plan.base.tied:
            found[name] = (full, entry.kind, entry.shape, False)
    return found


def _header(plan: Plan, file: TensorFile, text: str) -> bytes:
    tensors = {name: (kind, shape) for name, (_, kind, shape, _) in _contents(plan, file).items()}
    return make_header(tensors, {"format": file.metadata.get("format", "pt"), "m2n2lab": text})


def _lay_out(plan: Plan, file: TensorFile, handle: int, draft: str) -> Iterator[_Piece]:
    """Return the pieces of one file, which gets its full length here."""
    offset = len(_header(plan, file, draft))
    for full, kind, _, merged in _contents(plan, file).values():
        width = BYTES[kind] if merged else 1  # what is carried is cut as bytes
        for start, stop in chunks(plan.bytes(full) // width, PIECE):
            yield _Piece(handle, offset + start * width, full, start, stop, merged)
        offset += plan.bytes(full)
    reserve(handle, offset)


def _write(plan: Plan, recipe: Recipe, piece: _Piece) -> int:
    if not piece.merged:
        data = plan.base.raw(piece.name)[piece.start : piece.stop]
        write_at(piece.file, data, piece.offset)
        return 2 * len(data)
    kind = plan.kinds[piece.name]
    result = _room(piece.stop - piece.start, DTYPES[kind])
    plan.paint(recipe, piece.name, piece.start, piece.stop, result)
    write_at(piece.file, result.data.cast("B"), piece.offset)
    read = sum(s.nbytes for s in plan.sources(piece.name, piece.start, piece.stop))
    return read + result.nbytes


_own = threading.local()


def _room(size: int, dtype: Any) -> Array:
    """Return an array (size,) in memory of this thread, the same each time.

    Fresh memory would cost more than the sums that are written into it.
    """
    need = size * np.dtype(dtype).itemsize
    room = getattr(_own, "room", None)
    if room is None or len(room) < need:
        _own.room = room = np.empty(need, np.uint8)
    return cast("Array", room[:need].view(dtype))


# -- what goes beside the weights --------------------------------------------------------------


def _copy_others(plan: Plan, record: Record, folder: Path) -> None:
    known = {name for seed in record.seeds for name in seed["files"]}
    for source, name in copied(plan, record.tokenizer):
        if name not in known:  # it came after the merge that is made again
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for part in plan.base.parts:
        changed = _config(plan, part)
        if changed != part.config:  # else it was copied
            _write_json(folder / part.name / "config.json", changed)
        for stem in STEMS:
            index = f"{stem}.safetensors.index.json"
            single = part.files[0].path.name == f"{stem}.safetensors"
            if (part.folder / index).exists() and not single:
                _write_json(folder / part.name / index, _index(plan, part))


def _config(plan: Plan, part: Part) -> dict[str, Any]:
    """Return a part's config with what the merge changes: dtype and size of the vocabulary."""
    cut = {
        plan.base.entry(name).shape[0]: plan.layout.shapes[name][0]
        for file in part.files
        for name in map(part.full, file.entries)
        if name in plan.sizes and plan.layout.shapes[name] != plan.base.entry(name).shape
    }
    dtype = TORCH_NAMES.get(plan.dtype or "")

    def change(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):  # of a model inside the model
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


# -- all or nothing ----------------------------------------------------------------------------


_writing: set[Path] = set()
"""Temporary folders of this process that are being filled."""


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``out`` that takes its name when the block ends well.

    Raises:
        InputError: ``out`` is there already, cannot be written, or the disk is full.
    """
    if problem := taken(out):
        raise Problems(problem)
    host, parent = socket.gethostname(), out.absolute().parent
    temporary = parent / f".{out.name}.{host}-{os.getpid()}.partial"
    if temporary in _writing:
        raise InputError(f"{out} is being written already; wait for it, or choose another name.")
    above = [folder for folder in (parent, *parent.parents) if not os.path.exists(folder)]
    _writing.add(temporary)
    try:
        _sweep(out, host)
        temporary.mkdir(parents=True)
        yield temporary
        os.rename(temporary, out)  # an empty folder of that name is replaced
    except OSError as error:
        raise InputError(
            f"{out} could not be written: {error.strerror or error}; free some space or choose "
            f"another place. Nothing was left behind."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in above:  # only if they are empty
            with suppress(OSError):
                folder.rmdir()
        _writing.discard(temporary)


def _sweep(out: Path, host: str) -> None:
    """Remove what merges into the same folder left behind when they were killed."""
    for folder in out.absolute().parent.glob(f".{escape(out.name)}.{escape(host)}-*.partial"):
        number = folder.name.removesuffix(".partial").rpartition("-")[2]
        # A number of this process's own is an earlier one's, as in containers.
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
