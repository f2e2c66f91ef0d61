"""A drawing, read by every member; and the equations, while a page shows them."""

import numpy as np
import pytest
from helpers.sessions import PATIENCE, wait_for
from m2n2lab.widgets.members.sketch import SIDE, SketchView, readings_html
from m2n2lab.widgets.session.readings import readings_data, reads_drawings
from m2n2lab.widgets.session.session import Session
from m2n2lab.widgets.session.snapshot import Snapshot
from m2n2lab.widgets.session.workbench import FormulaRequest
from m2n2lab.widgets.views.formula import FormulaView

from m2n2lab import Evolver, InputError, tasks
from m2n2lab.viz.theme import LIGHT


@pytest.fixture(scope="module")
def evolver(digits):
    evolver = Evolver(digits, digits.trained_seeds(rng=0), mutation=0.0, rng=0)
    evolver.run(300)
    return evolver


def enlarged(digits, point, room=6):
    """A data point of the digits as a drawing of another size, with room around it."""
    ink = np.kron(digits.training[0][point].numpy().reshape(8, 8), np.full((3, 3), 15.9))
    canvas = np.zeros((SIDE, SIDE))
    canvas[room : room + 24, 2:26] = ink
    return canvas


@pytest.mark.parametrize("room", [0, 3, 8])
def test_a_drawing_is_read_as_the_data_point_that_it_is_wherever_it_was_drawn(
    evolver, digits, room
):
    points = range(0, 1_400, 70)
    x = np.array([digits.from_drawing(enlarged(digits, point, room)) for point in points])
    model = evolver.space.materialise(evolver.best.genome)
    drawn = digits.probabilities(model, x).argmax(axis=1)
    own = digits.probabilities(model, digits.training[0][list(points)].numpy()).argmax(axis=1)
    assert np.mean(drawn == own) >= 0.8
    assert x.max() == digits.training[0].max()
    assert x.min() == 0.0


def test_every_member_says_what_it_reads_and_the_child_too(evolver, digits):
    parents = evolver.archive.ids[:2]
    proposal = evolver.ask(parents=parents, split=9_605, mix=0.5)
    ink = [int(x) for x in enlarged(digits, 3).ravel()]
    data = readings_data(evolver, ink, parents, evolver.breed(proposal))
    assert data.chances.shape == (len(evolver.archive), 10)
    assert data.chances.sum(axis=1) == pytest.approx(1.0)
    assert data.child.sum() == pytest.approx(1.0)
    fitness = dict(zip(evolver.archive.ids, evolver.archive.fitness, strict=True))
    assert list(data.ids) == sorted(fitness, key=lambda each: -fitness[each])
    assert sum(count for _, count in data.votes) == len(data.ids)
    html = readings_html(data, dark=False)
    assert html.count("<li") == len(data.ids) + 1
    assert html.index(f">A {parents[0]}<") < html.index(f">B {parents[1]}<") < html.index(">child<")


def test_only_tasks_with_pictures_read_drawings(evolver, digits, tiny, tiny_seeds):
    assert reads_drawings(digits)
    assert not reads_drawings(tiny)
    assert not reads_drawings(tasks.from_function(lambda w, i: i > 1, 4))
    assert readings_data(Evolver(tiny, tiny_seeds), [1] * 64) is None
    assert readings_data(evolver, [0] * SIDE**2) is None
    for ink in ([1] * 3, [1] * 65**2):
        with pytest.raises(InputError, match="A drawing must be a square"):
            readings_data(evolver, ink)
    with pytest.raises(InputError, match="draw something first"):
        digits.from_drawing(np.zeros((8, 8)))


def test_members_read_and_equations_are_computed_only_while_a_page_shows_that(digits):
    session = Session(lambda: Evolver(digits, digits.trained_seeds(rng=0), mutation=0.0, rng=0))
    session.start()
    try:
        wait_for(session, lambda s: s.bench and s.reads)
        sketch = SketchView(LIGHT, session.orders.view_sketch)
        formula = FormulaView(LIGHT, session.orders.view_formula)
        assert (session.snapshot.readings, session.snapshot.formula) == (None, None)
        sketch.sketch.ink = [int(x) for x in enlarged(digits, 3).ravel()]
        formula.opened.value = "point:17"
        there = wait_for(session, lambda s: s.readings and s.formula)
        sketch.update(there)
        formula.update(there)
        assert "Of 2 members" in sketch._html.object
        assert there.formula.point.point == formula.point.value == 17
        assert formula._html.object.index("Data point 17") < formula._html.object.index("Weight ")
        formula.weight.value = 3  # typed
        there = wait_for(session, lambda s: s.formula.weight.index == 3)
        assert there.formula.point.point == 17
        session.orders.command("merge")  # the numbers follow the archive
        now = wait_for(session, lambda s: s.step == 1 and len(s.readings.ids) == 3)
        assert now.formula.point.child is None
        assert len(now.formula.point.ids) == 3
        sketch.request(False)
        formula.opened.value = ""
        wait_for(session, lambda s: s.readings is None and s.formula is None)
    finally:
        session.close()
        assert session.join(PATIENCE)


def test_a_dialog_that_is_closed_asks_for_nothing():
    asked = []
    view = FormulaView(LIGHT, asked.append)
    view.opened.value = "pair"
    assert asked == [FormulaRequest()]
    view.opened.value = ""
    assert asked[-1] is None
    view.update(Snapshot())
