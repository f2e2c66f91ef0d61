"""Tiny random pipelines in the shape of SDXL, and their denoisers in the layout of single files."""

import json
import re
from pathlib import Path

import torch

LAYERS = 1
CHANNELS = (8, 16)
TEXTS = (16, 24)


def sdxl(folder, seed=0, texts=TEXTS, channels=CHANNELS):
    """Save a StableDiffusionXLPipeline with two text encoders, in float32; return its folder."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
    )

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=LAYERS,
        cross_attention_dim=sum(texts),
        attention_head_dim=4,
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=texts[1] + 6 * 8,
    )
    vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, sample_size=16,
                        down_block_types=("DownEncoderBlock2D",) * 2,
                        up_block_types=("UpDecoderBlock2D",) * 2)  # fmt: skip
    encoders = [
        kind(
            CLIPTextConfig(
                vocab_size=32,
                hidden_size=width,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
                projection_dim=width,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        for kind, width in zip((CLIPTextModel, CLIPTextModelWithProjection), texts, strict=True)
    ]
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b", "ab</w>"]
    raw = Path(folder).with_name(f"{Path(folder).name}-words")
    raw.mkdir(parents=True)
    (raw / "vocab.json").write_text(json.dumps({word: id for id, word in enumerate(words)}))
    (raw / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    tokenizer = CLIPTokenizer.from_pretrained(raw, model_max_length=16)
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return Path(folder)


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def _single(name):
    """Return the name that a denoiser's tensor has in ComfyUI's and A1111's layout."""
    stem, _, leaf = name.rpartition(".")
    if stem in OUTER:
        return f"{OUTER[stem]}.{leaf}"
    inside = {"resnets": 0, "attentions": 1}
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, number, rest = found.groups()
        place = f"middle_block.{2 * int(number) if kind == 'resnets' else 1}"
    elif found := re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)", name):
        way, block, kind, layer, rest = found.groups()
        down = way == "down"
        each = LAYERS + 1
        number = int(block) * each + int(layer) + (1 if down else 0)
        place = f"{'input' if down else 'output'}_blocks.{number}.{inside[kind]}"
    elif found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.*)", name):
        return f"input_blocks.{(int(found[1]) + 1) * (LAYERS + 1)}.0.op.{found[2]}"
    else:
        found = re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.*)", name)
        # After the attention, where the block has one: here only the first has.
        spot = 2 if found[1] == "0" else 1
        return f"output_blocks.{int(found[1]) * (LAYERS + 1) + LAYERS}.{spot}.conv.{found[2]}"
    first, _, last = rest.partition(".")
    return f"{place}.{RESNET[first]}.{last}" if first in RESNET else f"{place}.{rest}"


def single_file(folder, file):
    """Save the denoiser of a pipeline as one file in ComfyUI's and A1111's layout."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    save_file({f"model.diffusion_model.{_single(k)}": v for k, v in weights.items()}, file)
    return file


def kept_in(folder, like, dtype="float16", **options):
    """Save a pipeline again in a dtype; options are ``variant`` and ``max_shard_size``."""
    from diffusers import DiffusionPipeline

    made = DiffusionPipeline.from_pretrained(like, torch_dtype=getattr(torch, dtype))
    made.save_pretrained(folder, **options)
    return folder


def hub_keys(folder):
    """Rename the tensors of CLIP text encoders as files on the hub have them."""
    from safetensors.torch import load_file, save_file

    for file in folder.glob("text_encoder*/*.safetensors"):
        kept = load_file(file)
        if not any(name.startswith("text_model.") for name in kept):
            renamed = {f"text_model.{name}": value for name, value in kept.items()}
            save_file(renamed, file, {"format": "pt"})
    return folder


RAN = "OWN_CODE_OF_A_PIPELINE_RAN"
"""Environment variable that the code of ``japanese`` sets."""

OWN_CODE = f"""
import os

from diffusers import DiffusionPipeline

os.environ["{RAN}"] = "1"


class JapanesePipeline(DiffusionPipeline):
    def __init__(self, vae, text_encoder, tokenizer, unet, scheduler):
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )
"""


def japanese(folder, seed=0, dtype="float16"):
    """Save a pipeline in the shape of Japanese SDXL; return its folder.

    It has a pipeline class of its own, one text encoder with a projection, its own vocabulary, a
    component of its own without weights, and fp16 variants alone.
    """
    import shutil

    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    sdxl(folder, seed)
    torch.manual_seed(seed + 100)
    config = CLIPTextConfig(
        vocab_size=40,
        hidden_size=TEXTS[0],
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=TEXTS[0],
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    half = kept_in(folder.with_name(f"{folder.name}-half"), folder, dtype, variant="fp16")
    shutil.rmtree(folder)
    half.rename(folder)
    for name in ("text_encoder", "text_encoder_2", "tokenizer_2"):
        shutil.rmtree(folder / name)
    encoder = CLIPTextModelWithProjection(config).to(getattr(torch, dtype))
    encoder.save_pretrained(folder / "text_encoder", variant="fp16")
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("text_encoder_2", "tokenizer_2", "feature_extractor", "image_encoder"):
        del index[name]
    index["_class_name"] = ["pipeline_japanese", "JapanesePipeline"]
    index["text_encoder"] = ["transformers", "CLIPTextModelWithProjection"]
    index["null_encoder"] = ["modeling_clipnull", "CLIPNullTextModel"]
    (folder / "null_encoder").mkdir()
    (folder / "null_encoder" / "config.json").write_text('{"hidden_size": 24}')
    (folder / "model_index.json").write_text(json.dumps(index))
    for name in ("pipeline_japanese.py", "modeling_clipnull.py"):
        (folder / name).write_text(OWN_CODE)
    return folder


def denoiser_alone(folder, like):
    """Save the denoiser of a pipeline as a repository with ``unet/`` alone."""
    import shutil

    shutil.copytree(like / "unet", folder / "unet")
    (folder / "README.md").write_text("---\nlicense: openrail++\n---\n")
    return folder
