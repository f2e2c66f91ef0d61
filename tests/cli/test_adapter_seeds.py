"""Adapters as seeds of searches and merges from the command line."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.adapters import peft
from helpers.checkpoints import chatter
from helpers.merges import run


@pytest.fixture
def hub(here, monkeypatch):
    """A base and two LoRAs of it in a simulated cache of the hub, one of which names its base."""
    cache = here / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    chatter("base", 0, max_position_embeddings=64)
    for seed, name in enumerate(("maths", "shop")):
        peft(name, "base", seed)
        config = json.loads(Path(name, "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "org/base"
        Path(name, "adapter_config.json").write_text(json.dumps(config))
    for name in ("base", "maths", "shop"):
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
