"""Options that commands share: each has one name everywhere, and does what it says."""

import json
import shutil
from pathlib import Path

import pytest
import typer
from helpers.checkpoints import chatter
from helpers.merges import run, says, weights

from m2n2lab import InputError, rebuild, store
from m2n2lab.checkpoint.from_record import moved_seeds
from m2n2lab.cli import app
from m2n2lab.cli.shared_options import seed_map, seed_number

COMMANDS = {command.name: command for command in typer.main.get_command(app).commands.values()}

EVOLVE = ("evolve", "--task", "gsm8k", "--data", "problems.jsonl", "--steps", 2, "--json")
EVOLVE += ("--max-new-tokens", 3)


def options_of(command):
    return {name: each for each in COMMANDS[command].params for name in each.opts}


@pytest.fixture
def pair(here):
    """Two Llamas, the second with a token of its own, and problems."""
    chatter("a", 0, max_position_embeddings=128)
    chatter("b", 1, added=["[PAD]"], pad="[PAD]", max_position_embeddings=128)
    lines = [{"question": f"what is {k}?", "answer": f"It is {k}.\n#### {k}"} for k in range(9)]
    Path("problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return here


@pytest.mark.parametrize(
    ("option", "commands"),
    [
        ("--vocab", ["evolve", "serve", "merge", "inspect"]),
        ("--dtype", ["evolve", "serve", "merge"]),
        ("--tokenizer", ["evolve", "serve", "merge"]),
        ("--map", ["evolve", "serve", "merge", "inspect"]),
        ("--include", ["evolve", "serve", "merge"]),
        ("--exclude", ["evolve", "serve", "merge"]),
        ("--groups", ["evolve", "serve", "merge"]),
        ("--shots", ["evolve", "serve"]),
        ("--max-new-tokens", ["evolve", "serve"]),
        ("--held-out", ["evolve", "serve"]),
        ("--batch", ["evolve", "serve", "resume"]),
        ("--seed-map", ["resume", "rebuild"]),
        ("--trust-remote-code", ["evolve", "serve", "merge", "resume"]),
        ("--workers", ["evolve", "serve", "resume"]),
    ],
)
def test_an_option_is_the_same_wherever_it_is(option, commands):
    found = [options_of(command)[option] for command in commands]
    assert len({(each.help, each.metavar, each.multiple) for each in found}) == 1
    assert len({each.rich_help_panel for each in found}) == 1
    assert found[0].rich_help_panel != "Options"


@pytest.mark.parametrize("command", ["evolve", "serve"])
def test_help_has_a_panel_for_each_subject(command):
    panels = {option.rich_help_panel for option in options_of(command).values()}
    assert {"Search", "Models", "Merging", "Scoring", "Pictures", "Workers"} <= panels


def test_every_option_of_a_search_does_what_it_says(pair):
    status, out, error = run(
        *(*EVOLVE, "--seeds", "a", "b", "--limit", 4, "--held-out", 1, "--shots", 1),
        *("--batch", 2, "--vocab", "common", "--dtype", "fp32"),
        *("--tokenizer", "A", "--include", "*layers*", "--exclude", "*norm*"),
        *("--groups", "attention=*attn*", "--groups", "rest=*"),
        *("--store", "runs.db", "--save", "out"),
    )
    assert status == 0, error
    evolver = store.resume("runs.db")
    task = evolver.task
    assert (len(task.problems), len(task._test), len(task.examples)) == (4, 1, 1)
    assert (task.generator.max_new_tokens, task.generator.batch) == (3, 2)
    assert "Answer: It is" in task.prompt("x")
    assert [group.name for group in evolver.parts.groups] == ["attention", "rest"]
    record = json.loads(Path("out/recipe.json").read_text())
    assert (record["vocab"], record["dtype"], record["tokenizer"]) == ("common", "F32", 0)
    found, first = weights("out"), weights("a")
    assert found["model.norm.weight"].equal(first["model.norm.weight"].float())
    assert json.loads(out)["models"] == ["a", "b"]


def test_the_chosen_tokenizer_is_that_which_is_asked_and_saved(pair):
    status, _, error = run(
        *EVOLVE, "--limit", 2, "--seeds", "a", "b", "--tokenizer", "B", "--save", "out"
    )
    assert status == 0, error
    assert "[PAD]" in Path("out/tokenizer.json").read_text()
    status, _, error = run(*EVOLVE, "--seeds", "a", "b", "--tokenizer", "C")
    assert status == 2
    says(error, "There is no seed named 'C'")


def test_a_run_whose_seed_has_moved_goes_on_as_if_it_had_not(pair):
    asked = ("--limit", 1, "--held-out", 0)
    assert run(*EVOLVE, *asked, "--seeds", "a", "b", "--store", "runs.db")[0] == 0
    expected = store.resume("runs.db").run(1).archive.best.genome
    shutil.move("b", "elsewhere")
    assert run("resume", "runs.db", "--steps", 1)[0] == 2
    status, out, error = run(
        *("resume", "runs.db", "--steps", 1, "--json", "--batch", 1, "--seed-map", "B=elsewhere")
    )
    assert status == 0, error
    assert json.loads(out)["steps"] == 3
    assert store.resume("runs.db", seed_map={"b": "elsewhere"}).archive.best.genome == expected


@pytest.mark.parametrize("key", ["B", "models/b", "b"])
def test_a_seed_that_moved_is_named_by_its_letter_or_name(key):
    assert moved_seeds(["a", "models/b"], {key: "there"}) == ["a", "there"]


def test_another_model_in_the_place_of_a_seed_is_noticed(pair):
    assert run(*EVOLVE, "--seeds", "a", "b", "--limit", 2, "--store", "runs.db")[0] == 0
    chatter("c", 7, added=["[PAD]"], pad="[PAD]", max_position_embeddings=128)
    status, _, error = run("resume", "runs.db", "--steps", 1, "--seed-map", "B=c")
    assert status == 2
    says(error, "must have SHA-256", "give the recorded seeds")


def test_a_merge_is_made_again_of_seeds_that_have_moved(pair):
    assert run("merge", "a", "b", "--vocab", "common", "-o", "out")[0] == 0
    shutil.move("a", "moved")
    assert run("rebuild", "out/recipe.json", "-o", "again")[0] == 2
    status, _, error = run("rebuild", "out/recipe.json", "-o", "again", "--seed-map", "A=moved")
    assert status == 0, error
    name = "model.safetensors"
    assert Path("again", name).read_bytes() == Path("out", name).read_bytes()
    with pytest.raises(InputError, match=r"seed_map must name one seed .*A = a, B = b.* got 'C'"):
        rebuild("out/recipe.json", "third", seed_map={"C": "moved"})


@pytest.mark.parametrize("texts", [["A"], ["=x"], ["A="], ["A=x", "A=y"]])
def test_a_place_that_is_none_is_one_sentence(texts):
    with pytest.raises(InputError, match="--seed-map must be A=PATH, each model once"):
        seed_map(texts)


def test_models_are_letters():
    assert [seed_number(letter, 3) for letter in (None, "A", "c")] == [None, 0, 2]


def test_serve_says_what_evolve_says_of_the_models(pair, monkeypatch):
    from m2n2lab.widgets.server import server

    def stop(*_, **__):
        raise InputError("Served.")

    monkeypatch.setattr(server.pn, "serve", stop)

    def notes(error):
        return [line for line in error.splitlines() if line.startswith("Note: ")]

    options = (*EVOLVE[1:5], "--max-new-tokens", 3, "--limit", 2, "--seeds", "a", "b")
    status, _, served = run("serve", *options)
    assert (status, served.splitlines()[-1]) == (2, "Error: Served.")
    status, _, searched = run("evolve", *options, "--steps", 0)
    assert status == 0
    assert notes(served) == notes(searched)
    says(served, "unrelated", "has 128 rows in a and 129 in b")
    Path("b/model.safetensors").unlink()
    says(run("serve", *options)[2], "expected its weights too")
