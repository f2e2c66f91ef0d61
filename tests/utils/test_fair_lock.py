"""The fair lock of a search that several threads step: one at a time, and none starves."""

import copy
import threading
import time

import numpy as np
import pytest

from m2n2lab import Evolver
from m2n2lab.utils.concurrency.fair_locks import FairLock

TIMEOUT_SECONDS = 30.0


def test_steps_of_several_threads_give_what_one_thread_gives(tiny, tiny_seeds):
    alone = Evolver(tiny, tiny_seeds, mutation=0.1, rng=0).run(300)
    shared = Evolver(tiny, tiny_seeds, mutation=0.1, rng=0)
    threads = [threading.Thread(target=shared.run, args=(100,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    assert shared.generation == 300
    assert shared.archive.ids == alone.archive.ids
    np.testing.assert_array_equal(shared.archive.scores, alone.archive.scores)


def test_threads_that_step_without_end_give_way_to_a_waiting_thread(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.1, rng=0)
    stop, waited = threading.Event(), []

    def work():
        while not stop.is_set():
            evolver.turn.give_way()
            evolver.step()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in range(50):
        before = evolver.generation
        waited.append(evolver.step().step - before)
    stop.set()
    for worker in workers:
        worker.join(TIMEOUT_SECONDS)
        assert not worker.is_alive()
    # Steps that were taken while this thread waited for one.
    assert max(waited) < 100


def test_no_other_thread_steps_while_the_lock_is_held(tiny, tiny_seeds, monkeypatch):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.1, rng=0)
    other, waits, enqueue = threading.Thread(target=evolver.step), [], evolver.turn.enqueue
    with evolver.turn():
        monkeypatch.setattr(evolver.turn, "enqueue", lambda: waits.append(enqueue()) or waits[-1])
        other.start()
        while not waits:
            time.sleep(0.001)
        assert evolver.step().step == 1  # the lock is reentrant
    other.join(TIMEOUT_SECONDS)
    assert evolver.generation == 2


def test_the_lock_is_released_when_its_block_raises(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds)
    with pytest.raises(KeyError), evolver.turn():
        raise KeyError
    # A ticket that was not handed back would be waited for without end.
    for after in (evolver.ask, evolver.turn.give_way):
        other = threading.Thread(target=after, daemon=True)
        other.start()
        other.join(TIMEOUT_SECONDS)
        assert not other.is_alive()


def test_a_copy_is_another_lock():
    turn = FairLock()
    with turn(), copy.deepcopy(turn)():
        assert copy.deepcopy(turn).lock is not turn.lock
