"""Adapters as seeds of searches and merges from the command line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from helpers.adapters import peft
from helpers.checkpoints import chatter, reader
from helpers.merges import run, weights

from m2n2lab import CheckpointSpace


def llava(folder):
    """Save a model that sees: a Llama like the base with a token for pictures, and an encoder."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes["num_attention_heads"] = 4
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**sizes, image_size=16, patch_size=8),
        text_config={
            **{"model_type": "llama", **sizes, "vocab_size": 129, "max_position_embeddings": 64},
            **{"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        },
        image_token_index=128,
    )
    torch.manual_seed(1)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    reader(folder, added=["<image>"])


@pytest.fixture
def hub(here, monkeypatch):
    """A base, two LoRAs of it that name it, and a model that sees, in a simulated cache."""
    cache = here / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    chatter("base", 0, hidden_size=32, intermediate_size=48, max_position_embeddings=64)
    llava("sees")
    for seed, name in enumerate(("maths", "shop")):
        peft(name, "base", seed)
        config = json.loads(Path(name, "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "org/base"
        Path(name, "adapter_config.json").write_text(json.dumps(config))
    for name in ("base", "maths", "shop", "sees"):
        place = cache / f"models--org--{name}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0" * 40)
        shutil.move(name, place / "snapshots" / ("0" * 40))
    problems = [
        {"question": f"what is {k} + {k}?", "answer": f"It is {2 * k}.\n#### {2 * k}"}
        for k in range(4)
    ]
    Path("problems.jsonl").write_text("".join(json.dumps(each) + "\n" for each in problems))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_search_over_adapters_on_the_hub_is_recorded_saved_and_resumed(hub):
    seeds = ("org/maths", "org/base+org/shop:0.5")
    status, out, err = run(
        *("evolve", "--task", "gsm8k", "--data", "problems.jsonl", "--limit", 2, "--steps", 2),
        *("--seeds", *seeds, "--save", "out", "--store", "runs.db", "--json"),
    )
    assert status == 0, err
    assert json.loads(out)["steps"] == 2
    record = json.loads(Path("out/recipe.json").read_text())
    names = [seed["id"] for seed in record["seeds"]]
    assert names == ["org/base+org/maths", "org/base+org/shop:0.5"]
    assert [seed["adapters"][0]["commit"] for seed in record["seeds"]] == ["0" * 40] * 2
    card = Path("out/README.md").read_text().split("---")[1]
    assert 'base_model:\n- "org/base"\n- "org/maths"\n- "org/shop"\n' in card
    run("rebuild", "out/recipe.json", "-o", "again")
    assert (
        Path("again/model.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()
    )
    status, out, err = run("resume", "runs.db", "--steps", 1, "--json")
    assert status == 0, err
    assert json.loads(out)["steps"] == 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_model_that_sees_is_searched_with_a_language_model_and_its_adapter(hub):
    status, out, err = run(
        *("evolve", "--task", "gsm8k", "--data", "problems.jsonl", "--limit", 2, "--steps", 2),
        *("--seeds", "org/sees", "org/base+org/maths", "--max-new-tokens", 4),
        *("--save", "out", "--store", "runs.db", "--json"),
    )
    assert status == 0, err
    record = json.loads(Path("out/recipe.json").read_text())
    assert [seed["id"] for seed in record["seeds"]] == ["org/sees", "org/base+org/maths"]
    assert record["map"][-1] == "language_model.model.*=model.*"
    run("rebuild", "out/recipe.json", "-o", "again")
    first, second = weights("out"), weights("again")
    assert all((first[name] == second[name]).all() for name in first)
    status, out, err = run("resume", "runs.db", "--steps", 1, "--json")
    assert status == 0, err
    assert json.loads(out)["steps"] == 3


@pytest.mark.filterwarnings("ignore")
def test_the_adapter_of_a_mapped_model_counts_live_and_saved(hub):
    space = CheckpointSpace("org/sees", "org/base+org/maths", vocab="union")
    other = CheckpointSpace("org/sees", "org/base", vocab="union")
    child = space.merge(*space.seeds, space.size // 2, 0.4)
    space.save(child, "out")
    other.save(other.merge(*other.seeds, other.size // 2, 0.4), "without")
    live = space.materialise(child).state_dict()
    saved, without = weights("out"), weights("without")
    name = "language_model.model.layers.0.self_attn.q_proj.weight"
    assert (saved[name] != without[name]).any()
    (key,) = (
        key for key in live if key.endswith("language_model.layers.0.self_attn.q_proj.weight")
    )
    assert (live[key] == saved[name]).all()
