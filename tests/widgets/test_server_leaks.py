"""Pages that are gone leave nothing behind, and those that nobody looks at cost nothing."""

import asyncio
import gc
import threading
import time
import weakref

import psutil
import pytest
from helpers.raw_pages import client
from helpers.small_servers import served_here
from m2n2lab.widgets import dashboard as lab_page
from m2n2lab.widgets.page.page import Page
from m2n2lab.widgets.runs import browser_sessions
from m2n2lab.widgets.runs.browser_sessions import BROWSER_SESSIONS
from m2n2lab.widgets.server.server import trim_memory

from m2n2lab.config.builders import build_task
from m2n2lab.config.settings import Settings

PATIENCE = 60.0
"""Seconds; exceeded only if something is broken."""

MB_PER_PAGE = 0.1
"""What a page that is gone may leave behind, on the average."""


class Pages:
    """Pages of a server in this process.

    Attributes:
        made: weak references to all that were made.
    """

    def __init__(self, address):
        self.address = address
        self.made = []

    @property
    def alive(self):
        """How many are still in memory, after a collection."""
        BROWSER_SESSIONS.close_abandoned()
        gc.collect()
        return sum(made() is not None for made in self.made)

    def all_gone(self):
        """Return whether all pages go, once they are closed and given up."""
        end = time.monotonic() + PATIENCE
        while self.alive:
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True


@pytest.fixture
def pages(monkeypatch):
    settings = Settings(threads=1)
    task = build_task(settings)

    def recorded(*arguments):
        page = Page(*arguments)
        served.made.append(weakref.ref(page))
        return page

    monkeypatch.setattr(lab_page, "Page", recorded)
    monkeypatch.setattr(browser_sessions, "RELOAD_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(BROWSER_SESSIONS, "keep_seconds", 0.0)
    quickly = {
        "check_unused_sessions_milliseconds": 200,
        "unused_session_lifetime_milliseconds": 2_000,
    }
    with served_here(lambda: lab_page.dashboard(settings, task), **quickly) as (address, _):
        served = Pages(address)
        yield served


async def used(page):
    """Load a page, step its search, and show all its tabs; then close it."""
    await page.load()
    for tab in ("lineage", "seeds", "members", "compare", "progress"):
        await page.answer(await page.set("tab", "value", tab))
        await page.answer(await page.click("Step"))
        await asyncio.sleep(0.1)
    page.close()


@pytest.mark.slow
def test_pages_are_gone_once_they_are_closed_or_were_never_connected(pages):
    with client() as one:
        one.run(used(one.open(pages.address)))
        pages.made.clear()  # Panel keeps the first page of a process: its clock began there
        for _ in range(2):
            assert one.get(pages.address).code == 200
        for _ in range(2):
            one.run(used(one.open(pages.address)))
        assert len(pages.made) >= 4
        assert pages.all_gone(), f"{pages.alive} pages are still in memory"


def searches():
    """Return how many threads search."""
    return sum(thread.name == "m2n2lab search" for thread in threading.enumerate())


@pytest.mark.slow
def test_a_page_without_a_browser_has_no_search_and_counts_for_no_other(pages):
    before, counted = searches(), BROWSER_SESSIONS.pages
    with client() as one:
        for _ in range(3):
            assert one.get(pages.address).code == 200
        assert searches() == before
        assert BROWSER_SESSIONS.pages == counted
        page = one.open(pages.address)
        end = time.monotonic() + PATIENCE
        while searches() == before:
            assert time.monotonic() < end
        one.loop.call_soon_threadsafe(page.close)
        assert pages.all_gone()


@pytest.mark.slow
def test_three_hundred_pages_leave_no_memory_behind(pages, capsys):
    with client() as one:

        def some(count):
            for k in range(count):
                if k % 3 == 0:
                    assert one.get(pages.address).code == 200
                elif k % 3 == 1:
                    page = one.open(pages.address)
                    one.loop.call_soon_threadsafe(page.close)
                else:
                    one.run(used(one.open(pages.address)))
            assert pages.all_gone(), f"{pages.alive} pages are still in memory"
            trim_memory()
            return psutil.Process().memory_info().rss / 1e6

        before = some(60)  # caches are filled
        left = (some(300) - before) / 300
        with capsys.disabled():
            print(
                f"\n300 pages opened and closed leave {left:.3f} MB each, {pages.alive} in memory"
            )
        assert left < MB_PER_PAGE
