import copy
import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from m2n2lab import DenseSpace, Evolver, InputError, Layout
from m2n2lab.core.spaces.space import Space
from m2n2lab.tasks import from_function

SHAPES = {"W1": (3, 4), "b1": (4,), "scale": (), "conv": (2, 3, 2, 2)}  # 12 + 4 + 1 + 24 = 41


def reference(a, b, split, mix):
    """The published equation in double precision."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    omega = np.arccos(np.clip(a @ b / lengths, -1, 1)) if lengths else 0.0

    def at(t):
        if np.sin(omega) <= 1e-6:
            return (1 - t) * a + t * b
        return (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)

    return np.concatenate([at(mix)[:split], at(1 - mix)[split:]])


def merged(a, b, split, mix):
    space = DenseSpace([a, b])
    return space.merge(*space.seeds, split, mix).values


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))  # 16 + 10 weights


def broken(model):
    model[0].bias.data[3] = torch.nan
    return model


# -- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "place"),
    [
        (0, "W1 row 0"),
        (3, "W1 row 0"),
        (4, "W1 row 1"),
        (11, "W1 row 2"),
        (12, "b1 entry 0"),
        (15, "b1 entry 3"),
        (16, "scale entry 0"),
        (17, "conv row 0"),
        (28, "conv row 0"),  # a row of conv has 3·2·2 = 12 entries
        (29, "conv row 1"),
        (40, "conv row 1"),
        (41, "the end"),
        (42, "outside"),
        (-1, "outside"),
    ],
)
def test_an_index_is_in_a_row_of_a_tensor(index, place):
    layout = Layout(SHAPES)
    assert (layout.size, layout.offsets) == (41, (0, 12, 16, 17, 41))
    assert layout.locate(index) == place


def test_splitting_a_vector_gives_views_by_name():
    vector = torch.arange(41.0)
    parts = Layout(SHAPES).split(vector)
    assert {name: tuple(part.shape) for name, part in parts.items()} == SHAPES
    assert parts["W1"][1].tolist() == [4, 5, 6, 7]
    parts["conv"][0, 0, 0, 0] = -1
    assert vector[17] == -1


# -- merging --------------------------------------------------------------------------------------


@given(st.integers(2, 300), st.integers(0, 2**32), st.floats(0, 1), st.data())
def test_a_merge_is_the_published_equation(size, draw, mix, data):
    a, b = np.random.default_rng(draw).normal(size=(2, size)).astype(np.float32)
    split = data.draw(st.sampled_from([0, 1, size // 2, size - 1, size]))
    expected = reference(a, b, split, mix)
    # Near 180° SLERP is 0/0: the factors are as large as 1 / sin ω, and so is what rounding does.
    scale = max(1.0, np.abs(expected).max())
    assert merged(a, b, split, mix) == pytest.approx(expected, rel=0, abs=1e-6 * scale)


@pytest.mark.parametrize("split", [0, 1, 7, 12, 13, 41])  # 7: inside W1, 12: where b1 begins
def test_the_split_may_fall_anywhere_even_inside_a_tensor(split):
    a, b = np.random.default_rng(0).normal(size=(2, 41)).astype(np.float32)
    space = DenseSpace([a, b], Layout(SHAPES))
    child = space.merge(*space.seeds, split, 0.2).values
    assert child == pytest.approx(reference(a, b, split, 0.2), abs=1e-6)


def test_orthogonal_models_by_hand():
    # ω = 90°, w = 1/3: sin 60° = 0.8660254 and sin 30° = 0.5, exchanged after the split.
    child = merged([2, 0, 2, 0], [0, 1, 0, 1], 2, 1 / 3)
    assert child == pytest.approx([1.7320508, 0.5, 1.0, 0.8660254], abs=1e-6)


@pytest.mark.parametrize("mix", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("factor", [1.0, 2.0, 0.3, -1.0, -2.0, -0.7, 0.0])
def test_parallel_antiparallel_and_zero_models_are_interpolated_linearly(factor, mix):
    a = np.random.default_rng(4).normal(size=1000).astype(np.float32)
    b = a * np.float32(factor)
    child = merged(a, b, len(a), mix)
    assert child == pytest.approx((1 - mix) * a + mix * b, abs=1e-5)


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(0, 50))
def test_merging_a_model_with_itself_gives_it_back(draw, mix, split):
    a = np.random.default_rng(draw).normal(size=50).astype(np.float32)
    assert merged(a, a, split, mix) == pytest.approx(a, abs=1e-6)


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_unit_models_without_a_split_stay_on_the_sphere(draw, mix):
    pair = np.random.default_rng(draw).normal(size=(2, 60))
    a, b = pair / np.linalg.norm(pair, axis=1, keepdims=True)
    assert np.linalg.norm(merged(a, b, 60, mix)) == pytest.approx(1.0, abs=1e-5)


def test_exchanging_parents_is_exchanging_the_mix():
    a, b = np.random.default_rng(6).normal(size=(2, 30))
    assert merged(a, b, 11, 0.3) == pytest.approx(merged(b, a, 11, 0.7), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_very_small_and_very_large_weights_have_the_same_angle(scale):
    space = DenseSpace(np.array([[1, 0, 1], [0, 1, 1]]) * scale)
    assert space.angle(*space.seeds) == pytest.approx(math.pi / 3)  # cos ω = 1 / 2


def test_an_angle_is_not_lost_when_the_norm_of_one_model_overflows():
    # ⟨A,A⟩ is infinite in float32 while ⟨B,B⟩ and ⟨A,B⟩ are finite.
    space = DenseSpace([np.array([1e20, 0]), np.array([0.9, 0.4])])
    assert space.angle(*space.seeds) == pytest.approx(math.atan2(0.4, 0.9), abs=1e-7)


@given(
    st.sampled_from(("float32", "float64")),
    st.floats(-40, 37),
    st.floats(-40, 37),
    st.floats(0.01, 3.1),
)
def test_the_angle_does_not_depend_on_the_norms(dtype, power_a, power_b, omega):
    a, b = np.array([1.0, 0.0]), np.array([math.cos(omega), math.sin(omega)])
    if dtype == "float64":
        power_a, power_b = 7 * power_a, 7 * power_b
    space = DenseSpace([a * 10.0**power_a, b * 10.0**power_b], dtype=dtype)
    stored = [seed.values.astype(float) for seed in space.seeds]
    x, y = (vector / np.abs(vector).max() for vector in stored)  # a denormal has few digits
    wanted = math.atan2(x[0] * y[1] - x[1] * y[0], x[0] * y[0] + x[1] * y[1])
    # In float32 a cosine of 1 − 6e-8 is at ω = 3.5e-4.
    assert space.angle(*space.seeds) == pytest.approx(wanted, abs=1e-4)
    if omega > 0.3:
        assert space.angle(*space.seeds) == pytest.approx(wanted, abs=1e-6)


def test_models_of_far_norms_are_merged_as_the_equation_says():
    a, b = np.array([1e20, 0.0, 0.0]), np.array([0.9, 0.4, 0.1])
    space = DenseSpace([a, b])
    child = space.merge(*space.seeds, 3, 0.75).values
    omega = math.acos(0.9 / math.hypot(0.9, 0.4, 0.1))
    f, g = (math.sin(share * omega) / math.sin(omega) for share in (0.25, 0.75))
    assert child == pytest.approx(f * a + g * b, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_merge_that_leaves_the_range_of_numbers_is_refused(dtype):
    largest = float(np.finfo(dtype).max)
    space = DenseSpace(np.array([[1.0, 1.0], [1.0, -0.9]]) * largest * 0.99, dtype=dtype)
    with pytest.raises(InputError, match=r"stay finite, got one beyond .* after a merge; scale"):
        space.merge(*space.seeds, 2, 0.5)
    assert np.isfinite(space.merge(*space.seeds, 2, 1.0).values).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decay", [0.0, 0.002])
def test_mutation_never_makes_a_weight_infinite(dtype, decay):
    space = DenseSpace(np.zeros((2, 1000)), dtype=dtype)
    assert np.isfinite(space.mutate(space.seeds[0], 1e36, 3, decay).values).all()
    for sigma in (1.1e36, 1e38, 1e300):
        with pytest.raises(InputError, match=r"mutation must be at most 1e\+36, .* got 1"):
            space.mutate(space.seeds[0], sigma, 3, decay)


def test_mutation_beyond_the_range_of_numbers_is_refused():
    space = DenseSpace(np.full((2, 1000), np.finfo(np.float32).max))
    with pytest.raises(InputError, match=r"stay finite, .* after mutation"):
        space.mutate(space.seeds[0], 1e36, 3)
    evolver = Evolver(from_function(lambda model, at: model[at] > 0, 4), np.eye(4), mutation=1e38)
    with pytest.raises(InputError, match="mutation must be at most"):
        evolver.run(5)
    assert evolver.generation == 0


@pytest.mark.parametrize("degrees", [120, 150, 170])
def test_wide_angles_are_those_of_sums_in_double_precision(degrees):
    draw = np.random.default_rng(degrees)
    a, other = draw.normal(size=(2, 5000))
    other -= a * (a @ other) / (a @ a)  # at a right angle to a, and as long
    other *= np.linalg.norm(a) / np.linalg.norm(other)
    turn = math.radians(degrees)
    b = math.cos(turn) * a + math.sin(turn) * other
    space = DenseSpace([a, b])
    x, y = (seed.values.astype(np.float64) for seed in space.seeds)  # rounded to float32
    exact = math.acos(x @ y / math.sqrt((x @ x) * (y @ y)))
    assert exact == pytest.approx(turn, abs=1e-6)
    assert space.angle(*space.seeds) == pytest.approx(exact, abs=1e-12)


def test_genomes_are_never_changed_in_place():
    weights = np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32)
    before = weights.copy()
    space = DenseSpace(weights)
    child = space.merge(*space.seeds, 10, 0.4)
    kept = child.values.copy()
    space.mutate(child, 0.5, 1)
    space.merge(child, space.seeds[0], 20, 0.9)
    assert np.array_equal(child.values, kept)
    assert np.array_equal(weights, before)
    weights[:] = 0  # the space has copies of its own
    assert np.array_equal([seed.values for seed in space.seeds], before)


def test_a_task_that_changes_its_model_cannot_change_a_genome():
    def doubles(model, indices):
        model.mul_(2)
        return np.ones(len(indices), dtype=bool)

    evolver = Evolver(from_function(doubles, 3), [[1.0, 2.0], [3.0, 4.0]])
    assert [seed.values.tolist() for seed in evolver.space.seeds] == [[1, 2], [3, 4]]


# -- mutation -------------------------------------------------------------------------------------


def test_mutation_adds_normal_noise_of_the_given_deviation():
    size = 40_000
    space = DenseSpace(np.ones((2, size)))
    noise = space.mutate(space.seeds[0], 0.01, 5).values - 1.0
    assert abs(noise.mean()) < 5 * 0.01 / math.sqrt(size)  # five standard errors
    assert noise.std() == pytest.approx(0.01, rel=0.02)
    # 68.27 % of a normal distribution lie within one standard deviation, 99.73 % within three.
    assert (abs(noise) < 0.01).mean() == pytest.approx(0.6827, abs=0.01)
    assert (abs(noise) < 0.03).mean() == pytest.approx(0.9973, abs=0.002)


def test_noise_depends_on_the_seed_alone():
    space = DenseSpace(np.ones((2, 100)))
    first = space.mutate(space.seeds[0], 0.1, 7).values
    torch.manual_seed(99)  # torch's global generator is not the one that is used
    assert np.array_equal(space.mutate(space.seeds[0], 0.1, 7).values, first)
    assert not np.array_equal(space.mutate(space.seeds[0], 0.1, 8).values, first)


# -- models ---------------------------------------------------------------------------------------


def test_dense_spaces_are_spaces():
    assert isinstance(DenseSpace([[1, 2], [3, 4]]), Space)
    assert not isinstance([[1, 2], [3, 4]], Space)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_vectors_of_any_type_are_seeds(kind):
    space = DenseSpace(kind([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]))
    assert space.size == 3
    assert [seed.values.tolist() for seed in space.seeds] == [[1, 2, 3], [3, 4, 5]]
    assert space.materialise(space.seeds[1]).tolist() == [3, 4, 5]
    assert space.layout.locate(2) == "vector entry 2"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_vectors_of_any_precision_are_seeds(kind):
    space = DenseSpace([torch.tensor([1, 2], dtype=kind), torch.tensor([3, 4], dtype=kind)])
    assert space.seeds[1].values.tolist() == [3, 4]
    assert space.seeds[1].values.dtype == np.float32


def test_modules_become_vectors_and_come_back():
    first, second = network(1), network(2)
    weights = copy.deepcopy(first.state_dict())
    space = DenseSpace([first, second])
    assert list(space.layout.shapes) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert space.size == 26
    assert space.layout.locate(15) == "0.bias entry 3"
    x = torch.randn(5, 3)
    assert torch.equal(space.materialise(space.seeds[1])(x), second(x))
    child = space.merge(*space.seeds, 13, 0.3)
    model = space.materialise(child)
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert np.array_equal(flat.numpy(), child.values)
    # The caller's own models are left alone.
    assert all(torch.equal(weights[k], v) for k, v in first.state_dict().items())


def test_a_packed_genome_makes_the_same_genome_again():
    space = DenseSpace(np.random.default_rng(0).normal(size=(2, 20)))
    child = space.merge(*space.seeds, 5, 0.3)
    assert np.array_equal(space.genome(space.pack(child)).values, child.values)


def test_a_saved_model_has_the_layouts_names(tmp_path):
    space = DenseSpace(np.random.default_rng(0).normal(size=(2, 41)), Layout(SHAPES))
    space.save(space.seeds[1], tmp_path / "child.safetensors")
    tensors = load_file(tmp_path / "child.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == SHAPES
    flat = torch.cat([tensors[name].reshape(-1) for name in SHAPES])
    assert np.array_equal(flat.numpy(), space.seeds[1].values)


def test_a_model_that_cannot_be_saved_leaves_nothing_behind(tmp_path):
    space = DenseSpace([[1, 2], [3, 4]])
    with pytest.raises(InputError, match="nowhere/model could not be written"):
        space.save(space.seeds[0], tmp_path / "nowhere" / "model")
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="taken could not be written"):
        space.save(space.seeds[0], tmp_path / "taken")
    assert os.listdir(tmp_path) == ["taken"]


# -- bad input ------------------------------------------------------------------------------------

BAD = {
    "one seed": (lambda: DenseSpace([[1, 2]]), "at least two seeds, got 1"),
    "no seeds": (lambda: DenseSpace([]), "at least two seeds, got 0"),
    "no list": (lambda: DenseSpace(None), "at least two (seeds|models)"),
    "one vector": (lambda: DenseSpace(np.ones(5)), r"two seeds, got a ndarray of shape"),
    "two sizes": (lambda: DenseSpace([[1, 2], [1, 2, 3]]), "2 parameters .* seed 1 has 3"),
    "a matrix": (lambda: DenseSpace(np.ones((2, 3, 3))), r"one flat vector .* \(3, 3\);"),
    "text": (
        lambda: DenseSpace(["ab", "cd"]),
        "one flat vector of numbers .* got .ab.; open files with",
    ),
    "NaN": (
        lambda: DenseSpace([np.ones(41), [*np.ones(17), np.nan, *np.ones(23)]], Layout(SHAPES)),
        r"finite, but seed 1 has nan at index 17 \(conv row 0\)",
    ),
    "infinite": (lambda: DenseSpace([[1, np.inf], [1, 2]]), "finite, but seed 0 has inf"),
    "too large for float32": (lambda: DenseSpace([[1, 2], [1, 1e39]]), "finite, but seed 1 has"),
    "complex": (lambda: DenseSpace(np.eye(2) + 1j), "real numbers, got complex128; give real"),
    "complex tensors": (
        lambda: DenseSpace([torch.ones(2), torch.ones(2, dtype=torch.complex64)]),
        "real numbers, got complex64",
    ),
    "complex module": (
        lambda: DenseSpace([nn.Linear(2, 2, dtype=torch.complex64) for _ in range(2)]),
        "real numbers, got complex64",
    ),
    "layout": (
        lambda: DenseSpace(np.ones((2, 40)), Layout(SHAPES)),
        "cover the seeds' 40 parameters, got 41",
    ),
    "other architecture": (
        lambda: DenseSpace([network(), nn.Sequential(nn.Linear(3, 5))]),
        r"one architecture, but seed 1 has '0.weight' of shape \(5, 3\) where .* \(4, 3\)",
    ),
    "fewer layers": (
        lambda: DenseSpace([network(), nn.Sequential(nn.Linear(3, 4))]),
        r"seed 1 has '2.weight' of shape None where seed 0 has \(2, 4\)",
    ),
    "NaN in a module": (
        lambda: DenseSpace([network(), broken(network())]),
        r"finite, but seed 1 has nan at index 15 \(0.bias entry 3\)",
    ),
    "device": (lambda: DenseSpace([[1], [2]], device="gpu"), "'cpu' or 'cuda', got 'gpu'"),
    "other device": (lambda: DenseSpace([[1], [2]], device="meta"), "'cpu' or 'cuda', got 'meta'"),
    "device of no name": (lambda: DenseSpace([[1], [2]], device=None), "'cuda', got None"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_a_sentence(case):
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA GPU is there")
def test_a_missing_gpu_is_refused():
    with pytest.raises(InputError, match="'cuda' is not available: this machine has no CUDA GPU"):
        DenseSpace([[1, 2], [3, 4]], device="cuda")
