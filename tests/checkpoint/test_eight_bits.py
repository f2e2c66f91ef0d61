"""Weights in 8-bit floats: read by casting, with or without scales, and written."""

import numpy as np
import pytest
import torch
from helpers.checkpoints import tensors
from safetensors import safe_open

import m2n2lab
from m2n2lab import InputError
from m2n2lab.checkpoint import preflight

PREFIX = "model.diffusion_model."
BLOCKS = f"{PREFIX}double_blocks.0.img_attn.qkv"
TORCH = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def flux(seed, dtype=torch.float16):
    """Return some tensors of a denoiser in the layout of FLUX."""
    torch.manual_seed(seed)
    shapes = {
        f"{BLOCKS}.weight": (12, 4),
        f"{BLOCKS}.bias": (12,),
        f"{PREFIX}img_in.weight": (4, 8),
    }
    return {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}


def saved(tmp_path, contents):
    return [tensors(tmp_path / f"{'AB'[k]}.safetensors", each) for k, each in enumerate(contents)]


def read(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in list(file.keys())}


def slerp(a, b, mix):
    """Return the float64 SLERP of tensors by name."""
    x, y = (torch.cat([t.double().flatten() for t in each.values()]).numpy() for each in (a, b))
    omega = np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    flat = (np.sin((1 - mix) * omega) * x + np.sin(mix * omega) * y) / np.sin(omega)
    sizes = np.cumsum([t.numel() for t in a.values()])[:-1]
    parts = np.split(flat, sizes)
    return {n: torch.from_numpy(p.reshape(a[n].shape)) for n, p in zip(a, parts, strict=True)}


def merged(files, out, mix=0.4, **options):
    space = m2n2lab.CheckpointSpace(*files, **options)
    space.save(space.merge(*space.seeds, space.size, mix), out)
    return read(out)


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("narrow", [0, 1])
def test_files_that_were_merely_cast_are_read(tmp_path, dtype, narrow):
    contents = [flux(0), flux(1)]
    contents[narrow] = {name: t.to(TORCH[dtype]) for name, t in contents[narrow].items()}
    made = merged(saved(tmp_path, contents), tmp_path / "merged.safetensors", dtype="float32")
    wanted = slerp(*contents, 0.4)
    for name, tensor in wanted.items():
        torch.testing.assert_close(made[name].double(), tensor, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", TORCH)
def test_a_result_is_rounded_once_to_8_bits_as_torch_rounds(tmp_path, dtype):
    files = saved(tmp_path, [flux(0), flux(1)])
    exact = merged(files, tmp_path / "exact.safetensors", dtype="float32")
    short = {"F8_E4M3": "fp8", "F8_E5M2": "fp8_e5m2"}[dtype]
    made = merged(files, tmp_path / "merged.safetensors", dtype=short)
    for name, tensor in made.items():
        assert tensor.dtype == (torch.float16 if "bias" in name else TORCH[dtype])
        assert torch.equal(tensor.float(), exact[name].to(tensor.dtype).float())


def test_a_result_has_the_8_bits_of_the_first_file(tmp_path):
    low = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in flux(0).items()}
    made = merged(saved(tmp_path, [low, flux(1)]), tmp_path / "merged.safetensors")
    assert {tensor.dtype for tensor in made.values()} == {torch.float8_e4m3fn}


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_scales_are_applied_and_left_out(tmp_path, name, rows):
    a = flux(0, torch.float32)
    weight = a[f"{BLOCKS}.weight"]
    scale = weight.abs().amax(1, keepdim=True) / 448 if rows else weight.abs().max() / 448
    low = (weight / scale).to(torch.float8_e4m3fn)
    scaled = {
        **a,
        f"{BLOCKS}.weight": low,
        f"{BLOCKS}.{name}": scale,
        f"{BLOCKS}.scale_input": torch.ones(()),
        f"{PREFIX}scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn),
    }
    files = saved(tmp_path, [scaled, flux(1)])
    assert any("times their scales" in note for note in preflight(files).notes)
    made = merged(files, tmp_path / "merged.safetensors", dtype="float32")
    assert set(made) == set(a)
    wanted = slerp({**a, f"{BLOCKS}.weight": low.float() * scale}, flux(1), 0.4)
    for key, tensor in wanted.items():
        torch.testing.assert_close(made[key].double(), tensor, rtol=1e-5, atol=1e-6)
    # Without a dtype, the weights are as wide as modules compute.
    plain = merged(files, tmp_path / "plain.safetensors")
    assert plain[f"{BLOCKS}.weight"].dtype == torch.bfloat16
    assert plain[f"{BLOCKS}.bias"].dtype == torch.float32


def test_scaled_weights_that_are_carried_keep_their_scales(tmp_path):
    more = {
        "first_stage_model.x.weight": torch.ones(2, 2).to(torch.float8_e4m3fn),
        "first_stage_model.x.scale_weight": torch.tensor(0.5),
    }
    made = merged(saved(tmp_path, [{**flux(0), **more}, flux(1)]), tmp_path / "merged.safetensors")
    assert set(made) == {*flux(0), *more}


def test_numbers_too_large_for_8_bits_are_refused(tmp_path):
    large = {name: tensor * 400 for name, tensor in flux(0).items()}
    files = saved(tmp_path, [large, flux(1)])
    with pytest.raises(InputError, match="within the range of F8_E4M3"):
        merged(files, tmp_path / "merged.safetensors", mix=0.0, dtype="fp8")
    assert not (tmp_path / "merged.safetensors").exists()
    merged(files, tmp_path / "wide.safetensors", mix=0.0, dtype="fp8_e5m2")


def test_blockwise_scales_and_other_formats_are_refused(tmp_path):
    blocks = {
        f"{BLOCKS}.weight": flux(0)[f"{BLOCKS}.weight"].to(torch.float8_e4m3fn),
        f"{BLOCKS}.weight_scale_inv": torch.ones(2, 2),
    }
    with pytest.raises(InputError, match="quantised"):
        m2n2lab.CheckpointSpace(*saved(tmp_path, [{**flux(0), **blocks}, flux(1)]))


@pytest.mark.parametrize("mix", [0.5, 0.3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_tensors_equal_in_both_files_stay_exactly_equal(tmp_path, dtype, mix):
    a, b = flux(0, dtype), flux(1, dtype)
    same = f"{PREFIX}img_in.weight"
    b[same] = a[same].clone()
    text = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
    schedule = {"alphas_cumprod": torch.linspace(1, 0.01, 10), "betas": torch.rand(10)}
    for each in (a, b):
        each |= {text: torch.linspace(0.9, 1.1, 7).to(dtype), **schedule}
    files = saved(tmp_path, [a, b])
    made = merged(files, tmp_path / "merged.safetensors", mix)
    for name in (same, text, *schedule):
        assert torch.equal(made[name], a[name])
    assert not torch.equal(made[f"{BLOCKS}.weight"], a[f"{BLOCKS}.weight"])


def test_a_component_that_is_equal_in_both_folders_stays_exactly_equal(tmp_path):
    import shutil

    from helpers.sdxl import sdxl
    from safetensors.torch import load_file

    folders = [sdxl(tmp_path / name, seed) for seed, name in enumerate("ab")]
    shutil.rmtree(folders[1] / "text_encoder")
    shutil.copytree(folders[0] / "text_encoder", folders[1] / "text_encoder")
    space = m2n2lab.CheckpointSpace(*folders)
    space.save(space.merge(*space.seeds, space.size, 0.5), tmp_path / "merged")
    name = "text_encoder/model.safetensors"
    assert (tmp_path / "merged" / name).is_file()
    made, a = load_file(tmp_path / "merged" / name), load_file(folders[0] / name)
    assert all(torch.equal(made[key], tensor) for key, tensor in a.items())
