"""Buffers in checkpoints: merged by lerp beside the vector, scored as they are saved."""

import json
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from helpers.batchnorm import accuracy, images, network, task, trained
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations

from m2n2lab import CheckpointSpace, DenseSpace, Evolver, InputError, store
from m2n2lab.checkpoint.checks.preflight import preflight
from m2n2lab.checkpoint.from_record import rebuild
from m2n2lab.checkpoint.io.problems import Problems
from m2n2lab.checkpoint.live.live_module import LiveModule
from m2n2lab.core.spaces.recipe import Recipe


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def saved(module, path):
    state = module.state_dict()
    save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
    return path


def halves(order=(0, 1)):
    """Return the paths of networks that were trained on halves of the digits."""
    return [saved(trained(half), f"{half}.safetensors") for half in order]


def weights(folder):
    (path,) = Path(folder).glob("*.safetensors")
    return load_file(path)


def loaded(build, folder):
    module = build()
    module.load_state_dict(weights(folder), strict=True)
    return module.eval()


# -- two networks with BatchNorm on halves of the digits ------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_every_seed_has_its_own_accuracy_in_either_order(order):
    evolver = Evolver(task(), CheckpointSpace(*halves(order), module=network()), rng=0)
    own = [accuracy(trained(half).eval()) for half in order]
    assert [member.score for member in evolver.archive.members] == own


def test_what_was_scored_is_what_is_saved():
    space = CheckpointSpace(*halves(), module=network().train())
    evolver = Evolver(task(), space, rng=0).run(40)
    assert evolver.best.parents
    space.save(evolver.best, "best")
    fresh = loaded(network, "best")
    assert accuracy(fresh) == evolver.best.score
    assert accuracy(fresh, held_out=True) == evolver.test


def test_a_checkpoint_space_merges_as_a_dense_one():
    """The order of their vectors differs, so the split is at an end; grandchildren are compared."""
    dense = DenseSpace([trained(0), trained(1)])
    space = CheckpointSpace(*halves(), module=network())
    for end in (0, 1):
        children = []
        for each in (dense, space):
            child = each.merge(*each.seeds, end * each.size, 0.3)
            child = each.merge(child, each.seeds[0], (1 - end) * each.size, 0.4)
            model = each.materialise(child)
            children.append({n: v.clone() for n, v in model.state_dict().items()})
        for name, value in children[0].items():
            torch.testing.assert_close(children[1][name], value, rtol=1e-5, atol=1e-6)


def test_a_buffer_has_the_mix_of_its_own_layer():
    space = CheckpointSpace(*halves())
    border = space.plan.offsets["1.weight"] + space.plan.sizes["1.weight"]
    assert space.plan.places == (border - 1, border - 1)
    a, b = (trained(half)[1].running_var for half in (0, 1))
    for split, t in ((border, 0.2), (border - 1, 0.8), (0, 0.8), (space.size, 0.2)):
        space.save(space.merge(*space.seeds, split, 0.2), f"at {split}")
        found = weights(f"at {split}")["1.running_var"]
        torch.testing.assert_close(found, (1 - t) * a + t * b)


def test_statistics_stay_between_the_parents_beyond_their_weights():
    space = CheckpointSpace(*halves())
    child = space.merge(*space.seeds, space.size, 1.5)
    assert child.coef.min() < 0
    assert child.buffers.coef.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("granularity", ["model", "tensor"])
@pytest.mark.parametrize("crossover", ["slerp", "lerp", "per-layer", "task-arithmetic"])
def test_groups_have_the_buffers_of_their_modules(crossover, granularity):
    space = CheckpointSpace(*halves(), module=network(), granularity=granularity)
    groups = {"norm": "1.*", "rest": "*"}
    evolver = Evolver(task(), space, rng=0, crossover=crossover, groups=groups)
    place = space.plan.places[0]
    for _ in range(5):
        proposal = evolver.ask(parents=(0, 1))
        (t,) = (share for i, j, share, _ in evolver.inheritance(proposal) if i <= place < j)
        child = evolver.breed(proposal)
        assert child.buffers.coef == pytest.approx(np.array([[1 - t, t]]))
    frozen = Evolver(task(), space, rng=0, crossover=crossover, freeze="1.*")
    child = frozen.breed(frozen.ask(parents=(1, 0)))
    assert child.buffers.coef.tolist() == [[1.0, 0.0]]


# -- which tensors are buffers ---------------------------------------------------------------------


class Custom(nn.Module):
    """A module with buffers that no name betrays."""

    def __init__(self, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.layer = nn.Linear(4, 4)
        with torch.no_grad():
            self.layer.weight.normal_(generator=draw)
            self.layer.bias.normal_(generator=draw)
        self.register_buffer("level", torch.rand(4, generator=draw))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf, 0.0, 0.0]))
        self.register_buffer("order", torch.randperm(4, generator=draw))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x):
        return torch.softmax(self.layer(x)[:, self.order] * self.level + self.mask, 1)


def test_the_module_says_which_tensors_are_buffers():
    paths = [saved(Custom(seed), f"{seed}.safetensors") for seed in (1, 2)]
    space = CheckpointSpace(*paths, module=Custom(3))
    assert space.size == 20
    assert [*space.plan.buffers.shapes] == ["level", "mask"]
    child = space.merge(*space.seeds, 7, 0.25)
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    scored = space.materialise(child)(inputs).detach().clone()
    space.save(child, "out")
    assert torch.equal(loaded(lambda: Custom(4), "out")(inputs), scored)
    t = 0.75  # the buffers belong to the module itself, which has no weights and comes last
    a, b = Custom(1), Custom(2)
    torch.testing.assert_close(weights("out")["level"], (1 - t) * a.level + t * b.level)
    assert torch.equal(weights("out")["order"], a.order)
    assert torch.equal(weights("out")["mask"], a.mask)
    rebuild("out/recipe.json", "again")  # without the module
    for name in ("1.safetensors", "recipe.json", "README.md"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()


@pytest.mark.parametrize(
    ("build", "buffers"),
    [
        (
            lambda: parametrizations.spectral_norm(nn.Linear(4, 3)),
            ["parametrizations.weight.0._u", "parametrizations.weight.0._v"],
        ),
        (lambda: nn.utils.spectral_norm(nn.Linear(4, 3)), ["weight_u", "weight_v"]),
        (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), ["parametrizations.weight.0.base"]),
        (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), []),
        (lambda: nn.BatchNorm1d(4), ["running_mean", "running_var"]),
        (lambda: nn.LayerNorm(4), []),
    ],
)
def test_buffers_of_torchs_modules_are_known_by_name(build, buffers):
    paths = [saved(build(), f"{k}.safetensors") for k in range(2)]
    space = CheckpointSpace(*paths)
    assert [*space.plan.buffers.shapes] == buffers
    assert space.size == sum(p.numel() for p in build().parameters())
    assert not {"buffers", "ties"} & space.record(space.seeds[0]).to_json().keys()


def test_a_seed_without_the_buffers_is_refused():
    saved(nn.BatchNorm1d(4), "a.safetensors")
    saved(nn.BatchNorm1d(4, track_running_stats=False), "b.safetensors")
    with pytest.raises(Problems, match="running_mean"):
        CheckpointSpace("a.safetensors", "b.safetensors")
    saved(nn.BatchNorm1d(3), "c.safetensors")
    with pytest.raises(Problems, match=r"running_mean: expected shape \(4,\)"):
        CheckpointSpace("a.safetensors", "c.safetensors")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_seed_with_odd_statistics_is_refused_by_name(bad):
    a, b = trained(0), trained(1)
    b[1].running_var[2] = bad
    space = CheckpointSpace(saved(a, "a.safetensors"), saved(b, "b.safetensors"))
    with pytest.raises(Problems, match=r"1\.running_var[^?]*entry 2"):
        space.save(space.merge(*space.seeds, 5, 0.5), "out")


def test_statistics_keep_their_dtype_where_another_is_asked_for_the_weights():
    space = CheckpointSpace(*halves(), dtype="bfloat16")
    space.save(space.seeds[1], "out")
    out = weights("out")
    assert (out["0.weight"].dtype, out["1.running_var"].dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(out["1.running_var"], trained(1)[1].running_var)


def test_buffers_that_are_equal_in_all_seeds_stay_bit_for_bit():
    a, b = trained(0).double(), trained(1).double()
    same = torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for model in (a, b):
        model[1].running_mean.copy_(same)
    space = CheckpointSpace(saved(a, "a.safetensors"), saved(b, "b.safetensors"))
    for mix in np.linspace(0.0, 1.0, 20):
        space.save(space.merge(*space.seeds, 0, float(mix)), f"{mix}")
        assert torch.equal(weights(f"{mix}")["1.running_mean"], same)


def test_seeds_of_different_dtypes_are_merged_with_their_buffers():
    paths = [saved(trained(0), "a.safetensors"), saved(trained(1).bfloat16(), "b.safetensors")]
    space = CheckpointSpace(*paths)
    space.save(space.merge(*space.seeds, 0, 0.5), "out")
    a, b = trained(0)[1].running_mean, trained(1).bfloat16()[1].running_mean.float()
    torch.testing.assert_close(weights("out")["1.running_mean"], (a + b) / 2)


def test_a_space_in_another_process_knows_the_same_buffers():
    paths = [saved(Custom(seed), f"{seed}.safetensors") for seed in (1, 2)]
    space = CheckpointSpace(*paths, module=Custom(3))
    again = cloudpickle.loads(cloudpickle.dumps(space))
    assert again.plan.buffers.shapes == space.plan.buffers.shapes
    child = space.merge(*space.seeds, 7, 0.25)
    level = space.materialise(child).level
    assert torch.equal(again.materialise(again.genome(space.pack(child))).level, level)


# -- tensors under two names -----------------------------------------------------------------------


class Shared(nn.Module):
    """Two layers with one BatchNorm, and one weight under two names."""

    def __init__(self, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.again = self.norm
        self.two.weight = self.one.weight
        with torch.no_grad():
            for value in self.state_dict().values():
                if value.is_floating_point():
                    value.uniform_(0.5, 1.5, generator=draw)

    def forward(self, x):
        return self.again(self.two(self.norm(self.one(x))))


def test_what_the_module_has_once_is_merged_once_and_saved_under_all_names():
    paths = [saved(Shared(seed), f"{seed}.safetensors") for seed in (1, 2)]
    space = CheckpointSpace(*paths, module=Shared(3))
    assert space.size == sum(p.numel() for p in Shared().parameters())
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for seed, genome in zip((1, 2), space.seeds, strict=True):
        assert torch.equal(space.materialise(genome)(inputs), Shared(seed).eval()(inputs))
    for split in range(space.size + 1):
        child = space.merge(*space.seeds, split, 0.25)
        scored = space.materialise(child)(inputs).detach().clone()
        space.save(child, f"at {split}")
        assert torch.equal(loaded(Shared, f"at {split}")(inputs), scored)
    rebuild("at 5/recipe.json", "rebuilt")
    for name in ("1.safetensors", "recipe.json", "README.md"):
        assert Path("rebuilt", name).read_bytes() == Path("at 5", name).read_bytes()


# -- the live module -------------------------------------------------------------------------------


def test_the_module_is_scored_in_eval_mode_whatever_a_task_does():
    space = CheckpointSpace(*halves(), module=network().train())
    own = accuracy(space.materialise(space.seeds[0]))
    space.materialise(space.seeds[0]).train()
    assert accuracy(space.materialise(space.seeds[0])) == own == accuracy(trained(0).eval())


# -- recipes in stores, records and workers --------------------------------------------------------


def test_a_run_is_resumed_and_branched_with_its_buffers():
    space = CheckpointSpace(*halves(), module=network())
    straight = Evolver(task(), space, rng=0, archive_size=4).run(12, store="runs.db")
    again = Evolver.resume("runs.db", task=task(), seeds=space)
    branch = store.branch("runs.db", step=8, task=task(), seeds=space)
    assert [m.genome for m in again.archive.members] == [m.genome for m in straight.archive.members]
    branch.run(4)
    assert [m.genome for m in branch.archive.members] == [
        m.genome for m in straight.archive.members
    ]
    assert any(m.parents and m.genome.buffers is not None for m in again.archive.members)


def test_packed_recipes_and_json_keep_their_buffers():
    space = CheckpointSpace(*halves())
    child = space.merge(*space.seeds, 50, 0.3)
    assert space.genome(space.pack(child)) == child
    assert Recipe.from_json(json.loads(json.dumps(child.to_json()))) == child
    bare = child.with_buffers(None)
    assert bare != child
    assert "buffers" not in bare.to_json()
    for use in (space.genome, space.materialise, lambda r: space.save(r, "out")):
        with pytest.raises(InputError, match="must have 8 entries of buffers"):
            use(bare)


def test_a_recipe_of_an_earlier_version_is_rebuilt_with_the_first_seeds_statistics():
    paths = [saved(trained(half), f"{half}.safetensors") for half in (0, 1)]
    plan = preflight(paths, known=None).plan
    assert plan.buffers.size == 0
    space = CheckpointSpace.of(plan)
    space.save(space.merge(*space.seeds, 50, 0.3), "out")
    assert torch.equal(weights("out")["1.running_var"], trained(0)[1].running_var)
    rebuild("out/recipe.json", "again")
    assert weights("again").keys() == weights("out").keys()
    for name, value in weights("out").items():
        assert torch.equal(weights("again")[name], value)


def test_carried_tensors_are_written_into_the_module():
    saved(trained(0), "a.safetensors")
    module = network()
    live = LiveModule(preflight(["a.safetensors", "a.safetensors"]).plan, module)
    assert live.model[1].num_batches_tracked == trained(0)[1].num_batches_tracked > 0
    assert np.isfinite(module[1].running_var.numpy()).all()


# -- statistics computed anew on data --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_recalibrated_models_are_scored_saved_and_rebuilt_with_new_statistics(dtype):
    X = images()[0][0][:200]
    batches, plain = [X[:100], X[100:]], CheckpointSpace(*halves(), module=network())
    space = CheckpointSpace("0.safetensors", "1.safetensors", module=network(), dtype=dtype,
                            recalibrate=batches)  # fmt: skip
    child = space.merge(*space.seeds, 300, 0.4)
    scored = {name: t.clone() for name, t in space.materialise(child).state_dict().items()}
    if dtype is None:  # torch's own helper gives the same
        expected = plain.model(plain.merge(*plain.seeds, 300, 0.4))
        torch.optim.swa_utils.update_bn(batches, expected)
        for name in ("1.running_mean", "1.running_var"):
            torch.testing.assert_close(scored[name], expected.state_dict()[name])
    space.save(child, "out.safetensors")
    written = load_file("out.safetensors")
    for name in ("1.running_mean", "1.running_var", "6.weight"):
        assert torch.equal(written[name].float(), scored[name])
    assert torch.equal(space.model(child)(X[:5]), space.materialise(child)(X[:5]))
    rebuild("out.recipe.json", "again.safetensors")
    assert Path("again.safetensors").read_bytes() == Path("out.safetensors").read_bytes()
    assert "computed anew" in Path("out.md").read_text()
    twin = cloudpickle.loads(cloudpickle.dumps(space))
    assert torch.equal(twin.materialise(child)(X[:5]), space.materialise(child)(X[:5]))


def test_a_run_is_resumed_with_the_data_of_its_recalibration_alone():
    X, paths = images()[0][0][:100], halves()
    space = CheckpointSpace(*paths, module=network(), recalibrate=[X])
    straight = Evolver(task(), space, rng=0, archive_size=4).run(6, store="runs.db")
    again = Evolver.resume("runs.db", task=task(), seeds=space)
    assert [m.genome for m in again.archive.members] == [m.genome for m in straight.archive.members]
    for other in ([X + 1], None):
        wrong = CheckpointSpace(*paths, module=network(), recalibrate=other)
        with pytest.raises(InputError, match="must have recalibrate on"):
            Evolver.resume("runs.db", task=task(), seeds=wrong)


def test_recalibration_of_checkpoints_needs_a_module_with_batchnorm():
    with pytest.raises(InputError, match="modules that have BatchNorm layers"):
        CheckpointSpace(*halves(), recalibrate=[images()[0][0][:10]])


def test_a_module_that_was_scored_gives_models_and_goes_to_workers():
    space = CheckpointSpace(*halves(), module=network())
    child = space.merge(*space.seeds, 300, 0.4)
    X = images()[0][0][:5]
    scored = space.materialise(child)(X)
    assert torch.equal(space.model(child)(X), scored)
    twin = cloudpickle.loads(cloudpickle.dumps(space))
    assert torch.equal(twin.materialise(child)(X), scored)
