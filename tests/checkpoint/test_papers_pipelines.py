"""The third experiment of the paper, in the shapes of the hub: Japanese SDXL and three more."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from helpers.pictures import clip
from helpers.sdxl import RAN, TEXTS, denoiser_alone, japanese, kept_in, sdxl

import m2n2lab
from m2n2lab import InputError
from m2n2lab.checkpoint.live.live_pipeline import load_pipeline
from m2n2lab.checkpoint.pipelines import describe
from m2n2lab.cli import main
from m2n2lab.tasks.images.diffusion import Painter, Prompt

PROMPTS = [Prompt("a b"), Prompt("ab", noise=3)]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """JSDXL, SDXL 1.0, SDXL-DPO and Juggernaut-XL."""
    home = tmp_path_factory.mktemp("paper")
    plain = sdxl(home / "SDXL", 1)
    return [
        japanese(home / "JSDXL", 0),
        plain,
        denoiser_alone(home / "DPO", sdxl(home / "dpo", 2)),
        kept_in(home / "Juggernaut", sdxl(home / "juggernaut", 3), variant="fp16"),
    ]


def pictures(pipeline, size=16):
    return next(Painter(steps=2, guidance=5.0, size=size).batches(pipeline, PROMPTS)).pictures


def evolve(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["m2n2lab", "evolve", "--task", "text2image", *options])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_the_command_of_the_paper_runs_and_its_result_loads_without_code(
    seeds, tmp_path, monkeypatch, capsys
):
    from diffusers import DiffusionPipeline

    file = tmp_path / "prompts.txt"
    file.write_text("a\nb\na b\n")
    status = evolve(
        monkeypatch,
        *("--seeds", *map(str, seeds), "--components", "unet", "--text-encoder-from", "0"),
        *("--data", str(file), "--steps", "2", "--archive-size", "5", "--json"),
        *("--scorer", str(clip(tmp_path / "clip")), "--steps-per-picture", "2"),
        *("--threads", "1", "--out", str(tmp_path / "out")),
    )
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert json.loads(captured.out)["models"] == list(map(str, seeds))
    assert RAN not in os.environ
    best = tmp_path / "out" / "best"
    index = json.loads((best / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionXLPipeline"
    assert "null_encoder" not in index
    assert not [path for path in best.rglob("*") if path.suffix == ".py" or "fp16" in path.name]
    loaded = DiffusionPipeline.from_pretrained(best, torch_dtype=torch.float16)
    assert loaded.text_encoder.config.num_hidden_layers == 3  # that of JSDXL
    assert pictures(loaded).std() > 10
    m2n2lab.rebuild(best / "recipe.json", tmp_path / "again")
    for path in best.rglob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(best)).read_bytes()


def test_four_seeds_are_merged_as_their_own_slerp_is(seeds):
    space = m2n2lab.CheckpointSpace(*seeds, components=["unet"])
    a, b = space.seeds[1], space.seeds[2]
    flat = [
        np.concatenate([space.plan.seeds[k].array(n).astype(np.float64) for n in space.plan.sizes])
        for k in (1, 2)
    ]
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    omega = np.arccos(cosine)
    wanted = (np.sin(0.7 * omega) * flat[0] + np.sin(0.3 * omega) * flat[1]) / np.sin(omega)
    live = space.materialise(space.merge(a, b, space.size, 0.3)).unet.state_dict()
    names = [name.removeprefix("unet/") for name in space.plan.sizes]
    made = np.concatenate([live[name].double().numpy().ravel() for name in names])
    assert live[names[0]].dtype == torch.float16
    np.testing.assert_allclose(made, wanted, rtol=2**-10, atol=1e-7)


def test_what_a_pipeline_with_its_own_class_draws_is_what_is_saved(seeds, tmp_path):
    from diffusers import DiffusionPipeline

    space = m2n2lab.CheckpointSpace(*seeds, components=["unet"])
    child = space.merge(space.seeds[0], space.seeds[3], space.size // 2, 0.3)
    live = space.materialise(child)
    space.save(child, tmp_path / "merged")
    saved = DiffusionPipeline.from_pretrained(tmp_path / "merged", torch_dtype=torch.float16)
    np.testing.assert_array_equal(pictures(live), pictures(saved))
    assert RAN not in os.environ


def test_the_second_text_encoder_adds_zeros_as_the_pipelines_own_code_does(seeds):
    space = m2n2lab.CheckpointSpace(seeds[0], seeds[1], components=["unet"])
    pipeline = load_pipeline(space.plan)
    embeds, negative, pooled, negative_pooled = pipeline.encode_prompt(
        "a b", negative_prompt="b", do_classifier_free_guidance=True, device="cpu"
    )
    tokens = pipeline.tokenizer(
        "a b", padding="max_length", max_length=16, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        own = pipeline.text_encoder(tokens.input_ids, output_hidden_states=True).hidden_states[-2]
    assert embeds.shape == (1, 16, sum(TEXTS))
    assert torch.equal(embeds[..., : TEXTS[0]], own)
    assert not embeds[..., TEXTS[0] :].any()
    assert not negative[..., TEXTS[0] :].any()
    assert pooled.shape == (1, TEXTS[1])
    assert not pooled.any()
    assert not negative_pooled.any()
    assert embeds.dtype == pooled.dtype == torch.float16


@pytest.mark.parametrize("number", [0, 1, 3])
def test_text_encoders_are_those_of_the_chosen_seed(seeds, tmp_path, number):
    from diffusers import DiffusionPipeline

    first = [seeds[1], seeds[0], seeds[2], seeds[3]]
    space = m2n2lab.CheckpointSpace(*first, components=["unet"], tokenizer=number)
    child = space.merge(space.seeds[0], space.seeds[3], space.size // 2, 0.4)
    live = space.materialise(child)
    alone = m2n2lab.CheckpointSpace(first[number], seeds[2], components=["unet"])
    wanted = load_pipeline(alone.plan)
    for name in ("text_encoder", "text_encoder_2"):
        its = getattr(wanted, name).state_dict()
        mine = getattr(live, name).state_dict()
        assert all(torch.equal(mine[key], its[key].to(mine[key].dtype)) for key in its)
    space.save(child, tmp_path / "merged")
    saved = DiffusionPipeline.from_pretrained(tmp_path / "merged", torch_dtype=live.unet.dtype)
    np.testing.assert_array_equal(pictures(live), pictures(saved))
    m2n2lab.rebuild(tmp_path / "merged" / "recipe.json", tmp_path / "again")
    kept, made = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (tmp_path / "merged", tmp_path / "again")
    )
    assert kept == made


def test_the_folder_of_the_denoiser_is_the_denoiser(seeds):
    whole = m2n2lab.CheckpointSpace(seeds[1], seeds[2], components=["unet"])
    inside = m2n2lab.CheckpointSpace(seeds[1], seeds[2] / "unet", components=["unet"])
    assert whole.layout.shapes == inside.layout.shapes
    for name in whole.layout.shapes:
        np.testing.assert_array_equal(
            whole.plan.seeds[1].array(name), inside.plan.seeds[1].array(name)
        )
    assert whole.names == ("SDXL", "DPO")


def test_denoisers_alone_are_merged_by_themselves(seeds, tmp_path):
    from diffusers import UNet2DConditionModel

    space = m2n2lab.CheckpointSpace(seeds[2], seeds[1], components=["unet"])
    child = space.merge(*space.seeds, space.size, 0.5)
    space.save(child, tmp_path / "merged")
    UNet2DConditionModel.from_pretrained(tmp_path / "merged", subfolder="unet")
    with pytest.raises(InputError, match=r"must be a whole pipeline to draw with.*name a pipeline"):
        space.materialise(child)


def test_the_remedies_for_missing_components_can_be_followed(seeds):
    with pytest.raises(InputError, match=r"'text_encoder'.*only unet; .*--component unet\)"):
        m2n2lab.CheckpointSpace(seeds[1], seeds[2])
    with pytest.raises(InputError, match=r"choose the component that it is \(--component unet\)"):
        m2n2lab.CheckpointSpace(seeds[1], seeds[2] / "unet")


def test_code_of_a_repository_is_only_run_if_it_is_trusted(seeds, tmp_path, monkeypatch):
    first = japanese(tmp_path / "first", 5)
    index = json.loads((first / "model_index.json").read_text())
    index["vae"] = ["modeling_clipnull", "OwnVAE"]
    (first / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"vae is a class of its own code.*--trust-remote-code"):
        m2n2lab.CheckpointSpace(first, seeds[1], components=["unet"])
    assert RAN not in os.environ
    index["vae"] = ["diffusers", "AutoencoderKL"]
    del index["null_encoder"], index["force_zeros_for_empty_prompt"]
    (first / "model_index.json").write_text(json.dumps(index))
    space = m2n2lab.CheckpointSpace(first, seeds[1], components=["unet"], trust_remote_code=True)
    child = space.merge(*space.seeds, space.size, 0.5)
    space.save(child, tmp_path / "merged")
    kept = json.loads((tmp_path / "merged" / "model_index.json").read_text())
    assert kept["_class_name"] == ["pipeline_japanese", "JapanesePipeline"]
    assert (tmp_path / "merged" / "pipeline_japanese.py").is_file()
    assert RAN not in os.environ
    m2n2lab.rebuild(tmp_path / "merged" / "recipe.json", tmp_path / "again")
    assert (tmp_path / "again" / "pipeline_japanese.py").is_file()
    assert RAN not in os.environ
    monkeypatch.setenv(RAN, "")
    live = space.materialise(child)
    assert os.environ[RAN] == "1"
    assert type(live).__name__ == "JapanesePipeline"
    assert live.unet.dtype == live.text_encoder.dtype == torch.float16


@pytest.mark.parametrize("name", ["SDXL", "a", None])
def test_a_pipeline_of_an_unknown_class_is_that_of_its_denoiser(seeds, tmp_path, name):
    folder = shutil.copytree(seeds[1], tmp_path / "odd")
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = name
    (folder / "model_index.json").write_text(json.dumps(index))
    space = m2n2lab.CheckpointSpace(folder, seeds[1], components=["unet"])
    assert describe(space.plan).class_name == "StableDiffusionXLPipeline"
    plain = m2n2lab.CheckpointSpace(seeds[1], seeds[1].with_name("dpo"), components=["unet"])
    np.testing.assert_array_equal(
        pictures(space.materialise(space.seeds[0])), pictures(plain.materialise(plain.seeds[0]))
    )


def test_a_component_that_was_not_downloaded_is_left_out_or_asked_for(tmp_path):
    from helpers.checkpoints import pipeline

    a, b = pipeline(tmp_path / "a"), pipeline(tmp_path / "b", 1)
    index = json.loads((a / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (a / "model_index.json").write_text(json.dumps(index))
    space = m2n2lab.CheckpointSpace(a, b, components=["unet"])
    assert space.materialise(space.seeds[0]).safety_checker is None
    shutil.rmtree(a / "vae")
    space = m2n2lab.CheckpointSpace(a, b, components=["unet"])
    with pytest.raises(InputError, match=r"must have a component vae .* download or copy it"):
        space.materialise(space.seeds[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--text-encoder-from", "4"], "text_encoder_from must be a number in"),
        (["--text-encoder-from", "2"], "Seed 2 must be a pipeline to provide the text encoders"),
    ],
)
def test_a_seed_that_cannot_provide_texts_is_refused(
    seeds, tmp_path, monkeypatch, capsys, options, words
):
    file = tmp_path / "prompts.txt"
    file.write_text("a\n")
    given = ("--seeds", *map(str, seeds), "--components", "unet", "--data", str(file))
    assert evolve(monkeypatch, *given, *options) == 2
    assert words in capsys.readouterr().err.replace("\n", " ")


def test_runs_are_resumed_with_the_same_files_and_trust_is_given_anew(seeds, tmp_path):
    from m2n2lab.store import Recorder, resume

    both = kept_in(tmp_path / "both", seeds[1], variant="fp16")
    shutil.copytree(seeds[1], both, dirs_exist_ok=True)
    file = tmp_path / "prompts.txt"
    file.write_text("a\nb\n")
    task = m2n2lab.tasks.text2image(
        file, scorer=str(clip(tmp_path / "clip")), steps=1, size=16, guidance=1.0
    )
    for number, options in enumerate(({"variant": "fp16"}, {"trust_remote_code": True})):
        space = m2n2lab.CheckpointSpace(both, seeds[1], components=["unet"], tokenizer=1, **options)
        store = tmp_path / f"{number}.db"
        search = m2n2lab.Evolver(task, space, archive_size=3, rng=0)
        with Recorder(search, store):
            search.run(1)
        if "variant" in options:
            again = resume(store)
            assert (again.space.plan.variant, again.space._tokenizer) == ("fp16", 1)
            assert again.space.plan.dtypes == space.plan.dtypes
        else:
            with pytest.raises(InputError, match="must be trusted anew"):
                resume(store)
            assert resume(store, seeds=space).generation == 1
