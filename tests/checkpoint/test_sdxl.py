"""Pipelines in the shape of SDXL: merged by component, drawn with, saved, and refused in words."""

import numpy as np
import pytest
from helpers.sdxl import sdxl, single_file
from safetensors.torch import load_file

import m2n2lab
from m2n2lab import InputError
from m2n2lab.config.builders import build_evolver, code_of
from m2n2lab.config.settings import Settings
from m2n2lab.tasks.images.diffusion import Painter, Prompt

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    home = tmp_path_factory.mktemp("sdxl")
    return [sdxl(home / name, seed) for seed, name in enumerate("ab")]


def test_the_denoisers_are_merged_and_all_else_is_the_first_seed_s(pipelines, tmp_path):
    from diffusers import DiffusionPipeline

    space = m2n2lab.CheckpointSpace(*pipelines, components=["unet"])
    child = space.merge(*space.seeds, space.size // 2, 0.3)
    space.save(child, tmp_path / "merged")
    merged = DiffusionPipeline.from_pretrained(tmp_path / "merged")
    assert type(merged).__name__ == "StableDiffusionXLPipeline"
    for name in ("text_encoder", "text_encoder_2"):
        kept = load_file(pipelines[0] / name / "model.safetensors")
        saved = load_file(tmp_path / "merged" / name / "model.safetensors")
        assert all((saved[key] == kept[key]).all() for key in kept)
    live = space.materialise(child)
    prompts = [Prompt("a b"), Prompt("ab", noise=3)]
    painter = Painter(steps=2, guidance=2.0, size=16)
    one, other = (next(painter.batches(p, prompts)).pictures.astype(int) for p in (live, merged))
    assert one.shape == (2, 16, 16, 3)
    assert abs(one - other).max() <= 1


def test_a_search_by_name_merges_pipelines_and_scores_with_a_function(pipelines, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a\nb\na b\n")
    models = tuple(map(str, pipelines))
    settings = Settings(
        "text2image", models=models, components=("unet",), data=file, options={"archive_size": 3}
    )
    task = m2n2lab.tasks.text2image(
        file, scorer=lambda pictures, _: pictures.mean(axis=(1, 2, 3)) / 255, steps=1, size=16
    )
    evolver = build_evolver(settings, task).run(1)
    assert evolver.space.plan.base.parts[0].name == "unet"
    assert [part.name for part in evolver.space.plan.base.parts] == ["unet"]
    assert "components=('unet',)" in code_of(settings, 1)


def test_a_denoiser_from_a_single_file_is_that_of_its_pipeline(pipelines, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = single_file(pipelines[1], tmp_path / "b.safetensors")
    space = m2n2lab.CheckpointSpace(pipelines[0], file, components=["unet"])
    plain = m2n2lab.CheckpointSpace(*pipelines, components=["unet"])
    names = list(space.layout.shapes)
    assert names == list(plain.layout.shapes)
    for name in names:
        np.testing.assert_array_equal(
            space.plan.seeds[1].array(name), plain.plan.seeds[1].array(name)
        )


@pytest.mark.parametrize(
    ("seeds", "components", "words"),
    [
        (
            ["file", "a"],
            ["unet"],
            "found a pipeline of several models; name the folder first, or make it a file",
        ),
        (["a", "file"], None, "found only unet; choose components that all have"),
        (["a", "junk"], ["unet"], "a single file of SDXL, as .* is, but found one of no known"),
        (["a", "b"], ["prior"], "a component 'prior', but found only .*unet"),
    ],
)
def test_merges_that_would_fail_are_refused(
    pipelines, tmp_path, monkeypatch, seeds, components, words
):
    from helpers.checkpoints import tensors

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    known = dict(zip("ab", pipelines, strict=True))
    known["file"] = tmp_path / "f.safetensors"
    known["junk"] = tmp_path / "j.safetensors"
    single_file(pipelines[1], known["file"])
    tensors(known["junk"], {"model.diffusion_model.x": np.zeros((2, 2), np.float32)})
    with pytest.raises(InputError, match=words):
        m2n2lab.CheckpointSpace(*(known[name] for name in seeds), components=components)


def test_other_denoisers_and_text_encoders_of_another_width_are_refused(pipelines, tmp_path):
    other = sdxl(tmp_path / "other", 2, channels=(8, 24))
    with pytest.raises(InputError, match=r"width \(block_out_channels\) \[8, 16\]"):
        m2n2lab.CheckpointSpace(pipelines[0], other, components=["unet"])
    wide = sdxl(tmp_path / "wide", 3, texts=(16, 32))
    with pytest.raises(InputError, match=r"cross_attention_dim"):
        m2n2lab.CheckpointSpace(pipelines[0], wide)


def test_a_single_file_is_named_as_itself_and_rebuilt_without_the_cache(
    pipelines, tmp_path, monkeypatch
):
    import shutil

    import cloudpickle

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = single_file(pipelines[1], tmp_path / "b.sft")
    space = m2n2lab.CheckpointSpace(pipelines[0], file, components=["unet"])
    assert space.names[1] == "b.sft"
    space.save(space.merge(*space.seeds, space.size, 0.3), tmp_path / "merged")
    assert file.name in (tmp_path / "merged" / "README.md").read_text()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    m2n2lab.rebuild(tmp_path / "merged" / "recipe.json", tmp_path / "again")
    for path in (tmp_path / "merged").rglob("*.safetensors"):
        again = tmp_path / "again" / path.relative_to(tmp_path / "merged")
        assert path.read_bytes() == again.read_bytes()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    other = cloudpickle.loads(cloudpickle.dumps(space))
    assert other.names == space.names
