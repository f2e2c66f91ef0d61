"""Names, notes and pins of recorded runs; empty, deleted and too many runs."""

import pytest
from helpers.stores import search

from m2n2lab import store
from m2n2lab.store.labels import label, labelled, tidy, trim
from m2n2lab.store.recorder import Recorder


def recorded(task, db, steps, **fields):
    """Record a run; returns its number."""
    evolver = search(task)
    evolver.run(steps, store=db)
    number = evolver.stored.run
    if fields:
        label(db, number, **fields)
    return number


def listed(db):
    return {each.run: each for each in labelled(db)}


def test_a_run_keeps_its_name_note_and_pin(task, db):
    first, second = recorded(task, db, 3), recorded(task, db, 5)
    assert [each.run for each in labelled(db)] == [second, first]  # no labels yet
    label(db, first, name="mine", note="look again")
    label(db, first, pinned=True)
    found = listed(db)
    assert (found[first].name, found[first].note, found[first].pinned) == (
        "mine",
        "look again",
        True,
    )
    assert (found[second].name, found[second].pinned, found[second].last) == ("", False, 5)
    assert [run.run for run in store.runs(db)] == [first, second]  # reads as before


def test_a_run_that_begins_with_its_first_step_is_no_run_before(task, db):
    evolver = search(task)
    with Recorder(evolver, db, "later", empty=False, settings='{"seed": 3}') as recorder:
        assert recorder.number is None
        assert store.runs(db) == []
        evolver.step()
        recorder.flush()
        assert recorder.number == 1
        assert [(run.title, run.start, run.last) for run in store.runs(db)] == [("later", 0, 1)]
        evolver.run(20)
    assert listed(db)[1].settings == '{"seed": 3}'
    resumed = store.resume(db, task=task)
    assert resumed.generation == 21
    assert resumed.ask() == evolver.ask()
    assert store.branch(db, step=0, task=task).generation == 0
    untouched = search(task)
    with Recorder(untouched, db, empty=False):
        pass
    assert len(store.runs(db)) == 1


def test_a_resumed_run_goes_on_from_where_it_began(task, db):
    recorded(task, db, 4)
    with Recorder(store.resume(db, task=task), db, empty=False) as recorder:
        assert (recorder.number, recorder.start) == (1, 0)


def test_deleted_and_empty_runs_are_hidden_and_go_when_the_store_is_tidied(task, db):
    gone, kept = recorded(task, db, 2), recorded(task, db, 2)
    with store.record(search(task), db):  # without a step
        assert len(store.runs(db)) == 3
        label(db, gone, deleted=True)
        assert [*listed(db)] == [kept]
        label(db, gone, deleted=False)
        assert [*listed(db)] == [kept, gone]
        label(db, gone, deleted=True)
        tidy(db)
        assert [run.run for run in store.runs(db)] == [kept, 3]  # the empty one is being recorded
    tidy(db)
    assert [run.run for run in store.runs(db)] == [kept]
    with pytest.raises(store.StoreError, match="has no run"):
        store.replay(db, gone)


def test_of_too_many_runs_the_oldest_without_a_name_or_a_pin_go(task, db):
    numbers = [
        recorded(task, db, 30, **fields)
        for fields in ({"name": "mine"}, {}, {"pinned": True}, {}, {})
    ]
    assert trim(db, 10**9) == []
    size = db.stat().st_size
    assert trim(db, 1)[0] == numbers[1]
    assert [*listed(db)] == [numbers[2], numbers[0]]
    again = recorded(task, db, 30)
    assert trim(db, 0) == [again]
    assert db.stat().st_size <= size  # the space of removed runs is used again


def test_only_as_many_runs_go_as_are_too_many(task, db):
    for _ in range(4):
        recorded(task, db, 200)
    size = sum(path.stat().st_size for path in db.parent.glob("runs.db*"))
    assert trim(db, size * 3 // 4) in ([1], [1, 2])
    assert 4 in listed(db)


def test_a_run_that_is_being_recorded_stays(task, db):
    evolver = search(task)
    with store.record(evolver, db):
        evolver.run(30)
        assert trim(db, 0) == []
    assert trim(db, 0) == [1]
