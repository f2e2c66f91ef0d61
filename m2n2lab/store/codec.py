"""Codec: scores, genomes and generator states as bytes, without loss."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.spaces.buffers import Buffers
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.space import Vector
from m2n2lab.utils.errors import InputError

BITS, PARTIAL_BITS, FLOAT32, FLOAT64, RECIPE, MODULE = b"b", b"s", b"f", b"d", b"r", b"m"
"""First bytes, by content: binary scores, the same with gaps, float32, float64, recipe as JSON,
vector with the buffers of a module."""

DERIVED = b"v"
"""First byte of a recipe with derived vectors, as compressed JSON: their ancestry may be long."""

MODULE_HEAD = struct.Struct("<cQQ")
"""Of a vector with buffers: ``FLOAT32`` or ``FLOAT64``, N, and the number M of merged entries."""

FLOAT_DTYPES: dict[bytes, np.dtype[Any]] = {FLOAT32: np.dtype("<f4"), FLOAT64: np.dtype("<f8")}


def pack_scores(scores: NDArray[Any]) -> bytes:
    """Return scores (D,) as bytes: one bit each if all are 0 or 1, else compressed floats.

    NaN stands for a data point that was not scored; among binary scores it takes a second bit each.
    """
    if scores.dtype == np.bool_:
        return BITS + np.packbits(scores).tobytes()
    known = scores == scores
    if ((scores == 0) | (scores == 1) | ~known).all():
        bits = np.packbits(scores == 1).tobytes()
        return BITS + bits if known.all() else PARTIAL_BITS + np.packbits(known).tobytes() + bits
    double = scores.astype("<f8")
    with np.errstate(over="ignore"):  # scores beyond float32 become infinite, and are kept whole
        single = double.astype("<f4")
    if np.array_equal(single, double, equal_nan=True):
        return FLOAT32 + zlib.compress(single.tobytes(), 1)
    return FLOAT64 + zlib.compress(double.tobytes(), 1)


def is_graded(packed: bytes) -> bool:
    """Return whether packed scores are not binary."""
    return packed[:1] in FLOAT_DTYPES


def unpack_scores(packed: bytes, points: int) -> NDArray[np.float64]:
    """Return the scores (D,) that ``pack_scores`` packed."""
    tag, rest = packed[:1], packed[1:]
    if tag == BITS:
        bits = np.frombuffer(rest, np.uint8)
        return np.unpackbits(bits, count=points).astype(np.float64)
    if tag == PARTIAL_BITS:
        both = np.frombuffer(rest, np.uint8).reshape(2, -1)
        known, right = np.unpackbits(both, axis=1, count=points)
        return np.where(known, right, np.nan)
    return np.frombuffer(zlib.decompress(rest), FLOAT_DTYPES[tag]).astype(np.float64)


def pack_genome(genome: Any) -> bytes:
    """Return a vector or a recipe as bytes.

    Raises:
        InputError: the genome of a custom space is neither.
    """
    if isinstance(genome, Recipe):
        text = json.dumps(genome.to_json()).encode()
        return DERIVED + zlib.compress(text, 1) if genome.derived else RECIPE + text
    if isinstance(genome, Vector):
        tag = FLOAT32 if genome.values.dtype == np.float32 else FLOAT64
        weights = genome.values.astype(FLOAT_DTYPES[tag], copy=False).tobytes()
        if genome.buffers is None:
            return tag + weights
        merged, carried = genome.buffers
        head = MODULE_HEAD.pack(tag, len(genome.values), len(merged))
        entries = merged.astype(FLOAT_DTYPES[tag], copy=False).tobytes()
        return b"".join((MODULE, head, weights, entries, carried.tobytes()))
    raise InputError(
        f"Stored models must be vectors or recipes, got {type(genome).__name__}; "
        f"save each with the space's own save."
    )


def unpack_genome(packed: bytes) -> Recipe | Vector:
    """Return the genome that ``pack_genome`` packed."""
    tag, rest = packed[:1], packed[1:]
    if tag == RECIPE:
        return Recipe.from_json(json.loads(rest))
    if tag == DERIVED:
        return Recipe.from_json(json.loads(zlib.decompress(rest)))
    if tag != MODULE:
        return Vector(_native(np.frombuffer(rest, FLOAT_DTYPES[tag])))
    tag, size, count = MODULE_HEAD.unpack_from(rest)
    floats = np.frombuffer(rest, FLOAT_DTYPES[tag], size + count, MODULE_HEAD.size)
    carried = np.frombuffer(rest, np.uint8, offset=MODULE_HEAD.size + floats.nbytes).copy()
    return Vector(_native(floats[:size]), Buffers(_native(floats[size:]), carried))


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in this computer's byte order, which torch may view."""
    return values.astype(values.dtype.newbyteorder("="))


def fingerprint(genome: Any) -> int:
    """Return a checksum of a genome; of a vector, about a thousand of its weights and buffers."""
    if isinstance(genome, Recipe):
        checksum = zlib.crc32(genome.coef.tobytes(), zlib.crc32(genome.breaks.tobytes()))
        for vector in genome.derived:
            checksum = zlib.crc32(vector.key.encode(), checksum)
        if genome.buffers is None:
            return checksum
        return zlib.crc32(fingerprint(genome.buffers).to_bytes(4, "little"), checksum)
    checksum = 0
    for values in (genome.values, *(genome.buffers or ())):
        checksum = zlib.crc32(values[:: max(len(values) // 1024, 1)].tobytes(), checksum)
    return checksum


def pack_rng(rng: np.random.Generator) -> bytes:
    """Return the state of a PCG64 generator."""
    state = rng.bit_generator.state
    inner = state["state"]
    half = state["uinteger"].to_bytes(4, "little") if state["has_uint32"] else b""
    return b"".join(
        (inner["state"].to_bytes(16, "little"), inner["inc"].to_bytes(16, "little"), half)
    )


def unpack_rng(packed: bytes) -> dict[str, Any]:
    """Return the state that ``pack_rng`` packed.

    Raises:
        ValueError: it packed no such bytes.
    """
    if len(packed) not in (32, 36):
        raise ValueError("no state of a generator")
    half = packed[32:]
    return {
        "bit_generator": "PCG64",
        "state": {
            "state": int.from_bytes(packed[:16], "little"),
            "inc": int.from_bytes(packed[16:32], "little"),
        },
        "has_uint32": int(bool(half)),
        "uinteger": int.from_bytes(half, "little"),
    }
