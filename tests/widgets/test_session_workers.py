"""A session on workers: children are submitted as they arrive, and faults are shown."""

import multiprocessing
import os
import time

import numpy as np
import pytest
from helpers.crews import LOST, Scripted
from helpers.sessions import PATIENCE, runs_at, wait_for
from m2n2lab.widgets.html.figures import figures_html
from m2n2lab.widgets.notebook.inline import dashboard
from m2n2lab.widgets.session.session import Session

from m2n2lab import Evolver, InputError, ProcessExecutor, Proposal, Replayed, tasks
from m2n2lab.executors.worker import Failure


@pytest.fixture
def make(tiny, tiny_seeds):
    return lambda: Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)


@pytest.fixture
def session_on(make):
    """Start sessions on given workers."""
    started = []

    def start(crew):
        session = Session(make, executor=lambda: crew)
        session.start()
        started.append(session)
        return session

    yield start
    for session in started:
        session.close()
        assert session.join(PATIENCE)


class Held(Scripted):
    """Workers that send nothing while ``held``."""

    held = False

    def _wait(self, timeout):
        if self.held:
            time.sleep(min(timeout, 0.01))
            return []
        return super()._wait(timeout)


def test_steps_on_workers_are_taken_exactly_and_can_be_taken_again(session_on, make):
    crew = Scripted(3)
    session = session_on(crew)
    session.orders.step()
    session.orders.step(10)
    shown = wait_for(session, lambda s: s.step == 11 and s.phase == "paused" and not s.in_flight)
    time.sleep(0.1)
    assert session.snapshot.step == 11
    again = make().run(99, executor=Replayed(crew.arrivals))
    assert again.generation == 11
    assert sorted(shown.niches.ids) == list(again.archive.ids)


def test_a_pause_lets_children_in_flight_arrive(session_on):
    crew = Held(3)
    session = session_on(crew)
    session.orders.run()
    wait_for(session, lambda s: s.phase == "running" and s.step > 5)
    crew.held = True
    wait_for(session, lambda s: s.in_flight == "3 in flight")
    session.orders.pause()
    paused = wait_for(session, lambda s: s.phase == "paused")
    assert paused.in_flight == "3 in flight"
    assert "3 in flight" in figures_html(paused)
    crew.held = False
    rested = wait_for(session, lambda s: s.phase == "paused" and not s.in_flight)
    assert rested.step == crew.arrivals.events.count(0) == paused.step + 3


def test_a_step_ordered_while_a_search_runs_pauses_it_afterwards(session_on):
    session = session_on(Scripted(2))
    session.orders.run()
    wait_for(session, lambda s: s.step > 5)
    session.orders.step(2)
    at = wait_for(session, lambda s: s.phase == "paused" and not s.in_flight).step
    time.sleep(0.1)
    assert session.snapshot.step == at


def test_workers_that_are_always_lost_pause_the_search_with_the_reason(session_on):
    crew = Scripted(2, script=[None] * 6 + [LOST] * 99)
    session = session_on(crew)
    session.orders.run()
    failed = wait_for(session, lambda s: s.phase == "failed")
    assert "3 proposals in a row could not be scored" in failed.message
    assert "the power went" in failed.message
    assert 'role="alert"' in figures_html(failed)
    crew.script.clear()
    recorded = len(session.history)
    session.orders.step(3)
    gone_on = wait_for(session, lambda s: s.step == recorded + 3 and s.phase == "paused")
    assert gone_on.message == ""


def test_a_task_that_raises_in_a_worker_is_shown_without_its_trace_and_the_search_goes_on(
    session_on,
):
    odd = Failure("ZeroDivisionError", "data <b>point</b> 3", "Traceback (most recent …", False)
    crew = Scripted(2, script=[None] * 4 + [odd])
    session = session_on(crew)
    session.orders.run()
    failed = wait_for(session, lambda s: s.phase == "failed" and not s.in_flight)
    assert "raised ZeroDivisionError: data <b>point</b> 3; fix that and go on." in failed.message
    assert "Traceback" not in failed.message
    assert "data &lt;b&gt;point" in figures_html(failed)
    recorded = len(session.history)
    session.orders.step(2)
    wait_for(session, lambda s: s.step == recorded + 2 and s.phase == "paused")


def test_children_of_an_undone_member_are_not_submitted(make):
    crew, search = Held(1), make()
    before = search.state_dict()
    merged = search.tell(Proposal((0, 1), 40, 0.5, 7))
    assert merged.accepted
    search.ask = lambda: Proposal((merged.child, 0), 30, 0.4, 8)
    dispatch = crew.dispatch(search)
    dispatch.poll()  # the worker is ready
    dispatch.allow(1)
    crew.held = True
    dispatch.poll()
    assert dispatch.in_flight == 1
    del search.ask
    search.take_back(before)
    crew.held = False
    dispatch.stop_asking()
    dispatch.poll()
    dispatch.finish()
    assert (search.generation, crew.arrivals.events) == (0, [0, -1])


class Counted(ProcessExecutor):
    """Processes of which those that were started are counted."""

    started = 0

    def start(self):
        super().start()
        self.started += 1


@pytest.mark.slow
def test_a_model_that_hangs_loses_its_worker_and_the_session_can_be_closed(tiny, tiny_seeds):
    home = os.getpid()

    def score(model, indices):
        if os.getpid() != home:
            time.sleep(600)
        return np.ones(len(indices))

    task = tasks.from_function(score, tiny.points)
    pool, before = Counted(1, timeout=0.2), set(multiprocessing.active_children())
    session = Session(
        lambda: Evolver(task, tiny_seeds, mutation=0.05, rng=1), executor=lambda: pool
    )
    session.start()
    session.orders.step()
    patience = time.monotonic() + 5 * PATIENCE  # a process takes a while to start
    while pool.started < 2:  # until it is replaced
        assert time.monotonic() < patience
        time.sleep(0.05)
    session.close()
    assert session.join(PATIENCE)
    assert pool.workers_alive == 0
    assert not set(multiprocessing.active_children()) - before


def test_a_search_of_the_notebook_is_shown_with_its_workers_and_others_without(make):
    crew = Scripted(2)
    with pytest.raises(InputError, match="there is no evolver; give both"):
        dashboard(executor=crew)
    framed = dashboard(make(), executor=crew)
    runs = runs_at(framed.address)
    assert runs.executor(runs.all[0].settings) is crew
    assert runs.executor(runs.all[0].settings.with_query({})) is None
    framed.close()


def test_what_early_rejection_saves_is_shown(tiny, tiny_seeds):
    session = Session(lambda: Evolver(tiny, tiny_seeds, archive_size=4, mutation=0.1, chunk=7))
    session.start()
    session.orders.step(60)
    shown = wait_for(session, lambda s: s.step == 60 and s.phase == "paused")
    history = session.history
    assert shown.saved == pytest.approx(history.column("unseen").mean() / tiny.points)
    assert shown.saved > 0
    assert "of scores saved" in figures_html(shown)
    session.close()
    assert session.join(PATIENCE)
