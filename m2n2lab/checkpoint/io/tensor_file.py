"""Safetensors files as they lie on disk: a header, and the bytes behind it.

The format is small (https://huggingface.co/docs/safetensors): eight bytes of length, a JSON header
that names every tensor with its kind, shape and place, then the tensors. The library that reads it
hands out copies, and NumPy has no bfloat16; here tensors stay views into the mapped file, so that
a model of any size opens at once and takes no memory of its own.
"""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m2n2lab.checkpoint.io.dtypes import DTYPES
from m2n2lab.checkpoint.io.problems import Problem, Problems, unreadable
from m2n2lab.utils.arrays import Array

BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64},
    **{"I64": 64, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64},
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8},
    **{"F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8},
}
"""Bits of one number of each kind that the format knows."""

LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""


class Entry(NamedTuple):
    """One tensor of a file.

    Attributes:
        kind: ``"BF16"``, ``"F32"``, ``"I64"`` …
        shape: its shape; ``()`` for a single number.
        start: its first byte in the file.
        stop: one past its last byte.
    """

    kind: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Number of bytes in the file."""
        return self.stop - self.start


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header was read and found right.

    Attributes:
        path: the file.
        entries: its tensors by name, in the order in which they lie.
        metadata: the header's own notes.
        length: bytes of the file.
    """

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    length: int

    @cached_property
    def _bytes(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_SEQUENTIAL"):
            mapped.madvise(mmap.MADV_SEQUENTIAL)
        return mapped

    def raw(self, name: str) -> memoryview:
        """Return a tensor's bytes, read from the disk when they are looked at."""
        entry = self.entries[name]
        return memoryview(self._bytes)[entry.start : entry.stop]

    def array(self, name: str) -> Array:
        """Return a tensor of one of ``DTYPES``, flat and read-only: a view into the file."""
        entry = self.entries[name]
        if entry.size == 0:
            return np.empty(0, DTYPES[entry.kind])
        return np.frombuffer(self._bytes, DTYPES[entry.kind], entry.size, entry.start)


def read_header(path: Path) -> TensorFile:
    """Read the header of a safetensors file and check it against the file's length.

    Raises:
        Problems: not a safetensors file, or one that was cut short.
    """
    expected = "a safetensors file"
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            size = int.from_bytes(start, "little")
            text = file.read(size) if size <= min(LONGEST_HEADER, length - 8) else None
    except OSError as problem:
        raise Problems(unreadable(path, problem)) from None
    if start == b"version ":
        raise Problems(
            Problem(
                file=str(path),
                expected=expected,
                found="the text that stands for it in Git",
                fix="fetch the file itself with git lfs pull, or download it",
            )
        )
    if text is None:
        raise _wrong(path, expected, f"a header of {size:,} bytes in a file of {length:,} bytes")
    try:
        header = json.loads(text.decode(), object_pairs_hook=_once)
    except _TwiceError as problem:
        raise _wrong(path, expected, f"a header with the name {str(problem)!r} twice") from None
    except (ValueError, RecursionError):
        raise _wrong(path, expected, "a header that is not JSON") from None
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise _wrong(path, expected, "a header that names no tensors")
    entries = {}
    for name, value in header.items():
        try:
            entries[name] = _entry(value, 8 + size)
        except (KeyError, TypeError, ValueError):
            raise _wrong(
                path, "a known kind, a shape and a place", reprlib.repr(value), name
            ) from None
    # Tensors without elements lie before the one that begins at their place.
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    end = 8 + size
    for name, entry in entries.items():
        if entry.start != end or entry.bytes != (entry.size * BITS[entry.kind] + 7) // 8:
            raise _wrong(
                path,
                "tensors that lie one behind the other, as long as their shapes say",
                f"{entry.bytes:,} bytes at {entry.start:,} for {entry.kind} of shape {entry.shape}",
                name,
            )
        end = entry.stop
    if end != length:
        raise Problems(
            Problem(
                file=str(path),
                expected=f"{end:,} bytes, as its header says",
                found=f"{length:,} bytes: the file was cut short"
                if length < end
                else f"{length:,} bytes: something was added",
                fix="download or copy it again",
            )
        )
    return TensorFile(path, entries, metadata, length)


class _TwiceError(ValueError):
    """A name that comes twice in one object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, refusing names that come twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(name)
        found[name] = value
    return found


def _entry(value: Any, base: int) -> Entry:
    """Return what a header says of one tensor; an error of any kind if that is no sense."""
    kind, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
    if kind not in BITS or not all(type(n) is int and n >= 0 for n in (*shape, start, stop)):
        raise ValueError
    return Entry(kind, tuple(shape), base + start, base + stop)


def _wrong(path: Path, expected: str, found: str, tensor: str | None = None) -> Problems:
    return Problems(
        Problem(
            file=str(path),
            tensor=tensor,
            expected=expected,
            found=found,
            fix="download or copy the file again",
        )
    )


def make_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """Return the header of a file with these tensors (name → kind and shape), in their order.

    The same tensors and metadata always give the same bytes, a multiple of eight long, so that
    numbers behind it lie at even places.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (kind, shape) in tensors.items():
        start, end = end, end + (math.prod(shape) * BITS[kind] + 7) // 8
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_at(file: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of ``data`` into an open file; several threads may write at once."""
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view, offset)
        view, offset = view[done:], offset + done


def reserve(file: int, length: int) -> None:
    """Give an open file its length and, where the system can, its place on the disk at once.

    A full disk shows before any work is done, and writing from several threads is several times
    faster than into a file that grows.
    """
    try:
        os.posix_fallocate(file, 0, length)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        os.ftruncate(file, length)
