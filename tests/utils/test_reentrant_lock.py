"""A search that several threads step: one at a time, and everybody gets a turn."""

import copy
import threading
import time

import numpy as np
import pytest

from m2n2lab import Evolver
from m2n2lab.utils.fair_locks import Turns

PATIENCE = 30.0


def test_steps_of_several_threads_give_what_one_thread_gives(tiny, tiny_seeds):
    alone = Evolver(tiny, tiny_seeds, mutation=0.1, rng=0).run(300)
    shared = Evolver(tiny, tiny_seeds, mutation=0.1, rng=0)
    threads = [threading.Thread(target=shared.run, args=(100,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert shared.generation == 300
    assert shared.archive.ids == alone.archive.ids
    np.testing.assert_array_equal(shared.archive.scores, alone.archive.scores)


def test_who_steps_without_end_gives_way_to_all_who_wait(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.1, rng=0)
    stop, told = threading.Event(), []

    def work():
        while not stop.is_set():
            evolver.turn.give_way()
            evolver.step()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in range(50):
        before = evolver.generation
        told.append(evolver.step().step - before)
    stop.set()
    for worker in workers:
        worker.join(PATIENCE)
        assert not worker.is_alive()
    # Nobody stepped a hundred times while somebody waited.
    assert max(told) < 100


def test_nobody_steps_while_a_person_has_the_turn(tiny, tiny_seeds, monkeypatch):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.1, rng=0)
    other, waits, line_up = threading.Thread(target=evolver.step), [], evolver.turn.line_up
    with evolver.turn():
        monkeypatch.setattr(evolver.turn, "line_up", lambda: waits.append(line_up()) or waits[-1])
        other.start()
        while not waits:
            time.sleep(0.001)
        assert evolver.step().step == 1  # one's own turn can be taken again
    other.join(PATIENCE)
    assert evolver.generation == 2


def test_a_turn_that_fails_is_given_back(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds)
    with pytest.raises(KeyError), evolver.turn():
        raise KeyError
    # A place that was not left would be waited for without end.
    for after in (evolver.ask, evolver.turn.give_way):
        other = threading.Thread(target=after, daemon=True)
        other.start()
        other.join(PATIENCE)
        assert not other.is_alive()


def test_a_copy_has_turns_of_its_own():
    turn = Turns()
    with turn(), copy.deepcopy(turn)():
        assert copy.deepcopy(turn).lock is not turn.lock
