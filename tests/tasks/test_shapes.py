"""Scenes for the zoo's picture models, and the scorer of their drawings."""

import itertools

import numpy as np
import pytest

from m2n2lab import InputError
from m2n2lab.tasks.images.shape_scores import recognise, scene_of, shape_scores
from m2n2lab.tasks.images.shapes import LANGUAGES, PARTS, RADIUS, Scene, coarse, draw, scenes
from m2n2lab.zoo.images import captions, shapes

STAR = Scene("star", "yellow", "small", "black")


def byte(pictures):
    return (np.clip(np.stack(pictures), 0, 1) * 255).round().astype(np.uint8)


def test_every_scene_belongs_to_one_part_and_has_a_caption_of_its_own_in_both_languages():
    parts = [set(scenes(part)) for part in PARTS]
    assert set.union(*parts) == set(scenes())
    assert sum(map(len, parts)) == len(scenes()) == 6 * 8 * 2 * 3
    assert min(map(len, parts)) >= 40
    every = [scene.caption(language) for scene in scenes() for language in LANGUAGES]
    assert len(set(every)) == len(every)
    assert all(scene_of(scene.caption("Japanese")) == scene for scene in scenes())


def test_captions_say_the_same_in_both_languages():
    assert STAR.caption("English") == "a small yellow star on black"
    assert STAR.caption("Japanese") == "黒い背景に小さな黄色い星"
    with pytest.raises(InputError, match="no language named 'Latin'"):
        STAR.caption("Latin")
    with pytest.raises(InputError, match="no part named 'exam'"):
        scenes("exam")


def test_both_languages_draw_from_the_same_noise():
    japanese, english = (captions("test", [language]) for language in LANGUAGES)
    assert [p.seed for p in japanese] == [p.seed for p in english]
    assert len({p.seed for p in japanese}) == len(japanese)


def test_a_shape_s_middle_has_its_colour_and_the_corner_the_background_s():
    picture = draw(Scene("circle", "red", "large", "white"))
    np.testing.assert_allclose(picture[16, 16] * 255, (216, 30, 40), atol=0.5)
    np.testing.assert_allclose(picture[0, 0], 1.0)
    moved = draw(Scene("circle", "red", "large", "white"), 2.0, -1.0)
    np.testing.assert_allclose(moved[1:, 2:], picture[:-1, :-2], atol=1e-6)


def test_the_scorer_agrees_with_ground_truth_that_is_not_among_its_drawings():
    rng = np.random.default_rng(0)
    drawn = []
    for scene in scenes():
        radius = RADIUS[scene.size] * rng.uniform(0.9, 1.1)
        drawn.append(draw(scene, *rng.uniform(-1.5, 1.5, 2), radius=radius))
    found = recognise(np.stack(drawn))
    agreed = np.mean([see.scene == scene for see, scene in zip(found, scenes(), strict=True)])
    assert agreed >= 0.98


def test_a_right_and_sharp_picture_scores_one_in_both_languages():
    drawn = byte([draw(scene, 1.0) for scene in scenes("test")])
    for language in LANGUAGES:
        scores = shape_scores(drawn, [scene.caption(language) for scene in scenes("test")])
        np.testing.assert_allclose(scores, 1.0, atol=1e-3)


def test_each_wrong_attribute_costs_a_quarter():
    asked = STAR.caption("English")
    others = [
        STAR,
        STAR._replace(shape="ring"),
        STAR._replace(shape="ring", colour="blue"),
        STAR._replace(shape="ring", colour="blue", size="large"),
        Scene("ring", "blue", "large", "white"),
    ]
    scores = shape_scores(byte([draw(scene) for scene in others]), [asked] * 5)
    np.testing.assert_allclose(scores, [1.0, 0.75, 0.5, 0.25, 0.0], atol=1e-3)


def test_blank_pictures_and_noise_score_almost_nothing():
    rng = np.random.default_rng(1)
    asked = [scene.caption("English") for scene in scenes()]
    blank = [np.full((32, 32, 3), rng.uniform(size=3), np.float32) for _ in asked]
    noise = [rng.uniform(size=(32, 32, 3)).astype(np.float32) for _ in asked]
    assert shape_scores(byte(blank), asked).mean() < 0.01
    assert shape_scores(byte(noise), asked).max() < 0.01


def test_coarse_drawings_score_less_the_coarser_they_are():
    known = scenes("search")
    asked = [scene.caption("Japanese") for scene in known]
    means = [
        shape_scores(byte([coarse(draw(scene), blur, 0.8) for scene in known]), asked).mean()
        for blur in (0.5, 1.0, 1.5, 2.5)
    ]
    assert all(a > b for a, b in itertools.pairwise([1.0, *means]))


def test_larger_pictures_are_averaged_down_and_odd_ones_refused():
    asked = [STAR.caption("English")]
    large = byte([draw(STAR)]).repeat(4, axis=1).repeat(4, axis=2)
    np.testing.assert_allclose(shape_scores(large, asked), 1.0, atol=1e-3)
    with pytest.raises(InputError, match=r"32×32 pixels .* shape \(1, 40, 40, 3\)"):
        shape_scores(np.zeros((1, 40, 40, 3), np.uint8), asked)
    with pytest.raises(InputError, match=r"a caption such as .* 'a cat'"):
        shape_scores(byte([draw(STAR)]), ["a cat"])


def test_the_zoos_prompts_can_be_made_again():
    from m2n2lab.tasks.registry import make_again

    task = shapes(3, 2)
    assert make_again(task.origin).identity() == task.identity()
    assert task.classes == ("Japanese", "English")
    assert set(task.groups) == {0}
