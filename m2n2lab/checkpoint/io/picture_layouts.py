"""Layouts of picture models: where a single file keeps each tensor of a pipeline of diffusers.

The names in single files are those of the programs that first published the models: CompVis'
latent diffusion (denoisers of SD and SDXL, VAEs), OpenCLIP (second text encoder of SDXL),
Stability's SD3 and Black Forest Labs' FLUX; ComfyUI keeps the text encoders of the last two under
``text_encoders.`` by their names in transformers. How they correspond to those of diffusers is
written down in diffusers' loader for single files; tests read what these maps write with it.

Fused tensors (query, key and value in one) consist of rows of several tensors of diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from m2n2lab.checkpoint.io.single_file_names import PREFIX

Form = Literal["as it is", "halves swapped", "transposed"]

_IGNORED = re.compile(r"(.*\.)?(position_ids|encoder\.embed_tokens\.weight)")
"""Tensors of pipelines that are constants, or a second name of another one."""


class Place(NamedTuple):
    """Where a single file keeps a tensor of a component.

    Attributes:
        name: the tensor of the file.
        piece: its number among the tensors whose rows make up that of the file.
        form: how those rows are stored: modulations of final layers have scale and shift the other
            way round, and OpenCLIP's projection is transposed.
        ones: dimensions of size one that the file has at the end: VAEs of CompVis keep linear
            layers as convolutions.
    """

    name: str
    piece: int = 0
    form: Form = "as it is"
    ones: int = 0


Rule = Callable[[str], Place | None]
"""Gives the place of a tensor of one component; ``None`` for those that files do not have."""


class Family(NamedTuple):
    """A family of picture models.

    Attributes:
        title: its name.
        pipeline: class of its pipelines in diffusers.
        denoiser: component that is its denoiser.
        config: hub id of a pipeline whose configs and tokenizers all of them share.
        texts: prefix of each text encoder in files, by component.
        vae: prefix of the VAE.
    """

    title: str
    pipeline: str
    denoiser: str
    config: str
    texts: Mapping[str, str]
    vae: str = "first_stage_model."


_CLIP, _OPEN = ".transformer.", ".model."
FAMILIES = {
    "sd1": Family(
        "SD 1",
        "StableDiffusionPipeline",
        "unet",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        {"text_encoder": f"cond_stage_model{_CLIP}"},
    ),
    "sd2": Family(
        "SD 2",
        "StableDiffusionPipeline",
        "unet",
        "stabilityai/stable-diffusion-2-1",
        {"text_encoder": f"cond_stage_model{_OPEN}"},
    ),
    "sdxl": Family(
        "SDXL",
        "StableDiffusionXLPipeline",
        "unet",
        "stabilityai/stable-diffusion-xl-base-1.0",
        {
            "text_encoder": f"conditioner.embedders.0{_CLIP}",
            "text_encoder_2": f"conditioner.embedders.1{_OPEN}",
        },
    ),
    "refiner": Family(
        "the SDXL refiner",
        "StableDiffusionXLImg2ImgPipeline",
        "unet",
        "stabilityai/stable-diffusion-xl-refiner-1.0",
        {"text_encoder_2": f"conditioner.embedders.0{_OPEN}"},
    ),
    "sd3": Family(
        "SD 3",
        "StableDiffusion3Pipeline",
        "transformer",
        "stabilityai/stable-diffusion-3.5-medium",
        {
            "text_encoder": f"text_encoders.clip_l{_CLIP}",
            "text_encoder_2": f"text_encoders.clip_g{_CLIP}",
            "text_encoder_3": f"text_encoders.t5xxl{_CLIP}",
        },
    ),
    "flux": Family(
        "FLUX",
        "FluxPipeline",
        "transformer",
        "black-forest-labs/FLUX.1-dev",
        {
            "text_encoder": f"text_encoders.clip_l{_CLIP}",
            "text_encoder_2": f"text_encoders.t5xxl{_CLIP}",
        },
        vae="vae.",
    ),
}
"""Families by a short name."""


def family_of_file(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Return the family of a single file, from the common names and shapes of its tensors."""
    if f"{PREFIX}double_blocks.0.img_attn.qkv.weight" in shapes:
        return "flux"
    if f"{PREFIX}joint_blocks.0.x_block.attn.qkv.weight" in shapes:
        return "sd3"
    if f"{PREFIX}input_blocks.0.0.weight" not in shapes:
        return None
    if f"{PREFIX}label_emb.0.0.weight" in shapes:
        return (
            "refiner"
            if any(n.startswith("conditioner.embedders.0.model.") for n in shapes)
            else "sdxl"
        )
    if any(name.startswith("cond_stage_model.model.") for name in shapes):
        return "sd2"
    # The width of texts that a denoiser reads: that of CLIP in SD 1, of OpenCLIP in SD 2.
    crossed = (shape for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))
    return "sd2" if next(crossed, (0, 0))[-1] == 1024 else "sd1"


def family_of_pipeline(configs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the family of a pipeline, from the configs of its components."""
    transformer, unet = configs.get("transformer", {}), configs.get("unet", {})
    if transformer:
        by_class = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"}
        return by_class.get(str(transformer.get("_class_name")))
    if unet.get("_class_name") != "UNet2DConditionModel":
        return None
    if unet.get("addition_embed_type") == "text_time":
        return "sdxl" if "text_encoder" in configs else "refiner"
    if unet.get("addition_embed_type") or unet.get("class_embed_type"):
        return None
    text = configs.get("text_encoder", {})
    return "sd2" if text.get("hidden_act") == "gelu" else "sd1"


def rules(family: str, component: str, names: Iterable[str]) -> Rule | None:
    """Return the rule of a component; ``None`` if files of the family do not have it.

    Args:
        family: one of ``FAMILIES``.
        component: such as ``"unet"``.
        names: all tensors of the component, which say how many blocks it has.
    """
    about = FAMILIES[family]
    if component == about.denoiser:
        known = {"sd3": _sd3, "flux": _flux}.get(family, _unet)
        return _under(PREFIX, known(list(names)))
    if component == "vae":
        return _under(about.vae, _vae(list(names)))
    if component not in about.texts:
        return None
    prefix = about.texts[component]
    if prefix.endswith(_OPEN):
        return _under(prefix, _open_clip)
    return _under(prefix, _t5 if ".t5xxl." in prefix else _clip)


def _under(prefix: str, rule: Rule) -> Rule:
    def placed(name: str) -> Place | None:
        place = rule(name)
        return None if place is None else place._replace(name=prefix + place.name)

    return placed


def _renamed(name: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    """Return a name by the first pattern that it matches; ``None`` if there is none."""
    for pattern, to in pairs:
        if match := re.fullmatch(pattern, name):
            return match.expand(to)
    return None


# -- denoisers of SD and SDXL ------------------------------------------------------------------

_LEAF = r"\.(weight|bias)"
_UNET_OUTER = [
    (rf"time_embedding\.linear_1{_LEAF}", r"time_embed.0.\1"),
    (rf"time_embedding\.linear_2{_LEAF}", r"time_embed.2.\1"),
    (rf"(?:add|class)_embedding\.linear_1{_LEAF}", r"label_emb.0.0.\1"),
    (rf"(?:add|class)_embedding\.linear_2{_LEAF}", r"label_emb.0.2.\1"),
    (rf"conv_in{_LEAF}", r"input_blocks.0.0.\1"),
    (rf"conv_norm_out{_LEAF}", r"out.0.\1"),
    (rf"conv_out{_LEAF}", r"out.2.\1"),
]
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _unet(names: Sequence[str]) -> Rule:
    layers = 1 + max(
        (int(m[1]) for n in names if (m := re.match(r"down_blocks\.0\.resnets\.(\d+)\.", n))),
        default=0,
    )
    attentive = {m[1] for n in names if (m := re.match(r"(up_blocks\.\d+)\.attentions\.", n))}

    def inside(rest: str, first: str, place: str) -> str:
        """Return the name of a tensor inside a block of resnets (0) and attentions (1)."""
        head, _, leaf = rest.partition(".")
        return f"{place}.{_RESNET[head]}.{leaf}" if first == "resnets" else f"{place}.{rest}"

    def rule(name: str) -> Place | None:
        if outer := _renamed(name, _UNET_OUTER):
            return Place(outer)
        if m := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name):
            number = 2 * int(m[2]) + (m[1] == "attentions")
            return Place(inside(m[3], m[1], f"middle_block.{number}"))
        if m := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", name):
            number = int(m[2]) * (layers + 1) + int(m[4]) + (m[1] == "down")
            side = "input" if m[1] == "down" else "output"
            spot = int(m[3] == "attentions")
            return Place(inside(m[5], m[3], f"{side}_blocks.{number}.{spot}"))
        if m := re.fullmatch(rf"down_blocks\.(\d+)\.downsamplers\.0\.conv{_LEAF}", name):
            return Place(f"input_blocks.{(int(m[1]) + 1) * (layers + 1)}.0.op.{m[2]}")
        if m := re.fullmatch(rf"(up_blocks\.(\d+))\.upsamplers\.0\.conv{_LEAF}", name):
            number = int(m[2]) * (layers + 1) + layers
            return Place(f"output_blocks.{number}.{1 + (m[1] in attentive)}.conv.{m[3]}")
        return None

    return rule


# -- VAEs --------------------------------------------------------------------------------------

_VAE = [
    (r"((?:en|de)coder\.)mid_block\.attentions\.0\.group_norm\.(.*)", r"\1mid.attn_1.norm.\2"),
    (r"((?:en|de)coder\.)mid_block\.attentions\.0\.(?:to_([qkv]))\.(.*)", r"\1mid.attn_1.\2.\3"),
    (
        r"((?:en|de)coder\.)mid_block\.attentions\.0\.(?:to_out\.0|proj_attn)\.(.*)",
        r"\1mid.attn_1.proj_out.\2",
    ),
    (
        r"((?:en|de)coder\.)mid_block\.attentions\.0\.([qkv])(?:uery|ey|alue)\.(.*)",
        r"\1mid.attn_1.\2.\3",
    ),
    (r"((?:en|de)coder\.)mid_block\.resnets\.0\.(.*)", r"\1mid.block_1.\2"),
    (r"((?:en|de)coder\.)mid_block\.resnets\.1\.(.*)", r"\1mid.block_2.\2"),
    (r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.(.*)", r"encoder.down.\1.block.\2.\3"),
    (r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.(.*)", r"encoder.down.\1.downsample.\2"),
    (r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.(.*)", r"decoder.up.\1.block.\2.\3"),
    (r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.(.*)", r"decoder.up.\1.upsample.\2"),
    (r"((?:en|de)coder)\.conv_norm_out\.(.*)", r"\1.norm_out.\2"),
    (r"((?:en|de)coder\.conv_(?:in|out)|(?:post_)?quant_conv)\.(.*)", r"\1.\2"),
]
_VAE_LINEAR = re.compile(r".*\.mid\.attn_1\.(q|k|v|proj_out)\.weight")


def _vae(names: Sequence[str]) -> Rule:
    ups = [int(m[1]) for n in names if (m := re.match(r"decoder\.up_blocks\.(\d+)\.", n))]
    last = max(ups, default=0)

    def rule(name: str) -> Place | None:
        found = _renamed(name, _VAE)
        if found is None:
            return None
        found = found.replace(".conv_shortcut.", ".nin_shortcut.")
        # Files count the blocks of the decoder from its output.
        found = re.sub(r"(?<=^decoder\.up\.)\d+", lambda m: str(last - int(m[0])), found)
        return Place(found, ones=2 if _VAE_LINEAR.fullmatch(found) else 0)

    return rule


# -- text encoders -----------------------------------------------------------------------------


def _clip(name: str) -> Place | None:
    """Return the place of a tensor of a CLIP in the names of transformers, as the hub has them."""
    top = name.startswith(("text_model.", "text_projection."))
    return Place(name if top else f"text_model.{name}")


def _t5(name: str) -> Place | None:
    return Place(name)


_OPEN_CLIP = [
    (r"embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"final_layer_norm\.(.*)", r"ln_final.\1"),
    (r"text_projection\.weight", "text_projection"),
    (
        r"encoder\.layers\.(\d+)\.self_attn\.[qkv]_proj\.(weight|bias)",
        r"transformer.resblocks.\1.attn.in_proj_\2",
    ),
    (
        r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(.*)",
        r"transformer.resblocks.\1.attn.out_proj.\2",
    ),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.(.*)", r"transformer.resblocks.\1.ln_\2.\3"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1\.(.*)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2\.(.*)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
]


def _open_clip(name: str) -> Place | None:
    found = _renamed(name.removeprefix("text_model."), _OPEN_CLIP)
    if found is None:
        return None
    piece = re.search(r"\.([qkv])_proj\.", name)
    form: Form = "transposed" if found == "text_projection" else "as it is"
    return Place(found, "qkv".index(piece[1]) if piece else 0, form)


# -- SD 3 and FLUX -----------------------------------------------------------------------------

_SD3_OUTER = [
    (r"pos_embed\.pos_embed", "pos_embed"),
    (r"pos_embed\.proj\.(.*)", r"x_embedder.proj.\1"),
    (r"time_text_embed\.timestep_embedder\.linear_1\.(.*)", r"t_embedder.mlp.0.\1"),
    (r"time_text_embed\.timestep_embedder\.linear_2\.(.*)", r"t_embedder.mlp.2.\1"),
    (r"time_text_embed\.text_embedder\.linear_1\.(.*)", r"y_embedder.mlp.0.\1"),
    (r"time_text_embed\.text_embedder\.linear_2\.(.*)", r"y_embedder.mlp.2.\1"),
    (r"context_embedder\.(.*)", r"context_embedder.\1"),
    (r"proj_out\.(.*)", r"final_layer.linear.\1"),
    (r"norm_out\.linear\.(.*)", r"final_layer.adaLN_modulation.1.\1"),
]
_SD3_BLOCK = [
    (r"(attn2?)\.to_[qkv]\.(.*)", r"x_block.\1.qkv.\2"),
    (r"attn\.add_[qkv]_proj\.(.*)", r"context_block.attn.qkv.\1"),
    (r"(attn2?)\.norm_([qk])\.(.*)", r"x_block.\1.ln_\2.\3"),
    (r"attn\.norm_added_([qk])\.(.*)", r"context_block.attn.ln_\1.\2"),
    (r"(attn2?)\.to_out\.0\.(.*)", r"x_block.\1.proj.\2"),
    (r"attn\.to_add_out\.(.*)", r"context_block.attn.proj.\1"),
    (r"norm1\.linear\.(.*)", r"x_block.adaLN_modulation.1.\1"),
    (r"norm1_context\.linear\.(.*)", r"context_block.adaLN_modulation.1.\1"),
    (r"ff\.net\.0\.proj\.(.*)", r"x_block.mlp.fc1.\1"),
    (r"ff\.net\.2\.(.*)", r"x_block.mlp.fc2.\1"),
    (r"ff_context\.net\.0\.proj\.(.*)", r"context_block.mlp.fc1.\1"),
    (r"ff_context\.net\.2\.(.*)", r"context_block.mlp.fc2.\1"),
]
_PIECE = re.compile(r"\.(?:to_|add_)([qkv])(?:_proj)?\.")


def _piece(name: str) -> int:
    found = _PIECE.search(name)
    return "qkv".index(found[1]) if found else 0


def _sd3(names: Sequence[str]) -> Rule:
    blocks = [int(m[1]) for n in names if (m := re.match(r"transformer_blocks\.(\d+)\.", n))]
    last = f"transformer_blocks.{max(blocks, default=0)}.norm1_context."

    def rule(name: str) -> Place | None:
        if outer := _renamed(name, _SD3_OUTER):
            return Place(outer, form="halves swapped" if "norm_out" in name else "as it is")
        if not (m := re.fullmatch(r"transformer_blocks\.(\d+)\.(.*)", name)):
            return None
        inner = _renamed(m[2], _SD3_BLOCK)
        # The last block of texts ends in a modulation like that of the final layer.
        form: Form = "halves swapped" if name.startswith(last) else "as it is"
        return inner and Place(f"joint_blocks.{m[1]}.{inner}", _piece(name), form)  # type: ignore[return-value]

    return rule


_FLUX_OUTER = [
    (r"time_text_embed\.timestep_embedder\.linear_1\.(.*)", r"time_in.in_layer.\1"),
    (r"time_text_embed\.timestep_embedder\.linear_2\.(.*)", r"time_in.out_layer.\1"),
    (r"time_text_embed\.text_embedder\.linear_1\.(.*)", r"vector_in.in_layer.\1"),
    (r"time_text_embed\.text_embedder\.linear_2\.(.*)", r"vector_in.out_layer.\1"),
    (r"time_text_embed\.guidance_embedder\.linear_1\.(.*)", r"guidance_in.in_layer.\1"),
    (r"time_text_embed\.guidance_embedder\.linear_2\.(.*)", r"guidance_in.out_layer.\1"),
    (r"context_embedder\.(.*)", r"txt_in.\1"),
    (r"x_embedder\.(.*)", r"img_in.\1"),
    (r"proj_out\.(.*)", r"final_layer.linear.\1"),
    (r"norm_out\.linear\.(.*)", r"final_layer.adaLN_modulation.1.\1"),
]
_FLUX_BLOCK = [
    (r"norm1\.linear\.(.*)", r"img_mod.lin.\1"),
    (r"norm1_context\.linear\.(.*)", r"txt_mod.lin.\1"),
    (r"attn\.to_[qkv]\.(.*)", r"img_attn.qkv.\1"),
    (r"attn\.add_[qkv]_proj\.(.*)", r"txt_attn.qkv.\1"),
    (r"attn\.norm_q\.weight", "img_attn.norm.query_norm.scale"),
    (r"attn\.norm_k\.weight", "img_attn.norm.key_norm.scale"),
    (r"attn\.norm_added_q\.weight", "txt_attn.norm.query_norm.scale"),
    (r"attn\.norm_added_k\.weight", "txt_attn.norm.key_norm.scale"),
    (r"attn\.to_out\.0\.(.*)", r"img_attn.proj.\1"),
    (r"attn\.to_add_out\.(.*)", r"txt_attn.proj.\1"),
    (r"ff\.net\.0\.proj\.(.*)", r"img_mlp.0.\1"),
    (r"ff\.net\.2\.(.*)", r"img_mlp.2.\1"),
    (r"ff_context\.net\.0\.proj\.(.*)", r"txt_mlp.0.\1"),
    (r"ff_context\.net\.2\.(.*)", r"txt_mlp.2.\1"),
]
_FLUX_SINGLE = [
    (r"norm\.linear\.(.*)", r"modulation.lin.\1"),
    (r"attn\.to_[qkv]\.(.*)", r"linear1.\1"),
    (r"proj_mlp\.(.*)", r"linear1.\1"),
    (r"attn\.norm_q\.weight", "norm.query_norm.scale"),
    (r"attn\.norm_k\.weight", "norm.key_norm.scale"),
    (r"proj_out\.(.*)", r"linear2.\1"),
]


def _flux(names: Sequence[str]) -> Rule:
    def rule(name: str) -> Place | None:
        if outer := _renamed(name, _FLUX_OUTER):
            return Place(outer, form="halves swapped" if "norm_out" in name else "as it is")
        if not (m := re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.*)", name)):
            return None
        inner = _renamed(m[3], _FLUX_SINGLE if m[1] else _FLUX_BLOCK)
        piece = 3 if m[3].startswith("proj_mlp.") else _piece(name)
        blocks = "single_blocks" if m[1] else "double_blocks"
        return inner and Place(f"{blocks}.{m[2]}.{inner}", piece)  # type: ignore[return-value]

    return rule


# -- whole pipelines ---------------------------------------------------------------------------


class Held(NamedTuple):
    """A tensor of a single file by those of a pipeline.

    Attributes:
        tensors: component, name and form of each tensor whose rows it has, in their order.
        shape: its shape.
    """

    tensors: tuple[tuple[str, str, Form], ...]
    shape: tuple[int, ...]


class Layout(NamedTuple):
    """What a pipeline is as a single file.

    Attributes:
        held: tensors of the file by name.
        unknown: component and name of the tensors that files of the family do not have.
    """

    held: dict[str, Held]
    unknown: tuple[tuple[str, str], ...]


def layout(family: str, components: Mapping[str, Mapping[str, Sequence[int]]]) -> Layout:
    """Return where a single file keeps the tensors of a pipeline.

    Args:
        family: one of ``FAMILIES``.
        components: shapes of the tensors by name, by component.
    """
    found: dict[str, dict[int, tuple[str, str, Form, tuple[int, ...]]]] = {}
    unknown = []
    for component, shapes in components.items():
        rule = rules(family, component, shapes)
        for name, shape in shapes.items():
            if _IGNORED.fullmatch(name):
                continue
            place = rule(name) if rule is not None else None
            pieces = found.setdefault(place.name, {}) if place else {}
            if place is None or place.piece in pieces:
                unknown.append((component, name))
                continue
            own = tuple(shape)[::-1] if place.form == "transposed" else tuple(shape)
            pieces[place.piece] = component, name, place.form, own + (1,) * place.ones
    held = {}
    for name, pieces in found.items():
        in_order = [pieces[number] for number in sorted(pieces)]
        rows = sum(shape[0] for *_, shape in in_order) if in_order[0][3] else 0
        shape = (rows, *in_order[0][3][1:]) if in_order[0][3] else ()
        held[name] = Held(tuple(each[:3] for each in in_order), shape)
    return Layout(held, tuple(unknown))
