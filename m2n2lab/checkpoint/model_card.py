"""Model card of a merge: seeds, recipe, and shares along the model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np

from m2n2lab.checkpoint.merge_record import Record
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.core.operators.operator import FIELD
from m2n2lab.core.spaces.derived import Derived, lineage
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.text import visible

MAX_LISTED_PIECES = 24
"""Pieces of a recipe that the card lists; further ones are only in recipe.json."""

MAX_LISTED_VECTORS = 24
"""Derived vectors that the card lists."""

MAX_LISTED_STRETCHES = 4
"""Stretches of a derived vector that the card lists."""


def card(plan: Plan, recipe: Recipe, record: Record) -> str:
    """Return the README.md of a merge; it depends on nothing but the merge."""
    licences = [seed["licence"] for seed in record.seeds]
    ids = [str(seed["id"]) for seed in record.seeds]
    head = ["---"]
    if licences[0] and len(set(licences)) == 1:
        head.append(f"license: {json.dumps(licences[0])}")
    if plan.base.kind != "file":
        head.append(f"library_name: {plan.base.kind}")
    if plan.base.parts[0].architecture.endswith("ForCausalLM"):
        head.append("pipeline_tag: text-generation")
    # The hub refuses a card that names a local folder.
    hub = [
        id.partition("@")[0] for id, seed in zip(ids, record.seeds, strict=True) if "commit" in seed
    ]
    head += ["base_model:", *(f"- {json.dumps(id)}" for id in hub)] if hub else []
    head += ["tags:", "- merge", "- m2n2"]
    head += ["---", ""]
    share = recipe.ancestry
    lines = [
        "# A merged model",
        "",
        f"Made by {record.maker} from {len(ids)} models with {recipe.size:,} parameters each, "
        f"without training" + (f": {_cell(record.made)}." if record.made else "."),
        "",
        "| | seed | share | licence its card states | SHA-256 |",
        "|---|---|---:|---|---|",
    ]
    for k, seed in enumerate(record.seeds):
        licence = seed["licence"] or "none stated"
        lines.append(
            f"| {_letter(k)} | {_cell(ids[k])} | {share[k]:.1%} | {_cell(licence)} | "
            f"`{seed['sha256']}` |"
        )
    if len(set(licences)) > 1 or None in licences:
        lines += ["", "The seeds' licences differ or are missing: see which hold for this model."]
    names = _column_names(recipe)
    lines += ["", "## Recipe", "", *_piece_table(plan, recipe, names)]
    if recipe.derived:
        lines += ["", "## Derived vectors", "", *_vector_list(recipe)]
    lines += ["", "## Share of each seed along the model", "", *_share_table(plan, recipe)]
    dtypes = ", ".join(sorted({plan.dtypes[name] for name in plan.sizes}))
    lines += [
        "",
        *_buffer_lines(recipe),
        f"Weights are {dtypes}, each rounded once. With the seeds at hand, "
        "`m2n2lab rebuild recipe.json -o FOLDER` makes the same files again.",
    ]
    return "\n".join(head + lines) + "\n"


def _buffer_lines(recipe: Recipe) -> list[str]:
    """Return a paragraph on buffers, if there are any."""
    if recipe.buffers is None:
        return []
    return [
        f"The {recipe.buffers.size:,} entries of floating-point buffers, such as BatchNorm "
        f"statistics, are merged linearly, without SLERP; their shares are in recipe.json.",
        "",
    ]


def _letter(k: int) -> str:
    return chr(ord("A") + k) if k < 26 else f"seed {k}"


def _cell(text: str) -> str:
    """Return text from outside without characters that Markdown or HTML would interpret."""
    return re.sub(r"[|<>`\[\]\s]", " ", visible(text, keep="\n\t"))


def _column_names(recipe: Recipe, numbers: Mapping[Derived, int] | None = None) -> list[str]:
    """Return the names of a recipe's columns: letters of seeds, V and a number for others."""
    numbers = lineage(recipe.derived) if numbers is None else numbers
    vectors = [f"V{numbers[vector]}" for vector in recipe.derived]
    return [*map(_letter, range(recipe.seeds)), *vectors]


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
            f"- V{number}: {_cell(f'{vector.rule[FIELD]}({given})')} of {inputs}{tensors}"
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
            f"| {_cell(plan.layout.locate(start))} ({start:,}) | "
            f"{_cell(plan.layout.locate(stop - 1))} ({stop - 1:,}) | "
            f"{terms.removeprefix('+ ') or '0'} |"
        )
    return lines


def _share_table(plan: Plan, recipe: Recipe, bins: int = 20) -> list[str]:
    """Return a table with the share of each seed in equal stretches of the vector."""
    shares = recipe.paint(bins)
    starts = np.floor(np.arange(bins) * recipe.size / bins).astype(int).tolist()
    letters = [_letter(k) for k in range(recipe.seeds)]
    lines = [f"| from | {' | '.join(letters)} |", f"|---|{'---:|' * len(letters)}"]
    for start, row in zip(starts, shares, strict=True):
        figures = " | ".join(f"{share:.0%}" for share in row)
        lines.append(f"| {_cell(plan.layout.locate(start))} | {figures} |")
    return lines
