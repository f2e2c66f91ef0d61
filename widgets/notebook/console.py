"""Console: one search in any Jupyter front end; cells may step the same search by hand.

The worker steps the search and fills the widgets; a person's actions only give it orders. So the
kernel stays free, and cells and the console take turns.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Any

import ipywidgets

from m2n2lab.core.evolver import Evolver, checked_evolver
from m2n2lab.core.records import Generation

from ..html.answers import answers_html
from ..html.bench import note_html, scores_html, verdict_html
from ..html.figures import figures_html
from ..session.session import Session
from ..session.snapshot import Snapshot
from ..session.workbench import ANSWERS, Filter
from .anywidgets import MixSlider, PairPicker, SplitStrip
from .console_html import CSS_THEME, LOG_LINES, console_css, curves_html, log_html, title_html
from .interrupts import INTERRUPTS

log = logging.getLogger("m2n2lab")

CLOSE_TIMEOUT_SECONDS = 5.0
"""Most time that closing a console waits for the current step."""


class Root(ipywidgets.VBox):  # type: ignore[misc]
    """The outermost widget; closing it closes its console."""

    console: Console | None = None

    def close(self) -> None:
        """Close the console, and with it every widget."""
        console, self.console = self.console, None
        if console is not None:
            console.close()
        super().close()


class Console:
    """Run, pause and steer a search from a notebook.

        console = m2n2lab.Console(evolver)
        console                      # in a cell of its own: shows it
        evolver.step()               # the same search; the console follows

    Several may watch one search. Closing it ends its worker, not the search; interrupting the
    kernel pauses.

    Args:
        evolver: the search.
        title: of the console; the task and the method by default.

    Attributes:
        evolver: the search.
        session: its worker.
        widget: the outermost widget, which contains all others; closing it closes the console.
        figures: the step, the scores and the state of the search, as HTML.
        picker: the attraction matrix, and a menu for each parent.
        split: the strip on which the split is moved.
        mix: the slider of the mix.

    Raises:
        InputError: ``evolver`` is not one.
    """

    def __init__(self, evolver: Evolver, title: str | None = None) -> None:
        self.evolver = checked_evolver(evolver)
        title = f"{evolver.task.name} · {evolver.method}" if title is None else title
        self.session = Session(lambda: evolver, title, members=False, follow=True)
        self._births: deque[Generation] = deque(maxlen=LOG_LINES)
        self._last: Generation | None = None
        self._shown: dict[str, object] = {}  # what the widgets were filled from, by name
        self._closed = False
        self._build(title)
        self._subscriptions = (
            self.session.subscribe(self._show, every_snapshot=True),
            evolver.subscribe(self._log),
            INTERRUPTS.subscribe(self.pause),
        )
        self.session.start(attended=False)

    # -- layout ----------------------------------------------------------------------------------

    def _build(self, title: str) -> None:
        def html(value: str = "") -> ipywidgets.HTML:
            return ipywidgets.HTML(value)

        orders = self.session.orders
        self.figures, self._curves, self._log_html = html(), html(), html()
        self._scores, self._verdict, self._answers = html(), html(), html()
        self._go = self._button("Run", orders.toggle, "go")
        self._step = self._button("Step", lambda: self.step())
        self._ten = self._button("×10", lambda: self.step(10))
        self._preview = self._button("Preview", lambda: orders.command("preview"))
        self._merge = self._button("Merge", self.merge, "merge")
        self.picker = PairPicker(self._picked)
        self.split = SplitStrip(self._moved)
        self.mix = MixSlider(self._mixed)
        self._which = ipywidgets.Dropdown(options=list(ANSWERS), description="Answers")
        self._which.observe(lambda change: orders.filter(Filter(change["new"])), "value")
        top = _box([html(title_html(title)), self._go, self._step, self._ten, self.figures], "top")
        bench = [
            html("<h4>Merge bench <span>how they meet</span></h4>"),
            *(self._scores, self.split, self.mix, self._verdict),
            _box([self._preview, self._merge], "choices"),
        ]
        pair = [html("<h4>Attraction <span>who should meet</span></h4>"), self.picker]
        curves = [html("<h4>Progress <span>how far it has come, %</span></h4>"), self._curves]
        births = [html("<h4>Log <span>who was born, for whom</span></h4>"), self._log_html]
        answers = [self._which, self._answers]
        pair, bench, curves, births, answers = (
            _box(card, "card") for card in (pair, bench, curves, births, answers)
        )
        columns = [_box([pair, births]), _box([bench, curves, answers])]
        self.widget = Root([html(f"<style>{console_css()}</style>"), top, _box(columns, "cards")])
        self.widget.add_class("m2n2lab-console")
        self.widget.console = self

    def _button(self, name: str, act: Any, css_class: str = "") -> ipywidgets.Button:
        button = ipywidgets.Button(description=name, disabled=True)
        button.on_click(lambda _: act())
        if css_class:
            button.add_class(css_class)
        return button

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        return f"<console of {self.evolver!r}, {self.snapshot.phase}>"

    # -- orders, from any thread -----------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        """All that the console shows of one moment."""
        return self.session.snapshot

    def run(self) -> None:
        """Step until ``pause`` is called; returns at once."""
        self.session.orders.run()

    def pause(self) -> None:
        """Pause after the current step."""
        self.session.orders.pause()

    def step(self, count: int = 1) -> None:
        """Take ``count`` more steps, then pause; returns at once."""
        self.session.orders.step(count)

    def choose(self, **fields: Any) -> None:
        """Put parents ``a`` and ``b``, a ``split`` or a ``mix`` on the bench."""
        self.session.orders.choose(**fields)

    def merge(self) -> None:
        """Submit the child on the bench to the archive."""
        bench = self.snapshot.bench
        self.session.orders.command("merge", bench.proposal if bench else None)

    def close(self) -> None:
        """End the worker and all subscriptions, and close every widget."""
        if self._closed:
            return
        self._closed = True
        self.session.close()
        for end in self._subscriptions:
            end()
        self.session.join(CLOSE_TIMEOUT_SECONDS)
        self.widget.console = None
        for widget in _all(self.widget):
            widget.close()

    def _picked(self, changed: dict[str, Any]) -> None:
        if changed.keys() & {"a", "b"}:
            self.choose(a=changed.get("a", self.picker.a), b=changed.get("b", self.picker.b))

    def _moved(self, changed: dict[str, Any]) -> None:
        if "split" in changed:
            self.choose(split=self.split.split)

    def _mixed(self, changed: dict[str, Any]) -> None:
        if "value" in changed:
            self.split.show(mix=self.mix.value)
            self.choose(mix=self.mix.value)

    # -- updates, from the worker ----------------------------------------------------------------

    def _log(self, generation: Generation) -> None:
        self._last = generation
        if generation.accepted:
            self._births.append(generation)

    def _show(self) -> None:
        """Show the latest snapshot; a failure is logged and stops nothing."""
        try:
            self._update(self.snapshot)
        except Exception:
            log.exception("The console could not show a snapshot.")

    def _update(self, snapshot: Snapshot) -> None:
        self.figures.value = figures_html(snapshot)
        ready = snapshot.niches is not None and snapshot.phase != "closed"
        self._go.description = "Pause" if snapshot.phase == "running" else "Run"
        for button in (self._go, self._step, self._ten):
            button.disabled = not ready
        if snapshot.attraction is not None and self._new("pairs", snapshot.attraction):
            self.picker.present(snapshot.attraction)
        if snapshot.curves is not None and self._new("curves", snapshot.curves):
            self._curves.value = curves_html(snapshot.curves)
        self._log_html.value = log_html(tuple(self._births), self._last)
        if self._new("answers", snapshot.answers):
            self._answers.value = answers_html(snapshot)
        self._update_bench(snapshot, ready)

    def _update_bench(self, snapshot: Snapshot, ready: bool) -> None:
        data, choice = snapshot.bench, self.session.orders.choice
        self._preview.disabled = not ready
        self._merge.disabled = not ready or data is None or snapshot.stale or snapshot.pending
        if data is None:
            self._verdict.value = note_html(snapshot.note)
            return
        if self._new("bench", data):
            self.split.present(data)
        proposal = data.proposal
        a, b = proposal.parents
        # The last order counts, not the worker's state: nothing jumps back.
        mix = proposal.mix if choice.mix is None else choice.mix
        split = proposal.split if choice.split is None else choice.split
        self.picker.show(
            a=a if choice.a is None else choice.a, b=b if choice.b is None else choice.b
        )
        self.split.show(split=split, mix=mix)
        self.mix.show(value=mix, angle=math.degrees(data.omega), disabled=not ready)
        self._scores.value = scores_html(data, CSS_THEME, snapshot.pending)
        self._verdict.value = verdict_html(data, snapshot)

    def _new(self, name: str, shown: object) -> bool:
        """Return whether another object than before is shown under a name, and note it."""
        before, self._shown[name] = self._shown.get(name), shown
        return before is not shown


def _box(children: list[Any], css_class: str = "") -> ipywidgets.VBox:
    box = ipywidgets.VBox(children)
    if css_class:
        box.add_class(css_class)
    return box


def _all(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    """Return a widget and all that it contains, layouts and styles too, each once."""
    found: dict[str, ipywidgets.Widget] = {}
    todo = [widget]
    while todo:
        widget = todo.pop()
        if widget.model_id is None or widget.model_id in found:
            continue
        found[widget.model_id] = widget
        for value in (getattr(widget, name) for name in widget.keys):
            many = value if isinstance(value, list | tuple) else [value]
            todo.extend(each for each in many if isinstance(each, ipywidgets.Widget))
    return list(found.values())
