"""Pickles of torch, such as pytorch_model.bin: converted once into safetensors.

A pickle can run any code when it is loaded. Here only ``torch.load`` with ``weights_only=True``
opens one, which builds tensors and plain values and refuses everything else before it is made.
Tensors are mapped, not read into memory, and written piece by piece.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from m2n2lab.checkpoint.io.hashes import Hashes, cache_folder
from m2n2lab.checkpoint.io.names import EMBEDDINGS, HEADS, PICKLE_SUFFIXES, TRAINING_FILES
from m2n2lab.checkpoint.io.parallel import Progress, no_progress
from m2n2lab.checkpoint.io.problems import Problem, Problems, unreadable
from m2n2lab.checkpoint.io.tensor_file import make_header
from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.files import open_regular
from m2n2lab.utils.json_text import read_json_file

if TYPE_CHECKING:
    from torch import Tensor

READ_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
"""Suffixes of pickles that ``torch.save`` writes."""

CONTAINERS = ("state_dict", "model", "module", "params")
"""Names under which training programs nest a model's tensors."""

PIECE_BYTES = 1 << 23
"""Bytes written at a time."""

_FORMAT = 1
"""Number of the form of converted files; another one converts them again."""

_STEMS = {"pytorch_model": "model", "diffusion_pytorch_model": "diffusion_pytorch_model"}
"""Names of pickles in transformers and diffusers, and of the safetensors files for them."""


class _Job(NamedTuple):
    """Pickles of one folder.

    Attributes:
        folder: the folder, relative to the model's.
        files: the files to write by the pickles that they are made from.
        shard_index: the index of shards to write, or ``None``.
    """

    folder: str
    files: Mapping[Path, str]
    shard_index: str | None


def as_safetensors(source: Path, progress: Progress = no_progress) -> Path:
    """Return the path of a model in safetensors, which is converted if it holds only pickles.

    The result is in the user's cache: converted weights, and links to all other files.

    Args:
        source: a file or folder; it is returned as it is unless there is something to convert.
        progress: called with the number of bytes written since the last call.

    Raises:
        Problems: a pickle is damaged, holds anything but tensors, or lacks a shard.
        InputError: the cache cannot be written.
    """
    jobs = _jobs(source)
    if not jobs:
        return source
    pickles = [path for job in jobs for path in job.files]
    about = [(str(path.resolve()), *_size_and_time(path)) for path in pickles]
    key = hashlib.sha256(json.dumps([_FORMAT, about]).encode()).hexdigest()[:16]
    home = cache_folder("converted")
    place = home / f"{(source.stem if source.is_file() else source.name) or 'model'}-{key}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f"{place.name}.lock"):  # two processes convert it once
            if not place.is_dir():
                with tempfile.TemporaryDirectory(dir=home, prefix=".partial-") as temporary:
                    made = Path(temporary) / "made"
                    note = _convert(source, jobs, made, progress)
                    (home / f"{place.name}.json").write_text(json.dumps(note, indent=2) + "\n")
                    made.rename(place)
            if source.is_dir():
                _mirror(source, place, set(pickles))
    except OSError as error:
        raise InputError(
            f"{source} could not be converted into {place}: {error.strerror or error}; free some "
            f"space, or choose another folder with the variable M2N2LAB_CACHE."
        ) from error
    return place if source.is_dir() else place / next(iter(jobs[0].files.values()))


def convert(source: str | Path, out: str | Path, progress: Progress = no_progress) -> Path:
    """Convert a model's pickles into a folder with safetensors and all other files.

    Args:
        source: the folder or file with pickles.
        out: the folder to make; it does not exist until it is complete.
        progress: called with the number of bytes written since the last call.

    Raises:
        Problems: as for ``as_safetensors``.
        InputError: there is nothing to convert, or the folder exists or cannot be written.
    """
    source, out = Path(source), Path(out)
    jobs = _jobs(source)
    if not jobs:
        raise InputError(
            f"{source} must hold weights in {', '.join(READ_SUFFIXES)} files and no safetensors to "
            f"be converted, but it has no such files; give the folder or file that has them."
        )
    if os.path.lexists(out):
        raise InputError(f"{out} must be a new folder, but it exists; choose another name.")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".partial-") as folder:
            made = Path(folder) / out.name
            note = _convert(source, jobs, made, progress)
            if source.is_dir():
                _mirror(source, made, {path for job in jobs for path in job.files}, link=False)
            (made / "conversion.json").write_text(json.dumps(note, indent=2) + "\n")
            made.rename(out)
    except OSError as error:
        raise InputError(
            f"{out} could not be written: {error.strerror or error}; free some space or choose "
            f"another place. Nothing was left behind."
        ) from error
    return out


def pickled_bytes(source: Path) -> int:
    """Return the bytes of the pickles that a conversion of ``source`` reads; 0 if there are none.

    Raises:
        Problems: a shard is missing.
    """
    return sum(path.stat().st_size for job in _jobs(source) for path in job.files)


# -- which files -------------------------------------------------------------------------------


def _jobs(source: Path) -> list[_Job]:
    if source.is_file():
        if source.suffix.lower() not in READ_SUFFIXES or source.name in TRAINING_FILES:
            return []
        return [_Job("", {source: f"{source.stem}.safetensors"}, None)]
    folders = [source]
    if (source / "model_index.json").is_file():
        folders = sorted(path for path in source.iterdir() if path.is_dir())
    found = [_folder_job(folder, source) for folder in folders]
    return [job for job in found if job.files]


def _folder_job(folder: Path, source: Path) -> _Job:
    """Return what is to be converted in a folder; nothing if it has safetensors."""
    name = folder.relative_to(source).as_posix()
    names = sorted(path.name for path in folder.iterdir())
    if any(each.endswith((".safetensors", ".safetensors.index.json")) for each in names):
        return _Job(name, {}, None)
    for stem, new in _STEMS.items():  # the order in which transformers looks for them
        if f"{stem}.bin" in names:
            return _Job(name, {folder / f"{stem}.bin": f"{new}.safetensors"}, None)
        if f"{stem}.bin.index.json" in names:
            shards = _shards(folder / f"{stem}.bin.index.json")
            files = {
                path: path.name.replace(stem, new, 1).removesuffix(path.suffix) + ".safetensors"
                for path in shards
            }
            return _Job(name, files, f"{new}.safetensors.index.json")
    others = [
        folder / each
        for each in names
        if Path(each).suffix.lower() in READ_SUFFIXES
        and each not in TRAINING_FILES
        and not each.startswith(("rng_state", "optimizer", "scheduler"))
    ]
    if len(others) > 1:
        listed = ", ".join(path.name for path in others[:4])
        raise Problems(
            Problem(
                file=str(folder),
                expected="one model",
                found=f"several: {listed}",
                fix="give the path of the file that is meant",
            )
        )
    return _Job(name, dict.fromkeys(others, "model.safetensors"), None)


def _shards(index: Path) -> list[Path]:
    try:
        places = read_json_file(index)["weight_map"]
        names = sorted({str(place) for place in places.values()})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Problems(
            Problem(
                file=str(index),
                expected="a weight_map of tensor names to files",
                found="other text",
                fix="download or copy it again",
            )
        ) from None
    lost = [n for n in names if Path(n).name != n or not (index.parent / n).is_file()]
    if lost:
        raise Problems(
            *(
                Problem(
                    file=str(index.parent / name),
                    expected=f"a shard, as {index.name} says",
                    found="no such file",
                    fix="download or copy it as well",
                )
                for name in lost
            )
        )
    return [index.parent / name for name in names]


def _size_and_time(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _mirror(source: Path, place: Path, pickles: set[Path], link: bool = True) -> None:
    """Link or copy all files of a model but its pickles, and remove links to files that are gone.

    Links follow changes of the files; where the system has none, files are copied.
    """
    place.mkdir(exist_ok=True)
    wanted = set()
    for path in sorted(source.iterdir()):
        target = place / path.name
        skipped = path in pickles or path.name.endswith(".bin.index.json")
        if skipped or path.name.startswith("."):
            continue
        wanted.add(path.name)
        if path.is_dir():
            if link or path in {each.parent for each in pickles} or not _has_pickles(path):
                _mirror(path, target, pickles, link)
        elif not link:
            if path.suffix.lower() not in PICKLE_SUFFIXES:
                shutil.copyfile(path, target)
        elif not (target.is_symlink() and os.readlink(target) == str(path.absolute())):
            _link(path.absolute(), target)
    for old in place.iterdir():
        if old.is_symlink() and old.name not in wanted:
            old.unlink()


def _has_pickles(folder: Path) -> bool:
    return any(path.suffix.lower() in PICKLE_SUFFIXES for path in folder.rglob("*"))


def _link(path: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        temporary.symlink_to(path)
    except (OSError, NotImplementedError):
        shutil.copyfile(path, temporary)
    os.replace(temporary, target)


# -- conversion --------------------------------------------------------------------------------


def _convert(
    source: Path, jobs: list[_Job], made: Path, progress: Progress
) -> dict[str, dict[str, Any] | str]:
    """Write the converted files into the folder ``made``; return a note with their SHA-256."""
    hashes = Hashes(path for job in jobs for path in job.files)
    results: dict[str, Any] = {}
    for job in jobs:
        folder = made / job.folder
        folder.mkdir(parents=True, exist_ok=True)
        places: dict[str, str] = {}
        total = 0
        for path, name in job.files.items():
            # Opened one by one: of 163 shards only one is open at a time.
            tensors = _without_tied_head(_tensors(path), path.parent)
            relative = f"{job.folder}/{name}".removeprefix("./")
            results[relative] = _write(tensors, folder / name, progress)
            places.update(dict.fromkeys(tensors, name))
            total += sum(tensor.nbytes for tensor in tensors.values())
        if job.shard_index:
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
            (folder / job.shard_index).write_text(
                json.dumps(index, indent=2) + "\n", encoding="utf-8"
            )
    digests = hashes.wait()
    return {
        "source": str(source.absolute()),
        "pickles": {
            str(path.relative_to(source) if path != source else path.name): digests[path]
            for job in jobs
            for path in job.files
        },
        "safetensors": results,
    }


def _tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a pickle, mapped into memory.

    Raises:
        Problems: it is damaged or holds anything but tensors.
    """
    from torch import Tensor

    held, where = _load(path), ""
    while isinstance(held, Mapping) and not any(isinstance(v, Tensor) for v in held.values()):
        named = [name for name in CONTAINERS if isinstance(held.get(name), Mapping)]
        if len(named) != 1:
            known = ", ".join(map(repr, [*held][:4])) or "nothing"
            raise _refused(
                path,
                f"several of them ({', '.join(named)})" if named else f"only {known}{where}",
                "save the tensors that are meant (state_dict()) as a file of their own",
            )
        where = f" under {named[0]!r}"
        held = held[named[0]]
    if not isinstance(held, Mapping):
        raise _refused(path, f"a {type(held).__name__}{where}", "save a model's state_dict()")
    for name, value in held.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            found = f"a {type(value).__name__} as {name!r}{where}"
            raise _refused(path, found, "save a model's state_dict() without it")
    tensors = {name: value.detach() for name, value in held.items()}
    for name, tensor in tensors.items():
        _dtype(tensor, path, name)
    if all(name.startswith("module.") for name in tensors):  # from training on several devices
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _refused(path: Path, found: str, fix: str) -> Problems:
    return Problems(
        Problem(file=str(path), expected="a dictionary of tensors", found=found, fix=fix)
    )


def _load(path: Path) -> Any:
    import torch

    try:
        with open_regular(path) as file:
            start = file.read(8)
    except OSError as error:
        raise Problems(unreadable(path, error)) from None
    if start == b"version ":
        raise Problems(
            Problem(
                file=str(path),
                expected="a file that torch.save wrote",
                found="the Git LFS pointer to it",
                fix="fetch the file itself with git lfs pull, or download it",
            )
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old forms of storages
            # Only zip files, torch's form since version 1.6, can be mapped.
            mapped = start.startswith(b"PK")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise Problems(
            Problem(
                file=str(path),
                expected="a pickle of nothing but tensors",
                found=f"one that asks for other code, which was not run{_asked(error)}",
                fix="use its safetensors, or load it where you trust it and save its state_dict() "
                "with safetensors.torch.save_file",
            )
        ) from None
    except Exception as error:  # torch raises many classes for damaged files
        raise _damaged(path, error) from None


def _asked(error: Exception) -> str:
    """Return the name of the code that a refused pickle asks for, as far as torch says it."""
    words = str(error).replace("`", " ").split()
    name = next((b for a, b in pairwise(words) if a == "GLOBAL"), "")
    return f" ({name.rstrip('.,')})" if name else ""


def _damaged(path: Path, error: Exception) -> Problems:
    return Problems(
        Problem(
            file=str(path),
            expected="a file that torch.save wrote",
            found=f"one that cannot be read ({type(error).__name__}: {first_line(error):.120})",
            fix="download or copy it again",
        )
    )


def _dtype(tensor: Tensor, path: Path, name: str) -> str:
    import torch

    known = {
        torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
        torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
        torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64",
        torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    }  # fmt: skip
    dtype = known.get(tensor.dtype)
    if dtype is None or tensor.layout != torch.strided:
        raise Problems(
            Problem(
                file=str(path),
                tensor=name,
                expected="a dense tensor of a dtype that safetensors has",
                found=f"{tensor.dtype}, {tensor.layout}",
                fix="convert it to a dense tensor of another dtype",
            )
        )
    return dtype


def _without_tied_head(tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Leave out a head that is the very embedding, as transformers does when it saves a model."""
    try:
        config = read_json_file(folder / "config.json")
    except (OSError, ValueError):
        return tensors
    if not isinstance(config, dict) or config.get("tie_word_embeddings", True) is False:
        return tensors
    tables = [tensor for name, tensor in tensors.items() if EMBEDDINGS.search(name)]
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not (HEADS.search(name) and any(_is_same(tensor, table) for table in tables))
    }


def _is_same(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def _write(tensors: Mapping[str, Tensor], target: Path, progress: Progress) -> str:
    """Write a safetensors file piece by piece; return its SHA-256."""
    shapes = {
        name: (_dtype(tensor, target, name), tuple(tensor.shape))
        for name, tensor in tensors.items()
    }
    digest = hashlib.sha256()
    with target.open("xb") as file:
        for piece in chain([make_header(shapes, {"format": "pt"})], _pieces(tensors)):
            file.write(piece)
            digest.update(piece)
            progress(len(piece))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview | bytes]:
    """Yield the bytes of tensors in a row, a few at a time."""
    import torch

    for tensor in tensors.values():
        if not tensor.numel():
            continue
        if tensor.is_contiguous():
            data = tensor.reshape(-1).view(torch.uint8).numpy().data
            yield from (data[k : k + PIECE_BYTES] for k in range(0, len(data), PIECE_BYTES))
            continue
        rows = max(PIECE_BYTES * len(tensor) // tensor.nbytes, 1)
        for k in range(0, len(tensor), rows):  # scattered in memory: some rows at a time
            part = tensor[k : k + rows].contiguous()
            yield part.reshape(-1).view(torch.uint8).numpy().data
