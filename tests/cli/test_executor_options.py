"""Executor options of the command line."""

import json
import signal

import pytest
from helpers.crews import LOST, Scripted
from helpers.stores import same
from typer.testing import CliRunner

from m2n2lab import Evolver, InputError, ProcessExecutor, RayExecutor, store
from m2n2lab.cli import app
from m2n2lab.cli.executor_options import ExecutorOptions
from m2n2lab.utils.concurrency.processors import processors


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": "rays"}, "no executor named 'rays'; did you mean 'ray'"),
        ({"workers": 2}, "--workers 2 needs --executor processes or ray, got --executor h"),
        ({"timeout": 5.0}, "--timeout 5.0 needs --executor processes or ray"),
        ({"executor": "processes", "gpus": 1.0}, "--gpus-per-worker 1.0 needs --executor r"),
        ({"executor": "processes", "address": "auto"}, "--address auto needs --executor ray"),
        ({"executor": "processes", "workers": 0}, "workers must be an integer >= 1"),
        ({"executor": "processes", "timeout": 0.0}, "timeout must be a finite number >= 0.001"),
        ({"executor": "ray", "gpus": -1.0}, "gpus_per_worker must be a finite number >= 0"),
    ],
)
def test_options_that_exclude_each_other_are_refused_in_one_sentence(options, words):
    with pytest.raises(InputError) as refused:
        ExecutorOptions(**options)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_ray_is_reported_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr("m2n2lab.cli.executor_options.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'not installed; run: pip install "m2n2lab\[ray\]", or'):
        ExecutorOptions("ray")


def test_executors_have_the_options_and_no_worker_before_the_first_run():
    assert ExecutorOptions().make_executor() is None
    pool = ExecutorOptions("processes", workers=3, timeout=5.0, threads=2).make_executor()
    assert isinstance(pool, ProcessExecutor)
    assert (pool.workers, pool.timeout, pool.threads, pool.workers_alive) == (3, 5.0, 2, 0)
    assert ExecutorOptions("processes").make_executor().workers == processors()
    ray = ExecutorOptions("ray", workers=8, gpus=0.5, address="head:6379").make_executor()
    assert isinstance(ray, RayExecutor)
    assert (ray.workers, ray.gpus, ray.address, ray.threads) == (8, 0.5, "head:6379", 1)
    with ExecutorOptions().opened() as executor:
        assert executor is None


@pytest.mark.slow
def test_a_run_on_one_process_is_recorded_and_resumed_as_one_without_executor(tmp_path, digits):
    path = tmp_path / "runs.db"
    options = ("--executor", "processes", "--workers", 1, "--threads", 1, "--json")
    first = call("evolve", "--steps", 12, "--seed", 4, "--store", path, *options)
    assert first.exit_code == 0, first.output
    done = json.loads(first.stdout)
    assert (done["executor"], done["skipped"], done["steps"]) == ("processes", 0, 12)
    then = call("resume", path, "--steps", 5, *options)
    assert then.exit_code == 0, then.output
    assert json.loads(then.stdout)["steps"] == 17
    whole = Evolver(digits, digits.random_seeds(2, rng=4), mutation=0.01, rng=4).run(17)
    assert same(whole, store.resume(path))


def test_children_that_no_worker_could_score_are_counted(monkeypatch):
    monkeypatch.setattr(
        ExecutorOptions, "make_executor", lambda options: Scripted(2, [None] * 3 + [LOST] * 7)
    )
    done = call("evolve", "--steps", 12, "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "no worker could score them: 1" in done.stdout


def test_ctrl_c_waits_for_children_in_flight(monkeypatch):
    class Pressed(Scripted):
        def send(self, worker, number, job):
            super().send(worker, number, job)
            if self.arrivals.events.count(0) == 9:
                signal.raise_signal(signal.SIGINT)

    pool = Pressed(3)
    monkeypatch.setattr(ExecutorOptions, "make_executor", lambda options: pool)
    done = call("evolve", "--steps", 1000, "--threads", 1, "--json")
    assert done.exit_code == 130
    found = json.loads(done.stdout)
    assert found["stopped"]
    assert 9 <= found["steps"] == pool.arrivals.events.count(0) < 20


def test_a_recorded_run_whose_workers_are_always_lost_is_paused_and_can_be_resumed(
    monkeypatch, tmp_path
):
    path = tmp_path / "runs.db"
    monkeypatch.setattr(
        ExecutorOptions, "make_executor", lambda options: Scripted(2, [None] * 5 + [LOST] * 99)
    )
    done = call("evolve", "--steps", 50, "--threads", 1, "--store", path)
    assert done.exit_code == 3
    printed = " ".join(done.stderr.split())
    assert "3 proposals in a row could not be scored" in printed
    assert "go on with: m2n2lab resume" in printed
    monkeypatch.setattr(ExecutorOptions, "make_executor", lambda options: Scripted(2))
    assert call("resume", path, "--steps", 4, "--threads", 1, "--json").exit_code == 0
    (run,) = store.runs(path)
    assert run.last >= 8
