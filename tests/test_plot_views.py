"""Views of the page: they are refreshed in place, and send what has changed and no more."""

import numpy as np
import pytest
from figures import drawn, same, tick_names, watched
from m2n2lab.widgets.snapshot import Snapshot
from m2n2lab.widgets.views import CurvesView, NichesView

from m2n2lab import Evolver
from m2n2lab.plots import curves_data, niches_data, niches_geometry
from m2n2lab.theme import LIGHT


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


def test_only_what_has_changed_is_sent(evolver):
    snapshot = niches(evolver)
    view = NichesView(LIGHT)
    view.update(snapshot)
    sent = watched(view)
    view.update(Snapshot(niches=snapshot.niches._replace(ids=(*range(6),)), size=6))
    sent.clear()  # from here on everything is in the form in which it travels
    fitter = snapshot.niches.fitness * [3, 1, 1, 1, 1, 1]
    view.update(Snapshot(niches=snapshot.niches._replace(fitness=fitter, ids=(*range(6),)), size=6))
    assert sent == [(view.handles["Rectangles"]["source"], {"right"})]
    sent.clear()
    view.update(Snapshot(niches=snapshot.niches._replace(fitness=fitter), size=6))
    assert sent == [(view.handles["Image"]["plot"].yaxis[0].formatter, "code")]


def test_short_columns_travel_in_the_message_and_long_ones_in_single_precision(evolver):
    view = CurvesView(LIGHT)
    view.update(Snapshot(curves=curves_data(evolver.records, 10)))
    source = drawn(view)("covered")
    view.update(Snapshot(curves=curves_data(evolver.run(5).records, 10)))
    assert all(isinstance(column, list) for column in source.values())
    view.update(Snapshot(curves=curves_data(evolver.records)))
    assert {column.dtype for column in source.values()} == {np.dtype(np.float32)}
    same(source, curves_data(evolver.records).lines())


def test_all_curves_read_one_source(evolver):
    view = CurvesView(LIGHT)
    view.update(Snapshot(curves=curves_data(evolver.records)))
    sent = watched(view)
    curves = curves_data(evolver.run(5).records)
    view.update(Snapshot(curves=curves))
    figure = view.handles["covered"]["plot"]
    assert len({renderer.data_source for renderer in figure.renderers}) == 1
    assert {renderer.glyph.y for renderer in figure.renderers} == set(curves.lines())
    assert [model for model, _ in sent] == [figure.renderers[0].data_source, figure.x_range]
