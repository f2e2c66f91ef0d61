"""Search form: the drawer with the settings of a search, and its downloads."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import panel as pn

from m2n2lab.config.builders import code_of
from m2n2lab.config.names import LINK_OPTIONS
from m2n2lab.config.settings import Settings
from m2n2lab.core.methods.registry import METHODS
from m2n2lab.utils.errors import InputError
from m2n2lab.viz.theme import Theme

from ..runs.runs import Run
from ..views.styles import SELECT, primary
from ..views.themed import host_css

START = {"random networks": "0", "two specialists": "1"}
"""Starting points of a search, with the value of ``pretrained`` in an address."""

_CSS = """
.said { font: 12px/1.4 system-ui, sans-serif; color: var(--quiet); overflow-wrap: anywhere; }
.said.wrong { color: var(--parent_b); }
"""


class SetupView:
    """All settings of a search, as text that ``Settings.asked`` reads like an address.

    Args:
        run: the run on the page.
        begin: called with new settings, and whether they start beside the run or replace it; may
            raise an ``InputError``.
        theme: colours.
    """

    def __init__(
        self, run: Callable[[], Run], begin: Callable[[Settings, bool], object], theme: Theme
    ) -> None:
        self._run = run
        self._begin = begin
        wide: dict[str, Any] = {
            "sizing_mode": "stretch_width",
            "margin": (3, 2),
            "stylesheets": [SELECT, primary(theme)],
        }
        self.task = pn.widgets.Select(name="Task", **wide)
        self.method = pn.widgets.Select(name="Method", options=list(METHODS), **wide)
        self.seed = pn.widgets.TextInput(name="Seed", **wide)
        self.start = pn.widgets.Select(name="Start from", options=list(START), **wide)
        archive = pn.widgets.TextInput(name="Archive size", placeholder="20", **wide)
        alpha = pn.widgets.TextInput(name="α, competition", placeholder="1", **wide)
        self.mutation = pn.widgets.TextInput(name="Mutation", **wide)
        self.options = dict(zip(LINK_OPTIONS, (archive, alpha, self.mutation), strict=True))
        self.anew = pn.widgets.Button(name="Start anew", button_type="primary", **wide)
        self.beside = pn.widgets.Button(name="Start beside", **wide)
        css = [_CSS + host_css(theme)]
        self.message = pn.pane.HTML("", **{**wide, "stylesheets": css})
        download: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (3, 2)}
        self.history = pn.widgets.FileDownload(
            callback=self._history, filename="history.csv", label="History", **download
        )
        self.code = pn.widgets.FileDownload(
            callback=self._code, filename="search.py", label="Code", **download
        )
        self.archive = pn.widgets.FileDownload(
            callback=self._archive, filename="archive.safetensors", label="Archive", **download
        )
        self.anew.on_click(lambda event: self._start(beside=False))
        self.beside.on_click(lambda event: self._start(beside=True))
        for choice in (self.task, self.method, self.start):
            choice.param.watch(lambda event: self._hint(), "value")
        self.pane = pn.Column(
            pn.Row(self.task, self.method, margin=0, sizing_mode="stretch_width"),
            pn.Row(self.seed, self.start, margin=0, sizing_mode="stretch_width"),
            pn.Row(*self.options.values(), margin=0, sizing_mode="stretch_width"),
            pn.Row(self.anew, self.beside, margin=0, sizing_mode="stretch_width"),
            self.message,
            pn.Row(self.history, self.archive, self.code, margin=0, sizing_mode="stretch_width"),
            width=330,
            margin=0,
        )

    def show(self, settings: Settings) -> None:
        """Fill in the settings of a run."""
        asked = settings.query()
        self.task.param.update(options=list(settings.tasks), value=settings.task)
        self.method.value = settings.method
        self.seed.value = asked["seed"]
        self.start.value = next(k for k, v in START.items() if v == asked.get("pretrained", "0"))
        for name, widget in self.options.items():
            widget.value = asked.get(name, "")
        self._show_message("Start anew replaces the run on the page; start beside keeps it.")
        self._hint()

    def _hint(self) -> None:
        pretrained = START[self.start.value] == "1"
        chosen = Settings(self.task.value, self.method.value, pretrained=pretrained)
        self.mutation.placeholder = f"{chosen.default_mutation:g}"

    def query(self) -> dict[str, str]:
        """Return what is filled in, as the query of an address."""
        return {
            "task": self.task.value,
            "method": self.method.value,
            "seed": _typed(self.seed),
            "pretrained": START[self.start.value],
            **{name: _typed(widget) for name, widget in self.options.items()},
        }

    def _start(self, beside: bool) -> None:
        old = self._run().settings
        kept = {name: value for name, value in old.options.items() if name not in LINK_OPTIONS}
        try:
            self._begin(replace(old, options=kept).with_query(self.query()), beside)
        except InputError as error:
            self._show_message(str(error), wrong=True)

    def _show_message(self, text: str, wrong: bool = False) -> None:
        css, role = ("said wrong", "alert") if wrong else ("said", "note")
        self.message.object = f'<div class="{css}" role="{role}">{escape(text)}</div>'

    def _history(self) -> io.StringIO:
        history = self._run().session.history
        return io.StringIO("" if history is None else history.frame().to_csv())

    def _archive(self) -> io.BytesIO:
        return io.BytesIO(self._run().session.archive())

    def _code(self) -> io.StringIO:
        run = self._run()
        return io.StringIO(code_of(run.settings, run.session.snapshot.step))


def _typed(widget: pn.widgets.TextInput) -> str:
    """Return what was typed into a field."""
    return (widget.value or "").strip()
