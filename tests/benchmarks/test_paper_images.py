"""The paper's third experiment: what is run, what is scored, and what is made of the results."""

import json

import numpy as np
import paper_images
import picture_features
import pytest
from paper_images import METHODS, STATICS, searches

from m2n2lab.tasks.images.diffusion import Prompt
from m2n2lab.tasks.images.shapes import coarse, draw, scenes
from m2n2lab.zoo.images import SPECIALISTS, trained

needs_zoo = pytest.mark.skipif(not trained(), reason="the zoo's picture models are not here")


def test_every_method_gets_as_many_evaluations_and_models_without_a_search_one():
    wanted = searches((*METHODS, *STATICS), 2, 120)
    found = [each for each in wanted if each.measure is paper_images.searched]
    assert {each.steps for each in found} == {120}
    assert [each.seed for each in found] == [0] * len(METHODS) + [1] * len(METHODS)
    assert [each.name for each in wanted if each.steps == 1] == [f"{name}-at-1" for name in STATICS]


def test_a_picture_is_the_more_like_a_drawing_the_more_of_it_is_right():
    first = scenes()[0]
    second = next(s for s in scenes() if not any(a == b for a, b in zip(s, first, strict=True)))
    blurred = (coarse(draw(first)) * 255).clip(0, 255).astype(np.uint8)
    pictures = np.stack([picture_features.drawn(s) for s in (first, second)] + [blurred])
    prompts = [Prompt(first.caption(language)) for language in ("Japanese", "English", "English")]
    same, other, worse = picture_features.Likeness().score(pictures, prompts)
    assert same == pytest.approx(1.0)
    assert other < 0.9 < worse < 0.999


def test_features_name_what_is_drawn_in_new_drawings():
    assert picture_features.accuracy(picture_features.features(), seed=5) > 0.97


def test_attention_is_merged_apart_in_what_the_paper_merges_apart():
    for name, method in METHODS.items():
        apart = "groups" in method.options
        assert apart == (name not in ("no-groups", "cma-es"))


@needs_zoo
@pytest.mark.slow
def test_a_short_search_is_reported_on_in_both_languages_and_its_model_can_be_drawn_again(tmp_path):
    (search,) = searches(["m2n2"], 1, 13)
    rows = paper_images.searched(search)
    last = rows.iloc[-1]
    assert last["step"] == 13
    assert 0.9 < last["ncs-Japanese"] <= 1.0
    assert last["ncs-English"] < last["ncs-Japanese"]
    assert last["distance-Japanese"] > 0.0
    assert -1.0 <= last["consistency"] <= 1.0
    rows.to_csv(tmp_path / "m2n2-at-13.csv", index=False)
    assert len(json.loads(last["recipe"])["coef"][0]) == len(SPECIALISTS)
    text = paper_images.report(tmp_path, 13, "command")
    assert "| M2N2 |  | " in text
    assert (tmp_path / "sheet-at-13.png").read_bytes()[:4] == b"\x89PNG"
