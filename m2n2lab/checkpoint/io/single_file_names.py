"""Names in single files of picture models: one name for each tensor, and the part it belongs to.

Programs write the same tensors under several names: a denoiser below ``model.diffusion_model.``
(A1111, and ComfyUI's checkpoints), below ``diffusion_model.`` or without any prefix; a CLIP with or
without ``text_model.``; a VAE below ``first_stage_model.`` or ``vae.``. Files are compared and
merged under the first of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

PREFIX = "model.diffusion_model."

_OTHER_PREFIX = "diffusion_model."
_BARE = re.compile(
    r"input_blocks\.0\.0\.weight|double_blocks\.0\.img_attn\.qkv\.weight"
    r"|joint_blocks\.0\.x_block\.attn\.qkv\.weight"
)
"""A tensor of a denoiser without a prefix: of SD and SDXL, of FLUX, of SD3."""

_WITHOUT_TEXT_MODEL = re.compile(
    r"((?:cond_stage_model|conditioner\.embedders\.0|text_encoders\.clip_[lg])\.transformer\.)"
    r"(?=(embeddings|encoder|final_layer_norm)\.)"
)
_VAE = re.compile(r"vae\.(?=(en|de)coder\.|(post_)?quant_conv\.)")
_PARTS = (
    ("EMA", re.compile(r"model_ema\.")),
    ("denoiser", re.compile(re.escape(PREFIX))),
    ("logit scale", re.compile(r"(.*\.)?logit_scale$")),
    ("text encoders", re.compile(r"cond_stage_model\.|conditioner\.|text_encoders\.")),
    ("VAE", re.compile(r"first_stage_model\.")),
    (
        "schedule",
        re.compile(
            r"alphas_cumprod|betas$|sqrt_|log_one_minus_|posterior_|lvlb_weights$|edm_\w+\."
            r"|(denoiser\.|(model\.)?model_sampling\.)?sigmas$|(v_pred|ztsnr)$"
        ),
    ),
)

MERGED_PARTS = ("denoiser", "text encoders")
"""Parts of a single file that are merged by default; all others are carried: they are constants, or
the VAE that models share."""

PARTS_OF_COMPONENTS = {
    **dict.fromkeys(("unet", "transformer"), "denoiser"),
    **dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3"), "text encoders"),
    "vae": "VAE",
}
"""Parts of single files by the names that their components have in pipelines."""

PART_KEYS = {
    "vae": ("VAE",),
    "schedule": ("schedule",),
    "ema": ("EMA",),
    "text_encoder": ("text encoders", "logit scale"),
}
"""Parts that can be taken from another seed than the first, as options name them."""


def common_names(names: Iterable[str]) -> dict[str, str]:
    """Return the common name of each tensor of a picture model's file; none for other files."""
    own = list(names)
    bare = any(map(_BARE.fullmatch, own))
    if not bare and not any(name.startswith((PREFIX, _OTHER_PREFIX)) for name in own):
        return {}
    found = {}
    for name in own:
        if name.startswith(_OTHER_PREFIX):
            found[name] = f"model.{name}"
        elif bare:
            found[name] = f"{PREFIX}{name}"
        else:
            found[name] = common_name(name)
    return found if len(set(found.values())) == len(found) else {}


def common_name(name: str) -> str:
    """Return the common name of a tensor that has a prefix."""
    return _VAE.sub("first_stage_model.", _WITHOUT_TEXT_MODEL.sub(r"\1text_model.", name))


def part_of(name: str) -> str:
    """Return the part that a tensor of a picture model belongs to, by its common name."""
    return next((part for part, pattern in _PARTS if pattern.match(name)), "others")


def describe_parts(names: Iterable[str]) -> str:
    """Return the parts of tensors and their numbers, such as ``"EMA (208 tensors)"``."""
    counts: dict[str, int] = {}
    for name in names:
        counts[part_of(name)] = counts.get(part_of(name), 0) + 1
    return ", ".join(
        f"{part} ({count} {'tensor' if count == 1 else 'tensors'})"
        for part, count in counts.items()
    )


def is_picture(names: Mapping[str, object]) -> bool:
    """Return whether a checkpoint's tensors, by common name, hold a denoiser."""
    return any(name.startswith(PREFIX) for name in names)
