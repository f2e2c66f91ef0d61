"""Differences of configs that change what the same weights do."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2n2lab.checkpoint.io.checkpoint import Part

HARMLESS = re.compile(
    r"(architectures|transformers_version|_name_or_path|name_or_path|torch_dtype|dtype|use_cache"
    r"|auto_map|model_type|vocab_size|initializer_\w+|\w*dropout\w*|\w*_pdrop|\w*drop_path\w*"
    r"|gradient_checkpointing|pretraining_tp|output_\w+|return_dict|use_return_dict|torchscript"
    r"|\w*_token_id|\w*token_ids|label2id|finetuning_task|task_specific_params|problem_type"
    r"|_attn_implementation\w*|attn_implementation|_commit_hash|_diffusers_version|base_model_\w+"
    r"|router_aux_loss_coef|unsloth\w*|quantization_config|chunk_size_feed_forward)"
)
"""Entries that change nothing in a trained model, or that are compared elsewhere."""

SIZES = re.compile(
    r"(hidden_size|n_embd|d_model|block_out_channels|cross_attention_dim|intermediate_size|n_inner"
    r"|d_ff|num_hidden_layers|n_layer|num_layers|layers_per_block|num_attention_heads|n_head"
    r"|num_heads|attention_head_dim|num_key_value_heads)"
)
"""Entries that must agree, which is checked elsewhere, in the outermost config."""


def behaviour_differences(a: Part, b: Part) -> dict[str, tuple[object, object]]:
    """Return entries of two configs that differ, though the weights may be the same.

    Args:
        a: a model.
        b: another one of its architecture.

    Returns:
        By the entry's name, such as ``text_config.rope_parameters.rope_theta``, what each config
        has. Defaults of transformers stand for entries that are left out.
    """
    raw = [dict(_flat(part.config)) for part in (a, b)]
    if not _differing(*raw):  # most pairs: nothing need be loaded
        return {}
    filled = [_filled(part) for part in (a, b)]
    if all(each is not None for each in filled):
        raw = [dict(_flat(each or {})) for each in filled]
    return _differing(*raw)


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    return {
        key: (a.get(key), b.get(key))
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    }


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of a config that matter, inner ones with the names of the outer ones."""
    for key, value in config.items():
        if HARMLESS.fullmatch(key) or (not prefix and SIZES.fullmatch(key)):
            continue
        if isinstance(value, Mapping):
            yield from _flat({str(k): v for k, v in value.items()}, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def _filled(part: Part) -> dict[str, Any] | None:
    """Return a config as transformers reads it, with its defaults; ``None`` if it cannot."""
    if "model_type" not in part.config:
        return None
    quiet = logging.getLogger("transformers")
    level = quiet.level
    try:
        from transformers import AutoConfig

        quiet.setLevel(logging.CRITICAL)  # it remarks on entries that it does not know
        with contextlib.redirect_stderr(io.StringIO()):
            found: dict[str, Any] = AutoConfig.for_model(**part.config).to_dict()
        return found
    except Exception:  # not installed, unknown or malformed
        return None
    finally:
        quiet.setLevel(level)
