"""Reports on models that draw: distances to photographs, and agreement of languages."""

import json

import numpy as np
import pytest
import torch
from helpers.pictures import brightness, clip, scribbled, scribblers
from PIL import Image
from scipy import linalg
from typer.testing import CliRunner

from m2n2lab import InputError
from m2n2lab.cli import app
from m2n2lab.tasks import Halted, Prompt, Reporter, Watch, scorer_of
from m2n2lab.tasks.images.diffusion import Painter
from m2n2lab.tasks.images.judges import photographs
from m2n2lab.tasks.images.picture_models import PictureModel
from m2n2lab.tasks.images.reports import frechet_distance

NAMES = ("japanese", "english-round")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("reports")
    scribblers(folder, NAMES)
    clip(folder / "clip")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        picture = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8))
        picture.save(folder / "photos" / f"{number}.png")
    (folder / "photos" / "notes.txt").write_text("no picture")
    (folder / "english.txt").write_text("a red circle\na blue square\na green ring\n")
    (folder / "japanese.txt").write_text("赤い円\n青い四角\n緑の輪\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("dims", [1, 3, 12])
def test_the_distance_is_that_of_two_normal_distributions(dims):
    rng = np.random.default_rng(dims)
    x, y = rng.normal(size=(9, dims)), 2 * rng.normal(size=(30, dims)) + 1
    a, b = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = linalg.sqrtm(a @ b).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


def test_a_report_compares_pictures_of_a_model_alone(home):
    space = scribbled(home / "again", NAMES)
    model = space.materialise(space.seeds[0])
    texts, others = (
        [Prompt(line) for line in (home / f"{name}.txt").read_text("utf-8").splitlines()]
        for name in ("english", "japanese")
    )
    features, painter = PictureModel(home / "clip"), Painter(steps=1, batch=2)
    photos = photographs(home / "photos")
    assert len(photos) == 5
    reporter = Reporter(texts, painter, features, photos, others, scorer_of(brightness))
    seen = []
    found = reporter.report(model, Watch(seen.append))
    assert [each.done for each in seen if each.unit == "photograph"] == [0, 1, 2, 3, 4, 5]
    assert [each.done for each in seen if each.unit == "picture" and not each.step] == [2, 3, 5, 6]
    assert seen[-1].words == "picture 6 of 6"
    drawn = [next(Painter(steps=1).batches(model, [prompt])).pictures for prompt in texts]
    same_noise = [
        next(Painter(steps=1).batches(model, [other._replace(noise=prompt.seed)])).pictures
        for prompt, other in zip(texts, others, strict=True)
    ]
    x, y = (features.embed(np.concatenate(each)) for each in (drawn, same_noise))
    z = features.embed([np.asarray(Image.open(path)) for path in photos])
    assert found.score == pytest.approx(brightness(np.concatenate(drawn), None).mean(), abs=0.01)
    assert found.distance == pytest.approx(frechet_distance(x, z), rel=0.05)
    assert found.agreement == pytest.approx((x * y).sum(axis=1).mean(), abs=0.01)
    with pytest.raises(Halted):
        reporter.report(model, Watch(halted=lambda: True))


def test_the_command_reports_on_each_model(home, monkeypatch):
    monkeypatch.chdir(home)
    options = (
        *("--prompts", "english.txt", "--translations", "japanese.txt", "--photographs", "photos"),
        *("--features", "clip", "--scorer", "clip:clip", "--steps-per-picture", "1"),
    )
    done = CliRunner().invoke(app, ["report", *NAMES, *options, "--json"])
    assert done.exit_code == 0, done.output
    models = json.loads(done.stdout)["models"]
    assert list(models) == list(NAMES)
    assert len({tuple(each.values()) for each in models.values()}) == 2
    one = CliRunner().invoke(app, ["report", NAMES[1], *options, "--json"])
    assert json.loads(one.stdout)["models"][NAMES[1]] == pytest.approx(models[NAMES[1]], abs=1e-3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "photographs, translations or a scorer, got none"),
        ({"translations": [Prompt("x")] * 2}, "got no model for them; give a CLIP"),
        ({"translations": [Prompt("x")], "features": "clip"}, "each of the 2 prompts, got 1"),
        ({"photographs": ["x.png"], "features": "clip"}, "two or more .* got 2 and 1"),
    ],
)
def test_reports_that_have_nothing_to_compare_are_refused(home, given, words):
    if "features" in given:
        given = {**given, "features": PictureModel(home / given["features"])}
    with pytest.raises(InputError, match=words):
        Reporter([Prompt("a"), Prompt("b")], Painter(), **given)
