"""Formulas with their numbers, as HTML; the equations are those of ``m2n2lab.core``."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from m2n2lab.analysis.formulas import FormulaData, PointFormula, WeightFormula
from m2n2lab.analysis.lineage import called
from m2n2lab.utils.text import plain

from .texts import MAX_TEXT_CHARS

MAX_SOLVERS = 6
"""Members besides A and B whose score at the data point is shown."""

FORMULAS_CSS = """
.formulas { font: 13px/1.5 system-ui, sans-serif; color: var(--text); overflow-wrap: anywhere; }
.formulas h3 { margin: 10px 0 2px; font-size: 13px; }
.formulas h3 span, .formulas .quiet { font-weight: 400; color: var(--quiet); }
.formulas p { margin: 2px 0; }
.formulas .equation { padding: 3px 10px; border-left: 3px solid var(--line); font-size: 14px; }
.formulas .a { color: var(--parent_a); } .formulas .b { color: var(--parent_b); }
.formulas .child { color: var(--child); }
.formulas table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.formulas :is(td, th) { padding: 1px 14px 1px 0; text-align: right; font-weight: 400; }
.formulas th { color: var(--quiet); }
.formulas :is(td, th):first-child { text-align: left; }
"""

_A, _B = '<span class="a">θ<sub>A</sub></span>', '<span class="b">θ<sub>B</sub></span>'
_SHARE = "c<sub>j</sub> / z<sub>j</sub><sup>α</sup>"


def formulas_html(data: FormulaData, first: str = "weight") -> str:
    """Return the equations of a merge with their numbers.

    Args:
        data: the numbers.
        first: the part that comes first, one of ``PARTS``.
    """
    order = sorted(PARTS, key=lambda name: name != first)
    return f'<div class="formulas">{"".join(PARTS[name](data) for name in order)}</div>'


def number(value: float) -> str:
    """Return a number with four digits and a real minus sign."""
    if math.isnan(value):
        return "–"
    text = f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return text.replace("-", "−")


def _in_product(value: float) -> str:
    """Return a number as a factor, in brackets if it is negative."""
    return f"({number(value)})" if value < 0.0 else number(value)


def _weight(data: FormulaData) -> str:
    w = data.weight
    title = (
        f"<h3>Weight {w.index:,} <span>{escape(plain(w.place, MAX_TEXT_CHARS))}: how they meet"
        f"</span></h3>"
    )
    if not w.factors:
        return (
            f"{title}<p>{_A} and {_B} are merged by "
            f"{escape(plain(w.crossover, MAX_TEXT_CHARS))}, which has no single equation.</p>"
            f"{_sums(w)}"
        )
    side, share = ("before", "w") if w.index < w.split else ("from", "1 − w")
    return (
        f"{title}<p>ω = {math.degrees(w.omega):.1f}°, the angle between A and B. The weight lies "
        f"{'before' if side == 'before' else 'behind'} the split at {w.split:,}, so "
        f"t = {share} = {number(w.t)}.</p>"
        f'<p class="equation">f<sub>t</sub>({_A}, {_B}) = sin((1−t)ω) / sin ω · {_A} + '
        f"sin(tω) / sin ω · {_B}</p>{_sums(w)}"
    )


def _sums(w: WeightFormula) -> str:
    """Return the same equation with numbers, once for each term of the weight."""
    lines = []
    for term, a, b, merged, child in zip(w.terms, w.a, w.b, w.merged, w.child, strict=True):
        name = f"{escape(plain(term, MAX_TEXT_CHARS))}: " if term else ""
        if w.factors:
            x, y = w.factors
            sum_ = (
                f'{number(x)} · <span class="a">{_in_product(a)}</span> + '
                f'{number(y)} · <span class="b">{_in_product(b)}</span> = {number(merged)}'
            )
        else:
            sum_ = f'<span class="a">{number(a)}</span>, <span class="b">{number(b)}</span>'
        noise = child - merged
        mutated = f" {'+' if noise >= 0 else '−'} {number(abs(noise))} of mutation"
        mutated = mutated if abs(noise) > 1e-6 * max(abs(child), 1e-12) else ""
        lines.append(
            f'<p class="equation">{name}{sum_}{mutated} → <b class="child" '
            f'data-testid="formula-weight">{number(child)}</b></p>'
        )
    seeds = '<p class="quiet">A recipe: the weight is a sum of the seeds’, in these shares.</p>'
    return "".join(lines) + (seeds if w.terms != ("",) else "")


def _point(data: FormulaData) -> str:
    p = data.point
    kind = f"<span>class {escape(plain(p.name, MAX_TEXT_CHARS))}: what it pays, and to whom</span>"
    solvers = sum(score > 0.0 for score in p.scores)
    if p.alpha is None:
        pays = (
            f'<p class="equation">{escape(plain(p.competition, MAX_TEXT_CHARS))} pays '
            f"{number(p.weight)} for a score of 1</p>"
        )
    else:
        pays = (
            f'<p class="equation">z<sub>j</sub> = Σ<sub>k</sub> s<sub>kj</sub> = '
            f"{number(p.z)}, from {solvers} of {len(p.ids)} members; "
            f"c<sub>j</sub> = {number(p.capacity)}, α = {number(p.alpha)}</p>"
            f'<p class="equation">{_SHARE} = {number(p.capacity)} / {number(p.z)}'
            f"<sup>{number(p.alpha)}</sup> = <b>{number(p.weight)}</b> for a score of 1</p>"
            if p.z > 0.0
            else '<p class="equation">z<sub>j</sub> = 0: no member solves it, so nothing is '
            f"shared yet; the first to solve it gets all of c<sub>j</sub> = {number(p.capacity)}"
            "</p>"
        )
    return (
        f"<h3>Data point {p.point:,} {kind}</h3>{pays}"
        f'<p class="equation">fitness<sub>k</sub> = Σ<sub>j</sub> s<sub>kj</sub> '
        f"{_SHARE}</p>{_payments(p)}"
    )


def _payments(p: PointFormula) -> str:
    """Return what the data point pays to A and B, to its other solvers, and would to the child."""
    a, b = p.parents
    others = [id for id in p.ids if id not in p.parents and p.score(id) > 0.0]
    others.sort(key=lambda member: -p.fitness[p.ids.index(member)])
    rows = [
        f'<tr><td{css}>{name}</td><td data-testid="share-{id}">{number(s)} · {number(p.weight)} = '
        f"{number(s * p.weight)}</td><td>of {number(p.fitness[p.ids.index(id)])}</td></tr>"
        for name, css, id in (
            (f"A, {_member(a, p)}", ' class="a"', a),
            (f"B, {_member(b, p)}", ' class="b"', b),
            *((_member(id, p), "", id) for id in others[:MAX_SOLVERS]),
        )
        if not math.isnan(s := p.score(id))
    ]
    more = len(others) - MAX_SOLVERS
    rest = f'<p class="quiet">and {more} more members</p>' if more > 0 else ""
    would = ""
    if p.child == 0.0:
        would = '<p class="child">The child scores 0 here, and would earn nothing.</p>'
    elif p.child is not None and p.alpha is not None:
        crowd = p.z + p.child
        would = (
            f'<p class="child">The child scores {number(p.child)}: with it z<sub>j</sub> would be '
            f"{number(crowd)}.</p>"
        )
    return (
        "<table><tr><th>member</th><th>earns s<sub>kj</sub> · "
        f"{_SHARE}</th><th>of its fitness</th></tr>{''.join(rows)}</table>{rest}{would}"
    )


def _member(id: int, data: PointFormula) -> str:
    return escape(plain(called(id, data.seeds), MAX_TEXT_CHARS))


def _pair(data: FormulaData) -> str:
    p = data.point
    a, b = (_member(id, p) for id in p.parents)
    title = f"<h3>Attraction of {a} to {b} <span>who should meet</span></h3>"
    equation = (
        '<p class="equation">g(A, B) = Σ<sub>j</sub> c<sub>j</sub> / z<sub>j</sub><sup>α</sup> '
        "· max(s<sub>Bj</sub> − s<sub>Aj</sub>, 0)</p>"
    )
    if p.attraction is None:
        return f"{title}{equation}<p>One of the two has left the archive: pick another pair.</p>"
    mine, its = map(p.score, p.parents)
    return (
        f'{title}{equation}<p class="equation">data point {p.point:,}: {number(p.weight)} · max('
        f'<span class="b">{number(its)}</span> − <span class="a">{number(mine)}</span>, 0) = '
        f'{number(p.here)}</p><p class="equation">all {p.gains:,} points where B is better: '
        f'g({a}, {b}) = <b data-testid="formula-attraction">{number(p.attraction)}</b></p>'
    )


PARTS: dict[str, Callable[[FormulaData], str]] = {
    "weight": _weight,
    "point": _point,
    "pair": _pair,
}
"""The equations, by what they are about."""
