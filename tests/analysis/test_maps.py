from itertools import combinations

import holoviews as hv
import numpy as np
import pytest
from helpers.figures import tick_names

from m2n2lab import Archive, Evolver, InputError
from m2n2lab.analysis.landscape import Landscape
from m2n2lab.analysis.maps import (
    attraction_data,
    cluster_order,
    curves_data,
    niches_data,
    niches_geometry,
)
from m2n2lab.core.history import COLUMNS, History
from m2n2lab.tasks import from_function
from m2n2lab.viz.draw_landscape import corners, draw_landscape
from m2n2lab.viz.draw_maps import draw_niches, start_columns
from m2n2lab.viz.theme import DARK, LIGHT, ramp

# Three members on five data points of two classes.
SCORES = np.array([[1, 0, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 1, 0]], dtype=bool)
TASK = from_function(lambda model, where: where >= 0, 5, classes="ab", groups=[0, 1, 0, 1, 1])


@pytest.fixture
def archive():
    archive = Archive(5, size=3)
    for id, scores in enumerate(SCORES):
        archive.add(id, None, scores)
    return archive


def test_columns_are_grouped_by_class_and_sorted_by_solvers(archive):
    data = niches_data(archive, TASK)
    # z = 3 1 1 1 0; class a: points 0 and 2; class b: points 1, 3, 4.
    assert data.points.tolist() == [0, 2, 1, 3, 4]
    assert data.crowd.tolist() == [3, 1, 1, 1, 0]
    assert data.edges.tolist() == [0, 2, 5]


def test_rows_are_the_fittest_first_and_equals_the_oldest_first(archive):
    data = niches_data(archive, TASK)
    # Each member: a third of point 0 and all of a point of its own.
    assert data.fitness == pytest.approx([4 / 3] * 3)
    assert data.ids == (0, 1, 2)


def test_a_point_is_worth_its_share_and_only_one_shows_sole_solvers(archive):
    data = niches_data(archive, TASK)
    np.testing.assert_allclose(data.worth[0], [1 / 3, 1, 0, 0, 0])
    np.testing.assert_array_equal(data.scores[1], [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(
        data.alone, [[-1, 1, 0, 0, 0], [-1, 0, 1, 0, 0], [-1, 0, 0, 1, 0]]
    )


def test_worth_sums_to_fitness(archive):
    data = niches_data(archive, TASK)
    np.testing.assert_allclose(data.worth.sum(axis=1), data.fitness, rtol=1e-6)


def test_attraction_is_ordered_as_the_rows_and_no_member_attracts_itself(archive):
    archive.add(3, None, [0, 1, 1, 0, 1])  # fittest: displaces the oldest of the lowest
    data = attraction_data(archive, TASK)
    assert data.ids[0] == 3
    assert np.isnan(np.diag(data.worth)).all()
    row_of = {id: row for row, id in enumerate(archive.ids)}
    expected = archive.attraction()
    for a, first in enumerate(data.ids):
        for b, second in enumerate(data.ids):
            if a != b:
                assert data.worth[a, b] == expected[row_of[first], row_of[second]]


@pytest.mark.parametrize("graded", [False, True])
def test_a_pair_knows_the_class_in_which_most_of_its_attraction_lies(graded):
    draw = np.random.default_rng(2)
    groups = draw.integers(0, 3, 40)
    task = from_function(lambda model, where: where, 40, classes="abcd", groups=groups)
    archive = Archive(40, size=5, capacity="max" if graded else "one")
    for id, scores in enumerate(draw.random((5, 40)) * (1 if graded else 2)):
        archive.add(id, None, scores if graded else scores > 1)
    data = attraction_data(archive, task)
    rows = [archive.ids.index(id) for id in data.ids]
    for a, first in enumerate(rows):
        for b, second in enumerate(rows):
            gain = archive.weights * np.maximum(archive.scores[second] - archive.scores[first], 0)
            by_class = np.bincount(groups, gain, 4)
            assert data.part[a, b] == pytest.approx(by_class.max(), abs=1e-6)
            assert by_class[data.most[a, b]] == pytest.approx(by_class.max(), abs=1e-6)


def test_members_that_solve_the_same_are_adjacent():
    # 0 and 2 share two of three points, 1 and 3 two of four; no other pair shares any.
    right = [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0]]
    right.append([0, 0, 0, 1, 1, 1, 0])
    assert cluster_order(np.array(right)) in (
        (0, 2, 1, 3),
        (0, 2, 3, 1),
        (2, 0, 1, 3),
        (2, 0, 3, 1),
    )
    assert cluster_order(np.array(right) * 0.25) == cluster_order(np.array(right))  # graded


def test_planted_groups_are_found_and_read_from_the_fittest_side():
    draw = np.random.default_rng(0)
    group = draw.permutation(np.arange(12) % 3)
    right = (draw.random((12, 300)) < 0.1) | (group[:, np.newaxis] == np.arange(300) % 3)
    order = cluster_order(right.astype(float))
    assert sorted(order) == list(range(12))
    assert order[0] < order[-1]
    found = group[list(order)]
    assert np.count_nonzero(np.diff(found)) == 2


@pytest.mark.parametrize("scores", [np.zeros((4, 3)), np.eye(2), np.ones((1, 3)), np.zeros((0, 3))])
def test_any_members_have_a_clustered_order(scores):
    assert sorted(cluster_order(scores)) == list(range(len(scores)))


def test_a_matrix_in_another_order_is_the_same_matrix(archive):
    data = attraction_data(archive, TASK)
    other = data.ordered((2, 0, 1))
    assert other.ids == (data.ids[2], data.ids[0], data.ids[1])
    for a, b in combinations(data.ids, 2):
        here, there = (
            (data.ids.index(a), data.ids.index(b)),
            (other.ids.index(a), other.ids.index(b)),
        )
        assert other.worth[there] == data.worth[here]


def test_curves_keep_their_ends_however_long_the_run(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.05, rng=0)
    seeds = evolver.archive.standing
    data = curves_data(evolver.run(300), points=50)
    assert data.step[:2].tolist() == [0, 1]
    assert (len(data.step), data.step[-1]) == (51, 300)
    assert data.test[-1] == 100 * evolver.test
    first = [line[0] for line in data.lines().values()]
    reached = [100 * share for share in (seeds.coverage, seeds.entropy, seeds.train)]
    assert first[:3] == reached
    assert np.isnan(first[3])  # of the seeds it was not kept
    full, history = curves_data(evolver, points=1000), evolver.records
    np.testing.assert_array_equal(full.covered[1:], 100 * history.column("coverage"))
    np.testing.assert_array_equal(full.entropy[1:], 100 * history.column("entropy"))


def test_before_the_first_step_the_seeds_are_dots_with_a_note(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.05, rng=0)
    data = curves_data(evolver)
    archive = evolver.archive
    best = tiny.by_class(archive.scores[archive.ids.index(archive.best.id)])
    values = [archive.coverage, archive.entropy, archive.best.score, evolver.test, *best.values()]
    assert [line.tolist() for line in data.lines().values()] == [[100 * v] for v in values]
    marks = start_columns(data, LIGHT)
    assert marks["start"]["value"] == [100 * v for v in values]
    assert "Run" in marks["waiting"]["text"][0]
    later = start_columns(curves_data(evolver.run(1)), LIGHT)
    assert [column for mark in later.values() for column in mark.values()] == [[]] * 6


def test_curves_of_a_restored_search_begin_at_its_state(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.05, rng=0).run(40)
    other = Evolver(tiny, tiny_seeds, mutation=0.05, rng=0)
    other.load_state_dict(evolver.state_dict())
    assert curves_data(other).step.tolist() == [40]
    data = curves_data(other.run(2))
    assert data.step.tolist() == [40, 41, 42]
    assert data.covered[0] == 100 * evolver.archive.coverage


def test_each_of_a_few_classes_has_a_curve_of_the_best_members_mean():
    scores = {0: [1, 1, 0, 0, 0], 1: [0, 0, 0, 1, 0]}  # class a: points 0 and 2
    evolver = Evolver(TASK, np.zeros((2, 1)), mutation=0.1, known=[*scores.values()])
    outside = [np.full(1, value) for value in (1.0, 2.0, 3.0)]
    evolver.tell(outside[0], [0, 0, 0, 0, 1])  # not the best
    state = evolver.state_dict()
    evolver.tell(outside[1], [1, 1, 1, 1, 1])
    evolver.take_back(state)
    evolver.tell(outside[2], [1, 0, 1, 1, 0])
    data = curves_data(evolver)
    np.testing.assert_allclose(data.classes["a"], [50, 50, 100])
    np.testing.assert_allclose(data.classes["b"], [100 / 3] * 3)
    names = [item.label.value for item in hv.render(evolver.plot.curves()).legend[0].items]
    assert names[-3:] == ["best, held out", "best, a", "best, b"]
    unknown = Evolver(TASK, np.zeros((2, 1)), mutation=0.1, known=[*scores.values()])
    unknown.load_state_dict(state)
    assert curves_data(unknown).classes["a"].tolist() == [50]


def test_names_of_classes_with_curves_are_shortened_and_made_safe():
    names = ["<script>", "a" * 100_000, "\x1b[31m${1 + 1} @{x}", ""]
    task = from_function(lambda model, at: at >= 0, 4, classes=names, groups=range(4))
    plot = Evolver(task, np.eye(2), mutation=0.1).run(3).plot.curves()
    items = [item.label["value"] for item in hv.render(plot).legend[0].items]
    assert items[4] == "best, <script>"
    assert len(items[5]) < 40
    assert items[6] == "best, �[31m${1 + 1} @{x}"
    assert items[7] == "best, "


def test_classes_of_one_name_do_not_stop_the_curves():
    task = from_function(lambda model, at: at >= 0, 4, classes="aa", groups=[0, 0, 1, 1])
    evolver = Evolver(task, np.eye(2), mutation=0.1, known=np.eye(4)[:2]).run(3)
    assert evolver.records.class_means[0] == (0.5, 0.0)
    assert hv.render(evolver.plot.curves()).legend[0].items[-1].label["value"] == "best, a"


def test_many_classes_have_no_curves_of_their_own(digits):
    evolver = Evolver(digits, digits.random_seeds(2), mutation=0.1)
    assert len(curves_data(evolver).lines()) == 4


def test_no_steps_give_an_empty_history():
    assert History().sample(10).shape == (0, len(COLUMNS))
    assert History().table().shape == (0, len(COLUMNS))


def test_marks_around_the_map_lie_outside_it(archive):
    data = niches_data(archive, TASK)
    around = niches_geometry(data, size=3)
    crowd, bars = around.crowd, around.bars
    assert crowd["top"].min() >= 3
    assert crowd["top"].max() == pytest.approx(3.4 + 2.4)  # three solvers of three fill the strip
    assert bars["x0"].min() > 5
    np.testing.assert_allclose(bars["y1"] - bars["y0"], 0.7)


@pytest.mark.parametrize("mode", ["solved", "worth", "only one"])
def test_every_plot_renders_with_labelled_axes(tiny, tiny_seeds, mode):
    plot = Evolver(tiny, tiny_seeds, archive_size=5, mutation=0.05, rng=0).run(30).plot
    for drawing in (plot.coverage(mode), plot.attraction(), plot.curves()):
        figure = hv.render(drawing)
        assert figure.xaxis[0].axis_label
        assert figure.yaxis[0].axis_label


def test_a_map_without_anything_to_show_is_all_background(archive):
    data = niches_data(archive, TASK)
    shared = data._replace(alone=-np.abs(data.scores))  # every point has two solvers or none
    figure = hv.render(draw_niches(shared, 3, LIGHT, "only one"))
    image = next(r for r in figure.renderers if "image" in r.data_source.data)
    mapper = image.glyph.color_mapper
    assert 0 < mapper.low < mapper.high
    assert mapper.low_color == LIGHT.card


def test_long_names_of_data_points_are_shortened(archive):
    data = niches_data(archive, TASK)
    assert data.names is None  # numbers do
    names = np.array(["a" * 500, *"bcde"])
    figure = hv.render(draw_niches(data._replace(names=names), 3, LIGHT))
    image = next(r for r in figure.renderers if "image" in r.data_source.data)
    assert image.data_source.data["names"] == [["a" * 40 + "…" + "a" * 39, *"bcde"]]


def test_the_fittest_row_is_drawn_on_top(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=5, mutation=0.05, rng=0).run(40)
    figure = hv.render(evolver.plot.coverage("solved"))
    data = niches_data(evolver.archive, tiny)
    image = next(r for r in figure.renderers if "image" in r.data_source.data)
    drawn = image.data_source.data["image"][0]
    np.testing.assert_array_equal(drawn[-1], data.scores[0])  # Bokeh's last row is the highest
    labels = tick_names(figure.yaxis[0])
    assert labels[max(labels)] == str(data.ids[0])


def test_an_unknown_mode_is_refused_with_the_known_ones(tiny, tiny_seeds):
    plot = Evolver(tiny, tiny_seeds, mutation=0.05).plot
    with pytest.raises(InputError, match=r"'worht'; did you mean 'worth'\? .*only one"):
        plot.coverage("worht")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_ramp_starts_at_the_card_and_ends_at_the_strongest(theme):
    colours = ramp(theme)
    assert (colours[0], colours[-1]) == (theme.card, theme.ramp[-1])
    assert len(colours) == 256
    assert ramp(theme, start=2)[0] == theme.ramp[2]


def test_the_notebook_display_shows_members_and_escapes_names(tiny_seeds, tiny):
    evolver = Evolver(tiny, tiny_seeds, archive_size=30, mutation=0.05, rng=0).run(40)
    evolver.method = "<script>alert(1)</script>"
    html = evolver._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "and 10 more" in html


def test_the_corners_of_a_landscape_are_named_after_the_parents(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=5, mutation=0.05, rng=0).run(20)
    a, b = evolver.ask().parents
    landscape = Landscape(evolver, (a, b), cells=3)
    while landscape.advance():
        pass
    data = landscape.data()
    marks = corners(data, LIGHT)
    scores = {"A": evolver.archive[a].score, "B": evolver.archive[b].score}
    assert sorted(marks["text"]) == ["A", "A", "B", "B"]
    for x, mix, who, colour in zip(*marks.values(), strict=True):
        assert not -0.25 <= x <= 1.25  # beside the map, whose cells are half as wide as it
        corner = data.scores[data.mixes.tolist().index(mix), 0 if x < 0 else -1]
        assert corner == pytest.approx(scores[who])
        assert colour == (LIGHT.parent_a if who == "A" else LIGHT.parent_b)


def test_a_landscape_has_labelled_axes_and_a_key(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=5, mutation=0.05, rng=0).run(20)
    landscape = Landscape(evolver, evolver.ask().parents, cells=3)
    landscape.advance()
    data = landscape.data()
    figure = hv.render(draw_landscape(data, (0.5, 0.5), LIGHT))
    assert "vector before it" in figure.xaxis[0].axis_label
    texts = [r.data_source.data["text"] for r in figure.renderers if hasattr(r.glyph, "text")]
    assert [*texts[0]] == ["B", "A", "A", "B"]
    assert "★ best" in figure.title.text
    # All of it lies inside the frame.
    assert figure.x_range.start < min(corners(data, LIGHT)["x"])
    assert figure.x_range.end > max(corners(data, LIGHT)["x"])
