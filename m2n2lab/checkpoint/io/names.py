"""Names of tensors and files that say what they are."""

from __future__ import annotations

import re

HEADS = re.compile(r"(^|/)(lm_head|embed_out|output_projection)\.weight$")
EMBEDDINGS = re.compile(
    r"(embed_tokens|wte|word_embeddings|embed_in|shared|token_embedding|tok_embeddings)\.weight$"
)
"""Output heads, and the input embeddings whose weights they may share."""


def is_head(module: str) -> bool:
    """Return whether a module is an output head, in whatever other module it is."""
    return HEADS.search(f"/{module.rpartition('.')[2]}.weight") is not None


TABLES = re.compile(
    rf"{HEADS.pattern}|{EMBEDDINGS.pattern}|(^|[./])(lm_head|embed_out|output_projection)"
    r"\.(weight|bias)$|(^|[./])predictions\.(bias|decoder\.(weight|bias))$"
)
"""Tensors with a row for each token: embeddings, heads, and the heads' biases."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
TRAINING_FILES = (
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "optimizer.bin",
)
"""Pickles that training leaves beside the weights; they are ignored."""
