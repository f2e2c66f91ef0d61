"""Replay of a lineage from the history, and the plots of a search in notebooks."""

import holoviews as hv
import numpy as np
import pytest

from m2n2lab import METHODS, Evolver, InputError, make_evolver
from m2n2lab.analysis.landscape import landscape_data
from m2n2lab.analysis.lineage import BINS, Lineage
from m2n2lab.analysis.lineage_arrays import painting_data
from m2n2lab.analysis.lineage_replay import retraced
from m2n2lab.viz.theme import LIGHT, painting_pixels, rgb_values, seed_colours

KNOWN = (
    *("id", "born", "died", "parent_a", "parent_b", "row_a", "row_b"),
    *("of_b", "active_children", "lane", "split", "mix", "score", "by_hand"),
)
"""All columns of a lineage."""


def searched(tiny, seeds, method="m2n2", steps=150):
    """Return a search after some steps, with a child by hand and an external one."""
    evolver = make_evolver(method, tiny, seeds, mutation=0.1, rng=4)
    observed = Lineage(evolver)
    evolver.subscribe(observed.observe)
    evolver.run(steps)
    a, b = evolver.archive.ids[:2]
    evolver.tell(evolver.ask(parents=(a, b), split=40, mix=0.2))
    evolver.tell(np.asarray(seeds[0]) * 1.5)
    return evolver.run(5), observed


def same(column, other, name):
    """Compare columns; the score of a displaced seed cannot be known."""
    if name == "score":
        other = np.where(np.isnan(column), np.nan, other)
    return np.array_equal(column, other, equal_nan=column.dtype.kind == "f")


@pytest.mark.parametrize("method", [m for m in METHODS if m != "map-elites"])
def test_a_retraced_lineage_equals_an_observed_one(tiny, tiny_seeds, method):
    evolver, observed = searched(tiny, tiny_seeds, method)
    found = retraced(evolver)
    for name in KNOWN:
        assert same(found.column(name), observed.column(name), name), name
    for id in evolver.archive.ids:
        np.testing.assert_array_equal(found.painting(id), observed.painting(id))
    assert [step for step, _ in found.moments()] == [step for step, _ in observed.moments()]
    assert found.now == evolver.generation


def test_after_loading_a_state_only_members_are_known(tiny, tiny_seeds):
    evolver, _ = searched(tiny, tiny_seeds)
    state = evolver.state_dict()
    evolver.run(3)
    evolver.load_state_dict(state)  # the history goes further than the search
    assert retraced(evolver).column("id").tolist() == list(evolver.archive.ids)
    assert not np.isnan(retraced(evolver).column("score")).any()


def test_a_search_that_has_not_begun_has_its_seeds(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds)
    assert retraced(evolver).column("id").tolist() == [0, 1]
    data = painting_data(evolver.archive, evolver.space.layout, retraced(evolver))
    for id, painting in zip(data.ids, data.shares, strict=True):
        assert (painting[:, id] == 1.0).all()


def test_paintings_are_strips_in_the_seeds_colours(tiny, tiny_seeds):
    evolver, _ = searched(tiny, tiny_seeds)
    data = painting_data(evolver.archive, evolver.space.layout, retraced(evolver))
    assert data.shares.shape == (len(evolver.archive), BINS, 3)
    np.testing.assert_allclose(data.shares.sum(axis=2), 1.0)
    assert evolver.archive.fitness[list(evolver.archive.ids).index(data.ids[0])] == max(
        evolver.archive.fitness
    )
    halves = np.zeros((BINS, 3))
    halves[:10, 0], halves[10:, 1] = 1.0, 1.0
    first, second, _ = rgb_values(tuple(seed_colours(LIGHT, 2)))
    pixels = painting_pixels(halves, LIGHT, height=3)
    assert (pixels[:, :10] == first).all()
    assert (pixels[:, 10:] == second).all()


def test_a_landscape_is_complete_and_its_corners_are_the_parents(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.1, rng=1).run(60)
    a, b = evolver.archive.ids[-2:]
    before = evolver.archive.standing
    data = landscape_data(evolver, a, b, cells=5)
    assert data.complete
    assert data.scores.shape == (5, 5)
    whole, none = data.scores[:, -1], data.scores[:, 0]
    assert whole[0] == none[-1] == pytest.approx(evolver.archive[a].score)
    assert whole[-1] == none[0] == pytest.approx(evolver.archive[b].score)
    assert evolver.archive.standing is before


@pytest.mark.parametrize("cells", [1, 4, 16])
def test_other_numbers_of_cells_are_refused(tiny, tiny_seeds, cells):
    with pytest.raises(InputError, match="cells must be"):
        landscape_data(Evolver(tiny, tiny_seeds), 0, 1, cells=cells)


def of_kind(plot, kind, place=0):
    """Return an element of a plot, which can be rendered."""
    hv.render(plot)
    return [element for element in plot if isinstance(element, kind)][place]


def pixels(plot, name):
    """Return the values of a plot's map, the uppermost row first."""
    return of_kind(plot, hv.Image).dimension_values(name, flat=False)[::-1]


@pytest.mark.slow
def test_every_plot_shows_the_present_state_of_a_search(tiny, tiny_seeds):
    evolver, observed = searched(tiny, tiny_seeds)
    plot, archive = evolver.plot, evolver.archive
    rows = np.argsort(-archive.fitness, kind="stable")
    ids = [archive.ids[row] for row in rows]

    worth = pixels(plot.coverage(), "worth")
    np.testing.assert_allclose(worth.sum(axis=1), archive.fitness[rows], rtol=1e-5)
    solved = pixels(plot.coverage("solved"), "worth")
    assert (solved.sum(axis=1) == archive.scores[rows].sum(axis=1)).all()

    attraction = pixels(plot.attraction(), "attraction")
    expected = archive.attraction()[np.ix_(rows, rows)]
    off = ~np.eye(len(rows), dtype=bool)
    np.testing.assert_allclose(attraction[off], expected[off])
    assert np.isnan(attraction[~off]).all()

    drawn = plot.curves()
    for name, value in {
        "covered": archive.coverage,
        "best, train": evolver.best.score,
        "best, held out": evolver.test,
    }.items():
        curve = next(c for c in drawn if c.vdims and c.vdims[0].name == name)
        assert curve.dimension_values("step").tolist() == list(range(evolver.generation + 1))
        assert curve.dimension_values(name)[-1] == pytest.approx(100 * value)

    strips = np.stack(
        [of_kind(plot.painting(), hv.RGB).dimension_values(c, flat=False)[::-1] for c in "RGB"], -1
    )
    painted = [painting_pixels(observed.painting(id), LIGHT.on_paper) for id in ids]
    np.testing.assert_array_equal(strips, np.concatenate(painted))

    a, b = archive.ids[:2]
    for drawn, chosen in ((plot.lineage(), evolver.best.id), (plot.lineage(a, whole=False), a)):
        lives = of_kind(drawn, hv.Segments, 1)
        live = lives.dimension_values("died") == "alive"
        assert set(lives.dimension_values("id")[live]) == set(archive.ids)
        (lane,) = of_kind(drawn, hv.Points, -1).dimension_values("lane")
        assert lives.dimension_values("y0")[lives.dimension_values("id") == chosen] == [lane]

    scores = pixels(plot.landscape(a, b, cells=3), "score")
    # Mix 1 is the uppermost row. Before a split at 0 there is nothing: mix 0 is all of B there.
    first, second = 100 * archive[a].score, 100 * archive[b].score
    assert scores[[-1, 0], [0, -1]] == pytest.approx(second)
    assert scores[[0, -1], [0, -1]] == pytest.approx(first)
