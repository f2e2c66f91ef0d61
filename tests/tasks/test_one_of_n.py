"""One of N: what a person picks becomes the scores of children."""

import io

import numpy as np
import pytest
import torch
from helpers.pictures import brightness, scribbled, scribblers
from PIL import Image
from typer.testing import CliRunner

import m2n2lab
from m2n2lab import InputError
from m2n2lab.cli import app
from m2n2lab.store import Recorder, resume
from m2n2lab.tasks import Halted, OneOfN, Text2Image, Watch
from m2n2lab.viz import draw_choice
from m2n2lab.zoo import images
from m2n2lab.zoo.images import captions

NAMES = ("japanese", "english-round", "english-straight", "english-pointed")


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    torch.set_num_threads(1)
    return scribbled(tmp_path_factory.mktemp("scribblers"), ("a", "b"))


@pytest.fixture
def evolver(space):
    task = Text2Image(captions("search", ["Japanese"], 3), scorer=brightness, steps=1)
    return m2n2lab.Evolver(task, space, archive_size=4, rng=0)


def picture_of(evolver, genome, point):
    model = evolver.space.materialise(genome)
    return evolver.task.draw(model, [evolver.task.prompts[point]], score=False)[0].picture


def test_the_picked_child_scores_one_and_the_others_nothing(evolver):
    one = OneOfN(evolver, children=3, points=[0, 2], rng=1)
    assert one.points == (0, 2)
    orders = set()
    for point in one.points:
        choice = one.ask(point)
        assert (choice.prompt, len(choice.pictures)) == (evolver.task.prompts[point], 4)
        orders.add(choice.order)
        candidates = [*(evolver.breed(p) for p in one.proposals), evolver.best.genome]
        for number, picture in zip(choice.order, choice.pictures, strict=True):
            np.testing.assert_array_equal(picture, picture_of(evolver, candidates[number], point))
        one.pick(choice, choice.order.index(1 if point == 0 else 3))
    assert len(orders) == 2
    given = [evolver.evaluate(proposal) for proposal in one.proposals]
    scores = [one.scores(child) for child in range(3)]
    assert [found[0] for found in scores] == [0, 1, 0]
    assert [found[2] for found in scores] == [0, 0, 0]  # the best member's was picked
    assert [found[1] for found in scores] == pytest.approx([own[1] for own in given])
    generations = one.tell()
    assert [each.proposal for each in generations] == one.proposals
    assert evolver.generation == 3
    assert generations[1].scores[0] == 1
    assert generations[1].accepted


def test_no_good_picture_is_a_choice_too_and_a_stop_gives_the_children_back(evolver):
    one = OneOfN(evolver, children=2)
    for point in one.points:
        one.pick(one.ask(point), None)
    assert not np.any([one.scores(child) for child in range(2)])
    halt = evolver.task.watch(Watch(halted=lambda: True))
    other = OneOfN(evolver, children=2)
    with pytest.raises(Halted):
        other.ask(0)
    halt()
    other.put_back()
    assert evolver.ask(2) == other.proposals
    assert evolver.generation == 0


def test_choices_that_cannot_be_meant_are_refused(evolver):
    with pytest.raises(InputError, match=r"children must be a number in \[1, 7\], got 8"):
        OneOfN(evolver, children=8)
    one = OneOfN(evolver, children=7, points=[0])
    choice = one.ask(0)
    assert len(choice.pictures) == 8
    with pytest.raises(InputError, match=r"picture must be a number in \[0, 7\], got 8"):
        one.pick(choice, 8)
    digits = m2n2lab.tasks.from_function(lambda w, i: np.ones(len(i)), 3)
    other = m2n2lab.Evolver(digits, [np.ones(4), np.zeros(4)], rng=0)
    with pytest.raises(InputError, match="between pictures, got a search on"):
        OneOfN(other)


def test_pictures_to_choose_from_lie_side_by_side(evolver):
    choice = OneOfN(evolver, children=2).ask(0)
    sheet = Image.open(io.BytesIO(draw_choice(choice))).convert("RGB")
    pixels = np.asarray(sheet).astype(int)
    assert sheet.width == 8 + 3 * 104
    for number, picture in enumerate(choice.pictures):
        large = np.asarray(Image.fromarray(picture).resize((96, 96), Image.Resampling.NEAREST))
        at = pixels[44 : 44 + 96, 8 + 104 * number : 8 + 104 * number + 96]
        assert abs(at - large).max() == 0


@pytest.mark.slow
def test_the_command_asks_and_records_what_was_picked(tmp_path, monkeypatch):
    scribblers(tmp_path / "zoo")
    monkeypatch.setattr(images, "HOME", tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    task = images.shapes(limit=2, held_out=1, steps=1)
    evolver = m2n2lab.Evolver(task, images.image_specialists(), archive_size=5, rng=0)
    with Recorder(evolver, tmp_path / "runs.db"):
        evolver.run(1)
    options = ["--children", "2", "--choices", "1", "--rounds", "2", "--threads", "1"]
    done = CliRunner().invoke(app, ["choose", "runs.db", *options], input="0\n9\n2\n")
    assert done.exit_code == 0, done.output
    assert "round 2:" in done.stderr
    assert "1–3, 0 for none" in done.stderr
    assert Image.open("choice.png").height > 96
    again = resume("runs.db")
    assert again.generation == 5
    stopped = CliRunner().invoke(app, ["choose", "runs.db", *options], input="")
    assert stopped.exit_code == 130
    assert "do not count" in stopped.stderr
    assert resume("runs.db").generation == 5
