"""A dashboard in a real browser: serving it, opening it, finding things on it, seeing it fail.

Shared by the dashboard's benchmarks and by the tests; a Chromium on the PATH is used, or else
Playwright's own (``playwright install chromium``).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    Playwright,
    Request,
    ViewportSize,
    expect,
)

ROOT = Path(__file__).parents[1]
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
INSIDE = Path(__file__).with_name("inside.js")
PATIENCE = 60_000  # milliseconds; only ever waited for when something is broken
WINDOW: ViewportSize = {"width": 1440, "height": 900}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a server listens; not asked for the page itself, which would start a session."""
    try:
        urllib.request.urlopen(f"http://localhost:{port}/static/none", timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def started(
    command: Sequence[str], port: int, log: Path, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers; returns its process."""
    # Its runs are recorded beside its log, not among the user's own.
    env = {**options.pop("env", os.environ), "M2N2LAB_RUNS": str(log.parent / "runs")}
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=env, **options
        )
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"The server ended: {log.read_text()}")
        if answers(port):
            return process
        time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"The server did not answer: {log.read_text()}")


@contextmanager
def serving(
    command: Sequence[str], port: int, log: Path, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, and end it afterwards."""
    process = started(command, port, log, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


LINES = 60
"""Lines of the server's log that are printed from an error on."""


def logged(log: Path, fault: str = "error|traceback") -> list[str]:
    """Return the server's log from its first fault on."""
    lines = log.read_text(errors="replace").splitlines()
    bad = (k for k, text in enumerate(lines) if re.search(fault, text, re.I))
    first = next(bad, len(lines))
    return [f"log: {text}" for text in lines[first : first + LINES]]


class Lab:
    """A served dashboard, and the threads that search for its pages.

    A search brings one thread to the server. Not every system tells a thread's name, so threads
    are known by the moment at which they came.

    Attributes:
        address: of the page.
        process: the server.
    """

    def __init__(self, port: int, pid: int) -> None:
        self.address = f"http://localhost:{port}/"
        self.process = psutil.Process(pid)
        self._first = self._threads()
        self._came: dict[Page, set[int]] = {}

    def _threads(self) -> set[int]:
        if self.process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError("The server ended.")
        return {thread.id for thread in self.process.threads()}

    @property
    def searches(self) -> int:
        """How many threads there are beyond those of a server without pages."""
        return len(self._threads() - self._first)

    def open(self, page: Page, query: str = "") -> Page:
        """Open the dashboard, wait until it can be used, and note the threads that came with it."""
        before = self._threads()
        opened(page, self.address + query)
        came = self._threads() - before
        if not came:
            raise RuntimeError("A page brings a thread to the server, but none came.")
        self._came[page] = came
        return page

    def close(self, page: Page) -> float:
        """Close a page and return seconds until the thread of its first search has ended.

        Another one that came meanwhile is of the server's own pool, which keeps it.
        """
        page.close()
        return waited(lambda: not self._came[page] <= self._threads())


def waited(until: Callable[[], bool]) -> float:
    """Wait until something is so and return the seconds; infinite if it takes too long."""
    began = time.monotonic()
    while not until():
        if time.monotonic() - began > PATIENCE / 1000:
            return math.inf
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def serving_lab(*more: str) -> Iterator[tuple[Lab, Path]]:
    """Serve the dashboard from a folder of its own; yields it and the server's log.

    Args:
        more: options of ``m2n2lab serve``.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder:
        log = Path(folder) / "log"
        command = [*lab_command(port), "--keep", "0", *more]  # closed pages leave nothing
        with serving(command, port, log) as process:
            yield Lab(port, process.pid), log


def lab_command(port: int) -> list[str]:
    """Return the command that serves the dashboard from scratch, one torch thread for each page."""
    served = [sys.executable, "-m", "m2n2lab", "serve", "--port", str(port), "--threads", "1"]
    return [*served, "--from-scratch"]


def launched(playwright: Playwright) -> Browser:
    """Return a Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    return playwright.chromium.launch(executable_path=found, args=FLAGS)


def profile(browser: Browser) -> BrowserContext:
    """Return a profile that has nothing of the dashboard yet, and ``inside`` in its pages."""
    context = browser.new_context(viewport=WINDOW)
    context.add_init_script(path=INSIDE)
    return context


def faults(page: Page) -> list[str]:
    """Return a list that fills with outside requests, failed ones and errors of a page."""
    wrong: list[str] = []

    def local(url: str) -> object:
        return re.match(r"(https?|ws)://(localhost|127\.0\.0\.1)[:/]|data:|blob:", url)

    page.on("request", lambda r: local(r.url) or wrong.append(f"outside request {r.url}"))

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # as when a page is left while it loads
            wrong.append(f"failed request {request.url}: {request.failure}")

    page.on("requestfailed", failed)
    page.on("response", lambda r: r.status < 400 or wrong.append(f"{r.status} for {r.url}"))
    page.on("dialog", lambda d: wrong.append(f"dialog {d.message}"))
    page.on("pageerror", lambda e: wrong.append(f"page error {e}"))
    page.on("console", lambda m: m.type == "error" and wrong.append(f"console {m.text}"))
    return wrong


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def figure(page: Page, name: str) -> Locator:
    return page.get_by_test_id(name)


def steps(page: Page) -> int:
    return int(figure(page, "step").inner_text().replace(",", ""))


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    expect(button(page, "Run")).to_be_enabled(timeout=PATIENCE)
    expect(figure(page, "phase")).to_have_text("paused", timeout=PATIENCE)
    return page


DRAWN = """names => names.every(name => {
    const model = Bokeh.documents.flatMap(d => [...d.all_models])
        .find(m => m.name === name && Bokeh.index.find_one(m))
    return model && Bokeh.index.find_one(model)?.canvas_view
})"""
FIRST = ("AttractionView", "NichesView", "CurvesView")


def drawn(page: Page, *names: str) -> Page:
    """Wait until a page that can be used shows its plots, too, by default those seen at first."""
    page.wait_for_function(DRAWN, arg=names or FIRST, timeout=PATIENCE)
    return page


PIXEL = """([name, x, y]) => {
    const model = Bokeh.documents.flatMap(d => [...d.all_models])
        .find(m => m.name === name && Bokeh.index.find_one(m))
    const view = Bokeh.index.find_one(model)
    const box = view.canvas_view.el.getBoundingClientRect()
    return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)]
}"""


def click_at(page: Page, name: str, x: float, y: float) -> None:
    """Click on a place of a plot, in the plot's own coordinates."""
    page.mouse.click(*page.evaluate(PIXEL, [name, x, y]))
