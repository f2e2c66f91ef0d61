"""Pictures from pipelines: independent of their batch, scored, stopped on demand."""

import json
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.pictures import brightness, scribbled, scribblers
from PIL import Image

import m2n2lab
from m2n2lab import InputError
from m2n2lab.cli import main
from m2n2lab.tasks import Halted, Progress, Text2Image, Watch, text2image
from m2n2lab.tasks.images.clip_scores import Clip
from m2n2lab.tasks.images.diffusion import MAX_PROMPT_CHARS, Painter, Prompt, default_batch
from m2n2lab.tasks.images.scorers import checked_scores
from m2n2lab.utils.text import duration
from m2n2lab.zoo import images
from m2n2lab.zoo.images import captions


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return scribbled(tmp_path_factory.mktemp("scribblers"), ("a", "b"))


@pytest.fixture
def child(space):
    return space.merge(*space.seeds, space.size // 2, 0.3)


def task_of(count=5, **options):
    known = {"scorer": brightness, "steps": 2, **options}
    return Text2Image(captions("search", ["Japanese"], count), **known)


def test_a_picture_does_not_depend_on_its_batch(space, child):
    model = space.materialise(child)
    prompts = captions("search", ["Japanese", "English"], 3)
    made = []
    for batch in (1, 4, 6):
        parts = list(Painter(steps=3, batch=batch).batches(model, prompts))
        assert [place for part in parts for place in part.indices] == list(range(6))
        made.append(np.concatenate([part.pictures for part in parts]).astype(int))
    assert made[0].shape == (6, 32, 32, 3)
    assert abs(made[0] - made[1]).max() <= 1
    assert abs(made[0] - made[2]).max() <= 1
    assert abs(made[0][0] - made[0][1]).max() > 10


def test_the_same_noise_draws_the_same_picture_and_other_noise_another(space, child):
    model = space.materialise(child)
    one, same, other = (
        next(Painter(steps=2).batches(model, [Prompt("a red circle", noise=noise)])).pictures
        for noise in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_scores_are_those_of_the_pictures_and_nothing_is_drawn_twice(space, child):
    task = task_of()
    asked = []
    task.watch(Watch(asked.append))
    scores = task.evaluate(space.materialise(child))
    samples = task.samples(space.materialise(child), [0, 3])
    np.testing.assert_allclose([s.image.mean() for s in samples], scores[[0, 3]], atol=1e-6)
    assert [s.text for s in samples] == [task.names[0], task.names[3]]
    first, *steps, last, known = asked
    assert (first.done, last.words) == (0, "picture 5 of 5")
    assert [step.words for step in steps] == [
        "pictures 1–5 of 5, step 1 of 2",
        "pictures 1–5 of 5, step 2 of 2",
    ]
    assert (known.done, known.known) == (2, 2)  # at once


def test_a_halt_takes_effect_within_a_step_and_keeps_what_was_drawn(space, child):
    task = task_of(batch=2, steps=3)
    asked, limit = [], 6

    def halted():
        asked.append(1)
        return len(asked) > limit

    end = task.watch(Watch(halted=halted))
    with pytest.raises(Halted):
        task.evaluate(space.materialise(child))
    end()
    # Asked before each batch of two, and after each of its three steps.
    assert len(asked) == limit + 1
    reports = []
    task.watch(Watch(reports.append))
    task.evaluate(space.materialise(child))
    assert [progress.done for progress in reports if not progress.step] == [2, 4, 5]


def test_held_out_prompts_are_scored_for_each_language(space):
    tested = captions("test", ["Japanese", "English"], 2)
    task = Text2Image(
        captions("search", ["Japanese"], 2),
        tested,
        scorer=lambda pictures, prompts: [float(text.isascii()) for text in prompts],
        steps=1,
    )
    model = space.materialise(space.seeds[0])
    assert task.held_out_by_class(model) == {"Japanese": 0.0, "English": 1.0}
    assert task.held_out(model) == 0.5
    assert task.evaluate(model).tolist() == [0.0, 0.0]
    assert [p.language for p in task.exhibits(1)] == ["Japanese", "English"]


def test_a_search_over_pipelines_runs_and_its_best_loads_as_a_pipeline(space, tmp_path):
    import diffusers

    evolver = m2n2lab.Evolver(task_of(3), space, archive_size=3, rng=0).run(2)
    assert evolver.generation == 2
    space.save(evolver.best, tmp_path / "merged")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "merged", vae=None)
    painter, prompts = Painter(steps=2), captions("search", ["English"], 1)
    saved = next(painter.batches(pipeline, prompts)).pictures
    live = next(painter.batches(space.materialise(evolver.best.genome), prompts)).pictures
    assert abs(saved.astype(int) - live.astype(int)).max() <= 1


@pytest.mark.slow
def test_the_command_line_draws_the_seeds_and_the_best_on_one_sheet(tmp_path, monkeypatch, capsys):
    scribblers(tmp_path / "zoo")
    monkeypatch.setattr(images, "HOME", tmp_path / "zoo")
    monkeypatch.setattr(sys, "argv", [
        *("m2n2lab", "evolve", "--task", "text2image", "--steps", "1", "--limit", "1", "--json"),
        *("--archive-size", "4", "--threads", "1", "--out", str(tmp_path / "out")),
    ])  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["classes"]) == {"Japanese", "English"}
    assert all(0 <= score["test"] <= 1 for score in result["classes"].values())
    sheet = Image.open(tmp_path / "out" / "contact_sheet.png")
    assert sheet.height > 5 * 96  # four seeds and the best
    assert (tmp_path / "out" / "best" / "model_index.json").is_file()


def test_a_task_goes_to_another_process_without_its_pictures(space, child):
    import cloudpickle

    task = task_of(2)
    task.evaluate(space.materialise(child))
    other = cloudpickle.loads(cloudpickle.dumps(task))
    reports = []
    other.watch(Watch(reports.append))
    other.evaluate(space.materialise(child))
    assert [progress.done for progress in reports] == [0, 0, 0, 2]
    assert other.identity() == task.identity()


class Plain:
    """A pipeline that draws one grey and records how it was called."""

    def __init__(self, value=0.5):
        self.value, self.vae, self.asked = value, SimpleNamespace(dtype=None), []

    def set_progress_bar_config(self, **options):
        pass

    def draw(self, **options):
        self.asked.append(options)
        count = len(options["prompt"])
        values = self.value if isinstance(self.value, list) else [self.value] * count
        pictures = np.stack([np.full((8, 8, 3), value, np.float32) for value in values[:count]])
        return type("Output", (), {"images": pictures})()


class Guided(Plain):
    def __call__(
        self, prompt, generator, output_type, num_inference_steps=50, guidance_scale=5.0,
        negative_prompt=None, height=None, width=None, callback_on_step_end=None,
    ):  # fmt: skip
        return self.draw(**{k: v for k, v in locals().items() if k not in ("self", "generator")})


class ByNegative(Plain):
    def __call__(
        self, prompt, generator, output_type, num_inference_steps=50, guidance_scale=None,
        true_cfg_scale=4.0, negative_prompt=None, height=None, width=None,
        callback_on_step_end=None,
    ):  # fmt: skip
        return self.draw(**{k: v for k, v in locals().items() if k not in ("self", "generator")})


class OldCallback(Plain):
    def __call__(
        self, prompt, generator, output_type, num_inference_steps=20, height=None, width=None,
        callback=None, callback_steps=1,
    ):  # fmt: skip
        callback(0, 0, None)
        return self.draw(**{k: v for k, v in locals().items() if k not in ("self", "generator")})


def asked(pipeline, **options):
    next(Painter(**options).batches(pipeline, [Prompt("a"), Prompt("b")]))
    return pipeline.asked[-1]


def test_a_pipeline_draws_with_its_own_defaults_unless_others_are_given():
    own = asked(Guided())
    assert (own["num_inference_steps"], own["guidance_scale"], own["height"]) == (50, 5.0, None)
    assert own["negative_prompt"] is None
    given = asked(Guided(), steps=7, guidance=3.0, size=64, negative="blurred")
    assert (given["num_inference_steps"], given["guidance_scale"]) == (7, 3.0)
    assert (given["height"], given["width"]) == (64, 64)
    assert given["negative_prompt"] == ["blurred"] * 2


def test_a_pipeline_whose_guidance_needs_a_negative_prompt_gets_one():
    own = asked(ByNegative())
    assert (own["true_cfg_scale"], own["negative_prompt"]) == (4.0, [" "] * 2)
    given = asked(ByNegative(), guidance=2.5, negative="dark")
    assert (given["true_cfg_scale"], given["guidance_scale"]) == (2.5, None)
    assert given["negative_prompt"] == ["dark"] * 2


def test_pipelines_with_the_older_callback_can_be_stopped_too():
    assert asked(OldCallback())["num_inference_steps"] == 20
    with pytest.raises(Halted):
        list(Painter(batch=1).batches(OldCallback(), [Prompt("a")], stopping_at(2)))
    with pytest.raises(InputError, match="must have the argument negative_prompt"):
        asked(OldCallback(), negative="dark")


def stopping_at(count):
    """Return a watch that stops when it is asked for the ``count``-th time."""
    times = []

    def halted():
        times.append(1)
        return len(times) >= count

    return Watch(halted=halted)


def test_pictures_of_nan_or_black_score_0_and_say_why():
    task = task_of(4, batch=4, scorer=lambda pictures, prompts: np.ones(len(prompts)))
    pipeline = Guided([0.5, float("nan"), 0.0, 1.0])
    assert task.evaluate(pipeline).tolist() == [1.0, 0.0, 0.0, 1.0]
    shown = [sample.prediction for sample in task.samples(pipeline, range(4))]
    assert (shown[0], shown[3]) == ("1.00", "1.00")
    assert shown[1].startswith("0.00 (NaN: numbers too large for the dtype")
    assert shown[2].startswith("0.00 (all black")


def test_large_pictures_are_drawn_one_by_one_and_small_ones_together():
    def pipeline(latents):
        denoiser = SimpleNamespace(config=SimpleNamespace(sample_size=latents))
        return SimpleNamespace(unet=denoiser, vae=object(), vae_scale_factor=8)

    assert [default_batch(pipeline(side)) for side in (4, 64, 128, 256)] == [24, 8, 2, 1]
    assert default_batch(pipeline(128), 512) == 8


def test_captions_with_all_backgrounds_are_shown_and_both_languages_show_the_same_scenes():
    task = images.shapes()
    japanese, english = (
        [prompt for prompt in task.exhibits(4) if prompt.language == language]
        for language in ("Japanese", "English")
    )
    assert [prompt.seed for prompt in japanese] == [prompt.seed for prompt in english]
    assert len(english) == 4
    behind = {prompt.text.rsplit(" ", 1)[1] for prompt in english}
    assert behind == {"white", "grey", "black"}
    held_out = {prompt.text for prompt in captions("test", ["Japanese", "English"])}
    assert {prompt.text for prompt in (*japanese, *english)} <= held_out


def test_prompts_are_read_from_a_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a red circle\n\n 赤い円 \nc\nd\ne\n", encoding="utf-8")
    task = text2image(file)
    assert task.names == ["a red circle", "赤い円", "c", "d"]
    # What is held out is shown first.
    shown = [prompt.text for prompt in task.exhibits(9)]
    assert sorted(shown) == sorted(["e", *task.names])
    assert shown[0] == task.exhibits(1)[0].text == "e"
    assert text2image(file, limit=2, held_out=1).points == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Text2Image([]), "at least one prompt to search on"),
        (lambda: Text2Image([Prompt("x" * 10_000)]), "1 to 1,000 characters, got 10,000"),
        (lambda: Text2Image([Prompt("  ")]), "1 to 1,000 characters, got none"),
        (lambda: task_of(steps=0), "steps must be an integer >= 1"),
        (lambda: task_of(guidance=float("nan")), "guidance must be a number in .0, 100"),
        (lambda: text2image("/no/such/file"), "a prompt on each line, but it cannot be read"),
        (lambda: Clip("/no/such/folder"), "scorer /no/such/folder could not be loaded"),
        (lambda: checked_scores([2.0], 1), r"a number in \[0, 1\] .* got \[2.\]"),
        (lambda: checked_scores([0.1, 0.2], 1), r"each of the 1 pictures, got .* shape \(2,\)"),
        (lambda: checked_scores([float("nan")], 1), r"number in \[0, 1\]"),
    ],
)
def test_unusable_prompts_and_scorers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
    assert MAX_PROMPT_CHARS < 10_000


def test_a_model_that_is_no_pipeline_is_refused():
    with pytest.raises(InputError, match=r"must be a text-to-image pipeline .* got Linear"):
        task_of().evaluate(torch.nn.Linear(2, 2))


def test_the_time_left_is_that_of_what_is_not_drawn_yet():
    # Two of ten were known; one and a half of eight took 30 s: 6.5 are left.
    report = Progress(3, 10, 0, 30.0, "picture", known=2, step=15, steps=30)
    assert report.left == pytest.approx(6.5 * 30 / 1.5)
    assert report.words == "picture 4 of 10, step 15 of 30, 2:10 left"
    assert Progress(2, 10, 0, 30.0, known=2).left == 0
    assert Progress(4, 10, 40, 2.0).words == "question 4 of 10, 20 tokens/s, 0:03 left"
    assert Progress(10, 10, 40, 20.0).words == "question 10 of 10, 2 tokens/s"
    assert [duration(seconds) for seconds in (0.2, 59.1, 725, 3723)] == [
        "0:01", "1:00", "12:05", "1:02:03",
    ]  # fmt: skip


class WithoutCallback:
    """A pipeline whose call has no callback, as those with code of their own may be."""

    def __init__(self, pipeline):
        self.pipeline, self.unet, self.vae = pipeline, pipeline.unet, pipeline.vae
        self.scheduler = pipeline.scheduler
        self.set_progress_bar_config = pipeline.set_progress_bar_config

    def __call__(self, prompt, generator, output_type, num_inference_steps=2, guidance_scale=1.0):
        return self.pipeline(
            prompt=prompt,
            generator=generator,
            output_type=output_type,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )


def test_a_pipeline_without_callbacks_is_stopped_within_a_step_too(space, child):
    pipeline = WithoutCallback(space.materialise(child))
    asked = []

    def halted():
        asked.append(1)
        return len(asked) > 3

    prompts = captions("search", ["English"], 1)
    with pytest.raises(Halted):
        list(Painter(steps=9).batches(pipeline, prompts, Watch(halted=halted)))
    assert len(asked) == 4  # before the batch, and before its first three steps
    assert not pipeline.unet._forward_pre_hooks


@pytest.mark.slow
def test_a_stopped_search_prints_what_is_known_and_draws_nothing_more(
    tmp_path, monkeypatch, capsys
):
    scribblers(tmp_path / "zoo")
    monkeypatch.setattr(images, "HOME", tmp_path / "zoo")
    drawn = []
    plain = Painter._draw

    def press_in_the_child(self, pipeline, prompts, watch, stepped):
        drawn.append(prompts)
        if len(drawn) > 9:  # four seeds have drawn, the best its held-out ones: this is a child
            signal.raise_signal(signal.SIGINT)
        return plain(self, pipeline, prompts, watch, stepped)

    monkeypatch.setattr(Painter, "_draw", press_in_the_child)
    monkeypatch.setattr(sys, "argv", [
        *("m2n2lab", "evolve", "--task", "text2image", "--steps", "90", "--limit", "1", "--json"),
        *("--archive-size", "4", "--threads", "1", "--batch", "24", "--steps-per-picture", "2"),
        *("--out", str(tmp_path / "out")),
    ])  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    result = json.loads(capsys.readouterr().out)
    assert result["stopped"]
    assert len(drawn) == 10
    assert not (tmp_path / "out" / "contact_sheet.png").exists()
    assert (tmp_path / "out" / "best" / "model_index.json").is_file()


def test_a_picture_has_the_size_that_is_asked_for_without_a_vae_too(space, child):
    model = space.materialise(child)
    for size in (32, 16, 64):
        drawn = next(Painter(steps=1, size=size).batches(model, [Prompt("a")])).pictures
        assert drawn.shape == (1, size, size, 3)


def test_options_of_drawing_are_those_of_a_resumed_run(tmp_path, monkeypatch, capsys):
    scribblers(tmp_path / "zoo")
    monkeypatch.setattr(images, "HOME", tmp_path / "zoo")
    monkeypatch.setattr(sys, "argv", [
        *("m2n2lab", "evolve", "--task", "text2image", "--steps", "0", "--limit", "1", "--json"),
        *("--size", "32", "--steps-per-picture", "1", "--guidance", "1", "--negative", "blur"),
        *("--batch", "96", "--store", str(tmp_path / "runs.db"), "--out", str(tmp_path / "out")),
    ])  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    painter = m2n2lab.store.resume(tmp_path / "runs.db").task.painter
    assert vars(painter) == {
        "size": 32, "steps": 1, "guidance": 1.0, "negative": "blur", "batch": 96,
    }  # fmt: skip
