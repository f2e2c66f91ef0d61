"""Refreshes of a page that follows its search, without a browser."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from bokeh.document import Document
from m2n2lab.widgets.page.page import Page
from m2n2lab.widgets.page.plot_rotation import PlotRotation
from m2n2lab.widgets.runs.browser_sessions import BrowserSession
from m2n2lab.widgets.runs.runs import Runs
from m2n2lab.widgets.session.snapshot import Snapshot
from panel.io.state import set_curdoc

from m2n2lab.config.settings import Settings


@pytest.fixture
def page(digits):
    runs = Runs({"digits": digits})
    yield Page(BrowserSession(runs, runs.add(Settings(threads=1))))
    runs.close()


class Plots:
    """Five plots in rotation, which note which of them was shown what."""

    def __init__(self):
        self.calls = []
        self.drawn = 0
        self.to_be_drawn = set()
        updates = [partial(self.update, name) for name in "abcde"]
        self.rotation = PlotRotation(updates, lambda: self.drawn)

    def update(self, name, snapshot):
        self.calls.append((name, snapshot))
        if name in self.to_be_drawn:
            self.to_be_drawn.remove(name)
            self.drawn += 1

    @property
    def names(self):
        return "".join(name for name, _ in self.calls)


def test_plots_of_a_running_search_come_one_after_the_other_until_all_show_a_snapshot():
    plots = Plots()
    running = [Snapshot(phase="running", step=step) for step in range(3)]
    assert plots.rotation.update(running[0])
    plots.calls.clear()
    for _ in range(2):
        assert not plots.rotation.update(running[1])
    assert plots.rotation.shown is running[0]
    assert [plots.rotation.update(running[2]) for _ in range(5)] == [False] * 4 + [True]
    assert plots.names[2:] == "cdeab"
    assert {id(snapshot) for _, snapshot in plots.calls[2:]} == {id(running[2])}
    assert plots.rotation.shown is running[2]


def test_at_rest_and_for_the_first_time_all_plots_are_shown_at_once():
    plots, running = Plots(), Snapshot(phase="running", step=1)
    assert plots.rotation.update(running)
    assert plots.names == "abcde"
    paused = replace(running, phase="paused")
    assert plots.rotation.update(paused)
    assert plots.names[5:] == "abcde"
    assert plots.rotation.shown is paused
    plots.rotation.reset()
    assert plots.rotation.update(running)
    assert plots.names[10:] == "abcde"


def test_of_plots_that_are_drawn_anew_there_is_one_at_each_update():
    plots, paused = Plots(), Snapshot(phase="paused")
    plots.to_be_drawn = {"b", "d"}
    assert [plots.rotation.update(paused) for _ in range(3)] == [False, False, True]
    assert plots.names == "ab" + "abcd" + "abcde"


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
        page.request_redraw()  # of a tab, say, and before that is shown a step is done
        page.request_refresh()
        await tick(document)
        assert document.shown == [True, False]
        page.request_redraw()
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
        worker = threading.Thread(target=page.request_refresh)
        worker.start()
        worker.join()
        assert document.ticks == []
        while not document.ticks:  # pages rest between two refreshes
            await asyncio.sleep(0.001)
        ((_, thread),) = document.ticks
        assert thread is threading.current_thread()
        await tick(document)
        assert document.shown == [True]

    in_a_loop(scenario())


def test_a_page_that_is_gone_is_not_refreshed(page, document):
    async def scenario():
        await sent(document)
        page.request_refresh()
        page.close()
        page.request_refresh()
        await asyncio.sleep(0.01)
        assert (document.ticks, document.shown) == ([], [])

    in_a_loop(scenario())


def test_lines_of_runs_that_are_gone_are_used_again(page):
    # What Bokeh has shown a page once is kept there for good.
    runs = page.browser_session.runs
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
