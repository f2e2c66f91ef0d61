"""The answers view: filters, counts, and texts from outside."""

from dataclasses import replace

import numpy as np
import pytest
from m2n2lab.widgets.html.texts import MAX_ANSWER_CHARS, MAX_TEXT_CHARS
from m2n2lab.widgets.session.snapshot import Snapshot
from m2n2lab.widgets.session.workbench import ANSWERS, Answer, Filter
from m2n2lab.widgets.views.answers import AnswersView

from m2n2lab import Evolver, tasks
from m2n2lab.analysis.merge_preview import bench_data
from m2n2lab.tasks import Sample
from m2n2lab.viz.theme import LIGHT

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\x1b[31m' + "x" * 100_000


def snapshot(classes, answers=(), matching=0):
    count = max(len(classes), 2)
    groups = np.arange(count) % len(classes)
    task = tasks.from_function(lambda m, at: m[at] > 0, count, classes=classes, groups=groups)
    evolver = Evolver(task, np.eye(2, count), rng=0)
    data = bench_data(evolver, evolver.ask(parents=(0, 1)))
    return Snapshot(phase="paused", bench=data, answers=answers, matching=matching)


def said(text, right, question=None):
    return Sample(3, "truth", text, right, text=question)


@pytest.fixture
def asked():
    """A view, and the filters that it asks for."""
    wanted = []
    return AnswersView(LIGHT, wanted.append), wanted


def test_a_filter_and_a_class_are_requested_together(asked):
    view, wanted = asked
    assert view.which.disabled
    view.update(snapshot(("cats", "dogs")))
    assert not view.which.disabled
    assert view.which.options == list(ANSWERS)
    assert list(view.group.options) == ["all classes", "cats", "dogs"]
    view.which.value = "A not B"
    view.group.value = view.group.options["dogs"]
    view.which.value = "all"
    view.group.value = view.group.options["all classes"]
    assert wanted == [Filter("A not B"), Filter("A not B", "dogs"), Filter("all", "dogs"), Filter()]


def test_a_task_of_one_class_has_no_choice_of_classes(asked):
    view, wanted = asked
    view.update(snapshot(("all",)))
    assert not view.group.visible
    view.update(snapshot(("cats", "dogs")))
    assert view.group.visible
    assert wanted == []


def test_the_number_of_matches_stands_beside_the_number_shown(asked):
    view, _ = asked
    answers = tuple(Answer(said("a", False), said("b", True), said("c", True)) for _ in range(24))
    view.update(snapshot(("all",), answers, 1_213))
    assert ">24 of 1,213 shown<" in view.count.object
    assert view.pane.object.count('<s class="a">a</s> <b class="b">b</b>') == 24
    view.update(snapshot(("all",), (), 5))
    assert ">0 of 5 shown<" in view.count.object
    assert "The task has no samples to show." in view.pane.object
    view.update(replace(snapshot(("all",)), answers=[]))
    assert "There are no such data points." in view.pane.object


def test_texts_from_outside_are_shown_as_text_and_shortened(asked):
    view, wanted = asked
    one = said(HOSTILE, False, HOSTILE)
    view.update(snapshot((HOSTILE, HOSTILE), (Answer(one, one, one),) * 24, 24))
    page = view.pane.object
    assert len(page) < 24 * (MAX_TEXT_CHARS + 4 * MAX_ANSWER_CHARS) * 6
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page
    # Two classes of one name can still be distinguished and chosen.
    options = view.group.options
    assert len(options) == 3
    assert all(len(name) <= 50 and "\x1b" not in name for name in options)
    view.group.value = options[list(options)[2]]
    assert wanted == [Filter("all", HOSTILE)]


def test_the_same_answers_are_not_drawn_again(asked):
    view, _ = asked
    shown = snapshot(("all",), (Answer(*[said("a", True)] * 3),), 1)
    view.update(shown)
    view.pane.object = "kept"
    view.update(replace(shown, note="other"))
    assert view.pane.object == "kept"


def drew(value, text="赤い円"):
    picture = np.full((4, 4, 3), value, np.float32)
    return Sample(0, "", f"{value:.2f}", value >= 0.5, image=picture, text=text)


def test_what_each_of_the_three_drew_stands_side_by_side_in_their_colours(asked):
    view, _ = asked
    view.update(snapshot(("all",), (Answer(drew(0.25), drew(0.5), drew(0.75)),), 1))
    page = view.pane.object
    for model, label in (("a", "A drew"), ("b", "B drew"), ("child", "child drew")):
        assert f'<img class="{model}" alt="{label}" src="data:image/png;base64,' in page
    assert "赤い円" in page
    assert '<s class="a">0.25</s>' in page
    # Small ones that open to large ones.
    assert page.count("<img") == 6
    assert page.index("<details") < page.index("</summary><p><img")
    view.update(snapshot(("all",), (Answer(*[drew(0.5)] * 3),), 1))
    assert view.pane.object.count("<img") == 1
