import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from m2n2lab import DenseSpace, Evolver, InputError, Proposal
from m2n2lab.core.history import COLUMNS
from m2n2lab.tasks import from_function


@pytest.fixture
def evolver(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.02, rng=0)


def always(points=4, **known):
    """A task that every model solves, for what does not depend on scores."""
    return from_function(lambda _, indices: np.ones(len(indices), dtype=bool), points, **known)


def picture(evolver):
    """Return all that an interrupted or refused step must leave alone."""
    state = evolver.state_dict()
    state.pop("rng")  # what was drawn is drawn
    archive = state.pop("archive")
    scores = archive.pop("scores").tobytes()
    genomes = [None if g is None else g.tobytes() for g in archive.pop("genomes")]
    return state, archive, scores, genomes, len(evolver.records)


# -- seeds ----------------------------------------------------------------------------------------


def test_the_seeds_are_the_first_members(tiny, tiny_seeds, evolver):
    assert evolver.archive.ids == (0, 1)
    assert evolver.generation == 0
    for id, seed in enumerate(tiny_seeds):
        member = evolver.archive[id]
        assert np.array_equal(member.genome.values, seed)
        assert (member.born, member.parents) == (0, ())
        assert member.score == tiny.evaluate(torch.from_numpy(seed.copy())).mean()


def test_a_space_brings_its_own_seeds():
    space = DenseSpace([[1.0, 2.0], [3.0, 4.0]])
    evolver = Evolver(always(), space)
    assert evolver.space is space
    assert evolver.archive[1].genome is space.seeds[1]


def test_more_seeds_than_members_compete_at_once(tiny):
    evolver = Evolver(tiny, tiny.random_seeds(9, scale=0.5), archive_size=4)
    assert len(evolver.archive) == 4
    assert evolver.step().child == 9


@pytest.mark.parametrize(("graded", "capacity"), [(False, "one"), (True, "max")])
def test_the_capacity_follows_the_tasks_scores(graded, capacity):
    task = always(graded=graded)
    assert Evolver(task, [[1, 0], [0, 1]]).archive.capacity == capacity
    assert Evolver(task, [[1, 0], [0, 1]], capacity="one").archive.capacity == "one"


# -- ask ------------------------------------------------------------------------------------------


def test_what_is_given_is_kept_and_the_rest_is_drawn(evolver):
    evolver.run(20)
    a, b = evolver.archive.ids[:2]
    proposal = evolver.ask(parents=(a, b), split=17, mix=0.79)
    assert (proposal.parents, proposal.split, proposal.mix) == ((a, b), 17, 0.79)
    assert proposal.by_hand == ("parents", "split", "mix")
    drawn = evolver.ask(split=17)
    assert drawn.split == 17
    assert drawn.by_hand == ("split",)
    assert set(drawn.parents) <= set(evolver.archive.ids)
    assert 0.0 <= drawn.mix < 1.0
    assert evolver.ask().by_hand == ()


def test_nought_is_a_choice_by_hand(evolver):
    proposal = evolver.ask(parents=(0, 1), split=0, mix=0.0)
    assert (proposal.split, proposal.mix) == (0, 0.0)
    assert proposal.by_hand == ("parents", "split", "mix")


def test_a_mate_is_drawn_for_a_given_parent(evolver):
    evolver.run(30)
    archive = evolver.archive
    gains = archive.attraction()
    for row, id in enumerate(archive.ids):
        proposals = [evolver.ask(parents=(id, None)) for _ in range(10)]
        assert {p.parents[0] for p in proposals} == {id}
        mates = {archive.ids.index(p.parents[1]) for p in proposals}
        assert all(gains[row][mate] > 0 for mate in mates) or not gains[row].any()
    assert evolver.ask(parents=(None, archive.ids[2])).parents[1] == archive.ids[2]


def test_choices_by_hand_do_not_shift_what_is_drawn_later(tiny, tiny_seeds):
    steered, left = (Evolver(tiny, tiny_seeds, mutation=0.02) for _ in range(2))
    for hand in ({"mix": 0.5}, {"parents": (0, 1)}, {"parents": (1, None), "split": 3}):
        drawn, given = left.ask(), steered.ask(**hand)
        assert drawn.seed == given.seed
        assert "split" in hand or drawn.split == given.split
        assert "mix" in hand or drawn.mix == given.mix
    assert steered.ask() == left.ask()


def test_splits_and_mixes_are_uniform():
    evolver = Evolver(always(), np.eye(10)[:2])
    drawn = [evolver.ask() for _ in range(2000)]
    counts = np.bincount([p.split for p in drawn], minlength=11)
    assert counts[10] == 0  # a drawn split is below N
    # 200 expected in each of ten places, standard deviation √(2000·0.1·0.9) = 13.4
    assert np.all(abs(counts[:10] - 200) < 5 * 13.4)
    mixes = np.histogram([p.mix for p in drawn], bins=10, range=(0, 1))[0]
    assert np.all(abs(mixes - 200) < 5 * 13.4)


def test_an_edited_proposal_names_the_changed_fields(evolver):
    drawn = evolver.ask()
    edited = drawn.edit(mix=0.25).edit(split=9).edit(mix=0.5)
    assert edited.by_hand == ("mix", "split")
    assert (edited.mix, edited.split) == (0.5, 9)
    assert (edited.parents, edited.seed) == (drawn.parents, drawn.seed)
    assert drawn.by_hand == ()
    evolver.tell(edited)
    assert evolver.history["by_hand"].tolist() == [True]


def test_mutation_is_normal_noise_on_top_of_the_merge():
    size = 20_000
    seeds = np.random.default_rng(0).normal(size=(2, size))
    evolver = Evolver(always(), seeds, mutation=0.03)
    proposal = evolver.ask()
    bare = evolver.space.merge(
        *(evolver.archive[id].genome for id in proposal.parents), proposal.split, proposal.mix
    )
    noise = evolver.breed(proposal).values.astype(float) - bare.values
    assert abs(noise.mean()) < 5 * 0.03 / math.sqrt(size)
    assert noise.std() == pytest.approx(0.03, rel=0.03)


def test_the_same_proposal_is_always_the_same_child(evolver):
    first, other = evolver.ask(), evolver.ask()
    child = evolver.breed(first).values.copy()
    evolver.breed(other)  # so that the first is made anew and not remembered
    assert np.array_equal(evolver.breed(first).values, child)
    assert not np.array_equal(evolver.breed(first.edit(seed=first.seed + 1)).values, child)


# -- verdict and tell -----------------------------------------------------------------------------


def test_tell_has_the_outcome_of_verdict(evolver):
    fates = set()
    for _ in range(60):
        proposal = evolver.ask()
        scores = evolver.evaluate(proposal)
        before, verdict = evolver.archive.standing, evolver.verdict(scores)
        assert evolver.archive.standing is before
        generation = evolver.tell(proposal, scores)
        assert generation.verdict == verdict
        assert generation.before is before
        assert generation.after is evolver.archive.standing
        assert (generation.child in evolver.archive) == verdict.accepted
        assert verdict.displaced not in evolver.archive.ids
        fates.add(verdict.accepted)
    assert fates == {True, False}


def test_scores_that_are_left_out_are_evaluated(evolver):
    proposal = evolver.ask()
    expected = evolver.verdict(evolver.evaluate(proposal))
    assert evolver.tell(proposal).verdict == expected


def test_an_external_model_can_compete(tiny, evolver):
    model = tiny.trained_seeds(parts=[range(4)], steps=200, rate=0.05)[0]
    generation = evolver.tell(model)
    assert (generation.proposal, generation.parents, generation.accepted) == (None, (), True)
    assert np.array_equal(evolver.best.genome.values, model)
    assert evolver.best.parents == ()
    row = evolver.history.iloc[-1]
    assert row["by_hand"]
    assert row[["parent_a", "parent_b", "split", "mix"]].isna().all()
    evolver.run(5)


def test_an_external_module_can_compete():
    x, y = torch.eye(3), torch.arange(3)
    task = from_function(lambda model, at: model(x[at]).argmax(1) == y[at], 3)
    torch.manual_seed(0)
    evolver = Evolver(task, [nn.Linear(3, 3), nn.Linear(3, 3)], rng=0)
    perfect = nn.Linear(3, 3)
    perfect.load_state_dict({"weight": torch.eye(3), "bias": torch.zeros(3)})
    generation = evolver.tell(perfect)
    assert (generation.verdict.score, generation.best) == (1.0, generation.child)


def test_ids_are_never_used_again(evolver):
    evolver.run(50)
    assert evolver.history["child"].tolist() == list(range(2, 52))
    assert [g.child for g in (evolver.step(), evolver.tell(evolver.best.genome.values))] == [52, 53]


FAILURES = {
    "raises": lambda: 1 / 0,
    "NaN": lambda: np.full(4, np.nan),
    "too few": lambda: [1, 0],
    "negative": lambda: [1, 2, 3, -4],
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_task_that_fails_leaves_the_search_as_it_was(failure):
    broken = []
    task = from_function(lambda *_: FAILURES[failure]() if broken else [0, 1, 1, 1], 4)
    evolver = Evolver(task, [[1, 0], [0, 1]], archive_size=3).run(5)
    proposal, before = evolver.ask(), picture(evolver)
    broken.append(True)
    for step in (evolver.step, lambda: evolver.tell(proposal), lambda: evolver.tell([2, 2])):
        with pytest.raises((InputError, ZeroDivisionError)):
            step()
    assert picture(evolver) == before
    broken.clear()
    assert evolver.step().step == 6


def test_a_held_out_part_that_fails_leaves_the_search_as_it_was():
    broken = []
    task = from_function(
        lambda model, at: model[at] > 0.5, 2, held_out=lambda _: 1 / 0 if broken else 0.5
    )
    evolver = Evolver(task, [[1, 0], [0, 0]]).run(3)
    before = picture(evolver)
    broken.append(True)
    with pytest.raises(ZeroDivisionError):
        evolver.tell([1, 1])  # the new best, so its held-out score is asked for
    assert picture(evolver) == before


def test_the_test_score_is_the_best_members_held_out_score(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.1, archive_size=5)
    bests = set()
    for _ in range(60):
        generation = evolver.step()
        best = evolver.archive[generation.best]
        assert best is evolver.best
        assert generation.train == best.score == max(m.score for m in evolver.archive.members)
        assert generation.test == tiny.held_out(evolver.space.materialise(best.genome))
        bests.add(best.id)
    assert len(bests) > 2


def test_the_test_score_follows_the_best_when_equals_replace_each_other():
    evolver = Evolver(always(held_out=lambda model: model[0]), [[1, 0], [0, 1]], archive_size=1)
    for first in (0.25, 0.5):
        assert evolver.tell([first, 1.0]).test == first


def test_class_means_are_recorded_whenever_another_member_is_the_best(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.1, archive_size=5)
    expected, best = {}, None
    for step in range(60):
        if evolver.best.id != best:
            best = evolver.best.id
            scores = evolver.archive.scores_of(best)
            means = [scores[tiny.groups == group].mean() for group in range(4)]
            expected[step] = pytest.approx(means)
        evolver.step()
    assert len(expected) > 2
    assert {
        step: noted for step, noted in evolver.records.class_means.items() if step < 60
    } == expected


# -- many steps -----------------------------------------------------------------------------------


def test_iteration_goes_on_until_it_is_stopped(evolver):
    for generation in evolver:
        if generation.step == 7:
            break
    assert evolver.generation == 7
    assert next(iter(evolver)).step == 8


def test_run_takes_the_given_steps_or_stops_when_until_is_true(evolver):
    assert evolver.run(0).generation == 0
    assert evolver.run(5) is evolver
    assert evolver.generation == 5
    assert evolver.run(100, until=lambda generation: generation.step >= 9).generation == 9


# -- watching -------------------------------------------------------------------------------------


def test_observers_see_every_generation_until_they_leave(evolver):
    seen = []
    leave = evolver.subscribe(seen.append)
    first = [evolver.step() for _ in range(3)]
    leave()
    leave()  # leaving twice does no harm
    evolver.step()
    assert seen == first


def test_an_observer_may_leave_while_it_is_called(evolver):
    seen = []
    leave = evolver.subscribe(lambda generation: (seen.append(generation.step), leave()))
    evolver.subscribe(lambda generation: seen.append(-generation.step))
    evolver.run(2)
    assert seen == [1, -1, -2]


def test_an_observer_that_fails_is_logged_once_and_stops_no_other(evolver, caplog):
    seen = []

    def fails(_):
        raise RuntimeError("the view is gone")

    evolver.subscribe(fails)
    evolver.subscribe(seen.append)
    with caplog.at_level(logging.ERROR, logger="m2n2lab"):
        evolver.run(3)
    assert [generation.step for generation in seen] == [1, 2, 3]
    (report,) = caplog.records
    assert "fails" in report.getMessage()
    assert "step 1; the search goes on" in report.getMessage()
    assert "the view is gone" in caplog.text


def test_the_history_has_one_row_a_generation(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=4, mutation=0.1)
    assert evolver.history.empty
    generations = [evolver.step() for _ in range(40)]
    generations.append(evolver.tell(tiny_seeds[0] * 2))
    generations.append(evolver.tell(evolver.ask(mix=0.5)))
    frame = evolver.history
    assert frame.index.name == "step"
    assert frame.index.tolist() == [g.step for g in generations] == list(range(1, 43))
    assert tuple(frame.columns) == COLUMNS[1:]
    for column in ("child", "displaced", "parent_a", "parent_b", "split", "rank", "best"):
        assert frame[column].dtype == "Int64"
    for column in ("accepted", "by_hand"):
        assert frame[column].dtype == bool
    for column in ("mix", "score", "fitness", "train", "test", "coverage", "entropy"):
        assert frame[column].dtype == float
    assert {g.displaced is None for g in generations} == {True, False}
    for generation, (_, row) in zip(generations, frame.iterrows(), strict=True):
        proposal, verdict = generation.proposal, generation.verdict
        for name in ("child", "best", "train", "test", "coverage", "entropy", "accepted"):
            assert row[name] == getattr(generation, name)
        for name in ("score", "fitness", "rank"):
            assert row[name] == getattr(verdict, name)
        assert row["members"] == len(generation.after.ids)
        assert row["by_hand"] == (proposal is None or bool(proposal.by_hand))
        made = (*proposal.parents, proposal.split, proposal.mix) if proposal else (None,) * 4
        for name, value in zip(("parent_a", "parent_b", "split", "mix"), made, strict=True):
            assert pd.isna(row[name]) if value is None else row[name] == value
        gone = generation.displaced
        assert pd.isna(row["displaced"]) if gone is None else row["displaced"] == gone
    records = evolver.records
    assert np.array_equal(records.table(40), records.table()[40:], equal_nan=True)
    assert records.column("split")[:3].tolist() == [g.proposal.split for g in generations[:3]]


# -- bad input ------------------------------------------------------------------------------------

BAD = {
    "absent parent": (
        lambda e: e.ask(parents=(0, 9)),
        "9 is not in the archive; choose one of: 0, 1",
    ),
    "one parent": (lambda e: e.ask(parents=(0,)), r"two ids .* got \(0,\)"),
    "parents without their name": (lambda e: e.ask((0, 1)), r"give parents as ask\(parents="),
    "a bare id": (lambda e: e.ask(parents=1), "two ids .* got 1"),
    "split above": (lambda e: e.ask(split=83), r"in \[0, 82\] .* got 83"),
    "split of floats": (lambda e: e.ask(split=3.0), "integer .* got 3.0"),
    "mix above": (lambda e: e.ask(mix=1.01), r"mix .* in \[0, 1\], got 1.01"),
    "mix NaN": (lambda e: e.ask(mix=math.nan), r"mix .* in \[0, 1\], got nan"),
    "mix as text": (lambda e: e.ask(mix="0.5"), "mix must be a number .* got '0.5'"),
    "edited parent": (lambda e: e.tell(e.ask().edit(parents=(0, 7))), "7 is not in the archive"),
    "edited split": (lambda e: e.evaluate(e.ask().edit(split=None)), "integer .* got None"),
    "edited mix": (lambda e: e.breed(e.ask().edit(mix=-0.1)), "mix .* got -0.1"),
    "no parents": (lambda e: e.tell(Proposal((), 1, 0.5, 0)), "parents"),
    "three parents": (lambda e: e.tell(Proposal((0, 1, 0), 1, 0.5, 0)), "parents"),
    "seed as text": (lambda e: e.tell(e.ask().edit(seed="x")), "seed"),
    "short model": (lambda e: e.tell([1.0, 2.0]), "82 parameters .* the model has 2"),
    "NaN model": (lambda e: e.tell(np.full(82, np.nan)), r"finite, .* at index 0 \(W1 row 0\)"),
    "short scores": (lambda e: e.tell(e.ask(), [1.0]), r"shape \(60,\), got shape \(1,\)"),
    "NaN scores": (lambda e: e.verdict(np.full(60, np.nan)), "finite .* got nan on data point 0"),
    "negative steps": (lambda e: e.run(-1), "steps .* >= 0, got -1"),
    "foreign state": (
        lambda e: e.load_state_dict({**e.state_dict(), "method": "ga"}),
        "of method 'm2n2', got 'ga'",
    ),
    "one seed": (lambda e: Evolver(e.task, np.ones((1, 82))), "at least two seeds, got 1"),
    "short seeds": (lambda e: Evolver(e.task, [[1, 2], [3, 4]]), "2 parameters, got 82"),
    "foreign space": (lambda e: Evolver(e.task, DenseSpace([[1, 2], [3, 4]])), "82"),
    "mutation": (lambda e: Evolver(e.task, e.space, mutation=-1), "mutation .* 0, got -1"),
    "alpha": (lambda e: Evolver(e.task, e.space, alpha=-1), r"alpha .* in \[0, 10\], got -1"),
    "archive": (lambda e: Evolver(e.task, e.space, archive_size=0), ">= 1, got 0"),
    "copies": (lambda e: Evolver(e.task, e.space, crossover=False), "copy of its parent, got"),
    "rng": (lambda e: Evolver(e.task, e.space, rng=0.5), "rng must be an integer .* got 0.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_a_sentence_and_changes_nothing(case, evolver):
    call, message = BAD[case]
    before = picture(evolver)
    with pytest.raises(InputError, match=message):
        call(evolver)
    assert picture(evolver) == before
