import threading
import time

import numpy as np
import pytest
from m2n2lab.widgets.session import SHOWN, Session, Snapshot

from m2n2lab import Evolver, InputError

PATIENCE = 30.0


def wait_for(session, condition):
    """Wait until a snapshot fulfils a condition, and return it."""
    end = time.monotonic() + PATIENCE
    while not condition(snapshot := session.snapshot):
        assert time.monotonic() < end, f"gave up at {snapshot.phase}, step {snapshot.step}"
        time.sleep(0.005)
    return snapshot


@pytest.fixture
def make(tiny, tiny_seeds):
    return lambda: Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)


@pytest.fixture
def session(make):
    session = Session(make, title="tiny · m2n2 · seed 1")
    session.start()
    yield session
    session.close()
    assert session.join(PATIENCE)


def test_no_thread_runs_before_the_page_is_there(make):
    before = threading.active_count()
    session = Session(make)
    assert threading.active_count() == before
    assert session.snapshot.phase == "starting"
    assert session.join()


def test_a_started_session_rests_with_its_seeds(session):
    snapshot = wait_for(session, lambda s: s.phase == "paused")
    assert snapshot.step == 0
    assert snapshot.niches.ids == (0, 1) or snapshot.niches.ids == (1, 0)
    assert snapshot.attraction.worth.shape == (2, 2)
    assert snapshot.title == "tiny · m2n2 · seed 1"


def test_steps_are_taken_exactly_and_then_it_pauses(session):
    session.step()
    session.step(10)
    snapshot = wait_for(session, lambda s: s.step == 11 and s.phase == "paused")
    time.sleep(0.05)
    assert session.snapshot is snapshot


def test_stepping_in_a_session_is_stepping_by_hand(session, make):
    session.step(25)
    snapshot = wait_for(session, lambda s: s.step == 25 and s.phase == "paused")
    evolver = make().run(25)
    assert snapshot.best == evolver.best.id
    assert snapshot.test == evolver.test
    assert snapshot.coverage == evolver.archive.coverage
    assert sorted(snapshot.niches.ids) == list(evolver.archive.ids)
    np.testing.assert_array_equal(snapshot.curves.train, 100 * evolver.records.column("train"))


def test_run_goes_on_until_pause(session):
    session.run()
    wait_for(session, lambda s: s.phase == "running" and s.step > 20 and s.speed > 0)
    session.pause()
    step = wait_for(session, lambda s: s.phase == "paused").step
    time.sleep(0.05)
    assert session.snapshot.step == step


def test_a_slow_pace_is_left_at_once_when_paused(session):
    session.pace("2 steps/s")
    session.run()
    wait_for(session, lambda s: s.step >= 1)
    began = time.monotonic()
    session.pause()
    wait_for(session, lambda s: s.phase == "paused")
    assert time.monotonic() - began < PATIENCE  # it would hang if the wait did not hear the pause
    assert session.snapshot.step < 30


def test_plots_stay_the_same_objects_while_nothing_changes(session):
    before = wait_for(session, lambda s: s.phase == "paused")
    session.answers("wrong")
    after = wait_for(session, lambda s: s is not before)
    assert after.niches is before.niches
    assert after.attraction is before.attraction


def test_answers_are_spread_over_the_data_or_those_that_are_wrong(session):
    session.step(10)
    all_points = wait_for(session, lambda s: s.step == 10 and s.phase == "paused")
    assert len(all_points.answers) == SHOWN
    assert len({sample.truth for sample in all_points.answers}) == 4
    session.answers("wrong")
    wrong = wait_for(session, lambda s: s.answers and not any(a.right for a in s.answers))
    assert len(wrong.answers) <= SHOWN


def test_a_step_that_fails_pauses_with_the_reason_and_can_go_on(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.05, rng=1)
    step, broken = evolver.step, [RuntimeError("the disk is <b>gone</b>")]
    evolver.step = lambda: (_ for _ in ()).throw(broken[0]) if broken else step()
    session = Session(lambda: evolver)
    session.start()
    session.run()
    failed = wait_for(session, lambda s: s.phase == "failed")
    assert failed.message == "RuntimeError: the disk is <b>gone</b>"
    assert failed.niches is not None
    broken.clear()
    session.step(3)
    assert wait_for(session, lambda s: s.step == 3 and s.phase == "paused").message == ""
    session.close()
    assert session.join(PATIENCE)


def test_an_evolver_that_cannot_be_made_says_why():
    def refuse():
        raise InputError("A merge needs at least two seeds, but 1 came; add another model.")

    session = Session(refuse)
    session.start()
    failed = wait_for(session, lambda s: s.phase == "failed")
    assert failed.message.startswith("A merge needs at least two seeds")
    assert session.join(PATIENCE)


def test_closing_ends_the_worker_even_while_it_runs(make):
    session = Session(make)
    session.start()
    session.run()
    wait_for(session, lambda s: s.step > 5)
    session.close()
    assert session.join(PATIENCE)
    assert session.snapshot == Snapshot(phase="closed")
