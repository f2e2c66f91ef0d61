"""Settings: parameters of links, refused combinations, and code that repeats a search."""

from dataclasses import replace

import numpy as np
import pytest

import m2n2lab
from m2n2lab import InputError
from m2n2lab.config.builders import build_evolver, code_of, used_options
from m2n2lab.config.settings import Settings
from m2n2lab.core.methods.registry import METHODS


def test_a_link_sets_a_search_whose_own_query_makes_it_again():
    linked = Settings().with_query(
        {"method": "ga", "seed": "7", "archive_size": "12", "alpha": "0.5", "theme": "dark"}
    )
    assert (linked.method, linked.seed) == ("ga", 7)
    assert linked.options == {"archive_size": 12, "alpha": 0.5}
    assert Settings().with_query(linked.query()) == linked


def test_empty_parameters_of_a_link_change_nothing():
    base = Settings(method="map-elites", seed=3, options={"archive_size": 9})
    assert base.with_query({"seed": "", "alpha": "", "pretrained": "0"}) == base


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"method": "<script>"}, "no method named '<script>'"),
        ({"task": "mnist"}, "no task named 'mnist'"),
        ({"seed": "-1"}, "seed must be an integer >= 0"),
        ({"seed": "1e400"}, "seed must be an integer"),
        ({"seed": "x" * 1000}, "seed must be a number"),
        ({"archive_size": "100000"}, r"archive_size must be a number in \[2, 200\]"),
        ({"alpha": "nan"}, None),
    ],
)
def test_wrong_parameters_of_a_link_are_refused(query, words):
    with pytest.raises(InputError, match=words):
        build_evolver(Settings().with_query(query))


@pytest.mark.parametrize("name", ["data", "device", "threads", "hidden"])
def test_a_link_cannot_set_paths_or_the_use_of_the_machine(name):
    assert Settings().with_query({name: "/etc"}) == Settings()


@pytest.mark.parametrize("pretrained", [False, True])
def test_the_code_repeats_the_search(pretrained):
    settings = Settings(seed=4, pretrained=pretrained, options={"archive_size": 6})
    names = {}
    exec(code_of(settings, 30), names)
    evolver, same = names["evolver"], build_evolver(settings).run(30)
    assert isinstance(evolver, m2n2lab.Evolver)
    assert evolver.archive.ids == same.archive.ids
    np.testing.assert_array_equal(evolver.archive.scores, same.archive.scores)


def test_language_tasks_are_available_if_there_are_models_for_them(monkeypatch):
    monkeypatch.setattr("m2n2lab.zoo.language.trained", lambda: False)
    monkeypatch.setattr("m2n2lab.zoo.images.trained", lambda: False)
    assert Settings().tasks == ("digits",)
    own = Settings("gsm8k", models=("a", "b"), limit=7)
    assert own.tasks == ("gsm8k", "digits", "webshop", "gsm8k+webshop")
    linked = own.with_query({"task": "webshop"})
    assert (linked.models, linked.limit) == (("a", "b"), 7)
    assert own.with_query({"task": "digits"}) == Settings()
    monkeypatch.setattr("m2n2lab.zoo.images.trained", lambda: True)
    assert own.with_query({"task": "text2image"}) == Settings("text2image")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings("digits", models=("a", "b")), "Models, a limit, .* checkpoints, got 'digits';"),
        (Settings("digits", style="chat"), "only used by language tasks, got 'digits';"),
        (Settings("digits", vocab="union"), "only used by language tasks, got 'digits';"),
        (Settings("gsm8k", models=("a", "b"), vocab="comon"), "did you mean 'common'"),
        (Settings("gsm8k", vocab="union"), "components cannot be used with the zoo"),
        (Settings("gsm8k", components=("unet",)), "only used by image tasks, got 'gsm8k';"),
        (Settings("text2image", components=("unet",)), "components cannot be used with"),
        (Settings("gsm8k", models=("a",)), "needs at least two models, got only 'a'"),
        (Settings("gsm8k", pretrained=True), "always starts from trained models"),
        (Settings("gsm8k", style="alpaca"), "only know their own problems and prompts"),
        (Settings("webshop", models=("a", "b"), style="poem"), "no prompt style named 'poem'"),
        (Settings("gsm8k", limit=0), "limit must be an integer >= 1"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        settings.check()


def test_the_code_of_a_language_search_names_its_models_and_tasks():
    settings = Settings("gsm8k+webshop", seed=3, models=("org/a", "b"), limit=9, style="alpaca")
    assert code_of(settings, 40) == (
        "import m2n2lab as lab\n\n"
        "task = lab.tasks.gsm8k(limit=9, style='alpaca') + lab.tasks.webshop(limit=9)\n"
        "seeds = lab.CheckpointSpace('org/a', 'b', vocab='union')\n"
        'evolver = lab.make_evolver("m2n2", task, seeds, rng=3, archive_size=10)\n'
        "evolver.run(40)\n"
    )
    assert "vocab='first'" in code_of(replace(settings, vocab="first"), 1)
    assert "lab.zoo.word_problems()" in code_of(Settings("gsm8k"), 1)
    assert "lab.zoo.language_pair()" in code_of(Settings("gsm8k"), 1)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "cycle-qd"])
def test_the_options_that_are_shown_are_those_that_a_search_uses(method, digits):
    settings = Settings(method=method)
    used, evolver = used_options(settings), build_evolver(settings, digits)
    own = method == "map-elites"  # its cells follow from its axes
    assert used["archive_size"] == (None if own else evolver.archive.size)
    assert used["alpha"] == evolver.archive.alpha
    assert used["mutation"] == evolver.mutation


def test_searches_over_checkpoints_have_a_small_archive_unless_the_method_has_its_own():
    assert used_options(Settings("gsm8k"))["archive_size"] == 10
    assert used_options(Settings("gsm8k", "map-elites"))["archive_size"] is None
    assert used_options(Settings("gsm8k", options={"archive_size": 7}))["archive_size"] == 7
    assert used_options(Settings("gsm8k", "ga"))["alpha"] == 0.0
