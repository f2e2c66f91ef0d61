"""Pins of a recorded run: resumed, branched, replayed and repeated as they were set."""

import sqlite3

import numpy as np
import pytest
from helpers.stores import same, search

import m2n2lab as lab
from m2n2lab import store


def weakest(evolver):
    archive = evolver.archive
    rows = np.argsort(archive.fitness)
    return next(archive.ids[row] for row in rows if archive.ids[row] not in archive.pinned)


@pytest.fixture
def pinned(task, db):
    """A recorded search with pins set at steps 30 and 60, and one unset at 90."""
    evolver = search(task)
    with store.record(evolver, db, batch=7):
        evolver.run(30)
        first = weakest(evolver)
        evolver.pin(first)
        evolver.run(30)
        second = weakest(evolver)
        evolver.pin(second)
        evolver.run(30)
        evolver.pin(first, on=False)
        evolver.run(30)
    return evolver, first, second


def test_a_resumed_search_goes_on_with_its_pins(task, db, pinned):
    evolver, first, second = pinned
    resumed = store.resume(db, task=task)
    assert resumed.archive.pinned == {second}
    assert first not in resumed.archive  # as soon as it was not pinned any more
    with store.record(resumed, db):
        resumed.run(40)
    assert same(evolver.run(40), resumed)
    assert second in resumed.archive
    assert same(evolver, store.resume(db, task=task))


def test_any_step_has_the_pins_of_then(task, db, pinned):
    _, first, second = pinned
    found = [store.replay(db, step=step).pinned for step in (0, 29, 30, 59, 60, 89, 90, 120)]
    none, one, both = frozenset(), {first}, {first, second}
    assert found == [none, none, one, one, both, both, {second}, {second}]
    branched = store.branch(db, step=70, task=task)
    assert branched.archive.pinned == both
    with store.record(branched, db):
        branched.run(60)
    assert both <= {*branched.archive.ids}
    again = store.branch(db, 2, 75, task=task)
    assert again.archive.pinned == both


def test_a_pin_after_the_last_step_is_recorded(task, db):
    evolver = search(task)
    with store.record(evolver, db):
        evolver.run(10)
    with store.record(store.resume(db, task=task), db):
        pass
    resumed = store.resume(db, task=task)
    with store.record(resumed, db):
        resumed.pin(weakest(resumed))
    assert store.resume(db, task=task).archive.pinned == resumed.archive.pinned != frozenset()


def test_a_step_that_is_taken_back_takes_later_pins_with_it(task, db):
    evolver = search(task)
    with store.record(evolver, db) as recorder:
        evolver.run(20)
        kept = weakest(evolver)
        evolver.pin(kept)
        before = evolver.state_dict()
        evolver.step()
        evolver.pin(weakest(evolver))
        recorder.flush()
        evolver.take_back(before)
        assert evolver.archive.pinned == {kept}
    assert store.resume(db, task=task).archive.pinned == {kept}


def test_methods_that_are_resumed_by_repeating_their_steps_keep_pins(task, db):
    seeds = task.random_seeds(3, rng=0, scale=0.5)
    evolver = lab.make_evolver("cma-es", task, seeds, archive_size=4, rng=0)
    with store.record(evolver, db):
        evolver.run(20)
        evolver.pin(kept := weakest(evolver))
        evolver.run(60)
    assert kept in evolver.archive
    resumed = store.resume(db, task=task)
    assert resumed.archive.pinned == {kept}
    assert evolver.run(30).archive.ids == resumed.run(30).archive.ids


def test_changed_pins_are_refused(task, db, pinned):
    with sqlite3.connect(db) as file:
        file.execute("UPDATE pins SET ids = '[1]' WHERE step = 90")
    with pytest.raises(store.StoreError, match="the pins of run 1 are not as they were recorded"):
        store.resume(db, task=task)
    assert not store.check(db).is_whole


def test_a_store_without_pins_has_no_table_of_them(task, db):
    search(task).run(5, store=db)
    with sqlite3.connect(db) as file:
        assert file.execute("SELECT 1 FROM sqlite_master WHERE name = 'pins'").fetchone() is None
    assert store.check(db).is_whole
