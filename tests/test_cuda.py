"""What a GPU must do as the processor does. Without one all of this is skipped."""

import copy
import json

import numpy as np
import pytest
import torch
from helpers.checkpoints import llama, pipeline, unet
from helpers.language import answers
from helpers.stores import same_archive
from typer.testing import CliRunner

from m2n2lab import CheckpointSpace, DenseSpace, Evolver, InputError, ProcessExecutor, tasks, zoo
from m2n2lab.cli import app
from m2n2lab.core.spaces.space import checked_device
from m2n2lab.tasks.images.shapes import LANGUAGES
from m2n2lab.tasks.language.generation import Generator
from m2n2lab.zoo.arithmetic import sample_problems
from m2n2lab.zoo.images import captions

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is there")

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def bits(model):
    """Return a module's weights by name, as the bytes of what a CPU reads."""
    return {
        name: value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, value in model.state_dict().items()
    }


def run(*words):
    return CliRunner().invoke(app, ["evolve", *words], catch_exceptions=False)


@pytest.fixture(scope="module")
def digits_on():
    """The same search on the digits on both devices, by device."""
    found = {}
    for device in ("cpu", "cuda"):
        task = tasks.digits(device=device)
        found[device] = Evolver(task, task.random_seeds(rng=0), rng=0)
        found[device].run(300)
    return found


def test_members_of_a_search_score_the_same_on_both_devices(digits_on):
    here, there = digits_on["cpu"], digits_on["cuda"]
    assert there.space.materialise(there.best.genome).is_cuda
    for member in here.archive.members:
        one = here.task.evaluate(here.space.materialise(member.genome))
        other = there.task.evaluate(there.space.materialise(member.genome))
        # A rounding may turn what is nearly a tie between two digits.
        assert np.mean(one == other) >= 0.998
    assert len(there.history) == len(here.history) == 300


def test_a_search_on_a_gpu_is_the_same_each_time(digits_on):
    task = tasks.digits(device="cuda")
    again = Evolver(task, task.random_seeds(rng=0), rng=0)
    again.run(300)
    assert same_archive(again.archive, digits_on["cuda"].archive)


def test_some_points_of_a_gpus_scores_are_those_of_all(digits_on):
    search = digits_on["cuda"]
    model = search.space.materialise(search.best.genome)
    whole = search.task.evaluate(model)
    where = np.arange(0, len(whole), 3)
    assert np.mean(search.task.evaluate(model, where) == whole[where]) >= 0.998


def test_seeds_are_trained_on_a_gpu():
    task = tasks.digits(device="cuda")
    space = task.space(task.trained_seeds(rng=0))
    for seed, known in zip(space.seeds, (range(5), range(5, 10)), strict=True):
        by_class = task.by_class(task.evaluate(space.materialise(seed)))
        right = np.array(list(by_class.values()))
        assert right[known].min() > 0.8
        assert np.delete(right, known).max() < 0.1


def test_a_module_on_a_gpu_takes_on_the_weights_of_each_model():
    modules = [torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 2)) for _ in range(2)]
    here, there = (DenseSpace(modules, device=device) for device in ("cpu", "cuda"))
    child = here.merge(*here.seeds, split=20, mix=0.3)
    model = there.materialise(child)
    assert next(model.parameters()).is_cuda
    assert bits(model) == bits(here.materialise(child))


def test_modules_that_live_on_a_gpu_can_be_seeds():
    modules = [torch.nn.Linear(5, 7), torch.nn.Linear(5, 7)]
    here = DenseSpace(modules)
    there = DenseSpace([copy.deepcopy(module).to("cuda") for module in modules])
    assert all(
        a.values.tolist() == b.values.tolist() for a, b in zip(here.seeds, there.seeds, strict=True)
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_checkpoint_on_a_gpu_has_the_very_bits_of_one_on_the_cpu(tmp_path, dtype, tied):
    seeds = [llama(tmp_path / name, k, DTYPES[dtype], tied) for k, name in enumerate("AB")]
    here, there = (CheckpointSpace(*seeds, dtype=dtype, device=where) for where in ("cpu", "cuda"))
    for split, mix in ((here.size // 3, 0.3), (here.size, 0.8)):
        recipe = here.merge(*here.seeds, split=split, mix=mix)
        model = there.materialise(recipe)
        assert {value.device.type for value in model.parameters()} == {"cuda"}
        assert bits(model) == bits(here.materialise(recipe))


def test_a_merge_takes_no_more_of_the_gpus_memory_than_the_model(tmp_path):
    wide = {"hidden_size": 1024, "intermediate_size": 2048, "vocab_size": 8192}
    space = CheckpointSpace(
        *(llama(tmp_path / name, k, **wide) for k, name in enumerate("AB")), device="cuda"
    )
    space.materialise(space.seeds[0])
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    space.materialise(space.merge(*space.seeds, split=space.size // 2, mix=0.5))
    assert torch.cuda.max_memory_allocated() == before


def test_weights_scattered_over_a_gpus_memory_are_filled_too(tmp_path):
    from diffusers import UNet2DConditionModel

    seeds = [unet(tmp_path / name, k) for k, name in enumerate("AB")]
    module = UNet2DConditionModel.from_pretrained(seeds[0])
    module = module.to("cuda", memory_format=torch.channels_last)
    assert any(not value.is_contiguous() for value in module.parameters())
    here, there = CheckpointSpace(*seeds), CheckpointSpace(*seeds, module=module)
    recipe = here.merge(*here.seeds, split=here.size // 2, mix=0.3)
    assert bits(there.materialise(recipe)) == bits(here.materialise(recipe))


def test_a_pipelines_parts_are_merged_on_a_gpu(tmp_path):
    seeds = [pipeline(tmp_path / name, k) for k, name in enumerate("AB")]
    here, there = (CheckpointSpace(*seeds, device=device) for device in ("cpu", "cuda"))
    recipe = here.merge(*here.seeds, split=here.size // 2, mix=0.3)
    one, other = here.materialise(recipe), there.materialise(recipe)
    assert bits(one.unet) == bits(other.unet)
    assert next(other.unet.parameters()).is_cuda


def test_a_gpu_answers_as_the_cpu_does():
    task = zoo.word_problems(24, 0) + zoo.shop(16, 0)
    scores = []
    for device in ("cpu", "cuda"):
        space = zoo.language_pair(device)
        child = space.merge(*space.seeds, split=space.size // 2, mix=0.3)
        models = (*space.seeds, child)
        scores.append(np.array([task.evaluate(space.materialise(each)) for each in models]))
    here, there = scores
    assert here[0][:24].mean() > 0.8 > 0.2 > here[1][:24].mean()
    assert np.mean(np.abs(here - there) < 1e-6) >= 0.95  # single precision, summed otherwise


def test_a_gpu_draws_what_the_cpu_draws():
    task, prompts = zoo.shapes(4, 0), captions("test", LANGUAGES, 8)
    drawn = []
    for device in ("cpu", "cuda"):
        space = zoo.image_specialists(device)
        child = space.merge(space.seeds[0], space.seeds[1], split=space.size // 2, mix=0.5)
        drawn.append(task.draw(space.materialise(child), prompts))
    for one, other in zip(*drawn, strict=True):
        assert one.score == pytest.approx(other.score, abs=0.1)  # half precision on the GPU
        apart = np.abs(np.asarray(one.picture, float) - np.asarray(other.picture, float))
        assert apart.mean() < 8  # of 255


def test_a_batch_too_large_for_the_gpu_is_halved_and_the_answers_stay():
    space = zoo.language_pair("cuda")
    model = space.materialise(space.seeds[0])
    task = zoo.word_problems(24, 0)
    tokenizer = task.tokenizer(model)
    prompts = [
        task.prompt(problem.question, tokenizer) for problem in sample_problems("search", 24)
    ] * 40
    few = Generator(max_new_tokens=8, batch=64)
    expected = answers(few, (model, tokenizer), prompts)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**27) / total)
    try:
        many = Generator(max_new_tokens=8, batch=len(prompts))
        found = answers(many, (model, tokenizer), prompts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert many.batch < len(prompts)
    assert np.mean([one == other for one, other in zip(found, expected, strict=True)]) > 0.99


def test_workers_share_a_gpu():
    task = tasks.digits(device="cuda")
    search = Evolver(task, task.random_seeds(rng=0), rng=0)
    with ProcessExecutor(workers=2) as pool:
        search.run(40, executor=pool)
    assert len(search.history) == 40
    best = search.archive.best
    scores = task.evaluate(search.space.materialise(best.genome))
    assert np.mean(scores == search.archive.scores_of(best.id)) >= 0.998


def test_the_command_line_searches_on_a_gpu_and_goes_on_from_a_store(tmp_path):
    store = str(tmp_path / "runs.db")
    made = run("--steps", "60", "--device", "cuda", "--store", store, "--json")
    assert made.exit_code == 0, made.output
    again = CliRunner().invoke(app, ["resume", store, "--steps", "140", "--json"])
    assert again.exit_code == 0, again.output
    whole = run("--steps", "200", "--device", "cuda", "--json")
    one, other = (json.loads(result.stdout) for result in (again, whole))
    assert (one["steps"], one["best"]) == (other["steps"], other["best"])


@pytest.mark.parametrize("task", ["gsm8k", "text2image"])
def test_the_command_line_searches_models_of_the_zoo_on_a_gpu(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a contact sheet goes
    torch.cuda.reset_peak_memory_stats()
    made = run("--task", task, "--device", "cuda", "--steps", "2", "--limit", "4", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["steps"] == 2
    assert torch.cuda.max_memory_allocated() > 2**20


def test_a_gpu_that_is_not_there_is_said_to_be_missing():
    count = torch.cuda.device_count()
    with pytest.raises(InputError, match=f"'cuda:{count}' is not available: .* only {count} CUDA"):
        checked_device(f"cuda:{count}")
