"""Language models as people have them: from the hub, in pickles, with tokens of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import chatter, pickled
from helpers.merges import run, says, weights
from safetensors.torch import load_file

COMMIT = "0" * 40
PAPER = (
    *("evolve", "--task", "gsm8k+webshop", "--seeds"),
    *("WizardLM/WizardMath-7B-V1.0", "AgentGym/AgentEvol-7B"),
)

START = """
import json, sys
import datasets
from pathlib import Path

rows = [json.loads(line) for line in Path("problems.jsonl").read_text().splitlines()]
datasets.load_dataset = lambda name, part: {"train": rows, "test": rows[:2]}
sys.argv[0] = "m2n2lab"
from m2n2lab.cli import main
main()
"""


def hub(folder, name):
    """Move a model into a simulated cache of the hub."""
    cache = Path("hf/hub", f"models--{name.replace('/', '--')}")
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text(COMMIT)
    place = cache / "snapshots" / COMMIT
    place.mkdir(parents=True)
    for path in Path(folder).iterdir():  # the files are links to numbered ones, as on the hub
        blob = cache / "blobs" / f"{len(list(cache.rglob('*'))):064x}"
        blob.parent.mkdir(exist_ok=True)
        shutil.move(path, blob)
        (place / path.name).symlink_to(os.path.relpath(blob, place))
    return place


def command(*arguments):
    """Run the command line in a process of its own, without network."""
    return subprocess.run(
        [sys.executable, "-c", START, *map(str, arguments)],
        env={**os.environ, "HF_HOME": str(Path("hf").absolute()), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def here(here, monkeypatch):
    monkeypatch.setenv("M2N2LAB_CACHE", str(here / "cache"))
    problems = [
        {"question": f"what is {k} + {k}?", "answer": f"It is {2 * k}.\n#### {2 * k}"}
        for k in range(6)
    ]
    Path("problems.jsonl").write_text("".join(json.dumps(each) + "\n" for each in problems))
    return here


@pytest.fixture
def papers(here):
    """Stand-ins for the paper's pair: pickled shards with an added pad token, and a plain Llama."""
    chatter("wizard", 0, added=["[PAD]"], pad="[PAD]", max_position_embeddings=64)
    chatter("agent", 1, max_position_embeddings=64)
    kept = load_file("wizard/model.safetensors"), load_file("agent/model.safetensors")
    pickled("wizard", shards=2)
    snapshot = hub("wizard", "WizardLM/WizardMath-7B-V1.0")
    hub("agent", "AgentGym/AgentEvol-7B")
    assert len(list(snapshot.glob("pytorch_model-*.bin"))) == 2
    return kept


def test_the_papers_pair_is_searched_by_one_command(papers):
    done = command(*PAPER, "--limit", 2, "--steps", 2, "--save", "out", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steps"] == 2
    assert set(result["classes"]) == {"gsm8k", "webshop"}
    told = " ".join(done.stderr.split())
    says(told, "WizardLM/WizardMath-7B-V1.0 holds pickles", "converted once into")
    says(told, "has 129 rows in WizardLM/WizardMath-7B-V1.0 and 128 in AgentGym/AgentEvol-7B")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, words = AutoModelForCausalLM.from_pretrained("out"), AutoTokenizer.from_pretrained("out")
    assert model.config.vocab_size == 129 == len(words)
    assert (model.config.pad_token_id, words.pad_token) == (128, "[PAD]")
    table = weights("out")["model.embed_tokens.weight"]
    assert torch.equal(table[128:], papers[0]["model.embed_tokens.weight"][128:])
    record = json.loads(Path("out/recipe.json").read_text())
    assert [seed["id"] for seed in record["seeds"]] == list(PAPER[4:])
    assert record["vocab"] == "union"
    assert [seed["commit"] for seed in record["seeds"]] == [COMMIT] * 2
    card = Path("out/README.md").read_text().split("---")[1]
    says(card, '- "WizardLM/WizardMath-7B-V1.0"\n- "AgentGym/AgentEvol-7B"', "text-generation")


@pytest.mark.slow
def test_a_recorded_search_of_the_pair_goes_on(papers):
    options = ("--vocab", "common", "--limit", 2)
    done = command(*PAPER, *options, "--steps", 1, "--store", "runs.db", "--json")
    assert done.returncode == 0, done.stderr
    done = command("resume", "runs.db", "--steps", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2


def evolve(*seeds):
    return run(
        *("evolve", "--task", "gsm8k", "--data", "problems.jsonl", "--limit", 2, "--steps", 1),
        *("--json", "--seeds", *seeds),
    )


def test_a_pad_token_without_a_row_is_never_asked_of_a_model(here):
    from transformers import AutoTokenizer

    for k, name in enumerate("ab"):
        chatter(name, k, max_position_embeddings=64)
        words = AutoTokenizer.from_pretrained(name)
        words.add_special_tokens({"pad_token": "[PAD]"})
        words.save_pretrained(name)
    status, out, error = evolve("a", "b")
    assert status == 0, error
    assert json.loads(out)["steps"] == 1


@pytest.mark.parametrize("options", [["--vocab", "union"], ["--vocab=union"]])
def test_options_stand_anywhere_among_several_seeds(options, here):
    for k, name in enumerate(("a", "b", "c d")):
        chatter(name, k, max_position_embeddings=64)
    status, out, error = evolve("a", "b", *options, "--seeds", "c d")
    assert status == 0, error
    assert json.loads(out)["models"] == ["a", "b", "c d"]
    status, _, error = evolve("a", "b", "--limit", 2, "stray")
    assert status == 2
    says(error, "unexpected extra argument", "stray")


def test_a_vocabulary_that_is_refused_says_what_else_there_is(here):
    chatter("a", 0, added=["[PAD]"], max_position_embeddings=64)
    chatter("b", 1, max_position_embeddings=64)
    status, _, error = evolve("a", "b", "--vocab", "refuse")
    assert status == 2
    says(error, "a vocabulary of 129 rows, as in a, but found 128 rows", "--vocab common")
