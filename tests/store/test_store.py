"""Recorded runs are resumed, replayed and branched bit for bit."""

import sqlite3

import numpy as np
import pytest
import torch
from helpers.grids import GRIDS
from helpers.stores import same, same_archive, search
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from m2n2lab import CheckpointSpace, Evolver, InputError, make_evolver, store, tasks
from m2n2lab.core.methods.registry import METHODS
from m2n2lab.store.codec import pack_rng, pack_scores, unpack_rng, unpack_scores
from m2n2lab.store.schema import StoreError


@pytest.fixture(scope="module")
def recorded(task, tmp_path_factory):
    """A run of 120 steps in batches of 13, and the population after each step."""
    path = tmp_path_factory.mktemp("recorded") / "runs.db"
    evolver = search(task)
    moments = [evolver.archive.population]
    with store.record(evolver, path, batch=13):
        for _ in range(120):
            evolver.step()
            moments.append(evolver.archive.population)
    return path, moments


# -- resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_continues_bit_for_bit(method, task, db):
    options = {"mutation": 0.2} | ({} if method in GRIDS else {"archive_size": 6})
    whole, half = (
        make_evolver(method, task, task.random_seeds(2, rng=4, scale=0.5), rng=4, **options)
        for _ in range(2)
    )
    whole.run(90)
    half.run(50, store=db)
    resumed = store.resume(db, task=task)
    assert (resumed.generation, resumed.method) == (50, method)
    resumed.run(25, store=db).run(15, store=db)
    assert [run.last for run in store.runs(db)] == [90]
    assert np.array_equal(whole.records.table(), resumed.records.table(), equal_nan=True)
    if method != "cma-es":
        same(whole, resumed)
        same(whole, store.resume(db, task=task))
    assert whole.ask() == resumed.ask()


def test_resuming_evaluates_nothing(task, db, monkeypatch):
    search(task).run(20, store=db)
    monkeypatch.setattr(tasks.Classify, "score", None)
    monkeypatch.setattr(tasks.Classify, "held_out", None)
    resumed = store.resume(db, task=task)
    assert resumed.generation == 20
    assert resumed.test == resumed.records.column("test")[-1]


def test_a_task_of_the_lab_is_made_again_with_its_seeds(digits, db):
    evolver = Evolver(digits, digits.random_seeds(2), mutation=0.01).run(8, store=db)
    assert same(evolver, Evolver.resume(db))


def test_a_sum_of_tasks_with_graded_scores_and_shares_is_restored(db):
    def graded(model, at):
        return torch.sigmoid(model[at % 5]).numpy()

    def right(model, at):
        return model[at % 5] > 0

    task = tasks.from_function(graded, 7, graded=True) + tasks.from_function(right, 11)
    seeds = np.random.default_rng(0).normal(size=(3, 5))
    evolver = Evolver(task, seeds, mutation=0.3, archive_size=5).run(60, store=db)
    assert same(evolver, store.resume(db, task=task))
    assert same_archive(evolver.archive, store.replay(db))
    assert same(search_to(task, seeds, 31), store.branch(db, step=31, task=task))


def search_to(task, seeds, steps):
    return Evolver(task, seeds, mutation=0.3, archive_size=5).run(steps)


def test_torch_modules_as_seeds_must_be_given_again(db):
    X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    models = [torch.nn.Linear(4, 3) for _ in range(3)]
    task = tasks.from_function(lambda model, i: model(X[i]).argmax(1) == i % 3, 30)
    evolver = Evolver(task, models[:2], mutation=0.1, archive_size=4).run(30, store=db)
    with pytest.raises(StoreError, match="give it as task="):
        Evolver.resume(db)
    with pytest.raises(StoreError, match="give the seeds as seeds="):
        Evolver.resume(db, task=task)
    with pytest.raises(StoreError, match=r"seed 1 must have SHA-256 \w{12}…, got \w{12}…; give"):
        Evolver.resume(db, task=task, seeds=models[::2])
    with pytest.raises(StoreError, match="must have 2 seeds of 15 parameters, got 3 of 15;"):
        Evolver.resume(db, task=task, seeds=models)
    assert same(evolver, Evolver.resume(db, task=task, seeds=models[:2]))


def test_checkpoints_are_opened_again_and_a_changed_one_is_refused(seeds, db):
    task = tasks.from_function(lambda model, at: at % 2 == 0, 6, name="even")
    space = CheckpointSpace("a", "b", granularity="tensor", module=object())
    space.materialise = lambda recipe: recipe
    evolver = Evolver(task, space, archive_size=4, rng=3)
    rng = np.random.default_rng(5)
    with store.record(evolver, db):
        for _ in range(40):
            evolver.tell(evolver.ask(), rng.random(6) < 0.5)
    with pytest.raises(StoreError, match="seeds="):
        store.resume(db, task=task)
    again = store.resume(db, task=task, seeds=space)
    assert [m.genome for m in again.archive.members] == [m.genome for m in evolver.archive.members]
    assert again.ask() == evolver.ask()
    early = store.branch(db, step=11, task=task, seeds=space)
    assert early.generation == 11
    assert all(member.genome is not None for member in early.archive.members)
    other = CheckpointSpace("b", "a", module=object())
    with pytest.raises(StoreError, match="SHA-256"):
        store.resume(db, task=task, seeds=other)


def test_a_space_of_checkpoints_is_made_again_from_their_paths(seeds, db):
    task = tasks.from_function(lambda model, at: at % 2 == 0, 6, name="even")
    known = np.eye(2, 6, dtype=bool)
    evolver = Evolver(task, CheckpointSpace("a", "b", granularity="tensor"), known=known)
    with store.record(evolver, db):
        evolver.tell(evolver.ask(), np.ones(6, bool))
    again = store.resume(db, task=task)
    assert again.space.granularity == "tensor"
    assert [m.genome for m in again.archive.members] == [m.genome for m in evolver.archive.members]


# -- replay and branch -------------------------------------------------------------------------


def test_every_step_is_replayed_as_it_was(recorded, task):
    path, moments = recorded
    assert store.steps(path) == range(121)
    seen = search(task)
    for step, population in enumerate(moments):
        found = store.replay(path, step=step)
        assert found.standing.ids == population.standing.ids
        assert np.array_equal(found.fitness, population.standing.fitness)
        assert same_archive(seen.archive, found)
        seen.step()


@settings(max_examples=12)
@given(st.integers(0, 120))
def test_a_branch_from_any_step_is_the_search_of_that_step(recorded, task, step):
    path, _ = recorded
    assert same(search(task).run(step), store.branch(path, step=step, task=task))


def test_a_branch_is_recorded_as_a_new_run(recorded, task, db):
    with sqlite3.connect(recorded[0]) as source, sqlite3.connect(db) as copy:
        source.backup(copy)
    for step in (40, 120):
        other = store.branch(db, 1, step, task=task)
        other.run(30, store=db)
    first, second, third = store.runs(db)
    assert [run.parent for run in (first, second, third)] == [None, 1, 1]
    assert (second.start, second.last, third.start, third.last) == (40, 70, 120, 150)
    assert store.steps(db, 2) == range(40, 71)
    assert same(search(task).run(70), store.resume(db, 2, task=task))
    assert same(search(task).run(55), store.branch(db, 2, 55, task=task))
    with pytest.raises(StoreError, match=r"step must be in \[40, 70\] for run 2, got 39;"):
        store.replay(db, 2, 39)


def test_an_external_model_is_kept_for_its_descendants(task, db):
    evolver = search(task)
    with store.record(evolver, db, batch=5):
        evolver.run(10)
        model = np.random.default_rng(3).normal(size=task.layout.size)
        external = evolver.tell(model, np.ones(task.points, bool)).child
        while external in evolver.archive:  # its children displace it in the end
            proposal = evolver.ask(parents=(external, None))
            evolver.tell(proposal, np.ones(task.points, bool))
        middle = evolver.generation
        assert any(external in member.parents for member in evolver.archive.members)
        evolver.run(20)
    assert same(evolver, store.branch(db, step=middle, task=task).run(20))
    assert same(evolver, store.resume(db, task=task))


def test_a_member_that_was_merged_with_itself_is_bred_again(task, db):
    evolver, right = search(task), np.ones(task.points, bool)

    def until_it_is_displaced(id):
        while id in evolver.archive:
            evolver.tell(evolver.ask(), right)

    with store.record(evolver, db):
        evolver.run(10)
        parent = evolver.tell(evolver.ask(), right).child
        child = evolver.tell(evolver.ask(parents=(parent, parent)), right).child
        until_it_is_displaced(parent)
        assert child in evolver.archive
        middle, then = evolver.generation, evolver.state_dict()
        until_it_is_displaced(child)
    found = store.branch(db, step=middle, task=task).state_dict()
    for mine, its in zip(then["archive"]["genomes"], found["archive"]["genomes"], strict=True):
        assert (mine is None and its is None) or np.array_equal(mine, its)


# -- by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_step_that_is_taken_back_is_taken_back_in_the_store(task, db, batch):
    evolver, plain = search(task), search(task)
    with store.record(evolver, db, batch=batch):
        for _ in range(30):
            evolver.run(2)
            before = evolver.state_dict()
            evolver.tell(evolver.ask(), np.ones(task.points, bool))
            evolver.take_back(before)
    plain.run(60)
    assert same(plain, evolver)
    assert same(plain, store.resume(db, task=task))
    assert same_archive(search(task).run(31).archive, store.replay(db, step=31))


def test_an_external_model_that_is_taken_back_leaves_nothing(task, db):
    evolver = search(task)
    with store.record(evolver, db, batch=1):
        evolver.run(3)
        before = evolver.state_dict()
        evolver.tell(np.zeros(task.layout.size), np.ones(task.points, bool))
        evolver.take_back(before)
        evolver.run(10)
    assert same(search(task).run(13), store.resume(db, task=task))


def test_a_search_whose_state_was_loaded_is_not_recorded_into_the_same_run(task, db):
    evolver = search(task)
    early = evolver.run(5).state_dict()
    with store.record(evolver, db):
        evolver.run(5)
        evolver.load_state_dict(early)
        with pytest.raises(StoreError, match="moved to another state"):
            evolver.step()
    assert store.runs(db)[0].last == 10


def test_a_run_recorded_from_the_middle_includes_the_history_before(task, db):
    evolver = search(task).run(25)
    evolver.run(15, store=db)
    assert store.steps(db) == range(25, 41)
    assert same(search(task).run(40), store.resume(db, task=task))
    evolver.run(3)  # not recorded
    evolver.run(4, store=db)
    assert [(run.start, run.last, run.parent) for run in store.runs(db)] == [
        (25, 40, None),
        (43, 47, 1),
    ]


def test_cma_es_recorded_from_the_middle_cannot_be_resumed(task, db):
    seeds = task.random_seeds(2)
    make_evolver("cma-es", task, seeds).run(3).run(30, store=db)
    assert len(store.replay(db, step=20)) > 2
    with pytest.raises(StoreError, match="record such a search from its start"):
        store.resume(db, task=task)


# -- codecs ------------------------------------------------------------------------------------


@given(
    arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 10) | st.just(np.nan))
    | arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 1.0, np.nan]))
    | arrays(bool, st.integers(1, 40))
)
def test_scores_are_unpacked_exactly(scores):
    unpacked = unpack_scores(pack_scores(scores), len(scores))
    assert np.array_equal(unpacked, scores.astype(float), equal_nan=True)


def test_binary_scores_take_one_bit_each_and_two_if_some_are_missing():
    scores = np.arange(800) % 2
    assert len(pack_scores(scores == 1)) == len(pack_scores(scores)) == 101
    assert len(pack_scores(np.where(scores == 1, np.nan, 0.0))) == 201


@given(st.integers(0, 2**63), st.booleans())
def test_the_state_of_a_generator_is_unpacked_exactly(seed, half):
    rng = np.random.default_rng(seed)
    if half:
        rng.integers(10, dtype=np.int32)
    other = np.random.default_rng(0)
    other.bit_generator.state = unpack_rng(pack_rng(rng))
    assert other.bit_generator.state == rng.bit_generator.state


def test_other_genomes_are_refused_before_anything_is_written(task, db):
    evolver = search(task)
    evolver.space.seeds = (object(), object())
    with pytest.raises(InputError, match="must be vectors or recipes, got object;"):
        store.record(evolver, db)
    search(task).run(1, store=db)
    assert len(store.runs(db)) == 1
