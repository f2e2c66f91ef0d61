"""Page: its views, and how they follow the search that it shows.

The page only reads snapshots and gives orders; each search runs in a worker thread of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import panel as pn
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClosedError

from m2n2lab.config.settings import Settings
from m2n2lab.utils.errors import InputError
from m2n2lab.viz.theme import LIGHT, Theme

from ..bench.bench_view import BenchView
from ..bench.formula_view import FormulaView
from ..controls.search_form import SetupView
from ..controls.time_view import TimeView
from ..controls.transport import TransportView
from ..members.gallery_view import GalleryView
from ..members.members import MembersView, MemberView
from ..members.sketch import SketchView
from ..runs.browser_sessions import BROWSER_SESSIONS, BrowserSession
from ..runs.roles import Role
from ..runs.run_list import RunList
from ..runs.runs import Run
from ..session.gallery import GalleryRequest
from ..session.orders import Mailbox
from ..session.session import Session
from ..session.snapshot import Snapshot
from ..tour.tour import Tour
from ..views.answers import AnswersView
from ..views.cells import Cells
from ..views.compare import CompareView
from ..views.landscape import LandscapeView
from ..views.lineage import LineageView, SharesView
from ..views.maps import AttractionView, CurvesView, FiguresView, NichesView
from ..views.run_table import RunsView
from ..views.styles import SMALL
from ..views.toggles import Toggles
from .attendance import AttendanceView
from .backpressure import Backpressure
from .gate import guard
from .notice import Notice
from .plot_rotation import PlotRotation
from .refresh import RefreshScheduler
from .template import PageTemplate, forget_scripts

if TYPE_CHECKING:
    from bokeh.document import Document

    from m2n2lab.analysis.merge_preview import BenchData

REFRESH_MILLISECONDS = 400
"""Time between two refreshes from the session's snapshot."""

PLOT_TIME_SHARE = 0.04
"""Share of the time that plots of a running search may take: the rest is the search's."""

MAX_PLOT_AGE_SECONDS = 2.0
"""Most time between two refreshes of all plots, whatever share of the time they take. It is
multiplied by the number of open pages, or their server would do nothing else."""

CONNECTION_SECONDS = 0.1
"""Time between two checks whether a browser is connected to a page that was sent."""

LOADING_SECONDS = 0.4
"""Time after which a run that is still being loaded is announced: most take less."""

MODES = {"solved": "solved", "worth": "worth", "solved by only one": "only one"}
"""Modes of the niche map, by their names on the page."""

TABS = ("progress", "lineage", "seeds", "members", "gallery", "draw", "compare")
"""One is visible, and only that one is kept up to date."""


def _unless_page_closed(record: logging.LogRecord) -> bool:
    """Return whether a log record reports more than a page closed while it was sent an answer."""
    return not (record.exc_info and isinstance(record.exc_info[1], WebSocketClosedError))


logging.getLogger("asyncio").addFilter(_unless_page_closed)


class Page:
    """One page over the runs of a browser session, of which it shows one.

    Args:
        browser_session: the searches that the page shows and steers.
        theme: colours.
        role: of the person before the page.
    """

    def __init__(
        self,
        browser_session: BrowserSession,
        theme: Theme = LIGHT,
        role: Role = Role.TEACHER,
    ) -> None:
        self.browser_session = browser_session
        self.role = role
        self.theme = theme
        self.run = browser_session.shown
        self.attendance = AttendanceView(browser_session.people, self._on_people)
        self._benched: BenchData | None = None  # on the bench
        self._redraw_requested = False  # whether a person waits for plots
        self._refresh_requested = False  # whether a person waits for anything else
        self._due = 0.0  # when plots may be refreshed again
        self._loaded = False  # before, plots would delay a browser that loads the page
        self._shown_at = 0.0  # when the run was put on the page
        self._blank = False  # whether all that another run had shown is cleared
        self._unsubscribe: Callable[[], None] = lambda: None
        self._scheduler: RefreshScheduler | None = None
        self._closed = False
        self._panels: dict[str, Any] = {}  # by their names in the template
        self.niches = NichesView(theme)
        self.bench = BenchView(self.session, theme)
        self.attraction = AttractionView(theme, self._pick, lambda: self.orders().choice)
        self.figures = FiguresView()
        self.landscape = LandscapeView(theme, self.bench.load)
        self.curves = CurvesView(theme)
        self.answers = AnswersView(theme, lambda wanted: self.orders().filter(wanted))
        self.gallery = GalleryView(
            theme, self._view_gallery, lambda vote: self.orders().command(vote)
        )
        self.formula = FormulaView(theme, lambda wanted: self.orders().view_formula(wanted))
        self.members = MembersView(theme, self._select)
        self.member = MemberView(theme, lambda name, member: self.orders().command(name, member))
        self.sketch = SketchView(theme, lambda ink: self.orders().view_sketch(ink))
        self.lives = LineageView(theme, self._select)
        self.shares = SharesView(theme)
        self.compare = CompareView(
            theme, browser_session.runs, lambda: self.run, self.show, self.request_redraw
        )
        self._views = (
            *(self.niches, self.attraction, self.curves, self.landscape, self.lives, self.shares),
        )
        drawings = (*self._views, self.compare)
        self.plots = PlotRotation(
            (
                lambda snapshot: self.attraction.update(snapshot.seen),
                lambda snapshot: self.niches.update(snapshot.seen),
                self._update_tab,
                self.answers.update,
                self.landscape.update,
            ),
            lambda: sum(plot.drawn for plot in drawings),
        )
        self.list = RunsView(
            theme,
            RunList(browser_session.runs),
            lambda: self.run,
            self.show,
            self._show_comparison,
        )
        self.setup = SetupView(lambda: self.run, self.begin, theme)
        self.tour = Tour(self.session, theme, self._begin_chapter)
        self._chapters: dict[bool, Run] = {}  # of the tour, by whether they begin with specialists
        self.backpressure = Backpressure(self._draw_more)
        self.cells = Cells(self.attraction, self.landscape)
        self.title = pn.pane.HTML(
            "",
            margin=0,
            styles={
                "color": theme.quiet,
                "font": "13px system-ui, sans-serif",
                "max-width": "100%",
            },
            stylesheets=[
                ".title { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }"
            ],
        )
        self.transport = TransportView(
            self.orders, self._reset, self._undo_reset, self.request_refresh, theme
        )
        self.time = TimeView(self.orders, self._branch, theme)
        self.map = pn.widgets.Button(name="Stop", margin=0, visible=False, stylesheets=[SMALL])
        self.mode = Toggles.themed(
            theme, label="Niches by", options=list(MODES), value=self.niches.mode
        )
        # The visible tab: set by the page's script, which finds this widget by its name.
        self.tab = pn.widgets.TextInput(name="tab", value=TABS[0], visible=False)
        # A link that makes the same search: shown in the browser's address bar.
        self.address = pn.widgets.TextInput(name="address", visible=False)
        self.address.jscallback(value="show_address(cb_obj.value)")
        # Whether there is a gallery: its tab is shown by the page's script.
        self.draws = pn.widgets.TextInput(name="draws", visible=False)
        self.draws.jscallback(value="show_tab('gallery', cb_obj.value)")
        # Whether leaving loses steps: the page's script asks then.
        self.unrecorded = pn.widgets.TextInput(name="unrecorded", visible=False)
        self.unrecorded.jscallback(value="set_unrecorded(cb_obj.value)")
        # A tab that is to be shown.
        self.asked_tab = pn.widgets.TextInput(name="asked_tab", visible=False)
        self.asked_tab.jscallback(value="click_tab(cb_obj.value)")
        # Whether members can read what a person draws: likewise.
        self.reads = pn.widgets.TextInput(name="reads", visible=False)
        self.reads.jscallback(value="show_tab('draw', cb_obj.value)")
        # What is being loaded: shown by the page's script in the place of all panels.
        self.loading = pn.widgets.TextInput(name="loading", visible=False)
        self.loading.jscallback(value="show_loading(cb_obj.value)")
        self.map.on_click(lambda event: self._map())
        self.mode.param.watch(lambda event: self._set_mode(event.new), "value")
        self.tab.param.watch(lambda event: self._on_tab(), "value")
        self.show(self.run)

    @property
    def steers(self) -> bool:
        """Whether the search follows the person before the page."""
        if not self.browser_session.shared:
            return True  # it is the page's own
        person = self.attendance.person
        return self.role.steers if person is None else person.steers

    def session(self) -> Session:
        """Return the worker of the run on the page."""
        return self.run.session

    def orders(self) -> Mailbox:
        """Return the orders of the run on the page."""
        return self.run.session.orders

    def _select(self, member: int) -> None:
        self.orders().select(member)

    def _pick(self, a: int, b: int) -> None:
        """Put a pair of living members on the bench, unless the page shows a past step."""
        if self.orders().past is None:
            self.bench.pick(a, b)
        else:
            self.time.show_message(
                "The bench merges who lives now; branch from here to merge these two."
            )
            self.request_redraw()  # the browser has framed them already

    def _view_gallery(self, request: GalleryRequest) -> None:
        """Have the gallery drawn while it is visible, and show what there is."""
        self.orders().view_gallery(request if self.tab.value == "gallery" else None)
        self.request_refresh()

    def _on_tab(self) -> None:
        """Show the tab that was chosen."""
        if self.steers:
            self.gallery.request()
            self.sketch.request(self.tab.value == "draw")
        self.request_redraw()

    def _on_people(self) -> None:
        """Show who is here; may be called in any thread."""
        self.request_refresh()

    def _map(self) -> None:
        """Stop mapping the landscape, or go on."""
        self.orders().map(not self.session().snapshot.mapping)

    # -- which run -----------------------------------------------------------------------------

    def begin(self, settings: Settings, beside: bool) -> None:
        """Start another search, beside the run on the page or in its place, and show it.

        Raises:
            InputError: there are too many runs already.
        """
        runs = self.browser_session.runs
        self.show(runs.add(settings) if beside else runs.renew(self.run, settings))
        self.address.value = urlencode(settings.query())

    def _begin_chapter(self, pretrained: bool, new: bool) -> None:
        """Show the digits from two specialists or from random networks, for the tour.

        Args:
            pretrained: from which of the two.
            new: whether nothing may have been done in it; otherwise the one shown before is.
        """
        runs = self.browser_session.runs
        old = self._chapters.get(pretrained)
        fits = (run for run in (self.run, *runs.all) if _untouched(run, pretrained))
        found = next(fits, None) if new else old if old in runs.all else None
        if found is None:
            settings = Settings(pretrained=pretrained, threads=self.run.settings.threads)
            try:
                found = runs.add(settings)
            except InputError as error:  # the tour goes through the search on the page
                self.time.show_message(str(error))
                return
        self._chapters[pretrained] = found
        if found is not self.run:
            self.show(found)

    def _reset(self) -> None:
        """Restart the search of the run on the page."""
        try:
            self.show(self.browser_session.runs.restart(self.run))
        except InputError as error:
            self.time.show_message(str(error))

    def _undo_reset(self) -> None:
        """Show the run again that was replaced last."""
        run = self.browser_session.runs.undo_replace()
        if run is not None:
            self.show(run)
            self.address.value = urlencode(run.settings.query())

    def _show_comparison(self) -> None:
        """Show the tab that compares the runs of the visit."""
        self.asked_tab.value = ""
        self.asked_tab.value = "compare"
        self.request_redraw()

    def _branch(self, step: int) -> None:
        """Branch from a step of the run on the page, and show the new run."""
        self.show(self.browser_session.runs.branch(self.run, step))

    def show(self, run: Run) -> None:
        """Put a run on the page."""
        another = run.settings.task != self.run.settings.task
        self.run = run
        if self.steers:
            self.browser_session.shown = run
        self._shown_at, self._blank = time.monotonic(), False
        if another:
            self._clear()
        self._unsubscribe()
        # Called in the worker, so a refresh is only scheduled.
        self._unsubscribe = run.session.subscribe(self.request_refresh)
        self.title.object = (
            f'<div class="title" title="{escape(run.title)}">{escape(run.title)}</div>'
        )
        self.time.show_message("")
        if self.steers:
            run.session.orders.pace(self.transport.pace.value)
            self.answers.request()
            self.gallery.request()
            self.formula.request()
            self.sketch.request(self.tab.value == "draw")
        self.setup.show(run.settings)
        self.compare.suggest(run)
        self.request_redraw()

    def _clear(self) -> None:
        """Show nothing of another search."""
        with pn.io.hold():
            for view in self._views:
                view.clear()
            self.members.clear()
            self.member.update(None)
            self.bench.update(Snapshot())
            self.answers.update(Snapshot())
        self._blank = True

    def _update_loading(self, snapshot: Snapshot) -> None:
        """Show that the run on the page is being loaded, if that takes longer than a moment."""
        waits = snapshot.niches is None
        late = self._blank or time.monotonic() - self._shown_at > LOADING_SECONDS
        if waits and late and not self._blank:
            self._clear()
        words = ""
        if waits and late and snapshot.phase == "starting":
            words = f"Loading {self.run.settings.task}: {snapshot.loading or 'starting'}"
        if self._loaded and self.loading.value != words:  # before, the script would miss it
            self.loading.value = words

    # -- refreshing ----------------------------------------------------------------------------

    def request_redraw(self) -> None:
        """Ask for all of the snapshot, soon: not now, because a click holds no document lock."""
        self.plots.reset()
        self._redraw_requested = True
        self._schedule_refresh()

    def request_refresh(self) -> None:
        """Ask for what was done, soon; plots may follow later. May be called in any thread."""
        self._refresh_requested = True
        self._schedule_refresh()

    def _draw_more(self) -> None:
        """Draw the next plot at once, if some have not been drawn yet."""
        if self._loaded and self.plots.shown is None:
            self._redraw_requested = True
            self._schedule_refresh()

    def _schedule_refresh(self) -> None:
        if self._scheduler:  # else the first refresh is still to come
            self._scheduler.request()

    def _set_mode(self, mode: str) -> None:
        self.niches.mode = MODES[mode]
        self.request_redraw()

    def _update_tab(self, snapshot: Snapshot) -> None:
        """Update the visible tab."""
        if self.tab.value == "lineage":
            self.lives.update(snapshot.lineage)
        elif self.tab.value == "seeds":
            self.shares.update(snapshot.shares)
        elif self.tab.value == "members":
            self.members.update(snapshot.members)
            self.members.choose(snapshot.chosen)
            self.member.update(snapshot.member)
        elif self.tab.value == "gallery":
            self.gallery.update(snapshot)
        elif self.tab.value == "draw":
            self.sketch.update(snapshot)
        elif self.tab.value == "compare":
            self.compare.update()
        else:
            self.curves.update(snapshot)

    def refresh(self, at_once: bool = False) -> None:
        """Show the latest snapshot, if it is a new one.

        Args:
            at_once: a person waits for what was just done: that is shown now, and the plots, which
                take a browser longer, at the next refresh. Otherwise plots take no more than their
                share of the time.
        """
        runs = self.browser_session.runs.all
        if not runs:  # another page has taken the last one, and this one is gone
            return
        if self.run not in runs:  # removed, or restarted on another page
            self.show(self.browser_session.runs.numbered(self.run.number) or runs[0])
            return
        snapshot = self.session().snapshot
        self._update_loading(snapshot)
        self.tour.update(snapshot)
        self.list.update()
        lost = sum(run.unrecorded for run in runs)
        if self._loaded and self.unrecorded.value != (text := str(lost) if lost else ""):
            self.unrecorded.value = text
        compared = self.tab.value == "compare" and len(runs) > 1
        idle = (snapshot is self.plots.shown and not compared) or self.backpressure.waiting
        if idle and not at_once:
            return
        began = time.monotonic()
        with pn.io.hold():
            self._update_figures(snapshot)
            self.time.update(snapshot)
            self.bench.update(snapshot)
            self.formula.update(snapshot)
            self.attendance.update()
            if self._loaded:  # before, the page's script would miss it
                self.draws.value = "yes" if snapshot.draws else ""
                self.reads.value = "yes" if snapshot.reads else ""
            if at_once:
                self._due = 0.0
                if self.tab.value in ("gallery", "draw"):
                    self._update_tab(snapshot)
                if self.attraction.drawn and snapshot.bench is not self._benched:
                    self.attraction.update(snapshot.seen)
            elif self._loaded and (self.plots.shown is None or began >= self._due):
                if self.plots.update(snapshot):
                    self.orders().attend()
                self.backpressure.request_answer()
                took = time.monotonic() - began
                limit = MAX_PLOT_AGE_SECONDS * max(BROWSER_SESSIONS.pages, 1) / len(self.plots)
                share = min(took / PLOT_TIME_SHARE, limit)
                self._due = began + share if self._busy() else 0.0
            self._benched = snapshot.bench

    def _busy(self) -> bool:
        """Return whether plots take time that a search could use."""
        return any(run.session.snapshot.phase == "running" for run in self.browser_session.runs.all)

    def _update_figures(self, snapshot: Snapshot) -> None:
        # An order is shown at once: a model may be in the middle of an answer.
        ordered = {("paused", True): "running", ("running", False): "pausing"}
        phase = ordered.get((snapshot.phase, self.orders().running), snapshot.phase)
        snapshot = replace(snapshot, phase=phase)
        self.figures.update(snapshot.seen)
        replaced = self.browser_session.runs.replaced
        self.transport.update(
            snapshot, self.run, replaced[0] if replaced and replaced[1] is self.run else None
        )
        known = snapshot.landscape
        if known is None:
            self.map.visible = False
            return
        name = "Stop" if snapshot.mapping else "Go on" if known.done else "Map"
        if snapshot.slow:  # mapped only on request, and then for minutes
            name += f" ({known.done} of {known.scores.size} children)"
        begun = snapshot.slow or bool(self.landscape.drawn)
        self.map.param.update(name=name, visible=begun and not known.complete)

    # -- loading and closing -------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the searches once a browser is connected, while it still makes the page.

        Until then a page costs nothing but its memory: many are asked for and never shown.
        """
        document = pn.state.curdoc
        assert document is not None  # as called by the server
        if self.browser_session.shared:
            guard(document, lambda: self.steers, (*self.attendance.free, "tab", "answered"))
        document.on_event(Notice, self._show_notice)

        def scheduled() -> None:
            if not self._loaded and _browsers(document):
                return  # the browser is loading the page, and would miss changes until that arrives
            now, self._refresh_requested = self._refresh_requested, False
            if now:
                self.refresh(at_once=True)
            redraw, self._redraw_requested = self._redraw_requested, False
            if redraw:
                self.refresh()

        def begin() -> None:  # once the page has been sent
            if self._closed:
                return
            if _browsers(document) == 0:
                IOLoop.current().call_later(CONNECTION_SECONDS, begin)
                return
            self._scheduler = RefreshScheduler(document, scheduled)
            self.browser_session.connect(self)
            self.browser_session.runs.start(attended=False)
            self._scheduler.request()

        document.add_next_tick_callback(begin)

    def _show_notice(self, event: Any) -> None:
        """Show what the server has to say."""
        self.time.show_message(event.sentence)

    def start_refreshing(self) -> None:
        """Keep the page up to date from now on: a browser has loaded it."""
        document = pn.state.curdoc
        assert document is not None  # as called by the server

        def refresh() -> None:
            if _browsers(document) == 0:
                self.disconnect()
                BROWSER_SESSIONS.close_abandoned()
                return
            self.browser_session.connect(self)
            if self.browser_session.shared:
                self.attendance.join(self.role)
            self.refresh()

        self._loaded = True
        self.request_refresh()
        # Bokeh's own: Panel's marks itself as busy and idle, which costs as much as a refresh.
        document.add_periodic_callback(refresh, REFRESH_MILLISECONDS)

    def disconnect(self) -> None:
        """Stop counting the page: its browser is gone."""
        self.attendance.leave()
        self.browser_session.disconnect(self)

    def close(self) -> None:
        """End all refreshes, and let go of the page: it is gone."""
        self._closed = True
        if self._scheduler:
            self._scheduler.stop()
        self._unsubscribe()
        self.disconnect()
        forget_scripts(self._panels.values())

    def template(self) -> PageTemplate:
        """Return the page's frame, with every view in its place."""
        self._panels = {
            "title": self.title,
            "transport": self.transport.pane,
            "pace": self.transport.pace,
            "time": self.time.pane,
            "setup": self.setup.pane,
            "runs": self.list.pane,
            "unrecorded": self.unrecorded,
            "asked_tab": self.asked_tab,
            "tour": self.tour.pane,
            "figures": self.figures.pane,
            "mode": self.mode,
            "niches": self.niches.pane,
            "attraction": self.attraction.pane,
            "attracted": self.attraction.sentence,
            "order": self.attraction.order,
            "bench": self.bench.pane,
            "tab": self.tab,
            "people": self.attendance.shown,
            "people_said": self.attendance.said,
            "draws": self.draws,
            "reads": self.reads,
            "address": self.address,
            "loading": self.loading,
            "backpressure": self.backpressure.pane,
            "cell": self.cells.pane,
            "formula": self.formula.pane,
            "formula_opened": self.formula.opened,
            "curves": self.curves.pane,
            "lives": self.lives.pane,
            "span": self.lives.span,
            "lives_key": self.lives.key,
            "shares": self.shares.pane,
            "shares_key": self.shares.key,
            "members": self.members.pane,
            "member": self.member.pane,
            "gallery": self.gallery.pane,
            "sketch": self.sketch.pane,
            "compared": self.compare.pane,
            "compare_form": self.compare.form,
            "compare_list": self.compare.list,
            "landscape": self.landscape.pane,
            "map": self.map,
            "filters": self.answers.head,
            "answers": self.answers.pane,
        }
        return PageTemplate(
            self.theme,
            "" if self.browser_session.shared else self.browser_session.key,
            self._panels,
        )


def _untouched(run: Run, pretrained: bool) -> bool:
    """Return whether a run is of the digits, from such a beginning, and still there."""
    settings = run.settings
    start = settings.task == "digits" and settings.pretrained == pretrained
    plain = settings.method == "m2n2" and not settings.label and not settings.options
    return start and plain and not run.session.snapshot.step


def _browsers(document: Document) -> int | None:
    """Return how many browsers are connected to a page; ``None`` if it is on no server."""
    session = getattr(document.session_context, "session", None)
    return None if session is None else session.connection_count
