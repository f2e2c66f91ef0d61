"""Own behaviours of MAP-Elites: a function of the scores, named groups, axes and sides."""

import numpy as np
import pytest
import torch
from helpers.crews import Scripted
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from m2n2lab import InputError, load_archive, make_evolver, save_archive, store
from m2n2lab.core.methods.behaviours import Axis, Behaviours
from m2n2lab.executors import Replayed
from m2n2lab.tasks import from_function

EASY_HARD = (("easy", 0, 1), ("hard", 0, 1))


def split(scores):
    """Return the mean scores of the first six and the last four data points."""
    return scores[:6].mean(), scores[6:].mean()


def task_of(points=10, name="ten", **known):
    return from_function(lambda model, at: model[at] > 0, points, name=name, **known)


def vector(*right, size=10):
    """Return a model that solves these data points."""
    model = -np.ones(size)
    model[list(right)] = 1.0
    return model


def own(task=None, seeds=None, *, behaviours=split, axes=EASY_HARD, **options):
    seeds = np.random.default_rng(0).normal(size=(2, 10)) if seeds is None else seeds
    options = {"mutation": 0.5, "rng": 2} | options
    return make_evolver(
        "map-elites", task or task_of(), seeds, behaviours=behaviours, axes=axes, **options
    )


def same(a, b):
    genomes = [[m.genome.values.tobytes() for m in e.archive.members] for e in (a, b)]
    assert genomes[0] == genomes[1]
    assert np.array_equal(a.archive.scores, b.archive.scores)
    assert np.array_equal(a.records.table(), b.records.table(), equal_nan=True)
    return a.ask() == b.ask()


# -- the grid -------------------------------------------------------------------------------------


def test_a_grid_by_hand():
    # Cells of 2 × 4: easy below and from a half, hard by quarters.
    evolver = own(seeds=[vector(0), vector(0, 1, 2, 6)], side=(2, 4))
    archive = evolver.archive
    assert (archive.size, archive.sides) == (8, (2, 4))
    assert [axis.name for axis in archive.axes] == ["easy", "hard"]
    cells = [archive.cell(scores) for scores in archive.scores]
    assert cells == [(0, 0), (1, 1)]  # 1/6 and 0/4; 3/6 and 1/4
    same_cell = evolver.tell(vector(3))  # 1/6 and 0/4, not more than member 0
    assert (same_cell.accepted, same_cell.verdict.rival) == (False, 0)
    better = evolver.tell(vector(3, 4))  # 2/6 and 0/4
    assert (better.accepted, better.displaced) == (True, 0)
    other = evolver.tell(vector(3, 7, 8, 9))  # 1/6 and 3/4: a new cell
    assert (other.accepted, other.displaced) == (True, None)
    last = evolver.tell(vector(*range(10)))  # 6/6 and 4/4: the last cell, not one beyond
    assert archive.cell(archive.scores_of(last.child)) == (1, 3)
    assert archive.ids == (1, better.child, other.child, last.child)


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ((0.0, -2.0), (0, 0)),
        ((9.999, -1.0), (3, 2)),  # 9.999/10 · 4 = 3.9996; (−1 + 2)/4 · 8 = 2
        ((10.0, 2.0), (3, 7)),  # the ends
        ((-0.001, 2.001), (0, 7)),  # beyond them
        ((-1e308, 1e308), (0, 7)),
    ],
)
def test_values_beyond_the_end_of_an_axis_fall_in_its_last_cell(values, cell):
    behaviours = Behaviours(lambda scores: values, [Axis("a", 0, 10), Axis("b", -2, 2)])
    assert behaviours.cell(behaviours.values(np.zeros(3)), (4, 8)) == cell


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e300, 1e300),
    st.floats(1e-3, 1e300),
    st.integers(1, 1000),
)
def test_every_finite_value_has_a_cell_and_higher_ones_none_before_it(value, low, width, side):
    assume(low + width > low)
    behaviours = Behaviours(float, [Axis("a", low, low + width)])
    (cell,) = behaviours.cell([value], [side])
    assert 0 <= cell < side
    assert behaviours.cell([value + abs(value)], [side])[0] >= cell
    assert behaviours.cell([low], [side]) == (0,)
    assert behaviours.cell([low + width], [side]) == (side - 1,)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=10, max_size=10), min_size=1, max_size=40))
def test_each_cell_keeps_the_first_of_its_best_models(rows):
    evolver = own(seeds=[vector(), vector()], side=3)
    elites = {(0, 0): 0}  # of two equal seeds the first
    solved = {0: 0}
    for row in rows:
        verdict = evolver.verdict(np.array(row))
        generation = evolver.tell(vector(*np.flatnonzero(row)))
        assert generation.verdict == verdict
        cell = tuple(min(int(value * 3), 2) for value in split(np.array(row, float)))
        solved[generation.child] = sum(row)
        if cell not in elites or sum(row) > solved[elites[cell]]:
            elites[cell] = generation.child
    assert evolver.archive.ids == tuple(sorted(elites.values()))


@pytest.mark.parametrize(
    ("axes", "side", "sides"),
    [
        ((("a", 0, 1),), None, (10,)),
        ((("a", 0, 1), ("b", 0, 1), ("c", 0, 1)), None, (5, 5, 5)),
        ((("a", 0, 1), ("b", 0, 1), ("c", 0, 1)), (2, 3, 4), (2, 3, 4)),
    ],
)
def test_one_to_three_axes_are_a_grid(axes, side, sides):
    n = len(axes)
    evolver = own(behaviours=lambda scores: scores[:n], axes=axes, side=side).run(60)
    assert evolver.archive.sides == sides
    assert evolver.archive.size == evolver.options["archive_size"] == np.prod(sides)
    cells = {evolver.archive.cell(scores) for scores in evolver.archive.scores}
    assert cells == {
        tuple(0 if score == 0 else side - 1 for score, side in zip(row, sides, strict=True))
        for row in evolver.archive.scores[:, :n]
    }


def test_the_archive_size_gives_the_side():
    assert own(axes=EASY_HARD, archive_size=49).archive.sides == (7, 7)
    assert own(archive_size=6, side=(2, 3)).archive.sides == (2, 3)


@pytest.mark.parametrize(
    "found",
    [
        lambda scores: torch.tensor([scores[0], 0.5], requires_grad=True),
        lambda scores: [scores[0], np.float32(0.5)],
        lambda scores: np.array([scores[0] > 0, True]),
    ],
)
def test_a_function_returns_a_list_an_array_or_a_tensor(found):
    assert len(own(behaviours=found).run(20).archive) == 2


def test_one_axis_takes_a_single_number_and_a_function_cannot_change_scores():
    def spoil(scores):
        scores[:] = 7.0
        return 0.5

    evolver = own(behaviours=spoil, axes=[("all", 0, 1)]).run(5)
    assert evolver.archive.cell(np.zeros(10)) == (5,)
    assert set(np.unique(evolver.archive.scores)) <= {0.0, 1.0}


# -- named behaviours -----------------------------------------------------------------------------


def test_one_axis_for_each_class():
    task = task_of(classes=["a", "b", "c"], groups=[0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    evolver = own(task, behaviours="classes", axes=None, side=4)
    assert [tuple(axis) for axis in evolver.archive.axes] == [(n, 0.0, 1.0) for n in "abc"]
    # 1/4, 2/4 and 1/2 of each class
    assert evolver.archive.cell(np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 0])) == (1, 2, 2)


def test_one_axis_for_each_task_up_to_its_own_top():
    graded = from_function(
        lambda model, at: model[at].abs(), 2, name="graded", graded=True, top=20.0
    )
    evolver = own(task_of(4, "plain") + graded, behaviours="tasks", axes=None)
    assert [tuple(a) for a in evolver.archive.axes] == [("plain", 0, 1), ("graded", 0, 20)]
    assert evolver.archive.cell(np.array([1, 1, 1, 0, 4.0, 6.0])) == (7, 2)  # 3/4 and 5/20


def test_named_behaviours_take_names_and_ranges():
    axes = (("odd", 0.5, 1.0), ("even", 0.0, 0.5))
    archive = own(behaviours="halves", axes=axes).archive
    assert archive.cell(np.tile([0, 1], 5)) == (9, 0)
    assert archive.cell(np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])) == (1, 9)  # 0.6 and 0.6


# -- stores, workers and files --------------------------------------------------------------------


def test_a_resumed_and_a_branched_run_equal_an_uninterrupted_one(tmp_path):
    path = tmp_path / "runs.db"
    whole, half = own().run(90), own()
    half.run(50, store=path)
    with pytest.raises(InputError, match=r"Option behaviours .* options=\{'behaviours': …\}"):
        store.resume(path, task=half.task)
    given = {"task": half.task, "options": {"behaviours": split}}
    resumed = store.resume(path, **given)
    assert resumed.archive.axes == whole.archive.axes
    assert same(whole, resumed.run(40, store=path))
    whole = own().run(90)
    assert same(whole, store.branch(path, step=20, **given).run(70))
    assert store.replay(path, step=90).ids == whole.archive.ids


def test_named_behaviours_are_in_the_store(tmp_path):
    task = task_of(classes=["a", "b"], groups=[0] * 6 + [1] * 4)

    def start():
        return own(task, behaviours="classes", axes=None, side=(3, 5))

    whole, half = start().run(60), start()
    half.run(30, store=tmp_path / "runs.db")
    resumed = store.resume(tmp_path / "runs.db", task=task)
    assert resumed.archive.sides == (3, 5)
    assert same(whole, resumed.run(30))


def test_a_state_goes_on_in_a_search_with_another_past():
    whole = own().run(80)
    state = own().run(40).state_dict()
    other = own(rng=9).run(50)
    other.load_state_dict(state)
    other.run(40)
    assert other.archive.ids == whole.archive.ids
    assert other.ask() == whole.ask()


def test_a_step_taken_back_leaves_no_trace():
    evolver = own().run(30)
    state = evolver.state_dict()
    evolver.run(1)
    evolver.take_back(state)
    assert same(own().run(60), evolver.run(30))


def test_workers_leave_one_model_in_each_cell_and_are_replayed():
    crew = Scripted(3)
    evolver = own().run(60, executor=crew)
    assert evolver.generation == 60
    cells = [evolver.archive.cell(scores) for scores in evolver.archive.scores]
    assert len(set(cells)) == len(cells) > 3
    assert same(own().run(60, executor=Replayed(crew.arrivals)), evolver)


def test_an_archive_file_has_a_model_for_each_cell(tmp_path):
    evolver = own().run(60)
    save_archive(evolver, tmp_path / "archive.safetensors")
    saved = load_archive(tmp_path / "archive.safetensors")
    assert np.array_equal(saved.scores, evolver.archive.scores)
    again = own(seeds=saved.models, mutation=0.0)
    assert np.array_equal(again.archive.scores, evolver.archive.scores)


# -- bad input ------------------------------------------------------------------------------------

BAD = {
    "no axes": ({"axes": None}, "function as behaviours needs axes, got none"),
    "two values for three": (
        {"axes": [("a", 0, 1), ("b", 0, 1), ("c", 0, 1)]},
        r"one finite number for each axis \(a, b, c\), got \(",
    ),
    "not a number": ({"behaviours": lambda scores: (0.5, np.nan)}, "finite number.*got .*nan"),
    "infinite": ({"behaviours": lambda scores: (0.5, np.inf)}, "finite number .* got .*inf"),
    "a text": ({"behaviours": lambda scores: "ab"}, "finite number .* got 'ab'"),
    "nothing": ({"behaviours": lambda scores: None}, "finite number .* got None"),
    "unknown": ({"behaviours": "clases", "axes": None}, "'clases'; did you mean 'classes'"),
    "a number": ({"behaviours": 3}, "no behaviours named '3'"),
    "one task": ({"behaviours": "tasks", "axes": None}, "needs several tasks, got 'ten' alone"),
    "four axes": ({"axes": [(n, 0, 1) for n in "abcd"]}, "axes must be 1 to 3 triples"),
    "no axis": ({"axes": []}, r"axes must be 1 to 3 triples .* got \[\]"),
    "names alone": ({"axes": ["easy", "hard"]}, r"triples \(name, low, high\), got \['easy'"),
    "not a list": ({"axes": 2}, "triples .* got 2"),
    "reversed": ({"axes": [("a", 1, 0), ("b", 0, 1)]}, "Axis 'a' must run .* got 1 to 0"),
    "endless": ({"axes": [("a", 0, np.inf), ("b", 0, 1)]}, "'a' must run .* got 0 to inf"),
    "too wide": ({"axes": [("a", -1e308, 1e308), ("b", 0, 1)]}, "Axis 'a' must run"),
    "one axis for halves": (
        {"behaviours": "halves", "axes": [("a", 0, 1)]},
        "for each of the 2 behaviours 'halves', got 1",
    ),
    "three sides": ({"side": (2, 3, 4)}, r"one for each of the 2 axes, got \(2, 3, 4\)"),
    "no side": ({"side": 0}, "side must be an integer >= 1, got 0"),
    "half a side": ({"side": (2, 2.5)}, "side must be an integer >= 1, got 2.5"),
    "a named side": ({"side": "ten"}, "side must be an integer >= 1, got 'ten'"),
    "another size": ({"side": 3, "archive_size": 10}, "archive_size .* got 10 for 9"),
    "no square": ({"archive_size": 10}, "a square archive_size .* got 10"),
    "early rejection": ({"chunk": 2}, "map-elites needs all scores of every child, got chunk=2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_behaviours_are_answered_in_a_sentence(case):
    options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        own(**options)


def test_too_many_classes_are_answered_in_a_sentence():
    task = task_of(classes=list("abcdefghij"), groups=np.arange(10))
    with pytest.raises(InputError, match=r"be 1 to 3 axes, got 10 \(a, b, c, d, e, …\); use"):
        own(task, behaviours="classes", axes=None)


def test_a_function_that_fails_later_leaves_the_search_as_it_was():
    evolver = own(behaviours=lambda scores: (scores[0], np.nan if scores.all() else 0.0))
    before = evolver.archive.ids, evolver.archive.fitness.tolist(), evolver.generation
    with pytest.raises(InputError, match="finite number"):
        evolver.tell(vector(*range(10)))
    assert (evolver.archive.ids, evolver.archive.fitness.tolist(), evolver.generation) == before
    evolver.run(5)
