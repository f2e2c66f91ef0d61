"""What A, B and the child answer, and on which data points."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import panel as pn

from m2n2lab.display import plain
from m2n2lab.tasks.base import Sample
from m2n2lab.theme import Theme

from .pictures import css_variables, sample_uri
from .snapshot import Snapshot
from .workbench import ANSWERS, Answer, Filter

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
.answers.long { grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); }
.answers.long div { padding: 5px 8px; font-weight: 400; text-align: left; }
.answers.long :is(b, s) { display: block; }
.answers p { grid-column: 1 / -1; margin: 4px; font-weight: 400; text-align: left;
             color: var(--quiet); }
.count { font: 12px system-ui, sans-serif; color: var(--quiet); white-space: nowrap; }
"""

_SELECT_CSS = """
label { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
select.bk-input { height: 28px; padding: 2px 24px 2px 8px; }
select.bk-input:focus-visible { outline: 2px solid var(--text); outline-offset: 1px; }
"""

EVERY = -1
"""Stands for all classes, where others are numbers."""

LONGEST, LONGEST_ANSWER = 200, 80
"""Characters of a question, and of the truth or an answer, that are shown."""

LONGEST_NAME = 40
"""Characters of a class's name among which one is chosen."""


class AnswersView:
    """Data points with the truth, then what A, B and the child answer in their colours.

    Args:
        theme: colours.
        wanted: called with which data points are wanted.

    Attributes:
        which, group: choose them by who solves them, and by class.
        count: says how many there are.
        head: the three beside each other.
    """

    def __init__(self, theme: Theme, wanted: Callable[[Filter], object]) -> None:
        self.dark = theme.name == "dark"
        self._wanted = wanted
        self._shown: tuple[Answer, ...] | None = None
        self._classes: tuple[str, ...] = ()
        colours = f":host {{ {css_variables(theme)} }}"
        css = [_ANSWERS_CSS, colours]
        self.pane = pn.pane.HTML("", stylesheets=css, sizing_mode="stretch_width", margin=0)
        self.count = pn.pane.HTML("", stylesheets=css, margin=(0, 4))
        looks = {"stylesheets": [_SELECT_CSS, colours], "margin": (0, 3), "disabled": True}
        self.which = pn.widgets.Select(
            name="Which answers", options=list(ANSWERS), width=124, **looks
        )
        self.group = pn.widgets.Select(
            name="Class", options={"all classes": EVERY}, width=104, visible=False, **looks
        )
        self.head = pn.FlexBox(
            self.count, self.which, self.group, align_items="center", margin=(0, 0, 4, 0)
        )
        for widget in (self.which, self.group):
            widget.param.watch(lambda event: self.ask(), "value")

    def ask(self) -> None:
        """Say which data points are wanted."""
        number = self.group.value
        name = self._classes[number] if 0 <= number < len(self._classes) else None
        self._wanted(Filter(self.which.value, name))

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data, answers = snapshot.bench, snapshot.answers
        if data is not None and data.classes != self._classes:
            self._classes = data.classes
            names = {"all classes": EVERY}
            for number, name in enumerate(data.classes):
                short = plain(name, LONGEST_NAME)
                names[f"{short} ({number})" if short in names else short] = number
            self.group.param.update(options=names, visible=len(data.classes) > 1)
        self.which.disabled = self.group.disabled = data is None
        if answers is self._shown:
            return
        self._shown = answers
        if data is not None:
            shown = f"{len(answers):,} of {snapshot.matching:,} shown"
            self.count.object = f'<span class="count" data-testid="count">{shown}</span>'
        cells = "".join(self._cell(answer) for answer in answers)
        if not cells and data is not None:
            none = "There are no such data points."
            cells = f"<p>{'The task has no samples to show.' if snapshot.matching else none}</p>"
        texts = any(answer.child.text is not None for answer in answers)
        kind = "answers long" if texts else "answers"
        self.pane.object = f'<div class="{kind}" data-testid="answers">{cells}</div>'

    def _cell(self, answer: Answer) -> str:
        sample = answer.child
        said = " ".join(self._said(name, getattr(answer, name)) for name in ("a", "b", "child"))
        picture = (
            ""
            if sample.image is None
            else f'<img alt="" src="{sample_uri(sample.image, self.dark)}">'
        )
        text = "" if sample.text is None else f"{_text(sample.text, LONGEST)}<br>"
        return f"<div>{picture}{text}{_text(sample.truth)} {said}</div>"

    def _said(self, who: str, sample: Sample) -> str:
        tag = "b" if sample.right else "s"
        return f'<{tag} class="{who}">{_text(sample.prediction)}</{tag}>'


def _text(words: str, most: int = LONGEST_ANSWER) -> str:
    """Return a text from outside as HTML that shows it, and not too much of it."""
    return escape(plain(words, most))
