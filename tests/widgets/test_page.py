"""Refreshes of a page that follows its search, without a browser."""

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from bokeh.document import Document
from m2n2lab.widgets.page.page import Page
from m2n2lab.widgets.runs.browser_sessions import BrowserSession
from m2n2lab.widgets.runs.runs import Runs
from m2n2lab.widgets.session.snapshot import Snapshot
from panel.io.state import set_curdoc

from m2n2lab.config.settings import Settings


@pytest.fixture
def page(digits):
    """A page whose plots only note which of them was shown what."""
    runs = Runs({"digits": digits})
    page = Page(BrowserSession(runs, runs.add(Settings(threads=1))))
    page.calls = []
    page._visible_plots = deque(
        [lambda snapshot, name=name: page.calls.append((name, snapshot)) for name in "abcde"]
    )
    yield page
    runs.close()


def test_plots_of_a_running_search_come_one_after_the_other_until_all_show_a_snapshot(page):
    running = [Snapshot(phase="running", step=step) for step in range(3)]
    page._shown = running[0]
    for _ in range(2):
        page._update_plots(running[1])
    assert page._shown is running[0]
    for _ in range(5):
        page._update_plots(running[2])
    assert [name for name, _ in page.calls[2:]] == list("cdeab")
    assert {id(snapshot) for _, snapshot in page.calls[2:]} == {id(running[2])}
    assert page._shown is running[2]


def test_at_rest_and_for_the_first_time_all_plots_are_shown_at_once(page):
    running = Snapshot(phase="running", step=1)
    page._update_plots(running)
    assert [name for name, _ in page.calls] == list("abcde")
    paused = replace(running, phase="paused")
    page._update_plots(paused)
    assert [name for name, _ in page.calls[5:]] == list("abcde")
    assert page._shown is paused


@pytest.fixture
def document(page, monkeypatch):
    """The page on a document: what was scheduled there and by which thread, and what was shown."""
    ticks, shown = [], []
    document = Document()

    def schedule(callback):
        ticks.append((callback, threading.current_thread()))

    monkeypatch.setattr(document, "add_next_tick_callback", schedule)
    monkeypatch.setattr(page, "refresh", lambda at_once=False: shown.append(at_once))
    monkeypatch.setattr(
        page.browser_session.runs, "start", lambda attended: None
    )  # it would schedule refreshes
    with set_curdoc(document):
        page.prepare()
    return SimpleNamespace(ticks=ticks, shown=shown)


def in_a_loop(scenario):
    """Run a coroutine in a thread of its own: browser tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, scenario).result()


async def tick(document):
    """Let the page's loop go on until something is scheduled, and do that."""
    for _ in range(100):
        if document.ticks:
            return document.ticks.pop()[0]()
        await asyncio.sleep(0.001)
    raise AssertionError("nothing was scheduled")


async def sent(document):
    """Let the page be sent and show what there is."""
    await tick(document)
    await tick(document)
    document.shown.clear()


def test_what_was_done_is_shown_at_once_also_where_plots_were_asked_for_meanwhile(page, document):
    async def scenario():
        await sent(document)
        assert document.ticks == []
        page._refresh_all()  # of a tab, say, and before that is shown a step is done
        page._refresh_now()
        await tick(document)
        assert document.shown == [True, False]
        page._refresh_all()
        await tick(document)
        assert document.shown[2:] == [False]
        await asyncio.sleep(0.01)
        assert document.ticks == []

    in_a_loop(scenario())


def test_a_search_refreshes_its_page_without_touching_the_document_in_its_own_thread(
    page, document
):
    # Bokeh keeps the current document in one list for all threads.
    async def scenario():
        await sent(document)
        worker = threading.Thread(target=page._refresh_now)
        worker.start()
        worker.join()
        assert document.ticks == []
        await asyncio.sleep(0.01)
        ((_, thread),) = document.ticks
        assert thread is threading.current_thread()
        await tick(document)
        assert document.shown == [True]

    in_a_loop(scenario())


def test_a_page_that_is_gone_is_not_refreshed(page, document):
    async def scenario():
        await sent(document)
        page._refresh_now()
        page.close()
        page._refresh_now()
        await asyncio.sleep(0.01)
        assert (document.ticks, document.shown) == ([], [])

    in_a_loop(scenario())


def test_lines_of_runs_that_are_gone_are_used_again(page):
    # What Bokeh has shown a page once is kept there for good.
    runs = page.compare._runs
    first = page.run
    seen = set()
    for _ in range(4):
        other = runs.add(Settings(method="ga", threads=1))
        page.compare.update()
        shown = [pane for pane in page.compare.list if pane.visible]
        assert [pane[3].name for pane in shown] == ["Remove 1", f"Remove {other.number}"]
        shown[1][3].clicks += 1
        page.compare.update()
        assert runs.all == (first,)
        assert [pane[3].name for pane in page.compare.list if pane.visible] == ["Remove 1"]
        assert f"run-{other.number}" not in page.compare.list[1][0].object
        seen |= set(page.compare.list)
    assert len(seen) == 2
