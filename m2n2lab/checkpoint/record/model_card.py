"""Model card of a merge: seeds, recipe, and shares along the model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2n2lab.checkpoint.io.adapters.source import Source
from m2n2lab.checkpoint.io.hashes import combined_digest
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.record.merge_record import Record, source_of
from m2n2lab.core.operators.operator import FIELD
from m2n2lab.core.spaces.derived import Derived, lineage
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.text import visible

PIPELINE_TAGS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForImageClassification": "image-classification",
}
"""Names of the hub for what models of a class are for, by the end of the class's name."""

MAX_LISTED_PIECES = 24
"""Pieces of a recipe that the card lists; further ones are only in recipe.json."""

MAX_LISTED_VECTORS = 24
"""Derived vectors that the card lists."""

MAX_LISTED_STRETCHES = 4
"""Stretches of a derived vector that the card lists."""


def card(plan: Plan, recipe: Recipe, record: Record) -> str:
    """Return the README.md of a merge; it depends on nothing but the merge."""
    licences = [seed["licence"] for seed in record.seeds]
    ids = list(map(_name, record.seeds))
    licences += [each["licence"] for seed in record.seeds for each in seed.get("adapters", ())]
    head = ["---"]
    if licences[0] and len(set(licences)) == 1:
        head.append(f"license: {json.dumps(licences[0])}")
    if plan.base.kind != "file":
        head.append(f"library_name: {plan.base.kind}")
    if tag := _pipeline_tag(plan):
        head.append(f"pipeline_tag: {tag}")
    parts = [
        part
        for seed in record.seeds
        for part in ({**seed, "id": source_of(seed).base}, *seed.get("adapters", ()))
    ]
    hub = dict.fromkeys(part["id"].partition("@")[0] for part in parts if "commit" in part)
    head += ["base_model:", *(f"- {json.dumps(id)}" for id in hub)] if hub else []
    head += ["tags:", "- merge", "- m2n2"]
    head += ["---", ""]
    share = recipe.ancestry
    lines = [
        "# A merged model",
        "",
        f"Made by {record.maker} from {_count(len(ids))} {recipe.size:,} parameters"
        f"{' each' if len(ids) > 1 else ''}, without training"
        + (f": {cell(record.made)}." if record.made else "."),
        "",
        "| | seed | share | licence its card states | SHA-256 |",
        "|---|---|---:|---|---|",
    ]
    for k, seed in enumerate(record.seeds):
        licence = seed["licence"] or "none stated"
        lines.append(
            f"| {letter(k)} | {cell(ids[k])} | {share[k]:.1%} | {cell(licence)} | "
            f"`{seed['sha256']}` |"
        )
    lines += adapter_lines(record)
    if len(set(licences)) > 1 or None in licences:
        lines += ["", "The seeds' licences differ or are missing: see which hold for this model."]
    if record.map:
        lines += ["", *_map_lines(record.map)]
    names = _column_names(recipe)
    lines += ["", "## Recipe", "", *_piece_table(plan, recipe, names)]
    if recipe.derived:
        lines += ["", "## Derived vectors", "", *_vector_list(recipe)]
    lines += ["", "## Share of each seed along the model", "", *_share_table(plan, recipe)]
    dtypes = ", ".join(sorted({plan.dtypes[name] for name in plan.sizes}))
    lines += [
        "",
        *_buffer_lines(recipe),
        *(["BatchNorm statistics were computed anew on data.", ""] if record.recalibrated else []),
        f"Weights are {dtypes}, each rounded once. With the seeds at hand, "
        "`m2n2lab rebuild recipe.json -o FOLDER` makes the same files again.",
    ]
    return "\n".join(head + lines) + "\n"


def _name(seed: Mapping[str, Any]) -> str:
    """Return the name of a seed, with those of its adapters, as ``_shown`` gives them."""
    adapters = tuple((_shown(each), float(each["strength"])) for each in seed.get("adapters", ()))
    return str(Source(_shown({**seed, "id": source_of(seed).base}), adapters))


def _shown(part: Mapping[str, Any]) -> str:
    """Return the id on the hub of a model or an adapter, or the name of its folder or file alone.

    The hub refuses local paths as base models, and a reader has no use for them.
    """
    id = str(part["id"])
    return id if "commit" in part else Path(id).name or "a local folder"


def _pipeline_tag(plan: Plan) -> str | None:
    """Return the hub's name of what a model is for, as far as its class says."""
    if plan.base.kind == "diffusers":
        return "text-to-image"
    name = plan.base.parts[0].architecture
    if name.endswith("ForConditionalGeneration"):
        return "image-text-to-text" if "vision_config" in plan.base.parts[0].config else None
    return next((tag for end, tag in PIPELINE_TAGS.items() if name.endswith(end)), None)


def _map_lines(pairs: Sequence[str]) -> list[str]:
    """Return a paragraph and a table on tensors that have other names in other seeds."""
    rows = [f"| `{first}` | `{other}` |" for first, _, other in (p.partition("=") for p in pairs)]
    return [
        "Only these tensors of A are merged, with those of other seeds; all else is A's.",
        "",
        "| tensors of A | in other seeds |",
        "|---|---|",
        *rows,
    ]


def _buffer_lines(recipe: Recipe) -> list[str]:
    """Return a paragraph on buffers, if there are any."""
    if recipe.buffers is None:
        return []
    return [
        f"The {recipe.buffers.size:,} entries of floating-point buffers, such as BatchNorm "
        f"statistics, are merged linearly, without SLERP; their shares are in recipe.json.",
        "",
    ]


def _count(seeds: int) -> str:
    return "a model with" if seeds == 1 else f"{seeds} models with"


def adapter_lines(record: Record) -> list[str]:
    """Return a table of the seeds' bases and adapters; nothing if none has adapters."""
    rows = []
    for k, seed in enumerate(record.seeds):
        if "adapters" not in seed:
            continue
        weights: dict[str, dict[str, str]] = {}  # by what they belong to: the base, or an adapter
        for name, sha in seed["files"].items():
            if name.endswith(".safetensors"):
                part = name.partition("/")[0] if name.startswith("+") else ""
                weights.setdefault(part, {})[name] = sha
        parts = [("base", {**seed, "id": seed["base"]})]
        parts += [(f"adapter, strength {each['strength']:g}", each) for each in seed["adapters"]]
        for (what, each), own in zip(parts, weights.values(), strict=True):
            licence = cell(each["licence"] or "none stated")
            digest = combined_digest(own)
            rows.append(f"| {letter(k)} | {what} | {cell(_shown(each))} | {licence} | `{digest}` |")
    if not rows:
        return []
    head = "| seed | is made of | | licence its card states | SHA-256 |"
    return ["", head, "|---|---|---|---|---|", *rows]


def letter(k: int) -> str:
    """Return the letter of a seed."""
    return chr(ord("A") + k) if k < 26 else f"seed {k}"


def cell(text: str) -> str:
    """Return text from outside without characters that Markdown or HTML would interpret."""
    return re.sub(r"[|<>`\[\]\s]", " ", visible(text, keep="\n\t"))


def _column_names(recipe: Recipe, numbers: Mapping[Derived, int] | None = None) -> list[str]:
    """Return the names of a recipe's columns: letters of seeds, V and a number for others."""
    numbers = lineage(recipe.derived) if numbers is None else numbers
    vectors = [f"V{numbers[vector]}" for vector in recipe.derived]
    return [*map(letter, range(recipe.seeds)), *vectors]


def _vector_list(recipe: Recipe) -> list[str]:
    """Return a list of the derived vectors: operator, parameters, and inputs."""
    numbers = lineage(recipe.derived)
    lines = [
        "Each tensor of these is computed from whole tensors of their inputs, by an operator with "
        "its parameters; recipe.json has all numbers. Shares below count the first two inputs.",
        "",
    ]
    # The last ones are the model's own; those before them are what they are computed from.
    for vector, number in list(numbers.items())[: -MAX_LISTED_VECTORS - 1 : -1]:
        given = ", ".join(f"{k}={v!r}" for k, v in vector.rule.items() if k != FIELD)
        inputs = ", ".join(_sum(one, _column_names(one, numbers)) for one in vector.inputs)
        tensors = "" if vector.tensors is None else f", for {len(vector.tensors):,} tensors"
        lines.append(
            f"- V{number}: {cell(f'{vector.rule[FIELD]}({given})')} of {inputs}{tensors}"
            f"{_stretches(vector)}"
        )
    if len(numbers) > MAX_LISTED_VECTORS:
        more = len(numbers) - MAX_LISTED_VECTORS
        lines += ["", f"{more:,} more are in recipe.json."]
    return lines


def _stretches(vector: Derived) -> str:
    """Return the share of the second input on each stretch as text, if there are few."""
    if len(vector.mixes) > MAX_LISTED_STRETCHES:
        return f"; its share changes {len(vector.mixes) - 1:,} times"
    ends = zip(vector.mixes, vector.edges[1:], strict=True)
    return "; share of the second " + ", ".join(f"{mix:.4f} before {end:,}" for mix, end in ends)


def _sum(recipe: Recipe, names: Sequence[str]) -> str:
    """Return what a recipe consists of as a sum."""
    _, columns = np.nonzero(recipe.coef)
    return " + ".join(names[column] for column in np.unique(columns).tolist()) or "0"


def _piece_table(plan: Plan, recipe: Recipe, names: Sequence[str]) -> list[str]:
    """Return a table of the pieces: their ends and the weight of each seed."""
    lines = ["| from | to | weights |", "|---|---|---|"]
    for start, stop, coef in recipe.pieces(0, recipe.size):
        if len(lines) == MAX_LISTED_PIECES + 2:
            more = recipe.segments - MAX_LISTED_PIECES
            return [*lines, "", f"{more:,} more pieces are in recipe.json."]
        terms = " ".join(
            f"{'−' if c < 0 else '+'} {abs(c):.4f} {names[k]}" for k, c in enumerate(coef) if c
        )
        lines.append(
            f"| {cell(plan.layout.locate(start))} ({start:,}) | "
            f"{cell(plan.layout.locate(stop - 1))} ({stop - 1:,}) | "
            f"{terms.removeprefix('+ ') or '0'} |"
        )
    return lines


def _share_table(plan: Plan, recipe: Recipe, bins: int = 20) -> list[str]:
    """Return a table with the share of each seed in equal stretches of the vector."""
    shares = recipe.paint(bins)
    starts = np.floor(np.arange(bins) * recipe.size / bins).astype(int).tolist()
    letters = [letter(k) for k in range(recipe.seeds)]
    lines = [f"| from | {' | '.join(letters)} |", f"|---|{'---:|' * len(letters)}"]
    for start, row in zip(starts, shares, strict=True):
        figures = " | ".join(f"{share:.0%}" for share in row)
        lines.append(f"| {cell(plan.layout.locate(start))} | {figures} |")
    return lines
