"""The dashboard: ``panel serve widgets/dashboard.py`` and ``m2n2lab serve`` open this page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import panel as pn
from m2n2lab.widgets.page.page import Page
from m2n2lab.widgets.page.server_log import keep_quiet
from m2n2lab.widgets.page.template import PageTemplate
from m2n2lab.widgets.runs.browser_sessions import BROWSER_SESSIONS, BrowserSession
from m2n2lab.widgets.runs.roles import current_role
from m2n2lab.widgets.runs.runs import Runs
from m2n2lab.widgets.session.stepper import no_workers

from m2n2lab.config.settings import Settings
from m2n2lab.utils.errors import InputError
from m2n2lab.viz.theme import LIGHT, THEMES

if TYPE_CHECKING:
    from m2n2lab.core.task import Task
    from m2n2lab.executors import Crew


def _query() -> dict[str, str]:
    """Return the query of the page's address."""
    arguments = pn.state.session_args or {}
    return {name: values[0].decode(errors="replace") for name, values in arguments.items()}


def open_browser_session(
    settings: Settings,
    task: Task | None = None,
    shared: bool = False,
    store: Path | None = None,
    executor: Callable[[Settings], Crew | None] = no_workers,
    output: Path | None = None,
) -> BrowserSession:
    """Return a browser session with one run.

    Args:
        settings: the search.
        task: made from ``settings`` already, to be shared by browser sessions.
        shared: whether every page opens this session.
        store: where its runs are recorded; by default each in a temporary file that ends with it.
        executor: makes the workers of one run; by default there are none.
        output: the folder into which models are saved; by default none is.
    """
    tasks = {} if task is None else {settings.task: task}
    runs = Runs(tasks, store, executor=executor, output=output)
    return BROWSER_SESSIONS.add(runs, runs.add(settings), shared)


def dashboard(
    settings: Settings | None = None,
    task: Task | None = None,
    browser_session: BrowserSession | None = None,
    store: Path | None = None,
    executor: Callable[[Settings], Crew | None] = no_workers,
    output: Path | None = None,
) -> PageTemplate:
    """Return the page for the browser session that asks for it.

    Its searches start once the page has been sent, and end soon after it is closed.

    Args:
        settings: the search; digits from two trained specialists by default.
        task: made from ``settings`` already, to be shared by pages.
        browser_session: what every page shows; by default each has a session of its own.
        store, executor, output: as in ``open_browser_session``.
    """
    settings = settings or Settings(pretrained=True)
    query = _query()
    browser_session = browser_session or BROWSER_SESSIONS.find(query.get("browser_session", ""))
    if browser_session is None:
        tasks = {} if task is None else {settings.task: task}
        runs, error = Runs(tasks, store, executor=executor, output=output), None
        try:
            settings = settings.with_query(query)
        except InputError as wrong:  # shown on the page
            error = wrong
        browser_session = BROWSER_SESSIONS.add(runs, runs.add(settings, error))
    page = Page(browser_session, THEMES.get(query.get("theme", ""), LIGHT), current_role())
    browser_session.expect(page)

    def closed(context: object) -> None:  # on the event loop: must not wait
        page.close()
        BROWSER_SESSIONS.close_abandoned()

    pn.state.onload(page.start_refreshing)
    pn.state.on_session_destroyed(closed)
    template = page.template()
    page.prepare()
    return template


if __name__.startswith("bokeh_app"):
    pn.extension()
    keep_quiet()
    dashboard().servable(title="m2n2lab")
