"""The merge bench: parents side by side, the split, the mix, and what would come of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np
import panel as pn

from m2n2lab.bench import BenchData, verdict_words
from m2n2lab.display import percent
from m2n2lab.theme import Theme

from .pictures import css_variables
from .session import Session
from .snapshot import Snapshot
from .split_editor import SplitEditor

_CSS = """
.who, .verdict, .note { font: 13px/1.35 system-ui, sans-serif; }
.who { display: flex; flex-wrap: wrap; gap: 0 8px; align-items: baseline; }
.who { font-size: 12px; }
.who .most { margin-left: auto; opacity: .75; font-size: 12px; }
.a { color: var(--parent_a); } .b { color: var(--parent_b); } .child { color: var(--child); }
svg { display: block; width: 100%; }
svg text { font: 10.5px system-ui, sans-serif; fill: var(--quiet); }
.verdict { border-left: 3px solid var(--child); border-radius: 6px; padding: 6px 10px;
           background: rgba(128, 128, 128, .13); overflow-wrap: anywhere; }
.verdict.dies { border-color: var(--quiet); }
.note { margin-top: 4px; opacity: .85; overflow-wrap: anywhere; }
"""

BARS_HEIGHT = 58
"""Height of the bars of accuracy by class, in the picture's own units."""


class BenchView:
    """What is on the bench, with everything to change it.

    Args:
        session: returns the one that takes the orders.
        theme: colours.
    """

    def __init__(self, session: Callable[[], Session], theme: Theme) -> None:
        self._session = session
        self._quiet = False  # while widgets are set by the page itself
        self._shown: tuple[object, ...] = ()
        self._theme = theme
        html: dict[str, Any] = {
            "stylesheets": [_CSS, f":host {{ {css_variables(theme)} }}"],
            "sizing_mode": "stretch_width",
            "margin": (0, 4),
        }
        self._who = pn.pane.HTML("", **html)
        self._verdict = pn.pane.HTML("", **html)
        number: dict[str, Any] = {"width": 74, "margin": (0, 3), "disabled": True}
        self.a = pn.widgets.IntInput(name="Parent A", **number)
        self.b = pn.widgets.IntInput(name="Parent B", **number)
        self.at = pn.widgets.IntInput(name="Split at", **{**number, "width": 88})
        self.mix = pn.widgets.FloatSlider(
            name="Mix", start=0.0, end=1.0, step=0.01, value=0.5, disabled=True,
            styles={"flex": "1 1 90px"}, margin=(0, 8), bar_color=theme.parent_b,
            stylesheets=[f".noUi-connect {{ background: {theme.parent_b} !important; }}"],
        )  # fmt: skip
        self.split = SplitEditor.themed(theme)
        ink = f".bk-btn {{ background-color: {theme.child} !important; color: {theme.card}; }}"
        self.merge = pn.widgets.Button(name="Merge", width=76, disabled=True, stylesheets=[ink])
        self.undo = pn.widgets.Button(name="Undo", width=66, disabled=True)
        self.propose = pn.widgets.Button(name="Edit next proposal", width=142, disabled=True)
        self.a.param.watch(lambda event: self._choose(a=event.new), "value")
        self.b.param.watch(lambda event: self._choose(b=event.new), "value")
        self.at.param.watch(lambda event: self._choose(split=event.new), "value")
        self.split.param.watch(lambda event: self._choose(split=event.new), "split")
        self.mix.param.watch(lambda event: self._choose(mix=event.new), "value")
        for name in ("merge", "undo", "propose"):
            button = getattr(self, name)
            button.on_click(lambda event, name=name: self._command(name))
        self.pane = pn.Column(
            self._who,
            pn.FlexBox(self.a, self.b, self.at, self.mix, sizing_mode="stretch_width", margin=0),
            self.split,
            self._verdict,
            pn.Row(self.merge, self.undo, self.propose, margin=(4, 0)),
            sizing_mode="stretch_width",
            margin=0,
        )

    def pick(self, a: int, b: int) -> None:
        """Put a pair on the bench."""
        self._choose(a=a, b=b)

    def load(self, split: int, mix: float) -> None:
        """Put a split and a mix on the bench."""
        self._choose(split=split, mix=mix)

    def _command(self, name: str) -> None:
        data = self._session().snapshot.bench
        self._session().command(name, data.proposal if name == "merge" and data else None)

    def _choose(self, **parts: Any) -> None:
        if self._quiet:
            return
        data = self._session().snapshot.bench
        if data is not None and self._session().choice.a is None and parts.keys() & {"a", "b"}:
            # Whoever changes one parent of a pair keeps the other.
            a, b = data.proposal.parents
            parts = {"a": a, "b": b, **parts}
        self._session().choose(**parts)
        choice = self._session().choice
        if choice.split is not None or choice.mix is not None:
            self._set(choice.split, choice.mix)

    @contextmanager
    def _silently(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _set(self, split: int | None, mix: float | None) -> None:
        """Bring every widget to one split and mix without giving orders."""
        with self._silently():
            if split is not None:
                self.split.split = self.at.value = split
            if mix is not None:
                self.split.mix = self.mix.value = mix

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        shown, self._shown = (
            self._shown,
            (snapshot.bench, snapshot.note, snapshot.stale, snapshot.undoable, snapshot.phase),
        )
        data = snapshot.bench
        if shown == self._shown:
            return
        ready = data is not None and snapshot.phase != "closed"
        self.merge.disabled = not ready or snapshot.stale
        self.undo.disabled = not snapshot.undoable
        self.propose.disabled = snapshot.niches is None
        if data is None:
            self._verdict.object = _note(snapshot.note)
            return
        # What was ordered last counts, not what the worker has come to: nothing jumps back.
        choice, proposal = self._session().choice, data.proposal
        split = proposal.split if choice.split is None else choice.split
        mix = proposal.mix if choice.mix is None else choice.mix
        assert split is not None  # pairs have both
        assert mix is not None
        with self._silently():
            for widget in (self.a, self.b, self.at, self.mix):
                widget.disabled = not ready
            a, b = proposal.parents
            if choice.a in (None, a):
                self.a.value = a
            if choice.b in (None, b):
                self.b.value = b
            self.at.start, self.at.end, self.at.value = 0, data.size, split
            self.mix.param.update(value=mix, name=f"Mix (ω {math.degrees(data.omega):.1f}°)")
            self.split.present(data, split, mix)
        self._who.object = _who(data) + _bars(data, self._theme)
        self._verdict.object = self._judged(data, snapshot)

    def _judged(self, data: BenchData, snapshot: Snapshot) -> str:
        if snapshot.stale:
            return _note(snapshot.note or "A parent no longer lives; pick another pair.")
        words = escape(verdict_words(data))
        head, _, rest = words.partition(".")
        rest = re.sub(r"\b([AB])’s", lambda m: f'<b class="{m[1].lower()}">{m[1]}</b>’s', rest)
        kind = "verdict" if data.verdict.accepted else "verdict dies"
        tint = "child" if data.verdict.accepted else ""
        return (
            f'<div class="{kind}" data-testid="verdict"><b class="{tint}">{head}.</b>{rest}</div>'
            + _note(snapshot.note)
        )


def _note(note: str) -> str:
    return f'<div class="note" role="status" data-testid="note">{escape(note[:500])}</div>'


def _who(data: BenchData) -> str:
    """Return who is on the bench, how good each is, and how good a child could be."""
    a, b = data.proposal.parents
    mine, its, child = data.means
    return (
        f'<div class="who"><span><b class="a">A {a}</b> '
        f'<span data-testid="score-a">{percent(mine)}</span></span>'
        f'<span><b class="b">B {b}</b> <span data-testid="score-b">{percent(its)}</span></span>'
        f'<span><b class="child">child</b> <span data-testid="score-child">{percent(child)}</span>'
        f'</span><span class="most" title="right by A or by B: the most a merge could hope for">'
        f'A or B <span data-testid="either">{percent(data.either)}</span>'
        f"</span></div>"
    )


def _bars(data: BenchData, theme: Theme) -> str:
    """Return bars of accuracy by class as a picture: A, B and the child beside each other."""
    classes = data.classes
    colours = (theme.parent_a, theme.parent_b, theme.child)
    wide = 440 / max(len(classes), 1)
    bar = min(wide * 0.27, 16)
    shapes = []
    for c, name in enumerate(classes):
        left = c * wide + (wide - 3 * bar) / 2
        for k, colour in enumerate(colours):
            value = float(np.nan_to_num(data.accuracy[k, c]))
            high = value * BARS_HEIGHT
            title = f"{('A', 'B', 'child')[k]}, {name}: {value:.0%}"
            shapes.append(
                f'<rect x="{left + k * bar:.1f}" y="{BARS_HEIGHT - high:.1f}" '
                f'width="{bar - 1:.1f}" height="{high:.1f}" fill="{colour}">'
                f"<title>{escape(title)}</title></rect>"
            )
        middle = c * wide + wide / 2
        shapes.append(
            f'<text x="{middle:.1f}" y="{BARS_HEIGHT + 12}" text-anchor="middle">'
            f"{escape(name[:12])}</text>"
        )
    return (
        f'<svg viewBox="0 0 440 {BARS_HEIGHT + 16}" role="img" '
        f'aria-label="accuracy by class of A, B and the child">{"".join(shapes)}</svg>'
    )
