"""Answers view: what A, B and the child answer, and on which data points."""

from __future__ import annotations

from collections.abc import Callable

import panel as pn

from m2n2lab.utils.text import plain
from m2n2lab.viz.theme import Theme

from ..html.answers import ANSWERS_CSS, answers_html
from ..session.snapshot import Snapshot
from ..session.workbench import ANSWERS, Answer, Filter
from .styles import HIDDEN_NAME
from .themed import host_css

_SELECT_CSS = """
select.bk-input { height: 28px; padding: 2px 24px 2px 8px;
                  background-image: linear-gradient(45deg, transparent 50%, var(--text) 50%),
                                    linear-gradient(135deg, var(--text) 50%, transparent 50%);
                  background-position: right 12px center, right 7px center;
                  background-size: 5px 5px; background-repeat: no-repeat; }
"""

ALL_CLASSES = -1
"""Stands for all classes, where others are numbers."""

MAX_CLASS_CHARS = 40
"""Characters of a class's name that are shown in the menu."""


class AnswersView:
    """Data points with the truth, then what A, B and the child answer in their colours.

    Args:
        theme: colours.
        filtered: called with the filter of data points that is chosen.

    Attributes:
        which, group: menus of filters and of classes.
        count: shows how many data points match.
        head: the three side by side.
    """

    def __init__(self, theme: Theme, filtered: Callable[[Filter], object]) -> None:
        self.dark = theme.name == "dark"
        self._filtered = filtered
        self._shown: tuple[Answer, ...] | None = None
        self._classes: tuple[str, ...] = ()
        colours = host_css(theme)
        css = [ANSWERS_CSS, colours]
        self.pane = pn.pane.HTML("", stylesheets=css, sizing_mode="stretch_width", margin=0)
        self.count = pn.pane.HTML("", stylesheets=css, margin=(0, 4))
        looks = {
            "stylesheets": [HIDDEN_NAME, _SELECT_CSS, colours],
            "margin": (0, 3),
            "disabled": True,
        }
        self.which = pn.widgets.Select(
            name="Which answers", options=list(ANSWERS), width=116, **looks
        )
        self.group = pn.widgets.Select(
            name="Class", options={"all classes": ALL_CLASSES}, width=104, visible=False, **looks
        )
        menus = pn.Row(self.which, self.group, margin=0)  # in one line, however narrow
        self.head = pn.FlexBox(self.count, menus, align_items="center", margin=(0, 0, 4, 0))
        for widget in (self.which, self.group):
            widget.param.watch(lambda event: self.request(), "value")

    def request(self) -> None:
        """Request the data points that are chosen."""
        number = self.group.value
        name = self._classes[number] if 0 <= number < len(self._classes) else None
        self._filtered(Filter(self.which.value, name))

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        data, answers = snapshot.bench, snapshot.answers
        if data is not None and data.classes != self._classes:
            self._classes = data.classes
            names = {"all classes": ALL_CLASSES}
            for number, name in enumerate(data.classes):
                short = plain(name, MAX_CLASS_CHARS)
                names[f"{short} ({number})" if short in names else short] = number
            self.group.param.update(options=names, visible=len(data.classes) > 1)
        self.which.disabled = self.group.disabled = data is None
        if answers is self._shown:
            return
        self._shown = answers
        shown = "" if data is None else f"{len(answers):,} of {snapshot.matching:,} shown"
        self.count.object = f'<span class="count" data-testid="count">{shown}</span>'
        self.pane.object = answers_html(snapshot, self.dark)
