"""Parts of picture models that are not merged: whose the result has."""

import json

import numpy as np
import pytest
from helpers.sdxl import sdxl
from helpers.single_files import CLIP, PREFIX, UNET, a1111, read, single, weights
from safetensors.torch import load_file

import m2n2lab
from m2n2lab import InputError
from m2n2lab.checkpoint.io.single_file_names import part_of

VAE = "first_stage_model.decoder.conv_out.weight"


def b1111():
    """Return the tensors of B, with a VAE, a schedule and an EMA unlike those of A."""
    return a1111(1) | {
        VAE: np.full((3, 3), 9.0, np.float32),
        "first_stage_model.extra": np.full(2, 4.0, np.float32),
        "betas": np.linspace(0.02, 0.2, 10, dtype=np.float32),
        "model_ema.decay": np.full((), 0.5, np.float32),
        "sqrt_alphas_cumprod": np.ones(10, np.float32),
    }


@pytest.mark.parametrize(
    ("parts_from", "taken"),
    [
        ({"vae": 1}, ["VAE"]),
        ({"schedule": 1}, ["schedule"]),
        ({"ema": 1, "vae": 1}, ["EMA", "VAE"]),
        ({}, []),
    ],
)
def test_parts_of_single_files_are_those_of_the_seed_that_is_named(tmp_path, parts_from, taken):
    a, b = a1111(0), b1111()
    files = [single(tmp_path, k, each) for k, each in enumerate((a, b))]
    space = m2n2lab.CheckpointSpace(*files, parts_from=parts_from)
    out = tmp_path / "merged.safetensors"
    space.save(space.seeds[0], out)
    made, _ = read(out)
    wanted = {name: value for name, value in a.items() if part_of(name) not in taken}
    wanted |= {name: value for name, value in b.items() if part_of(name) in taken}
    assert set(made) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(made[name], value)
        assert made[name].dtype == value.dtype
    m2n2lab.rebuild(tmp_path / "merged.recipe.json", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_parts_can_be_left_out(tmp_path):
    files = [single(tmp_path, 0, b1111()), single(tmp_path, 1)]
    space = m2n2lab.CheckpointSpace(*files, parts_from={"ema": None, "vae": None})
    space.save(space.seeds[0], tmp_path / "merged.safetensors")
    made, _ = read(tmp_path / "merged.safetensors")
    assert set(made) == {n for n in b1111() if part_of(n) not in ("EMA", "VAE")}


@pytest.mark.parametrize("source", [0, 1])
def test_the_denoiser_alone_is_merged_with_the_text_encoders_of_one(tmp_path, source):
    a, b = a1111(0), a1111(1)
    files = [single(tmp_path, k, each) for k, each in enumerate((a, b))]
    space = m2n2lab.CheckpointSpace(
        *files, components=["unet"], parts_from={"text_encoder": source}
    )
    assert all(name.startswith(PREFIX) for name in space.layout.shapes)
    space.save(space.merge(*space.seeds, space.size, 0.5), tmp_path / "merged.safetensors")
    made, _ = read(tmp_path / "merged.safetensors")
    for name in a:
        if name.startswith(CLIP):
            np.testing.assert_array_equal(made[name], (a, b)[source][name])
    m2n2lab.rebuild(tmp_path / "merged.recipe.json", tmp_path / "again.safetensors")
    again = (tmp_path / "again.safetensors").read_bytes()
    assert again == (tmp_path / "merged.safetensors").read_bytes()


def test_a_vae_is_merged_if_it_is_named(tmp_path):
    files = [single(tmp_path, k, each) for k, each in enumerate((a1111(0), a1111(1)))]
    space = m2n2lab.CheckpointSpace(*files, components=["unet", "vae"])
    assert VAE in space.layout.shapes
    assert not any(name.startswith(CLIP) for name in space.layout.shapes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts_from": {"ema": 1}}, r"--ema-from must name a seed that has it, but .* no EMA"),
        ({"parts_from": {"vae": 2}}, r"--vae-from must be the number of a seed from 0 to 1, got 2"),
        (
            {"parts_from": {"vae": 1}, "components": ["vae"]},
            r"--vae-from is for parts that are not merged",
        ),
        ({"parts_from": {"unet": 1}}, r"'unet'"),
        ({"components": ["prior"]}, r"a component 'prior', but found only unet"),
    ],
)
def test_parts_that_cannot_be_taken_are_refused(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        m2n2lab.CheckpointSpace(single(tmp_path, 0), single(tmp_path, 1), **options)


def test_a_bare_denoiser_has_no_place_for_a_vae(tmp_path):
    files = [single(tmp_path, 0, weights(0, UNET, "")), single(tmp_path, 1)]
    with pytest.raises(InputError, match="name a whole model first"):
        m2n2lab.CheckpointSpace(*files, parts_from={"vae": 1})


def test_components_of_pipelines_are_those_of_the_seed_that_is_named(tmp_path):
    folders = [sdxl(tmp_path / name, seed) for seed, name in enumerate("ab")]
    path = folders[1] / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "beta_start": 0.5}))
    space = m2n2lab.CheckpointSpace(
        *folders, components=["unet"], parts_from={"vae": 1, "schedule": 1}
    )
    out = tmp_path / "out"
    space.save(space.seeds[0], out)
    vaes = [load_file(f / "vae/diffusion_pytorch_model.safetensors") for f in (out, folders[1])]
    assert all(bool((vaes[0][name] == vaes[1][name]).all()) for name in vaes[1])
    assert json.loads((out / "scheduler/scheduler_config.json").read_text())["beta_start"] == 0.5
    live = space.materialise(space.seeds[0])
    assert live.scheduler.config.beta_start == 0.5
    m2n2lab.rebuild(out / "recipe.json", tmp_path / "again")
    for path in out.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(out)).read_bytes() == path.read_bytes()
    with pytest.raises(InputError, match="--ema-from is for single files"):
        m2n2lab.CheckpointSpace(*folders, components=["unet"], parts_from={"ema": 1})
