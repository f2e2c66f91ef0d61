"""Shared options: each option that several commands have, declared once, and panels of help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any

import typer

from m2n2lab.utils.errors import InputError, choose

SEARCH = "Search"
MODELS = "Models"
MERGING = "Merging"
SCORING = "Scoring"
PICTURES = "Pictures"
WORKERS = "Workers"
OUTPUT = "Output"
"""Panels of ``--help``, one for each subject."""


def option(panel: str, *names: str, help: str, **more: Any) -> Any:
    """Return the declaration of an option in a panel of ``--help``."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


# -- models ------------------------------------------------------------------------------------

Components = Annotated[
    list[str],
    option(
        MODELS,
        *("--components", "--component"),
        help="Component of image pipelines to merge, such as unet; repeatable.",
    ),
]
Vocab = Annotated[
    str | None,
    option(
        MODELS,
        "--vocab",
        help="Vocabularies that differ: union, all rows that any model has; common, only those "
        "that all have; first, those of A; or refuse. A search keeps union by default, a merge "
        "refuses.",
    ),
]
Dtype = Annotated[
    str | None,
    option(MODELS, "--dtype", help="bf16, fp16, fp32 or fp8; that of the first model by default."),
]
Tokenizer = Annotated[
    str | None,
    option(
        MODELS,
        "--tokenizer",
        help="Model whose tokenizer is used and saved: A, B, …; by default that whose tokens the "
        "result has.",
    ),
]
Variant = Annotated[
    str | None,
    option(MODELS, "--variant", help="Variant of files to read and to save, such as fp16."),
]
TextEncoderFrom = Annotated[
    int | None,
    option(
        MODELS,
        "--text-encoder-from",
        help="Number of the model, from 0, whose tokenizers and unmerged text encoders a pipeline "
        "has.",
    ),
]
TrustRemoteCode = Annotated[
    bool,
    option(
        MODELS,
        "--trust-remote-code",
        help="Run the Python code that comes with a model, as its own classes need; without this "
        "option no code of a model runs.",
    ),
]
Map = Annotated[
    list[str],
    option(
        MODELS,
        "--map",
        metavar="A=B",
        help="Tensors of A and those of other models that are merged into them, alone, such as "
        "'language_model.model.*=model.*'; repeatable. Found by itself for a language model and "
        "a vision-language model.",
    ),
]
_PART = "A (the default), B, … or none: model whose"

VaeFrom = Annotated[
    str | None,
    option(PICTURES, "--vae-from", metavar="A", help=f"{_PART} VAE the result has."),
]
ScheduleFrom = Annotated[
    str | None,
    option(
        PICTURES, "--schedule-from", metavar="A", help=f"{_PART} noise schedule the result has."
    ),
]
EmaFrom = Annotated[
    str | None,
    option(
        PICTURES,
        "--ema-from",
        metavar="A",
        help=f"{_PART} averaged weights (EMA) the result has, of single files.",
    ),
]
Channels = Annotated[
    str | None,
    option(
        PICTURES,
        "--channels",
        help="A model for inpainting first and one that is not: refuse (the default), or merge the "
        "common input channels and keep the others.",
    ),
]
Config = Annotated[
    str | None,
    option(
        PICTURES,
        "--config",
        help="Pipeline, a folder or hub id, whose configs and tokenizers single files are used "
        "with; by default the first of their family on the hub.",
    ),
]
SeedMap = Annotated[
    list[str],
    option(
        MODELS,
        "--seed-map",
        metavar="A=PATH",
        help="Where a recorded model is now: its letter (A is the first) or its recorded name, "
        "and a path or hub id; repeatable.",
    ),
]
Device = Annotated[str, option(SCORING, "--device", help="cpu or cuda.")]

# -- merging -----------------------------------------------------------------------------------

_PATTERN = "a glob, or re: and an expression; repeatable."

Include = Annotated[
    list[str], option(MERGING, "--include", help=f"Tensors that are merged, by name: {_PATTERN}")
]
Exclude = Annotated[
    list[str], option(MERGING, "--exclude", help=f"Tensors that stay as in parent A: {_PATTERN}")
]
Freeze = Annotated[
    list[str],
    option(MERGING, "--freeze", help=f"Tensors that stay as in the first model: {_PATTERN}"),
]
Groups = Annotated[
    list[str],
    option(
        MERGING,
        "--groups",
        metavar="NAME=PATTERN",
        help="Tensors that are merged as a vector of their own, with a split of their own; "
        "repeatable.",
    ),
]

# -- scoring -----------------------------------------------------------------------------------

HeldOut = Annotated[
    int | None,
    option(
        SCORING,
        "--held-out",
        help="Number of held-out data points, which no search sees; for checkpoints.",
    ),
]
Shots = Annotated[
    int | None,
    option(SCORING, "--shots", help="Solved problems at the beginning of a prompt of gsm8k."),
]
MaxNewTokens = Annotated[
    int | None, option(SCORING, "--max-new-tokens", help="Longest answer in tokens.")
]
Batch = Annotated[
    int | None,
    option(SCORING, "--batch", help="Prompts answered, or pictures drawn, together."),
]


# -- pictures ----------------------------------------------------------------------------------

Scorer = Annotated[
    str | None,
    option(
        PICTURES,
        "--scorer",
        help="What scores pictures: clip:MODEL, reference:FOLDER@MODEL of photographs, "
        "reward:MODEL or aesthetic:HEAD@MODEL, with local folders or hub ids; or a weighted sum: "
        "clip:MODEL=0.7,aesthetic:HEAD@MODEL=0.3.",
    ),
]
Size = Annotated[
    int | None,
    option(PICTURES, "--size", help="Pixels along a side; that of the pipeline by default."),
]
StepsPerPicture = Annotated[
    int | None,
    option(
        PICTURES, "--steps-per-picture", help="Denoising steps; those of the pipeline by default."
    ),
]
Guidance = Annotated[
    float | None,
    option(
        PICTURES,
        "--guidance",
        help="Scale of guidance, 1 is none; that of the pipeline by default.",
    ),
]
Negative = Annotated[
    str | None,
    option(PICTURES, "--negative", help="Text that pictures are guided away from."),
]


# -- values ------------------------------------------------------------------------------------


def named_patterns(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the patterns of each group from texts such as ``attention=*attn*``.

    Raises:
        InputError: a text is written otherwise.
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, equals, pattern = text.partition("=")
        if not (name and equals and pattern):
            raise InputError(
                f"--groups must be NAME=PATTERN, got {text!r}; write, for example, "
                f"--groups 'attention=*attn*' --groups 'rest=*'."
            )
        groups.setdefault(name, []).append(pattern)
    return groups


def seed_number(letter: str | None, count: int) -> int | None:
    """Return the number of one of so many models from its letter: 0 for A.

    Raises:
        InputError: it is the letter of none.
    """
    letters = ascii_uppercase[:count]
    return None if letter is None else letters.index(choose("seed", letter.upper(), [*letters]))


def picture_options(count: int, **given: str | None) -> dict[str, Any]:
    """Return the options of a space of picture models, as far as they are given.

    Args:
        count: number of models.
        given: ``vae``, ``schedule``, ``ema`` and ``text_encoder``: letter or number of a model, or
            ``"none"``; ``channels`` and ``config``.

    Raises:
        InputError: a letter is that of no model.
    """
    others = {name: given.pop(name) for name in ("channels", "config") if name in given}
    parts: dict[str, int | None] = {}
    for name, text in given.items():
        if text is not None:
            letters = {letter: k for k, letter in enumerate(ascii_uppercase[:count])}
            known = {**letters, **{str(k): k for k in letters.values()}, "NONE": None}
            parts[name] = known[choose("seed", text.upper(), [*known])]
    found: dict[str, Any] = {name: value for name, value in others.items() if value is not None}
    return {**({"parts_from": parts} if parts else {}), **found}


def seed_map(texts: Sequence[str]) -> Mapping[str, str | Path]:
    """Return where each model is now from texts such as ``A=/models/wizard``.

    Raises:
        InputError: a text is written otherwise, or names a model twice.
    """
    places: dict[str, str | Path] = {}
    for text in texts:
        name, equals, place = text.partition("=")
        if not (name and equals and place) or name in places:
            raise InputError(
                f"--seed-map must be A=PATH, each model once, got {text!r}; write, for example, "
                f"--seed-map A=models/wizard --seed-map B=models/agent."
            )
        places[name] = place
    return places
