"""Search form: the drawer with the settings of a search, and its downloads."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import panel as pn

from m2n2lab.config.builders import code_of, used_options
from m2n2lab.config.names import LINK_OPTIONS, NETWORK_TASKS
from m2n2lab.config.settings import Settings
from m2n2lab.core.methods.registry import METHODS
from m2n2lab.utils.errors import InputError
from m2n2lab.viz.theme import Theme

from ..runs.runs import Run
from ..views.styles import FOCUS, SELECT, primary
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
        self._pretrained = "1"  # where there is a choice
        labels = ("Archive size", "α, competition", "Mutation")
        self.options = {
            name: pn.widgets.TextInput(name=label, **wide)
            for name, label in zip(LINK_OPTIONS, labels, strict=True)
        }
        self.anew = pn.widgets.Button(name="Replace this run", button_type="primary", **wide)
        self.beside = pn.widgets.Button(name="Add as a new run", **wide)
        css = [_CSS + host_css(theme)]
        self.message = pn.pane.HTML("", **{**wide, "stylesheets": css})
        download: dict[str, Any] = {**wide, "stylesheets": [FOCUS]}
        self.history = pn.widgets.FileDownload(
            callback=self._history, filename="history.csv", label="History (.csv)", **download
        )
        self.code = pn.widgets.FileDownload(
            callback=self._code, filename="search.py", label="Python script (.py)", **download
        )
        self.archive = pn.widgets.FileDownload(
            callback=self._archive,
            filename="archive.safetensors",
            label="All members (.safetensors)",
            **download,
        )
        self.page = pn.widgets.FileDownload(
            callback=self._page, filename="run.html", label="Page to send (.html)", **download
        )
        self.anew.on_click(lambda event: self._start(beside=False))
        self.beside.on_click(lambda event: self._start(beside=True))
        for choice in (self.task, self.method, self.start):
            choice.param.watch(lambda event: self._show_defaults(), "value")
        self.pane = pn.Column(
            pn.Row(self.task, self.method, margin=0, sizing_mode="stretch_width"),
            pn.Row(self.seed, self.start, margin=0, sizing_mode="stretch_width"),
            pn.Row(*self.options.values(), margin=0, sizing_mode="stretch_width"),
            pn.Row(self.anew, self.beside, margin=0, sizing_mode="stretch_width"),
            self.message,
            pn.Row(self.history, self.code, margin=0, sizing_mode="stretch_width"),
            pn.Row(self.archive, self.page, margin=0, sizing_mode="stretch_width"),
            sizing_mode="stretch_width",
            margin=0,
        )

    def show(self, settings: Settings) -> None:
        """Fill in the settings of a run."""
        asked = settings.query()
        self.task.param.update(options=list(settings.tasks), value=settings.task)
        self.method.value = settings.method
        self.seed.value = asked["seed"]
        self._pretrained = asked.get("pretrained", "1")
        for name, widget in self.options.items():
            widget.value = asked.get(name, "")
        self._show_message("A new run is added beside the one on the page, or replaces it.")
        self._show_defaults()

    def _show_defaults(self) -> None:
        """Show what is used for all that is left open, with the task and method filled in."""
        asked = {"task": self.task.value, "method": self.method.value}
        try:
            chosen = replace(self._kept(), pretrained=False).with_query(asked)
        except InputError:  # by an option of the server's; the button shows it
            chosen = Settings(self.task.value, self.method.value)
        if chosen.task in NETWORK_TASKS:
            self._pretrained = START.get(self.start.value, self._pretrained)
            name = next(name for name, value in START.items() if value == self._pretrained)
            self.start.param.update(options=list(START), value=name, disabled=False)
            chosen = replace(chosen, pretrained=self._pretrained == "1")
        else:
            self.start.param.update(options=[chosen.start], value=chosen.start, disabled=True)
        used, fixed = used_options(chosen), METHODS[chosen.method].options
        for name, widget in self.options.items():
            widget.param.update(placeholder=_number(used.get(name)), disabled=name in fixed)

    def _kept(self) -> Settings:
        """Return the settings of the run on the page without the options of this form."""
        old = self._run().settings
        kept = {name: value for name, value in old.options.items() if name not in LINK_OPTIONS}
        return replace(old, options=kept)

    def query(self) -> dict[str, str]:
        """Return what is filled in, as the query of an address."""
        return {
            "task": self.task.value,
            "method": self.method.value,
            "seed": _typed(self.seed),
            "pretrained": START.get(self.start.value, "0"),
            **{n: _typed(widget) for n, widget in self.options.items() if not widget.disabled},
        }

    def _start(self, beside: bool) -> None:
        try:
            self._begin(self._kept().with_query(self.query()), beside)
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

    async def _page(self) -> io.StringIO:
        run = self._run()
        # A branch begins where these settings do not lead.
        code = "" if run.origin else code_of(run.settings, run.session.snapshot.step)
        # In another thread: the best member answers, which takes models of language a while.
        return io.StringIO(await asyncio.to_thread(run.session.page, code))

    def _code(self) -> io.StringIO:
        run = self._run()
        return io.StringIO(code_of(run.settings, run.session.snapshot.step))


def _number(value: Any) -> str:
    """Return the value of an option as it could be typed."""
    if value is None:
        return "the method’s own"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _typed(widget: pn.widgets.TextInput) -> str:
    """Return what was typed into a field."""
    return (widget.value or "").strip()
