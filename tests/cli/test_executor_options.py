"""Where the command line has children scored."""

import json
import signal

import pytest
from helpers.crews import LOST, Scripted
from helpers.stores import same
from typer.testing import CliRunner

from m2n2lab import Evolver, InputError, ProcessExecutor, RayExecutor, store
from m2n2lab.cli import app
from m2n2lab.cli.executor_options import Place
from m2n2lab.utils.processors import processors


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": "rays"}, "no executor named 'rays'; did you mean 'ray'"),
        ({"workers": 2}, "--workers is for workers on processes or ray, but --workers 2 came"),
        ({"timeout": 5.0}, "--timeout is for workers on processes or ray"),
        ({"executor": "processes", "gpus": 1.0}, "--gpus-per-worker is for workers on ray"),
        ({"executor": "processes", "address": "auto"}, "--address is for workers on ray"),
        ({"executor": "processes", "workers": 0}, "workers must be an integer >= 1"),
        ({"executor": "processes", "timeout": 0.0}, "timeout must be a finite number >= 0.001"),
        ({"executor": "ray", "gpus": -1.0}, "gpus_per_worker must be a finite number >= 0"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(options, words):
    with pytest.raises(InputError) as refused:
        Place(**options)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ray_that_is_not_installed_is_named_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr("m2n2lab.cli.executor_options.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'not installed; run: pip install "m2n2lab\[ray\]", or'):
        Place("ray")


def test_workers_are_made_as_asked_for_and_start_with_the_first_run():
    assert Place().crew() is None
    pool = Place("processes", workers=3, timeout=5.0, threads=2).crew()
    assert isinstance(pool, ProcessExecutor)
    assert (pool.workers, pool.timeout, pool.threads, pool.workers_alive) == (3, 5.0, 2, 0)
    assert Place("processes").crew().workers == processors()
    ray = Place("ray", workers=8, gpus=0.5, address="head:6379").crew()
    assert isinstance(ray, RayExecutor)
    assert (ray.workers, ray.gpus, ray.address, ray.threads) == (8, 0.5, "head:6379", 1)
    with Place().opened() as crew:
        assert crew is None


def test_one_process_scores_what_would_be_scored_here_recorded_and_resumed(tmp_path, digits):
    path = tmp_path / "runs.db"
    options = ("--executor", "processes", "--workers", 1, "--threads", 1, "--json")
    first = call("evolve", "--steps", 12, "--seed", 4, "--store", path, *options)
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert (told["executor"], told["skipped"], told["steps"]) == ("processes", 0, 12)
    then = call("resume", path, "--steps", 5, *options)
    assert then.exit_code == 0, then.output
    assert json.loads(then.stdout)["steps"] == 17
    whole = Evolver(digits, digits.random_seeds(2, rng=4), mutation=0.01, rng=4).run(17)
    assert same(whole, store.resume(path))


def test_children_that_no_worker_could_score_are_counted(monkeypatch):
    monkeypatch.setattr(Place, "crew", lambda place: Scripted(2, [None] * 3 + [LOST] * 7))
    told = call("evolve", "--steps", 12, "--threads", 1)
    assert told.exit_code == 0, told.output
    assert "no worker could score them: 1" in told.stdout


def test_ctrl_c_lets_children_in_flight_arrive(monkeypatch):
    class Pressed(Scripted):
        def send(self, worker, number, job):
            super().send(worker, number, job)
            if self.arrivals.events.count(0) == 9:
                signal.raise_signal(signal.SIGINT)

    crew = Pressed(3)
    monkeypatch.setattr(Place, "crew", lambda place: crew)
    told = call("evolve", "--steps", 1000, "--threads", 1, "--json")
    assert told.exit_code == 130
    found = json.loads(told.stdout)
    assert found["stopped"]
    assert 9 <= found["steps"] == crew.arrivals.events.count(0) < 20


def test_workers_that_are_always_lost_pause_a_recorded_run_and_say_how_to_go_on(
    monkeypatch, tmp_path
):
    path = tmp_path / "runs.db"
    monkeypatch.setattr(Place, "crew", lambda place: Scripted(2, [None] * 5 + [LOST] * 99))
    told = call("evolve", "--steps", 50, "--threads", 1, "--store", path)
    assert told.exit_code == 3
    said = " ".join(told.stderr.split())
    assert "3 proposals in a row could not be scored" in said
    assert "go on with: m2n2lab resume" in said
    monkeypatch.setattr(Place, "crew", lambda place: Scripted(2))
    assert call("resume", path, "--steps", 4, "--threads", 1, "--json").exit_code == 0
    (run,) = store.runs(path)
    assert run.last >= 8
