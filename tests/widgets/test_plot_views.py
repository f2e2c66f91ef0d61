"""Views of the page: they are refreshed in place, and send what has changed and no more."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from helpers.figures import drawn, same, tick_names, watched
from m2n2lab.widgets.session.snapshot import Snapshot
from m2n2lab.widgets.session.workbench import Choice
from m2n2lab.widgets.views.landscape import LandscapeView
from m2n2lab.widgets.views.maps import ORDERS, AttractionView, CurvesView, NichesView

from m2n2lab import Evolver
from m2n2lab.analysis.landscape import Landscape
from m2n2lab.analysis.maps import (
    attraction_data,
    cluster_order,
    curves_data,
    niches_data,
    niches_geometry,
)
from m2n2lab.analysis.merge_preview import bench_data
from m2n2lab.viz.draw_landscape import best_cell
from m2n2lab.viz.draw_maps import start_columns
from m2n2lab.viz.theme import LIGHT


@pytest.fixture
def evolver(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1).run(60)


def niches(evolver):
    return Snapshot(niches=niches_data(evolver.archive, evolver.task), size=evolver.archive.size)


def test_a_niche_map_shows_newer_members_in_place(evolver):
    view = NichesView(LIGHT)
    view.update(niches(evolver))
    source = drawn(view)
    evolver.run(100)
    view.update(niches(evolver))
    data = niches_data(evolver.archive, evolver.task)
    around = niches_geometry(data, 6)
    same(source("Image"), {"image": [data.worth[::-1]]})
    bars = around.bars
    same(source("Rectangles"), {"left": bars["x0"], "right": bars["x1"], "top": bars["y1"]})
    # An area is a polygon: its upper edge, then two corners below it.
    x, top, base = around.crowd.values()
    np.testing.assert_allclose(source("Area")["y"], [*top, base[0], base[0]], rtol=1e-6)
    assert list(source("Area")["x"]) == [*x, x[-1], 0]
    names = tick_names(view.handles["Image"]["plot"].yaxis[0])
    assert [names[place] for place in sorted(names, reverse=True)] == list(map(str, data.ids))


def test_a_column_that_no_mark_has_is_refused(evolver):
    view = NichesView(LIGHT)
    view.update(niches(evolver))
    drawn(view)
    with pytest.raises(KeyError, match=r"got \['size'\]"):
        view.fill("Rectangles", left=[0.0], size=[1.0])


def test_the_landscape_marks_the_split_and_mix_of_the_bench_and_the_best_cell(evolver):
    view = LandscapeView(LIGHT, lambda split, mix: None)
    pair = evolver.archive.ids[:2]
    mapped = Landscape(evolver, pair, cells=5)

    def show(split, mix):
        bench = bench_data(evolver, evolver.ask(parents=pair, split=split, mix=mix))
        view.update(Snapshot(bench=bench, landscape=mapped.data()))

    for _ in range(4):
        mapped.advance()
    show(41, 0.5)
    source = drawn(view)
    renderer = view.handles["bench"]["glyph_renderer"]
    for split, mix in ((20, 0.34), (82, 1.0), (0, 0.0)):
        show(split, mix)
        column = source("bench")
        assert (column[renderer.glyph.x], column[renderer.glyph.y]) == ([split / 82], [mix])
    while mapped.advance():
        pass
    show(41, 0.5)
    best = best_cell(mapped.data())
    glyph = view.handles["best"]["glyph_renderer"].glyph
    assert {"x": source("best")[glyph.x], "y": source("best")[glyph.y]} == best


def test_only_what_has_changed_is_sent(evolver):
    data = niches_data(evolver.archive, evolver.task)
    view = NichesView(LIGHT)
    view.update(Snapshot(niches=data, size=6))
    sent = watched(view)
    view.update(Snapshot(niches=data._replace(ids=(*range(6),)), size=6))
    sent.clear()  # from now on all columns are in the form in which they are sent
    fitter = data._replace(fitness=data.fitness * [3, 1, 1, 1, 1, 1], ids=(*range(6),))
    view.update(Snapshot(niches=fitter, size=6))
    assert sent == [(view.handles["Rectangles"]["source"], {"right"})]
    sent.clear()
    view.update(Snapshot(niches=fitter._replace(ids=data.ids), size=6))
    image = view.handles["Image"]
    renamed = {"ids", "members"}
    assert sent == [(image["source"], renamed), (image["plot"].yaxis[0].formatter, "code")]


def attraction(evolver, pair=None):
    """Return a snapshot, with a pair on its bench if one is given."""
    bench = bench_data(evolver, evolver.ask(parents=pair)) if pair else None
    return replace(
        niches(evolver), attraction=attraction_data(evolver.archive, evolver.task), bench=bench
    )


@pytest.mark.parametrize("order", ORDERS)
def test_a_click_on_a_cell_picks_its_pair_and_frames_it_in_both_orders(evolver, order):
    picked = []
    view = AttractionView(LIGHT, lambda *pair: picked.append(pair))
    ids = niches_data(evolver.archive, evolver.task).ids
    a, b = ids[1], ids[4]
    snapshot = attraction(evolver, (a, b))
    view.update(snapshot)
    source = drawn(view)
    view.order.value = order
    figure = view.handles["Image"]["plot"]
    rows = {int(name): place for place, name in tick_names(figure.yaxis[0]).items()}
    columns = {int(name): place for place, name in tick_names(figure.xaxis[0]).items()}
    view.picked(float(a), float(b))
    assert picked == [(a, b)]
    # A's row, B's column, and between them the worth of their meeting.
    assert list(source("pair")["line_color"]) == [LIGHT.parent_a, LIGHT.parent_b]
    assert source("pair")["bottom"][0] == rows[a] - 0.5
    assert source("pair")["left"][1] == columns[b] - 0.5
    shown = source("Image")["image"][0][int(rows[a]), int(columns[b])]
    expected = snapshot.attraction.worth[1, 4]
    assert shown == pytest.approx(expected)
    assert f'"attracted">{expected:.1f}<' in view.sentence.object
    clustered = tuple(ids[row] for row in cluster_order(snapshot.niches.scores))
    assert tuple(sorted(columns, key=columns.get)) == (clustered if order == "clustered" else ids)


def test_the_frames_follow_the_choice_before_the_bench_does_and_come_again_after_a_pick(evolver):
    ids = niches_data(evolver.archive, evolver.task).ids
    choices = [Choice()]
    view = AttractionView(LIGHT, lambda *pair: None, lambda: choices[-1])
    snapshot = attraction(evolver, (ids[1], ids[4]))
    view.update(snapshot)
    drawn(view)
    view.update(snapshot)
    sent = watched(view)
    choices.append(Choice(ids[2], ids[3]))
    view.picked(ids[2], ids[3])
    view.update(snapshot)  # which the worker took before it heard of the choice
    ((source, columns),) = sent
    assert columns == {"left", "right", "bottom", "top", "line_color"}  # the page has moved them
    assert source.data["bottom"][0] == len(ids) - 3
    assert source.data["left"][1] == 3
    view.update(replace(snapshot, step=9))
    assert len(sent) == 1
    choices.append(Choice())
    view.picked(ids[2], ids[3])  # refused, as where the page looks at the past
    view.update(snapshot)
    assert source.data["bottom"][0] == len(ids) - 2


def test_members_are_clustered_once_for_each_matrix_and_only_when_asked(evolver, monkeypatch):
    calls = []

    def counted(scores):
        calls.append(len(scores))
        return cluster_order(scores)

    monkeypatch.setattr("m2n2lab.widgets.views.maps.cluster_order", counted)
    view = AttractionView(LIGHT, print)
    snapshot = attraction(evolver)
    view.update(snapshot)
    drawn(view)
    assert calls == []
    view.order.value = "clustered"
    view.update(snapshot)
    assert calls == [6]


def test_short_columns_travel_in_the_message_and_long_ones_in_single_precision(evolver):
    view = CurvesView(LIGHT)
    view.update(Snapshot(curves=curves_data(evolver, 10)))
    source = drawn(view)("covered")
    first = dict(source)
    view.update(Snapshot(curves=curves_data(evolver.run(5), 10)))
    sent = [column for name, column in source.items() if column is not first[name]]
    assert len(sent) > 4  # a class may be where it was
    assert all(isinstance(column, list) for column in sent)
    view.update(Snapshot(curves=curves_data(evolver)))
    assert {column.dtype for column in source.values()} == {np.dtype(np.float32)}
    same(source, curves_data(evolver).lines())


def test_all_curves_read_one_source(evolver):
    view = CurvesView(LIGHT)
    view.update(Snapshot(curves=curves_data(evolver)))
    sent = watched(view)
    curves = curves_data(evolver.run(5))
    view.update(Snapshot(curves=curves))
    figure = view.handles["covered"]["plot"]
    lines = [r for r in figure.renderers if type(r.glyph).__name__ == "Line"]
    assert {line.glyph.y for line in lines} == set(curves.lines())
    assert {line.data_source for line in lines} == {view.handles["covered"]["source"]}
    assert [model for model, _ in sent] == [lines[0].data_source, figure.x_range]


def test_before_the_first_step_the_curves_are_dots(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)
    view = CurvesView(LIGHT)
    view.update(Snapshot(curves=curves_data(evolver)))
    source = drawn(view)
    for name, columns in start_columns(curves_data(evolver), LIGHT).items():
        same(source(name), columns)
    assert len(source("start")["value"]) == 4 + len(tiny.classes)
    view.update(Snapshot(curves=curves_data(evolver.run(12))))
    assert not any(len(column) for name in ("start", "waiting") for column in source(name).values())
    assert view.handles["start"]["plot"].x_range.end == 12


def test_a_view_out_of_use_is_freed_with_all_that_it_drew(evolver):
    view = AttractionView(LIGHT, lambda *pair: None)
    view.update(attraction(evolver))
    kept = weakref.ref(view), weakref.ref(view.pane.object)
    del view
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
