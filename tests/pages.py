"""What tests of the dashboard in a browser share; most of it serves the benchmarks too."""

import browsing
from browsing import (
    PATIENCE,
    PIXEL,
    ROOT,
    answers,
    button,
    click_at,
    drawn,
    figure,
    free_port,
    serving,
    started,
    steps,
)

__all__ = [
    "PATIENCE",
    "PIXEL",
    "ROOT",
    "SECTIONS",
    "answers",
    "button",
    "click_at",
    "figure",
    "free_port",
    "opened",
    "served",
    "started",
    "steps",
]

SECTIONS = ("Niches", "Attraction", "Merge bench", "Progress", "Landscape", "Answers")


def opened(page, address):
    """Open the dashboard and wait until all that is seen at first is drawn."""
    return drawn(browsing.opened(page, address))


def served(command, port, log):
    """Start a server, wait until it answers, yield its log, end it."""
    with serving(command, port, log):
        yield log
