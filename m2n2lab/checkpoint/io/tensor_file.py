"""Safetensors files: headers read and written, tensors read in pieces or mapped.

The format is small (https://huggingface.co/docs/safetensors): eight bytes of length, a JSON header
with the dtype, shape and position of every tensor, then the tensors. The safetensors library
returns whole tensors, and NumPy has no bfloat16; here they are read in pieces, or mapped into
memory: a model of any size is opened at once and takes no memory of its own.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m2n2lab.checkpoint.io.dtypes import DTYPES
from m2n2lab.checkpoint.io.mapping import map_file
from m2n2lab.checkpoint.io.problems import Problem, Problems, unreadable
from m2n2lab.checkpoint.io.reading import SeedFile, Stamp
from m2n2lab.utils.arrays import Array
from m2n2lab.utils.files import open_regular
from m2n2lab.utils.json_text import parse_json

DTYPE_BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64},
    **{"I64": 64, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64},
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8},
    **{"F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8},
}
"""Bits of an element of each dtype of the format."""

MAX_HEADER_BYTES = 100_000_000
"""Longest header that the format allows."""

MAX_TENSORS = 1 << 18
"""Tensors of a file; the largest models have some ten thousand, in many files."""


class Entry(NamedTuple):
    """One tensor of a file.

    Attributes:
        dtype: ``"BF16"``, ``"F32"``, ``"I64"`` …
        shape: its shape; ``()`` for a scalar.
        start: its first byte in the file.
        stop: one past its last byte.
    """

    dtype: str
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
    """A safetensors file with a valid header.

    Attributes:
        path: the file.
        entries: its tensors by name, in the order of their positions.
        metadata: the ``__metadata__`` of its header.
        source: the file as it was when the header was read.
    """

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    source: SeedFile

    def __getstate__(self) -> dict[str, Any]:
        # A copy maps the file by itself.
        return {name: value for name, value in self.__dict__.items() if name != "_bytes"}

    @property
    def length(self) -> int:
        """Size of the file in bytes."""
        return self.source.stamp.size

    @cached_property
    def _bytes(self) -> Any:
        return map_file(self.path)

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> memoryview:
        """Return bytes ``start..stop`` of a tensor, by default all.

        Raises:
            Problems: the file has changed or cannot be read.
        """
        entry = self.entries[name]
        first, last, _ = slice(start, stop).indices(entry.bytes)
        content = np.empty(max(last - first, 0), np.uint8)
        if content.size:
            self.source.read_into(content.data, entry.start + first)
        return content.data.toreadonly()

    def stored(self, name: str) -> Stored:
        """Return a tensor of one of ``DTYPES`` as a flat array that is read when it is sliced."""
        return Stored(self, name)

    def array(self, name: str) -> Array:
        """Return a tensor of one of ``DTYPES`` as a flat, read-only view into the mapped file.

        The process ends if another program makes the file shorter meanwhile; ``stored`` is safe.
        """
        entry = self.entries[name]
        if entry.size == 0:
            return np.empty(0, DTYPES[entry.dtype])
        return np.frombuffer(self._bytes, DTYPES[entry.dtype], entry.size, entry.start)


class Stored:
    """A flat tensor in a file, of which slices are read when they are asked for.

    Attributes:
        dtype: one of ``DTYPES``.
        size: its number of elements.
    """

    def __init__(self, file: TensorFile, name: str) -> None:
        self._file, self._name = file, name
        self.dtype = np.dtype(DTYPES[file.entries[name].dtype])
        self.size = file.entries[name].size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> Array:
        start, stop, _ = part.indices(self.size)
        width = self.dtype.itemsize
        return np.frombuffer(self._file.raw(self._name, start * width, stop * width), self.dtype)


def read_header(path: Path) -> TensorFile:
    """Read the header of a safetensors file and check it against the file's length.

    Raises:
        Problems: the file cannot be read, is no safetensors file, or is truncated.
    """
    expected = "a safetensors file"
    try:
        with open_regular(path) as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            length = stamp.size
            start = file.read(8)
            size = int.from_bytes(start, "little")
            text = file.read(size) if size <= min(MAX_HEADER_BYTES, length - 8) else None
    except OSError as problem:
        raise Problems(unreadable(path, problem)) from None
    if start == b"version ":
        raise Problems(
            Problem(
                file=str(path),
                expected=expected,
                found="the Git LFS pointer to it",
                fix="fetch the file itself with git lfs pull, or download it",
            )
        )
    if text is None:
        raise _invalid(path, expected, f"a header of {size:,} bytes in a file of {length:,} bytes")
    if (count := text.count(b'"data_offsets"')) > MAX_TENSORS:
        raise _invalid(path, f"at most {MAX_TENSORS:,} tensors", f"{count:,} of them")
    try:
        header = parse_json(text, _unique_keys)
    except _DuplicateNameError as problem:
        raise _invalid(path, expected, f"a header with the name {str(problem)!r} twice") from None
    except ValueError:
        raise _invalid(path, expected, "a header that is not JSON") from None
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise _invalid(path, expected, "a header that names no tensors")
    entries = {}
    for name, value in header.items():
        try:
            entries[name] = _entry(value, 8 + size)
        except (KeyError, TypeError, ValueError):
            raise _invalid(
                path, "a known dtype, a shape and a position", reprlib.repr(value), name
            ) from None
    # Tensors without elements come before the one that starts at the same byte.
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    end = 8 + size
    for name, entry in entries.items():
        if entry.start != end or entry.bytes != (entry.size * DTYPE_BITS[entry.dtype] + 7) // 8:
            found = (
                f"{entry.bytes:,} bytes at {entry.start:,} for {entry.dtype} of shape {entry.shape}"
            )
            raise _invalid(
                path, "contiguous tensors of the length that their shapes imply", found, name
            )
        end = entry.stop
    if end != length:
        raise Problems(
            Problem(
                file=str(path),
                expected=f"{end:,} bytes, as its header says",
                found=f"{length:,} bytes: the file is truncated"
                if length < end
                else f"{length:,} bytes: something was appended",
                fix="download or copy it again",
            )
        )
    return TensorFile(path, entries, metadata, SeedFile(path, stamp))


class _DuplicateNameError(ValueError):
    """A duplicate name in a JSON object."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, refusing duplicate names."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _DuplicateNameError(name)
        found[name] = value
    return found


def _entry(value: Any, base: int) -> Entry:
    """Return the entry of one tensor.

    Raises:
        KeyError, TypeError, ValueError: the header's value is malformed.
    """
    dtype, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
    if dtype not in DTYPE_BITS or not all(type(n) is int and n >= 0 for n in (*shape, start, stop)):
        raise ValueError
    return Entry(dtype, tuple(shape), base + start, base + stop)


def _invalid(path: Path, expected: str, found: str, tensor: str | None = None) -> Problems:
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
    """Return the header of a file with these tensors (name → dtype and shape), in this order.

    The same tensors and metadata always give the same bytes; the length is a multiple of eight, so
    that the tensors after it are aligned.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + (math.prod(shape) * DTYPE_BITS[dtype] + 7) // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
