import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab import InputError
from m2n2lab.core.spaces.slerp import SIN_EPSILON, angle, slerp, split_point

angles = st.floats(0.0, math.pi)
shares = st.floats(0.0, 1.0)
turns = st.floats(0.01, 3.1)  # sin ω well above the ε under which SLERP becomes a lerp


@pytest.mark.parametrize(
    ("aa", "bb", "ab", "degrees"),
    [
        (1.0, 1.0, 0.0, 90),  # (1, 0) and (0, 1)
        (4.0, 9.0, 3.0, 60),  # lengths 2 and 3: cos ω = 3 / 6
        (1.0, 2.0, 1.0, 45),  # (1, 0) and (1, 1): cos ω = 1 / √2
        (1.0, 4.0, -1.0, 120),  # cos ω = -1 / 2
        (1.0, 4.0, 2.0, 0),
        (1.0, 4.0, -2.0, 180),
    ],
)
def test_the_angle_comes_from_inner_products(aa, bb, ab, degrees):
    assert math.degrees(angle(aa, bb, ab)) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize(("aa", "bb"), [(0.0, 0.0), (0.0, 4.0), (4.0, 0.0)])
def test_a_zero_vector_has_angle_zero(aa, bb):
    assert angle(aa, bb, 0.0) == 0.0


def test_a_cosine_rounded_beyond_one_is_clipped():
    assert angle(1.0, 1.0, 1.0 + 1e-12) == 0.0
    assert angle(1.0, 1.0, -1.0 - 1e-12) == math.pi


def test_lengths_whose_product_leaves_the_range_of_doubles_still_have_an_angle():
    # ⟨A,A⟩⟨B,B⟩ is 1e400 (or 1e-400), but |A||B| is 1e200 (or 1e-200).
    assert angle(1e200, 1e200, 0.5e200) == pytest.approx(math.pi / 3)
    assert angle(1e-200, 1e-200, 0.5e-200) == pytest.approx(math.pi / 3)


def test_half_way_between_orthogonal_vectors():
    # sin 45° / sin 90° = 0.70710678
    assert slerp(math.pi / 2, 0.5) == pytest.approx((0.70710678, 0.70710678), abs=1e-8)


def test_a_quarter_of_the_way_along_sixty_degrees():
    # sin 45° / sin 60° = 0.70710678 / 0.8660254 = 0.81649658
    # sin 15° / sin 60° = 0.25881905 / 0.8660254 = 0.29885849
    assert slerp(math.pi / 3, 0.25) == pytest.approx((0.81649658, 0.29885849), abs=1e-8)


@given(angles)
def test_the_ends_are_the_parents(omega):
    assert slerp(omega, 0.0) == pytest.approx((1.0, 0.0), abs=1e-12)
    assert slerp(omega, 1.0) == pytest.approx((0.0, 1.0), abs=1e-12)


@given(angles, shares)
def test_swapping_the_parents_swaps_the_factors(omega, t):
    a, b = slerp(omega, t)
    # 1 − t is rounded, and near 180° the factors grow without bound: compare relative to them.
    assert slerp(omega, 1.0 - t) == pytest.approx((b, a), rel=1e-6, abs=1e-6)


@given(turns, shares)
def test_unit_vectors_give_unit_vectors(omega, t):
    a, b = slerp(omega, t)
    assert a * a + b * b + 2 * a * b * math.cos(omega) == pytest.approx(1.0, abs=1e-6)


@given(turns, shares)
def test_the_result_is_turned_by_its_share_of_the_angle(omega, t):
    # With A = (1, 0) and B = (cos ω, sin ω) the result points at tω.
    a, b = slerp(omega, t)
    x, y = a + b * math.cos(omega), b * math.sin(omega)
    assert math.atan2(y, x) == pytest.approx(t * omega, abs=1e-6)


@pytest.mark.parametrize("omega", [0.0, 1e-7, math.pi - 1e-7, math.pi])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_parallel_and_antiparallel_vectors_are_interpolated_linearly(omega, t):
    assert slerp(omega, t) == (1.0 - t, t)


def test_slerp_and_lerp_meet_where_one_takes_over_from_the_other():
    above, below = math.asin(SIN_EPSILON) * (1 + 1e-9), math.asin(SIN_EPSILON) * (1 - 1e-9)
    assert slerp(below, 0.3) == (0.7, 0.3)
    assert slerp(above, 0.3) == pytest.approx((0.7, 0.3), abs=1e-9)


def test_where_the_sine_is_just_the_limit_the_interpolation_is_linear():
    omega = math.asin(SIN_EPSILON)
    assert math.sin(omega) == SIN_EPSILON
    assert slerp(omega, 0.3) == (0.7, 0.3)
    assert slerp(math.nextafter(omega, 1.0), 0.3) != (0.7, 0.3)


@given(angles, shares)
def test_the_factors_change_sides_at_the_split(omega, mix):
    before_a, before_b, after_a, after_b = split_point(omega, mix)
    assert (before_a, before_b) == slerp(omega, mix)
    assert (after_a, after_b) == (before_b, before_a)


def test_after_the_split_the_mix_is_one_minus_w():
    # ω = 60°, w = 0.25: f_0.75 has the factors sin 15° / sin 60° and sin 45° / sin 60°.
    parts = split_point(math.pi / 3, 0.25)
    assert (parts.a_after, parts.b_after) == pytest.approx((0.29885849, 0.81649658), abs=1e-8)
    assert (parts.a_after, parts.b_after) == pytest.approx(slerp(math.pi / 3, 0.75), abs=1e-12)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("at", range(3))
def test_inner_products_that_are_not_finite_have_no_angle(bad, at):
    products = [1.0, 1.0, 0.5]
    products[at] = bad
    with pytest.raises(InputError, match="Inner products of weights must be finite, got"):
        angle(*products)
