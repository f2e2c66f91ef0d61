"""A browser answers when it has taken in what it was sent."""

import math
import time

from helpers.figures import serving
from m2n2lab.widgets.page import backpressure
from m2n2lab.widgets.page.backpressure import Backpressure


def test_a_browser_that_answers_ends_the_wait(page, monkeypatch):
    monkeypatch.setattr(backpressure, "ANSWER_TIMEOUT_SECONDS", math.inf)
    made = []

    def make():
        made.append(Backpressure())
        made[-1].request_answer()  # answered as soon as there is a browser
        return made[-1].pane

    with serving(make) as address:
        page.goto(address)
        page.wait_for_function("window.Bokeh?.documents.length > 0")
        last = made[-1]
        last.request_answer()
        end = time.monotonic() + 30
        while last.waiting:
            assert time.monotonic() < end
            page.wait_for_timeout(50)


def test_a_browser_that_does_not_answer_is_waited_for_but_not_for_ever(monkeypatch):
    unanswered = Backpressure()
    assert not unanswered.waiting
    unanswered.request_answer()
    assert unanswered.waiting
    monkeypatch.setattr(backpressure, "ANSWER_TIMEOUT_SECONDS", 0.0)
    assert not unanswered.waiting
