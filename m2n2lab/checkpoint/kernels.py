"""Compiled loops: weighted sums of tensors, and their inner products.

NumPy has no bfloat16, and a chain of array operations reads and writes memory many times. These
loops widen, sum and round in registers, so that a merge moves each byte once, as a copy does. They
release the GIL and are compiled for each combination of dtypes, once for all processes.

Arrays hold dtypes as ``io.dtypes`` says: bfloat16 as ``uint16``, float16 as ``int16``, 8-bit floats
as ``uint8`` (e4m3fn) and ``int8`` (e5m2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numba as nb
import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from m2n2lab.utils.arrays import Array, Floats

LANES: Final = 128
"""Distance of the elements of a lane; a lane with an uncertain element is computed again."""

PART_ELEMENTS: Final = 16 * LANES
"""Elements of a part, for which uncertain lanes are recorded."""

MAX_DOUBTFUL_LANES: Final = LANES // 8
"""Uncertain lanes beyond which a whole block is computed again, which can be vectorised."""

BLOCK_ELEMENTS: Final = 1 << 15
"""Elements summed at a time for more than two seeds: they stay in the first-level cache."""

TILE_ELEMENTS: Final = 1 << 9
"""Elements of a product's row that are summed at a time: they stay in the first-level cache."""

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
_F16_TINY = np.uint32(0x38800000)  # 2^-14, below which halves are denormal
_LOW = np.uint32(0x1FFFFFFF)  # the bits of a double's fraction beyond a single's
_HIGH = np.uint64(0xFFFFFFFFE0000000)
_HALF = np.float32(0.5)
_HALF_BITS = np.uint32(0x3F000000)
_OFF = np.float32(2.0**-22 + 2.0**-32)
_LEAST = np.float32(2.0**-120)  # above the rounding error of denormal products
_LARGE = np.uint32(0x7F000000)  # 2^127: no sum below it is too large for a bfloat16
_SMALL = 2.0**-100  # smaller factors may be denormal in float32


def _eight_bits(exponents: int) -> NDArray[np.float32]:
    """Return the values of all 256 floats of 8 bits, with so many bits of exponent.

    Those with 4 have no infinities: the largest exponent holds numbers, and one NaN.
    """
    bits = np.arange(256)
    digits = 7 - exponents
    exponent, fraction = bits >> digits & ((1 << exponents) - 1), bits & ((1 << digits) - 1)
    least = 1 - ((1 << exponents - 1) - 1)  # exponent of the smallest normal number
    size = np.ldexp(
        (fraction + ((exponent > 0) << digits)) / (1 << digits), np.maximum(exponent - 1, 0) + least
    )
    top = exponent == (1 << exponents) - 1
    if exponents == 4:
        size[top & (fraction == (1 << digits) - 1)] = np.nan
    else:
        size[top] = np.where(fraction[top], np.nan, np.inf)
    values: NDArray[np.float32] = np.where(bits & 0x80, -size, size).astype(np.float32)
    return values


_E4M3, _E5M2 = _eight_bits(4), _eight_bits(5)
_7F = np.uint32(0x7F)
_20, _21, _24 = np.uint32(20), np.uint32(21), np.uint32(24)
# As for float16: the exponents differ by 120 and 112; below the smallest normal number, 2^-6 and
# 2^-14, adding a number makes the processor round at the right bit, 2^-9 and 2^-16.
_E4M3_ROUND, _E4M3_TINY = np.uint32(2**32 + 0x7FFFF - (120 << 23)), np.uint32(0x3C800000)
_E5M2_ROUND, _E5M2_TINY = np.uint32(2**32 + 0xFFFFF - (112 << 23)), np.uint32(0x38800000)
_E4M3_SHIFT, _E5M2_SHIFT = np.float32(2.0**14), np.float32(2.0**7)
_E4M3_SHIFT_BITS, _E5M2_SHIFT_BITS = np.uint32(0x46800000), np.uint32(0x43000000)


# These are overloaded by dtype and compiled into the loops that call them.


def _number(x):
    """Return the value of an array's element."""


def _narrow(total, like):
    """Return ``total`` as the float32 from which ``_rounded`` rounds to the dtype of ``like``.

    For 16 bits it is rounded to odd: the last bit records whether anything was cut off, so that
    the second rounding equals a single rounding of ``total``.
    """


def _rounded(total, like):
    """Round the result of ``_narrow`` to nearest even, as an element of ``like``'s dtype."""


def _size(total, like):
    """Return the bits of ``|total|``, which are ordered as it is, with NaN largest."""


def _too_large(like):
    """Return the smallest ``_size`` that rounds to infinity in the dtype of ``like``."""


@overload(_number)
def _number_of(x):
    if x == nb.types.uint16:
        return lambda x: _U32(_U32(x) << _16).view(np.float32)
    if x == nb.types.int16:

        def half(x):
            u = _U32(np.uint16(x))
            # Once shifted, the exponent is 112 too small; the product corrects denormals as well.
            size = np.float32(_U32(_U32(u & _SIZE) << _13).view(np.float32) * _F16_BIAS)
            odd = _F32_ODD if _U32(u & _SIZE) >= _F16_ODD else _0  # infinity and NaN
            return _U32(size.view(np.uint32) | odd | _U32(_U32(u & _SIGN) << _16)).view(np.float32)

        return half
    if x == nb.types.uint8:
        return lambda x: _E4M3[x]
    if x == nb.types.int8:
        return lambda x: _E5M2[np.uint8(x)]
    return lambda x: x


@overload(_narrow)
def _narrow_to(total, like):
    if like in (nb.types.uint16, nb.types.int16, nb.types.uint8, nb.types.int8):

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

        def bfloat16(total, like):
            u = np.float32(total).view(np.uint32)
            return np.uint16(_U32(_U32(u + _SIZE) + _U32(_U32(u >> _16) & _1)) >> _16)

        return bfloat16
    if like == nb.types.int16:

        def half(total, like):
            u = np.float32(total).view(np.uint32)
            size = _U32(u & _SIZE32)
            normal = _U32(_U32(_U32(size + _F16_ROUND) + _U32(_U32(size >> _13) & _1)) >> _13)
            # Below 2^-14, adding 0.5 makes the processor round at the right bit.
            tiny = _U32(np.float32(size.view(np.float32) + _HALF).view(np.uint32) - _HALF_BITS)
            bits = tiny if size < _F16_TINY else min(normal, _F16_ODD)
            return np.int16(np.uint16(bits | _U32(_U32(u >> _16) & _SIGN)))

        return half
    if like == nb.types.uint8:

        def e4m3(total, like):
            u = np.float32(total).view(np.uint32)
            size = _U32(u & _SIZE32)
            normal = _U32(_U32(_U32(size + _E4M3_ROUND) + _U32(_U32(size >> _20) & _1)) >> _20)
            tiny = _U32(
                np.float32(size.view(np.float32) + _E4M3_SHIFT).view(np.uint32) - _E4M3_SHIFT_BITS
            )
            bits = tiny if size < _E4M3_TINY else min(normal, _7F)
            return np.uint8(bits | _U32(_U32(u >> _24) & _U32(0x80)))

        return e4m3
    if like == nb.types.int8:

        def e5m2(total, like):
            u = np.float32(total).view(np.uint32)
            size = _U32(u & _SIZE32)
            normal = _U32(_U32(_U32(size + _E5M2_ROUND) + _U32(_U32(size >> _21) & _1)) >> _21)
            tiny = _U32(
                np.float32(size.view(np.float32) + _E5M2_SHIFT).view(np.uint32) - _E5M2_SHIFT_BITS
            )
            bits = tiny if size < _E5M2_TINY else min(normal, _U32(0x7C))
            return np.int8(np.uint8(bits | _U32(_U32(u >> _24) & _U32(0x80))))

        return e5m2
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
    if like == nb.types.uint8:
        return lambda like: np.uint32(0x43E80001)  # above 464, which rounds to 448
    if like == nb.types.int8:
        return lambda like: np.uint32(0x47700000)  # 61,440
    if like == nb.types.float32:
        return lambda like: np.uint32(0x7F800000)
    return lambda like: np.uint64(0x7FF0000000000000)


@nb.njit(nogil=True, cache=True)
def _two(a, b, ca, cb, out):
    """Write ca·a + cb·b; return whether all of it is finite."""
    top = _size(_narrow(0.0, out[0]), out[0])
    for i in range(out.size):
        total = _narrow(ca * _number(a[i]) + cb * _number(b[i]), out[0])
        top = max(top, _size(total, out[0]))
        out[i] = _rounded(total, out[0])
    return top < _too_large(out[0])


@nb.njit(nogil=True, cache=True, fastmath={"contract"})
def _two_by_float32(a, b, ca, cb, out, doubt):
    """Write ca·a + cb·b, all bfloat16 and ``PART_ELEMENTS`` long, by float32 arithmetic.

    Four roundings, each of at most 2^-24 of |ca·a| + |cb·b|, separate the float32 sum from the
    exact one: of the factors, the products, the sum, and of adding or subtracting the bound of all
    four. If both ends of this interval round to the same bfloat16, so does the exact sum, with
    products fused or not.

    Args:
        doubt: (LANES,) bits of each lane (elements ``LANES`` apart); one of the upper 16 is set
            where the ends differ for some element.

    Returns:
        Number of uncertain lanes; all of them if a sum may be too large.
    """
    top = _0
    for i in range(LANES):
        doubt[i] = _0
    for start in range(0, PART_ELEMENTS, LANES):
        stop = start + LANES  # slices, which the compiler vectorises; indices it does not
        xs, ys, to = a[start:stop], b[start:stop], out[start:stop]
        for i in range(LANES):
            x, y = np.float32(ca * _number(xs[i])), np.float32(cb * _number(ys[i]))
            total = np.float32(x + y)
            size_x, size_y = _U32(_size(x, x)), _U32(_size(y, y))
            terms = np.float32(size_x.view(np.float32) + size_y.view(np.float32))
            top = max(top, terms.view(np.uint32))
            off = np.float32(_OFF * terms + _LEAST)
            # Ties need no special case: they always lie between the ends.
            low = _U32(np.float32(total - off).view(np.uint32) + _SIGN)
            high = _U32(np.float32(total + off).view(np.uint32) + _SIGN)
            doubt[i] = _U32(doubt[i] | _U32(low ^ high))
            to[i] = np.uint16(_U32(low >> _16))
    lanes = _0
    for i in range(LANES):
        lanes = _U32(lanes + min(_U32(doubt[i] >> _16), _1))
    return lanes if top < _LARGE else _U32(LANES)


@nb.njit(nogil=True, cache=True)
def _redo_lanes(a, b, ca, cb, out, doubt):
    """Compute the uncertain lanes of ``_two_by_float32`` again in float64."""
    for lane in range(LANES):
        if _U32(doubt[lane] >> _16) != _0:
            for i in range(lane, PART_ELEMENTS, LANES):
                total = _narrow(ca * _number(a[i]) + cb * _number(b[i]), out[0])
                out[i] = _rounded(total, out[0])


@nb.njit(nogil=True, cache=True)
def _two_bfloat16(a, b, ca, cb, out):
    """Write the same bits as ``_two``, for bfloat16 only, in two thirds of the time."""
    qa, qb = np.float32(ca), np.float32(cb)
    doubt = np.empty(LANES, np.uint32)
    fine, start = True, 0
    while start + PART_ELEMENTS <= out.size:
        stop = start + PART_ELEMENTS
        x, y, to = a[start:stop], b[start:stop], out[start:stop]
        lanes = _two_by_float32(x, y, qa, qb, to, doubt)
        if (
            lanes > MAX_DOUBTFUL_LANES
        ):  # likely in the next parts too: factors of 0.5 give ties everywhere
            stop = min(start + BLOCK_ELEMENTS, out.size)
            fine &= _two(a[start:stop], b[start:stop], ca, cb, out[start:stop])
        elif lanes:
            _redo_lanes(x, y, ca, cb, to, doubt)
        start = stop
    return _two(a[start:], b[start:], ca, cb, out[start:]) and fine


@nb.njit(nogil=True, cache=True)
def _add(source, factor, sums):
    """Add factor·source to ``sums``."""
    for i in range(sums.size):
        sums[i] += factor * _number(source[i])


@nb.njit(nogil=True, cache=True)
def _round(sums, out):
    """Write ``sums`` rounded; return whether all of it is finite."""
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


@nb.njit(nogil=True, cache=True)
def _product(left, right, start, out):
    """Write elements ``start..`` of left @ right along the rows; sums are in the order of terms."""
    rank, columns = right.shape
    done = 0
    while done < out.size:
        i, first = divmod(start + done, columns)
        count = min(columns - first, out.size - done, TILE_ELEMENTS)
        to = out[done : done + count]
        to[:] = 0.0
        k = 0
        while k + 4 <= rank:  # four at a time are read and written once
            a, b, c, d = left[i, k], left[i, k + 1], left[i, k + 2], left[i, k + 3]
            p, q = right[k, first : first + count], right[k + 1, first : first + count]
            r, s = right[k + 2, first : first + count], right[k + 3, first : first + count]
            for j in range(count):
                to[j] = (((to[j] + a * p[j]) + b * q[j]) + c * r[j]) + d * s[j]
            k += 4
        while k < rank:
            a, p = left[i, k], right[k, first : first + count]
            for j in range(count):
                to[j] += a * p[j]
            k += 1
        done += count


def product(left: Floats, right: Array, start: int, stop: int) -> Floats:
    """Return elements ``start..stop`` of a matrix product along its rows.

    Computed in the order of the terms, so the bytes do not depend on how the work is split.

    Args:
        left: (rows, r) contiguous.
        right: (r, columns) contiguous, in float32 or float64.
        start: first element.
        stop: end.
    """
    out = np.empty(stop - start)
    _product(left, right, start, out)
    return out


def blend(sources: Sequence[Array], factors: Sequence[float], out: Array) -> bool:
    """Write Σ_k factors_k · sources_k into ``out``, rounded once to its dtype.

    Sums are in float64, element by element and in the order of the seeds, so the bytes depend
    neither on threads nor on how the work is split.

    Args:
        sources: K arrays (n,) of any ``DTYPES``.
        factors: (K,).
        out: (n,) contiguous, of any of ``DTYPES``.

    Returns:
        Whether all results are finite. A non-finite element of a source makes the result
        non-finite, even times zero.
    """
    if out.size == 0:
        return True
    if len(sources) == 2:
        (a, b), (ca, cb) = sources, factors
        quick = a.dtype == b.dtype == out.dtype == np.uint16
        quick = quick and all(factor == 0.0 or abs(factor) > _SMALL for factor in factors)
        return cast("bool", (_two_bfloat16 if quick else _two)(a, b, float(ca), float(cb), out))
    fine = True
    sums = np.empty(min(BLOCK_ELEMENTS, out.size))
    for start in range(0, out.size, BLOCK_ELEMENTS):
        part = out[start : start + BLOCK_ELEMENTS]
        total = sums[: part.size]
        total[:] = -0.0  # the identity of addition, even for −0
        for source, factor in zip(sources, factors, strict=True):
            _add(source[start : start + BLOCK_ELEMENTS], float(factor), total)
        fine &= _round(total, part)
    return fine


def products(sources: Sequence[Array]) -> NDArray[np.float64]:
    """Return the inner products ⟨source_k, source_l⟩ (K, K) of K arrays (n,).

    Computed in float64, in which the product of two float32 numbers is exact. NaN or infinity in a
    source makes its products NaN or infinite.
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
