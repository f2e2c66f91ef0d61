"""Evaluations that take long can be stopped on the way, and nothing is lost by it."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from helpers.sessions import wait_for
from m2n2lab.widgets.html.figures import figures_html
from m2n2lab.widgets.session.session import PUBLISH_SECONDS, Session
from m2n2lab.widgets.session.snapshot import Snapshot

from m2n2lab import Evolver, Task
from m2n2lab.tasks import Halted, Watch
from m2n2lab.utils.progress import Progress, Watches


class Asking(Task):
    """Answers point by point, tells its watch, and waits at each until it may go on."""

    def __init__(self):
        super().__init__(6)
        self.watch_ = Watches()
        self.go = threading.Event()
        self.go.set()
        self.asked = threading.Event()

    def watch(self, watch):
        return self.watch_.add(watch)

    def score(self, model, indices):
        for point in range(self.points):
            self.asked.set()
            self.watch_.progress(Progress(point, self.points, 10 * point, 1.0))
            while not self.go.wait(0.01):
                self.watch_.check()
            self.watch_.check()
        return np.asarray(model[: self.points]) > 0.0


SEEDS = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)


def search():
    task = Asking()
    return Evolver(task, SEEDS, archive_size=4, rng=1), task


def rows(evolver):
    return np.nan_to_num(evolver.records.table(), nan=-1.0).tolist()


@contextmanager
def started(evolver, attended=True):
    """A session at work, which is closed and has ended afterwards."""
    session = Session(lambda: evolver)
    session.start(attended=attended)
    try:
        yield session
    finally:
        session.close()
    assert session.join(10)


def test_a_step_that_was_stopped_never_began():
    straight, _ = search()
    straight.run(5)
    evolver, task = search()
    evolver.run(2)
    end = task.watch(Watch(halted=lambda: True))
    for _ in range(2):
        with pytest.raises(Halted):
            evolver.step()
    assert evolver.generation == 2
    end()
    evolver.run(3)
    assert rows(evolver) == rows(straight)


def test_pause_stops_a_model_in_the_middle_of_its_answers_and_run_goes_on():
    straight, _ = search()
    straight.run(6)
    evolver, task = search()
    with started(evolver, attended=False) as session:
        session.orders.choose(
            a=0, b=1
        )  # or, at rest, the next pair would be asked before the next step
        wait_for(session, lambda now: now.bench and now.bench.proposal.parents == (0, 1))
        session.orders.step(2)
        wait_for(session, lambda now: now.step == 2 and now.phase == "paused")
        task.go.clear()
        task.asked.clear()
        session.orders.run()
        assert task.asked.wait(10)
        session.orders.pause()
        wait_for(session, lambda now: now.phase == "paused")
        assert (evolver.generation, session.snapshot.message) == (2, "")
        task.go.set()
        session.orders.step(4)
        wait_for(session, lambda now: now.step == 6)
    assert rows(evolver) == rows(straight)


def test_what_is_evaluated_at_rest_makes_room_for_steps_and_is_made_afterwards():
    evolver, task = search()
    with started(evolver) as session:
        wait_for(session, lambda now: now.landscape is not None and now.landscape.done > 3)
        session.orders.choose(a=0, b=1, split=3)
        wait_for(session, lambda now: now.bench and now.bench.proposal.split == 3)
        task.go.clear()  # nothing that is asked now is answered
        task.asked.clear()
        session.orders.choose(split=5)
        assert task.asked.wait(10)
        session.orders.run()
        wait_for(session, lambda now: now.phase == "running")
        task.go.set()
        wait_for(session, lambda now: now.step > 0)
        session.orders.pause()
        wait_for(session, lambda now: now.phase == "paused")
        session.orders.choose(a=evolver.archive.ids[0], b=evolver.archive.ids[1])
        wait_for(session, lambda now: now.bench and now.bench.proposal.split == 5)
        wait_for(session, lambda now: now.landscape.complete)


def test_a_step_that_interrupts_a_preview_is_taken():
    evolver, task = search()
    with started(evolver, attended=False) as session:
        wait_for(session, lambda now: now.bench is not None)
        task.go.clear()
        task.asked.clear()
        session.orders.choose(a=0, b=1, split=2)
        assert task.asked.wait(10)
        session.orders.step(2)
        task.asked.clear()
        assert task.asked.wait(10)  # by the first step
        task.go.set()
        wait_for(session, lambda now: now.step == 2 and now.phase == "paused")


def test_a_step_that_takes_long_is_said_to_be_under_way():
    evolver, task = search()
    with started(evolver, attended=False) as session:
        wait_for(session, lambda now: now.bench is not None)
        task.go.clear()
        session.orders.step()
        wait_for(session, lambda now: now.phase == "stepping")
        assert "stepping …" in figures_html(session.snapshot)
        assert not session.orders.running  # so that Run, which the page offers, runs on
        task.go.set()
        wait_for(session, lambda now: now.step == 1 and now.phase == "paused")


def test_closing_ends_a_session_in_the_middle_of_answers():
    evolver, task = search()
    session = Session(lambda: evolver)
    session.start()
    wait_for(session, lambda now: now.phase == "paused")
    task.go.clear()
    session.orders.run()
    session.close()
    assert session.join(10)


def test_a_search_whose_session_has_closed_can_be_stepped_by_hand():
    evolver, _ = search()
    session = Session(lambda: evolver)
    session.start()
    wait_for(session, lambda now: now.phase == "paused")
    session.close()
    assert session.join(10)
    assert evolver.step().step == 1


def test_several_watch_one_search_and_one_that_closes_leaves_the_others_theirs():
    evolver, task = search()
    sessions = [Session(lambda: evolver) for _ in range(2)]
    for session in sessions:
        session.start(attended=False)
        wait_for(session, lambda now: now.phase == "paused")
    first, second = sessions
    time.sleep(2 * PUBLISH_SECONDS)  # what comes sooner after the last snapshot is not shown
    task.go.clear()
    second.orders.run()
    wait_for(first, lambda now: now.answers_so_far is not None)
    first.close()
    assert first.join(10)
    assert evolver.generation == 0  # the step under way is the second's, and goes on
    task.go.set()
    wait_for(second, lambda now: now.step >= 2)
    second.orders.pause()
    wait_for(second, lambda now: now.phase == "paused")
    told = []
    end = task.watch(Watch(told.append))
    evolver.step()
    assert told
    end()
    end()
    second.close()
    assert second.join(10)


def test_the_page_says_how_far_the_questions_are():
    page = figures_html(Snapshot(phase="running", answers_so_far=Progress(3, 12, 400, 2.0)))
    assert "question 3 of 12, 200 tokens/s" in page
