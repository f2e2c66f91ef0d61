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

from m2n2lab.checkpoint.kinds import Array

PART: Final = 512
"""Elements that are looked at again if one of them is in doubt."""

BLOCK: Final = 1 << 15
"""Elements summed at a time where more than two seeds meet: they stay in a first-level cache."""

# Typed bit patterns: a plain int would turn the arithmetic into 64 bits and halve the speed.
_U32 = np.uint32
_16 = np.uint32(16)
_13 = np.uint32(13)
_0 = np.uint32(0)
_1 = np.uint32(1)
_31 = np.uint32(31)
_TIES = np.uint32(0x8000 - 2)
_LOW_HALF = np.uint32(0xFFFF)
_FIVE = np.uint32(5)
_CANCELLED = np.uint32(12 << 23)
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


@nb.njit(nogil=True)
def _doubt(x, y, total):
    """Return a number whose top bit says that float32 may not do for x + y = total.

    So it is within 2 units of a tie, and where the terms cancel to less than 2^-12 of the larger.
    """
    low = _U32(_U32(np.float32(total).view(np.uint32) - _TIES) & _LOW_HALF)
    large = max(_size(x, np.float32(x)), _size(y, np.float32(y)))
    left = _U32(_U32(_size(total, np.float32(total)) + _CANCELLED) - large)
    return _U32(_U32(low - _FIVE) | left)


@nb.njit(nogil=True, cache=True)
def _quick(a, b, ca, cb, out):
    """Write ca·a + cb·b, all bfloat16, by float32 arithmetic; True if all of it is sure."""
    doubt = top = _0
    for i in range(out.size):
        x, y = ca * _number(a[i]), cb * _number(b[i])
        total = x + y
        doubt = _U32(doubt | _doubt(x, y, total))
        top = max(top, _size(total, out[0]))
        out[i] = _rounded(total, out[0])
    return _U32(doubt >> _31) == _0 and top < _too_large(out[0])


@nb.njit(nogil=True, cache=True)
def _mend(a, b, ca, cb, out):
    """Write again what ``_quick`` was not sure of, by float64 arithmetic; True if finite."""
    qa, qb = np.float32(ca), np.float32(cb)
    top = _0
    for i in range(out.size):
        x, y = qa * _number(a[i]), qb * _number(b[i])
        total = x + y
        if _U32(_doubt(x, y, total) >> _31) != _0 or _size(total, out[0]) >= _too_large(out[0]):
            total = _narrow(ca * _number(a[i]) + cb * _number(b[i]), out[0])
        top = max(top, _size(total, out[0]))
        out[i] = _rounded(total, out[0])
    return top < _too_large(out[0])


@nb.njit(nogil=True, cache=True)
def _two_brain(a, b, ca, cb, out):
    """Do what ``_two`` does for bfloat16 alone, at twice the speed.

    Float32 sums round to the same bfloat16 unless they lie next to a tie between two of them, or
    are what is left of terms that cancel: one in a thousand, which are made again. (Of what
    cancels in part, one in a hundred thousand may end next to the nearest.)
    """
    qa, qb = np.float32(ca), np.float32(cb)
    fine = True
    for start in range(0, out.size, PART):
        stop = min(start + PART, out.size)
        if not _quick(a[start:stop], b[start:stop], qa, qb, out[start:stop]):
            fine &= _mend(a[start:stop], b[start:stop], ca, cb, out[start:stop])
    return fine


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
