"""An evolver does not care whether its members are vectors or recipes of checkpoints."""

import numpy as np
import pytest
import torch
from helpers.checkpoints import llama
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from m2n2lab import CheckpointSpace, DenseSpace, Evolver, InputError, make_evolver, tasks
from m2n2lab.core.spaces.recipe import Recipe

POINTS = 60


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("llamas")
    return [
        llama(root / name, seed=seed, dtype=torch.float32)
        for seed, name in enumerate(("one", "two", "three"))
    ]


@pytest.fixture(scope="module")
def questions():
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 64, (POINTS, 6), generator=generator)
    answers = torch.randint(0, 4, (POINTS,), generator=generator)
    return tokens, answers


def answer(module, questions, indices):
    """Whether the last token's largest of four logits is the one that was wanted."""
    tokens, answers = questions
    with torch.no_grad():
        logits = module(tokens[indices]).logits[:, -1, :4]
    return (logits.argmax(1) == answers[indices]).numpy()


def flat(folder, names):
    state = LlamaForCausalLM.from_pretrained(folder).state_dict()
    return np.concatenate([state[name].double().flatten().numpy() for name in names])


def search(space, questions, **options):
    task = tasks.from_function(
        lambda module, indices: answer(module, questions, indices), POINTS, name="llama"
    )
    return Evolver(task, space, archive_size=8, rng=3, **options)


@pytest.mark.slow
def test_two_hundred_steps_over_checkpoints_equal_those_over_float64_vectors(folders, questions):
    space = CheckpointSpace(*folders)
    over_recipes = search(space, questions).run(200)

    module = LlamaForCausalLM.from_pretrained(folders[0])
    names = list(space.layout.shapes)

    def show(vector, indices):
        parts = space.layout.split(vector.float())
        module.load_state_dict(parts, strict=True)
        return answer(module, questions, indices)

    dense = DenseSpace([flat(folder, names) for folder in folders], space.layout, dtype="float64")
    task = tasks.from_function(show, POINTS, name="llama")
    over_vectors = Evolver(task, dense, archive_size=8, rng=3).run(200)

    assert over_recipes.archive.ids == over_vectors.archive.ids
    assert over_recipes.best.id == over_vectors.best.id
    np.testing.assert_array_equal(over_recipes.archive.scores, over_vectors.archive.scores)
    assert over_recipes.history.accepted.sum() > 3  # something happened
    best = over_recipes.best
    weights = torch.cat([space.materialise(best.genome).state_dict()[n].flatten() for n in names])
    np.testing.assert_allclose(
        weights.double().numpy(), over_vectors.best.genome.values, rtol=1e-6, atol=1e-9
    )


def test_the_module_is_written_in_place_and_the_same_object_each_time(folders):
    space = CheckpointSpace(*folders)
    first = space.materialise(space.seeds[0])
    place = first.get_parameter("model.norm.weight").data_ptr()
    again = space.materialise(space.seeds[1])
    assert again is first
    assert again.get_parameter("model.norm.weight").data_ptr() == place
    other = LlamaForCausalLM.from_pretrained(folders[1]).state_dict()
    assert all(torch.equal(value, other[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_module_of_any_dtype_takes_the_weights_rounded_once(folders, dtype):
    space = CheckpointSpace(*folders, dtype=dtype)
    child = space.merge(*space.seeds[:2], split=space.size // 3, mix=0.3)
    module = space.materialise(child)
    assert module.dtype == getattr(torch, dtype)
    names = list(space.layout.shapes)
    seeds = [flat(folder, names) for folder in folders]
    exact = np.concatenate(
        [
            sum(c * seed[low:high] for c, seed in zip(coef, seeds, strict=True))
            for low, high, coef in child.pieces(0, space.size)
        ]
    )
    expected = torch.from_numpy(exact).to(getattr(torch, dtype))
    found = torch.cat([module.state_dict()[name].flatten() for name in names])
    assert (found == expected).double().mean() >= 0.9999


def test_parameters_that_lie_scattered_are_written_as_well(folders):
    space = CheckpointSpace(*folders[:2])

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = {
                name: torch.zeros(shape[::-1]).T if len(shape) == 2 else torch.zeros(shape)
                for name, shape in space.layout.shapes.items()
            }

        def state_dict(self):
            return self.table

    module = Odd()
    scattered = CheckpointSpace(*folders[:2], module=module)
    scattered.materialise(scattered.seeds[1])
    other = LlamaForCausalLM.from_pretrained(folders[1]).state_dict()
    assert all(torch.equal(value, other[name]) for name, value in module.table.items())


def test_a_module_with_other_tensors_is_refused(folders):
    space = CheckpointSpace(*folders[:2], module=torch.nn.Linear(3, 3))
    with pytest.raises(InputError, match=r"must have a tensor .*, got none; give the module"):
        space.materialise(space.seeds[0])


def test_mutation_is_refused_before_anything_is_written(folders):
    space = CheckpointSpace(*folders[:2])
    task = tasks.from_function(lambda module, indices: np.ones(len(indices), bool), 3)
    for mutation in (0.1, "noise"):
        with pytest.raises(InputError, match="mutation must be 0 for checkpoints, got"):
            Evolver(task, space, mutation=mutation, rng=0)


@pytest.mark.parametrize("method", ["m2n2-no-crossover", "ga-no-crossover"])
@pytest.mark.parametrize("options", [{}, {"mutation": 0.01}])
def test_a_method_by_mutation_alone_is_refused_with_another_way(folders, method, options):
    task = tasks.from_function(lambda module, indices: np.ones(len(indices), bool), 3)
    with pytest.raises(InputError, match="makes children by mutation alone, which a CheckpointS"):
        make_evolver(method, task, CheckpointSpace(*folders[:2]), **options)


def test_a_search_over_checkpoints_is_saved_and_goes_on_exactly(folders, questions):
    space = CheckpointSpace(*folders, granularity="tensor")
    whole = search(space, questions).run(60)
    half = search(space, questions).run(30)
    other = search(space, questions)
    other.load_state_dict(half.state_dict())
    other.run(30)
    assert whole.history.accepted.sum() > 0
    assert other.archive.ids == whole.archive.ids
    assert [m.genome for m in other.archive.members] == [m.genome for m in whole.archive.members]


class Layers(torch.nn.Module):
    """Three layers of two matrices each."""

    def __init__(self):
        super().__init__()
        layers = [
            torch.nn.ModuleDict({name: torch.nn.Linear(6, 6, bias=False) for name in "qk"})
            for _ in range(3)
        ]
        self.model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList(layers)})


def near(model, indices):
    """Score the entries of a model by how near they are to 0.3."""
    values = torch.cat([value.flatten() for value in model.state_dict().values()]).double()
    return np.exp(-np.abs(values.numpy()[indices] - 0.3))


@pytest.mark.parametrize(("granularity", "mixes"), [("layer", 3), ("tensor", 6), ("group", 2)])
def test_cma_es_on_checkpoints_has_recipes_and_is_resumed_exactly(
    granularity, mixes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        torch.manual_seed(k)
        save_file(Layers().state_dict(), f"{name}.safetensors")
    task = tasks.from_function(near, 64, graded=True)
    groups = {"groups": {"q": "*q.weight", "k": "*k.weight"}} if granularity == "group" else {}

    def space():
        return CheckpointSpace("a.safetensors", "b.safetensors", module=Layers())

    def start():
        return make_evolver(
            "cma-es", task, space(), granularity=granularity, population=5, rng=3, **groups
        )

    whole = start().run(40)
    start().run(17, store="runs.db")
    again = Evolver.resume("runs.db", task=task, seeds=space()).run(23)
    assert again.history.equals(whole.history)
    assert [m.genome for m in again.archive.members] == [m.genome for m in whole.archive.members]
    children = [member.genome for member in whole.archive.members if member.id >= 2]
    assert all(isinstance(genome, Recipe) for genome in children)
    assert {len(np.unique(genome.coef, axis=0)) for genome in children} == {mixes}
