import copy

import numpy as np
import pytest
import torch
from helpers.batchnorm import accuracy, network, task, trained
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrizations

from m2n2lab import DenseSpace, Evolver, InputError, make_evolver, tasks
from m2n2lab.core.spaces.space import Vector

INPUTS = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


def drawn(build, seed, steps=3):
    """Return a module whose buffers were filled by forward passes in train mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build().train()
        for _ in range(steps):
            module(INPUTS * (seed + 1) + seed)
    return module


def loaded(build, space, genome, path):
    """Return a fresh module that loads a saved genome strictly."""
    space.save(genome, path)
    module = build()
    module.load_state_dict(load_file(path), strict=True)
    return module.eval()


def outputs(module):
    with torch.no_grad():
        return module(INPUTS)


# -- two networks with BatchNorm on halves of the digits ------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_every_seed_has_its_own_accuracy_in_either_order(order):
    models = [trained(half) for half in order]
    evolver = Evolver(task(), models, rng=0)
    own = [accuracy(model.eval()) for model in models]
    assert [member.score for member in evolver.archive.members] == own
    assert own[0] != own[1]


def test_what_was_scored_is_what_is_saved(tmp_path):
    evolver = Evolver(task(), [trained(0), trained(1)], rng=0).run(40)
    best = evolver.best
    assert best.score > max(evolver.archive[0].score, evolver.archive[1].score)
    fresh = loaded(network, evolver.space, best, tmp_path / "best.safetensors")
    assert accuracy(fresh) == best.score
    assert accuracy(fresh, held_out=True) == evolver.test


def test_the_seeds_statistics_matter_to_their_scores():
    """Otherwise the tests above could not fail."""
    first, second = trained(0).eval(), trained(1).eval()
    own = accuracy(second)
    second[1].load_state_dict(first[1].state_dict())
    assert accuracy(second) != own


# -- modules of every form -------------------------------------------------------------------------


class Shared(nn.Module):
    """Two layers with one BatchNorm, and one weight under two names."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.again = self.norm
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.again(self.two(self.norm(self.one(x))))


class Odd(nn.Module):
    """Buffers of several dtypes, one infinite and one that is not saved."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("flags", torch.rand(3) > 0.5)
        self.register_buffer("order", torch.randperm(8))
        self.register_buffer("small", torch.randint(0, 9, (3,), dtype=torch.int16))
        self.register_buffer("mask", torch.full((8,), -torch.inf).where(torch.arange(8) > 5, 0.0))
        self.register_buffer("low", torch.rand(2, 2).half())
        self.register_buffer("scratch", torch.zeros(4), persistent=False)

    def forward(self, x):
        x = self.layer(x)[:, self.order] + self.low.float().sum() + self.flags.float().sum()
        return torch.softmax(x + self.mask, dim=1) * self.small.sum()


BUILDS = {
    "BatchNorm": lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)),
    "BatchNorm without weights": lambda: nn.Sequential(
        nn.BatchNorm1d(8, affine=False), nn.Linear(8, 3), nn.BatchNorm1d(3, affine=False)
    ),
    "InstanceNorm": lambda: nn.Sequential(
        nn.Linear(8, 6), nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True)
    ),
    "spectral norm": lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(8, 8)), nn.ReLU()
    ),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(8, 8)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(8, 8)),
    "LayerNorm": lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)),
    "shared": Shared,
    "odd": Odd,
    "double": lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).double(),
    "data parallel": lambda: nn.DataParallel(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))),
    "compiled": lambda: torch.compile(
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)), backend="eager"
    ),
}


def module(name, seed):
    build = BUILDS[name]
    if name == "double":
        return drawn(lambda: build().float(), seed).double()
    return drawn(build, seed)


@pytest.mark.parametrize("name", BUILDS)
def test_every_seed_is_scored_as_itself_and_saved_as_it_was_scored(name, tmp_path):
    models = [module(name, seed) for seed in (0, 1)]
    inputs = INPUTS.double() if name == "double" else INPUTS
    space = DenseSpace(models, dtype="float64" if name == "double" else "float32")
    for genome, model in zip(space.seeds, models, strict=True):
        expected = copy.deepcopy(model).eval()(inputs)
        torch.testing.assert_close(space.materialise(genome)(inputs), expected, rtol=0, atol=0)
    child = space.merge(*space.seeds, space.size // 2, 0.3)
    scored = space.materialise(child)(inputs).detach().clone()
    space.save(child, tmp_path / "child.safetensors")
    fresh = BUILDS[name]()
    fresh.load_state_dict(load_file(tmp_path / "child.safetensors"), strict=True)
    torch.testing.assert_close(fresh.eval()(inputs), scored, rtol=0, atol=0)


def test_buffers_are_merged_by_lerp_on_their_side_of_the_split():
    build = lambda: nn.Sequential(  # noqa: E731
        nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)
    )
    a, b = (drawn(build, seed) for seed in (0, 1))
    space = DenseSpace([a, b])
    first, second = 36 + 8 - 1, 36 + 8 + 20 - 1  # the last parameters before the statistics' ends
    assert space.buffers.places.tolist() == [first, first, second, second]
    for split in (0, first, first + 1, second, second + 1):
        child = space.materialise(space.merge(*space.seeds, split, 0.2))
        for layer, place in ((1, first), (3, second)):
            t = 0.2 if place < split else 0.8
            for kind in ("running_mean", "running_var"):
                x, y = getattr(a[layer], kind), getattr(b[layer], kind)
                torch.testing.assert_close(getattr(child[layer], kind), (1 - t) * x + t * y)


STRETCHED = DenseSpace([drawn(BUILDS["BatchNorm"], seed) for seed in (0, 1)])


@given(st.floats(-0.5, 1.5), st.integers(0, STRETCHED.size))
def test_variances_stay_between_those_of_the_parents(mix, split):
    space = STRETCHED  # m2n2+ goes beyond the parents' weights
    a, b = (seed.buffers.merged for seed in space.seeds)
    child = space.merge(*space.seeds, split, mix).buffers.merged
    assert (child >= np.minimum(a, b) - 1e-6).all()
    assert (child <= np.maximum(a, b) + 1e-6).all()


@pytest.mark.parametrize("mix", [0.0, 1 / 3, 1.0])
def test_equal_buffers_stay_bit_for_bit_and_integers_are_those_of_a(mix):
    a, b = drawn(Odd, 0), drawn(Odd, 1)
    b.low.copy_(a.low)
    space = DenseSpace([a, b])
    child = space.materialise(space.merge(space.seeds[1], space.seeds[0], 40, mix))
    assert torch.equal(child.low, a.low)
    assert torch.equal(child.mask, a.mask)
    for name in ("order", "flags", "small"):
        assert torch.equal(getattr(child, name), getattr(b, name))


def test_buffers_are_not_part_of_the_angle_nor_mutated():
    build = BUILDS["BatchNorm"]
    a, b = drawn(build, 0), drawn(build, 1)
    plain = [copy.deepcopy(model) for model in (a, b)]
    for model in plain:
        model[1].reset_running_stats()
    space, other = DenseSpace([a, b]), DenseSpace(plain)
    assert space.angle(*space.seeds) == other.angle(*other.seeds)
    assert space.size == sum(p.numel() for p in a.parameters())
    mutant = space.mutate(space.seeds[1], 0.5, seed=3, decay=0.1)
    assert np.array_equal(mutant.buffers.merged, space.seeds[1].buffers.merged)
    assert not np.array_equal(mutant.values, space.seeds[1].values)


def test_modules_without_buffers_are_vectors_as_before():
    build = BUILDS["LayerNorm"]
    space = DenseSpace([drawn(build, 0), drawn(build, 1)])
    assert space.seeds[0].buffers is None
    assert isinstance(space.pack(space.seeds[0]), np.ndarray)
    vector = np.ones(space.size, np.float32)
    assert np.array_equal(space.genome(vector).values, vector)


def test_a_buffer_that_is_not_saved_stays_the_modules():
    a, b = drawn(Odd, 0), drawn(Odd, 1)
    a.scratch += 1
    space = DenseSpace([a, b])
    assert torch.equal(space.materialise(space.seeds[1]).scratch, a.scratch)


def test_a_model_is_scored_in_eval_mode_whatever_a_task_does():
    build = lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))  # noqa: E731
    models = [drawn(build, 0), drawn(build, 1)]
    space = DenseSpace(models)
    before = outputs(space.materialise(space.seeds[0])).clone()
    outputs(space.materialise(space.seeds[0]).train())  # changes statistics, with dropout
    assert torch.equal(outputs(space.materialise(space.seeds[0])), before)
    assert all(model.training for model in models)


def test_packed_and_external_models_have_their_buffers():
    build = BUILDS["BatchNorm"]
    models = [drawn(build, seed) for seed in range(3)]
    space = DenseSpace(models[:2])
    external = space.genome(models[2])
    for again in (space.genome(space.pack(external)), space.genome(external)):
        torch.testing.assert_close(
            outputs(space.materialise(again)), outputs(models[2].eval()), rtol=0, atol=0
        )
    assert again is not external


# -- searches --------------------------------------------------------------------------------------


def right(model, indices):
    with torch.no_grad():
        return torch.sigmoid(model(INPUTS[indices]).sum(1)).numpy()


@pytest.mark.parametrize(
    "method", ["m2n2", "m2n2+", "ga", "m2n2-no-crossover", "cma-es", "brute-force", "map-elites"]
)
def test_every_method_scores_members_with_their_own_buffers(method, tmp_path):
    build = BUILDS["BatchNorm"]
    graded = tasks.from_function(right, points=20, graded=True)
    options = {"mutation": 0.1} if method == "m2n2-no-crossover" else {}
    evolver = make_evolver(
        method, graded, [drawn(build, 0), drawn(build, 1)], rng=0, **options
    ).run(30)
    for member in evolver.archive.members:
        fresh = loaded(build, evolver.space, member, tmp_path / "member.safetensors")
        assert graded.evaluate(fresh).mean() == pytest.approx(member.score, abs=1e-7)


CROSSOVERS = ["slerp", "splits", "lerp", "per-layer", "task-arithmetic", "ties", "dare"]


@pytest.mark.parametrize("crossover", CROSSOVERS)
@pytest.mark.parametrize(
    "parts", [{}, {"groups": {"norm": "1.*", "rest": "*"}}, {"freeze": "1.*"}, {"exclude": "1.*"}]
)
def test_every_crossover_merges_buffers_with_the_weights_of_their_module(crossover, parts):
    build = BUILDS["BatchNorm"]
    graded = tasks.from_function(right, points=20, graded=True)
    models = [drawn(build, seed) for seed in range(3)]
    evolver = Evolver(graded, models, rng=0, crossover=crossover, **parts)
    seeds = [seed.buffers.merged for seed in evolver.space.seeds]
    for _ in range(4):
        proposal = evolver.ask(parents=(1, 2))
        child = evolver.breed(proposal).buffers.merged
        if "freeze" in parts:
            assert np.array_equal(child, seeds[0])
        elif "exclude" in parts:
            assert np.array_equal(child, seeds[1])
        else:
            low, high = np.minimum(*seeds[1:]), np.maximum(*seeds[1:])
            assert (child >= low - 1e-6).all()
            assert (child <= high + 1e-6).all()
            assert not np.array_equal(child, seeds[1])
        evolver.tell(proposal)


@pytest.mark.parametrize("crossover", ["slerp", "lerp"])
@pytest.mark.parametrize("groups", [None, {"norm": "1.*", "rest": "*"}])
def test_buffers_have_the_share_of_b_at_their_place(crossover, groups):
    graded = tasks.from_function(right, points=20, graded=True)
    models = [drawn(BUILDS["BatchNorm"], seed) for seed in (0, 1)]
    evolver = Evolver(graded, models, rng=0, crossover=crossover, groups=groups)
    a, b = (seed.buffers.merged for seed in evolver.space.seeds)
    (place, _) = evolver.space.buffers.places
    for _ in range(5):
        proposal = evolver.ask(parents=(0, 1))
        (t,) = (share for i, j, share, _ in evolver.inheritance(proposal) if i <= place < j)
        merged = evolver.breed(proposal).buffers.merged
        assert merged == pytest.approx((1 - t) * a + t * b, abs=1e-6)


def test_cma_es_keeps_the_mean_buffers_of_the_point_it_starts_from():
    graded = tasks.from_function(right, points=20, graded=True)
    models = [drawn(BUILDS["BatchNorm"], seed) for seed in (0, 1)]
    evolver = make_evolver("cma-es", graded, models, rng=0)
    child = evolver.space.materialise(evolver.breed(evolver.ask()))
    for name in ("running_mean", "running_var"):
        mean = sum(getattr(model[1], name) for model in models) / 2
        torch.testing.assert_close(getattr(child[1], name), mean)


# -- recalibration ---------------------------------------------------------------------------------


def statistics(model, batches):
    """Return the model with the statistics that torch's own helper gives."""
    model = copy.deepcopy(model)
    torch.optim.swa_utils.update_bn(batches, model)
    return model.eval()


@pytest.mark.parametrize("form", ["batches", "pairs", "loader", "function"])
def test_recalibrated_models_are_scored_and_saved_with_new_statistics(form, tmp_path):
    build = BUILDS["BatchNorm"]
    models = [drawn(build, 0), drawn(build, 1)]
    batches = [INPUTS[:30] + 1, INPUTS[30:] - 1]
    data = {
        "batches": batches,
        "pairs": [(batch, torch.zeros(len(batch))) for batch in batches],
        "loader": (batch for batch in batches),
        "function": lambda module: [module(batch) for batch in batches],
    }[form]
    space = DenseSpace(models, recalibrate=data)
    expected = outputs(statistics(models[0], batches))
    torch.testing.assert_close(outputs(space.materialise(space.seeds[0])), expected)
    child = space.merge(*space.seeds, 20, 0.4)
    scored = outputs(space.materialise(child)).clone()
    assert torch.equal(outputs(space.materialise(child)), scored)
    assert torch.equal(outputs(loaded(build, space, child, tmp_path / "c.safetensors")), scored)
    assert space.module[1].momentum == 0.1


def test_only_batchnorm_learns_while_a_model_is_recalibrated():
    build = lambda: nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.9), nn.BatchNorm1d(4))  # noqa: E731
    space = DenseSpace([drawn(build, 0), drawn(build, 1)], recalibrate=[INPUTS])
    model = space.materialise(space.seeds[0])
    mean = model[0](INPUTS).mean(0)
    torch.testing.assert_close(model[2].running_mean, mean)
    assert not any(part.training for part in model.modules())


@pytest.mark.parametrize(
    ("models", "data", "message"),
    [
        ("vectors", [INPUTS], "modules that have BatchNorm layers"),
        ("LayerNorm", [INPUTS], "modules that have BatchNorm layers"),
        ("BatchNorm", [], "at least one batch"),
        ("BatchNorm", 3, "batches of inputs or a function, got int"),
    ],
)
def test_recalibration_that_cannot_be_is_refused(models, data, message):
    if models == "vectors":
        seeds = np.eye(2)
    else:
        seeds = [drawn(BUILDS[models], 0), drawn(BUILDS[models], 1)]
    with pytest.raises(InputError, match=message):
        DenseSpace(seeds, recalibrate=data)


# -- what cannot be merged -------------------------------------------------------------------------


class ComplexBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("angles", torch.ones(3, dtype=torch.complex64))


class Lock(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle a lock")


def float8():
    layer = nn.Linear(8, 3)
    layer.weight = nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)
    return layer


def quantised():
    with pytest.warns():
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 3)), {nn.Linear})


def integers():
    layer = nn.Linear(8, 3)
    layer.weight = nn.Parameter(torch.ones(3, 8, dtype=torch.int8), requires_grad=False)
    return layer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nn.utils.weight_norm(nn.Linear(8, 3)),
            "'weight' of seed 0 is computed from others",
        ),
        (lambda: nn.LazyLinear(3), "'weight' of seed 0 is lazy"),
        (lambda: nn.Linear(8, 3, device="meta"), "'weight' of seed 0 is on the meta device"),
        (nn.ReLU, "seed 0, a ReLU, has none"),
        (quantised, "of seed 0 is quantised"),
        (integers, "'weight' of seed 0 is quantised"),
        (float8, "got float8_e4m3fn in 'weight' of seed 0"),
        (lambda: nn.Linear(8, 3).to(torch.complex64), "got complex64 in 'weight' of seed 0"),
        (ComplexBuffer, "got complex64 in 'angles' of seed 0"),
        (lambda: Lock(8, 3), "seed 0 raised TypeError: cannot pickle a lock"),
    ],
)
def test_modules_that_cannot_be_merged_are_refused_in_a_sentence(build, message):
    with pytest.raises(InputError, match=message) as refusal:
        DenseSpace([build(), build()])
    assert "\n" not in str(refusal.value)


def poisoned(value, name="running_mean"):
    model = drawn(BUILDS["BatchNorm"], 1)
    getattr(model[1], name)[2] = value
    return model


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: nn.Sequential(
                nn.Linear(8, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 3)
            ),
            "seed 1 has no buffer '1.running_mean' where seed 0 has a buffer '1.running_mean'",
        ),
        (lambda: poisoned(torch.nan), "seed 1 has nan in '1.running_mean'"),
        (lambda: poisoned(torch.inf, "running_var"), "seed 1 has inf in '1.running_var'"),
        (lambda: np.ones(115, np.float32), "such as '1.running_mean', but seed 1 is weights alone"),
        (
            lambda: {
                "values": np.ones(115, np.float32),
                "merged": np.ones(3, np.float32),
                "carried": np.zeros(8, np.uint8),
            },
            "must have 16 entries to merge and 8 bytes to carry",
        ),
    ],
)
def test_models_with_other_buffers_are_refused(other, message):
    with pytest.raises(InputError, match=message):
        DenseSpace([drawn(BUILDS["BatchNorm"], 0), other()])


def test_buffers_of_other_shapes_are_refused():
    class Counts(nn.Linear):
        def __init__(self, size, dtype=torch.float32):
            super().__init__(8, 3)
            self.register_buffer("counts", torch.ones(size, dtype=dtype))

    with pytest.raises(InputError, match=r"a buffer 'counts' of float32 and shape \(4,\)"):
        DenseSpace([Counts(3), Counts(4)])
    with pytest.raises(InputError, match="has a buffer 'counts' of int64"):
        DenseSpace([Counts(3), Counts(3, torch.int64)])
    DenseSpace([Counts(3), Counts(3, torch.float16)])


def test_a_vector_of_a_space_of_ones_own_needs_its_buffers():
    class Lerp(DenseSpace):
        def merge(self, a, b, split, mix):
            values = (1 - mix) * a.values + mix * b.values
            return Vector(values, self.merge_buffers(a, b, (0, self.size), (mix,)))

    models = [drawn(BUILDS["BatchNorm"], seed) for seed in (0, 1)]
    space = Lerp(models)
    child = space.materialise(space.merge(*space.seeds, 3, 0.25))
    for name, value in child.state_dict().items():
        if value.is_floating_point():
            x, y = (model.state_dict()[name] for model in models)
            torch.testing.assert_close(value, 0.75 * x + 0.25 * y)
