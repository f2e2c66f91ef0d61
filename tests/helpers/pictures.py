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
