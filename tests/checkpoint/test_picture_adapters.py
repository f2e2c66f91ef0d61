"""Adapters of picture models, in folders and single files, under the names of either layout."""

import json
import re

import numpy as np
import pytest
import torch
from helpers.adapters import factors
from helpers.checkpoints import pipeline, tensors
from helpers.merges import run
from helpers.sdxl import sdxl, single_file
from safetensors.torch import load_file, save_file

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.checkpoint import Checkpoint, preflight

TARGETS = {
    "unet": [
        *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1", "conv_shortcut"),
        *("time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv"),
    ],
    "text_encoder": ["q_proj", "fc1"],
    "text_encoder_2": ["q_proj", "out_proj"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    sdxl(folder / "xl")
    pipeline(folder / "sd")
    for name in ("xl", "sd"):
        single_file(folder / name, folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def trained(base, folder, dora=False):
    """Save a LoRA of all models of a pipeline as diffusers does; return its tensors."""
    from diffusers import DiffusionPipeline
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    pipe = DiffusionPipeline.from_pretrained(base)
    torch.manual_seed(1)
    layers, settings = {}, {}
    for name, targets in TARGETS.items():
        if getattr(pipe, name, None) is None:
            continue
        module = getattr(pipe, name)
        config = LoraConfig(
            r=3, lora_alpha=6, target_modules=targets, init_lora_weights=False, use_dora=dora
        )
        inject_adapter_in_model(config, module)
        module.peft_config = {"default": config}
        layers[f"{name}_lora_layers"] = get_peft_model_state_dict(module)
        kept = {"r": 3, "lora_alpha": 6, "target_modules": targets, "use_dora": dora}
        settings[f"{name}_lora_adapter_metadata"] = kept
    pipe.save_lora_weights(folder, **layers, **settings)
    return load_file(folder / "pytorch_lora_weights.safetensors")


def denoiser_of(lora):
    return {name: value for name, value in lora.items() if name.startswith(("unet", "lora_unet"))}


def fused(base, lora, scale, folder, settings=None):
    """Return the tensors of a denoiser that diffusers fused the denoiser's part of a LoRA into."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(base)
    kept = {} if settings is None else {"lora_adapter_metadata": json.dumps(settings)}
    folder.mkdir()
    save_file(denoiser_of(lora), folder / "x.safetensors", {"format": "pt", **kept})
    pipe.load_lora_weights(folder, weight_name="x.safetensors")
    pipe.fuse_lora(components=["unet"], lora_scale=scale)
    pipe.unload_lora_weights()
    return pipe.unet.state_dict()


def found_in(source, component, components=None):
    """Return a component's tensors of a seed, in float64, by their names in it."""
    opened = Checkpoint.open(source, components)
    return {
        name.partition("/")[2].removeprefix("text_model."): torch.from_numpy(
            opened.array(name)[:].astype(np.float64)
        ).reshape(opened.entry(name).shape)
        for name in opened.merged
        if name.startswith(f"{component}/")
    }


def agree(found, wanted):
    assert found
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name].double(), atol=1e-6, rtol=0, msg=name)


def added(base, lora, strength, scale):
    """Return a text encoder's tensors with W + strength·scale·B·A, from PEFT's names."""
    for name in base:
        module = name.removesuffix(".weight")
        down, up = (lora.get(f"{module}.lora_{x}.weight") for x in "AB")
        if down is not None:
            base[name] = base[name] + strength * scale * (up.double() @ down.double())
    return base


def inside(lora, component):
    begin = re.compile(rf"{component}\.(text_model\.)?")
    return {begin.sub("", name, 1): v for name, v in lora.items() if begin.match(name)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", ["sd", "xl"])
def test_a_lora_of_diffusers_is_what_it_fuses(base, here, tmp_path):
    lora = trained(base, here / f"{base}-lora")
    settings = {"unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": TARGETS["unet"]}
    source = f"{base}+{base}-lora:0.8"
    wanted = fused(base, lora, 0.8, tmp_path / "x", settings)
    agree(found_in(source, "unet"), wanted)
    for text in ("text_encoder", "text_encoder_2"):
        if (here / base / text).is_dir():
            own = found_in(base, text)
            agree(found_in(source, text), added(own, inside(lora, text), 0.8, 2.0))


@pytest.mark.filterwarnings("ignore")
def test_dora_of_diffusers_is_what_it_fuses(here, tmp_path):
    lora = trained("xl", here / "xl-dora", dora=True)
    settings = {
        **{"unet.r": 3, "unet.lora_alpha": 6, "unet.use_dora": True},
        "unet.target_modules": TARGETS["unet"],
    }
    wanted = fused("xl", lora, 1.0, tmp_path / "x", settings)
    agree(found_in("xl+xl-dora", "unet"), wanted)


def kohya(lora, base):
    """Return a LoRA of diffusers under kohya's names, which have alphas of their own."""
    begins = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}
    if base == "xl":
        begins["text_encoder"] = "lora_te1"
    found = {}
    for name, value in lora.items():
        component, _, rest = name.partition(".")
        module, way = re.fullmatch(r"(.+)\.lora_([AB])\.weight", rest).groups()
        if component != "unet" and not module.startswith("text_model"):
            module = f"text_model.{module}"
        key = f"{begins[component]}_{module.replace('.', '_')}"
        found[f"{key}.lora_{'down' if way == 'A' else 'up'}.weight"] = value
        found[f"{key}.alpha"] = torch.tensor(1.5)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", ["sd", "xl"])
def test_a_lora_of_kohya_is_what_diffusers_fuses(base, here, tmp_path):
    lora = trained(base, tmp_path / "lora")
    save_file(kohya(lora, base), here / f"{base}-kohya.safetensors")
    source = f"{base}+{base}-kohya.safetensors:0.8"
    agree(found_in(source, "unet"), fused(base, kohya(lora, base), 0.8, tmp_path / "x"))
    for text in ("text_encoder", "text_encoder_2"):
        if (here / base / text).is_dir():
            own = found_in(base, text)
            agree(found_in(source, text), added(own, inside(lora, text), 0.8, 0.5))


def original(module):
    """Return a UNet's module under its name in single files, as the helper for files says."""
    from helpers.sdxl import _single

    return _single(f"{module}.weight").removesuffix(".weight")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("names", ["diffusers", "original", "dotted"])
def test_either_layout_takes_names_of_either(names, file, here, tmp_path):
    lora = denoiser_of(trained("xl", tmp_path / "lora"))
    renamed = {}
    for name, value in lora.items():
        module, way = re.fullmatch(r"unet\.(.+)\.lora_([AB])\.weight", name).groups()
        other = module if names == "diffusers" else original(module)
        begin = "diffusion_model." if names == "dotted" else "lora_unet_"
        key = begin + (other if names == "dotted" else other.replace(".", "_"))
        renamed[f"{key}.lora_{'down' if way == 'A' else 'up'}.weight"] = value
    save_file(renamed, tmp_path / "a.safetensors")
    wanted = found_in("xl", "unet")
    for name in wanted:
        module = f"unet.{name.removesuffix('.weight')}"
        down, up = (lora.get(f"{module}.lora_{x}.weight") for x in "AB")
        if name.endswith(".weight") and down is not None:
            change = up.double().flatten(1) @ down.double().flatten(1)
            wanted[name] = wanted[name] + change.reshape(wanted[name].shape)
    if not file:
        agree(found_in(f"xl+{tmp_path / 'a.safetensors'}", "unet"), wanted)
        return
    opened = Checkpoint.open(f"xl.safetensors+{tmp_path / 'a.safetensors'}")
    for name, value in wanted.items():
        stem, _, leaf = name.rpartition(".")
        full = f"model.diffusion_model.{original(stem)}.{leaf}"
        np.testing.assert_allclose(opened.array(full)[:], value.flatten().numpy(), atol=1e-12)


# -- other forms, against their formulas ---------------------------------------------------------

UNET = {
    "input_blocks.0.0.weight": (8, 4, 3, 3),
    "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1),
    "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight": (12, 8),
    "input_blocks.1.1.norm.weight": (8,),
    "input_blocks.1.1.norm.bias": (8,),
}
TO_Q = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
CONV = "lora_unet_input_blocks_0_0"
PREFIX = "model.diffusion_model."


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.safetensors"
    tensors(path, {f"{PREFIX}{name}": draw(*shape) for name, shape in UNET.items()})
    return path


def delta(base, lora, name, strength="1"):
    """Return what an adapter adds to a tensor of a denoiser."""
    path = base.with_name("lora.safetensors")
    save_file({key: value.contiguous() for key, value in lora.items()}, path)
    changed = Checkpoint.open(f"{base}+{path}:{strength}").array(f"{PREFIX}{name}")[:]
    own = Checkpoint.open(base).array(f"{PREFIX}{name}")[:]
    return torch.from_numpy(changed - own).reshape(UNET[name])


def test_a_tucker_convolution_is_its_three_factors(base):
    lora = factors(CONV, 8, 4, rank=3, alpha=6, conv=3, mid=True)
    up, mid, down = (lora[f"{CONV}.lora_{x}.weight"].double() for x in ("up", "mid", "down"))
    wanted = torch.einsum("pi,ijkl,jr->prkl", up[:, :, 0, 0], mid, down[:, :, 0, 0]) * 2
    found = delta(base, lora, "input_blocks.0.0.weight", "0.5")
    torch.testing.assert_close(found, 0.5 * wanted, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("tucker", [False, True])
def test_loha_is_the_product_of_two_products(tucker, base):
    lora = {f"{CONV}.alpha": torch.tensor(1)}  # an integer, as some programs write it
    if tucker:
        for k in (1, 2):
            lora[f"{CONV}.hada_w{k}_a"] = draw(2, 8, seed=k)
            lora[f"{CONV}.hada_w{k}_b"] = draw(2, 4, seed=k + 5)
            lora[f"{CONV}.hada_t{k}"] = draw(2, 2, 3, 3, seed=k + 9)
    else:
        for k in (1, 2):
            lora[f"{CONV}.hada_w{k}_a"] = draw(8, 2, seed=k)
            lora[f"{CONV}.hada_w{k}_b"] = draw(2, 36, seed=k + 5)

    def one(k):
        a, b = (lora[f"{CONV}.hada_w{k}_{x}"].double() for x in "ab")
        if not tucker:
            return (a @ b).reshape(8, 4, 3, 3)
        return torch.einsum("ijkl,jr,ip->prkl", lora[f"{CONV}.hada_t{k}"].double(), b, a)

    found = delta(base, lora, "input_blocks.0.0.weight")
    torch.testing.assert_close(found, one(1) * one(2) / 2, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("form", ["whole", "split", "tucker"])
def test_lokr_is_a_kronecker_product(form, base):
    first = draw(2, 2)
    lora = {f"{CONV}.lokr_w1": first, f"{CONV}.alpha": torch.tensor(8.0)}
    if form == "whole":
        second, scale = draw(4, 2, 3, 3), 1.0  # alpha means nothing without a rank
        lora[f"{CONV}.lokr_w2"] = second
    elif form == "split":
        a, b, scale = draw(4, 2), draw(2, 18), 4.0
        lora |= {f"{CONV}.lokr_w2_a": a, f"{CONV}.lokr_w2_b": b}
        second = (a.double() @ b.double()).reshape(4, 2, 3, 3)
    else:
        core, a, b, scale = draw(2, 2, 3, 3), draw(2, 4), draw(2, 2), 4.0
        lora |= {f"{CONV}.lokr_w2_a": a, f"{CONV}.lokr_w2_b": b, f"{CONV}.lokr_t2": core}
        second = torch.einsum("ijkl,ip,jr->prkl", core.double(), a.double(), b.double())
    wanted = torch.kron(first.double()[:, :, None, None], second.double().contiguous()) * scale
    found = delta(base, lora, "input_blocks.0.0.weight")
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("way", ["rows", "columns"])
def test_lycoris_sets_the_norms_of_rows_or_of_columns(way, base):
    lora = factors(CONV, 8, 4, rank=3, alpha=3, conv=3)
    up, down = (lora[f"{CONV}.lora_{x}.weight"].double().flatten(1) for x in ("up", "down"))
    own = draw(8, 4, 3, 3).double()
    moved = own + (up @ down).reshape(own.shape)
    scale = draw(*((8, 1, 1, 1) if way == "rows" else (1, 4, 1, 1))).abs() + 0.5
    axes = (1, 2, 3) if way == "rows" else (0, 2, 3)
    wanted = moved * scale.double() / moved.square().sum(axes, keepdim=True).sqrt()
    found = delta(base, {**lora, f"{CONV}.dora_scale": scale}, "input_blocks.0.0.weight")
    torch.testing.assert_close(found + own, wanted, atol=1e-6, rtol=1e-6)


def test_whole_differences_and_norms_are_added(base):
    key = "lora_unet_input_blocks_1_1_norm"
    lora = {f"{TO_Q}.diff": draw(12, 8), f"{key}.w_norm": draw(8), f"{key}.b_norm": draw(8, seed=3)}
    for name, value in (
        ("input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", draw(12, 8)),
        ("input_blocks.1.1.norm.weight", draw(8)),
        ("input_blocks.1.1.norm.bias", draw(8, seed=3)),
    ):
        found = delta(base, lora, name, "-2")
        torch.testing.assert_close(found, -2 * value.double(), atol=1e-6, rtol=1e-6)


def test_older_processors_of_attention_are_read(here, tmp_path):
    block = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor"
    lora = {
        f"{block}.{name}_lora.{way}.weight": draw(*shape)
        for name in ("to_q", "to_out")
        for way, shape in (("down", (2, 16)), ("up", (16, 2)))
    }
    save_file(lora, tmp_path / "old.safetensors")
    found, own = (found_in(s, "unet") for s in (f"xl+{tmp_path / 'old.safetensors'}", "xl"))
    changed = sorted(name for name in own if (found[name] != own[name]).any())
    attention = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    assert changed == [f"{attention}.to_out.0.weight", f"{attention}.to_q.weight"]


# -- fused modules -------------------------------------------------------------------------------

D = 8
FLUX = {
    "transformer_blocks.0.attn.to_q.weight": (D, D),
    "transformer_blocks.0.attn.to_k.weight": (D, D),
    "transformer_blocks.0.attn.to_v.weight": (D, D),
    "transformer_blocks.0.attn.to_out.0.weight": (D, D),
    "transformer_blocks.0.attn.add_q_proj.weight": (D, D),
    "transformer_blocks.0.attn.add_k_proj.weight": (D, D),
    "transformer_blocks.0.attn.add_v_proj.weight": (D, D),
    "transformer_blocks.0.attn.to_add_out.weight": (D, D),
    "transformer_blocks.0.ff.net.0.proj.weight": (4 * D, D),
    "transformer_blocks.0.ff.net.2.weight": (D, 4 * D),
    "transformer_blocks.0.ff_context.net.0.proj.weight": (4 * D, D),
    "transformer_blocks.0.ff_context.net.2.weight": (D, 4 * D),
    "transformer_blocks.0.norm1.linear.weight": (6 * D, D),
    "transformer_blocks.0.norm1_context.linear.weight": (6 * D, D),
    "single_transformer_blocks.0.attn.to_q.weight": (D, D),
    "single_transformer_blocks.0.attn.to_k.weight": (D, D),
    "single_transformer_blocks.0.attn.to_v.weight": (D, D),
    "single_transformer_blocks.0.proj_mlp.weight": (4 * D, D),
    "single_transformer_blocks.0.proj_out.weight": (D, 5 * D),
    "single_transformer_blocks.0.norm.linear.weight": (3 * D, D),
}
BFL = {
    "double_blocks.0.img_attn.qkv": (3 * D, D),
    "double_blocks.0.txt_attn.qkv": (3 * D, D),
    "double_blocks.0.img_attn.proj": (D, D),
    "double_blocks.0.txt_attn.proj": (D, D),
    "double_blocks.0.img_mlp.0": (4 * D, D),
    "double_blocks.0.img_mlp.2": (D, 4 * D),
    "double_blocks.0.txt_mlp.0": (4 * D, D),
    "double_blocks.0.txt_mlp.2": (D, 4 * D),
    "double_blocks.0.img_mod.lin": (6 * D, D),
    "double_blocks.0.txt_mod.lin": (6 * D, D),
    "single_blocks.0.linear1": (7 * D, D),
    "single_blocks.0.linear2": (D, 5 * D),
    "single_blocks.0.modulation.lin": (3 * D, D),
}


def flux_folder(folder, shapes):
    own = {name: draw(*shape) for name, shape in shapes.items()}
    tensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", own)
    (folder / "transformer" / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    return folder


def flux_lora(path, modules):
    lora = {}
    for seed, (module, (rows, columns)) in enumerate(modules.items()):
        key = f"lora_unet_{module.replace('.', '_')}"
        lora |= factors(key, rows, columns, rank=2, seed=seed, alpha=1)
    save_file(lora, path)
    return lora


def test_fused_modules_of_flux_are_split_as_diffusers_does(tmp_path):
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers

    # The rows that it splits are those of the real model.
    rows = {f"single_transformer_blocks.0.attn.to_{x}.weight": (3072, D) for x in "qkv"}
    rows["single_transformer_blocks.0.proj_mlp.weight"] = (12288, D)
    folder = flux_folder(tmp_path / "flux", {**FLUX, **rows})
    modules = {**BFL, "single_blocks.0.linear1": (7 * 3072, D)}
    lora = flux_lora(tmp_path / "kohya.safetensors", modules)
    converted = _convert_kohya_flux_lora_to_diffusers(dict(lora))
    own, found = (
        found_in(str(source), "transformer", ["transformer"])
        for source in (folder, f"{folder}+{tmp_path / 'kohya.safetensors'}")
    )
    for name, value in own.items():
        module = f"transformer.{name.removesuffix('.weight')}"
        down, up = (converted[f"{module}.lora_{x}.weight"].double() for x in "AB")
        torch.testing.assert_close(found[name], value + up @ down, atol=1e-6, rtol=1e-6, msg=name)


def test_split_modules_are_added_to_fused_ones(tmp_path):
    """An adapter in diffusers' names for a single file in the original layout."""
    file = tmp_path / "flux.safetensors"
    tensors(file, {f"{PREFIX}{name}.weight": draw(*shape) for name, shape in BFL.items()})
    lora = {}
    for seed, (name, (rows, columns)) in enumerate(FLUX.items()):
        key = f"transformer.{name.removesuffix('.weight')}"
        lora[f"{key}.lora_A.weight"] = draw(2, columns, seed=seed)
        lora[f"{key}.lora_B.weight"] = draw(rows, 2, seed=seed)
    save_file(lora, tmp_path / "split.safetensors")
    opened = Checkpoint.open(f"{file}+{tmp_path / 'split.safetensors'}")

    def part(module):
        down, up = (lora[f"transformer.{module}.lora_{x}.weight"].double() for x in "AB")
        return up @ down

    def parts(begin, names):
        return torch.cat([part(f"{begin}.{name}") for name in names])

    begin, single = "transformer_blocks.0.attn", "single_transformer_blocks.0"
    wanted = {
        "double_blocks.0.img_attn.qkv": parts(begin, ("to_q", "to_k", "to_v")),
        "double_blocks.0.txt_attn.qkv": parts(begin, [f"add_{x}_proj" for x in "qkv"]),
        "single_blocks.0.linear1": parts(
            single, ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        ),
        "double_blocks.0.txt_mlp.2": part("transformer_blocks.0.ff_context.net.2"),
    }
    for name, value in wanted.items():
        found = torch.from_numpy(opened.array(f"{PREFIX}{name}.weight")[:]).reshape(BFL[name])
        own = draw(*BFL[name]).double()
        torch.testing.assert_close(found, own + value, atol=1e-6, rtol=1e-6, msg=name)


def test_text_encoders_of_openclip_take_adapters_of_q_k_and_v(tmp_path):
    layer = "conditioner.embedders.1.model.transformer.resblocks.0"
    own = {
        f"{PREFIX}input_blocks.0.0.weight": draw(8, 4, 3, 3),
        f"{layer}.attn.in_proj_weight": draw(12, 4),
        f"{layer}.attn.in_proj_bias": draw(12),
        f"{layer}.mlp.c_fc.weight": draw(16, 4),
    }
    tensors(tmp_path / "xl.safetensors", own)
    begin = "lora_te2_text_model_encoder_layers_0"
    lora = {**factors(f"{begin}_self_attn_k_proj", 4, 4), **factors(f"{begin}_mlp_fc1", 16, 4)}
    save_file(lora, tmp_path / "a.safetensors")
    opened = Checkpoint.open(f"{tmp_path / 'xl.safetensors'}+{tmp_path / 'a.safetensors'}")

    def change(module):
        up, down = (lora[f"{begin}_{module}.lora_{x}.weight"].double() for x in ("up", "down"))
        return up @ down

    wanted = draw(12, 4).double()
    wanted[4:8] += change("self_attn_k_proj")
    found = opened.array(f"{layer}.attn.in_proj_weight")[:].reshape(12, 4)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    found = opened.array(f"{layer}.mlp.c_fc.weight")[:].reshape(16, 4)
    np.testing.assert_allclose(found, draw(16, 4).double() + change("mlp_fc1"), atol=1e-6)


# -- one file in and out, and what is said -------------------------------------------------------


def test_a_file_with_an_adapter_becomes_one_file(base, tmp_path):
    save_file(factors(TO_Q, 12, 8), tmp_path / "style.safetensors")
    out = tmp_path / "baked.safetensors"
    status, _, err = run("merge", f"{base}+{tmp_path / 'style.safetensors'}:0.8", "-o", str(out))
    assert status == 0, err
    made, own = load_file(out), load_file(base)
    changed = [name for name in own if not torch.equal(made[name], own[name])]
    assert changed == [f"{PREFIX}input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"]
    assert "strength 0.8" in out.with_suffix(".md").read_text()


def test_parts_for_models_that_are_not_there_are_left_out_with_a_note(base, tmp_path):
    text = factors("lora_te_text_model_encoder_layers_0_mlp_fc1", 4, 4)
    save_file({**factors(TO_Q, 12, 8), **text}, tmp_path / "style.safetensors")
    found = preflight([f"{base}+{tmp_path / 'style.safetensors'}"])
    (note,) = [note for note in found.notes if "style" in note and "text encoder" in note]
    assert "changes 1 module of a text encoder, which" in note


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"lora_unet_input_blocks_9_1_proj_in.lora_up.weight": (8, 2)}, "which it does not have"),
        ({f"{TO_Q}.oft_blocks": (2, 4, 4)}, "one of another form"),
        ({f"{TO_Q}.a1.weight": (2, 4)}, "one of another form"),
        ({f"{TO_Q}.lora_up.weight": (10, 2), f"{TO_Q}.lora_down.weight": (2, 8)}, "(12, 8)"),
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.diff": (4, 4)}, "that changes nothing"),
    ],
)
def test_what_cannot_be_added_is_refused(lora, words, base, tmp_path):
    save_file({name: draw(*shape) for name, shape in lora.items()}, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match=re.escape(words)):
        CheckpointSpace(base, f"{base}+{tmp_path / 'bad.safetensors'}")


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_blocks_are_numbered_by_the_layers_of_a_unet(layers):
    from m2n2lab.checkpoint.io.adapters.picture_names import other_names

    down = [f"down_blocks.{b}.resnets.{k}.conv1" for b in range(3) for k in range(layers)]
    up = [f"up_blocks.{b}.resnets.{k}.conv1" for b in range(3) for k in range(layers + 1)]
    tails = [f"down_blocks.{b}.downsamplers.0.conv" for b in range(2)]
    names = other_names({*down, *up, *tails})
    assert names["down_blocks.1.resnets.0.conv1"] == [f"input_blocks.{layers + 2}.0.in_layers.2"]
    assert names["down_blocks.1.downsamplers.0.conv"] == [f"input_blocks.{2 * layers + 2}.0.op"]
    last = f"output_blocks.{3 * (layers + 1) - 1}.0.in_layers.2"
    assert names[f"up_blocks.2.resnets.{layers}.conv1"] == [last]
    back = other_names({name for found in names.values() for name in found})
    assert {name for found in back.values() for name in found} >= {*down, *up, *tails}


CLIP = [f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
CLIP += ["mlp.fc1", "mlp.fc2", "layer_norm1", "layer_norm2"]


@pytest.mark.parametrize(
    ("family", "component", "names"),
    [
        ("flux", "transformer", FLUX),
        ("sd3", "transformer", [name for name in FLUX if not name.startswith("single")]),
        ("sdxl", "text_encoder_2", [f"encoder.layers.3.{name}.weight" for name in CLIP]),
    ],
)
def test_modules_lie_where_their_tensors_do(family, component, names):
    """The names of modules agree with those of tensors, by which files are converted."""
    from m2n2lab.checkpoint.io.adapters.picture_names import fusions, other_names
    from m2n2lab.checkpoint.io.picture_layouts import FAMILIES, rules

    begin = FAMILIES[family].texts.get(component, PREFIX)
    rule = rules(family, component, names)
    modules = {name.removesuffix(".weight") for name in names}
    parts = {part: k for each in fusions(modules) for k, part in enumerate(each.parts)}
    others = other_names(modules)
    for module in modules:
        place = rule(f"{module}.weight")
        if place.form != "as it is":
            continue
        expected = place.name.removeprefix(begin).removesuffix("_weight").removesuffix(".weight")
        wholes = {each.whole for each in fusions(modules) if module in each.parts}
        assert expected in {*others.get(module, ()), *wholes}, module
        if module in parts:
            assert parts[module] == place.piece


def test_denoisers_of_sd_lie_where_their_tensors_do(here):
    from m2n2lab.checkpoint.io.adapters.picture_names import other_names
    from m2n2lab.checkpoint.io.picture_layouts import rules

    names = [name for name in found_in("xl", "unet") if name.endswith(".weight")]
    rule = rules("sdxl", "unet", names)
    others = other_names({name.removesuffix(".weight") for name in names})
    for name in names:
        expected = rule(name).name.removeprefix(PREFIX).removesuffix(".weight")
        assert expected in others[name.removesuffix(".weight")]


def test_a_file_with_an_adapter_is_merged_beside_folders(here, tmp_path):
    """A file that is read as the denoiser of a pipeline takes the adapter as a folder does."""
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file(factors(module, 16, 16), tmp_path / "a.safetensors")
    sources = [f"{source}+{tmp_path / 'a.safetensors'}" for source in ("xl", "xl.safetensors")]
    space = CheckpointSpace("xl", *sources, components=["unet"])
    assert space.angle(*space.seeds[1:]) == pytest.approx(0, abs=1e-6)
    assert space.angle(*space.seeds[:2]) > 1e-3
    assert [seed.id for seed in space.plan.seeds[1:]] == sources
