"""Pages in a browser; the only place where tests take from ``benchmarks/browsing.py``."""

import sys

import browsing
from browsing import (
    INSIDE,
    PATIENCE,
    PIXEL,
    ROOT,
    answers,
    button,
    click_at,
    drawn,
    faults,
    figure,
    free_port,
    lab_command,
    launched,
    logged,
    serving,
    serving_lab,
    started,
    steps,
)
from playwright.sync_api import expect

__all__ = [
    "INSIDE",
    "PATIENCE",
    "PIXEL",
    "ROOT",
    "SECTIONS",
    "answers",
    "button",
    "click_at",
    "drawn",
    "faults",
    "figure",
    "free_port",
    "lab_command",
    "launched",
    "logged",
    "opened",
    "served",
    "serving",
    "serving_lab",
    "started",
    "steps",
    "trying",
]

SECTIONS = ("Niches", "Attraction", "Merge bench", "Progress", "Landscape", "Answers")


def opened(page, address):
    """Open the dashboard and wait until all that is seen at first is drawn."""
    return drawn(browsing.opened(page, address))


def trying(page, task, folder):
    """Serve a few data points of a task of the zoo; yield once its page can be stepped."""
    port = free_port()
    few = ("--task", task, "--limit", "4", "--threads", "1", "--port", str(port))
    for _ in served([sys.executable, "-m", "m2n2lab", "serve", *few], port, folder / "log"):
        page.goto(f"http://localhost:{port}/")
        expect(button(page, "Step")).to_be_enabled()
        yield


def served(command, port, log):
    """Start a server, wait until it answers, yield its log, end it."""
    with serving(command, port, log):
        yield log
