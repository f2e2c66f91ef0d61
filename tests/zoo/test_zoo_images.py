"""The zoo's image models: their skills, their limits, and searches from them."""

import json
import os

import numpy as np
import pytest
import torch

from m2n2lab import Evolver, zoo
from m2n2lab.tasks.images.diffusion import Painter
from m2n2lab.tasks.images.shape_scores import scene_of
from m2n2lab.tasks.images.shapes import LANGUAGES
from m2n2lab.zoo import images
from m2n2lab.zoo.images import captions
from m2n2lab.zoo.train_images import COURSES


@pytest.fixture(scope="module")
def shown():
    """The space, a task, and what each specialist draws for captions that none of them saw."""
    torch.set_num_threads(1)
    task, space = zoo.shapes(8, 24), zoo.image_specialists()
    prompts = captions("test", LANGUAGES, 24)
    drawn = [task.draw(space.materialise(seed), prompts) for seed in space.seeds]
    return space, task, drawn


def mean(drawn, language, shapes=None):
    """Return the mean score of one language's pictures, of some shapes or all."""
    return np.mean(
        [
            each.score
            for each in drawn
            if each.prompt.language == language
            and (shapes is None or scene_of(each.prompt.text).shape in shapes)
        ]
    )


def test_all_that_is_shipped_is_small_and_has_no_code():
    files = [file for file in images.HOME.rglob("*") if file.is_file()]
    assert sum(os.path.getsize(file) for file in files) <= 12 * 2**20
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md"}
    assert {folder.name for folder in images.HOME.iterdir()} == set(images.SPECIALISTS)
    for name in images.SPECIALISTS:
        index = json.loads((images.HOME / name / "model_index.json").read_text("utf-8"))
        assert index["_class_name"] == "StableDiffusionPipeline"


@pytest.mark.slow
def test_one_understands_japanese_and_draws_coarsely_three_draw_their_own_shapes_well(shown):
    _, _, (japanese, *english) = shown
    assert mean(japanese, "Japanese") > mean(japanese, "English") + 0.05
    for name, drawn in zip(images.SPECIALISTS[1:], english, strict=True):
        own = COURSES[name].shapes
        others = set(COURSES["base"].shapes) - set(own)
        assert mean(drawn, "English", own) > 0.7
        assert mean(drawn, "English", own) > mean(drawn, "English", others) + 0.1
        assert mean(drawn, "English", own) > mean(japanese, "Japanese", own) + 0.2
        assert mean(drawn, "English") > mean(drawn, "Japanese") + 0.1


@pytest.mark.slow
def test_the_score_in_a_card_was_measured(shown):
    _, _, (japanese, *_) = shown
    card = (images.HOME / "japanese" / "README.md").read_text("utf-8")
    line = next(line for line in card.splitlines() if line.startswith("| Japanese captions"))
    assert float(line.split("|")[3].strip(" %")) == pytest.approx(
        100 * mean(japanese, "Japanese"), abs=8
    )


def test_a_picture_of_a_trained_model_does_not_depend_on_its_batch(shown):
    space, _, _ = shown
    model = space.materialise(space.merge(*space.seeds[:2], space.size // 2, 0.4))
    prompts = captions("test", LANGUAGES, 4)
    one, four = (
        np.concatenate([p.pictures for p in Painter(6, 2.0, batch).batches(model, prompts)])
        for batch in (1, 8)
    )
    assert abs(one.astype(int) - four.astype(int)).max() <= 1


@pytest.mark.slow
def test_a_few_steps_on_japanese_captions_draw_better_than_every_seed_in_both_languages():
    torch.set_num_threads(1)
    task, space = zoo.shapes(12, 16), zoo.image_specialists()
    evolver = Evolver(task, space, archive_size=8, rng=0).run(25)

    def held_out(genome):
        return task.held_out_by_class(space.materialise(genome))

    seeds, best = [held_out(seed) for seed in space.seeds], held_out(evolver.best.genome)
    assert best["Japanese"] > max(seed["Japanese"] for seed in seeds) + 0.1
    assert best["English"] > 0.8 * max(seed["English"] for seed in seeds)
