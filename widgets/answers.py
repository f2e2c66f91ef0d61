"""What A, B and the child answer."""

from __future__ import annotations

from html import escape

import panel as pn

from m2n2lab.tasks.base import Sample
from m2n2lab.theme import Theme

from .pictures import css_variables, sample_uri
from .snapshot import Snapshot
from .views import LONGEST
from .workbench import Answer

_ANSWERS_CSS = """
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(62px, 1fr)); gap: 8px;
           font: 600 12px system-ui, sans-serif; text-align: center; }
.answers img { width: 40px; height: 40px; image-rendering: pixelated; display: block;
               margin: 0 auto 4px; }
.answers div { border: 1px solid rgba(128, 128, 128, .3); border-radius: 6px; padding: 5px 2px;
               overflow-wrap: anywhere; }
.answers .a { color: var(--parent_a); }
.answers .b { color: var(--parent_b); }
.answers .child { color: var(--child); }
.answers s { font-weight: 400; opacity: .75; }
"""


class AnswersView:
    """Data points with the truth, then what A, B and the child answer in their colours."""

    def __init__(self, theme: Theme) -> None:
        self.dark = theme.name == "dark"
        self._shown: tuple[Answer, ...] | None = None
        css = [_ANSWERS_CSS, f":host {{ {css_variables(theme)} }}"]
        self.pane = pn.pane.HTML("", stylesheets=css, sizing_mode="stretch_width", margin=0)

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        if snapshot.answers is self._shown:
            return
        self._shown = snapshot.answers
        cells = "".join(self._cell(answer) for answer in snapshot.answers)
        if not cells and snapshot.niches is not None:
            cells = "Nothing to show: no such data points, or the task has no samples."
        self.pane.object = f'<div class="answers" data-testid="answers">{cells}</div>'

    def _cell(self, answer: Answer) -> str:
        sample = answer.child
        said = " ".join(self._said(name, getattr(answer, name)) for name in ("a", "b", "child"))
        picture = (
            ""
            if sample.image is None
            else f'<img alt="" src="{sample_uri(sample.image, self.dark)}">'
        )
        text = "" if sample.text is None else escape(sample.text[:LONGEST])
        return f"<div>{picture}{text}{escape(sample.truth[:LONGEST])} {said}</div>"

    def _said(self, who: str, sample: Sample) -> str:
        tag, answer = "b" if sample.right else "s", escape(sample.prediction[:LONGEST])
        return f'<{tag} class="{who}">{answer}</{tag}>'
