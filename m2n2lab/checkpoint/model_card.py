"""Model card of a merge: seeds, recipe, and shares along the model."""

from __future__ import annotations

import json
import re

import numpy as np

from m2n2lab.checkpoint.merge_record import Record
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.core.spaces.recipe import Recipe

MAX_LISTED_PIECES = 24
"""Pieces of a recipe that the card lists; further ones are only in recipe.json."""


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
    lines += ["", "## Recipe", "", *_piece_table(plan, recipe)]
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
    return re.sub(r"[|<>`\[\]\s]", " ", text)


def _piece_table(plan: Plan, recipe: Recipe) -> list[str]:
    """Return a table of the pieces: their ends and the weight of each seed."""
    lines = ["| from | to | weights |", "|---|---|---|"]
    for start, stop, coef in recipe.pieces(0, recipe.size):
        if len(lines) == MAX_LISTED_PIECES + 2:
            more = recipe.segments - MAX_LISTED_PIECES
            return [*lines, "", f"{more:,} more pieces are in recipe.json."]
        terms = " ".join(
            f"{'−' if c < 0 else '+'} {abs(c):.4f} {_letter(k)}" for k, c in enumerate(coef) if c
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
