"""The zoo's language models: their skills, their limits, and searches from them."""

import json
import os

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from m2n2lab import zoo
from m2n2lab.cli import app
from m2n2lab.config.builders import build_evolver, code_of
from m2n2lab.config.settings import Settings

MODELS = (zoo.BASE, zoo.MATHS, zoo.AGENT)


@pytest.fixture(scope="module")
def asked():
    """Both tasks, small, and each model's scores on them."""
    torch.set_num_threads(1)
    task = zoo.word_problems(24, 4) + zoo.shop(16, 4)
    space = zoo.language_pair()
    task.check_space(space)
    scores = [task.by_class(task.evaluate(space.materialise(seed))) for seed in space.seeds]
    return task, space, scores


def test_all_that_is_shipped_is_small_and_has_no_code():
    files = [file for folder in MODELS for file in folder.rglob("*") if file.is_file()]
    assert sum(os.path.getsize(file) for file in files) <= 8 * 2**20
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md"}
    for folder in MODELS:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        assert config["architectures"] == ["LlamaForCausalLM"]
        assert "auto_map" not in config


def test_each_specialist_knows_its_own_task_and_not_the_others(asked):
    _, _, (maths, agent) = asked
    assert maths["gsm8k"] >= 0.85
    assert maths["webshop"] <= 0.15
    assert agent["webshop"] >= 0.8
    assert agent["gsm8k"] <= 0.15


@pytest.mark.slow
def test_a_merge_can_do_some_of_both(asked):
    task, space, _ = asked
    means = []
    for split, mix in ((space.size, 0.5), (space.size // 2, 0.3), (space.size // 2, 0.7)):
        model = space.materialise(space.merge(*space.seeds, split, mix))
        means.append(task.by_class(task.evaluate(model)))
    assert max(min(mean.values()) for mean in means) > 0.2


@pytest.mark.slow
def test_the_command_line_runs_the_pair_and_saves_a_model_that_transformers_loads(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "merged"
    words = ["evolve", "--task", "gsm8k+webshop", "--steps", "2", "--limit", "4", "--json"]
    done = CliRunner().invoke(app, [*words, "--threads", "1", "--save", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["steps"] == 2
    assert set(result["classes"]) == {"gsm8k", "webshop"}
    model = AutoModelForCausalLM.from_pretrained(out)
    assert AutoTokenizer.from_pretrained(out).eos_token
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert (out / "recipe.json").is_file()


@pytest.mark.slow
def test_the_code_of_a_language_search_makes_it_again():
    settings = Settings("gsm8k", seed=2, limit=3, options={"archive_size": 3})
    names = {}
    exec(code_of(settings, 2), names)
    evolver, same = names["evolver"], build_evolver(settings).run(2)
    assert evolver.archive.ids == same.archive.ids
    np.testing.assert_array_equal(evolver.archive.scores, same.archive.scores)


@pytest.mark.slow
def test_a_language_search_goes_on_from_a_store(tmp_path):
    from m2n2lab import Evolver

    settings = Settings("gsm8k+webshop", limit=3, options={"archive_size": 3})
    straight = build_evolver(settings).run(4)
    build_evolver(settings).run(2, store=tmp_path / "runs.db")
    resumed = Evolver.resume(tmp_path / "runs.db").run(2)
    np.testing.assert_array_equal(resumed.archive.scores, straight.archive.scores)
    assert resumed.archive.ids == straight.archive.ids
