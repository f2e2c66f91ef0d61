"""Tooltips of the plots in a real browser."""

from dataclasses import replace

import holoviews as hv
import numpy as np
import panel as pn
import pytest
from helpers.figures import serving, tooltip_at
from helpers.pages import PATIENCE, PIXEL
from m2n2lab.widgets.session.snapshot import MEMBER_FIELDS, Snapshot
from m2n2lab.widgets.views.landscape import LandscapeView
from m2n2lab.widgets.views.lineage import LineageView, SharesView
from m2n2lab.widgets.views.maps import AttractionView, CurvesView, NichesView
from playwright.sync_api import expect

from m2n2lab import Evolver, tasks
from m2n2lab.analysis.landscape import Landscape
from m2n2lab.analysis.lineage import Lineage
from m2n2lab.analysis.lineage_arrays import lineage_data, shares_data
from m2n2lab.analysis.maps import NICHE_MODES, attraction_data, curves_data, niches_data
from m2n2lab.analysis.merge_preview import bench_data
from m2n2lab.viz.draw_maps import class_ticks, draw_niches, niche_tooltip
from m2n2lab.viz.theme import DARK, LIGHT

CLASSES = ("<b>x</b>", "<img src=x onerror=alert(1)>", "c", "d")


@pytest.fixture
def evolver(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)
    evolver.lineage = Lineage(evolver)
    evolver.subscribe(evolver.lineage.observe)
    return evolver.run(60)


def moment(evolver, cells=0):
    """Return a snapshot with a landscape of which some cells are evaluated."""
    best, archive = evolver.best.id, evolver.archive
    a, b = evolver.ask(parents=(best, None)).parents
    landscape = Landscape(evolver, (a, b), cells=5)
    for _ in range(cells):
        landscape.advance()
    niches = niches_data(archive, evolver.task)
    return Snapshot(
        niches=niches._replace(classes=CLASSES, names=[f"<i>{k}</i>" for k in range(60)]),
        attraction=attraction_data(archive, evolver.task)._replace(classes=CLASSES),
        landscape=landscape.data(),
        curves=curves_data(evolver),
        lineage=lineage_data(evolver.lineage, best),
        shares=shares_data(evolver.lineage),
        bench=bench_data(evolver, evolver.ask(parents=(a, b))),
        size=archive.size,
    )


class Stage:
    """The views of the page that was opened last, which can show another snapshot."""

    def __init__(self):
        self.first = None  # the snapshot when a page is opened

    def make(self):
        self.views = {
            "niches": NichesView(DARK),
            "attraction": AttractionView(DARK, print),
            "landscape": LandscapeView(DARK, print),
            "curves": CurvesView(DARK),
            "lineage": LineageView(DARK, print),
            "shares": SharesView(DARK),
        }
        self._document, self._count, self.shown = pn.state.curdoc, pn.pane.HTML(""), 0
        pn.state.onload(lambda: self._update(self.first))
        panes = (pn.Column(view.pane, width=600, height=300) for view in self.views.values())
        return pn.Column(self._count, *panes)

    def _update(self, snapshot):
        for name, view in self.views.items():
            view.update(getattr(snapshot, name) if name in MEMBER_FIELDS else snapshot)
        self.shown += 1
        self._count.object = f'<p data-testid="moment">{self.shown}</p>'

    def show(self, page, snapshot):
        count = str(self.shown + 1)
        self._document.add_next_tick_callback(lambda: self._update(snapshot))
        expect(page.get_by_test_id("moment")).to_have_text(count)


@pytest.fixture(scope="module")
def stage():
    stage = Stage()
    with serving(stage.make) as stage.address:
        yield stage


@pytest.fixture
def hovered(page, stage, evolver):
    """A page with all views that have tooltips."""
    stage.first = moment(evolver, 9)
    page.set_viewport_size({"width": 700, "height": 2000})
    page.goto(stage.address)
    expect(page.get_by_test_id("moment")).to_have_text("1", timeout=PATIENCE)
    page.locator("canvas").nth(5).wait_for()
    return page


def number(value):
    """Return a number as the tooltips write it."""
    return f"{value:.1f}" if value >= 1 else f"{value:#.2g}"


@pytest.mark.slow
def test_the_tooltip_of_an_attraction_names_its_worth_and_main_class(hovered, stage, evolver):
    def check():
        data = attraction_data(evolver.archive, evolver.task)
        scores = evolver.archive.scores[np.argsort(-evolver.archive.fitness, kind="stable")]
        order = np.argsort(np.nan_to_num(data.worth), axis=None)
        for cell in (order[-1], 14):
            a, b = divmod(int(cell), 6)
            tooltip = tooltip_at(hovered, "AttractionView", b + 0.5, 5.5 - a)
            if a == b:
                expect(tooltip).to_contain_text(f"{data.ids[a]} meets itself.")
                continue
            gain = np.maximum(scores[b] - scores[a], 0) * evolver.archive.weights
            by_class = np.bincount(evolver.task.groups, gain)
            best = int(by_class.argmax())
            expect(tooltip).to_contain_text(
                f"{data.ids[b]} solves what {data.ids[a]} gets wrong, worth {number(gain.sum())}"
            )
            expect(tooltip).to_contain_text(f"class {CLASSES[best]}")
            if by_class[best] < 0.999 * gain.sum():
                expect(tooltip).to_contain_text(f"({number(by_class[best])})")

    check()
    evolver.run(20)
    stage.show(hovered, moment(evolver))
    check()  # of newer members, without a new plot
    # Without attraction.
    snapshot = moment(evolver)
    worth = np.zeros((6, 6))
    stage.show(hovered, replace(snapshot, attraction=snapshot.attraction._replace(worth=worth)))
    a, b = snapshot.attraction.ids[0], snapshot.attraction.ids[5]
    tooltip = tooltip_at(hovered, "AttractionView", 5.5, 5.5)
    expect(tooltip).to_have_text(f"{b} solves nothing that {a} gets wrong.")


@pytest.mark.slow
def test_the_tooltip_of_a_niche_names_its_solvers_and_its_worth(hovered, stage, evolver):
    data = niches_data(evolver.archive, evolver.task)
    solved = data.scores > 0
    others = solved.sum(axis=0) - solved
    alone, shared = np.argwhere(solved & (others == 0))[0], np.argwhere(solved & (others > 0))[0]
    missed, nobody = (
        np.argwhere(~solved & (others > 0))[-1],
        np.argwhere(~solved & (others == 0))[0],
    )
    k = int(others[tuple(shared)])
    m = int(others[tuple(missed)])
    cases = {
        tuple(alone): "Nobody else does: worth 1.0 to it.",
        tuple(
            shared
        ): f"So do {'all' if k == 5 else f'{k} of 5'} others: worth {number(1 / (k + 1))} to it.",
        tuple(missed): f"{m} of 6 do: worth {number(1 / m)} to each.",
        tuple(nobody): "Nobody does.",
    }
    for mode in NICHE_MODES:
        stage.views["niches"].mode = mode
        stage.show(hovered, moment(evolver))
        for (row, column), rest in cases.items():
            tooltip = tooltip_at(hovered, "NichesView", column + 0.5, 5.5 - row)
            point = data.points[column]
            does = "solves" if solved[row, column] else "does not solve"
            group = CLASSES[evolver.task.groups[point]]
            expect(tooltip).to_contain_text(
                f"Member {data.ids[row]} {does} data point <i>{point}</i>, class {group}."
            )
            expect(tooltip).to_contain_text(rest)
    weak = data._replace(classes=("all",), worth=0.4 * data.worth, edges=data.edges[[0, -1]])
    stage.views["niches"].mode = "worth"
    stage.show(hovered, replace(moment(evolver), niches=weak))  # graded, without classes
    tooltip = tooltip_at(hovered, "NichesView", shared[1] + 0.5, 5.5 - shared[0])
    point = data.points[shared[1]]
    expect(tooltip).to_contain_text(
        f"{data.ids[shared[0]]} scores 0.40 on data point <i>{point}</i>."
    )
    expect(tooltip).to_contain_text(f": worth {number(0.4 / (k + 1))} to it.")


@pytest.mark.slow
def test_the_tooltip_of_a_landscape_names_split_mix_score_and_whether_it_was_evaluated(
    hovered, stage, evolver
):
    size = evolver.space.size
    data = moment(evolver, 9).landscape  # every other cell of 5 × 5
    half = f"{size // 2:,}"
    tooltip = tooltip_at(hovered, "LandscapeView", 0.5, 1.0)
    expect(tooltip).to_contain_text(f"Split at {half} (50\u00a0%), mix 1.00: ")
    expect(tooltip).to_contain_text(f"{100 * data.scores[4, 2]:.1f}\u00a0%")
    expect(tooltip).to_contain_text("100\u00a0% B before the split, 0\u00a0% B after it.")
    expect(tooltip).not_to_contain_text("Not evaluated")
    tooltip = tooltip_at(hovered, "LandscapeView", 0.25, 0.5)
    expect(tooltip).to_contain_text("Not evaluated yet: the score of a cell nearby.")
    # Its corners are the parents: the mix is B's share before the split.
    for split, mix, parent in ((1, 0, "A"), (0, 1, "A"), (1, 1, "B"), (0, 0, "B")):
        tooltip = tooltip_at(hovered, "LandscapeView", split, mix)
        expect(tooltip).to_contain_text(f"This is {parent} itself.")
    stage.show(hovered, moment(evolver, 0))
    expect(tooltip_at(hovered, "LandscapeView", 0.25, 0.5)).to_contain_text("not evaluated yet")


@pytest.mark.slow
def test_the_tooltip_of_a_life_names_parents_birth_and_end(hovered, stage, evolver):
    data = lineage_data(evolver.lineage, evolver.best.id)
    length = data.ended - data.born
    for place in (int(np.argmax(length * data.alive)), int(np.argmax(length * ~data.alive))):
        middle = float(data.born[place] + data.ended[place]) / 2
        tooltip = tooltip_at(hovered, "LineageView", middle, data.lanes - data.lane[place] - 0.5)
        expect(tooltip).to_contain_text(f"Member {data.ids[place]}, ")
        a, b = data.parents[place]
        origin = f"child of {a} × {b}" if a >= 0 else "a seed"
        expect(tooltip).to_contain_text(origin)
        end = "alive" if data.alive[place] else f"died at {data.ended[place]}"
        expect(tooltip).to_contain_text(f"Born at step {data.born[place]}, {end};")


@pytest.mark.slow
def test_tooltips_escape_texts_from_outside_and_have_the_colours_of_the_theme(
    hovered, stage, evolver
):
    data = niches_data(evolver.archive, evolver.task)
    for group in (0, 1):
        column = int(data.edges[group])
        expect(tooltip_at(hovered, "NichesView", column + 0.5, 3.5)).to_contain_text(CLASSES[group])
    assert hovered.locator(".bk-tooltip-content img, .bk-tooltip-content i").count() == 0
    colours = """element => [getComputedStyle(element).backgroundColor,
                             getComputedStyle(element).color]"""
    box = hovered.locator(".bk-Tooltip", has=hovered.locator(".bk-tooltip-content"))
    assert box.evaluate(colours) == ["rgb(28, 30, 34)", "rgb(242, 242, 242)"]


RANGES = """() => Bokeh.documents.flatMap(document => [...document.all_models])
    .filter(model => model.type === "Figure")
    .map(({name, x_range: x, y_range: y}) => [name, x.start, x.end, y.start, y.end])"""


@pytest.mark.slow
def test_neither_the_wheel_nor_a_drag_moves_a_plot(hovered, evolver):
    before = hovered.evaluate(RANGES)
    assert len(before) == 6
    for name, left, right, low, high in before:
        x, y = hovered.evaluate(PIXEL, [name, (left + right) / 2, (low + high) / 2])
        hovered.mouse.move(x, y)
        hovered.mouse.wheel(0, 120)
        hovered.mouse.down()
        hovered.mouse.move(x + 60, y + 40, steps=4)
        hovered.mouse.up()
    hovered.wait_for_timeout(300)
    assert hovered.evaluate(RANGES) == before


def test_hostile_names_of_classes_are_short_text_under_the_niches(tiny, tiny_seeds):
    hostile = "<script>alert(1)</script>", "\x1b[31mred\x07", "x" * 100_000, "four"
    task = tasks.from_function(tiny.score, tiny.points, classes=hostile, groups=tiny.groups)
    evolver = Evolver(task, task.space(tiny_seeds), archive_size=4, mutation=0.1, rng=0).run(5)
    data = niches_data(evolver.archive, task)
    names = [name for _, name in class_ticks(data)]
    assert names[0] == "<script>aler…1)</script>"
    assert names[1] == "\ufffd[31mred\ufffd"
    assert names[3] == "four"
    assert all(len(name) <= 24 for name in names)
    for name in niche_tooltip(data, "worth")["classes"][0]:
        assert len(name) <= 80
        assert "\x1b" not in name
    figure = hv.render(draw_niches(data, 4, LIGHT))
    code = figure.below[0].formatter.code
    assert len(code) < 1_000  # drawn on a canvas, as text
    assert "\\ufffd[31mred" in code
