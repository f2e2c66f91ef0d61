import holoviews as hv
import numpy as np
import pytest

from m2n2lab import Evolver, InputError, compare, make_evolver
from m2n2lab.analysis.comparison import CompareData, compare_data, label_heights
from m2n2lab.analysis.maps import curves_data
from m2n2lab.viz.draw_compare import compare_columns, draw_compare
from m2n2lab.viz.theme import DARK, LIGHT


def data(*ends):
    """Return curves of two points that begin at 0 and end at the values given, in per cent."""
    steps = tuple(np.array([1.0, 10.0 + k]) for k in range(len(ends)))
    values = tuple(np.array([0.0, end]) for end in ends)
    names = tuple("abcdefgh"[: len(ends)])
    return CompareData(names, tuple(range(len(ends))), steps, values)


def test_curves_are_those_of_each_search_without_unknown_values(tiny, tiny_seeds):
    runs = {name: make_evolver(name, tiny, tiny_seeds, rng=0) for name in ("m2n2", "ga")}
    runs["m2n2"].run(30)
    runs["ga"].run(20)
    curves = {name: curves_data(evolver) for name, evolver in runs.items()}
    for metric, column in (("best, held out", "test"), ("covered", "coverage")):
        compared = compare_data(curves, metric)
        assert compared.names == ("m2n2", "ga")
        for k, evolver in enumerate(runs.values()):
            taken = len(evolver.records)  # the standing before the first step may come before
            np.testing.assert_allclose(
                compared.values[k][-taken:], 100 * evolver.records.column(column)
            )
        assert compared.last == 30
    blind = curves["ga"]._replace(test=np.full(21, np.nan))
    assert [len(values) for values in compare_data({"ga": blind}).values] == [0]


@pytest.mark.parametrize("lengths", [(0,), (0, 0), (2, 0), (0, 2), (1, 0), ()])
def test_runs_without_a_known_value_are_drawn_beside_others_or_alone(lengths):
    values = tuple(np.arange(1.0, n + 1) for n in lengths)
    none = CompareData(tuple("ab"[: len(lengths)]), tuple(range(len(lengths))), values, values)
    figure = hv.render(draw_compare(none, LIGHT))
    drawn = next(r for r in figure.renderers if "xs" in r.data_source.data)
    assert [len(xs) for xs in drawn.data_source.data["xs"]] == list(lengths)


def test_an_unknown_metric_and_no_runs_are_refused(tiny, tiny_seeds):
    with pytest.raises(InputError, match="no metric named 'best'"):
        compare_data({}, "best")
    with pytest.raises(InputError, match="at least one run, got none"):
        compare({})


def test_names_are_placed_at_the_ends_of_curves_without_overlap():
    places = label_heights(data(20.0, 80.0))
    assert places.tolist() == [20.0, 80.0]
    for ends in ((0.0, 100.0), (0.0, 1.0), (99.9, 100.0, 100.0)):  # none is cut at an edge
        shown = data(*ends)
        low, high = shown.bounds
        half = 0.055 * (high - low) / 2 - 1e-9
        assert low + half <= label_heights(shown).min()
        assert label_heights(shown).max() <= high - half
    crowd = data(50.0, 50.0, 50.1, 90.0, 90.0, 90.0)
    low, high = crowd.bounds
    places = np.sort(label_heights(crowd))
    assert np.diff(places).min() >= 0.055 * (high - low) - 1e-9
    assert places[0] >= low
    assert places[-1] <= high
    assert np.diff(np.sort(label_heights(crowd, 0.12))).min() >= 0.12 * (high - low) - 1e-9
    # In the order of the curves' ends.
    assert label_heights(crowd).argsort(kind="stable").tolist() == [0, 1, 2, 3, 4, 5]


def test_a_search_without_points_has_no_name_in_the_plot():
    none = np.array([])
    compared = CompareData(
        ("a", "b"), (0, 1), (none, np.array([1.0, 2.0])), (none, np.array([3.0, 4.0]))
    )
    assert np.isnan(label_heights(compared)[0])
    assert compare_columns(compared, LIGHT)["names"]["text"] == ["b"]


def test_each_search_keeps_its_colour_when_another_goes():
    both = data(20.0, 80.0)
    alone = CompareData(both.names[1:], (1,), both.steps[1:], both.values[1:])
    colours = compare_columns(both, DARK)["runs"]["colour"]
    assert compare_columns(alone, DARK)["runs"]["colour"] == colours[1:]
    assert len(set(DARK.runs)) == len(DARK.runs) == len(LIGHT.runs)


@pytest.mark.parametrize("ends", [(), (50.0,), (20.0, 80.0)])
def test_the_plot_takes_curves_names_and_colours_from_its_sources(ends):
    handles = {}

    def hook(plot, element):
        handles[element.label] = plot.handles

    compared = data(*ends)
    hv.renderer("bokeh").get_plot(draw_compare(compared, LIGHT, (hook,)))
    for name, columns in compare_columns(compared, LIGHT).items():
        shown = handles[name]["source"].data
        assert {column: shown[column] for column in columns} == columns
    assert handles["runs"]["glyph"].line_color == "colour"
    assert handles["names"]["glyph"].text_color == "colour"
    assert handles["runs"]["plot"].x_range.end > compared.last


def test_a_notebook_compares_evolvers_by_name(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, rng=0).run(5)
    plot = compare({"mine": evolver}, "best, train", DARK)
    assert plot.Labels.Names["text"].tolist() == ["mine"]
