"""Names of modules in the two layouts of picture models: the original one, and that of diffusers.

The original layouts are those of the models' authors, in which single files are kept: CompVis and
Stability AI for SD and SDXL, Black Forest Labs for FLUX, Stability AI for SD3, OpenCLIP for text
encoders. What they are called in diffusers and transformers is what these libraries' own scripts
for converting single files say. Adapters name modules in either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

Pair = tuple[str, str]

_UNET: tuple[Pair, ...] = (
    ("input_blocks.0.0", "conv_in"),
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("middle_block.0", "mid_block.resnets.0"),
    ("middle_block.1", "mid_block.attentions.0"),
    ("middle_block.2", "mid_block.resnets.1"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
_RESNET: tuple[Pair, ...] = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)

_RENAMED: tuple[Pair, ...] = (
    # FLUX
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
    ("double_blocks.{}.img_mod.lin", "transformer_blocks.{}.norm1.linear"),
    ("double_blocks.{}.txt_mod.lin", "transformer_blocks.{}.norm1_context.linear"),
    ("double_blocks.{}.img_attn.proj", "transformer_blocks.{}.attn.to_out.0"),
    ("double_blocks.{}.txt_attn.proj", "transformer_blocks.{}.attn.to_add_out"),
    ("double_blocks.{}.img_mlp.0", "transformer_blocks.{}.ff.net.0.proj"),
    ("double_blocks.{}.img_mlp.2", "transformer_blocks.{}.ff.net.2"),
    ("double_blocks.{}.txt_mlp.0", "transformer_blocks.{}.ff_context.net.0.proj"),
    ("double_blocks.{}.txt_mlp.2", "transformer_blocks.{}.ff_context.net.2"),
    ("single_blocks.{}.modulation.lin", "single_transformer_blocks.{}.norm.linear"),
    ("single_blocks.{}.linear2", "single_transformer_blocks.{}.proj_out"),
    ("final_layer.linear", "proj_out"),
    # SD3
    ("joint_blocks.{}.x_block.attn.proj", "transformer_blocks.{}.attn.to_out.0"),
    ("joint_blocks.{}.context_block.attn.proj", "transformer_blocks.{}.attn.to_add_out"),
    ("joint_blocks.{}.x_block.attn2.proj", "transformer_blocks.{}.attn2.to_out.0"),
    ("joint_blocks.{}.x_block.mlp.fc1", "transformer_blocks.{}.ff.net.0.proj"),
    ("joint_blocks.{}.x_block.mlp.fc2", "transformer_blocks.{}.ff.net.2"),
    ("joint_blocks.{}.context_block.mlp.fc1", "transformer_blocks.{}.ff_context.net.0.proj"),
    ("joint_blocks.{}.context_block.mlp.fc2", "transformer_blocks.{}.ff_context.net.2"),
    ("joint_blocks.{}.x_block.adaLN_modulation.1", "transformer_blocks.{}.norm1.linear"),
    # OpenCLIP
    ("transformer.resblocks.{}.attn.out_proj", "encoder.layers.{}.self_attn.out_proj"),
    ("transformer.resblocks.{}.mlp.c_fc", "encoder.layers.{}.mlp.fc1"),
    ("transformer.resblocks.{}.mlp.c_proj", "encoder.layers.{}.mlp.fc2"),
    ("transformer.resblocks.{}.ln_1", "encoder.layers.{}.layer_norm1"),
    ("transformer.resblocks.{}.ln_2", "encoder.layers.{}.layer_norm2"),
    ("token_embedding", "embeddings.token_embedding"),
    ("ln_final", "final_layer_norm"),
)
"""Modules by their names in the original layout and in that of diffusers or transformers."""

_FUSED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "double_blocks.{}.img_attn.qkv",
        tuple(f"transformer_blocks.{{}}.attn.to_{x}" for x in "qkv"),
    ),
    (
        "double_blocks.{}.txt_attn.qkv",
        tuple(f"transformer_blocks.{{}}.attn.add_{x}_proj" for x in "qkv"),
    ),
    (
        "single_blocks.{}.linear1",
        (
            *(f"single_transformer_blocks.{{}}.attn.to_{x}" for x in "qkv"),
            "single_transformer_blocks.{}.proj_mlp",
        ),
    ),
    (
        "joint_blocks.{}.x_block.attn.qkv",
        tuple(f"transformer_blocks.{{}}.attn.to_{x}" for x in "qkv"),
    ),
    (
        "joint_blocks.{}.context_block.attn.qkv",
        tuple(f"transformer_blocks.{{}}.attn.add_{x}_proj" for x in "qkv"),
    ),
    (
        "joint_blocks.{}.x_block.attn2.qkv",
        tuple(f"transformer_blocks.{{}}.attn2.to_{x}" for x in "qkv"),
    ),
    (
        "transformer.resblocks.{}.attn.in_proj",
        tuple(f"encoder.layers.{{}}.self_attn.{x}_proj" for x in "qkv"),
    ),
)
"""Modules of the original layout whose rows are those of several modules of diffusers in turn."""


class Fusion(NamedTuple):
    """A module of the original layout, and the modules of diffusers that its rows belong to."""

    whole: str
    parts: tuple[str, ...]


def other_names(modules: Set[str]) -> dict[str, list[str]]:
    """Return what modules of a denoiser or text encoder are called in the other layout."""
    found: dict[str, list[str]] = {}
    unet = list(_unet_pairs(modules))
    for module in sorted(modules):
        names = [*_in_unet(module, unet), *_renamed(module)]
        if names:
            found[module] = names
    return found


def fusions(modules: Set[str]) -> Iterator[Fusion]:
    """Yield the modules that are one in the original layout and several in that of diffusers."""
    for whole, parts in _FUSED:
        numbers = {number for module in modules for number in _number(whole, module)}
        numbers |= {number for module in modules for number in _number(parts[0], module)}
        for number in sorted(numbers):
            yield Fusion(whole.format(number), tuple(part.format(number) for part in parts))


def _number(template: str, module: str) -> list[str]:
    """Return the number of a block in a module's name, if it is one of the template's."""
    match = re.fullmatch(re.escape(template).replace(r"\{\}", r"(\d+)"), module)
    return list(match.groups()) if match else []


def _renamed(module: str) -> Iterator[str]:
    for pair in _RENAMED:
        for template, other in (pair, pair[::-1]):
            if module == template:
                yield other
            elif "{}" in template and (number := _number(template, module)):
                yield other.format(*number)


def _unet_pairs(modules: Set[str]) -> Iterable[Pair]:
    """Return the beginnings of names in a UNet in both layouts; none for other models."""
    numbers = re.compile(r"(?:input_blocks\.(\d+)\.0\.op|down_blocks\.(\d+)\.resnets\.(\d+)\..+)")
    found = [match for module in modules if (match := numbers.fullmatch(module))]
    if any(module.startswith("input_blocks.") for module in modules):
        downs = sorted(int(match[1]) for match in found if match[1])
        last = max(int(m.split(".")[1]) for m in modules if m.startswith("input_blocks."))
        layers = (downs[0] if downs else last + 1) - 1
        return _pairs(layers, len(downs) + 1)
    if found:
        layers = max(int(match[3]) for match in found) + 1
        return _pairs(layers, max(int(match[2]) for match in found) + 1)
    return ()


def _pairs(layers: int, blocks: int) -> Iterator[Pair]:
    yield from _UNET
    for block in range(blocks):
        first = block * (layers + 1)
        for layer in range(layers):
            yield f"input_blocks.{first + layer + 1}.0", f"down_blocks.{block}.resnets.{layer}"
            yield f"input_blocks.{first + layer + 1}.1", f"down_blocks.{block}.attentions.{layer}"
        down = f"down_blocks.{block}.downsamplers.0.conv"
        yield f"input_blocks.{first + layers + 1}.0.op", down
        for layer in range(layers + 1):
            yield f"output_blocks.{first + layer}.0", f"up_blocks.{block}.resnets.{layer}"
            yield f"output_blocks.{first + layer}.1", f"up_blocks.{block}.attentions.{layer}"
        for place in (1, 2):  # after the attention, if the block has one
            up = f"up_blocks.{block}.upsamplers.0.conv"
            yield f"output_blocks.{first + layers}.{place}.conv", up


def _in_unet(module: str, pairs: Iterable[Pair]) -> Iterator[str]:
    found: Mapping[str, str]
    for pair in pairs:
        for begin, other in (pair, pair[::-1]):
            if module == begin:
                yield other
            elif module.startswith(f"{begin}."):
                rest = module[len(begin) + 1 :]
                if "resnets" in pair[1]:
                    found = dict(_RESNET if begin == pair[0] else [p[::-1] for p in _RESNET])
                    rest = found.get(rest, "")
                if rest:
                    yield f"{other}.{rest}"
