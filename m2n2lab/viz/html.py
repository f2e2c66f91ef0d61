"""Rich displays for notebooks: plain HTML in which every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import singledispatch
from html import escape
from typing import Any

import numpy as np

from m2n2lab.core.archive import Archive
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.population import Population
from m2n2lab.core.records import Generation, Proposal
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.text import percent, plain
from m2n2lab.viz.theme import LIGHT, seed_colours

MAX_ROWS = 20
"""Largest number of rows of a table."""

STRIP_BINS = 96
"""Bins of the flat vector in the strip of a recipe."""

MAX_NAME_CHARS = 80
"""Longest name from outside that is shown in full."""


def table_html(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table of escaped texts."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


@singledispatch
def html_of(value: Any) -> str:
    """Return the HTML of an evolver, archive, proposal, generation or recipe for a notebook."""
    raise NotImplementedError(type(value).__name__)


@html_of.register
def evolver_html(evolver: Evolver) -> str:
    """Return a search's key figures, and its members by fitness."""
    with evolver.turn():
        population, step, test = evolver.archive.population, evolver.generation, evolver.test
    figures = table_html(
        ("method", "task", "step", "best, train", "best, held out", "covered", "entropy"),
        [
            (
                evolver.method,
                plain(evolver.task.name, MAX_NAME_CHARS),
                f"{step:,}",
                percent(population.standing.train),
                percent(test),
                percent(population.coverage),
                f"{population.entropy:.2f} bit",
            )
        ],
    )
    return f"<div>{figures}{_members_html(population)}</div>"


@html_of.register
def archive_html(archive: Archive) -> str:
    """Return an archive's key figures, and its members by fitness."""
    population = archive.population
    figures = table_html(
        ("members", "data points", "α", "capacity", "covered", "entropy"),
        [
            (
                f"{len(population.members)} of {archive.size}",
                f"{archive.points:,}",
                f"{archive.alpha:g}",
                archive.capacity,
                percent(population.coverage),
                f"{population.entropy:.2f} bit",
            )
        ],
    )
    return f"<div>{figures}{_members_html(population)}</div>"


def _members_html(population: Population) -> str:
    """Return the fittest members as a table."""
    fitness = population.standing.fitness.tolist()
    ranked = sorted(zip(population.members, fitness, strict=True), key=lambda pair: -pair[1])
    members = table_html(
        ("member", "born", "parents", "fitness", "score"),
        [
            (m.id, m.born, " × ".join(map(str, m.parents)) or "–", f"{f:.1f}", percent(m.score))
            for m, f in ranked[:MAX_ROWS]
        ],
    )
    rest = len(ranked) - MAX_ROWS
    return members + (f"<p>… and {rest} more</p>" if rest > 0 else "")


@html_of.register
def proposal_html(proposal: Proposal) -> str:
    """Return a proposal as a row: parents in their colours, split, mix, seed, fields by hand."""
    colours = (LIGHT.parent_a, LIGHT.parent_b)
    parents = " × ".join(
        f'<b style="color:{colour}">{escape(str(id))}</b>'
        for id, colour in zip(proposal.parents, colours, strict=False)
    )
    split = "–" if proposal.split is None else f"{proposal.split:,}"
    mix = "–" if proposal.mix is None else f"{proposal.mix:.3f}"
    row = (split, mix, proposal.seed, ", ".join(map(str, proposal.by_hand)) or "–")
    table = table_html(("parents", "split", "mix", "seed", "by hand"), [("", *row)])
    return table.replace("<td></td>", f"<td>{parents or 'none'}</td>", 1)


@html_of.register
def generation_html(generation: Generation) -> str:
    """Return the outcome of one step, the search's figures after it, and the proposal."""
    made = proposal_html(generation.proposal) if generation.proposal else "<p>From outside.</p>"
    verdict = generation.verdict
    figures = table_html(
        ("step", "child", "score", "fitness", "rank", "best, train", "best, held out", "covered"),
        [
            (
                f"{generation.step:,}",
                generation.child,
                percent(verdict.score),
                verdict.told,
                f"{verdict.rank} of {verdict.of}",
                percent(generation.train),
                percent(generation.test),
                percent(generation.coverage),
            )
        ],
    )
    return f"<div><p>{escape(generation.outcome)}</p>{figures}{made}</div>"


@html_of.register
def recipe_html(recipe: Recipe) -> str:
    """Return each seed's share in a model, and a strip of the shares along the flat vector."""
    shares = recipe.paint(STRIP_BINS)
    shares = np.column_stack((shares, np.clip(1.0 - shares.sum(axis=1), 0.0, 1.0)))
    colours = seed_colours(LIGHT, recipe.seeds)
    bars = []
    for x, column in enumerate(shares.tolist()):
        top = 0.0
        for share, colour in zip(column, colours, strict=True):
            if share > 0.0:
                bars.append(
                    f'<rect x="{x}" y="{top:.3f}" width="1.02" height="{share:.3f}" '
                    f'fill="{colour}"/>'
                )
            top += share
    key = ", ".join(
        f'<b style="color:{colour}">■</b> seed {k} {percent(share)}'
        for k, (share, colour) in enumerate(
            zip(recipe.ancestry.tolist(), colours[:-1], strict=True)
        )
    )
    pieces = "1 segment" if recipe.segments == 1 else f"{recipe.segments:,} segments"
    return (
        f'<div><svg viewBox="0 0 {STRIP_BINS} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="share of each seed along the vector" width="480" height="20">'
        f"{''.join(bars)}</svg><p>{key}; {pieces} over {recipe.size:,} parameters</p></div>"
    )
