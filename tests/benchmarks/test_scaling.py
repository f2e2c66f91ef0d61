"""The simulation of many workers, on cases that can be worked out by hand."""

import re

import pytest
import scaling


def test_a_generation_waits_for_its_slowest_and_asynchronous_workers_do_not():
    durations = [3.0, 1.0, 1.0, 1.0]
    assert scaling.generational(durations, 2, 0.0) == 3.0 + 1.0
    assert scaling.asynchronous(durations, 2, 0.0) == 3.0
    for way in (scaling.generational, scaling.asynchronous):
        assert way(durations, 1, 0.5) == 6.0 + 4 * 0.5
        assert way(durations, 9, 0.0) == 3.0


def test_what_happens_in_one_place_limits_many_workers():
    # One after the other is told in 0.5 s, so the last of four starts at 2 s.
    assert scaling.asynchronous([1.0] * 4, 4, 0.5) == 3.0
    assert scaling.generational([1.0] * 4, 4, 0.5) == 3.0


def test_the_table_has_the_same_work_for_any_number_of_workers():
    rows = scaling.simulated(spread=0.5, overhead=0.0, evaluations=2_000)
    assert [row[0] for row in rows] == list(scaling.WORKERS)
    for workers, fast, slow, busy, idle in rows:
        assert fast <= slow * (1 + 1e-9)
        assert busy * workers * fast == pytest.approx(idle * workers * slow)
    assert rows[0][3] == pytest.approx(1.0)


def test_the_plot_is_a_page_that_needs_no_network(tmp_path):
    page = tmp_path / "scaling.html"
    scaling.save_plot({0.5: scaling.simulated(0.5, 0.0, evaluations=2_000)}, page)
    text = page.read_text("utf-8")
    assert "asynchronous, spread 0.50" in text
    assert not re.search(r"(src|href)=.?https?:", text.split("<body>")[0])
