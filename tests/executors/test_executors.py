"""Executors: no child is lost, failures end a run with the reason, and a run can be repeated."""

import contextlib
import multiprocessing
import os
import signal
import threading
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest
import torch
from helpers.crews import LOST, Scripted
from helpers.merges import same_search

from m2n2lab import (
    CheckpointSpace,
    Evolver,
    InputError,
    ProcessExecutor,
    RayExecutor,
    Replayed,
    tasks,
)
from m2n2lab.executors import Arrivals, EvaluationError, ray_executor
from m2n2lab.executors.ray_cluster import LOCAL_RAY, LocalRay
from m2n2lab.executors.worker import pack
from m2n2lab.utils.concurrency.processors import processors


def evolver(task, seeds, **options):
    return Evolver(task, seeds, **{"archive_size": 5, "mutation": 0.1, "rng": 2, **options})


@pytest.mark.parametrize("chunk", [None, 7])
def test_an_asynchronous_run_is_replayed_bit_for_bit(tiny, tiny_seeds, chunk):
    crew = Scripted(script=[None, LOST, None, None, LOST] + [None] * 20 + [LOST] * 4)
    seen = []
    first = evolver(tiny, tiny_seeds, chunk=chunk)
    first.subscribe(lambda g: seen.append(set(g.parents) <= set(g.before.ids)))
    first.run(60, executor=crew, until=lambda g: g.step == 40).run(50, executor=crew)
    assert 90 <= first.generation < 110
    assert not all(seen)  # the parents of some were displaced before the scores arrived
    again = evolver(tiny, tiny_seeds, chunk=chunk)
    record = Arrivals.of(crew.arrivals.state_dict())
    again.run(30, executor=(replayed := Replayed(record))).run(1_000, executor=replayed)
    assert same_search(first, again)
    assert first.history.equals(again.history)
    assert (first.records.column("unseen") > 0).any() == (chunk is not None)


def test_a_run_with_one_worker_equals_a_run_without_executor(tiny, tiny_seeds):
    with_worker = evolver(tiny, tiny_seeds).run(50, executor=Scripted(1))
    assert same_search(with_worker, evolver(tiny, tiny_seeds).run(50))


def test_a_proposal_whose_worker_is_lost_is_retried_three_times_and_then_skipped(
    tiny, tiny_seeds, caplog
):
    crew = Scripted(1, script=[LOST] * 3 + [None] + [LOST] * 4)
    search = evolver(tiny, tiny_seeds).run(5, executor=crew)
    assert (search.generation, crew.workers_alive) == (5, 1)
    ((proposal, reason),) = crew.skipped
    assert reason == "the power went"
    assert "Skipped the child of" in caplog.text
    assert crew.arrivals.events[:5] == [0, 1, 0, -2, 0]
    assert len(proposal.parents) == 2


def test_a_run_whose_workers_are_always_lost_ends_with_the_reason(tiny, tiny_seeds):
    search = evolver(tiny, tiny_seeds)
    with pytest.raises(EvaluationError, match=r"3 proposals in a row .* the power went"):
        search.run(5, executor=Scripted(2, script=[LOST] * 100))
    with pytest.raises(EvaluationError, match=r"3 workers in a row ended .* the power went"):
        search.run(5, executor=Scripted(2, starts=[LOST] * 100))
    assert search.run(5, executor=Scripted(2)).generation == 5


def test_a_task_that_raises_ends_the_run_once_the_others_are_told(tiny, tiny_seeds, tmp_path):
    calls = tmp_path / "calls"  # a list would go to each worker as a copy that counts by itself

    def score(model, indices):
        with calls.open("a") as file:
            file.write(".")
        if calls.stat().st_size == 12:
            raise ZeroDivisionError("data point 3")
        return tiny.score(model, indices)

    crew, task = Scripted(), tasks.from_function(score, tiny.points)
    search = evolver(task, tiny_seeds, mutation=0.1)
    with pytest.raises(
        EvaluationError, match=r"child of .* raised ZeroDivisionError: data point 3"
    ):
        search.run(50, executor=crew)
    told = search.generation
    assert told == crew.arrivals.events.count(0) - 1  # all but one
    assert search.run(5, executor=crew).generation == told + 5


def test_scores_that_cannot_be_used_end_the_run_once_the_others_are_told(tiny, tiny_seeds):
    crew = Scripted()
    search = evolver(tiny, tiny_seeds).run(10, executor=crew)
    crew.script.extend([None, np.full(tiny.points, np.nan)])
    with pytest.raises(InputError, match=r"finite .* got nan on data point 0"):
        search.run(50, executor=crew)
    at = search.generation
    assert at == crew.arrivals.events.count(0) - 1  # all but one
    assert search.run(5, executor=crew).generation == at + 5


def test_an_observer_that_must_be_heard_ends_the_run_at_once(tiny, tiny_seeds):
    crew, search = Scripted(), evolver(tiny, tiny_seeds)

    def full(generation):
        if generation.step == 8:
            raise OSError("disk full")

    search.subscribe(full, strict=True)
    with pytest.raises(OSError, match=r"disk full"):
        search.run(50, executor=crew)
    assert search.generation == 8
    assert crew.arrivals.events[-2:] == [-8, -9] or crew.arrivals.events.count(0) == 10
    search.run(5, executor=crew)
    again = evolver(tiny, tiny_seeds).run(99, executor=Replayed(crew.arrivals))
    assert same_search(search, again)


def test_ctrl_c_finishes_children_in_flight_and_asks_for_no_more(tiny, tiny_seeds, caplog):
    crew, search = Scripted(), evolver(tiny, tiny_seeds)
    search.subscribe(lambda g: g.step == 10 and signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        search.run(50, executor=crew)
    assert search.generation == crew.arrivals.events.count(0) == 12
    assert "Finishing 2 evaluations" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_invalid_record_of_arrivals_is_refused(tiny, tiny_seeds):
    with pytest.raises(InputError, match=r"in flight, got 2 at position 1"):
        evolver(tiny, tiny_seeds).run(
            5, executor=Replayed(Arrivals.of({"events": [0, 2], "seen": {}}))
        )
    with pytest.raises(InputError, match=r"events and seen of a state_dict"):
        Arrivals.of({"events": None})


def test_a_task_that_cannot_be_pickled_is_refused(tiny, tiny_seeds):
    lock = threading.Lock()
    task = tasks.from_function(lambda m, i: lock and np.ones(len(i)), 3, name="locked")
    with pytest.raises(InputError, match=r"'locked' .* sent to workers, .* lock"):
        evolver(task, tiny_seeds).run(1, executor=ProcessExecutor())


def test_checkpoints_are_sent_to_workers_as_their_paths(models):
    space = CheckpointSpace(models / "a", models / "sharded", dtype="float32")
    task = tasks.from_function(lambda model, indices: np.ones(len(indices)), 3)
    packed = pack(task, space)
    assert len(packed) < 5_000
    _, other = cloudpickle.loads(packed)
    child = space.merge(*space.seeds, split=100, mix=0.3)
    mine, its = space.materialise(child), other.materialise(other.genome(space.pack(child)))
    for one, two in zip(mine.parameters(), its.parameters(), strict=True):
        assert torch.equal(one, two)
    assert other.angle(*other.seeds) == space.angle(*space.seeds)


class Keeping(CheckpointSpace):
    """Gives tasks the recipe itself."""

    def materialise(self, genome):
        return genome


def test_a_custom_space_of_checkpoints_stays_itself_in_workers(models):
    space = Keeping(models / "a", models / "sharded")
    task = tasks.from_function(lambda model, indices: model.coef[0, indices] > 0.5, 2)
    _, other = cloudpickle.loads(pack(task, space))
    assert type(other) is Keeping
    search = Evolver(task, space, rng=0).run(4, executor=Scripted(2))
    assert search.generation == 4


# -- real workers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    others = set(multiprocessing.active_children())
    with ProcessExecutor(2) as pool:
        yield pool
        assert len(set(multiprocessing.active_children()) - others) == 2
    assert pool.workers_alive == 0
    assert set(multiprocessing.active_children()) <= others


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all tests; it starts in some 15 seconds."""
    with RayExecutor(2) as pool:
        yield pool
        folder = LOCAL_RAY.folder
    assert not os.path.exists(folder)


def check_pool(pool, tiny, tiny_seeds, folder, strikes, steps=30):
    """Run on real workers of which some are killed, and take the run again here."""

    def score(model, indices):
        """Score as ever, or die on the way, once for each strike."""
        for strike in folder.glob("strike*") if os.getpid() != home else ():
            with contextlib.suppress(FileNotFoundError):  # it has struck another one
                strike.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return tiny.score(model, indices)

    home, task = os.getpid(), tasks.from_function(score, tiny.points)
    pool.arrivals = Arrivals()
    search = evolver(task, tiny_seeds, chunk=20)
    search.subscribe(lambda g: g.step in strikes and (folder / f"strike {g.step}").touch())
    search.run(steps, executor=pool)
    assert not list(folder.iterdir())
    assert (search.generation, pool.skipped, pool.workers_alive) == (steps, [], 2)
    again = evolver(task, tiny_seeds, chunk=20).run(steps, executor=Replayed(pool.arrivals))
    assert same_search(search, again)


def test_processes_that_are_killed_lose_nothing(processes, tiny, tiny_seeds, tmp_path):
    check_pool(processes, tiny, tiny_seeds, tmp_path, [10])


def check_slots(pool, seeds):
    """Score children 1 in workers that find the slots filled which core leaves to others."""

    def score(model, indices):
        from m2n2lab.core.extensions import extension
        from m2n2lab.core.spaces.recipe import Recipe

        filled = all(callable(extension(slot)) for slot in ("html", "plots", "recorder", "resume"))
        return np.full(len(indices), filled and "seed 0" in Recipe.seed(0, 2, 4)._repr_html_())

    search = evolver(tasks.from_function(score, 10), seeds).run(4, executor=pool)
    assert search.records.column("score").tolist() == [1.0] * 4


@pytest.mark.slow
def test_worker_processes_find_the_extension_slots_filled(processes, tiny_seeds):
    check_slots(processes, tiny_seeds)


@pytest.mark.slow
def test_ray_workers_find_the_extension_slots_filled(cluster, tiny_seeds):
    check_slots(cluster, tiny_seeds)


def odd_tasks():
    """Return odd functions of a number of data points, all nested: they travel by value."""

    class UnprintableError(Exception):
        def __str__(self):
            raise RuntimeError

    class UnpicklableError(Exception):
        def __reduce__(self):
            raise TypeError

    def raising(make):
        def score(count):
            raise make()

        return score

    return {
        "unprintable": (raising(UnprintableError), EvaluationError, "raised UnprintableError"),
        "not to be pickled": (
            raising(lambda: UnpicklableError("why")),
            EvaluationError,
            "UnpicklableError: why",
        ),
        "the program is left": (raising(lambda: SystemExit(3)), EvaluationError, "."),
        "another shape": (lambda count: np.ones(count + 1), InputError, "one score per data point"),
        "no number": (lambda count: np.full(count, np.nan), InputError, "finite"),
        "text": (lambda count: ["right"] * count, InputError, "score"),
    }


ODD = tuple(odd_tasks())


def check_odd(pool, tiny, seeds, what):
    """Run a task that is odd in workers alone: it ends with the reason, and the pool goes on."""
    odd, error, words = odd_tasks()[what]
    home = os.getpid()

    def score(model, indices):
        return tiny.score(model, indices) if os.getpid() == home else odd(len(indices))

    with pytest.raises(error, match=words):
        evolver(tasks.from_function(score, tiny.points), seeds).run(8, executor=pool)
    assert evolver(tiny, seeds).run(4, executor=pool).generation == 4
    pool.skipped.clear()


@pytest.mark.slow
@pytest.mark.parametrize("what", ODD)
def test_odd_tasks_end_a_run_on_processes_with_the_reason(processes, tiny, tiny_seeds, what):
    check_odd(processes, tiny, tiny_seeds, what)


@pytest.mark.slow
@pytest.mark.parametrize("what", ODD)
def test_odd_tasks_end_a_run_on_ray_with_the_reason(cluster, tiny, tiny_seeds, what):
    check_odd(cluster, tiny, tiny_seeds, what)


@pytest.mark.slow
def test_a_model_that_hangs_is_given_up_and_its_worker_replaced(tiny, tiny_seeds, tmp_path):
    trap = tmp_path / "trap"
    trap.touch()

    def score(model, indices):
        import time

        if os.getpid() != home:
            with contextlib.suppress(FileNotFoundError):
                trap.unlink()
                time.sleep(600)
        return tiny.score(model, indices)

    home = os.getpid()
    task = tasks.from_function(score, tiny.points)
    with ProcessExecutor(1, timeout=1.0) as pool:
        search = evolver(task, tiny_seeds).run(3, executor=pool)
    assert (search.generation, pool.skipped) == (3, [])
    assert not trap.exists()


@pytest.mark.slow
def test_ray_workers_that_are_killed_lose_nothing(cluster, tiny, tiny_seeds, tmp_path):
    check_pool(cluster, tiny, tiny_seeds, tmp_path, [10])


@pytest.mark.slow
def test_workers_of_a_second_ray_executor_do_not_wait_for_those_of_the_first(
    cluster, tiny, tiny_seeds
):
    search = evolver(tiny, tiny_seeds).run(4, executor=cluster)
    with RayExecutor(processors()) as other:
        search.run(4, executor=other)
        assert (other.workers_alive, cluster.workers_alive) == (other.workers, cluster.workers)
    assert search.run(4, executor=cluster).generation == 12


def test_local_ray_ends_with_its_last_user():
    class Ray:
        up = False

        def is_initialized(self):
            return self.up

        def init(self, *_, **__):
            self.up = True

        def shutdown(self):
            self.up = False

    ray, local = Ray(), LocalRay()
    for user in "ab":
        local.acquire(ray, user)
    folder = local.folder
    local.release(ray, "a")
    assert ray.up
    assert os.path.isdir(folder)
    local.release(ray, "a")  # closed twice
    assert ray.up
    local.release(ray, "b")
    assert not ray.up
    assert not os.path.exists(folder)
    local.acquire(ray, "c")
    ray.shutdown()  # by other code
    local.acquire(ray, "d")
    assert ray.up
    assert os.path.isdir(local.folder)
    for user in "cd":
        local.release(ray, user)
    assert not ray.up
    assert local.folder is None


@pytest.mark.slow
def test_killing_a_ray_worker_during_each_of_twenty_evaluations_loses_nothing(
    cluster, tiny, tiny_seeds, tmp_path
):
    check_pool(cluster, tiny, tiny_seeds, tmp_path, range(1, 21))


@pytest.mark.slow
def test_gpus_that_are_not_there_are_said_to_be_missing(cluster, tiny, tiny_seeds):
    search = Evolver(tiny, tiny_seeds, rng=0).run(1, executor=cluster)
    with RayExecutor(2, gpus_per_worker=1) as pool:
        with pytest.raises(InputError, match=r"1 GPUs for each worker .* machine has 0"):
            search.run(3, executor=pool)
        assert search.generation == 1
    assert search.run(3, executor=cluster).generation == 4


@pytest.mark.slow
def test_gpus_that_are_too_few_for_all_workers_are_waited_for(cluster, tiny, caplog, monkeypatch):
    import ray

    Evolver(tiny, tiny.random_seeds(2), rng=0).run(1, executor=cluster)
    actor = SimpleNamespace(ready=SimpleNamespace(remote=object))
    kind = SimpleNamespace(remote=lambda *_: actor)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 1.0})
    monkeypatch.setattr(ray, "remote", lambda **_: lambda worker: kind)
    monkeypatch.setattr(ray, "kill", lambda actor: None)
    with RayExecutor(2, gpus_per_worker=0.5) as pool:
        pool.start()
    assert not caplog.text
    with RayExecutor(3, gpus_per_worker=0.5) as pool:  # two at a time
        pool.start()
    with RayExecutor(2, address="head:6379", gpus_per_worker=2) as pool:  # it may grow
        pool.start()
    assert caplog.text.count("workers wait until some are free") == 2


def test_a_ray_that_cannot_be_reached_or_started_is_named(monkeypatch, caplog):
    import ray

    def init(*_, **__):
        raise ConnectionError("nobody answers.\nsee the log")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray_executor, "LOCAL_RAY", LocalRay())
    with pytest.raises(InputError, match=r"reach Ray at 'head:6379', .* \(nobody answers\)"):
        RayExecutor(2, address="head:6379").start()
    assert not caplog.text
    with pytest.raises(InputError, match=r"reach Ray on this machine, .* \(nobody answers\)"):
        RayExecutor(2).start()
    assert caplog.text.count("trying again") == 2
