"""CycleQD: a grid for each task, whose scores take turns as the quality."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.crews import Scripted
from hypothesis import given, settings
from hypothesis import strategies as st

from m2n2lab import InputError, make_evolver, store
from m2n2lab.core.methods.behaviours import Axis, Behaviours
from m2n2lab.core.methods.cycle_qd import CycleArchive
from m2n2lab.executors import Replayed
from m2n2lab.tasks import from_function

THREE = [Axis("a"), Axis("b"), Axis("c")]


def archive_of(n=3, side=2):
    """Return an archive in which the scores of n data points are the values themselves."""
    return CycleArchive(n, Behaviours(lambda scores: scores, THREE[:n]), (side,) * n)


def tasks_of(*points):
    """Return the sum of tasks with so many data points; a model's weights are its answers."""
    starts = np.cumsum([0, *points])
    parts = [
        from_function(lambda model, at, a=a: model[a + at] > 0, b - a, name=f"task {k}")
        for k, (a, b) in enumerate(pairwise(starts.tolist()))
    ]
    return sum(parts[1:], start=parts[0])


def start(**options):
    seeds = np.random.default_rng(5).normal(size=(3, 12))
    return make_evolver("cycle-qd", tasks_of(4, 3, 5), seeds, mutation=0.5, rng=3, **options)


def grids_of(rows, sides, axes=3):
    """Return the elites of each grid by cell, each grid kept by itself as published."""
    grids = [{} for _ in range(axes)]
    for id, row in enumerate(rows):
        cell = [min(int(v * side), side - 1) for v, side in zip(row, sides, strict=True)]
        for k, grid in enumerate(grids):
            at = tuple(cell[:k] + cell[k + 1 :])
            if at not in grid or rows[grid[at]][k] < row[k]:
                grid[at] = id
    return grids


# -- the archive ----------------------------------------------------------------------------------


def test_grids_by_hand():
    archive = archive_of()  # three grids of 2 × 2 cells
    assert archive.size == 12
    assert archive.add(0, None, [0.1, 0.1, 0.1]).accepted
    assert [archive.elites(k) for k in range(3)] == [{(0, 0): 0}] * 3
    # Better in b alone: of grid b it takes the cell, member 0 stays for a and c.
    one = archive.add(1, None, [0.05, 0.4, 0.05])
    assert (one.accepted, one.displaced) == (True, None)
    assert [archive.elites(k) for k in range(3)] == [{(0, 0): 0}, {(0, 0): 1}, {(0, 0): 0}]
    # Better in a and c: member 0 has no cell left.
    two = archive.add(2, None, [0.3, 0.2, 0.3])
    assert (two.accepted, two.displaced) == (True, 0)
    assert (two.fitness, two.rival_fitness) == (0.3, 0.1)  # in a, whose turn it is
    # Better in none, and equal in c.
    three = archive.judge([0.2, 0.3, 0.3])
    assert (three.accepted, three.rival) == (False, 2)
    assert (three.fitness, three.rival_fitness, three.rank, three.of) == (0.2, 0.3, 2, 3)
    archive.turn = 1  # by b, where member 1 has the cell
    three = archive.judge([0.2, 0.3, 0.3])
    assert (three.accepted, three.rival, three.rival_fitness) == (False, 1, 0.4)
    # Good at a: a new cell of the grids b and c, and the best of its cell in a.
    four = archive.add(4, None, [0.9, 0.1, 0.1])
    assert (four.accepted, four.displaced) == (True, None)
    assert archive.elites(0) == {(0, 0): 4}
    assert archive.elites(1) == {(0, 0): 1, (1, 0): 4}
    assert archive.ids == (1, 2, 4)  # 2 is still the best at c


def test_of_two_members_without_a_cell_the_second_leaves_a_step_later():
    archive = archive_of(n=2)
    archive.add(0, None, [0.3, 0.1])
    archive.add(1, None, [0.1, 0.3])
    assert archive.add(2, None, [0.4, 0.4]).displaced == 0
    assert archive.ids == (1, 2)
    assert set(archive.elites(0).values()) == set(archive.elites(1).values()) == {2}
    assert archive.draw_parent(0.0) == archive.draw_parent(0.999) == 2  # never member 1
    assert archive.add(3, None, [0.9, 0.1]).displaced == 1
    assert archive.ids == (2, 3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.sampled_from([k / 8 for k in range(9)])] * 3), min_size=1, max_size=60),
    st.lists(st.integers(0, 2), min_size=60, max_size=60),
)
def test_the_elites_are_those_of_separate_grids_whosever_turn_it_is(rows, turns):
    archive = archive_of()
    for id, row in enumerate(rows):
        archive.turn = turns[id]
        before = archive.ids
        verdict = archive.judge(row)
        assert archive.add(id, None, row) == verdict
        gone = {*before, id} - {*archive.ids}
        assert gone == {id if not verdict.accepted else verdict.displaced} - {None}
        grids = grids_of(rows[: id + 1], (2, 2, 2))
        assert [archive.elites(k) for k in range(3)] == grids
        elites = {each for grid in grids for each in grid.values()}
        assert elites <= {*archive.ids}
        assert verdict.accepted == (id in elites)
        if not verdict.accepted:
            assert verdict.fitness <= verdict.rival_fitness


def test_parents_are_drawn_by_their_place_in_every_value():
    archive = archive_of(n=2, side=10)
    for id, row in enumerate([(0.2, 0.1), (0.6, 0.35), (0.6, 0.6)]):
        archive.add(id, None, row)
    uniform = (np.arange(20_000) + 0.5) / 20_000
    # From 0.5 for the lowest to 0.8 for the highest: 0.5 · 0.5, 0.8 · 0.65 and 0.8 · 0.8.
    weights = np.array([0.25, 0.52, 0.64])
    parents = np.bincount([archive.draw_parent(u) for u in uniform], minlength=3) / 20_000
    assert parents == pytest.approx(weights / weights.sum(), abs=1e-4)
    mates = np.bincount([archive.draw_mate(2, u) for u in uniform], minlength=3) / 20_000
    assert mates == pytest.approx([0.25 / 0.77, 0.52 / 0.77, 0.0], abs=1e-4)
    archive.turn = 1  # in grid b members 1 and 2 share a cell, which 2 holds
    assert {archive.draw_parent(u) for u in uniform[::100]} == {0, 2}


# -- the search -----------------------------------------------------------------------------------


def test_the_tasks_take_turns_and_parents_are_elites_of_the_turn():
    evolver = start()
    assert [axis.name for axis in evolver.archive.axes] == ["task 0", "task 1", "task 2"]
    assert evolver.archive.size == 300
    for step in range(60):
        assert evolver.archive.turn == step % 3
        elites = {*evolver.archive.elites(step % 3).values()}
        members = {*evolver.archive.ids}
        a, b = evolver.step().parents
        assert a in elites
        assert b in (elites if len(elites) > 1 else members)
        assert a != b


def test_a_run_keeps_the_elites_of_separate_grids():
    evolver = start()
    task, seeds = evolver.task, evolver.space.seeds  # of which one has no cell
    rows = [task.means(task.evaluate(evolver.space.materialise(seed))) for seed in seeds]
    for _ in range(150):
        rows.append(task.means(evolver.step().scores.astype(float)))
    grids = grids_of(rows, (10, 10, 10))
    assert [evolver.archive.elites(k) for k in range(3)] == grids
    assert sum(map(len, grids)) > 12
    idle = {*evolver.archive.ids} - {id for grid in grids for id in grid.values()}
    assert len(idle) <= 2


def test_the_values_are_classes_or_halves_by_default_or_any_function():
    def names(task, **options):
        evolver = make_evolver("cycle-qd", task, np.eye(12)[:2] - 0.5, **options)
        return [axis.name for axis in evolver.archive.axes], evolver.archive.size

    def task(**known):
        return from_function(lambda model, at: model[at] > 0, 12, **known)

    assert names(task()) == (["odd", "even"], 20)
    assert names(task(classes="ab", groups=[0, 1] * 6)) == (["a", "b"], 20)
    assert names(task(classes="abcd", groups=[0, 1, 2, 3] * 3)) == (["a", "b", "c", "d"], 500)
    assert names(task(classes="abcde", groups=[0, 1, 2, 3, 4, 0] * 2)) == (["odd", "even"], 20)
    own = {"behaviours": lambda scores: scores[:2], "axes": [("x", 0, 1), ("y", 0, 1)]}
    assert names(task(), **own, side=(3, 4)) == (["x", "y"], 7)
    assert names(task(), archive_size=8) == (["odd", "even"], 8)


# -- stores and workers ---------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [30, 31, 32])
def test_a_resumed_and_a_branched_run_keep_the_turn(stop, tmp_path):
    path, whole, half = tmp_path / "runs.db", start().run(80), start()
    half.run(stop, store=path)
    resumed = store.resume(path, task=half.task)
    assert resumed.archive.turn == stop % 3
    resumed.run(80 - stop, store=path)
    branched = store.branch(path, step=17, task=half.task).run(63)
    for other in (resumed, branched):
        assert np.array_equal(whole.records.table(), other.records.table(), equal_nan=True)
        assert np.array_equal(whole.archive.scores, other.archive.scores)
    proposals = {evolver.ask() for evolver in (whole, resumed, branched)}
    assert len(proposals) == 1
    assert store.replay(path, step=80).ids == whole.archive.ids


def test_a_step_taken_back_gives_the_turn_back():
    evolver = start().run(31)
    state = evolver.state_dict()
    evolver.run(1)
    evolver.take_back(state)
    assert evolver.archive.turn == 1
    again = start().run(60)
    assert np.array_equal(evolver.run(29).archive.scores, again.archive.scores)


def test_a_run_on_workers_is_replayed():
    crew = Scripted(4)
    first = start().run(60, executor=crew)
    again = start().run(60, executor=Replayed(crew.arrivals))
    assert first.history.equals(again.history)


BAD = {
    "one class": (
        {"behaviours": "classes"},
        r"behaviours='classes' must be 2 to 4 axes, got 1 \(all\)",
    ),
    "one axis": ({"behaviours": np.mean, "axes": [("all", 0, 1)]}, "axes must be 2 to 4 triples"),
    "size": ({"archive_size": 5}, "2 × side, got 5 for 6; leave it out, or give side"),
    "alpha": ({"alpha": 1.0}, "'cycle-qd' needs alpha 0 and capacity 'one', got 1 and 'one'"),
    "early rejection": ({"chunk": 2}, "cycle-qd needs all scores of every child, got chunk=2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_a_sentence(case):
    options, message = BAD[case]
    task = from_function(lambda model, at: model[at] > 0, 4)
    with pytest.raises(InputError, match=message):
        make_evolver("cycle-qd", task, np.eye(4)[:2], **options)
