"""The costs of large archives: the archives are what the table says, and the plot is a page."""

import re

import growth
import numpy as np
import pytest


@pytest.mark.parametrize("graded", [False, True], ids=["right or wrong", "graded"])
def test_most_children_of_a_measured_search_are_rejected(graded):
    row = growth.cost(20, 1_000, graded)
    assert (row.members, row.points, row.graded) == (20, 1_000, graded)
    assert 0.05 < row.accepted < 0.25
    archive, _ = growth.archive_of(20, 1_000, graded, np.random.default_rng(0))
    assert (len(archive), archive.points, archive.graded) == (20, 1_000, graded)


def test_the_plot_has_a_line_for_each_task_and_needs_no_network(tmp_path):
    page = tmp_path / "growth.html"
    growth.save_plot([growth.cost(5, 100, False, steps=1)], page)
    text = page.read_text("utf-8")
    assert "D = 100, right or wrong" in text
    assert not re.search(r"(src|href)=.?https?:", text.split("<body>")[0])
