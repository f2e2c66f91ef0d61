"""Searches of one server take turns."""

import threading

import pytest
from helpers.sessions import PATIENCE, wait_for
from m2n2lab.widgets.runs.runs import Runs
from m2n2lab.widgets.session.stepper import Stepper

from m2n2lab import Evolver
from m2n2lab.config.settings import Settings
from m2n2lab.utils.fair_locks import Shifts


def all_in_line(shifts, count):
    """Wait until so many threads wait for a place."""
    until = threading.Event()
    for _ in range(int(100 * PATIENCE)):
        if len(shifts._queue) == count:
            return
        until.wait(0.01)
    raise AssertionError(f"{len(shifts._queue)} threads wait, not {count}")


@pytest.mark.parametrize("places", [1, 2, 3])
def test_no_more_step_at_once_than_there_are_places(places):
    shifts, lock, now, most = Shifts(places), threading.Lock(), [], []

    def work():
        for _ in range(50):
            with shifts():
                with lock:
                    now.append(1)
                    most.append(len(now))
                threading.Event().wait(0.0005)
                with lock:
                    now.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert max(most) == places
    assert len(most) == 250


def test_whoever_waits_longest_is_next_even_where_another_asks_without_end():
    shifts, came = Shifts(1), []

    def work(name):
        with shifts():
            came.append(name)

    with shifts():
        threads = []
        for k, name in enumerate("abc"):
            threads.append(threading.Thread(target=work, args=(name,)))
            threads[-1].start()
            all_in_line(shifts, k + 1)
    with shifts():  # asked for at once, and yet behind those who waited
        came.append("again")
    for thread in threads:
        thread.join(PATIENCE)
    assert came == ["a", "b", "c", "again"]


def test_a_step_that_fails_gives_its_place_away():
    shifts = Shifts(1)
    with pytest.raises(ZeroDivisionError), shifts():
        1 / 0  # noqa: B018 (what fails does not matter)
    with shifts():
        pass


def test_searches_that_share_one_place_all_go_on(monkeypatch):
    monkeypatch.setattr("m2n2lab.widgets.session.stepper.SHIFTS", Shifts(1))
    runs = Runs(recorded=False)
    many = [runs.add(Settings(seed=seed, threads=1)) for seed in range(4)]
    runs.start()
    for run in many:
        run.session.orders.run()
    steps = [wait_for(run.session, lambda s: s.step > 20).step for run in many]
    assert min(steps) > 20
    for run in many:
        run.session.orders.pause()
    for run in many:
        wait_for(run.session, lambda s: s.phase == "paused")
    runs.close()


def test_a_long_step_keeps_nobody_waiting(monkeypatch, tiny, tiny_seeds):
    shifts = Shifts(1)
    monkeypatch.setattr("m2n2lab.widgets.session.stepper.SHIFTS", shifts)
    stepper = Stepper(Evolver(tiny, tiny_seeds, rng=0))
    stepper.took = 60.0
    with shifts():  # the only place is taken
        stepper.step(running=False)
    assert stepper._evolver.generation == 1
