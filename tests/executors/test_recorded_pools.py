"""Asynchronous searches in a store: recorded in order of arrival, resumed and replayed exactly."""

import random
import time

import numpy as np
import pytest
from helpers.crews import LOST, Scripted
from helpers.stores import record_workers_until_killed, recording, same, same_archive, search

from m2n2lab import Evolver, Proposal, make_evolver, store
from m2n2lab.executors import EvaluationError


def repeated(task, db):
    """Breed, score and tell all children of a run again, in the recorded order."""
    evolver, exported = search(task), store.told(db)
    genomes = dict(enumerate(evolver.space.seeds))
    for row in exported["steps"]:
        step = dict(zip(exported["columns"], row, strict=True))
        parents = step["parent_a"], step["parent_b"]
        proposal = Proposal(parents, step["split"], step["mix"], step["seed"])
        genome = evolver.offspring(proposal, [genomes[parent] for parent in proposal.parents])
        scores = task.evaluate(evolver.space.materialise(genome))
        genomes[step["child"]] = genome
        evolver.tell(proposal, scores, genome=genome)
    return evolver


def test_an_asynchronous_run_is_replayed_branched_and_resumed_exactly(task, db):
    evolver, seen, orphans = search(task), [], []
    seen.append(evolver.archive.ids)
    evolver.subscribe(lambda g: seen.append(g.after.ids))
    evolver.subscribe(lambda g: orphans.append(not set(g.parents) <= set(g.before.ids)))
    evolver.run(120, executor=Scripted(4, script=[None] * 9 + [LOST] * 3), store=db)
    assert any(orphans)  # children whose parents were displaced before the scores arrived
    assert same(evolver, store.resume(db, task=task))
    assert [store.replay(db, step=step).ids for step in range(121)] == seen
    again = repeated(task, db)
    assert same_archive(again.archive, store.replay(db))
    assert again.history.equals(evolver.history)
    branched = store.branch(db, step=70, task=task)
    assert branched.archive.ids == seen[70]
    resumed = store.resume(db, task=task).run(30, store=db)
    assert same(resumed, evolver.run(30))


def test_a_run_that_failed_with_proposals_in_flight_continues_as_the_same_run(task, db):
    evolver = search(task)
    with pytest.raises(EvaluationError):
        evolver.run(50, executor=Scripted(3, script=[None] * 12 + [LOST] * 99), store=db)
    failed = evolver.generation
    evolver.run(20, executor=Scripted(3), store=db)
    (run,) = store.runs(db)
    assert run.last == failed + 20
    assert same(evolver, store.resume(db, task=task))


def test_another_search_at_the_same_step_is_recorded_as_a_new_run(task, db):
    search(task).run(10, store=db)
    resumed = store.resume(db, task=task)
    resumed.load_state_dict(search(task, rng=1).run(10).state_dict())
    resumed.run(5, store=db)
    assert [run.last for run in store.runs(db)] == [10, 15]


def test_cma_es_on_workers_is_resumed_although_scores_arrived_after_their_generation(task, db):
    seeds = task.random_seeds(2, scale=0.5)
    evolver = make_evolver("cma-es", task, seeds, population=5, rng=3)
    evolver.run(60, executor=Scripted(4), store=db)
    assert len(evolver.records.column("child")) == 60
    resumed = store.resume(db, task=task)
    assert same_archive(evolver.archive, resumed.archive)
    assert evolver.history.equals(resumed.history)
    resumed.run(20, executor=Scripted(4), store=db)
    assert store.runs(db)[0].last == 80


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_on_processes_is_resumed_exactly(task, db, workers):
    with recording(record_workers_until_killed, db, workers):
        time.sleep(random.uniform(0.0, 0.3))
    resumed = store.resume(db, task=task)
    stopped = resumed.generation
    again = repeated(task, db)
    assert same_archive(again.archive, resumed.archive)
    assert again.history.equals(resumed.history)
    if workers == 1:  # equal to a run without executor
        assert same(search(task).run(stopped), resumed)
        resumed.run(40, executor=Scripted(1), store=db)
        assert same(search(task).run(stopped + 40), resumed)
    else:
        resumed.run(40, executor=Scripted(2), store=db)
        assert same_archive(repeated(task, db).archive, resumed.archive)
    assert np.array_equal(resumed.records.column("step"), range(1, stopped + 41))
    assert isinstance(resumed, Evolver)
