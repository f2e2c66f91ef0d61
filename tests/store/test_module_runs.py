"""Runs of modules with buffers are recorded, resumed, branched, replayed and scored elsewhere."""

import numpy as np
import pytest
import torch
from helpers.stores import state
from torch import nn

from m2n2lab import (
    DenseSpace,
    Evolver,
    InputError,
    ProcessExecutor,
    load_archive,
    save_archive,
    store,
    tasks,
)
from m2n2lab.core.spaces.buffers import Buffers
from m2n2lab.core.spaces.space import Vector
from m2n2lab.executors import Replayed
from m2n2lab.store.codec import MODULE, fingerprint, pack_genome, unpack_genome

INPUTS = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
        for _ in range(4):
            model(INPUTS * (1 + seed) - seed)
    return model


def right(model, indices):
    with torch.no_grad():
        return torch.softmax(model(INPUTS[indices]), 1)[:, 0].double().numpy()


def task():
    return tasks.from_function(right, points=40, graded=True)


def search(**options):
    return Evolver(task(), [network(0), network(1)], rng=3, archive_size=5, **options)


def whole(evolver):
    """Return the state of a search, with each member's buffers as lists."""
    found = state(evolver)
    for genome in evolver.archive.members:
        assert genome.genome.buffers is not None
    return found


def test_a_resumed_run_goes_on_as_one_that_was_not_interrupted(tmp_path):
    path = tmp_path / "runs.db"
    search(mutation=0.05).run(15, store=path)
    again = Evolver.resume(path, task=task(), seeds=[network(0), network(1)])
    straight = search(mutation=0.05).run(15)
    assert whole(again) == whole(straight)
    assert whole(again.run(15)) == whole(straight.run(15))


@pytest.mark.parametrize("step", [0, 4, 12])
def test_a_branch_begins_with_the_members_buffers(tmp_path, step):
    path = tmp_path / "runs.db"
    search().run(12, store=path)
    branch = store.branch(path, step=step, task=task(), seeds=[network(0), network(1)])
    assert whole(branch) == whole(search().run(step))


def test_seeds_with_other_buffers_are_not_those_of_the_run(tmp_path):
    path = tmp_path / "runs.db"
    search().run(3, store=path)
    other = network(1)
    other[1].running_mean += 1
    with pytest.raises(InputError, match="give the recorded seeds"):
        Evolver.resume(path, task=task(), seeds=[network(0), other])


def test_a_run_is_resumed_with_the_data_of_its_recalibration(tmp_path):
    path, models = tmp_path / "runs.db", [network(0), network(1)]
    made = Evolver(task(), DenseSpace(models, recalibrate=[INPUTS]), rng=1).run(5, store=path)
    again = Evolver.resume(path, task=task(), seeds=DenseSpace(models, recalibrate=[INPUTS]))
    assert whole(again) == whole(made)
    for seeds in (models, DenseSpace(models, recalibrate=[INPUTS + 1])):
        with pytest.raises(InputError, match="must have recalibrate on"):
            Evolver.resume(path, task=task(), seeds=seeds)
    search().run(2, store=path)
    with pytest.raises(InputError, match="must have recalibrate on None"):
        Evolver.resume(path, task=task(), seeds=DenseSpace(models, recalibrate=[INPUTS]))


def test_a_run_that_was_recorded_without_buffers_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    with monkeypatch.context() as earlier:
        earlier.setattr(
            "m2n2lab.store.specs.pack_genome", lambda genome: pack_genome(Vector(genome.values))
        )
        search().run(3, store=path)
    with pytest.raises(InputError, match="recorded without them by an earlier version"):
        Evolver.resume(path, task=task(), seeds=[network(0), network(1)])


def test_a_saved_archive_has_the_members_buffers(tmp_path):
    evolver = search().run(20)
    save_archive(evolver, tmp_path / "archive.safetensors")
    saved = load_archive(tmp_path / "archive.safetensors")
    again = search()
    for model, member in zip(saved.genomes, evolver.archive.members, strict=True):
        genome = again.space.genome(model)
        assert fingerprint(genome) == fingerprint(member.genome)
        scores = again.task.evaluate(again.space.materialise(genome))
        assert scores.mean() == member.score


def test_models_of_a_saved_archive_are_seeds_of_a_search_once_they_are_modules(tmp_path):
    evolver = search().run(20)
    path = tmp_path / "archive.safetensors"
    save_archive(evolver, path)
    with pytest.raises(InputError, match=r"modules of class .*, got no module .*module=…"):
        _ = load_archive(path).models
    again = Evolver(evolver.task, load_archive(path, network(5)).models, rng=0)
    known = [member.score for member in evolver.archive.members]
    assert [member.score for member in again.archive.members] == known


def test_vectors_keep_their_form_and_others_are_told_apart():
    values = np.arange(5, dtype=np.float32)
    merged, carried = values[:2] + 1, np.arange(9, dtype=np.uint8)
    assert pack_genome(Vector(values)) == b"f" + values.tobytes()
    for dtype in (np.float32, np.float64):
        genome = Vector(values.astype(dtype), Buffers(merged.astype(dtype), carried))
        packed = pack_genome(genome)
        assert packed[:1] == MODULE
        again = unpack_genome(packed)
        assert again.values.dtype == again.buffers.merged.dtype == dtype
        for x, y in (
            (genome.values, again.values),
            *zip(genome.buffers, again.buffers, strict=True),
        ):
            assert np.array_equal(x, y)
        assert fingerprint(again) == fingerprint(genome)
    other = Vector(values, Buffers(merged + 1, carried))
    assert fingerprint(other) != fingerprint(Vector(values, Buffers(merged, carried)))


@pytest.mark.slow
def test_workers_score_models_with_their_own_buffers():
    evolver = search()
    with ProcessExecutor(2) as pool:
        evolver.run(20, executor=pool)
        arrivals = pool.arrivals
    for member in evolver.archive.members:
        scores = evolver.task.evaluate(evolver.space.materialise(member.genome))
        assert np.array_equal(scores, evolver.archive.scores_of(member.id))
    again = search()
    again.run(20, executor=Replayed(arrivals))
    assert whole(again) == whole(evolver)
