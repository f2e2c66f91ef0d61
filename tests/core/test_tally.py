import numpy as np
import pytest

from m2n2lab import Archive, make_evolver, tasks
from m2n2lab.core import archive as archives
from m2n2lab.core import population as populations


@pytest.fixture
def counting(monkeypatch):
    """Return a function that makes archives large from so many scores on."""

    def set_large(number):
        monkeypatch.setattr(archives, "LARGE", number)
        monkeypatch.setattr(populations, "LARGE", number)

    return set_large


def outcome(archive, children, rng):
    """Return what an archive decides on children, with parents drawn in between."""
    told = []
    for id, scores in enumerate(children):
        archive.judge(np.ones(archive.points))  # a child that was only judged leaves no trace
        verdict = archive.add(id, None, scores)
        a = archive.draw_parent(rng.random())
        told.append((verdict, a, archive.draw_mate(a, rng.random()), archive.z.tolist()))
    return told


def children(points, graded_from, seed):
    draw = np.random.default_rng(seed)
    rows = [draw.random(points) < draw.random() for _ in range(40)]
    rows[5] = rows[4].copy()  # equal children tie
    for row in range(graded_from, 40):
        rows[row] = rows[row] * draw.random(points)
    return rows


@pytest.mark.parametrize("graded_from", [40, 25, 0], ids=["right or wrong", "later", "graded"])
@pytest.mark.parametrize("capacity", ["one", "max", None])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("points", [1, 64, 201])
def test_large_archives_decide_as_small_ones(counting, points, alpha, capacity, graded_from):
    results = []
    for number in (0, 10**12):
        counting(number)
        archive = Archive(points, 7, alpha, capacity)
        told = outcome(archive, children(points, graded_from, 3), np.random.default_rng(1))
        results.append((archive, told))
    (large, counted), (small, summed) = results
    assert (large.population.tally is not None) == (graded_from == 40)
    for (verdict, *drawn), (expected, *as_drawn) in zip(counted, summed, strict=True):
        assert drawn == as_drawn
        same = ("accepted", "displaced", "score", "rank", "rival", "alone")
        assert all(getattr(verdict, name) == getattr(expected, name) for name in same)
        assert verdict.fitness == pytest.approx(expected.fitness, rel=1e-12)
    assert large.fitness == pytest.approx(small.fitness, rel=1e-12)
    assert large.weights.tolist() == small.weights.tolist()
    assert large.scores.tolist() == small.scores.tolist()
    assert large.scores.dtype == large.scores_of(large.ids[0]).dtype == float
    assert large.attraction() == pytest.approx(small.attraction(), rel=1e-9, abs=1e-11)
    # What beats nothing is exactly 0, as mates are compared with it.
    assert ((large.attraction() == 0) == (small.attraction() == 0)).all()


def test_members_with_equal_scores_have_equal_fitness_in_a_large_archive(counting):
    counting(0)
    archive = Archive(1_000, 6)
    for id, scores in enumerate(children(1_000, 40, 0)[:6]):  # the last two are equal
        verdict = archive.add(id, None, scores)
    assert verdict.fitness == archive.fitness[-1] == archive.fitness[-2]


def test_a_graded_child_that_is_only_judged_leaves_a_large_archive_as_it_is(counting):
    counting(0)
    archive, twin = Archive(100, 5), Archive(100, 5)
    rows = children(100, 40, 0)
    for id, scores in enumerate(rows[:10]):
        archive.add(id, None, scores)
        twin.add(id, None, scores)
    archive.judge(np.full(100, 0.5))
    for id, scores in enumerate(rows[10:], 10):
        assert archive.add(id, None, scores) == twin.add(id, None, scores)
    assert archive.fitness.tolist() == twin.fitness.tolist()


def test_a_restored_large_archive_goes_on_as_the_old_one(counting):
    counting(0)
    archive, twin = Archive(100, 5), Archive(100, 5)
    rows = children(100, 40, 0)
    for id, scores in enumerate(rows[:20]):
        archive.add(id, None, scores)
    state = archive.state_dict()
    assert state["scores"].dtype == float
    twin.load_state_dict(state)
    for id, scores in enumerate(rows[20:], 20):
        assert archive.add(id, None, scores) == twin.add(id, None, scores)
    assert archive.fitness.tolist() == twin.fitness.tolist()


def test_shares_competitions_and_other_archives_are_summed_in_large_archives_too(counting):
    counting(0)
    shares = np.linspace(0.5, 1.5, 100)
    for archive in (Archive(100, 5, shares=shares), Archive(100, 5, capacity="range")):
        for id, scores in enumerate(children(100, 40, 0)):
            archive.add(id, None, scores)
        assert archive.population.tally is None
    task = tasks.digits()
    search = make_evolver("map-elites", task, task.random_seeds(2, rng=0), mutation=0.01, rng=0)
    search.run(5)
    assert search.archive.population.tally is None


def test_a_search_with_a_large_archive_ends_as_with_a_small_one(counting):
    task = tasks.digits()
    ends = []
    for number in (0, 10**12):
        counting(number)
        search = make_evolver("m2n2", task, task.random_seeds(2, rng=0), mutation=0.01, rng=0)
        search.run(150)
        ends.append((search.archive.ids, search.archive.scores.tolist()))
    assert ends[0] == ends[1]
