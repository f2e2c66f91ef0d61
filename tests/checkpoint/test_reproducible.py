"""The same seed gives the same archive, in any process and for any number of threads."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.grids import GRIDS

from m2n2lab import METHODS, Evolver, make_evolver, tasks
from m2n2lab.tasks.classify import to_onednn

STEPS = 300


def fingerprint(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def fingerprints(task):
    """Search from scratch and from trained seeds; return digests of all that came out."""
    found = {}
    starts = {
        "from scratch": (task.random_seeds(2, rng=0), 0.01),
        "trained": (task.trained_seeds(rng=0), 0.0),
    }
    for name, (seeds, mutation) in starts.items():
        evolver = Evolver(task, seeds, mutation=mutation, rng=0).run(STEPS)
        archive = evolver.archive
        genomes = [member.genome.values for member in archive.members]
        found[name] = {
            "seeds": fingerprint(seeds),
            "ids": archive.ids,
            "scores": fingerprint(archive.scores),
            "genomes": fingerprint(*genomes),
            "history": fingerprint(evolver.records.table()),
        }
    return found


@pytest.fixture(scope="module")
def elsewhere():
    """The same searches in two fresh processes at once, with one and with two threads."""
    runs = [
        subprocess.Popen(
            [sys.executable, __file__, threads],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        for threads in ("1", "2")
    ]
    answers = [json.loads(run.communicate(timeout=300)[0]) for run in runs]
    assert [threads for threads, _ in answers] == [1, 2]
    return [found for _, found in answers]


@pytest.mark.parametrize("start", ["from scratch", "trained"])
def test_the_same_seed_gives_the_same_archive_with_any_number_of_threads(start, elsewhere):
    one, two = elsewhere
    assert len(set(one[start]["ids"])) == 20
    assert one[start] == two[start]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs torch with oneDNN")
def test_an_output_is_the_same_for_any_number_of_threads_and_whatever_is_beside_it(digits):
    model, x = torch.from_numpy(digits.random_seeds(1, scale=0.1)[0]), digits.training[0]
    whole = digits.logits(model, to_onednn(x))
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(digits.logits(model, to_onednn(x)), whole)
            assert torch.equal(digits.logits(model, to_onednn(x[5:18])), whole[5:18])
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("start", ["from scratch", "trained"])
def test_another_process_gives_the_same_archive(start, elsewhere, digits):
    # This process has run other tests before: no state of theirs may matter.
    here = json.loads(json.dumps(fingerprints(digits)))
    assert here[start] == elsewhere[0][start]


def test_how_a_search_is_cut_into_runs_does_not_matter(digits):
    whole, cut = (Evolver(digits, digits.random_seeds(2), mutation=0.01) for _ in range(2))
    whole.run(60)
    for generation in cut:
        if generation.step == 25:
            break
    cut.run(30)
    for _ in range(5):
        proposal = cut.ask()
        cut.tell(proposal, cut.evaluate(proposal))
    assert np.array_equal(whole.records.table(), cut.records.table(), equal_nan=True)
    pairs = zip(whole.archive.members, cut.archive.members, strict=True)
    assert all(np.array_equal(a.genome.values, b.genome.values) for a, b in pairs)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "cma-es"])
def test_a_restored_search_goes_on_bit_for_bit(method, tiny):
    # CMA-ES alone cannot be saved. MAP-Elites' archive is a grid of 100 cells.
    options = {"mutation": 0.2} | ({} if method in GRIDS else {"archive_size": 6})
    old = make_evolver(method, tiny, tiny.random_seeds(2, rng=1), **options).run(60)
    state = old.state_dict()
    old.run(40)
    # The new one has a past of its own, and no less of it: it must not shine through.
    seeds = tiny.random_seeds(2, rng=1 if method == "brute-force" else 9)
    new = make_evolver(method, tiny, seeds, rng=5, **options).run(70)
    new.load_state_dict(state)
    assert new.generation == 60
    new.run(40)
    assert new.archive.ids == old.archive.ids
    assert np.array_equal(new.archive.scores, old.archive.scores)
    pairs = zip(new.archive.members, old.archive.members, strict=True)
    assert all(np.array_equal(a.genome.values, b.genome.values) for a, b in pairs)
    assert new.ask() == old.ask()
    assert new.step().child == old.step().child


def test_a_restored_search_remembers_nothing_of_its_own():
    task = tasks.from_function(
        lambda _, at: np.ones(len(at), dtype=bool), 2, held_out=lambda model: model[0]
    )
    old, new = Evolver(task, [[1, 0], [0, 1]]), Evolver(task, [[2, 0], [0, 2]])
    assert (old.test, new.test) == (1, 2)
    proposal = new.ask(mix=0.0, split=2)
    assert set(new.breed(proposal).values) == {0, 2}
    new.load_state_dict(old.state_dict())
    assert new.test == 1
    assert set(new.breed(proposal).values) == {0, 1}


def test_watching_does_not_change_a_search(digits):
    alone, watched = (Evolver(digits, digits.random_seeds(2), mutation=0.01) for _ in range(2))

    def look(_):
        archive = watched.archive
        archive.attraction(), archive.entropy, archive.best, watched.history, watched.test
        archive.judge(np.ones(digits.points))
        watched.space.materialise(watched.best.genome)

    watched.subscribe(look)
    alone.run(40), watched.run(40)
    assert np.array_equal(alone.records.table(), watched.records.table(), equal_nan=True)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps([torch.get_num_threads(), fingerprints(tasks.digits())]))
