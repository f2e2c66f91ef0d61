"""Models on the hub: checked before they are downloaded, and merges that are pushed to it."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.checkpoints import chatter, llama, pickled
from helpers.hub import COMMIT, serving_hub
from helpers.merges import files, run, says

import m2n2lab as lab
from m2n2lab import InputError

HEADER = 100_001
"""Bytes that a header takes: more than it has are asked for at once."""


@pytest.fixture
def hub(here):
    with serving_hub(here / "hf") as found:
        yield found


def offered(hub, name, folder):
    """Move a model to the hub."""
    place = Path("of the hub", name)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, place)
    hub.folders[name] = place
    return name


def big(folder, seed=0, **config):
    """Save a model whose weights are far larger than all else."""
    sizes = {"hidden_size": 128, "intermediate_size": 512, "vocab_size": 512}
    return llama(folder, seed, **{**sizes, **config})


def loaded(hub, suffix):
    return {name: size for name, size in hub.sent.items() if name.endswith(suffix)}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_hidden_layers": 3}, ["depth (num_hidden_layers) 2", "3"]),
        ({"vocab_size": 513}, ["a vocabulary of 512 rows", "513 rows", "--vocab common"]),
    ],
)
def test_what_cannot_be_merged_is_not_downloaded(config, words, hub):
    a, b = offered(hub, "org/a", big("a")), offered(hub, "org/b", big("b", 1, **config))
    status, _, error = run("merge", a, b, "-o", "out")
    assert status == 2
    told = " ".join(error.split())
    says(told, *words)
    says(told, "org/b")
    assert "/tmp" not in told
    whole = sum(p.stat().st_size for p in Path("of the hub").rglob("*.safetensors"))
    assert whole > 1_000_000
    assert sum(loaded(hub, ".safetensors").values()) <= 2 * HEADER
    assert not list(Path("hf").rglob("*.safetensors"))


def test_a_model_in_pickles_is_compared_by_its_config_first(hub):
    a = offered(hub, "org/a", pickled(big("a")))
    b = offered(hub, "org/b", big("b", 1, num_hidden_layers=3))
    says(run("merge", a, b, "-o", "out")[2], "depth (num_hidden_layers) 2")
    assert not loaded(hub, ".bin")
    assert not list(Path("hf").rglob("*.safetensors"))


def test_headers_need_no_download_and_a_merge_does_it_once(hub):
    a, b = offered(hub, "org/a", big("a")), offered(hub, "org/b", big("b", 1))
    for sources in ([a], [a, b]):
        status, out, error = run("inspect", "--headers", "--json", *sources)
        assert status == 0, error
        assert json.loads(out)["parameters"] > 500_000
    assert not list(Path("hf").rglob("*.safetensors"))
    hub.sent.clear()
    assert run("merge", a, b, "-o", "out")[0] == 0
    sizes = loaded(hub, ".safetensors")
    for name in ("a", "b"):
        size = Path(f"of the hub/org/{name}/model.safetensors").stat().st_size
        assert size <= sizes[f"org/{name}/model.safetensors"] <= size + HEADER
    record = json.loads(Path("out/recipe.json").read_text())
    assert [seed["commit"] for seed in record["seeds"]] == [COMMIT] * 2
    hub.sent.clear()
    assert run("merge", a, b, "-o", "again")[0] == 0
    assert not hub.sent
    assert files("again") == files("out")


def test_what_is_not_needed_is_not_downloaded_and_what_is_carried_is(hub):
    chatter("a")
    extra = ("consolidated.safetensors", "original/params.json", "checkpoint-5/model.safetensors")
    extra += ("pytorch_model.bin", "optimizer.pt", "int8/model.safetensors")
    kept = ("modeling_x.py", "additional_chat_templates/rag.jinja", "processor_config.json")
    for name in (*extra, *kept):
        Path("a", name).parent.mkdir(exist_ok=True)
        Path("a", name).write_text("{}")
    name = offered(hub, "org/a", "a")
    chatter("b", 1)
    assert run("merge", name, "b", "-o", "out")[0] == 0
    assert not {f"org/a/{each}" for each in extra} & hub.sent.keys()
    assert {each for each in kept if Path("out", each).is_file()} == set(kept)


def test_a_name_that_the_hub_does_not_know_is_one_sentence(hub):
    llama("b")
    status, _, error = run("merge", "org/none", "b", "-o", "out")
    assert status == 2
    says(error, "org/none", "no such file or folder, and the hub says")


# -- push --------------------------------------------------------------------------------------


@pytest.fixture
def merge(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    a = offered(hub, "org/a", chatter("a"))
    chatter(Path("private", "b"), 1)
    Path("out").mkdir()
    assert run("merge", a, Path("private", "b").absolute(), "-o", "out")[0] == 0
    return Path("out")


@pytest.mark.parametrize("public", [False, True])
def test_a_merge_is_pushed_with_all_its_files(public, merge, hub):
    Path("out/.cache").mkdir()
    Path("out/.cache/secret").write_text("x")
    hub.files.update({"model-00001-of-00002.safetensors": b"old", "mine.txt": b"stays"})
    status, _, error = run("push", "out", "me/merged", *(["--public"] if public else []))
    assert status == 0, error
    says(error, "out is at http://127.0.0.1", "me/merged")
    says(" ".join(error.split()), f"as they were given ({Path('private/b').absolute()})")
    assert hub.repositories == {"me/merged": not public}
    mine = {path.as_posix(): (merge / path).read_bytes() for path in files(merge)}
    del mine[".cache/secret"]
    assert hub.files == {**mine, "mine.txt": b"stays"}
    assert len(hub.commits) == 1


def test_the_card_is_valid_and_names_no_path_of_this_computer(merge, here):
    from huggingface_hub import ModelCard

    card = ModelCard.load(merge / "README.md")
    assert card.data.base_model == ["org/a"]
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert card.data.tags == ["merge", "m2n2"]
    assert str(here) not in card.content
    says(card.content, "| A | org/a |", "| B | b |")


def test_what_is_no_merge_or_no_name_is_not_pushed(merge, hub):
    llama("plain")
    for folder, name, sentence in (
        ("plain", "me/x", "must be a recipe.json"),
        ("out", "x", "A repository must be USER/NAME, got 'x'"),
    ):
        with pytest.raises(InputError, match=sentence):
            lab.push(folder, name)
    next(merge.glob("*.safetensors")).unlink()
    with pytest.raises(InputError, match="must hold a whole merge"):
        lab.push("out", "me/x")
    assert not hub.repositories


def test_a_hub_that_refuses_is_one_sentence(merge, hub):
    from huggingface_hub import constants

    constants.ENDPOINT += "/none"
    status, _, error = run("push", "out", "me/x")
    assert status == 2
    says(error, "out could not be uploaded to me/x, and the hub says", "hf auth login")
