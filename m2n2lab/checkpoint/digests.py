"""SHA-256 of several streams at once, where the processor has instructions for it.

The result of such an instruction is there after four cycles, when a second could have begun after
two; within one stream each waits for the one before. Streams that take turns fill the gaps: three
are hashed at 1.75 times the speed of one, which is hashlib's. No library offers that for Python,
hence these loops; the arithmetic itself is the processor's. Without the instructions, streams are
hashlib's, one after the other.

The standard is FIPS 180-4; names are those of its section 6.2.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from math import isqrt
from typing import Any, Final

import numba as nb
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from m2n2lab.checkpoint.kinds import Bytes

BLOCK: Final = 64
"""Bytes that are hashed together."""


def _has_instructions() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    # Who has numba compile for another processor than this one may mean a lesser one.
    chosen = config.CPU_NAME or config.CPU_FEATURES  # type: ignore[attr-defined]
    return not chosen and bool(binding.get_host_cpu_features().get("sha"))


TOGETHER: Final = 3 if _has_instructions() else 1
"""Streams that are hashed together: two gain 60 %, three 75 %, and a fourth would gain 3 more."""


def _cube_root(number: int) -> int:
    """Return the whole part of a cube root."""
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle - 1)
    return low


_PRIMES = [n for n in range(2, 312) if all(n % k for k in range(2, isqrt(n) + 1))]
_START = [isqrt(p << 64) & 0xFFFFFFFF for p in _PRIMES[:8]]  # fractional bits of square roots
_K = [_cube_root(p << 96) & 0xFFFFFFFF for p in _PRIMES]  # and of cube roots, 64 of them
_ORDER = [5, 4, 1, 0, 7, 6, 3, 2]  # how the instructions want a..h: f, e, b, a; h, g, d, c

_INT = ir.IntType(32)
_FOUR = ir.VectorType(_INT, 4)


def _four(numbers: Sequence[int]) -> ir.Constant:
    return ir.Constant(_FOUR, [ir.Constant(_INT, number) for number in numbers])


@intrinsic
def _compress(typing: Any, states: Any, data: Any, count: Any) -> Any:
    """Take ``count`` blocks of each stream into its state: addresses, in two tuples of one length.

    Instructions of the streams are written in turn, which is how a processor likes them.
    """
    many = len(states)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        addresses, sources, blocks = arguments
        number = blocks.type

        def instruction(name: str, *operands: Any) -> Any:
            kind = ir.FunctionType(_FOUR, [_FOUR] * len(operands))
            return builder.call(
                cgutils.get_or_insert_function(builder.module, kind, name), operands
            )

        def place(base: Any, offset: int) -> Any:
            address = builder.add(base, ir.Constant(number, offset))
            return builder.inttoptr(address, _FOUR.as_pointer())

        def pick(x: Any, y: Any, lanes: Sequence[int]) -> Any:
            return builder.shuffle_vector(x, y, _four(lanes))

        bases = cgutils.unpack_tuple(builder, addresses, many)
        data = cgutils.unpack_tuple(builder, sources, many)
        kept = [[cgutils.alloca_once(builder, _FOUR) for _ in range(2)] for _ in range(many)]
        for base, halves in zip(bases, kept, strict=True):
            for half, room in enumerate(halves):
                builder.store(builder.load(place(base, 16 * half), align=1), room)
        with cgutils.for_range(builder, blocks) as loop:
            offset = builder.mul(loop.index, ir.Constant(number, BLOCK))
            froms = [builder.add(base, offset) for base in data]
            before = [[builder.load(room) for room in halves] for halves in kept]
            states = [list(halves) for halves in before]
            w: list[list[Any]] = [[] for _ in range(many)]
            for t in range(0, 64, 4):
                for stream in range(many):
                    words, state = w[stream], states[stream]
                    if t < 16:
                        read = builder.load(place(froms[stream], 4 * t), align=1)
                        words.append(instruction("llvm.bswap.v4i32", read))
                    else:
                        w16, w12, w8, w4 = words[-4:]
                        part = instruction("llvm.x86.sha256msg1", w16, w12)
                        part = builder.add(part, pick(w8, w4, [1, 2, 3, 4]))
                        words.append(instruction("llvm.x86.sha256msg2", part, w4))
                    wk = builder.add(words[-1], _four(_K[t : t + 4]))
                    for half, two in ((1, wk), (0, pick(wk, wk, [2, 3, 2, 3]))):
                        other = state[1 - half]
                        state[half] = instruction("llvm.x86.sha256rnds2", state[half], other, two)
            for stream, halves in enumerate(kept):
                for half, room in enumerate(halves):
                    builder.store(builder.add(states[stream][half], before[stream][half]), room)
        for base, halves in zip(bases, kept, strict=True):
            for half, room in enumerate(halves):
                builder.store(builder.load(room), place(base, 16 * half), align=1)
        return context.get_dummy_value()

    return types.void(states, data, count), generate


@nb.njit(nogil=True, cache=True)
def _take(states: Any, data: Any, count: int) -> None:
    _compress(states, data, count)  # type: ignore[call-arg]  # numba gives it the first


class Stream:
    """One SHA-256, in whole blocks up to its last piece."""

    def __init__(self) -> None:
        self.hashed = 0  # bytes
        self._plain = hashlib.sha256() if TOGETHER == 1 else None
        self._state = np.array([_START[i] for i in _ORDER], np.uint32)

    def end(self, rest: Bytes) -> str:
        """Take the last bytes (n,) and return the hash in hexadecimal."""
        if self._plain is not None:
            self._plain.update(rest.data)
            return self._plain.hexdigest()
        whole = len(rest) // BLOCK * BLOCK
        feed([self], [rest[:whole]])
        bits = 8 * (self.hashed + len(rest) - whole)
        last = rest[whole:].tobytes() + b"\x80"
        last += bytes(-(len(last) + 8) % BLOCK) + bits.to_bytes(8, "big")
        feed([self], [np.frombuffer(last, np.uint8)])
        words = np.empty(8, ">u4")
        words[_ORDER] = self._state
        return words.tobytes().hex()


def feed(streams: Sequence[Stream], pieces: Sequence[Bytes]) -> None:
    """Take pieces (n,) of one length, n a multiple of ``BLOCK``, one into each stream."""
    size = len(pieces[0])
    assert size % BLOCK == 0
    assert all(len(piece) == size for piece in pieces)
    for stream, piece in zip(streams, pieces, strict=True):
        stream.hashed += size
        if stream._plain is not None:
            stream._plain.update(piece.data)
    if TOGETHER > 1:
        states = tuple(stream._state.ctypes.data for stream in streams)
        _take(states, tuple(piece.ctypes.data for piece in pieces), size // BLOCK)
