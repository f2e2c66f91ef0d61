"""The dashboard: ``panel serve widgets/dashboard.py`` and ``m2n2lab serve`` open this page.

Each browser session has a search of its own. The page only reads snapshots and gives orders; the
search runs in the session's worker thread.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import panel as pn
from m2n2lab.widgets.answers import AnswersView
from m2n2lab.widgets.bench_view import BenchView
from m2n2lab.widgets.landscape_view import LandscapeView
from m2n2lab.widgets.lineage import LineageView, SharesView
from m2n2lab.widgets.live_plot import View
from m2n2lab.widgets.members import MembersView, MemberView
from m2n2lab.widgets.pictures import css_variables
from m2n2lab.widgets.session import PACES, Session
from m2n2lab.widgets.snapshot import Snapshot
from m2n2lab.widgets.tour import Tour
from m2n2lab.widgets.views import (
    AttractionView,
    CurvesView,
    FiguresView,
    NichesView,
)
from m2n2lab.widgets.workbench import ANSWERS, Filter
from tornado.websocket import WebSocketClosedError

from m2n2lab.baselines import METHODS
from m2n2lab.errors import InputError
from m2n2lab.plots import NICHE_MODES
from m2n2lab.settings import Settings
from m2n2lab.theme import LIGHT, THEMES, Theme

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.tasks.classify import Classify

REFRESH_EVERY = 200
"""Milliseconds between two looks at the session's snapshot."""

_PAGE = Path(__file__).with_name("page.html")


def _not_left(record: logging.LogRecord) -> bool:
    """Keep a log record unless it only says that a page was closed while an answer was sent."""
    return not (record.exc_info and isinstance(record.exc_info[1], WebSocketClosedError))


logging.getLogger("asyncio").addFilter(_not_left)


class Dashboard:
    """One page over one session.

    Args:
        session: the search that the page shows and steers.
        theme: colours.
        settings: how the search was made, for the setup and the code that makes it again.
    """

    def __init__(
        self, session: Session, theme: Theme = LIGHT, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.session = session
        self.theme = theme
        self.niches = NichesView(theme)
        self.bench = BenchView(session, theme)
        self.attraction = AttractionView(theme, self.bench.pick)
        self._views: dict[str, View] = {
            "figures": FiguresView(),
            "niches": self.niches,
            "attraction": self.attraction,
            "bench": self.bench,
            "landscape": LandscapeView(theme, self.bench.load),
            "curves": CurvesView(theme),
            "answers": AnswersView(theme),
        }
        self.members = MembersView(theme, session.select)
        self.member = MemberView(theme)
        self.lives = LineageView(theme, session.select)
        self.shares = SharesView(theme)
        self.tour = Tour(lambda: self.session, theme)
        self._shown: Snapshot | None = None
        self.title = pn.pane.Str(session.snapshot.title, margin=0, styles={"color": theme.quiet})
        ink = f".bk-btn-primary {{ color: {theme.card} !important; }}"
        self.run = pn.widgets.Button(
            name="Run", button_type="primary", width=70, disabled=True, stylesheets=[ink]
        )
        self.step = pn.widgets.Button(name="Step", width=58, disabled=True)
        self.step_ten = pn.widgets.Button(name="×10", width=48, disabled=True)
        self.pace = pn.widgets.Select(options=list(PACES), width=104)
        self.mode = pn.widgets.RadioButtonGroup(options=list(NICHE_MODES), value=self.niches.mode)
        self.which = pn.widgets.RadioButtonGroup(options=list(ANSWERS))
        self.history = pn.widgets.FileDownload(
            callback=self._history, filename="history.csv", label="History (CSV)", width=130
        )
        self.code = pn.widgets.FileDownload(
            callback=self._code, filename="search.py", label="Code (Python)", width=130
        )
        self.run.on_click(lambda event: self._run_or_pause())
        self.step.on_click(lambda event: session.step())
        self.step_ten.on_click(lambda event: session.step(10))
        self.pace.param.watch(lambda event: session.pace(event.new), "value")
        self.which.param.watch(lambda event: session.filter(Filter(event.new)), "value")
        self.mode.param.watch(lambda event: self._set_mode(event.new), "value")

    def _run_or_pause(self) -> None:
        if self.session.running:  # what was ordered last, whatever the page shows
            self.session.pause()
        else:
            self.session.run()

    def _history(self) -> io.StringIO:
        return io.StringIO(self.session.history.frame().to_csv() if self.session.history else "")

    def _code(self) -> io.StringIO:
        return io.StringIO(self.settings.code(self.session.snapshot.step))

    def _set_mode(self, mode: str) -> None:
        self.niches.mode = mode
        if self._shown is not None:
            self.niches.update(self._shown)

    def refresh(self) -> None:
        """Show the session's latest snapshot, if it is a new one."""
        snapshot = self.session.snapshot
        self.tour.update(snapshot)
        if snapshot is self._shown:
            return
        self._shown = snapshot
        with pn.io.hold():
            for view in self._views.values():
                view.update(snapshot)
            self.members.update(snapshot.members)
            self.members.choose(snapshot.chosen)
            self.member.update(snapshot.member)
            self.lives.update(snapshot.lineage)
            self.shares.update(snapshot.shares)
            ready = snapshot.niches is not None and snapshot.phase != "closed"
            name = "Pause" if snapshot.phase == "running" else "Run"
            self.run.param.update(name=name, disabled=not ready)
            self.step.disabled = self.step_ten.disabled = not ready

    def template(self) -> pn.Template:
        """Return the page, with every part in its place."""
        page = pn.Template(_PAGE.read_text(encoding="utf-8"))
        page.add_variable("theme", self.theme)
        page.add_variable("colours", css_variables(self.theme))
        for kind in ("css", "js"):
            page.add_variable(kind, _PAGE.with_suffix(f".{kind}").read_text(encoding="utf-8"))
        page.add_variable("methods", tuple(METHODS))
        page.add_variable("settings", self.settings)
        other = "light" if self.theme.name == "dark" else "dark"
        page.add_variable("other", urlencode({**self.settings.query(), "theme": other}))
        transport = pn.Row(self.run, self.step, self.step_ten, self.pace, margin=0)
        panes = {name: view.pane for name, view in self._views.items()}
        parts = {"title": self.title, "transport": transport, "mode": self.mode}
        parts["tour"] = self.tour.pane
        parts |= {"history": self.history, "code": self.code}
        parts["attracted"] = self.attraction.words
        parts |= {"members": self.members.pane, "member": self.member.pane}
        parts |= {"lives": self.lives.pane, "span": self.lives.span, "lives_key": self.lives.key}
        parts |= {"shares": self.shares.pane, "shares_key": self.shares.key}
        for name, part in {**parts, "which": self.which, **panes}.items():
            page.add_panel(name, part)
        return page


def _query() -> Mapping[str, list[bytes]]:
    """Return what the page's address asks for."""
    return pn.state.session_args or {}


def _refuse(error: InputError) -> Evolver:
    raise error


def dashboard(settings: Settings | None = None, task: Classify | None = None) -> pn.Template:
    """Return the page of a new search, for the browser session that asks for it.

    The worker starts when the page has been loaded, and ends when it is closed.

    Args:
        settings: the search; digits from scratch by default.
        task: made by ``settings`` before, to be shared by many pages.
    """
    settings = settings or Settings()
    query = {name: values[0].decode(errors="replace") for name, values in _query().items()}
    make: Callable[[], Evolver]
    try:
        wanted = settings.asked(query)
        shared = task if wanted.task == settings.task else None
        make = partial(wanted.make, shared)
    except InputError as error:  # said on the page
        wanted, make = settings, partial(_refuse, error)
    session = Session(make, wanted.title, wanted.threads)
    page = Dashboard(session, THEMES.get(query.get("theme", ""), LIGHT), wanted)

    def loaded() -> None:
        session.start()
        pn.state.add_periodic_callback(page.refresh, period=REFRESH_EVERY)

    def closed(context: object) -> None:  # on the event loop: signal, do not wait
        session.close()

    pn.state.onload(loaded)
    pn.state.on_session_destroyed(closed)
    return page.template()


if __name__.startswith("bokeh_app"):
    pn.extension()
    dashboard().servable(title="m2n2lab")
