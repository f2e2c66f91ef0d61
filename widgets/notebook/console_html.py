"""Texts and curves of the console, as HTML in the colours of its CSS variables."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from m2n2lab.analysis.maps import CurvesData
from m2n2lab.core.records import Generation
from m2n2lab.utils.text import percent, plain
from m2n2lab.viz.theme import DARK, LIGHT, Theme, curve_looks

from ..html.answers import ANSWERS_CSS
from ..html.assets import asset
from ..html.bench import BENCH_CSS
from ..html.figures import FIGURES_CSS
from ..html.pictures import css_variables

VARIABLES = ("page", "card", "line", "text", "quiet", "faint", "parent_a", "parent_b", "child")

CSS_THEME = LIGHT._replace(
    **{name: f"var(--{name})" for name in VARIABLES},  # type: ignore[arg-type]
    runs=tuple(f"var(--run{k})" for k in range(len(LIGHT.runs))),
)
"""A theme of CSS variables: only the front end knows whether it is light or dark."""

CURVES_WIDTH, CURVES_HEIGHT = 520, 130
"""Size of the curves, in the picture's own units."""

LOG_LINES = 12
"""Births that the log shows."""


def console_css() -> str:
    """Return the style sheet of a console, with the colours of both themes."""
    own = asset("notebook/console.css")
    shared = "\n".join((FIGURES_CSS, BENCH_CSS, ANSWERS_CSS))
    own = own.replace("--light: 1; LIGHT", _variables(LIGHT)).replace("DARK", _variables(DARK))
    return f".m2n2lab-console {{ {shared} }}\n{own}"


def _variables(theme: Theme) -> str:
    numbered = {"ramp": theme.ramp, "run": theme.runs}
    colours = {f"{name}{k}": c for name, found in numbered.items() for k, c in enumerate(found)}
    return css_variables(theme, **colours)


def title_html(title: str) -> str:
    """Return the title of a console."""
    return f'<div class="title"><b>m2n2lab</b>{escape(plain(title, 80))}</div>'


def curves_html(data: CurvesData) -> str:
    """Return curves as a picture, and a legend with the last value of each."""
    end = max(float(data.step[-1]), 10.0)
    shapes = [
        f'<path d="M0 {_y(level):.1f}H{CURVES_WIDTH}" stroke="var(--line)" fill="none"/>'
        f'<text x="{CURVES_WIDTH + 6}" y="{_y(level) + 3.5:.1f}">{level}</text>'
        for level in (0, 50, 100)
    ]
    shapes.append(
        f'<text x="{CURVES_WIDTH}" y="{CURVES_HEIGHT + 24}" text-anchor="end">'
        f"{end:,.0f} steps</text>"
    )
    keys = []
    looks = curve_looks(CSS_THEME, len(data.classes))
    lines = zip(data.legend.values(), data.lines().values(), looks, strict=True)
    for name, values, look in lines:
        drawn = (
            f'stroke="{look.colour}" stroke-width="{look.width}" stroke-dasharray="{look.dash}" '
            'fill="none" stroke-linejoin="round"'
        )
        known = np.flatnonzero(~np.isnan(values))
        places = " ".join(
            f"{CURVES_WIDTH * data.step[k] / end:.1f},{_y(float(values[k])):.1f}" for k in known
        )
        if len(known) == 1:  # a dot, where there is no line yet
            x, _, y = places.partition(",")
            shapes.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{look.colour}"/>')
        shapes.append(f'<polyline points="{places}" {drawn}/>')
        last = percent(float(values[known[-1]]) / 100) if len(known) else "–"
        keys.append(
            f'<span><svg viewBox="0 0 18 8"><path d="M0 4H18" {drawn}/></svg> {escape(name)} '
            f"<b>{last}</b></span>"
        )
    return (
        f'<div class="legend">{"".join(keys)}</div><svg class="curves" role="img" '
        f'aria-label="coverage, entropy and the best member over the steps" '
        f'viewBox="-6 -2 {CURVES_WIDTH + 34} {CURVES_HEIGHT + 30}">{"".join(shapes)}</svg>'
    )


def _y(level: float) -> float:
    return 8 + CURVES_HEIGHT * (1 - level / 100)


def log_html(births: Iterable[Generation], last: Generation | None) -> str:
    """Return the last accepted children, the newest on top, and the last child if it died."""
    shown = list(births)[-LOG_LINES:][::-1]
    if last is not None and not last.accepted:
        shown.insert(0, last)
    lines = []
    for generation in shown:
        made = " × ".join(
            f'<b class="{parent}">{id}</b>'
            for parent, id in zip("ab", generation.parents, strict=False)
        )
        css = ' class="lives"' if generation.accepted else ""
        score = percent(generation.verdict.score)
        lives = f'<span class="kept">{generation.child}</span>' if generation.accepted else "died"
        gone = "" if generation.displaced is None else f" for {generation.displaced}"
        lines.append(
            f"<li{css}><i>{generation.step:,}</i><span>{made or 'from outside'} → {lives}{gone}, "
            f"{score}</span></li>"
        )
    empty = "<li>Nobody was born since this was opened: Run or Step to begin.</li>"
    return f'<ol class="log" data-testid="log">{"".join(lines) or empty}</ol>'
