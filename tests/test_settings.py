"""What an address may ask for, and code that makes the same search again."""

import numpy as np
import pytest

import m2n2lab
from m2n2lab import InputError
from m2n2lab.settings import Settings


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
        ({"seed": "-1"}, "seed must be a whole number of at least 0"),
        ({"seed": "1e400"}, "seed must be a whole number"),
        ({"seed": "x" * 1000}, "seed must be a number"),
        ({"archive_size": "100000"}, "archive_size must be a number between 2 and 200"),
        ({"alpha": "nan"}, None),
    ],
)
def test_a_stranger_s_nonsense_is_one_sentence(query, words):
    with pytest.raises(InputError, match=words):
        Settings().asked(query).make()


@pytest.mark.parametrize("name", ["data", "device", "threads", "hidden"])
def test_paths_and_the_machine_are_not_a_stranger_s_to_choose(name):
    assert Settings().asked({name: "/etc"}) == Settings()


@pytest.mark.parametrize("pretrained", [False, True])
def test_the_code_makes_the_same_search(pretrained):
    settings = Settings(seed=4, pretrained=pretrained, options={"archive_size": 6})
    names = {}
    exec(settings.code(30), names)
    evolver, same = names["evolver"], settings.make().run(30)
    assert isinstance(evolver, m2n2lab.Evolver)
    assert evolver.archive.ids == same.archive.ids
    np.testing.assert_array_equal(evolver.archive.scores, same.archive.scores)
