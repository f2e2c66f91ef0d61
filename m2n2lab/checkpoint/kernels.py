"""The compiled loops: weighted sums of tensors, and their inner products.

NumPy knows no bfloat16, and a chain of array operations reads and writes memory many times. These
loops widen, sum and round in registers, so that a merge moves each byte once, as a copy does. They
release the GIL and are compiled for the kinds of numbers they meet, once for all processes.

Arrays carry their kind in their type, as ``kinds`` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numba as nb
import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from m2n2lab.utils.arrays import Array

LANES: Final = 128
"""How far elements lie apart that are made again together if one of them is in doubt."""

PART: Final = 16 * LANES
"""Elements of which it is known in which lanes the doubts lie."""

MANY: Final = LANES // 8
"""Lanes in doubt beyond which a block is made again as a whole, in vectors."""

BLOCK: Final = 1 << 15
"""Elements summed at a time where more than two seeds meet: they stay in a first-level cache."""

# Typed bit patterns: a plain int would turn the arithmetic into 64 bits and halve the speed.
_U32 = np.uint32
_16 = np.uint32(16)
_13 = np.uint32(13)
_0 = np.uint32(0)
_1 = np.uint32(1)
_SIGN = np.uint32(0x8000)
_SIZE = np.uint32(0x7FFF)
_SIZE32 = np.uint32(0x7FFFFFFF)
_SIZE64 = np.uint64(0x7FFFFFFFFFFFFFFF)
_F16_ODD = np.uint32(0x7C00)
_F32_ODD = np.uint32(0x7F800000)
_F16_BIAS = np.float32(2.0**112)  # the exponents of half and single differ by 112
_F16_ROUND = np.uint32(2**32 + 0xFFF - (112 << 23))  # sums wrap: this subtracts from the exponent
_F16_TINY = np.uint32(0x38800000)  # 2^-14, below which a half has no exponent
_LOW = np.uint32(0x1FFFFFFF)  # the bits of a double that a single has no place for
_HIGH = np.uint64(0xFFFFFFFFE0000000)
_HALF = np.float32(0.5)
_HALF_BITS = np.uint32(0x3F000000)
_OFF = np.float32(2.0**-22 + 2.0**-32)
_LEAST = np.float32(2.0**-120)  # more than products without an exponent are rounded by
_LARGE = np.uint32(0x7F000000)  # 2^127: no sum below it is too large for a bfloat16
_SMALL = 2.0**-100  # factors below it may have no exponent in float32


# Those below are compiled by the types of their arguments, inside the loops that call them.


def _number(x):
    """Return the number that an array's element stands for."""


def _narrow(total, like):
    """Return ``total`` as the float32 from which ``_rounded`` rounds to the kind of ``like``.

    For 16 bits it is rounded to odd: what is cut off leaves its trace in the last bit, so that the
    second rounding is that of ``total`` itself.
    """


def _rounded(total, like):
    """Return what ``_narrow`` gave rounded to nearest even, as an element of ``like``'s kind."""


def _size(total, like):
    """Return the bits of ``|total|``, which grow as it does, NaN being largest."""


def _too_large(like):
    """Return the smallest ``_size`` that rounds to infinity as the kind of ``like``."""


@overload(_number)
def _number_of(x):
    if x == nb.types.uint16:
        return lambda x: _U32(_U32(x) << _16).view(np.float32)
    if x == nb.types.int16:

        def half(x):
            u = _U32(np.uint16(x))
            # Moved into place, the exponent is 112 too small; a product mends denormals as well.
            size = np.float32(_U32(_U32(u & _SIZE) << _13).view(np.float32) * _F16_BIAS)
            odd = _F32_ODD if _U32(u & _SIZE) >= _F16_ODD else _0  # infinity and NaN
            return _U32(size.view(np.uint32) | odd | _U32(_U32(u & _SIGN) << _16)).view(np.float32)

        return half
    return lambda x: x


@overload(_narrow)
def _narrow_to(total, like):
    if like in (nb.types.uint16, nb.types.int16):

        def odd(total, like):
            u = np.float64(total).view(np.uint64)
            cut = np.float32(np.uint64(u & _HIGH).view(np.float64)).view(np.uint32)
            return _U32(cut | min(_U32(_U32(u) & _LOW), _1)).view(np.float32)

        return odd
    if like == nb.types.float32:
        return lambda total, like: np.float32(total)
    return lambda total, like: total


@overload(_rounded)
def _rounded_to(total, like):
    if like == nb.types.uint16:

        def brain(total, like):
            u = np.float32(total).view(np.uint32)
            return np.uint16(_U32(_U32(u + _SIZE) + _U32(_U32(u >> _16) & _1)) >> _16)

        return brain
    if like == nb.types.int16:

        def half(total, like):
            u = np.float32(total).view(np.uint32)
            size = _U32(u & _SIZE32)
            normal = _U32(_U32(_U32(size + _F16_ROUND) + _U32(_U32(size >> _13) & _1)) >> _13)
            # Below 2^-14, adding 0.5 lets the processor round at the right bit.
            tiny = _U32(np.float32(size.view(np.float32) + _HALF).view(np.uint32) - _HALF_BITS)
            bits = tiny if size < _F16_TINY else min(normal, _F16_ODD)
            return np.int16(np.uint16(bits | _U32(_U32(u >> _16) & _SIGN)))

        return half
    return lambda total, like: total


@overload(_size)
def _size_of(total, like):
    if like == nb.types.float64:
        return lambda total, like: np.uint64(np.float64(total).view(np.uint64) & _SIZE64)
    return lambda total, like: _U32(np.float32(total).view(np.uint32) & _SIZE32)


@overload(_too_large)
def _too_large_for(like):
    if like == nb.types.uint16:
        return lambda like: np.uint32(0x7F7F8000)
    if like == nb.types.int16:
        return lambda like: np.uint32(0x477FF000)  # 65,520
    if like == nb.types.float32:
        return lambda like: np.uint32(0x7F800000)
    return lambda like: np.uint64(0x7FF0000000000000)


@nb.njit(nogil=True, cache=True)
def _two(a, b, ca, cb, out):
    """Write ca·a + cb·b; True if all of it is finite."""
    top = _size(_narrow(0.0, out[0]), out[0])
    for i in range(out.size):
        total = _narrow(ca * _number(a[i]) + cb * _number(b[i]), out[0])
        top = max(top, _size(total, out[0]))
        out[i] = _rounded(total, out[0])
    return top < _too_large(out[0])


@nb.njit(nogil=True, cache=True, fastmath={"contract"})
def _quick(a, b, ca, cb, out, doubt):
    """Write ca·a + cb·b, all bfloat16 and ``PART`` long, by float32 arithmetic.

    Four roundings, each of 2^-24 of |ca·a| + |cb·b| at most, may part the float32 sum from the
    true one: of the factors, the products, the sum, and of moving it up or down by all four. Where
    the two ends round to the same bfloat16, the true sum does too, with products fused or not.

    Args:
        doubt: (LANES,) gets one of its upper 16 bits set for each lane, the elements that lie
            ``LANES`` apart, in which the ends of some element differ.

    Returns:
        How many lanes are in doubt: all of them where a sum may be too large, or none.
    """
    top = _0
    for i in range(LANES):
        doubt[i] = _0
    for start in range(0, PART, LANES):
        stop = start + LANES  # of slices, which the compiler makes vectors of, and no indices
        xs, ys, to = a[start:stop], b[start:stop], out[start:stop]
        for i in range(LANES):
            x, y = np.float32(ca * _number(xs[i])), np.float32(cb * _number(ys[i]))
            total = np.float32(x + y)
            size_x, size_y = _U32(_size(x, x)), _U32(_size(y, y))
            terms = np.float32(size_x.view(np.float32) + size_y.view(np.float32))
            top = max(top, terms.view(np.uint32))
            off = np.float32(_OFF * terms + _LEAST)
            # Ties need no care: they always lie between the ends.
            low = _U32(np.float32(total - off).view(np.uint32) + _SIGN)
            high = _U32(np.float32(total + off).view(np.uint32) + _SIGN)
            doubt[i] = _U32(doubt[i] | _U32(low ^ high))
            to[i] = np.uint16(_U32(low >> _16))
    lanes = _0
    for i in range(LANES):
        lanes = _U32(lanes + min(_U32(doubt[i] >> _16), _1))
    return lanes if top < _LARGE else _U32(LANES)


@nb.njit(nogil=True, cache=True)
def _mend(a, b, ca, cb, out, doubt):
    """Write again, by float64 arithmetic, the lanes that ``_quick`` was not sure of."""
    for lane in range(LANES):
        if _U32(doubt[lane] >> _16) != _0:
            for i in range(lane, PART, LANES):
                total = _narrow(ca * _number(a[i]) + cb * _number(b[i]), out[0])
                out[i] = _rounded(total, out[0])


@nb.njit(nogil=True, cache=True)
def _two_brain(a, b, ca, cb, out):
    """Do what ``_two`` does, bit for bit, for bfloat16 alone and in two thirds of the time."""
    qa, qb = np.float32(ca), np.float32(cb)
    doubt = np.empty(LANES, np.uint32)
    fine, start = True, 0
    while start + PART <= out.size:
        stop = start + PART
        x, y, to = a[start:stop], b[start:stop], out[start:stop]
        lanes = _quick(x, y, qa, qb, to, doubt)
        if lanes > MANY:  # then more of them are: halves, say, give ties everywhere
            stop = min(start + BLOCK, out.size)
            fine &= _two(a[start:stop], b[start:stop], ca, cb, out[start:stop])
        elif lanes:
            _mend(x, y, ca, cb, to, doubt)
        start = stop
    return _two(a[start:], b[start:], ca, cb, out[start:]) and fine


@nb.njit(nogil=True, cache=True)
def _add(source, factor, sums):
    """Add factor·source to ``sums``."""
    for i in range(sums.size):
        sums[i] += factor * _number(source[i])


@nb.njit(nogil=True, cache=True)
def _round(sums, out):
    """Write ``sums`` rounded; True if all of it is finite."""
    top = _size(_narrow(0.0, out[0]), out[0])
    for i in range(out.size):
        total = _narrow(sums[i], out[0])
        top = max(top, _size(total, out[0]))
        out[i] = _rounded(total, out[0])
    return top < _too_large(out[0])


@nb.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dot(x, y):
    total = 0.0
    for i in range(x.size):
        total += np.float64(_number(x[i])) * np.float64(_number(y[i]))
    return total


@nb.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dots(x, y):
    """Return ⟨x,x⟩, ⟨y,y⟩ and ⟨x,y⟩ in one pass."""
    xx = yy = xy = 0.0
    for i in range(x.size):
        a, b = np.float64(_number(x[i])), np.float64(_number(y[i]))
        xx += a * a
        yy += b * b
        xy += a * b
    return xx, yy, xy


def blend(sources: Sequence[Array], factors: Sequence[float], out: Array) -> bool:
    """Write Σ_k factors_k · sources_k into ``out``, rounded once to its kind.

    Sums are in float64, element by element and in the order of the seeds, so that the bytes depend
    neither on threads nor on how the work is cut.

    Args:
        sources: K arrays (n,) of any ``DTYPES``.
        factors: (K,).
        out: (n,) contiguous, of any of ``DTYPES``.

    Returns:
        Whether all results are finite. What is not finite in a source is not finite in the
        result, even times zero.
    """
    if out.size == 0:
        return True
    if len(sources) == 2:
        (a, b), (ca, cb) = sources, factors
        brain = a.dtype == b.dtype == out.dtype == np.uint16
        brain = brain and all(factor == 0.0 or abs(factor) > _SMALL for factor in factors)
        return cast("bool", (_two_brain if brain else _two)(a, b, float(ca), float(cb), out))
    fine = True
    sums = np.empty(min(BLOCK, out.size))
    for start in range(0, out.size, BLOCK):
        part = out[start : start + BLOCK]
        total = sums[: part.size]
        total[:] = -0.0  # which even −0 leaves as it is
        for source, factor in zip(sources, factors, strict=True):
            _add(source[start : start + BLOCK], float(factor), total)
        fine &= _round(total, part)
    return fine


def products(sources: Sequence[Array]) -> NDArray[np.float64]:
    """Return the inner products ⟨source_k, source_l⟩ (K, K) of K arrays (n,).

    In float64, where the product of two float32 numbers is exact. NaN or infinity in a source
    makes its products NaN or infinite.
    """
    if len(sources) == 2:
        aa, bb, ab = _dots(*sources)
        return np.array([[aa, ab], [ab, bb]])
    many = len(sources)
    result = np.empty((many, many))
    for k in range(many):
        for other in range(k + 1):
            result[k, other] = result[other, k] = _dot(sources[k], sources[other])
    return result
