"""The benchmarks of the dashboard: what they conclude, and that they find their way on the page."""

import math
import random
import re
import subprocess
import sys

import dashboard_latency
import pytest
from actions import ACTIONS
from dashboard_soak import trend
from helpers.pages import INSIDE, ROOT, button, drawn, figure, logged, opened
from playwright.sync_api import expect

MINUTES = [k / 10 for k in range(101)]


def noise(size, seed=0):
    draw = random.Random(seed)
    return [draw.gauss(0, size) for _ in MINUTES]


def test_percentiles_are_values_that_occurred_and_no_answer_is_the_slowest():
    assert dashboard_latency.spread([5.0]) == (5.0, 5.0, 5.0)
    assert dashboard_latency.spread([float(k) for k in range(40, 0, -1)]) == (21.0, 39.0, 40.0)
    assert dashboard_latency.spread([1.0] * 39 + [math.inf]) == (1.0, 1.0, math.inf)
    assert dashboard_latency.spread([1.0] * 19 + [math.inf])[1:] == (math.inf, math.inf)


def test_a_shown_step_is_behind_by_the_steps_that_follow_it_at_the_speed_of_the_run():
    run = {"began": 1_000.0, "took": 80.0, "was": 100, "steps": 110}
    pause = {"began": 2_900.0, "took": 100.0, "was": 1_900, "steps": 2_100}
    # 2,000 steps in 2 seconds, and 200 of them were not yet shown.
    assert dashboard_latency.behind(run, pause) == pytest.approx(0.2)
    assert dashboard_latency.behind(run, {**pause, "steps": 100}) == 0.0


def test_a_search_alone_takes_its_time():
    took = dashboard_latency.alone([2, 4, 7])
    assert len(took) == 2
    assert min(took) > 0.0


def test_memory_that_only_shakes_is_flat():
    values = [500 + x for x in noise(3.0)]
    assert not trend(MINUTES, values, limit=1.0).grows


def test_memory_that_fills_up_in_the_first_half_is_flat():
    values = [400 + 100 * min(m / 4, 1) + x for m, x in zip(MINUTES, noise(1.0), strict=True)]
    found = trend(MINUTES, values, limit=1.0)
    assert not found.grows
    assert abs(found.slope) < 0.5


def test_a_leak_grows_by_what_leaks_whatever_a_few_peaks_say():
    values = [500 + 4 * m + x for m, x in zip(MINUTES, noise(1.0), strict=True)]
    values[55] += 300.0
    found = trend(MINUTES, values, limit=2.0)
    assert found.grows
    assert found.slope == pytest.approx(4.0, abs=0.3)
    assert found.low <= found.slope <= found.high
    assert not trend(MINUTES, values, limit=5.0).grows


def test_a_log_is_told_from_its_first_error_on(tmp_path):
    log = tmp_path / "log"
    log.write_text("m2n2lab is at http://localhost:1\n404 GET /static/none\n")
    assert logged(log) == []
    log.write_text("fine\nERROR: it broke\nTraceback (most recent call last):\n  here\n")
    assert logged(log) == [
        "log: ERROR: it broke",
        "log: Traceback (most recent call last):",
        "log:   here",
    ]


@pytest.fixture
def watched(page, lab):
    """A page with ten steps taken that the benchmarks can see into."""
    page.add_init_script(path=INSIDE)
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    return drawn(page, "LandscapeView")


@pytest.mark.slow
def test_every_action_of_the_soak_finds_something_to_do(watched):
    draw = random.Random(0)
    absent = [action.__name__ for action in ACTIONS if not action(watched, draw)]
    assert absent == []


@pytest.mark.slow
def test_clicks_are_timed_from_their_release_to_what_they_show(watched):
    assert watched.evaluate("inside.usable") > 0
    clicks = dashboard_latency.Clicks()
    clicks.make(watched, 1)
    assert {kind: len(took) for kind, took in clicks.took.items()} == dict.fromkeys(clicks.took, 1)
    for kind, took in clicks.took.items():
        assert 0 < clicks.heard[kind][0] <= took[0] < math.inf
    assert clicks.pairs.total() == 1
    assert len(clicks.behind) == 1


@pytest.mark.slow
def test_two_pages_clicked_at_random_for_a_minute_break_nothing():
    command = [sys.executable, ROOT / "benchmarks" / "dashboard_soak.py"]
    done = subprocess.run(
        [*command, "--minutes", "1", "--pages", "2"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^0 of \d+ searches go on", done.stdout, re.MULTILINE)
