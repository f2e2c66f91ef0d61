"""A record of arrivals replays the run that it belongs to, or is refused in a sentence."""

import json

import numpy as np
import pytest
import torch
from helpers.crews import Scripted
from helpers.merges import same_search
from helpers.stores import search, small
from safetensors.torch import save_file

from m2n2lab import CheckpointSpace, Evolver, InputError, Replayed, make_evolver, store, tasks
from m2n2lab.core.spaces.space import DenseSpace
from m2n2lab.executors import Arrivals


class Lerp(Evolver):
    def merge(self, a, b, split, mix):
        return self.space.genome((1 - mix) * a.values + mix * b.values)


class LerpSpace(DenseSpace):
    merge = Lerp.merge


def recorded(evolver, steps=20):
    crew = Scripted(3)
    evolver.run(steps, executor=crew)
    return crew.arrivals


def replayed(evolver, arrivals, steps=1_000):
    return evolver.run(steps, executor=Replayed(arrivals))


@pytest.fixture(scope="module")
def task():
    return small()


@pytest.fixture(scope="module")
def arrivals(task):
    """The record of a search that begins with seed 0."""
    return recorded(search(task))


def other_task():
    task = small()
    task.name = "large"
    return task


def in_lerp_space(task):
    space = LerpSpace([seed.values for seed in search(task).space.seeds])
    return Evolver(task, space, archive_size=6, mutation=0.2)


OTHERS = {
    "seeds": (lambda task: search(task, rng=1), r"another seeds; make"),
    "options": (
        lambda task: search(task, mutation=0.1),
        r"another options \(mutation 0\.1, not 0\.2\)",
    ),
    "chunk": (lambda task: search(task, chunk=9), r"another options \(chunk 9, not None\)"),
    "task": (lambda task: search(other_task()), r"another task; make"),
    "step": (lambda task: search(task).run(3), r"from step 0, got another step \(3, not 0\)"),
    "method": (
        lambda task: make_evolver(
            "m2n2-no-split", task, search(task).space, archive_size=6, mutation=0.2
        ),
        r"another method \('m2n2-no-split', not 'm2n2'\)",
    ),
    "class": (
        lambda task: Lerp(task, search(task).space, archive_size=6, mutation=0.2),
        r"another class \('test_replay:Lerp', not 'm2n2lab:Evolver'\)",
    ),
    "space": (in_lerp_space, r"another space \('test_replay:LerpSpace', not 'm2n2lab:DenseSpace'"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_search_is_refused_and_stays_as_it_is(other, task, arrivals):
    make, message = OTHERS[other]
    evolver = make(task)
    step = evolver.generation
    with pytest.raises(InputError, match=message):
        replayed(evolver, arrivals)
    assert evolver.generation == step


def test_a_search_in_another_state_is_refused(task, arrivals):
    other = search(task)
    other.ask()
    with pytest.raises(InputError, match="another state; make"):
        replayed(other, arrivals)


def test_other_checkpoints_are_refused(here):
    for k, name in enumerate("abc"):
        torch.manual_seed(k)
        save_file(torch.nn.Linear(4, 3).state_dict(), f"{name}.safetensors")
    even = tasks.from_function(lambda model, at: at % 2 == 0, 6, name="even")

    def make(*names):
        paths = (f"{name}.safetensors" for name in names)
        return Evolver(even, CheckpointSpace(*paths, module=torch.nn.Linear(4, 3)))

    record = recorded(first := make("a", "b"))
    assert first.history.equals(replayed(make("a", "b"), record).history)
    with pytest.raises(InputError, match="another seeds"):
        replayed(make("a", "c"), record)


def test_a_record_names_its_run_in_json_too(task, arrivals):
    state = json.loads(json.dumps(arrivals.state_dict()))
    first = replayed(search(task), arrivals)
    assert same_search(first, replayed(search(task), Arrivals.of(state)))
    with pytest.raises(InputError, match="another seeds"):
        replayed(search(task, rng=1), Arrivals.of(state))
    earlier = {"events": state["events"], "seen": state["seen"]}
    assert same_search(first, replayed(search(task), Arrivals.of(earlier)))


def test_a_pool_records_each_search_by_itself(task):
    crew, first, second = Scripted(3), search(task), search(task, rng=1)
    first.run(15, executor=crew)
    of_first = crew.arrivals
    second.run(15, executor=crew)
    assert same_search(first, replayed(search(task), of_first))
    assert same_search(second, replayed(search(task, rng=1), crew.arrivals))
    with pytest.raises(InputError, match="another seeds"):
        replayed(search(task), crew.arrivals)


def test_several_runs_of_one_search_are_one_record(task):
    crew, evolver = Scripted(3), search(task)
    for steps in (5, 9, 6):
        evolver.run(steps, executor=crew)
    assert same_search(evolver, replayed(search(task), crew.arrivals))


def test_steps_between_two_runs_begin_another_record(task):
    crew, evolver = Scripted(3), search(task)
    evolver.run(12, executor=crew)
    before = crew.arrivals
    evolver.run(4)
    evolver.run(12, executor=crew)
    with pytest.raises(InputError, match=r"from step 16, got another step \(0, not 16\)"):
        replayed(search(task), crew.arrivals)
    again = replayed(search(task), before).run(4)
    assert same_search(evolver, replayed(again, crew.arrivals))


def test_a_proposal_asked_for_between_two_runs_begins_another_record(task):
    crew, evolver = Scripted(3), search(task)
    evolver.run(12, executor=crew)
    evolver.ask()
    evolver.run(12, executor=crew)
    with pytest.raises(InputError, match="from step 12"):
        replayed(search(task), crew.arrivals)


def tell_a_child(evolver):
    proposal = evolver.ask(parents=(evolver.best.id, None))
    evolver.tell(proposal, np.zeros(evolver.task.points, bool))


def take_a_step_back(evolver):
    state = evolver.state_dict()
    evolver.step()
    evolver.take_back(state)
    evolver.ask()


@pytest.mark.parametrize("change", [tell_a_child, take_a_step_back, Evolver.ask])
def test_a_search_that_is_changed_while_children_are_in_flight_cannot_be_replayed(change, task):
    crew, evolver = Scripted(3), search(task)
    evolver.run(20, lambda g: g.step == 8 and change(evolver), executor=crew)
    with pytest.raises(InputError, match="must have all steps of its run, but others were taken"):
        Replayed(crew.arrivals)
    with pytest.raises(InputError, match="must have all steps"):
        Replayed(Arrivals.of(crew.arrivals.state_dict()))
    evolver.run(5, executor=crew)  # another record
    assert crew.arrivals.run["step"] == evolver.generation - 5


def test_a_replay_goes_on_with_its_own_search_only(task, arrivals):
    replay, first, other = Replayed(arrivals), search(task), search(task)
    first.run(5, executor=replay)
    other.run(5, executor=Replayed(arrivals))
    with pytest.raises(InputError, match="must go on with the evolver that it began with"):
        other.run(5, executor=replay)
    first.run(5, executor=replay)
    first.step()
    with pytest.raises(InputError, match="must go on with the evolver"):
        first.run(5, executor=replay)


@pytest.mark.parametrize(
    "method", ["ga", "map-elites", "cycle-qd", "cma-es", "brute-force", "m2n2+"]
)
def test_every_method_is_replayed_and_refuses_another_seed(method, task):
    def make(rng):
        return make_evolver(method, task, task.random_seeds(2, scale=0.5), mutation=0.2, rng=rng)

    first = make(1)
    record = recorded(first, 40)
    again = replayed(make(1), record)
    assert first.history.equals(again.history)
    with pytest.raises(InputError, match=r"another options \(rng 2, not 1\)"):
        replayed(make(2), record)


def test_a_resumed_run_replays_what_was_recorded_after_it(task, tmp_path):
    evolver = search(task)
    evolver.run(10, store=tmp_path / "runs.db")
    record = recorded(evolver)
    resumed = store.resume(tmp_path / "runs.db", task=task)
    assert same_search(evolver, replayed(resumed, record))
