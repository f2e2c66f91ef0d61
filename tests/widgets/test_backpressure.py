"""A browser answers when it has taken in what it was sent."""

import math
import time

from helpers.figures import serving
from m2n2lab.widgets.page.backpressure import Pulse
from m2n2lab.widgets.page.template import backpressure as pulse


def test_a_browser_that_answers_keeps_nobody_waiting(page, monkeypatch):
    monkeypatch.setattr(pulse, "PATIENCE", math.inf)
    made = []

    def make():
        made.append(Pulse())
        made[-1].beat()  # answered as soon as there is a browser
        return made[-1].pane

    with serving(make) as address:
        page.goto(address)
        page.wait_for_function("window.Bokeh?.documents.length > 0")
        mine = made[-1]
        mine.beat()
        end = time.monotonic() + 30
        while mine.waiting:
            assert time.monotonic() < end
            page.wait_for_timeout(50)


def test_a_browser_that_does_not_answer_is_waited_for_but_not_for_ever(monkeypatch):
    mine = Pulse()
    assert not mine.waiting
    mine.beat()
    assert mine.waiting
    monkeypatch.setattr(pulse, "PATIENCE", 0.0)
    assert not mine.waiting
