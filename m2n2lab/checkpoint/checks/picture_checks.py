"""Checks of picture models: what their configs and markers say that their weights do not show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.folder import read_json
from m2n2lab.checkpoint.io.problems import Collector

SCHEDULER_DEFAULTS: Mapping[str, Any] = {
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "beta_schedule": None,
    "beta_start": None,
    "beta_end": None,
    "num_train_timesteps": 1000,
    "shift": None,
}
"""Settings of schedulers that denoisers were trained for, with their values if not written."""

VAE_KEYS = ("scaling_factor", "shift_factor", "latent_channels")
"""Settings of VAEs that denoisers were trained for."""

MARKERS = {
    "v_pred": "that it predicts v (v_pred)",
    "ztsnr": "that its noise has a zero terminal SNR (ztsnr)",
}
"""Empty tensors of single files that say how a model was trained."""


def compare_pictures(base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    """Yield what does not belong together in two picture models although their weights fit."""
    yield from _markers(base, other)
    if not (base.kind == other.kind == "diffusers"):
        return
    denoisers = any(not part.name.startswith("text_encoder") for part in base.parts)
    if denoisers:
        yield from _schedulers(base, other)
        yield from _vaes(base, other)
        yield from _texts(base, other)
    mine, its = (read_json(seed.path / "model_index.json", Collector()) for seed in (base, other))
    refiners = [index.get("requires_aesthetics_score") is True for index in (mine, its)]
    for seed, refines in zip((base, other), refiners, strict=True):
        if refines and not all(refiners):
            yield (
                f"{seed.id} is a refiner, which was trained on the last denoising steps alone; its "
                f"merge with a model that draws from noise does neither well."
            )


def _markers(base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    mine, its = ({name.rpartition("/")[2] for name in seed.carried} for seed in (base, other))
    for marker, meaning in MARKERS.items():
        if (marker in mine) != (marker in its):
            marked, plain = (base, other) if marker in mine else (other, base)
            yield (
                f"{marked.id} says {meaning}, {plain.id} does not: such models are not merged into "
                f"one that draws; the result says what {base.id} says."
            )


def _schedulers(base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    mine, its = (_config(seed.path, "scheduler", "scheduler_config") for seed in (base, other))
    if not mine or not its:
        return
    for key, default in SCHEDULER_DEFAULTS.items():
        a, b = mine.get(key, default), its.get(key, default)
        if a == b or (default is None and None in (a, b)):
            continue
        # The two that make a merge useless, and not only different.
        grave = key in ("prediction_type", "rescale_betas_zero_snr")
        why = "such denoisers are not merged into one that draws" if grave else "it may draw worse"
        yield (
            f"The scheduler of {other.id} has {key} {b} where that of {base.id} has {a}: {why}; "
            f"the result keeps the latter."
        )
    if mine.get("_class_name") != its.get("_class_name"):
        yield (
            f"The scheduler of {other.id} is {its.get('_class_name')} where that of {base.id} is "
            f"{mine.get('_class_name')}; the result keeps the latter."
        )


def _vaes(base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    mine, its = (_config(seed.path, "vae", "config") for seed in (base, other))
    for key in VAE_KEYS:
        if mine.get(key) is not None and its.get(key) is not None and mine[key] != its[key]:
            yield (
                f"The VAE of {other.id} has {key} {its[key]} where that of {base.id} has "
                f"{mine[key]}: its denoiser was trained on other latents; the result keeps the "
                f"latter."
            )


def _texts(base: Checkpoint, other: Checkpoint) -> Iterator[str]:
    """Yield differences of what is not merged: a denoiser reads the texts of one encoder."""
    merged = {part.name for part in base.parts}
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        if name in merged:
            continue
        mine, its = (_config(seed.path, name, "config") for seed in (base, other))
        if not mine or not its:
            continue
        for key in ("hidden_size", "d_model", "projection_dim"):
            if mine.get(key) is not None and its.get(key) is not None and mine[key] != its[key]:
                yield (
                    f"{name} of {other.id} has {key} {its[key]} where that of {base.id} has "
                    f"{mine[key]}: its denoiser was trained with other texts; the result has one "
                    f"text encoder (--text-encoder-from)."
                )
        tokenizer = name.replace("text_encoder", "tokenizer")
        if clash := tokenizer_clash(base, other, name):
            yield (
                f"The {tokenizer}s of {base.id} and {other.id} differ: {clash}; the result has one "
                f"of them (--text-encoder-from)."
            )


def tokenizer_clash(base: Checkpoint, other: Checkpoint, text_encoder: str) -> str | None:
    """Describe the first token on which the tokenizers of two text encoders differ, or ``None``."""
    tokenizer = text_encoder.replace("text_encoder", "tokenizer")
    return _other_tokens(base.path / tokenizer, other.path / tokenizer)


def _config(path: Path, component: str, name: str) -> dict[str, Any]:
    return read_json(path / component / f"{name}.json", Collector())


def _other_tokens(a: Path, b: Path) -> str | None:
    """Describe the first token on which two tokenizers' folders differ; ``None`` if none."""
    mine, its = _vocabulary(a), _vocabulary(b)
    if not mine or not its:
        return None
    for id in sorted(mine.keys() | its.keys()):
        if mine.get(id) != its.get(id):
            return f"token {id} is {mine.get(id)!r} in one and {its.get(id)!r} in the other"
    return None


def _vocabulary(folder: Path) -> dict[int, str]:
    """Return the tokens of a tokenizer's folder by id, as far as JSON files say them."""
    model = read_json(folder / "tokenizer.json", Collector()).get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(words, list):  # pairs of token and score
        return {id: str(pair[0]) for id, pair in enumerate(words) if isinstance(pair, list)}
    if not isinstance(words, dict):
        words = read_json(folder / "vocab.json", Collector())
    return {id: token for token, id in words.items() if isinstance(id, int)}
