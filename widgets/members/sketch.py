"""Sketch view: a person draws, and the members say what they read."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import ClassVar

import numpy as np
import panel as pn
import param

from m2n2lab.analysis.lineage import called
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.text import plain
from m2n2lab.viz.pictures import sample_uri
from m2n2lab.viz.theme import Theme

from ..html.assets import asset
from ..session.readings import ReadingsData
from ..session.snapshot import Snapshot
from ..views.themed import Themed, host_css

SIDE = 32
"""Pixels along a side of what is sent; the members get as many as their task's pictures have."""

MAX_CLASS_CHARS = 16
"""Shown of a class's name."""

_CSS = """
.readings { font: 12px/1.4 system-ui, sans-serif; color: var(--text); }
.readings p { margin: 0 0 6px; font-size: 13px; }
.readings img { width: 40px; height: 40px; image-rendering: pixelated; vertical-align: middle;
                margin-right: 8px; }
.readings ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 2px 14px;
               grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); }
.readings li { display: grid; grid-template-columns: 8em 2.5em 1fr; align-items: center; }
.readings .a { color: var(--parent_a); } .readings .b { color: var(--parent_b); }
.readings .child { color: var(--child); }
.readings i { display: block; height: 8px; background: currentColor; border-radius: 2px; }
.readings .quiet { color: var(--quiet); }
"""


class Sketch(Themed):
    """A square to draw in."""

    _esm = asset("members/sketch.js")
    _stylesheets: ClassVar = [asset("members/sketch.css")]

    side = param.Integer(default=SIDE, doc="Pixels along a side of what is sent.")
    ink = param.List(default=[], doc="The pixels, row by row, from 0 to 255.")


class SketchView:
    """A drawing, and how every member reads it, the fittest first.

    Args:
        theme: colours.
        drawn: called with the pixels of the drawing; ``None`` while it is not shown.

    Attributes:
        pane: both side by side.
    """

    def __init__(self, theme: Theme, drawn: Callable[[tuple[int, ...] | None], object]) -> None:
        self._drawn = drawn
        self._dark = theme.name == "dark"
        self._shown: ReadingsData | None = None
        self.sketch = Sketch.themed(theme, width=200)
        self._html = pn.pane.HTML(
            readings_html(None, self._dark),
            stylesheets=[_CSS, host_css(theme)],
            sizing_mode="stretch_width",
            margin=(0, 0, 0, 12),
            styles={"flex": "1 1 190px", "min-width": "0"},
        )
        self.sketch.param.watch(lambda event: self.request(True), "ink")
        self.pane = pn.FlexBox(
            self.sketch, self._html, sizing_mode="stretch_width", margin=0, align_items="flex-start"
        )

    def request(self, visible: bool) -> None:
        """Ask for readings while the drawing is visible."""
        self._drawn(tuple(map(int, self.sketch.ink)) if visible and any(self.sketch.ink) else None)

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        if snapshot.readings is not self._shown:
            self._shown = snapshot.readings
            self._html.object = readings_html(self._shown, self._dark)


def readings_html(data: ReadingsData | None, dark: bool) -> str:
    """Return how the members read a drawing."""
    if data is None:
        return (
            '<div class="readings" data-testid="readings"><p class="quiet">Draw a digit: each '
            "member of the archive says what it reads.</p></div>"
        )
    votes, many = data.votes, len(data.ids)
    words = ", ".join(f"{count} read {_name(label)}" for label, count in votes[:3])
    rest = f", and {many - sum(count for _, count in votes[:3])} others" if len(votes) > 3 else ""
    rows = [
        _row(
            f"{letter} {_called(id, data)}", letter.lower(), data, data.chances[data.ids.index(id)]
        )
        for letter, id in zip("AB", data.parents, strict=False)
        if id in data.ids
    ]
    rows += [_row("child", "child", data, data.child)] if data.child is not None else []
    rows += [
        _row(_called(id, data), "", data, chances)
        for id, chances in zip(data.ids, data.chances, strict=True)
        if id not in data.parents
    ]
    picture = sample_uri(data.picture.astype(np.float32), dark)
    return (
        f'<div class="readings" data-testid="readings"><p role="status">'
        f'<img alt="as the models see it" src="{picture}"><span>Of {many} members '
        f"{words}{rest}.</span></p><ul>{''.join(rows)}</ul></div>"
    )


def _called(id: int, data: ReadingsData) -> str:
    return _name(called(id, data.seeds))


def _name(label: str) -> str:
    return escape(plain(label, MAX_CLASS_CHARS))


def _row(who: str, css: str, data: ReadingsData, chances: Floats) -> str:
    best = int(np.argmax(chances))
    sure = float(chances[best])
    return (
        f'<li class="{css}" title="{sure:.0%} sure"><span>{who}</span>'
        f'<b>{_name(data.classes[best])}</b><span><i style="width:{max(sure, 0.02):.0%}"></i>'
        f"</span></li>"
    )
