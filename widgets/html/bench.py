"""Bench texts: the pair and child, their scores, and the verdict, as HTML."""

from __future__ import annotations

import math
import re
from html import escape

from m2n2lab.analysis.lineage import called
from m2n2lab.analysis.merge_preview import BenchData, describe_gain, describe_verdict
from m2n2lab.core.records import Generation
from m2n2lab.utils.text import percent, plain
from m2n2lab.viz.theme import Theme

from ..session.snapshot import Snapshot
from .texts import MAX_TEXT_CHARS

BENCH_CSS = """
.who, .verdict, .note { font: 13px/1.35 system-ui, sans-serif; }
.who { display: flex; flex-wrap: wrap; gap: 0 8px; align-items: baseline; }
.who { font-size: 12px; }
.who b span { font-weight: 400; }
.who .most { margin-left: auto; color: var(--quiet); }
.a { color: var(--parent_a); } .b { color: var(--parent_b); } .child { color: var(--child); }
svg { display: block; width: 100%; }
svg text { font: 10.5px system-ui, sans-serif; fill: var(--quiet); }
.verdict { border-left: 3px solid var(--child); border-radius: 6px; padding: 6px 10px;
           background: rgba(128, 128, 128, .08); overflow-wrap: anywhere; }
.verdict.dies, .old.verdict { border-color: var(--quiet); }
.old { color: var(--quiet); font-style: italic; }
.old :is(.a, .b, .child) { color: inherit; }
.old svg { opacity: .5; }
.note { margin-top: 4px; overflow-wrap: anywhere; }
.waits { margin: 0 0 4px; font-size: 12px; }
"""

BARS_WIDTH, BARS_HEIGHT = 440, 54
"""Size of the bars of accuracy by class, in the picture's own units."""


def scores_html(data: BenchData, theme: Theme, old: bool = False) -> str:
    """Return the scores of the pair and child, and what A and B solve together.

    Args:
        data: the previewed pair and child.
        theme: colours.
        old: whether another choice was made since.
    """
    a, b = (_member(id, data) for id in data.proposal.parents)
    mine, its, child = data.means
    return (
        f'<div{_old(old)}><div class="who"><span><b class="a">A {a}</b> '
        f'<span data-testid="score-a">{percent(mine)}</span></span>'
        f'<span><b class="b">B {b}</b> <span data-testid="score-b">{percent(its)}</span></span>'
        f'<span><b class="child">child</b> <span data-testid="score-child">{percent(child)}</span>'
        f'</span><span class="most" title="solved by A or by B; a child may solve more than both">'
        f'A or B <span data-testid="either">{percent(data.either)}</span>'
        f"</span></div>{_bars(data, theme)}</div>"
    )


def _member(id: int, data: BenchData) -> str:
    """Return the name of a member: its number, or that of a seed where seeds have names."""
    name = called(id, data.seeds[:-1])
    return f'<span title="member {id}">{escape(plain(name, MAX_TEXT_CHARS))}</span>'


def verdict_html(data: BenchData, snapshot: Snapshot) -> str:
    """Return the verdict on the child or, once it is merged, the outcome; and the note."""
    note = note_html(snapshot.note)
    if snapshot.merged is not None:
        waits = _waits(data) if snapshot.pending else ""
        return waits + _outcome(data, snapshot.merged, snapshot.note, old=snapshot.pending)
    if snapshot.pending:
        return _waits(data) + _verdict(data, old=True) + note
    if snapshot.stale:
        return note_html(snapshot.note or "A parent no longer lives; pick another pair.")
    return _verdict(data) + note


def note_html(note: str) -> str:
    """Return a note of the workbench."""
    return (
        f'<div class="note" role="status" data-testid="note">'
        f"{escape(plain(note, 2 * MAX_TEXT_CHARS))}</div>"
    )


def _old(old: bool) -> str:
    return ' class="old"' if old else ""


def _waits(data: BenchData) -> str:
    """Return a remark that the verdict is older than the choice."""
    (a, b), split, mix = data.proposal.parents, data.proposal.split, data.proposal.mix
    return (
        '<div class="note waits" role="status" data-testid="waits">The last preview, '
        f'<b class="a">{a}</b> × <b class="b">{b}</b>, split {split:,}, mix {mix:.2f}. '
        "What you chose can be merged once it is previewed.</div>"
    )


def _outcome(data: BenchData, merged: Generation, note: str, old: bool) -> str:
    """Return the outcome of a merge in the place of its verdict, and why the child is better."""
    text = note or (
        f"Child {merged.child} was merged at step {merged.step:,}. Change the pair, the split or "
        f"the mix, or preview again, for another child."
    )
    css = f"verdict{'' if merged.accepted else ' dies'}{' old' if old else ''}"
    gain = describe_gain(data) if merged.accepted else ""
    return (
        f'<div class="{css}" data-testid="outcome"><span role="status" data-testid="note">'
        f"{escape(plain(text, 2 * MAX_TEXT_CHARS))}</span>"
        f' <span data-testid="gain">{escape(gain)}</span></div>'
    )


def _verdict(data: BenchData, old: bool = False) -> str:
    head, _, rest = escape(describe_verdict(data)).partition(".")
    rest = re.sub(
        r"of what ([AB])\b", lambda m: f'of what <b class="{m[1].lower()}">{m[1]}</b>', rest
    )
    accepted = data.verdict.accepted
    css = f"verdict{'' if accepted else ' dies'}{' old' if old else ''}"
    tint = "child" if accepted and not old else ""
    a, b = data.proposal.parents
    title = f"of {a} × {b}, split {data.proposal.split:,}, mix {data.proposal.mix:.2f}"
    return (
        f'<div class="{css}" data-testid="verdict" title="{title}"><b class="{tint}">{head}.</b>'
        f"{rest}</div>"
    )


_STRIPES = (
    '<pattern id="stripes" width="4" height="4" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><path d="M0 0V4" stroke="var(--card)" stroke-width="2.4"/>'
    "</pattern>"
)
"""Stripes over the colour of B."""


def _bars(data: BenchData, theme: Theme) -> str:
    """Return bars of accuracy by class as a picture: A, B and the child side by side."""
    classes = data.classes
    colours = (theme.parent_a, theme.parent_b, theme.child)
    looks = ("", "", ' stroke="var(--text)"')  # to be told apart without colours too
    wide = BARS_WIDTH / max(len(classes), 1)
    bar = min(wide * 0.27, 16)
    every = math.ceil(12 / wide)  # only every so many classes are named
    longest = max(int(wide * every / 6.5), 1)
    shapes = []
    for c, name in enumerate(classes):
        left = c * wide + (wide - 3 * bar) / 2
        for k, (colour, look) in enumerate(zip(colours, looks, strict=True)):
            value = float(data.accuracy[k, c])
            high = 0.0 if math.isnan(value) else value * BARS_HEIGHT
            title = f"{('A', 'B', 'child')[k]}, {plain(name, MAX_TEXT_CHARS)}: {percent(value)}"
            shapes.append(
                f'<rect x="{left + k * bar:.2f}" y="{BARS_HEIGHT - high:.1f}" '
                f'width="{max(bar - 1, bar / 2):.2f}" height="{high:.1f}" fill="{colour}"{look}>'
                f"<title>{escape(title)}</title></rect>"
            )
            if k == 1:
                shapes.append(shapes[-1].replace(f'fill="{colour}"', 'fill="url(#stripes)"'))
        if c % every == 0:
            middle = c * wide + wide / 2
            shapes.append(
                f'<text x="{middle:.1f}" y="{BARS_HEIGHT + 12}" text-anchor="middle">'
                f"{escape(plain(name, longest))}</text>"
            )
    return (
        f'<svg viewBox="0 0 {BARS_WIDTH} {BARS_HEIGHT + 16}" role="img" '
        f'aria-label="accuracy by class of A, B and the child">{_STRIPES}{"".join(shapes)}</svg>'
    )
