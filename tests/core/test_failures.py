"""Steps that fail: asked for again, tried again or skipped, by every method and on workers."""

import numpy as np
import pytest
from helpers.crews import LOST, Scripted
from helpers.grids import GRIDS
from helpers.merges import same_search
from helpers.stores import same, search, small

from m2n2lab import METHODS, Evolver, InputError, Replayed, make_evolver, store, tasks
from m2n2lab.executors import Arrivals, EvaluationError
from m2n2lab.executors.worker import Failure
from m2n2lab.utils.progress import Halted


class Fragile(tasks.Task):
    """The small task, which raises while there are failures left.

    Args:
        failures: what the next evaluations raise, ``None`` where they do not.
    """

    def __init__(self, failures=()):
        self.inner = small()
        super().__init__(
            self.inner.points,
            name="fragile",
            groups=self.inner.groups,
            classes=self.inner.classes,
        )
        self.failures = list(failures)
        self.calls = 0

    def score(self, model, indices):
        self.calls += 1
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        return self.inner.score(model, indices)


def start(method="m2n2", failures=(), **options):
    task = Fragile()
    if method not in GRIDS:
        options = {"archive_size": 6} | options
    if method == "cma-es":
        options = {"population": 5} | options
    seeds = small().random_seeds(2, rng=0, scale=0.5)
    evolver = make_evolver(method, task, seeds, mutation=0.2, rng=3, **options)
    task.failures, task.calls = list(failures), 0
    return evolver


def like(a, b):
    """Compare two searches by all that they have, CMA-ES by what it proposes next."""
    assert np.array_equal(a.records.table(), b.records.table(), equal_nan=True)
    assert np.array_equal(a.archive.scores, b.archive.scores)
    ours, theirs = a.ask(), b.ask()
    assert ours == theirs
    assert np.array_equal(a.breed(ours).values, b.breed(theirs).values)
    assert a.rng.bit_generator.state == b.rng.bit_generator.state
    return True


STOPS = [ZeroDivisionError("point 3"), KeyboardInterrupt(), Halted()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: type(stop).__name__)
@pytest.mark.parametrize("at", [0, 4, 5])  # CMA-ES draws a generation at 0 and at 5
def test_after_a_failure_the_same_child_is_asked_for_again(method, stop, at):
    evolver = start(method, [None] * at + [stop, stop])
    for _ in range(2):
        with pytest.raises(type(stop)):
            evolver.run(20)
        assert evolver.generation == at
    evolver.run(20 - at)
    assert like(evolver, start(method).run(20))


def test_a_failed_step_leaves_the_state_as_it_was():
    evolver, plain = start(failures=[None] * 6 + [ValueError()]), start().run(6)
    with pytest.raises(ValueError, match=r"^$"):
        evolver.run(10)
    assert same(evolver, plain)
    other = start()
    other.load_state_dict(evolver.state_dict())
    assert other.ask() == evolver.ask() == plain.ask()


def test_a_child_by_hand_may_come_before_the_one_that_is_asked_for_again():
    evolver = start(failures=[ValueError()])
    expected = start().ask()
    with pytest.raises(ValueError, match=r"^$"):
        evolver.step()
    evolver.tell(evolver.ask(parents=(0, 1), mix=0.5))
    assert evolver.step().proposal == expected
    evolver.run(5)


@pytest.mark.parametrize("method", ["m2n2", "brute-force", "cma-es"])
def test_a_recorded_run_that_failed_goes_on_as_the_same_run(method, tmp_path):
    path = tmp_path / "runs.db"
    evolver = start(method, [None] * 7 + [OSError("gone")])
    with pytest.raises(OSError, match="gone"):
        evolver.run(20, store=path)
    resumed = store.resume(path, task=Fragile())
    evolver.run(13, store=path)
    assert [run.last for run in store.runs(path)] == [20]
    assert like(evolver, resumed.run(13))


# -- catch and retries ------------------------------------------------------------------------


def test_a_child_is_tried_again_as_often_as_is_said(caplog):
    evolver = start(failures=[None, *[OSError("busy")] * 2, None, OSError("busy")])
    evolver.run(10, retries=2)
    assert evolver.task.calls == 13
    assert caplog.text.count("OSError: busy; trying again") == 3
    assert same(evolver, start().run(10))
    evolver.task.failures = [OSError("busy")] * 3
    with pytest.raises(OSError, match="busy"):
        evolver.run(10, retries=2)
    assert same(evolver.run(1), start().run(11))


@pytest.mark.parametrize("method", METHODS)
def test_a_child_is_skipped_where_its_exception_is_caught(method, caplog):
    evolver = start(method, [None] * 3 + [ZeroDivisionError("point 3")])
    evolver.run(10, catch=ArithmeticError)
    assert (evolver.generation, evolver.task.calls) == (9, 10)
    assert caplog.text.count("ZeroDivisionError: point 3") == 1
    plain, proposals = start(method), []
    for _ in range(10):
        proposals.append(plain.ask())
        if len(proposals) != 4:
            plain.tell(proposals[-1])
    assert like(evolver, plain)


def test_a_child_is_tried_again_before_it_is_skipped():
    evolver = start(failures=[*[OSError()] * 3, None, OSError()])
    evolver.run(3, catch=(OSError, ValueError), retries=2)
    assert (evolver.generation, evolver.task.calls) == (2, 6)


def test_what_is_not_caught_is_raised_and_a_stop_is_never_caught():
    for stop in (OSError("disk"), Halted(), KeyboardInterrupt()):
        evolver = start(failures=[None, stop])
        with pytest.raises(type(stop)):
            evolver.run(5, catch=(ValueError,) if isinstance(stop, OSError) else Exception)
        assert (evolver.generation, evolver.task.calls) == (1, 2)
    evolver = start(failures=[Halted()])
    with pytest.raises(Halted):
        evolver.run(5, retries=3)
    assert evolver.task.calls == 1


def test_an_observer_that_must_be_heard_is_no_failure_of_the_child():
    evolver = start()

    def full(generation):
        if generation.step == 3:
            raise OSError("disk full")

    evolver.subscribe(full, strict=True)
    with pytest.raises(OSError, match="disk full"):
        evolver.run(5, catch=OSError, retries=2)
    assert (evolver.generation, evolver.task.calls) == (3, 3)
    assert same(evolver.run(2), start().run(5))


def test_scores_that_cannot_be_used_are_skipped_like_exceptions():
    scores = iter([np.ones(4)] * 3 + [np.full(4, np.nan)] + [np.ones(4)] * 9)
    task = tasks.from_function(lambda model, at: next(scores), 4)
    evolver = Evolver(task, np.eye(2)).run(4, catch=InputError)
    assert evolver.generation == 3


@pytest.mark.parametrize("bad", ["ValueError", ValueError("x"), 3, None, BaseException, (int,)])
def test_what_is_no_exception_cannot_be_caught(bad):
    with pytest.raises(InputError, match="catch must be an exception class or a tuple"):
        start().run(1, catch=bad)


@pytest.mark.parametrize("bad", [-1, 1.5, "1", None])
def test_a_number_of_retries_is_a_number(bad):
    with pytest.raises(InputError, match="retries must be an integer >= 0"):
        start().run(1, retries=bad)


# -- on workers -------------------------------------------------------------------------------


def failure(error):
    """Return an exception as a worker sends it."""
    try:
        raise error
    except Exception as raised:
        return Failure.of(raised)


def again(evolver, crew, start, steps=999):
    """Whether a record of arrivals, as it is saved, repeats a search."""
    record = Arrivals.of(crew.arrivals.state_dict())
    repeated, executor = start(), Replayed(record)
    while repeated.generation < evolver.generation:
        repeated.run(steps, executor=executor)
    return same_search(evolver, repeated)


@pytest.mark.parametrize("chunk", [None, 9])
def test_workers_ask_again_for_what_an_error_left_untold(chunk):
    def begin():
        return search(small(), chunk=chunk)

    crew, evolver = Scripted(3), begin()
    asked = []
    ask = evolver.ask
    evolver.ask = lambda *args, **named: asked.append(ask(*args, **named)) or asked[-1]
    evolver.run(8, executor=crew)
    crew.script.extend([None, failure(ZeroDivisionError("point 3"))])
    with pytest.raises(EvaluationError, match="ZeroDivisionError: point 3"):
        evolver.run(20, executor=crew)
    told = evolver.generation
    first = len(asked)
    seen = []
    evolver.subscribe(lambda generation: seen.append(generation.proposal))
    evolver.run(10, executor=crew)
    assert evolver.generation == told + 10
    assert asked[first] in asked[:first]  # what failed comes first
    assert asked[first] in seen
    assert len(set(asked)) == len(asked) - 1
    assert again(evolver, crew, begin)


def test_workers_try_a_child_again_and_skip_it_where_that_is_caught(caplog):
    bad = failure(ZeroDivisionError("point 3"))
    crew = Scripted(1, script=[None, bad, bad, None, bad, bad, bad])
    evolver = search(small()).run(5, executor=crew, catch=ArithmeticError, retries=2)
    assert evolver.generation == 4
    ((proposal, reason),) = crew.skipped
    assert reason == "ZeroDivisionError: point 3"
    assert proposal not in [step.key for step in ()]
    assert caplog.text.count("trying again") == 4
    assert caplog.text.count("Skipped the child of") == 1
    assert again(evolver, crew, lambda: search(small()))


def test_workers_and_this_thread_fail_alike():
    bad = failure(ZeroDivisionError("point 3"))
    for retries in (0, 1):
        here = start(failures=[None, *[ZeroDivisionError("point 3")] * 2])
        here.run(6, catch=ArithmeticError, retries=retries)
        there = start()
        crew = Scripted(1, script=[None, bad, bad])
        there.run(6, executor=crew, catch=ArithmeticError, retries=retries)
        assert np.array_equal(here.records.table(), there.records.table(), equal_nan=True)


def test_a_worker_that_is_lost_counts_neither_as_caught_nor_as_a_retry():
    crew = Scripted(1, script=[LOST] * 4)
    evolver = search(small()).run(5, executor=crew, catch=Exception)
    assert evolver.generation == 5
    assert len(crew.skipped) == 1


def test_an_exception_class_of_a_worker_is_known_by_its_name_and_bases():
    bad = failure(FileNotFoundError("x"))
    assert bad.is_of((OSError,))
    assert bad.is_of((ValueError, FileNotFoundError))
    assert not bad.is_of((ValueError,))
    assert not bad.is_of(())


def test_a_step_that_is_taken_back_while_children_are_in_flight_tells_none_twice():
    evolver = search(small()).run(10)
    crew = Scripted(3)
    dispatch = crew.dispatch(evolver)
    dispatch.allow(100)
    for _ in range(10):
        dispatch.poll()
    for _ in range(20):
        state = evolver.state_dict()
        evolver.tell(evolver.ask(parents=evolver.archive.ids[:2]))
        dispatch.poll()
        if evolver.generation == state["step"] + 1:
            evolver.take_back(state)
    while dispatch.pending:
        dispatch.poll()
    dispatch.finish()
    assert len(set(evolver.archive.ids)) == len(evolver.archive)


def test_an_undone_step_can_be_told_again_and_a_told_one_cannot():
    evolver = search(small()).run(3)
    state = evolver.state_dict()
    proposal = evolver.ask()
    first = evolver.tell(proposal)
    with pytest.raises(InputError, match="got one that was told at step 4"):
        evolver.tell(proposal.edit(mix=proposal.mix))  # the same child, chosen by hand
    evolver.tell(proposal.edit(mix=0.123))
    evolver = search(small()).run(3)
    evolver.tell(evolver.ask())
    evolver.take_back(state)
    assert evolver.tell(proposal).verdict == first.verdict
    evolver.run(5)


def test_a_run_of_an_earlier_version_that_told_a_solution_twice_is_taken_up(tmp_path):
    path = tmp_path / "runs.db"
    evolver = start("cma-es")
    with store.record(evolver, path):
        proposals = [evolver.ask() for _ in range(5)]
        genomes = [evolver.breed(proposal) for proposal in proposals]
        for k in (1, 0, 1, 2, 3, 4, 2):  # once within its generation, once after it
            evolver.allow_again(proposals[k])
            evolver.tell(proposals[k], genome=genomes[k])
    resumed = store.resume(path, task=Fragile())
    assert np.array_equal(evolver.records.table(), resumed.records.table(), equal_nan=True)
    ours, theirs = evolver.ask(), resumed.ask()
    assert ours == theirs
    assert np.array_equal(evolver.breed(ours).values, resumed.breed(theirs).values)


def test_extra_solutions_of_cma_es_are_taken_up_from_a_store(tmp_path):
    path = tmp_path / "runs.db"
    evolver = start("cma-es")
    with store.record(evolver, path):
        ahead = [evolver.ask() for _ in range(9)]
        for proposal in reversed(ahead):  # the last ones after their generation has ended
            evolver.tell(proposal)
        evolver.run(12)
    resumed = store.resume(path, task=Fragile())
    assert np.array_equal(evolver.records.table(), resumed.records.table(), equal_nan=True)
    for mine, its in zip(evolver.archive.members, resumed.archive.members, strict=True):
        assert np.array_equal(mine.genome.values, its.genome.values)
