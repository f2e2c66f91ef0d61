"""A dashboard in a real browser: serving it, finding things on it, clicking on its plots."""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect

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
SECTIONS = ("Niches", "Attraction", "Merge bench", "Progress", "Landscape", "Answers")
PATIENCE = 60_000  # milliseconds; only ever waited for when something is broken
expect.set_options(timeout=PATIENCE)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    """Whether a server listens; not asked for the page itself, which would start a session."""
    try:
        urllib.request.urlopen(f"http://localhost:{port}/static/none", timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def started(command, port, log, **options):
    """Start a server and wait until it answers; returns its process."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, **options
        )
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        if answers(port):
            return process
        time.sleep(0.1)
    process.kill()
    return pytest.fail(f"the server did not answer: {log.read_text()}")


def served(command, port, log):
    """Start a server, wait until it answers, yield its log, end it."""
    process = started(command, port, log)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(20)


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def figure(page, name):
    return page.get_by_test_id(name)


def steps(page):
    return int(figure(page, "step").inner_text().replace(",", ""))


def opened(page, address):
    page.goto(address)
    expect(button(page, "Run")).to_be_enabled()
    expect(figure(page, "phase")).to_have_text("paused")
    return page


PIXEL = """([name, x, y]) => {
    const model = Bokeh.documents.map(d => d.get_model_by_name(name)).find(m => m != null)
    const view = Bokeh.index.find_one(model)
    const box = view.canvas_view.el.getBoundingClientRect()
    return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)]
}"""


def click_at(page, name, x, y):
    """Click on a place of a plot, in the plot's own coordinates."""
    page.mouse.click(*page.evaluate(PIXEL, [name, x, y]))
