"""Pipelines in any dtype and under any file name: what is drawn is what is saved."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from helpers.sdxl import hub_keys, kept_in, sdxl
from safetensors.torch import load_file

import m2n2lab
from m2n2lab import InputError
from m2n2lab.tasks.images.diffusion import Painter, Prompt

PROMPTS = [Prompt("a b"), Prompt("ab", noise=3)]
SHARDS = "40KB"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with pipelines a and b, in float32."""
    home = tmp_path_factory.mktemp("pipelines")
    for seed, name in enumerate("ab"):
        sdxl(home / name, seed)
    return home


def pair(home, to, dtype="float16", **options):
    return [kept_in(to / name, home / name, dtype, **options) for name in "ab"]


def pictures(pipeline):
    return next(Painter(steps=2, guidance=5.0, size=16).batches(pipeline, PROMPTS)).pictures


def loaded(folder, dtype, **options):
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder, torch_dtype=getattr(torch, dtype), **options)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("components", "dtype"),
    [
        (None, "float16"),
        (["unet"], "bfloat16"),
        (["unet", "vae"], "float32"),
        *(
            pytest.param(components, dtype, marks=pytest.mark.slow)
            for components, others in (
                (None, ("bfloat16", "float32")),
                (["unet"], ("float16", "float32")),
                (["unet", "vae"], ("float16", "bfloat16")),
            )
            for dtype in others
        ),
    ],
)
def test_what_is_drawn_is_what_is_saved_bit_for_bit(home, tmp_path, dtype, components):
    space = m2n2lab.CheckpointSpace(*pair(home, tmp_path, dtype), components=components)
    child = space.merge(*space.seeds, space.size // 2, 0.3)
    live = space.materialise(child)
    modules = (live.unet, live.vae, live.text_encoder, live.text_encoder_2)
    assert {module.dtype for module in modules} == {getattr(torch, dtype)}
    first = pictures(live)
    assert first.std() > 10
    # The pipeline decodes half precision in single precision, which moves the VAE's weights.
    other = pictures(space.materialise(space.seeds[1]))
    again = pictures(space.materialise(child))
    space.save(child, tmp_path / "merged")
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, pictures(loaded(tmp_path / "merged", dtype)))
    assert (first != other).any()


def test_seeds_of_several_dtypes_draw_in_that_of_the_first_or_the_requested_one(home, tmp_path):
    half, single = pair(home, tmp_path)[0], home / "b"
    shutil.copytree(home / "a" / "text_encoder", half / "text_encoder", dirs_exist_ok=True)
    found = m2n2lab.CheckpointSpace(half, single)
    live = found.materialise(found.merge(*found.seeds, found.size // 2, 0.3))
    assert {live.unet.dtype, live.vae.dtype, live.text_encoder.dtype} == {torch.float16}
    chosen = m2n2lab.CheckpointSpace(half, single, dtype="bfloat16")
    child = chosen.merge(*chosen.seeds, chosen.size // 2, 0.3)
    drawn = pictures(chosen.materialise(child))
    chosen.save(child, tmp_path / "merged")
    np.testing.assert_array_equal(drawn, pictures(loaded(tmp_path / "merged", "bfloat16")))


def test_a_module_of_another_dtype_gets_the_weights_as_they_are_saved(home, tmp_path):
    space = m2n2lab.CheckpointSpace(
        *pair(home, tmp_path, "bfloat16"), components=["unet"], module=loaded(home / "a", "float32")
    )
    child = space.merge(*space.seeds, space.size // 3, 0.4)
    space.save(child, tmp_path / "merged")
    saved = load_file(tmp_path / "merged" / "unet" / "diffusion_pytorch_model.safetensors")
    live = space.materialise(child).unet.state_dict()
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    assert all(torch.equal(live[name], value.float()) for name, value in saved.items())


def test_text_encoders_with_the_keys_of_the_hub_are_drawn_with(home, tmp_path):
    seeds = [hub_keys(shutil.copytree(home / name, tmp_path / name)) for name in "ab"]
    assert "text_model.final_layer_norm.bias" in load_file(
        tmp_path / "a" / "text_encoder" / "model.safetensors"
    )
    plain = m2n2lab.CheckpointSpace(home / "a", home / "b")
    space = m2n2lab.CheckpointSpace(*seeds)
    assert space.size == plain.size
    for own, other in zip(space.seeds, plain.seeds, strict=True):
        np.testing.assert_array_equal(
            pictures(space.materialise(own)), pictures(plain.materialise(other))
        )


# -- variants ----------------------------------------------------------------------------------


def older_names(folder):
    """Rename sharded variants as libraries wrote them before."""
    for path in list(folder.rglob("*.fp16-*.safetensors")):
        path.rename(path.with_name(re.sub(r"\.fp16(-\d+-of-\d+)", r"\1.fp16", path.name)))
    for path in list(folder.rglob("*.index.fp16.json")):
        index = json.loads(path.read_text())
        index["weight_map"] = {
            name: re.sub(r"\.fp16(-\d+-of-\d+)", r"\1.fp16", file)
            for name, file in index["weight_map"].items()
        }
        path.write_text(json.dumps(index))
        path.rename(path.with_name(path.name.replace(".index.fp16.json", ".fp16.index.json")))


@pytest.mark.parametrize("shape", ["whole", "shards", "older shards"])
def test_variants_are_read_and_the_result_has_plain_names(home, tmp_path, shape):
    size = {} if shape == "whole" else {"max_shard_size": SHARDS}
    seeds = pair(home, tmp_path, variant="fp16", **size)
    if shape == "older shards":
        for seed in seeds:
            older_names(seed)
    assert any("fp16" in name for name in files(seeds[0]))
    assert any("00002" in name for name in files(seeds[0])) == (shape != "whole")
    space = m2n2lab.CheckpointSpace(*seeds, components=["unet"])
    child = space.merge(*space.seeds, space.size // 2, 0.3)
    drawn = pictures(space.materialise(child))
    space.save(child, tmp_path / "merged")
    assert not any("fp16" in name for name in files(tmp_path / "merged"))
    np.testing.assert_array_equal(drawn, pictures(loaded(tmp_path / "merged", "float16")))
    plain = m2n2lab.CheckpointSpace(*pair(home, tmp_path / "plain", **size), components=["unet"])
    np.testing.assert_array_equal(drawn, pictures(plain.materialise(child)))
    m2n2lab.rebuild(tmp_path / "merged" / "recipe.json", tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "merged")
    for name in files(tmp_path / "merged"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "merged" / name).read_bytes()


@pytest.mark.parametrize("size", [{}, {"max_shard_size": SHARDS}])
def test_the_variant_is_kept_if_asked(home, tmp_path, size):
    seeds = pair(home, tmp_path, variant="fp16", **size)
    for seed in seeds:  # as many repositories: single precision beside half precision
        shutil.copytree(home / seed.name, seed, dirs_exist_ok=True)
    both = m2n2lab.CheckpointSpace(*seeds, components=["unet"], variant="fp16")
    assert set(both.plan.dtypes.values()) == {"F16"}
    assert set(m2n2lab.CheckpointSpace(*seeds).plan.dtypes.values()) == {"F32"}
    child = both.merge(*both.seeds, both.size // 2, 0.3)
    drawn = pictures(both.materialise(child))
    both.save(child, tmp_path / "merged")
    weights = {name for name in files(tmp_path / "merged") if ".safetensors" in name}
    assert weights
    assert all("fp16" in name for name in weights)
    saved = loaded(tmp_path / "merged", "float16", variant="fp16")
    np.testing.assert_array_equal(drawn, pictures(saved))
    m2n2lab.rebuild(tmp_path / "merged" / "recipe.json", tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "merged")


def test_workers_open_the_same_variant(home, tmp_path):
    import cloudpickle

    seeds = pair(home, tmp_path, variant="fp16")
    space = m2n2lab.CheckpointSpace(*seeds, components=["unet"], variant="fp16")
    other = cloudpickle.loads(cloudpickle.dumps(space))
    assert other.plan.variant == "fp16"
    assert other.plan.dtypes == space.plan.dtypes


def test_one_of_several_variants_must_be_chosen(home, tmp_path):
    seeds = pair(home, tmp_path, variant="fp16")
    for seed in seeds:
        file = seed / "unet" / "diffusion_pytorch_model.fp16.safetensors"
        shutil.copy(file, file.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    with pytest.raises(
        InputError, match=r"several variants: fp16, non_ema; choose one .*--variant"
    ):
        m2n2lab.CheckpointSpace(*seeds, components=["unet"])
    space = m2n2lab.CheckpointSpace(*seeds, components=["unet"], variant="non_ema")
    assert space.plan.base.files[0].path.name == "diffusion_pytorch_model.non_ema.safetensors"


def test_a_missing_shard_of_a_variant_is_asked_for_by_its_name(home, tmp_path):
    seeds = pair(home, tmp_path, variant="fp16", max_shard_size=SHARDS)
    name = "diffusion_pytorch_model.safetensors.index.fp16.json"
    (seeds[0] / "unet" / name).unlink()
    with pytest.raises(InputError) as error:
        m2n2lab.CheckpointSpace(*seeds, components=["unet"])
    assert name in str(error.value)
    assert "fp16.safetensors.index.json" not in str(error.value)


def test_an_interrupted_picture_leaves_the_pipeline_in_its_dtype(home, tmp_path):
    pipeline = loaded(pair(home, tmp_path)[0], "float16")
    decode = pipeline.vae.decode

    def interrupted(*values, **options):
        raise KeyboardInterrupt

    pipeline.vae.decode = interrupted
    with pytest.raises(KeyboardInterrupt):
        pictures(pipeline)
    pipeline.vae.decode = decode
    assert pipeline.vae.dtype == torch.float16
    assert pictures(pipeline).std() > 10
