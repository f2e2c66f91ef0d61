"""Model cards of the zoo: training, scores and limits of each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from m2n2lab.utils.text import percent

CARD = """---
license: apache-2.0
pipeline_tag: {tag}
tags:
- m2n2lab
---
# {title}

{description}, made for trying out model merging in seconds; it is of no other use.

Trained {training}; every random number comes from seed {seed}. Made again with

    {command}

## What it can and cannot do

| asked on what it never saw | examples | score |
|---|---:|---:|
{rows}

{limits}
"""


def write_card(
    folder: Path,
    title: str,
    *,
    tag: str,
    description: str,
    training: str,
    seed: int,
    command: str,
    scores: Mapping[str, tuple[int, float]],
    limits: Sequence[str],
) -> None:
    """Write a model's ``README.md``.

    Args:
        folder: the model's folder.
        title: title of the card.
        tag: the model's task as named by the hub.
        description: the model, as the subject of a sentence.
        training: continuation of the sentence "Trained …".
        seed: seed of its training.
        command: the command that trains it again.
        scores: number of examples and mean score in [0, 1], by type of example.
        limits: sentences on its limits.
    """
    rows = [f"| {name} | {n:,} | {percent(score)} |" for name, (n, score) in scores.items()]
    text = CARD.format(
        title=title,
        tag=tag,
        description=description,
        training=training,
        seed=seed,
        command=command,
        rows="\n".join(rows),
        limits=" ".join(limits),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
