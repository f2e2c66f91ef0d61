"""What tests of the dashboard in a browser share; most of it serves the benchmarks too."""

from browsing import (
    PATIENCE,
    ROOT,
    answers,
    button,
    click_at,
    figure,
    free_port,
    opened,
    serving,
    steps,
)

__all__ = [
    "PATIENCE",
    "ROOT",
    "SECTIONS",
    "answers",
    "button",
    "click_at",
    "figure",
    "free_port",
    "opened",
    "served",
    "steps",
]

SECTIONS = ("Niches", "Attraction", "Merge bench", "Progress", "Landscape", "Answers")


def served(command, port, log):
    """Start a server, wait until it answers, yield its log, end it."""
    with serving(command, port, log):
        yield log
