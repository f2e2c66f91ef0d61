from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab.checkpoint.io.dtypes import DTYPES, FROM_TORCH, not_finite
from m2n2lab.checkpoint.kernels import BLOCK_ELEMENTS as BLOCK
from m2n2lab.checkpoint.kernels import blend, products

TORCH = {dtype: getattr(torch, name) for name, dtype in FROM_TORCH.items()}
HALVES = ("BF16", "F16")
BITS = {1: torch.int8, 2: torch.int16}  # of dtypes that NumPy does not have, by bytes

# Significant bits, exponent of the smallest step, and largest number of each dtype.
FORMATS = {
    "F8_E4M3": (4, -9, 448.0),
    "F8_E5M2": (3, -16, 57344.0),
    "BF16": (8, -133, 2.0**128 - 2.0**120),
    "F16": (11, -24, 65504.0),
    "F32": (24, -149, 2.0**128 - 2.0**104),
    "F64": (53, -1074, np.finfo(np.float64).max),
}

FACTORS = (0.61803, 0.51234, -0.27183, 0.90571, 0.00113)

# Tenths of numbers with few digits often lie half way between two such numbers, or a hair beside.
TIES = [(0.5, 0.5), (0.25, 0.75), (0.3, 0.7), (0.1, 0.9), (1.2, -0.4), (0.3, 0.7, -0.1, 0.9, 0.2)]


def stored(values, dtype):
    """Return numbers as an array of ``DTYPES``, as PyTorch converts them."""
    tensor = torch.from_numpy(np.asarray(values, np.float64)).to(TORCH[dtype])
    return tensor.view(BITS.get(tensor.itemsize, tensor.dtype)).numpy().view(DTYPES[dtype])


def value(array):
    """Return the numbers in an array of ``DTYPES`` in float64, as PyTorch reads them."""
    dtype = next(name for name, held in DTYPES.items() if held == array.dtype)
    bits = torch.from_numpy(array.view(np.int16) if dtype in HALVES else array)
    return bits.view(TORCH[dtype]).double().numpy()


def step(values, dtype):
    """Return the distance of neighbouring numbers of a dtype around float64 values."""
    digits, least, _ = FORMATS[dtype]
    return np.ldexp(1.0, np.maximum(np.frexp(values)[1] - digits, least))


def nearest(values, dtype):
    """Return float64 numbers rounded once, ties to even: exact, with powers of two alone."""
    if dtype == "F64":
        return values
    unit = step(values, dtype)
    rounded = np.rint(values / unit) * unit
    return np.where(np.abs(rounded) > FORMATS[dtype][2], np.copysign(np.inf, values), rounded)


def weights(dtype, size, draw, scale=0.02):
    return stored(scale * np.random.default_rng(draw).normal(size=size), dtype)


def total(sources, factors):
    """Return Σ_k factors_k · sources_k in float64, in the order of the seeds."""
    terms = [factor * value(source) for source, factor in zip(sources, factors, strict=True)]
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def blended(sources, factors, dtype):
    out = np.empty(sources[0].size, DTYPES[dtype])
    assert blend(sources, factors, out)
    return out


def check_rounding(sources, factors, dtype):
    """See that results are the float64 results, rounded once."""
    exact = total(sources, factors)
    expected = nearest(exact, dtype)
    got = value(blended(sources, factors, dtype))
    same = (got == expected) & (np.signbit(got) == np.signbit(expected))
    assert same.mean() >= 0.9999, f"{same.mean():.4%} are the rounded float64 result"
    assert (np.abs(got - expected) <= step(expected, dtype)).all(), "off by more than one step"
    # PyTorch rounds to float32 on the way to 16 bits: there it may itself be one step off.
    bound = step(expected, dtype) if dtype in HALVES else 0.0
    assert (np.abs(value(stored(exact, dtype)) - expected) <= bound).all()


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALVES)
def test_every_pattern_of_bits_is_read_as_pytorch_reads_it(dtype):
    bits = np.arange(1 << 16, dtype=np.uint16).view(DTYPES[dtype])
    one = stored(np.ones(bits.size), dtype)
    expected = value(bits)
    for sources, factors in (
        ([bits], [1.0]),
        ([bits, one], [1.0, 0.0]),
        ([one, bits], [0.0, 1.0]),
        ([one, bits, one], [0.0, 1.0, 0.0]),
    ):
        out = np.empty(bits.size)
        assert not blend(sources, factors, out)  # NaN and infinity are among them
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", HALVES)
def test_every_finite_number_comes_back_as_it_was(dtype):
    bits = np.arange(1 << 16, dtype=np.uint16).view(DTYPES[dtype])
    bits = bits[np.isfinite(value(bits)) & (value(bits) != 0.0)]
    for sources, factors in (
        ([bits], [1.0]),
        ([bits, bits], [1.0, 0.0]),
        ([bits, bits], [0.25, 0.75]),
        ([bits, bits, bits], [0.5, 1.0, -0.5]),
    ):
        assert np.array_equal(blended(sources, factors, dtype), bits)


@pytest.mark.parametrize("many", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_keeps_its_sign(dtype, many):
    zeros = stored([0.0, -0.0], dtype)
    got = blended([zeros] * many, [0.3, 0.7, 1.0][:many], dtype)
    assert np.signbit(value(got)).tolist() == [False, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_cancels_is_zero_without_a_sign(dtype):
    numbers = stored([1.5, -1.5, 0.0, -0.0], dtype)
    for factors in ([1.0, -1.0], [0.5, 0.5, -1.0]):
        got = value(blended([numbers] * len(factors), factors, dtype))
        assert (got.tolist(), np.signbit(got).any()) == ([0.0] * 4, False)


# -- rounding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_blend_is_the_float64_result_rounded_once(dtype, many):
    check_rounding([weights(dtype, 100_000, k) for k in range(many)], FACTORS[:many], dtype)


@pytest.mark.parametrize("dtypes", [("F32", "F32"), ("BF16", "F32"), ("F16", "BF16", "F64", "F32")])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_seeds_and_result_may_be_of_different_dtypes(dtypes, dtype):
    sources = [weights(other, 100_000, k) for k, other in enumerate(dtypes)]
    check_rounding(sources, FACTORS[: len(dtypes)], dtype)


@pytest.mark.parametrize("factors", TIES)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_ties_are_rounded_once_as_well(dtype, factors):
    check_rounding([weights(dtype, 100_000, k) for k in range(len(factors))], factors, dtype)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(0.5, 0.5), (0.3, 0.7), (1.0, -1.0), (1e-30, 1.0), (1e-40, 1.0), (2.0, -0.0)]),
    st.sampled_from([1.0, 0.01, 2.0**100, 2.0**-120, 2.0**-130]),
    st.sampled_from([0.0, 0.001, 0.3, 1.0]),
)
def test_two_bfloat16_give_the_float64_result_rounded_once_in_every_element(
    draw, factors, scale, zeros
):
    # Of b's numbers most nearly cancel a's, and some of both are zero.
    random = np.random.default_rng(draw)
    numbers = scale * random.normal(size=10_000) * (random.random(10_000) >= zeros)
    opposite = -numbers * factors[0] / (factors[1] or 1.0)
    a = stored(numbers, "BF16")
    b = stored(
        opposite * (1 + random.normal(size=10_000) * random.choice([0.0, 0.02, 1.0])), "BF16"
    )
    expected = nearest(total([a, b], factors), "BF16")
    got = value(blended([a, b], factors, "BF16"))
    assert np.array_equal(got, expected)
    assert np.array_equal(np.signbit(got), np.signbit(expected))


@pytest.mark.parametrize("many", [1, 2, 3, 5])
def test_sums_are_those_of_ieee_754_whatever_the_processor(many):
    # Bytes that a recipe promises on every machine: no product may be fused with a sum on some.
    sources = [weights("BF16", 10_000, k) for k in range(many)]
    got = blended(sources, FACTORS[:many], "F64")
    assert np.array_equal(got, total(sources, FACTORS[:many]))


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_hair_above_half_way_is_rounded_up_and_below_it_down(dtype):
    # Half way between 1 and the next number, moved by less than a float32 can show.
    gap = 2.0 ** (1 - FORMATS[dtype][0])
    middles = np.array([1 + gap / 2, 1 + 3 * gap / 2, -1 - gap / 2, 2 + gap])
    hairs = np.array([0.0, 2.0**-45, -(2.0**-45)])
    a, b = np.repeat(middles, 3), np.tile(hairs, 4)
    # By hand: 1.5 steps go to 2 steps, 0.5 steps to none, as the even ones; hairs decide the rest.
    up = [0, 1, 0, 2, 2, 1, 0, 0, 1, 0, 1, 0]
    sign, whole = np.sign(a), np.repeat([1.0, 1.0, 1.0, 2.0], 3)
    expected = sign * (whole + np.array(up) * gap * whole)
    assert np.array_equal(nearest(a + b, dtype), expected)
    for sources, factors in (([a, b], [1.0, 1.0]), ([a + b], [1.0]), ([a, b, b], [1.0, 0.5, 0.5])):
        assert np.array_equal(value(blended(sources, factors, dtype)), expected)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_numbers_too_small_for_an_exponent_are_rounded_like_the_rest(dtype):
    # From 2^-3 of the smallest step up to 2^(digits + 2) steps, where exponents begin.
    digits, least, _ = FORMATS[dtype]
    draw = np.random.default_rng(5)
    a = np.ldexp(draw.normal(size=50_000), draw.integers(least - 3, least + digits + 2, 50_000))
    check_rounding([a, a[::-1].copy()], FACTORS[:2], dtype)
    small = stored(a, dtype)
    check_rounding([small, small[::-1].copy()], FACTORS[:2], dtype)
    check_rounding([small, small[::-1].copy(), small], FACTORS[:3], dtype)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_results_are_the_nearest_numbers_to_the_exact_sum(dtype):
    sources = [weights(dtype, 2000, 1), weights(dtype, 2000, 2)]
    got = value(blended(sources, [0.3, 0.7], dtype)).tolist()
    a, b = (value(source).tolist() for source in sources)
    units = step(np.array(got), dtype).tolist()
    for x, y, result, unit in zip(a, b, got, units, strict=True):
        exact = Fraction(0.3) * Fraction(x) + Fraction(0.7) * Fraction(y)
        assert abs(Fraction(result) - exact) <= Fraction(unit) * Fraction(1 + 2**-12) / 2


# -- independence of how the work is cut ----------------------------------------------------------


@given(st.integers(1, 5), st.lists(st.integers(0, 5000), max_size=8), st.sampled_from([*DTYPES]))
def test_results_do_not_depend_on_where_the_work_is_cut(many, cuts, dtype):
    sources = [weights(dtype, 5000, k) for k in range(many)]
    factors = FACTORS[:many]
    whole, parts = blended(sources, factors, dtype), np.empty(5000, DTYPES[dtype])
    ends = [0, *sorted(cuts), 5000]
    for start, stop in pairwise(ends):
        assert blend([source[start:stop] for source in sources], factors, parts[start:stop])
    assert np.array_equal(parts, whole)


@pytest.mark.parametrize("many", [2, 3])
def test_threads_and_blocks_change_no_bit(many):
    size = 3 * BLOCK + 17
    sources = [weights("BF16", size, k) for k in range(many)]
    factors = [0.3, 0.7, -0.2][:many]
    one = [blended([s[i : i + 1] for s in sources], factors, "BF16")[0] for i in range(0, size, 97)]
    out = np.empty(size, DTYPES["BF16"])

    def work(start):
        part = slice(start, start + 1001)
        return blend([source[part] for source in sources], factors, out[part])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(0, size, 1001)))
    assert np.array_equal(out, blended(sources, factors, "BF16"))
    assert out[::97].tolist() == one


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_arrays_may_lie_at_odd_places_in_a_file(dtype):
    aligned = [weights(dtype, 1001, k) for k in range(3)]
    odd = [
        np.frombuffer(b"\0" * shift + source.tobytes(), source.dtype, source.size, shift)
        for shift, source in zip((1, 3, 5), aligned, strict=True)
    ]
    assert not any(source.flags.aligned or source.flags.writeable for source in odd)
    for many in (2, 3):
        factors = [0.3, 0.7, -0.2][:many]
        expected = blended(aligned[:many], factors, dtype)
        assert np.array_equal(blended(odd[:many], factors, dtype), expected)
    assert products(odd) == pytest.approx(products(aligned), rel=1e-13)


@pytest.mark.parametrize("many", [1, 2, 3])
def test_nothing_is_the_blend_of_nothing(many):
    for dtype, held in DTYPES.items():
        assert blend([stored([], dtype)] * many, [1.0] * many, np.empty(0, held))
        assert products([stored([], dtype)] * many).tolist() == np.zeros((many, many)).tolist()


# -- what is not finite ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_reported_even_times_zero(dtype, bad):
    bad = np.nan if dtype == "F8_E4M3" else bad  # which has no infinities
    for size, place in ((1, 0), (70, 0), (70, 33), (70, 69), (BLOCK, 9000), (BLOCK + 3, BLOCK + 2)):
        good = weights(dtype, size, 1)
        spoilt = good.copy()
        spoilt[place] = stored([bad], dtype)[0]
        out = np.empty(size, DTYPES[dtype])
        for many in (1, 2, 3):
            for k in range(many):
                sources = [spoilt if i == k else good for i in range(many)]
                for factor in (0.0, 0.5):
                    assert not blend(sources, [factor] * many, out)
                gram = products(sources)
                assert not np.isfinite(gram[k]).any()
                assert np.isfinite(np.delete(np.delete(gram, k, 0), k, 1)).all()
        assert blend([good, good], [0.5, 0.5], out)
        assert (not_finite(spoilt), not_finite(good)) == (place, None)


def test_the_first_number_that_is_not_finite_is_named():
    for dtype in DTYPES:
        most, inf = min(FORMATS[dtype][2], 65504.0), np.nan if dtype == "F8_E4M3" else np.inf
        array = stored([1.0, -most, inf, 0.0, np.nan, -inf], dtype)
        assert [not_finite(array[i:]) for i in range(6)] == [2, 1, 0, 1, 0, 0]
        assert not_finite(array[:2]) is None
        assert not_finite(array[:0]) is None


# By hand: the largest number and half a step more; at just that, even is up, to infinity.
EDGES = {
    "BF16": 2.0**128 - 2.0**119,
    "F16": 65520.0,
    "F32": 2.0**128 - 2.0**103,
    "F8_E5M2": 61440.0,
    "F8_E4M3": np.nextafter(464.0, 465.0),  # at 464 even is down
}


@pytest.mark.parametrize("many", [1, 2, 3])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", EDGES)
def test_what_is_too_large_for_the_result_is_reported(dtype, sign, many):
    sources = [np.array([1.0, 0.0, 2.0]) for _ in range(many)]
    factors, out = [1.0] + [0.0] * (many - 1), np.empty(3, DTYPES[dtype])
    sources[0][1] = sign * np.nextafter(EDGES[dtype], 0.0)
    assert blend(sources, factors, out)
    assert value(out).tolist() == [1.0, sign * FORMATS[dtype][2], 2.0]
    sources[0][1] = sign * EDGES[dtype]
    assert not blend(sources, factors, out)
    assert not_finite(out) == 1


@pytest.mark.parametrize("size", [65520.0, 70000.0, 131072.0, 1e6, 1e30, 1e40, 1e300])
@pytest.mark.parametrize("many", [1, 2, 3])
def test_what_is_too_large_is_written_as_infinity_so_that_its_place_can_be_named(many, size):
    source = np.array([1.0, 0.0, size, -size])
    sources, factors = [source] * many, [1.0] + [0.0] * (many - 1)
    for dtype in ("BF16", "F16", "F32"):
        out = np.empty(4, DTYPES[dtype])
        expected = nearest(source, dtype)
        assert blend(sources, factors, out) == bool(np.isfinite(expected).all())
        assert np.array_equal(value(out), expected)


def test_two_large_numbers_may_make_one_that_is_too_large():
    # 60,000 + 60,000 in half precision; 3e38 + 3e38 in the others.
    for dtype, large in (("F16", 60000.0), ("BF16", 3e38), ("F32", 3e38), ("F64", 1.5e308)):
        for beside in (0, 5000):
            source, out = (
                stored([large, *[1.0] * beside], dtype),
                np.empty(beside + 1, DTYPES[dtype]),
            )
            assert blend([source, source], [0.5, 0.5], out)
            assert np.array_equal(out, source)
            assert not blend([source, source], [1.0, 1.0], out)
            assert not_finite(out) == 0


# -- inner products -------------------------------------------------------------------------------


def test_inner_products_by_hand():
    # (1, 2, 3), (0.5, -1, 4) and (0, 0, 2): 14; 0.5 − 2 + 12 = 10.5; 6; 17.25; 8; 4.
    rows = [[1.0, 2.0, 3.0], [0.5, -1.0, 4.0], [0.0, 0.0, 2.0]]
    expected = [[14.0, 10.5, 6.0], [10.5, 17.25, 8.0], [6.0, 8.0, 4.0]]
    for dtype in DTYPES:
        assert products([stored(row, dtype) for row in rows]).tolist() == expected
    mixed = [stored(row, dtype) for row, dtype in zip(rows, ("BF16", "F64", "F16"), strict=True)]
    assert products(mixed).tolist() == expected


@given(st.integers(1, 5), st.integers(0, 3000), st.integers(0, 2**32), st.sampled_from([*DTYPES]))
def test_inner_products_are_those_of_float64(many, size, draw, dtype):
    sources = [weights(dtype, size, [draw, k], scale=1.0) for k in range(many)]
    dense = np.array([value(source) for source in sources]).reshape(many, size)
    gram = products(sources)
    assert np.array_equal(gram, gram.T)
    bound = 1e-14 * np.abs(dense) @ np.abs(dense).T  # of the sizes that are summed
    assert (np.abs(gram - dense @ dense.T) <= bound).all()
