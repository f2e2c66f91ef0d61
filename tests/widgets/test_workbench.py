"""The workbench: filters of data points, slow tasks, merges by hand with every method."""

import time

import numpy as np
import pytest
from helpers.sessions import PATIENCE, wait_for
from m2n2lab.widgets.session.session import Session
from m2n2lab.widgets.session.workbench import MAX_ANSWERS, RECENT_MEMBERS, Choice, Filter, Workbench

from m2n2lab import Evolver, InputError, make_evolver, tasks
from m2n2lab.analysis.lineage import Lineage
from m2n2lab.tasks import Sample


def bench_of(evolver):
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe, undo=lineage.forget_last)
    return Workbench(evolver, lineage)


# -- which data points are shown ---------------------------------------------------------------

# What A, B and the child score on eight data points of the classes a, a, b, b, a, a, b, b.
A = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
B = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
CHILD = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
CLASSES = (0, 0, 1, 1, 0, 0, 1, 1)


def answered(a, b, child, graded=False):
    """Return a workbench on which A, B and their child have these scores, and its search."""
    parents = {1.0: a, 2.0: b}

    def score(model, at):
        row = np.array(parents.get(float(model[0]), child))[at]
        return row if graded else row >= 1.0

    def samples(model, at):
        solved = (score(model, at) >= 1.0).tolist()
        return [Sample(int(i), str(i), "", right) for i, right in zip(at, solved, strict=True)]

    known = {"classes": ("a", "b"), "groups": CLASSES, "graded": graded}
    task = tasks.from_function(score, 8, samples=samples, **known)
    evolver = Evolver(task, [[1.0, 0.0], [2.0, 0.5]], archive_size=2)
    bench = bench_of(evolver)
    bench.show(Choice(0, 1), Filter())
    return bench, evolver


@pytest.mark.parametrize(
    ("which", "group", "expected"),
    [
        ("all", None, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("all", "b", [2, 3, 6, 7]),
        ("A or B wrong", None, [1, 2, 3, 5, 6, 7]),
        ("A or B wrong", "a", [1, 5]),
        ("A not B", None, [1, 6]),
        ("A not B", "b", [6]),
        ("B not A", None, [2, 7]),
        ("B not A", "a", []),
        ("child wrong", None, [4, 5, 6, 7]),
        ("child wrong", "a", [4, 5]),
    ],
)
def test_data_points_are_chosen_by_who_solves_them_and_by_class(which, group, expected):
    bench, _ = answered(A, B, CHILD)
    bench.answer(Filter(which, group))
    assert sorted(answer.child.index for answer in bench.answers) == expected
    assert bench.matching == len(expected)


def test_a_graded_score_below_one_is_not_solved():
    bench, _ = answered(
        [0.99, 1.0, 1.0, 0.5] + [0.0] * 4, [1.0, 0.7] + [0.5] * 6, CHILD, graded=True
    )
    for which, expected in {"A not B": [1, 2], "B not A": [0], "child wrong": [4, 5, 6, 7]}.items():
        bench.answer(Filter(which))
        assert sorted(answer.child.index for answer in bench.answers) == expected


def test_of_many_that_match_some_are_shown_evenly_spread_over_the_classes(tiny, tiny_seeds):
    bench = bench_of(Evolver(tiny, tiny_seeds, mutation=0.05, rng=1))
    bench.show(Choice(), Filter())
    assert (len(bench.answers), bench.matching) == (MAX_ANSWERS, 60)
    truths = [answer.child.truth for answer in bench.answers]
    assert sorted(truths.count(name) for name in tiny.classes) == [6, 6, 6, 6]
    bench.answer(Filter("all", tiny.classes[2]))
    assert (len(bench.answers), bench.matching) == (15, 15)
    assert {answer.child.truth for answer in bench.answers} == {tiny.classes[2]}


def test_the_same_filter_asks_for_no_answers_again(tiny, tiny_seeds, monkeypatch):
    bench = bench_of(Evolver(tiny, tiny_seeds, mutation=0.05, rng=1))
    bench.show(Choice(), Filter())
    before = bench.answers
    bench.answer(Filter())
    assert bench.answers is before
    bench.show(Choice(999, 998), Filter())
    assert bench.answers is before


def test_unknown_filters_are_refused_and_unknown_classes_are_noted():
    with pytest.raises(InputError, match="no filter named 'child right'"):
        Filter("child right")
    bench, _ = answered(A, B, CHILD)
    before = bench.answers
    bench.answer(Filter("all", "<b>c"))
    assert bench.note.startswith("There is no class named '<b>c'")
    assert bench.answers is before


def test_answers_can_be_filtered_although_a_parent_has_died():
    bench, evolver = answered(A, B, CHILD)
    while 0 in evolver.archive or 1 in evolver.archive:
        evolver.tell([3.0, 3.0], np.ones(8))
    assert bench.stale
    bench.show(Choice(0, 1), Filter("A not B"))
    assert "is not in the archive" in bench.note
    assert [answer.child.index for answer in bench.answers] == [1, 6]


# -- merges by hand ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["m2n2", "ga", "map-elites", "cycle-qd", "brute-force"])
def test_a_merge_by_hand_is_described_and_undone(method, tiny, tiny_seeds):
    evolver = make_evolver(method, tiny, tiny_seeds, mutation=0.05, rng=0).run(10)
    bench = bench_of(evolver)
    a, b = evolver.archive.ids[-2:]
    bench.show(Choice(a, b, 30, 0.7), Filter())
    before, verdict = evolver.archive.ids, bench.data.verdict
    generation = bench.merge()
    assert generation.verdict == verdict
    assert bench.note == generation.outcome
    assert bench.undoable
    assert bench.undo()
    assert evolver.archive.ids == before
    assert bench.note == "The merge is taken back."


def test_a_merged_child_is_no_preview_and_another_follows_when_asked(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=0).run(10)
    bench = bench_of(evolver)
    a, b = evolver.archive.ids[-2:]
    bench.show(Choice(a, b, 30, 0.7), Filter())
    first = bench.data.proposal
    generation = bench.merge()
    assert bench.merged is generation
    assert bench.data.proposal == first
    bench.judge()  # the verdict was about the archive before
    assert bench.data.verdict == generation.verdict
    assert bench.merge() is None
    assert "merged already" in bench.note
    assert evolver.generation == 11
    bench.show(Choice(a, b, 30, 0.7), Filter())
    assert bench.merged is None
    assert bench.data.proposal.seed != first.seed  # or the same child would be proposed again
    assert bench.merge() is not None


def test_a_verdict_is_about_the_archive_as_it_is_and_the_child_is_not_scored_again(
    tiny, tiny_seeds
):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=0).run(3)
    bench = bench_of(evolver)
    a, b = evolver.archive.ids[-2:]
    bench.show(Choice(a, b, 30, 0.7), Filter())
    scores, answers = bench.data.scores, bench.answers
    while a in evolver.archive and b in evolver.archive and evolver.generation < 200:
        evolver.step()
        stale, before = bench.stale, bench.data
        bench.judge()
        if stale:
            assert bench.data is before  # no such child can be made any more
        else:
            assert bench.data.verdict == evolver.verdict(scores[2])
    assert evolver.generation > 4
    assert bench.data.scores is scores
    bench.answer(Filter())
    assert bench.answers is answers


def test_a_merge_that_cannot_be_taken_back_says_so(tiny, tiny_seeds):
    evolver = make_evolver("cma-es", tiny, tiny_seeds, rng=0).run(10)
    bench = bench_of(evolver)
    bench.show(Choice(*evolver.archive.ids[-2:]), Filter())
    generation = bench.merge()
    assert bench.note == f"{generation.outcome} It cannot be taken back with this method."
    assert not bench.undoable
    assert not bench.undo()


def test_the_seeds_of_brute_force_can_be_merged_and_mapped_although_they_have_died(
    tiny, tiny_seeds
):
    evolver = make_evolver("brute-force", tiny, tiny_seeds, archive_size=2, ratios=50, rng=0)
    bench = bench_of(evolver)
    while 0 in evolver.archive or 1 in evolver.archive:
        evolver.step()
    bench.show(bench.propose(), Filter())
    assert bench.note == ""
    assert not bench.stale
    assert bench.data.proposal.parents == (0, 1)
    assert bench.explore()
    assert bench.merge().parents == (0, 1)


# -- a pair that has died ----------------------------------------------------------------------


def shown_and_dead(evolver, bench):
    """Return a pair that a page showed and that has died since."""
    bench.remember()
    pair = evolver.archive.ids[:2]
    while any(id in evolver.archive for id in pair):
        evolver.step()
    return pair


def test_a_pair_that_was_shown_a_moment_ago_is_previewed_and_mapped_but_not_merged(
    tiny, tiny_seeds
):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=0).run(40)
    bench, living = bench_of(evolver), bench_of(evolver)
    a, b = evolver.archive.ids[:2]
    choice = Choice(a, b, 30, 0.7, seed=5)
    living.show(choice, Filter())
    assert shown_and_dead(evolver, bench) == (a, b)
    bench.show(choice, Filter("A not B"))
    assert bench.note == ""
    assert bench.data.proposal == living.data.proposal
    assert np.array_equal(bench.data.scores, living.data.scores)
    assert bench.data.omega == living.data.omega
    assert bench.explore()
    assert bench.landscape.parents == (a, b)
    assert bench.stale
    before = evolver.archive.ids
    assert bench.merge() is None
    assert bench.note == "A parent on the bench no longer lives; pick another pair."
    assert evolver.archive.ids == before
    bench.show(Choice(a, b, tiny_seeds.shape[1] + 1), Filter())
    assert bench.note.startswith("A split must be an integer in [0, 82]")


def test_a_pair_that_died_long_ago_or_never_lived_is_refused(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=0).run(40)
    bench = bench_of(evolver)
    pair = shown_and_dead(evolver, bench)
    for _ in range(RECENT_MEMBERS):
        bench.remember()  # an unchanged archive makes no member older
    bench.show(Choice(*pair), Filter())
    assert bench.note == ""
    newcomers = 0
    while newcomers <= RECENT_MEMBERS:
        newcomers += evolver.step().accepted
        bench.remember()
    for lost in (pair, (10**6, 10**6 + 1)):
        bench.show(Choice(*lost), Filter())
        assert "is not in the archive" in bench.note


# -- slow tasks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("took", "slow"),
    [
        ([0.5], False),  # the first may load the model
        ([0.01, 5.0], False),  # one was held up
        ([0.01, 5.0, 0.01], False),
        ([0.5, 0.5], True),
        ([0.5, 0.4, 0.01], True),  # one was known already
        ([0.5, 0.5, 0.5, 0.01, 0.01, 0.01], False),
    ],
)
def test_a_task_is_slow_if_most_of_the_last_children_were(tiny, tiny_seeds, took, slow):
    bench = bench_of(Evolver(tiny, tiny_seeds, rng=0))
    for seconds in took:
        bench.took(seconds)
    assert bench.slow == slow


@pytest.fixture
def slow():
    """A session of a task that takes 0.15 s to score a model, and how often it did."""
    scored = []

    def score(model, at):
        if len(at) == 12:
            scored.append(None)
            time.sleep(0.15)
        return model[at] > 0

    def make():
        task = tasks.from_function(score, 12)
        seeds = np.random.default_rng(0).normal(size=(3, 12))
        return Evolver(task, seeds, archive_size=3, mutation=1.0, rng=0)

    session = Session(make)
    session.start()
    wait_for(session, lambda s: s.slow and s.phase == "paused")
    yield session, scored
    session.close()
    assert session.join(PATIENCE)


def test_nothing_is_evaluated_while_a_slow_task_is_dragged_and_once_when_asked_to(slow):
    session, scored = slow
    first, before = session.snapshot.bench, len(scored)
    for split in range(1, 10):
        session.orders.choose(split=split)
    shown = wait_for(session, lambda s: s.pending)
    assert shown.bench is first
    session.orders.choose(a=2, b=1, mix=0.25)
    session.orders.command("preview")
    shown = wait_for(session, lambda s: not s.pending and s.bench is not first)
    proposal = shown.bench.proposal
    assert (proposal.parents, proposal.split, proposal.mix) == ((2, 1), 9, 0.25)
    assert len(scored) == before + 1
    session.orders.command("merge", proposal)
    wait_for(session, lambda s: s.step == 1)
    assert len(scored) == before + 1


def test_a_pair_that_was_not_chosen_is_replaced_once_a_slow_search_rests(slow):
    session, scored = slow
    parents, before = session.snapshot.bench.proposal.parents, len(scored)
    while set(parents) <= set(session.snapshot.niches.ids):
        steps = session.snapshot.step + 1
        session.orders.step()
        shown = wait_for(session, lambda s, n=steps: s.step == n and s.phase == "paused")
        assert shown.step < 60
    shown = wait_for(session, lambda s: not s.stale)
    assert set(shown.bench.proposal.parents) <= set(shown.niches.ids)
    assert len(scored) == before + shown.step + 1


def test_a_choice_that_is_taken_back_waits_for_nothing(slow):
    session, scored = slow
    before = len(scored)
    session.orders.choose(split=3)
    wait_for(session, lambda s: s.pending)
    session.orders.choose(split=None)
    wait_for(session, lambda s: not s.pending)
    assert len(scored) == before
