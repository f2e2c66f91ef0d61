"""What an address may ask for, and code that makes the same search again."""

import numpy as np
import pytest

import m2n2lab
from m2n2lab import InputError
from m2n2lab.config.builders import build_evolver, code_of
from m2n2lab.config.settings import Settings


def test_an_address_asks_for_a_search_and_its_own_query_makes_it_again():
    asked = Settings().asked(
        {"method": "ga", "seed": "7", "archive_size": "12", "alpha": "0.5", "theme": "dark"}
    )
    assert (asked.method, asked.seed) == ("ga", 7)
    assert asked.options == {"archive_size": 12, "alpha": 0.5}
    assert Settings().asked(asked.query()) == asked


def test_what_is_left_empty_stays_as_it_was():
    base = Settings(method="map-elites", seed=3, options={"archive_size": 9})
    assert base.asked({"seed": "", "alpha": "", "pretrained": "0"}) == base


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
def test_a_stranger_s_nonsense_is_one_sentence(query, words):
    with pytest.raises(InputError, match=words):
        build_evolver(Settings().asked(query))


@pytest.mark.parametrize("name", ["data", "device", "threads", "hidden"])
def test_paths_and_the_machine_are_not_a_stranger_s_to_choose(name):
    assert Settings().asked({name: "/etc"}) == Settings()


@pytest.mark.parametrize("pretrained", [False, True])
def test_the_code_makes_the_same_search(pretrained):
    settings = Settings(seed=4, pretrained=pretrained, options={"archive_size": 6})
    names = {}
    exec(code_of(settings, 30), names)
    evolver, same = names["evolver"], build_evolver(settings).run(30)
    assert isinstance(evolver, m2n2lab.Evolver)
    assert evolver.archive.ids == same.archive.ids
    np.testing.assert_array_equal(evolver.archive.scores, same.archive.scores)


def test_language_tasks_are_offered_where_there_are_models_for_them(monkeypatch):
    monkeypatch.setattr("m2n2lab.zoo.language.trained", lambda: False)
    monkeypatch.setattr("m2n2lab.zoo.images.trained", lambda: False)
    assert Settings().tasks == ("digits",)
    own = Settings("gsm8k", models=("a", "b"), limit=7)
    assert own.tasks == ("gsm8k", "digits", "webshop", "gsm8k+webshop")
    asked = own.asked({"task": "webshop"})
    assert (asked.models, asked.limit) == (("a", "b"), 7)
    assert own.asked({"task": "digits"}) == Settings()
    monkeypatch.setattr("m2n2lab.zoo.images.trained", lambda: True)
    assert own.asked({"task": "text2image"}) == Settings("text2image")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings("digits", models=("a", "b")), "Models and a limit are for tasks of checkpoints"),
        (Settings("digits", style="chat"), "A prompt style is for language tasks"),
        (Settings("gsm8k", components=("unet",)), "Components and a scorer are for models that"),
        (Settings("text2image", components=("unet",)), "data, a prompt style or components came"),
        (Settings("gsm8k", models=("a",)), "needs at least two models, but only 'a'"),
        (Settings("gsm8k", pretrained=True), "always starts from trained models"),
        (Settings("gsm8k", style="alpaca"), "know their own problems and prompts only"),
        (Settings("webshop", models=("a", "b"), style="poem"), "no prompt style named 'poem'"),
        (Settings("gsm8k", limit=0), "limit must be an integer >= 1"),
    ],
)
def test_what_cannot_go_together_is_one_sentence(settings, words):
    with pytest.raises(InputError, match=words):
        settings.check()


def test_the_code_of_a_language_search_names_its_models_and_tasks():
    settings = Settings("gsm8k+webshop", seed=3, models=("org/a", "b"), limit=9, style="alpaca")
    assert code_of(settings, 40) == (
        "import m2n2lab as lab\n\n"
        "task = lab.tasks.gsm8k(limit=9, style='alpaca') + lab.tasks.webshop(limit=9)\n"
        "seeds = lab.CheckpointSpace('org/a', 'b')\n"
        'evolver = lab.make_evolver("m2n2", task, seeds, rng=3, archive_size=10)\n'
        "evolver.run(40)\n"
    )
    assert "lab.zoo.word_problems()" in code_of(Settings("gsm8k"), 1)
    assert "lab.zoo.language_pair()" in code_of(Settings("gsm8k"), 1)
