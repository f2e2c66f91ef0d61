"""Compare view: several runs in one plot, with a line for each to steer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from math import isnan
from typing import Any

import panel as pn

from m2n2lab.analysis.comparison import METRICS, compare_data
from m2n2lab.core.methods.registry import METHODS
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.text import percent
from m2n2lab.viz.draw_compare import X_RANGE_FACTOR, compare_columns, draw_compare, run_colour
from m2n2lab.viz.theme import Theme

from ..runs.runs import Run, Runs
from .live_plot import LivePlot
from .styles import HIDDEN_NAME, INLINE, SELECT, SMALL
from .themed import host_css

_CSS = """
.run { display: flex; flex-wrap: wrap; gap: 0 10px; align-items: baseline; min-width: 0;
       font: 12px/1.3 system-ui, sans-serif; color: var(--text);
       font-variant-numeric: tabular-nums; }
.run i { width: 10px; height: 10px; border-radius: 50%; }
.run b { overflow-wrap: anywhere; }
.run span { color: var(--quiet); white-space: nowrap; }
.wrong { color: var(--parent_b); font: 12px system-ui, sans-serif; overflow-wrap: anywhere; }
"""


HELD_OUT, TRAIN, _ = METRICS
"""Metrics of the best member; a task that holds nothing out has only the second."""

MIN_LABEL_GAP = 0.12
"""Least distance of two labels, as a share of the height of the plot above the list."""


class _Line:
    """One run: its colour, name and figures, and buttons to steer it.

    A line is reused for another run when its own is removed: Bokeh keeps all models that a page has
    ever shown (``event_manager.subscribed_models``), so new lines would add up.
    """

    def __init__(
        self, theme: Theme, show: Callable[[Run], None], remove: Callable[[Run], None]
    ) -> None:
        self.run: Run
        self._theme = theme
        self._label = pn.pane.HTML(
            "",
            stylesheets=[_CSS + host_css(theme)],
            margin=0,
            styles={"flex": "1 1 180px", "min-width": "0"},
        )
        small: dict[str, Any] = {"margin": (0, 1), "stylesheets": [SMALL]}
        self._show, self._go, self._remove = (pn.widgets.Button(**small) for _ in range(3))
        self._show.on_click(lambda event: show(self.run))
        self._go.on_click(lambda event: self.run.session.orders.toggle())
        self._remove.on_click(lambda event: remove(self.run))
        self.pane = pn.FlexBox(
            self._label, self._show, self._go, self._remove,
            sizing_mode="stretch_width", margin=0, align_items="center", gap="0 2px",
        )  # fmt: skip

    def update(self, run: Run, name: str, shown: Run, alone: bool) -> None:
        """Show the state of a run."""
        self.run, number, snapshot = run, run.number, run.session.snapshot
        known = not isnan(snapshot.test)
        score = (
            f"{percent(snapshot.test)} held out" if known else f"{percent(snapshot.train)} train"
        )
        figures = [f"step {snapshot.step:,}", score]
        figures += [] if snapshot.phase == "paused" else [snapshot.phase]
        colour = run_colour(self._theme, number - 1)
        cells = "".join(f"<span>{escape(figure)}</span>" for figure in figures)
        self._label.object = (
            f'<div class="run" data-testid="run-{number}"><i style="background:{colour}"></i>'
            f"<b>{escape(name)}</b>{cells}</div>"
        )
        go = f"{'Pause' if snapshot.phase == 'running' else 'Run'} {number}"
        stopped = snapshot.niches is None or snapshot.phase == "closed"
        self._go.param.update(name=go, disabled=stopped)
        self._show.param.update(name=f"Show {number}", disabled=run is shown)
        self._remove.param.update(name=f"Remove {number}", disabled=alone)
        self.pane.visible = True

    def hide(self) -> None:
        """Clear and hide the line of a removed run."""
        self._label.object = ""
        self.pane.visible = False


class CompareView(LivePlot):
    """Curves of all runs, and a form that starts another method on the same task and seed.

    Args:
        theme: colours.
        runs: all of them.
        shown: returns the run on the page.
        show: puts a run on the page.
        changed: called when the page must be refreshed.
    """

    def __init__(
        self,
        theme: Theme,
        runs: Runs,
        shown: Callable[[], Run],
        show: Callable[[Run], None],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(theme)
        self._runs = runs
        self._on_page = shown
        self._to_page = show
        self._changed = changed
        self._key: tuple[object, ...] = ()
        self._lines: dict[Run, _Line] = {}
        self._free: list[_Line] = []
        inline: dict[str, Any] = {"margin": (0, 3), "stylesheets": [INLINE, SELECT]}
        self.metric = pn.widgets.Select(
            name="Curves of",
            options=list(METRICS),
            width=118,
            margin=(0, 3),
            stylesheets=[HIDDEN_NAME, INLINE, SELECT],
        )
        self.metric.param.watch(lambda event: changed(), "value")
        self.method = pn.widgets.Select(
            name="Compare with",
            options=list(METHODS),
            width=130,
            margin=(0, 3),
            stylesheets=[HIDDEN_NAME, INLINE, SELECT],
        )
        self.seed = pn.widgets.TextInput(name="seed", width=70, **inline)
        self.add = pn.widgets.Button(name="Add run", margin=(0, 3), stylesheets=[SMALL])
        self.add.on_click(lambda event: self._add())
        self._message = pn.pane.HTML("", stylesheets=[_CSS], margin=0)
        self.form = pn.FlexBox(
            self.method,
            self.seed,
            self.add,
            self.metric,
            self._message,
            margin=0,
            align_items="center",
            gap="2px 4px",
            sizing_mode="stretch_width",
        )
        self.list = pn.Column(sizing_mode="stretch_width", margin=0)

    def suggest(self, run: Run) -> None:
        """Suggest another method than a run's, on its seed."""
        others = [name for name in METHODS if name != run.settings.method]
        tried = {each.settings.method for each in self._runs.all}
        fresh = [name for name in others if name not in tried]
        self.method.value = (fresh or others)[0]
        self.seed.value = str(run.settings.seed)

    def _add(self) -> None:
        """Start a run beside the one on the page, and order as many steps of it."""
        old = self._on_page()
        try:
            seed = (self.seed.value or "0").strip()
            asked = replace(old.settings, method=self.method.value).with_query({"seed": seed})
            run = self._runs.add(asked)
        except InputError as error:
            self._message.object = f'<div class="wrong" role="alert">{escape(str(error))}</div>'
            return
        self._message.object = ""
        if old.session.orders.running:
            run.session.orders.run()
        else:
            run.session.orders.step(old.session.snapshot.step)
        self.suggest(old)
        self._changed()

    def _remove(self, run: Run) -> None:
        self._runs.remove(run)
        self._changed()

    def _arrange(self, runs: tuple[Run, ...]) -> None:
        """Give each run a line, and hide the lines of removed runs."""
        free = [*self._free, *(line for run, line in self._lines.items() if run not in runs)]

        def line() -> _Line:
            return free.pop(0) if free else _Line(self.theme, self._to_page, self._remove)

        self._lines = {run: self._lines.get(run) or line() for run in runs}
        self._free = free
        for each in free:
            each.hide()
        self.list.objects = [each.pane for each in (*self._lines.values(), *free)]

    def update(self) -> None:
        """Show the state of all runs."""
        runs = self._runs.all
        if tuple(self._lines) != runs:
            self._arrange(runs)
        names = _names(runs)
        for name, (run, line) in zip(names, self._lines.items(), strict=True):
            line.update(run, name, self._on_page(), alone=len(runs) == 1)
        curves = {run: run.session.snapshot.curves for run in runs if run.session.snapshot.curves}
        key = (self.metric.value, names, *curves, *map(id, curves.values()))
        if not curves or key == self._key:
            return
        self._key = key
        data = compare_data(
            {name: curves[run] for name, run in zip(names, runs, strict=True) if run in curves},
            self.metric.value,
            tuple(run.number - 1 for run in curves),
        )

        if self.metric.value == HELD_OUT and not any(len(values) for values in data.values):
            self.metric.value = TRAIN  # the task holds nothing out
            return

        def draw() -> Any:
            return draw_compare(data, self.theme, self.hooks, MIN_LABEL_GAP)

        if self.fresh(draw, data):
            if not self.handles:  # no page has shown the first drawing yet
                self.pane.object = draw()
                return
            for name, columns in compare_columns(data, self.theme, MIN_LABEL_GAP).items():
                self.handles[name]["source"].data = columns
            figure = self.handles["runs"]["plot"]
            figure.x_range.end = data.last * X_RANGE_FACTOR
            figure.y_range.update(start=data.bounds[0], end=data.bounds[1])


def _names(runs: tuple[Run, ...]) -> tuple[str, ...]:
    """Return labels of the runs: their numbers, and the settings in which they differ."""
    fields = [
        (run.settings.method, run.settings.task, f"seed {run.settings.seed}", run.settings.start)
        for run in runs
    ]
    varied = [0, *(k for k in range(1, 4) if len({each[k] for each in fields}) > 1)]
    return tuple(
        f"{run.number} " + " · ".join(each[k] for k in varied)
        for run, each in zip(runs, fields, strict=True)
    )
