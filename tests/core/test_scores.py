"""Scores of any dtype and scale: read in one way, and searched alike by every method."""

import numpy as np
import pytest
import torch
from helpers.grids import GRIDS
from helpers.merges import same_search
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab import METHODS, Archive, Evolver, InputError, make_evolver, tasks
from m2n2lab.core.methods.behaviours import Axis, Behaviours, GroupMeans
from m2n2lab.core.methods.map_elites import GridArchive
from m2n2lab.core.scores import as_scores, scale_of

X = np.random.default_rng(1).normal(size=(40, 30))
SEEDS = np.random.default_rng(0).normal(size=(2, 30))


def sigmoid(model, at, scale=1.0):
    """Return graded scores in (0, scale), computed one data point at a time."""
    return scale / (1.0 + np.exp(-(X[at] * model.double().numpy()).sum(axis=1)))


# -- dtypes ---------------------------------------------------------------------------------------

HALF = np.array([0.5, 0.25, 1.0])
SAME = {
    "list": HALF.tolist(),
    "float16": HALF.astype("f2"),
    "float32": HALF.astype("f4"),
    "longdouble": HALF.astype("g"),
    "big-endian": HALF.astype(">f8"),
    "tensor": torch.tensor(HALF),
    "half tensor": torch.tensor(HALF).half(),
    "bfloat16": torch.tensor(HALF).bfloat16(),
    "with a gradient": torch.tensor(HALF, requires_grad=True),
}


@pytest.mark.parametrize("name", SAME)
def test_graded_scores_become_float64_wherever_they_are_observed(name):
    given = SAME[name]
    task = tasks.from_function(lambda model, at: given, 3, graded=True)
    evolver = Evolver(task, np.eye(2))
    observed = [
        as_scores(given),
        task.evaluate(None),
        evolver.tell([1, 1], given).scores,
        evolver.tell(evolver.ask()).scores,
    ]
    for scores in observed:
        assert scores.dtype == np.dtype(float)
        assert scores.tolist() == HALF.tolist()
    assert evolver.verdict(given).score == HALF.mean()


def test_right_or_wrong_scores_stay_booleans_and_integers_become_float64():
    for right in ([True, False], np.array([True, False]), torch.tensor([True, False])):
        assert as_scores(right).dtype == np.bool_
    for whole in ([1, 0], np.array([1, 0], np.uint8), torch.tensor([1, 0])):
        assert as_scores(whole).dtype == np.dtype(float)


@pytest.mark.parametrize("dtype", ["f2", "f4", "u1", "f8"])
def test_the_mean_of_many_scores_is_summed_in_double_precision(dtype):
    task = tasks.from_function(lambda model, at: np.ones(len(at), dtype), points=70_000)
    assert Evolver(task, SEEDS).best.score == 1.0
    tenths = np.full(70_000, 0.1, "f4")
    archive = Archive(70_000)
    archive.add(0, None, tenths)
    assert archive.best.score == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    again = Archive(70_000)
    again.load_state_dict(archive.state_dict())
    assert again.best.score == archive.best.score  # as it is read from a store


@pytest.mark.parametrize("bad", [np.ones(3) * 1j, ["a"] * 3, [None] * 3, [[1], [2], [3]], 1e101])
def test_what_is_no_score_is_refused_in_a_sentence(bad):
    evolver = Evolver(tasks.from_function(lambda model, at: np.ones(3), 3), np.eye(2))
    scores = np.full(3, bad) if isinstance(bad, float) else bad
    with pytest.raises(InputError, match="Scores must be"):
        evolver.tell([1, 1], scores)
    assert evolver.generation == 0


# -- graded scores that were not declared -------------------------------------------------------


def run(graded, chunk=None, **options):
    task = tasks.from_function(sigmoid, 40, name="soft", graded=graded)
    options = {"archive_size": 5, "mutation": 0.3, "rng": 0, **options}
    return Evolver(task, SEEDS, chunk=chunk, **options).run(150)


def test_graded_scores_that_were_not_declared_are_reported_once_and_searched_as_graded(caplog):
    declared = run(True)
    assert not caplog.records
    found = run(False)
    assert same_search(declared, found)
    assert found.archive.capacity == "max"
    (report,) = caplog.messages
    assert "Task 'soft' must give scores of 0 or 1" in report
    assert "declare graded=True" in report


def test_a_capacity_that_was_chosen_is_kept_and_not_reported(caplog):
    assert run(False, capacity="one").archive.capacity == "one"
    assert make_evolver("ga", tasks.from_function(sigmoid, 40), SEEDS).archive.capacity == "one"
    assert not caplog.records


def late(model, at):
    """Return scores that are graded from the fifth coordinate on only."""
    scores = (X[at] * model.double().numpy()).sum(axis=1) > 0
    return np.where(model[0].item() > 0.5, 0.5, 1.0) * scores


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_graded_scores_that_begin_late_count_as_if_they_had_always_been_expected(alpha, caplog):
    seeds = np.where(np.arange(30) == 0, 0.0, SEEDS)
    archives = []
    for graded in (False, True):
        task = tasks.from_function(late, 40, graded=graded)
        options = {"mutation": 0.3, "archive_size": 4, "rng": 2, "alpha": alpha}
        evolver = Evolver(task, seeds, **options)
        assert evolver.archive.capacity == ("max" if graded else "one")
        archives.append(evolver.run(60).archive)
    assert [archive.capacity for archive in archives] == ["max", "max"]
    assert archives[0].ids == archives[1].ids
    for name in ("scores", "fitness", "weights", "z"):
        assert np.array_equal(getattr(archives[0], name), getattr(archives[1], name)), name
    assert len(caplog.records) == 1


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6))
def test_right_or_wrong_scores_have_the_same_fitness_under_either_capacity(rows):
    by = {capacity: Archive(4, 3, 1.5, capacity) for capacity in ("one", "max", None)}
    for id, row in enumerate(rows):
        verdicts = [archive.add(id, None, row) for archive in by.values()]
        assert verdicts[0] == verdicts[1] == verdicts[2]
    assert by[None].capacity == "one"
    assert by[None].fitness.tolist() == by["max"].fitness.tolist() == by["one"].fitness.tolist()


def test_a_verdict_on_graded_scores_changes_nothing():
    archive = Archive(3, 2, capacity=None)
    archive.add(0, None, [1, 0, 0])
    before = archive.state_dict()
    assert archive.judge([0.5, 0.5, 0]).accepted
    after = archive.state_dict()
    assert (archive.capacity, archive.graded) == ("one", False)
    assert {**before, "scores": None} == {**after, "scores": None}
    archive.add(1, None, [0.5, 0.5, 0])
    assert (archive.capacity, archive.graded) == ("max", True)


graded_rows = st.lists(
    st.sampled_from((0.0, 1.0)) | st.floats(0.0, 1.0) | st.floats(1e-300, 1e90),
    min_size=4,
    max_size=4,
)


@given(
    st.lists(graded_rows, min_size=2, max_size=9),
    st.sampled_from((0.0, 0.5, 1.0, 2.0, 10.0)),
    st.sampled_from(("one", "max", None)),
)
def test_what_is_told_is_the_verdict_on_any_scale(rows, alpha, capacity):
    archive = Archive(4, 3, alpha, capacity)
    for id, row in enumerate(rows):
        verdict = archive.judge(row)
        before = archive.ids
        assert archive.add(id, None, row) == verdict
        gone = set(before) - set(archive.ids)
        assert gone == (set() if verdict.displaced is None else {verdict.displaced})
        assert np.isfinite(archive.fitness).all()
        assert np.isfinite(archive.weights).all()
        for u in (0.0, 0.5, 1.0 - 1e-16):
            parent = archive.draw_parent(u)
            assert archive.draw_mate(parent, u) in archive


# -- scales ---------------------------------------------------------------------------------------


@given(
    st.lists(
        st.lists(st.just(0.0) | st.floats(1e-3, 1), min_size=4, max_size=4), min_size=2, max_size=8
    ),
    st.sampled_from((0.0, 1.0, 2.0)),
    st.sampled_from(("one", "max")),
    st.integers(-900, 300),
)
def test_the_outcome_of_a_competition_does_not_depend_on_the_scale_of_scores(
    rows, alpha, capacity, power
):
    plain, scaled = Archive(4, 3, alpha, capacity), Archive(4, 3, alpha, capacity)
    for archive in (plain, scaled):  # graded from the start, so that neither changes on the way
        archive.add(0, None, [0.75 * (2.0**power if archive is scaled else 1.0), 0, 0, 0])
    for id, row in enumerate(rows, 1):
        ours = plain.add(id, None, row)
        theirs = scaled.add(id, None, np.array(row) * 2.0**power)
        assert (ours.accepted, ours.rival, ours.rank) == (
            theirs.accepted,
            theirs.rival,
            theirs.rank,
        )
    assert plain.ids == scaled.ids
    for u in (0.1, 0.6, 0.9):
        assert plain.draw_parent(u) == scaled.draw_parent(u)


TINY = {
    "1e-200, alpha 2": (1e-200, 2.0),
    "1e-200, alpha 10": (1e-200, 10.0),
    "denormal": (1e-309, 1.0),
    "denormal, alpha 3": (1e-309, 3.0),
    "huge": (1e90, 10.0),
}


@pytest.mark.parametrize("graded", [True, False])
@pytest.mark.parametrize("case", TINY)
def test_scores_whose_powers_leave_the_range_of_doubles_are_searched(case, graded):
    scale, alpha = TINY[case]
    task = tasks.from_function(lambda model, at: sigmoid(model, at, scale), 40, graded=graded)
    options = {"alpha": alpha, "archive_size": 4, "mutation": 0.3, "rng": 0}
    evolver = Evolver(task, SEEDS, **options).run(60)
    assert (evolver.archive.fitness > 0.0).all()
    plain = tasks.from_function(sigmoid, 40, graded=True)
    if case == "1e-200, alpha 2":
        assert evolver.archive.ids == Evolver(plain, SEEDS, **options).run(60).archive.ids
    same = tasks.from_function(lambda model, at: np.full(len(at), scale), 5, graded=graded)
    fitness = Evolver(same, SEEDS, **options).run(25).archive.fitness
    assert fitness.tolist() == pytest.approx([fitness[0]] * 4)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "cma-es"])
@pytest.mark.parametrize("factor", [2.0**7, 2.0**-12])
def test_every_method_finds_the_same_on_a_declared_scale(method, factor):
    options = {} if method in GRIDS else {"archive_size": 6}
    found = []
    for scale in (1.0, factor):
        task = tasks.from_function(
            lambda model, at, scale=scale: sigmoid(model, at) * scale, 40, graded=True, top=scale
        )
        evolver = make_evolver(method, task, SEEDS, mutation=0.3, rng=1, **options).run(80)
        found.append((evolver.archive.ids, evolver.archive.entropy))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1])


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1.0, 150.0, 1e20])
def test_scores_on_a_scale_that_was_not_declared_fill_several_cells_and_have_an_entropy(factor):
    def score(model, at):
        return factor * (0.3 + 0.7 * sigmoid(model, at))

    task = tasks.from_function(score, 40, graded=True)
    archive = make_evolver("map-elites", task, SEEDS, mutation=0.3, rng=0).run(300).archive
    assert len({archive.cell(scores) for scores in archive.scores}) > 3
    assert archive.entropy > 0.3


def test_the_scale_is_the_top_unless_no_score_fits_it():
    assert [scale_of(highest, 1.0) for highest in (0.0, 0.1, 0.5, 1.0)] == [1.0] * 4
    assert [scale_of(highest, 1.0) for highest in (1.5, 2.0, 150.0)] == [2.0, 2.0, 256.0]
    assert [scale_of(highest, 1.0) for highest in (0.09, 0.0625, 0.05)] == [0.125, 0.0625, 0.0625]
    assert scale_of(150.0, 200.0) == 200.0
    for highest in (5e-324, 1e-309, 1e100):
        scale = scale_of(highest, 1.0)
        assert highest <= scale <= 2 * highest or scale == highest


def two_points(side, top):
    """Return the archive of a square grid over the scores on two data points."""
    axes = [Axis("odd", 0.0, top), Axis("even", 0.0, top)]
    groups = GroupMeans([np.array([True, False]), np.array([False, True])])
    return GridArchive(2, Behaviours(groups, axes, scaled=True), (side, side), top)


@pytest.mark.parametrize(("top", "halves"), [(1.0, (0.25, 0.75)), (8.0, (2.0, 6.0))])
def test_a_cell_is_a_share_of_the_top(top, halves):
    archive = two_points(10, top)
    archive.add(0, None, halves)
    assert archive.cell(np.array(halves)) == (2, 7)


def test_members_that_share_a_cell_once_the_scale_has_grown_make_room_for_other_cells():
    archive = two_points(2, 1.0)
    for id, row in enumerate([(0.01, 0.01), (0.01, 0.03), (0.03, 0.01), (0.03, 0.035)]):
        assert archive.add(id, None, row).accepted
    assert len(archive) == 4
    far = archive.add(4, None, (0.9, 0.1))  # on the scale 1 the four share a cell
    assert (far.accepted, far.displaced) == (True, 0)
    near = archive.add(5, None, (0.05, 0.01))
    assert (near.accepted, near.displaced) == (True, 1)  # beats the worst of its cell
    assert not archive.add(6, None, (0.01, 0.02)).accepted
    assert archive.ids == (2, 3, 4, 5)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "1", 1e101])
def test_a_top_that_is_none_is_refused(bad):
    with pytest.raises(InputError, match="top must be a number"):
        tasks.from_function(sigmoid, 40, graded=True, top=bad)
