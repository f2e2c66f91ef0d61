import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.checkpoints import llama, pipeline
from helpers.merges import merged, run, same, sha256

from m2n2lab import CheckpointSpace, rebuild


def test_a_rebuilt_merge_has_the_same_bytes(here, monkeypatch):
    for k, name in enumerate("ab"):
        llama(f"seeds/{name}", k, shards="20KB")
    space = CheckpointSpace("seeds/a", "seeds/b", granularity="tensor", dtype="fp16")
    child = space.merge(*space.seeds, 5000, 0.3)
    space.save(space.merge(child, space.seeds[1], 9000, 0.2), "runs/out")
    assert run("rebuild", "runs/out/recipe.json", "-o", "again")[0] == 0
    assert same("runs/out", "again")
    # From elsewhere: seeds are looked for above the recipe.
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert run("rebuild", "../runs/out/recipe.json", "-o", "again")[0] == 0
    assert same("../runs/out", "again")
    # Moved.
    (here / "seeds").rename(here / "moved")
    status, _, stderr = run("rebuild", "../runs/out/recipe.json", "-o", "third")
    assert status == 2
    assert "seeds/a: expected a folder" in stderr
    places = ["--seed", "../moved/a", "--seed", "../moved/b"]
    status, _, stderr = run("rebuild", "../runs/out/recipe.json", "-o", "third", *places)
    assert status == 0, stderr
    assert same("../runs/out", "third")


@pytest.mark.parametrize("case", ["pipeline", "common", "tokenizer"])
def test_every_kind_of_merge_can_be_made_again(case, here, pair):
    if case == "pipeline":
        for k, name in enumerate("ab"):
            pipeline(name, k)
        merged(components=["text_encoder"])
    elif case == "common":
        llama("a", 0)
        llama("b", 1, vocab_size=80)
        merged("b", "a", vocab="common")
    else:
        for name in "ab":
            shutil.copytree(pair / name, name)
        merged(tokenizer=1)
    rebuild("out/recipe.json", "again")
    assert same("out", "again")


def test_files_added_to_a_seed_later_are_left_out(seeds):
    merged()
    Path("a/notes.txt").write_text("later")
    Path("a/LICENSE").write_text("later")
    rebuild("out/recipe.json", "again")
    assert same("out", "again")


def touch_weights(name):
    with Path(name, "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def touch_config(name):
    path = Path(name, "config.json")
    path.write_text(path.read_text() + "\n")


def lose_tokenizer(name):
    Path(name, "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("seed", "damage", "file", "found"),
    [
        ("a", touch_weights, "model.safetensors", "another, with"),
        ("b", touch_weights, "model.safetensors", "another, with"),
        ("a", touch_config, "config.json", "another, with"),
        ("a", lose_tokenizer, "tokenizer.json", "none"),
    ],
)
def test_a_changed_seed_is_named(seed, damage, file, found, seeds):
    merged()
    digest = sha256(Path(seed, file))
    damage(seed)
    status, _, stderr = run("rebuild", "out/recipe.json", "-o", "again")
    assert status == 2
    assert f"Error: {seed}" in stderr
    assert f"expected the file {file} that seed {seed} had, with SHA-256 {digest[:12]}" in stderr
    assert f"found {found}" in stderr
    assert "use the seed as it was" in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert not Path("again").exists()


def test_seeds_in_another_order_or_number_are_refused(seeds):
    merged()
    status, _, stderr = run("rebuild", "out/recipe.json", "-o", "x", "--seed", "b", "--seed", "a")
    assert status == 2
    assert "b/model.safetensors: expected the file model.safetensors that seed a had" in stderr
    status, _, stderr = run("rebuild", "out/recipe.json", "-o", "x", "--seed", "b")
    assert status == 2
    assert "needs 2 seeds (a, b), got 1; give them all, in this order." in stderr
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record["recipe"]["coef"][0].__setitem__(0, 0.5),
        lambda record: record.update(dtype="F32"),
        lambda record: record["seeds"].pop(),
        lambda record: record["seeds"][0]["files"].popitem(),
        lambda record: record.pop("check"),
        lambda record: record.update(recipe=None),
    ],
)
def test_an_edited_recipe_is_refused(edit, seeds):
    path = merged() / "recipe.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record))  # laid out in another way, which is no harm
    rebuild(path, "again")
    edit(record)
    path.write_text(json.dumps(record))
    status, _, stderr = run("rebuild", path, "-o", "more")
    assert status == 2
    assert "must be as m2n2lab wrote it, but it has been edited; use an unedited copy" in stderr
    assert not Path("more").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "recipe.json must be a recipe.json, but it cannot be read: No such file"),
        ("", "must be a recipe.json of version 1 or 2 that m2n2lab wrote"),
        ("[]", "must be a recipe.json of version 1 or 2 that m2n2lab wrote"),
        ('{"format": "m2n2lab recipe", "version": 9}', "must be a recipe.json of version 1"),
    ],
)
def test_what_is_no_recipe_is_refused(text, words, here):
    if text is not None:
        Path("recipe.json").write_text(text)
    status, _, stderr = run("rebuild", "recipe.json", "-o", "out")
    assert status == 2
    assert words in stderr
    assert len(stderr.strip().splitlines()) == 1
