"""The fair semaphore: searches of one server share a few places, in order of arrival."""

import threading

import pytest
from helpers.sessions import PATIENCE, until, wait_for
from m2n2lab.widgets.runs.runs import Runs
from m2n2lab.widgets.session.stepper import Stepper

from m2n2lab import Evolver
from m2n2lab.config.settings import Settings
from m2n2lab.utils.concurrency.fair_locks import FairSemaphore


@pytest.mark.parametrize("places", [1, 2, 3])
def test_no_more_threads_run_at_once_than_there_are_places(places):
    semaphore, lock, now, counts = FairSemaphore(places), threading.Lock(), [], []

    def work():
        for _ in range(50):
            with semaphore():
                with lock:
                    now.append(1)
                    counts.append(len(now))
                threading.Event().wait(0.0005)
                with lock:
                    now.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert max(counts) == places
    assert len(counts) == 250


def test_the_thread_that_waits_longest_is_next_even_where_another_asks_without_end():
    semaphore, served = FairSemaphore(1), []

    def work(name):
        with semaphore():
            served.append(name)

    with semaphore():
        threads = []
        for k, name in enumerate("abc"):
            threads.append(threading.Thread(target=work, args=(name,)))
            threads[-1].start()
            until(lambda k=k: semaphore.waiting == k + 1)
    with semaphore():  # asked for at once, and yet behind the waiting threads
        served.append("again")
    for thread in threads:
        thread.join(PATIENCE)
    assert served == ["a", "b", "c", "again"]


def test_the_place_is_released_when_its_block_raises():
    semaphore = FairSemaphore(1)
    with pytest.raises(ZeroDivisionError), semaphore():
        1 / 0  # noqa: B018 (any error will do)
    with semaphore():
        pass


def test_searches_that_share_one_place_all_go_on(monkeypatch):
    monkeypatch.setattr("m2n2lab.widgets.session.stepper.SHIFTS", FairSemaphore(1))
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


def test_a_long_step_takes_no_place(monkeypatch, tiny, tiny_seeds):
    semaphore = FairSemaphore(1)
    monkeypatch.setattr("m2n2lab.widgets.session.stepper.SHIFTS", semaphore)
    evolver = Evolver(tiny, tiny_seeds, rng=0)
    stepper = Stepper(evolver)
    stepper.took = 60.0
    with semaphore():  # the only place is taken
        stepper.step(running=False)
    assert evolver.generation == 1
