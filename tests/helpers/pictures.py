"""Tiny untrained pipelines that draw, for tests of pictures."""

import torch

from m2n2lab import CheckpointSpace
from m2n2lab.zoo import train_images

NAMES = ("japanese", "english-round", "english-straight", "english-pointed")


def scribblers(home, names=NAMES):
    """Save small untrained pipelines as the zoo has them, all different; return their folders."""
    torch.set_num_threads(1)
    tokenizer = train_images.make_tokenizer()
    for seed, name in enumerate(names):
        unet, text = train_images.make_model(tokenizer, seed)
        train_images.save(unet, text, tokenizer, home / name)
    return [home / name for name in names]


def scribbled(home, names):
    """Return the space of such pipelines."""
    return CheckpointSpace(*scribblers(home, names), dtype="float32")


def brightness(pictures, prompts):
    """Score pictures by how bright they are, which every scribble is in a way of its own."""
    return pictures.mean(axis=(1, 2, 3)) / 255


def clip(folder):
    """Save a tiny random CLIP with its tokenizer and image processor; return its folder."""
    import json

    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    torch.manual_seed(0)
    words = ["<|startoftext|>", "<|endoftext|>", *"ab", "a</w>", "b</w>", "ab</w>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: id for id, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    narrow = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    shape = {**narrow, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config={**shape, "vocab_size": 32, "max_position_embeddings": 16, "eos_token_id": 1},
        vision_config={**shape, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=16)
    sizes = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    CLIPProcessor(CLIPImageProcessor(**sizes), tokenizer).save_pretrained(folder)
    return folder
