import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2n2lab.core.spaces.recipe import Recipe, split_factors
from m2n2lab.core.spaces.slerp import Coefficients, angle, split_point
from m2n2lab.utils.errors import InputError

Vector = NDArray[np.float64]

# Few distinct values, so that neighbours are often equal; tiny, huge and signed ones among them.
values = st.sampled_from([0.0, -0.0, 1.0, -0.5, 0.1, 5e-324, -3e-310, 1e300]) | st.floats(-9, 9)
shares = st.floats(0.0, 1.0)


@st.composite
def cut_points(draw: st.DrawFn, size: int) -> list[int]:
    inner = draw(st.sets(st.integers(1, size - 1), max_size=6)) if size > 1 else set()
    return [0, *sorted(inner), size]


@st.composite
def recipes(draw: st.DrawFn, size: int | None = None, seeds: int | None = None) -> Recipe:
    size = size or draw(st.integers(1, 30))
    seeds = seeds or draw(st.integers(1, 4))
    breaks = draw(cut_points(size))
    row = st.lists(values, min_size=seeds, max_size=seeds)
    return Recipe(breaks, [draw(row) for _ in breaks[1:]])


def spread(rows: NDArray[Any], breaks: NDArray[np.int64]) -> Vector:
    """Repeat each row for every parameter of its piece: (S, K) to (N, K)."""
    return np.repeat(rows, np.diff(breaks), axis=0)


def weigh(recipe: Recipe, seeds: Vector) -> Vector:
    """Make the weights (N,) of a recipe of ``seeds`` (K, N)."""
    return np.asarray((spread(recipe.coef, recipe.breaks) * seeds.T).sum(axis=1))


def merge_dense(a: Vector, b: Vector, split: int, mix: float) -> Vector:
    """Merge as the paper has it, on whole vectors."""
    omega = np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1.0, 1.0))

    def between(t: float) -> Vector:
        if np.sin(omega) <= 1e-6:
            return np.asarray((1 - t) * a + t * b)
        return np.asarray((np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega))

    return np.where(np.arange(a.size) < split, between(mix), between(1 - mix))


def merge_recipes(a: Recipe, b: Recipe, seeds: Vector, split: int, mix: float) -> Recipe:
    x, y = weigh(a, seeds), weigh(b, seeds)
    coefficients = split_point(angle(float(x @ x), float(y @ y), float(x @ y)), mix)
    return a.combine(b, *split_factors(split, a.size, coefficients))


@given(
    st.integers(1, 60),
    st.integers(2, 4),
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), shares, shares),
        min_size=1,
        max_size=30,
    ),
)
def test_a_chain_of_merges_is_still_a_recipe_and_equals_dense_merging(
    size: int, count: int, rng: int, merges: list[tuple[int, int, float, float]]
) -> None:
    seeds = np.random.default_rng(rng).normal(size=(count, size))
    members = [(Recipe.seed(k, count, size), seeds[k]) for k in range(count)]
    for i, j, where, mix in merges:
        (a, x), (b, y) = members[i % len(members)], members[j % len(members)]
        if x @ y < -0.95 * np.linalg.norm(x) * np.linalg.norm(y):
            continue  # near 180° the factors grow without bound, and rounding errors with them
        split = round(where * size)
        child, dense = merge_recipes(a, b, seeds, split, mix), merge_dense(x, y, split, mix)
        np.testing.assert_allclose(
            weigh(child, seeds), dense, rtol=0, atol=1e-12 * np.abs(dense).max()
        )
        assert child.segments <= a.segments + b.segments
        members.append((child, dense))


@given(st.data(), recipes())
def test_a_child_has_each_parameter_of_its_parents_times_the_factors_of_its_interval(
    data: st.DataObject, a: Recipe
) -> None:
    b = data.draw(recipes(a.size, a.seeds))
    inner = data.draw(st.lists(st.integers(0, a.size), max_size=5))  # may repeat: empty stretches
    edges = np.array([0, *sorted(inner), a.size])
    factors = data.draw(
        st.lists(st.tuples(*2 * [st.floats(-2, 2)]), min_size=len(inner) + 1, max_size=6).map(
            lambda rows: np.array(rows[: len(inner) + 1])
        )
    )
    child = a.combine(b, edges, factors)
    each = spread(factors, edges)  # (N, 2)
    expected = each[:, :1] * spread(a.coef, a.breaks) + each[:, 1:] * spread(b.coef, b.breaks)
    np.testing.assert_array_equal(spread(child.coef, child.breaks), expected)
    assert child.simplify() is child


def test_a_merge_by_hand() -> None:
    a, b = Recipe.seed(0, 2, 10), Recipe.seed(1, 2, 10)
    child = a.combine(b, *split_factors(3, 10, Coefficients(0.75, 0.25, 0.25, 0.75)))
    assert child == Recipe([0, 3, 10], [[0.75, 0.25], [0.25, 0.75]])
    # Up to 5 half the child and half A, from there on B less the child.
    again = child.combine(a, [0, 5, 10], [[0.5, 0.5], [-1.0, 0.0]])
    assert again == Recipe([0, 3, 5, 10], [[0.875, 0.125], [0.625, 0.375], [-0.25, -0.75]])


@pytest.mark.parametrize(("split", "row"), [(0, [0.2, 0.9]), (10, [0.7, 0.4])])
def test_a_split_at_either_end_leaves_one_piece(split: int, row: list[float]) -> None:
    a, b = Recipe.seed(0, 2, 10), Recipe.seed(1, 2, 10)
    edges, factors = split_factors(split, 10, Coefficients(0.7, 0.4, 0.2, 0.9))
    assert a.combine(b, edges, factors) == Recipe([0, 10], [row])


def test_the_factors_of_a_split_are_a_row_for_each_side() -> None:
    edges, factors = split_factors(3, 10, Coefficients(0.1, 0.2, 0.3, 0.4))
    assert edges.tolist() == [0, 3, 10]
    assert factors.tolist() == [[0.1, 0.2], [0.3, 0.4]]


def test_a_seed_is_itself_from_end_to_end() -> None:
    seed = Recipe.seed(1, 3, 7)
    assert (seed.size, seed.seeds, seed.segments) == (7, 3, 1)
    assert seed == Recipe([0, 7], [[0, 1, 0]])
    assert seed.breaks.dtype == np.dtype(np.int64)
    assert seed.coef.dtype == np.dtype(np.float64)


@given(recipes())
def test_simplifying_changes_no_coefficient_and_leaves_nothing_to_simplify(recipe: Recipe) -> None:
    simple = recipe.simplify()
    np.testing.assert_array_equal(
        spread(simple.coef, simple.breaks), spread(recipe.coef, recipe.breaks)
    )
    assert simple.simplify() is simple
    assert np.any(simple.coef[1:] != simple.coef[:-1], axis=1).all()
    assert (simple is recipe) == (simple.segments == recipe.segments)


def test_simplifying_merges_equal_neighbours_only() -> None:
    recipe = Recipe([0, 2, 5, 6, 9], [[1, 0], [1, 0], [0, 1], [1, 0]])
    assert recipe.simplify() == Recipe([0, 5, 6, 9], [[1, 0], [0, 1], [1, 0]])


@given(st.data(), recipes())
def test_refining_repeats_the_coefficients(data: st.DataObject, recipe: Recipe) -> None:
    more = data.draw(cut_points(recipe.size))
    cuts = np.array(sorted({*more, *recipe.breaks.tolist()}))
    rows = recipe.refine(cuts)
    assert rows.shape == (len(cuts) - 1, recipe.seeds)
    np.testing.assert_array_equal(spread(rows, cuts), spread(recipe.coef, recipe.breaks))


@given(recipes())
def test_every_parameter_has_the_coefficients_of_its_piece(recipe: Recipe) -> None:
    rows = [recipe.at(index) for index in range(recipe.size)]
    np.testing.assert_array_equal(rows, spread(recipe.coef, recipe.breaks))


@given(st.data(), recipes())
def test_pieces_cover_a_stretch_once_and_in_order(data: st.DataObject, recipe: Recipe) -> None:
    start, stop = sorted(data.draw(st.tuples(*2 * [st.integers(0, recipe.size)])))
    pieces = list(recipe.pieces(start, stop))
    covered = [index for first, end, _ in pieces for index in range(first, end)]
    assert covered == list(range(start, stop))
    assert all(first < end for first, end, _ in pieces)
    for first, end, row in pieces:
        assert type(first) is type(end) is int
        assert {first, end} <= {start, stop, *recipe.breaks.tolist()}
        np.testing.assert_array_equal(row, recipe.at(first))


def test_pieces_are_cut_to_the_stretch() -> None:
    recipe = Recipe([0, 3, 5, 10], [[1], [2], [3]])
    pieces = [(first, end, row.tolist()) for first, end, row in recipe.pieces(2, 6)]
    assert pieces == [(2, 3, [1.0]), (3, 5, [2.0]), (5, 6, [3.0])]
    assert list(recipe.pieces(4, 4)) == list(recipe.pieces(10, 10)) == []


@pytest.mark.parametrize(
    ("recipe", "bins", "painted"),
    [
        # Bins of two parameters, the second with one of either seed.
        (Recipe([0, 3, 10], [[1, 0], [0, 1]]), 5, [[1, 0], [0.5, 0.5], [0, 1], [0, 1], [0, 1]]),
        # |−1| and |3| of 4 to parameter 2; from there on both alike, whatever their signs.
        (Recipe([0, 2, 4], [[-1.0, 3.0], [0.2, -0.2]]), 2, [[0.25, 0.75], [0.5, 0.5]]),
        # The first bin ends within parameter 1: one of seed 0, half of seed 1.
        (Recipe([0, 1, 3], [[1, 0], [0, 1]]), 2, [[2 / 3, 1 / 3], [0, 1]]),
        # More bins than parameters: two for each, or one with half of both.
        (Recipe([0, 1, 2], [[1, 0], [0, 1]]), 4, [[1, 0], [1, 0], [0, 1], [0, 1]]),
        (Recipe([0, 1, 2], [[1, 0], [0, 1]]), 3, [[1, 0], [0.5, 0.5], [0, 1]]),
        # Nothing of anybody counts as nothing.
        (Recipe([0, 3, 4], [[0, 0], [0, 2]]), 2, [[0, 0], [0, 0.5]]),
        # Neither sums beyond the range of doubles nor the smallest of them get lost.
        (Recipe([0, 1, 2], [[1.5e308, 1.5e308], [0.0, 5e-324]]), 2, [[0.5, 0.5], [0, 1]]),
        # A model of 7 billion parameters.
        (Recipe([0, 3_500_000_001, 7_000_000_002], [[1, 0], [0, 1]]), 2, [[1, 0], [0, 1]]),
    ],
)
def test_painting_by_hand(recipe: Recipe, bins: int, painted: list[list[float]]) -> None:
    np.testing.assert_allclose(recipe.paint(bins), painted, rtol=1e-12, atol=1e-12)


@given(recipes(), st.integers(1, 70))
def test_painted_shares_sum_to_one_and_their_mean_is_the_ancestry(
    recipe: Recipe, bins: int
) -> None:
    painted = recipe.paint(bins)
    assert painted.shape == (bins, recipe.seeds)
    assert painted.min() >= 0.0
    some = np.any(spread(recipe.coef, recipe.breaks) != 0.0, axis=1)  # (N,)
    cells = np.repeat(some, bins).reshape(bins, -1)  # a bin is N of the N·bins parts
    np.testing.assert_allclose(painted.sum(axis=1), cells.mean(axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(painted.mean(axis=0), recipe.ancestry, rtol=1e-12, atol=1e-12)


@given(recipes(), st.integers(1, 40))
def test_painting_averages_the_shares_of_parts_of_parameters(recipe: Recipe, bins: int) -> None:
    coef = np.round(np.fmod(recipe.coef, 9))  # plain arithmetic is exact on small whole numbers
    size = np.abs(spread(coef, recipe.breaks))
    share = size / np.maximum(size.sum(axis=1, keepdims=True), 1)
    # Every parameter in as many parts as there are bins: then a bin has N whole parts.
    parts = np.repeat(share, bins, axis=0).reshape(bins, recipe.size, recipe.seeds)
    painted = Recipe(recipe.breaks, coef).paint(bins)
    np.testing.assert_allclose(painted, parts.mean(axis=1), rtol=0, atol=1e-12)


def test_the_ancestry_is_the_share_of_each_seed_in_the_whole() -> None:
    assert Recipe([0, 3, 10], [[1, 0], [0, -2]]).ancestry == pytest.approx([0.3, 0.7])


@given(recipes())
def test_json_keeps_every_bit(recipe: Recipe) -> None:
    text = json.dumps(recipe.to_json(), allow_nan=False)
    again = Recipe.from_json(json.loads(text))
    assert again == recipe
    assert again.coef.tobytes() == recipe.coef.tobytes()
    assert again.breaks.tobytes() == recipe.breaks.tobytes()


def test_json_is_plain_numbers() -> None:
    data = Recipe(np.array([0, 3, 10]), np.array([[1, 0], [0.5, -0.0]])).to_json()
    assert data == {"size": 10, "breaks": [0, 3, 10], "coef": [[1.0, 0.0], [0.5, 0.0]]}
    assert type(data["size"]) is type(data["breaks"][1]) is int
    assert type(data["coef"][0][0]) is float


def test_integers_in_json_are_coefficients_too() -> None:
    assert Recipe.from_json({"size": 2, "breaks": [0, 2], "coef": [[1]]}) == Recipe.seed(0, 1, 2)


def test_a_recipe_cannot_be_changed() -> None:
    breaks, coef = np.array([0, 3, 10]), np.array([[1.0, 0.0], [0.0, 1.0]])
    recipe = Recipe(breaks, coef)
    breaks[1], coef[0, 0] = 5, 9.0  # the recipe has its own
    for array in (recipe.breaks, recipe.coef):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    for name in ("breaks", "coef"):
        with pytest.raises(AttributeError):
            setattr(recipe, name, coef)
    with pytest.raises(AttributeError):
        del recipe.coef
    assert not hasattr(recipe, "__dict__")  # so nothing can be added either
    assert recipe == Recipe([0, 3, 10], [[1, 0], [0, 1]])


@given(recipes())
def test_equal_recipes_have_equal_hashes(recipe: Recipe) -> None:
    # −0.0 equals 0.0, and each becomes the other.
    other = Recipe(recipe.breaks, np.where(recipe.coef == 0.0, -recipe.coef, recipe.coef))
    assert recipe == other
    assert hash(recipe) == hash(other)
    assert len({recipe, other}) == 1


@pytest.mark.parametrize(
    "other",
    [
        Recipe([0, 4, 10], [[1, 0], [0, 1]]),
        Recipe([0, 3, 10], [[1, 0], [0, 2]]),
        Recipe([0, 10], [[1, 0]]),
        Recipe([0, 3, 10], [[1], [0]]),
        "a recipe",
    ],
)
def test_other_breaks_or_coefficients_make_another_recipe(other: object) -> None:
    recipe = Recipe([0, 3, 10], [[1, 0], [0, 1]])
    assert recipe != other
    assert len({recipe, other}) == 2


def test_a_copy_is_the_recipe_itself_and_a_pickled_one_is_equal_and_sealed() -> None:
    recipe = Recipe([0, 3, 10], [[1, 0], [0, 1]])
    assert copy.copy(recipe) is copy.deepcopy(recipe) is recipe
    again = pickle.loads(pickle.dumps(recipe))
    assert again == recipe
    assert not again.breaks.flags.writeable
    assert not again.coef.flags.writeable


def test_a_recipe_prints_in_a_line() -> None:
    recipe = Recipe([0, 5_763, 10_000, 19_210], [[1, 0], [0, 1], [0, 2]])
    text = "Recipe(19,210 parameters of 2 seeds in 3 pieces: 30 % + 70 %)"
    assert repr(recipe) == text
    assert repr(Recipe.seed(0, 1, 1)) == "Recipe(1 parameter of 1 seed in 1 piece: 100 %)"


TWO = Recipe([0, 3, 10], [[1, 0], [0, 1]])
GOOD = TWO.to_json()
MIX = Coefficients(0.5, 0.5, 0.5, 0.5)


def read(**changes: object) -> Recipe:
    return Recipe.from_json({k: v for k, v in {**GOOD, **changes}.items() if v is not ...})


@pytest.mark.parametrize(
    ("call", "expected", "got"),
    [
        (lambda: Recipe([0, 5, 5], [[1], [1]]), "breaks must be two or more", "5 followed by 5"),
        (lambda: Recipe([0, 7, 5], [[1], [1]]), "increasing integers from 0", "7 followed by 5"),
        (lambda: Recipe([1, 5], [[1]]), "from 0 to the number of parameters", "got 1 to 5"),
        (lambda: Recipe([0], [[1]]), "breaks must", "int64 of shape (1,);"),
        (lambda: Recipe([], [[1]]), "breaks must", "of shape (0,);"),
        (lambda: Recipe(5, [[1]]), "breaks must", "of shape ();"),
        (lambda: Recipe([[0, 5]], [[1]]), "breaks must", "of shape (1, 2);"),
        (lambda: Recipe([0.0, 5.0], [[1]]), "breaks must", "float64 of shape (2,);"),
        (lambda: Recipe([False, True], [[1]]), "breaks must", "bool of shape (2,);"),
        (lambda: Recipe([0, 2**70], [[1]]), "breaks must", "object of shape (2,);"),
        (lambda: Recipe([[0], [0, 1]], [[1]]), "breaks must be an array", "different lengths"),
        (lambda: Recipe([0, 5], [[1], [1]]), "shape (1, seeds)", "int64 of shape (2, 1);"),
        (lambda: Recipe([0, 5], [1]), "coef must be finite numbers", "int64 of shape (1,);"),
        (lambda: Recipe([0, 5], [[]]), "coef must", "float64 of shape (1, 0);"),
        (lambda: Recipe([0, 5], [[1, np.nan]]), "coef must be finite", "got nan"),
        (lambda: Recipe([0, 5], [[1, -np.inf]]), "coef must be finite", "got -inf"),
        (lambda: Recipe([0, 5], [["1"]]), "coef must", "<U1 of shape (1, 1);"),
        (lambda: Recipe([0, 5], [[True]]), "coef must", "bool of shape (1, 1);"),
        (lambda: Recipe([0, 5], [[1j]]), "coef must", "complex128 of shape (1, 1);"),
        (lambda: Recipe([0, 2, 5], [[1], [1, 2]]), "coef must be an array", "different lengths"),
        (lambda: Recipe.seed(2, 2, 10), "k must be an integer <= 1", "2;"),
        (lambda: Recipe.seed(-1, 2, 10), "k must be an integer >= 0", "-1;"),
        (lambda: Recipe.seed(0, 0, 10), "seeds must be an integer >= 1", "0;"),
        (lambda: Recipe.seed(0, 2, 0), "size must be an integer >= 1", "0;"),
        (
            lambda: TWO.combine(Recipe.seed(0, 2, 9), [0, 10], [[1, 0]]),
            "other must have 10 parameters of 2 seeds",
            "got 9 parameters of 2 seeds",
        ),
        (
            lambda: TWO.combine(Recipe.seed(0, 1, 10), [0, 10], [[1, 0]]),
            "other must have 10 parameters of 2 seeds",
            "got 10 parameters of 1 seed",
        ),
        (lambda: TWO.combine(TWO, [0, 9], [[1, 0]]), "from 0 to 10", "got 0 to 9"),
        (
            lambda: TWO.combine(TWO, [0, 7, 5, 10], np.ones((3, 2))),
            "edges must be two or more non-decreasing integers",
            "7 followed by 5;",
        ),
        (lambda: TWO.combine(TWO, [0, 10], [[1]]), "shape (1, 2)", "shape (1, 1);"),
        (lambda: TWO.combine(TWO, [0, 10], [[np.inf, 0]]), "factors must be", "inf;"),
        (lambda: TWO.refine([0, 4, 10]), "must contain all 3 breaks", "without 3;"),
        (lambda: TWO.refine([0, 3, 11]), "from 0 to 10", "got 0 to 11"),
        (lambda: TWO.refine([0, 3, 3, 10]), "increasing integers", "3 followed by 3"),
        (lambda: TWO.at(10), "index must be an integer <= 9", "10;"),
        (lambda: TWO.at(-1), "index must be an integer >= 0", "-1;"),
        (lambda: TWO.pieces(-1, 5), "start must be an integer >= 0", "-1;"),
        (lambda: TWO.pieces(5, 4), "stop must be an integer >= 5", "4;"),
        (lambda: TWO.pieces(5, 11), "stop must be an integer <= 10", "11;"),
        (lambda: TWO.pieces(11, 11), "start must be an integer <= 10", "11;"),
        (lambda: TWO.paint(0), "bins must be an integer >= 1", "0;"),
        (lambda: split_factors(11, 10, MIX), "split must be an integer <= 10", "11"),
        (lambda: split_factors(-1, 10, MIX), "split must be an integer >= 0", "-1"),
        (lambda: Recipe.from_json([1]), "A recipe's size must be an integer", "None;"),
        (lambda: read(size=...), "A recipe's size must be an integer", "None;"),
        (lambda: read(size=10.0), "A recipe's size must be an integer", "10.0;"),
        (lambda: read(size=True), "A recipe's size must be an integer", "True;"),
        (lambda: read(size=11), "breaks must be two or more", "0 to 10;"),
        (lambda: read(size=2**70), f"from 0 to {2**70}", "0 to 10;"),
        (lambda: read(breaks=...), "A recipe's breaks must be a list of", "None;"),
        (lambda: read(breaks=[0, True, 10]), "a list of integers", "[0, True, 10];"),
        (lambda: read(breaks=[0, 3.0, 10]), "a list of integers", "[0, 3.0, 10];"),
        (lambda: read(breaks="0"), "a list of integers", "'0';"),
        (lambda: read(breaks=[0, 11, 10]), "increasing integers", "11 followed by 10"),
        (lambda: read(coef=...), "A recipe's coef must be a list of rows", "None;"),
        (lambda: read(coef=[1, 2]), "a list of rows of numbers", "[1, 2];"),
        (lambda: read(coef=[[1], ["1"]]), "a list of rows of numbers", "[[1], ['1']];"),
        (lambda: read(coef=[[1], [True]]), "a list of rows of numbers", "[[1], [True]];"),
        (lambda: read(coef=[[1], [1, 2]]), "coef must be an array", "different lengths;"),
        (lambda: read(coef=[[1], [float("nan")]]), "coef must be finite", "got nan"),
        (lambda: read(coef=[[1]]), "coef must be finite numbers of shape (2,", "(1, 1);"),
    ],
)
def test_input_that_cannot_be_used_is_named_in_one_sentence(
    call: Callable[[], object], expected: str, got: str
) -> None:
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    assert expected in sentence
    assert got in sentence
    assert sentence.endswith(".")
    assert "; " in sentence  # what to do
