"""Early rejection: certain, as early as possible, and without effect on the search."""

import itertools
import json

import numpy as np
import pytest
import torch
from helpers.checkpoints import letters, llama
from helpers.merges import same_search
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from m2n2lab import Archive, CheckpointSpace, Evolver, InputError, make_evolver, tasks
from m2n2lab.cli import app
from m2n2lab.core.early_rejection import Bound, Rejection
from m2n2lab.core.records import Partial, Proposal
from m2n2lab.core.scoring_order import Order
from m2n2lab.core.task import Task
from m2n2lab.tasks.language.generation import Generator
from m2n2lab.tasks.language.task import LanguageTask

ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


@st.composite
def archives(draw, graded):
    """A full archive of 1 to 4 members on 1 to 6 data points, and a child's scores."""
    points, size = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    one = st.just(0.0) | st.floats(1e-3, 1) if graded else st.sampled_from((0.0, 1.0))
    rows = st.lists(one, min_size=points, max_size=points)
    shares = draw(st.none() | st.lists(st.floats(0.1, 3), min_size=points, max_size=points))
    archive = Archive(
        points,
        size,
        draw(st.sampled_from(ALPHAS)),
        draw(st.sampled_from(("one", "max"))),
        None if shares is None else np.array(shares) * points / sum(shares),
    )
    for id in range(size):
        archive.add(id, None, draw(rows))
    return archive, np.array(draw(rows))


def rejection(archive, graded, chunk=1):
    return Rejection(archive, Task(archive.points, graded=graded), chunk, 10)


def tried(archive, graded, child, chunk=1):
    """Return the scores of a child that is scored as far as the decision needs."""
    trial = rejection(archive, graded, chunk).trial()
    while (indices := trial.next()) is not None:
        trial.add(indices, child[indices])
    return trial.scores


@given(archives(graded=False), st.integers(1, 3))
def test_a_right_or_wrong_child_is_rejected_exactly_when_no_completion_is_accepted(case, chunk):
    archive, child = case
    trial = rejection(archive, False, chunk).trial()
    seen = np.zeros(archive.points, bool)
    while True:
        left = np.flatnonzero(~seen)
        leads = []
        for rest in itertools.product((0.0, 1.0), repeat=len(left)):
            whole = child.copy()
            whole[left] = rest
            verdict = archive.judge(whole)
            leads.append(verdict.fitness - verdict.rival_fitness)
        indices = trial.next()
        if max(leads) >= 0.0:
            assert indices is not None or not len(left)
        elif max(leads) < -1e-9:
            assert indices is None
        if indices is None:
            return
        trial.add(indices, child[indices])
        seen[indices] = True


@given(archives(graded=True), st.integers(1, 3), st.randoms(use_true_random=False))
def test_no_completion_of_a_rejected_graded_child_would_be_accepted(case, chunk, random):
    archive, child = case
    found = tried(archive, True, child, chunk)
    if not isinstance(found, Partial):
        assert found.tolist() == child.tolist()
        return
    assert found.scores.tolist() == child[found.indices].tolist()
    left = np.setdiff1d(np.arange(archive.points), found.indices)
    assert found.unseen == len(left) > 0
    assert not archive.judge(child).accepted
    assert archive.judge(found).unseen == len(left)
    for _ in range(20):
        child[left] = [random.choice((0.0, 1e-9, random.random(), 1.0)) for _ in left]
        assert not archive.judge(child).accepted


def leads(archive, x):
    """Return (P,) fitness of the child minus each member's, for scores (D,), from the formula."""
    members = archive.scores
    z = members.sum(axis=0) + x
    top = np.maximum(members.max(axis=0), x) if archive.capacity == "max" else 1.0
    shares = 1.0 if archive.shares is None else archive.shares
    return (x - members) @ (shares * top / np.where(z == 0, 1, z) ** archive.alpha)


@given(archives(graded=True), st.integers(0, 5))
def test_the_bound_of_one_data_point_is_reached_by_some_score(case, point):
    many, _ = case
    scores = many.scores[:, point % many.points, None]
    archive = Archive(1, len(scores), many.alpha, many.capacity)
    for id, row in enumerate(scores):
        archive.add(id, None, row)
    bound = Bound(archive, True, 1.0)
    grid = np.concatenate(([0.0], np.geomspace(1e-6, 1.0, 500), np.linspace(0.0, 1.0, 500)))
    reached = np.max([leads(archive, np.array([x])) for x in grid], axis=0)
    unlimited = not scores.any() and archive.alpha > (1.0 if archive.capacity == "one" else 2.0)
    assert bound.rejects(bound.start - 1e9, np.array([True])) != unlimited
    assume(not unlimited)
    assert (bound.start >= reached - 1e-12).all()
    assert bound.start == pytest.approx(reached, rel=1e-3, abs=1e-6)


def one_member(score, alpha, capacity):
    """Return the bound for a graded data point that one member scores on."""
    archive = Archive(1, 1, alpha, capacity)
    archive.add(0, None, [score])
    return Bound(archive, True, 1.0)


def test_the_highest_lead_under_strong_competition_is_where_its_slope_is_zero():
    # (x − s) / (s + x)³ is highest where s + x = 3 (x − s), at x = 2 s: s / (3 s)³.
    assert one_member(0.25, 3.0, "one").start == pytest.approx([0.25 / 0.75**3])
    # With α = 2 where s + x = 2 (x − s), at x = 3 s: 2 s / (4 s)².
    assert one_member(0.25, 2.0, "one").start == pytest.approx([0.5 / 1.0**2])
    # At x = 3 · 0.5, beyond the highest score: there it is 1.
    assert one_member(0.5, 2.0, "one").start == pytest.approx([0.5 / 1.5**2])


def test_the_highest_lead_where_the_child_raises_the_capacity_is_where_its_slope_is_zero():
    # x (x − s) / (s + x)³ is highest where x² − 4 s x + s² = 0, at x = (2 + √3) s.
    root = np.sqrt(3.0)
    highest = (2 + root) * (1 + root) / (3 + root) ** 3 / 0.1
    assert one_member(0.1, 3.0, "max").start == pytest.approx([highest])
    # With α = 4 where 2 x² − 5 s x + s² = 0, at x = (5 + √17) / 4 s.
    x = (5 + np.sqrt(17.0)) / 4
    assert one_member(0.1, 4.0, "max").start == pytest.approx([x * (x - 1) / (1 + x) ** 4 / 0.01])


def test_a_hand_computed_child_is_rejected_at_its_first_decisive_failure():
    # Both members solve points 0 and 1, worth 1/3 each with a third solver; 2 is worth 1.
    archive = Archive(3, 2)
    archive.add(0, None, [1, 1, 0])
    archive.add(1, None, [1, 1, 0])
    # Without point 2 the most is 1/3 + 1/3, a draw with both, which keeps the child.
    assert tried(archive, False, np.array([True, True, False])).tolist() == [True, True, False]
    # Without 2 and 0: 1/3 against 1/2 + 1/3.
    found = tried(archive, False, np.array([False, True, False]))
    assert (found.indices.tolist(), found.unseen) == ([2, 0], 1)
    verdict = archive.judge(found)
    assert (verdict.accepted, verdict.rank, verdict.rival, verdict.unseen) == (False, 3, 0, 1)
    assert verdict.score == pytest.approx(1 / 3)
    assert (verdict.fitness, verdict.rival_fitness) == pytest.approx((1 / 3, 5 / 6))
    assert "Given up with 1 data point unscored" in str(verdict)


def test_a_child_is_scored_in_full_while_there_is_room():
    archive = Archive(3, 2)
    archive.add(0, None, [1, 1, 1])
    assert tried(archive, False, np.zeros(3, bool)).tolist() == [False] * 3


def test_a_trial_follows_changes_of_the_archive():
    archive = Archive(4, 1)
    archive.add(0, None, [1, 0, 0, 0])
    trial = rejection(archive, False).trial()
    for _ in range(2):  # two of the unsolved points, failed: still up to two against one
        indices = trial.next()
        trial.add(indices, np.zeros(1, bool))
    archive.add(1, None, [1, 1, 1, 1])
    assert trial.next() is None
    assert not archive.judge(trial.scores).accepted


def chunks_of(rejection, proposal, scores):
    """Return the chunks of a child with these scores that is scored to the end."""
    trial, found = rejection.trial(proposal), []
    while trial.seen < len(scores):
        found.append(trial.upcoming().tolist())
        trial.add(trial.upcoming(), np.array(scores)[trial.upcoming()])
    return found


def test_points_on_which_the_parents_fail_come_first_and_kinds_are_not_mixed():
    archive = Archive(6, 2)
    archive.add(0, None, [1, 1, 0, 1, 1, 0])
    archive.add(1, None, [1, 1, 0, 1, 0, 1])
    two_kinds = Rejection(archive, Task(3) + Task(3), 2, 10)
    # Failing costs 1 on point 2, a half on 4 and 5, a third elsewhere; on the mean over both.
    as_it_comes, scores = [[2, 0], [4, 5], [1], [3]], [True] * 6
    assert chunks_of(two_kinds, None, scores) == as_it_comes
    # The child is nine tenths of 0, so it probably scores on 4, and hardly on 5.
    child = Proposal((0, 1), split=10, mix=0.1, seed=0)
    assert chunks_of(two_kinds, child, scores) == [[2, 0], [5, 4], [1], [3]]
    assert chunks_of(two_kinds, child.edit(split=0), scores) == as_it_comes
    assert chunks_of(two_kinds, child.edit(parents=(0, 9)), scores) == as_it_comes


def test_a_child_without_crossover_is_predicted_by_its_parent():
    archive = Archive(4, 2)
    archive.add(0, None, [1, 1, 0, 0])
    archive.add(1, None, [0, 0, 1, 1])
    # Failing costs a half everywhere; the child will hardly score where its parent does not.
    of_0, of_1 = (Proposal((id,), None, None, seed=0) for id in (0, 1))
    scores = [True] * 4
    in_turn = rejection(archive, False, 2)
    assert chunks_of(in_turn, None, scores) == [[0, 1], [2, 3]]
    assert chunks_of(in_turn, of_0, scores) == [[2, 3], [0, 1]]
    assert chunks_of(in_turn, of_1, scores) == [[0, 1], [2, 3]]
    halves = Proposal((0, 1), 10, None, seed=0)  # two parents, not yet mixed: as the first
    assert chunks_of(in_turn, halves, scores) == [[2, 3], [0, 1]]


def test_a_child_is_predicted_by_the_models_it_resembles():
    # Two members solve point 0, three each of the others.
    archive = Archive(5, 4)
    rows = [[1, 0, 0, 1, 1], [1, 1, 1, 0, 1], [0, 1, 1, 1, 0], [0, 1, 1, 1, 1]]
    for id, row in enumerate(rows):
        archive.add(id, None, row)
    one_by_one = rejection(archive, False)
    # 0 decides most. Scored there, the child is like 0 and 1, which both solve 4 but not both 1.
    assert chunks_of(one_by_one, None, [True] * 5)[:2] == [[0], [1]]
    # Failed there, it is like 2 and 3, which both solve 1, 2 and 3, but not both 4.
    assert chunks_of(one_by_one, None, [False, True, True, True, True])[:2] == [[0], [4]]


def test_the_prediction_is_the_hand_computed_one():
    members = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.5]])
    order = Order(np.ones(3), members, np.array([0.5, 0.5, 0.75]), [np.arange(3)], 1)
    # The parents' scores weigh a half, members a quarter: 1/2 · 0.5 + 1/4 · 1 = 0.5 on 0 and on 1,
    # 1/2 · 0.75 + 1/4 · 1 + 1/4 · 0.5 = 0.75 on 2; the lowest first, of equals the first.
    assert order.next(np.ones(3, bool)).tolist() == [0]
    assert order.prediction == pytest.approx([0.5, 0.5, 0.75])
    order.add(np.array([0]), np.array([True]))
    # Now 2 · 3^0.5, 1 · 3^1 and 1 · 3^0 to one another: 2√3, 3 and 1.
    weights = np.array([2 * 3**0.5, 3.0, 1.0]) / (2 * 3**0.5 + 4.0)
    assert order.prediction[1] == pytest.approx(weights @ [0.5, 0.0, 1.0])
    assert order.next(np.array([False, True, True])).tolist() == [1]


def test_partial_scores_of_a_child_that_could_be_accepted_are_refused():
    archive = Archive(3, 1)
    archive.add(0, None, [1, 0, 0])
    with pytest.raises(
        InputError, match="cannot be accepted may be rejected early, but 2 unscored"
    ):
        archive.judge(Partial(np.array([0]), np.array([False]), 3, 1.0))


@pytest.mark.parametrize(
    ("graded", "score", "message"),
    [(True, 1.5, "scores <= 1, .* got 1.5"), (False, 0.5, "0 or 1, .* got 0.5")],
)
def test_scores_that_contradict_the_task_are_refused(graded, score, message):
    archive = Archive(3, 1)
    archive.add(0, None, [1, 0, 0])
    with pytest.raises(InputError, match=message):
        tried(archive, graded, np.full(3, score))


def rewards(top=None, low=50.0, graded=True):
    """A task of rewards from ``low`` to ``low + 100``."""
    X = np.random.default_rng(1).normal(size=(40, 6))

    def score(model, at):
        return low + 100 / (1 + np.exp(-(X[at] * model.numpy()).sum(axis=1)))

    return tasks.from_function(score, 40, graded=graded, top=top)


@pytest.mark.parametrize("size", [5, 6])  # full from the start, and with room
@pytest.mark.parametrize(
    ("graded", "expected"), [(True, "scores <= 1, .* got"), (False, "0 or 1, .* got")]
)
def test_seeds_whose_scores_contradict_the_task_are_refused_at_once(size, graded, expected):
    seeds = np.random.default_rng(0).normal(size=(5, 6))
    task = rewards(graded=graded)
    with pytest.raises(InputError, match=expected):
        Evolver(task, seeds, archive_size=size, chunk=10)
    known = np.array([task.evaluate(torch.tensor(seed)) for seed in seeds])
    with pytest.raises(InputError, match=expected):
        Evolver(task, seeds, archive_size=size, chunk=10, known=known)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.5])
def test_rewards_up_to_a_declared_top_are_rejected_early_without_effect(alpha):
    seeds = np.random.default_rng(0).normal(size=(5, 6))
    options = {"archive_size": 5, "mutation": 0.3, "rng": 0, "alpha": alpha}
    full = Evolver(rewards(150.0), seeds, **options).run(200)
    early = Evolver(rewards(150.0), seeds, chunk=10, **options).run(200)
    assert same_search(full, early)
    assert early.records.column("accepted").sum() > 20
    assert early.records.column("unseen").any() or alpha != 1.0


def test_scores_that_are_told_must_be_what_early_rejection_assumes():
    evolver = Evolver(rewards(top=150.0), np.eye(6), archive_size=6, chunk=10)
    with pytest.raises(InputError, match=r"scores <= 150, .* got 151\.0 on data point 3"):
        evolver.tell(np.ones(6), np.where(np.arange(40) == 3, 151.0, 1.0))
    assert evolver.generation == 0
    state = Evolver(rewards(), np.eye(6), archive_size=6).state_dict()
    state["archive"]["scores"][2, 7] = 170.0
    with pytest.raises(InputError, match=r"scores <= 150, .* got 170\.0 on data point 7"):
        evolver.load_state_dict(state)


def parts(dtypes):
    """A sum of tasks of 3 data points each, with scores of these dtypes that are declared none."""

    def score(model, at, dtype):
        return (np.asarray(model)[at] % 3 / 2).astype(dtype)

    functions = [lambda model, at, dtype=dtype: score(model, at, dtype) for dtype in dtypes]
    return tasks.Tasks([tasks.from_function(function, 3) for function in functions])


@given(
    st.lists(st.sampled_from(("?", "u1", "f2", "f4", "f8")), min_size=1, max_size=4),
    st.data(),
)
def test_a_subset_of_several_tasks_is_scored_as_the_whole(dtypes, data):
    task = parts(dtypes)
    at = data.draw(st.lists(st.integers(0, task.points - 1), max_size=12))
    model = np.arange(3)
    whole = task.evaluate(model)
    assert task.evaluate(model, at).tolist() == whole[np.array(at, int)].tolist()


def test_undeclared_graded_tasks_are_refused_early_one_by_one_and_as_a_sum():
    for dtypes in (["f4"], ["f4", "f4"], ["?", "f8"]):
        with pytest.raises(InputError, match=r"0 or 1, .* got 0\.5 on data point \d"):
            Evolver(parts(dtypes), np.array([[0.0, 1, 2], [2, 1, 0]]), chunk=2)


def test_a_sum_of_right_or_wrong_tasks_of_several_tops_is_graded():
    def right(model, at, top):
        return (np.asarray(model)[at % 3] > 0) * top

    halves = [
        tasks.from_function(lambda model, at, top=top: right(model, at, top), 20, top=top)
        for top in (1.0, 2.0)
    ]
    both = halves[0] + halves[1]
    assert (both.graded, both.top) == (True, 2.0)
    assert not (halves[1] + halves[1]).graded
    options = {"mutation": 0.5, "archive_size": 3, "rng": 0}
    full, early = (Evolver(both, np.eye(3), chunk=chunk, **options).run(60) for chunk in (None, 5))
    assert same_search(full, early)


@given(archives(graded=True), st.integers(-900, 300), st.integers(1, 3))
def test_early_rejection_agrees_with_the_archive_on_any_scale(case, power, chunk):
    plain, child = case
    scale = 2.0**power
    archive = Archive(plain.points, plain.size, plain.alpha, plain.capacity, plain.shares)
    for id, row in enumerate(plain.scores):
        archive.add(id, None, row * scale)
    trial = Rejection(archive, Task(archive.points, graded=True, top=scale), chunk, 10).trial()
    while (indices := trial.next()) is not None:
        trial.add(indices, child[indices] * scale)
    if isinstance(trial.scores, Partial):
        assert not archive.judge(child * scale).accepted
    else:
        assert trial.scores.tolist() == (child * scale).tolist()


# -- searches ----------------------------------------------------------------------------------


def soft(task):
    """The task with graded scores: what the network gives the right class."""

    def score(model, indices):
        # All at once: rounding depends on how many are computed together.
        x, y = task.training
        return task.logits(model, x).softmax(dim=1)[torch.arange(len(y)), y][indices]

    return tasks.from_function(
        score, task.points, graded=True, groups=task.groups, classes=task.classes
    )


@pytest.mark.parametrize("kind", ["right or wrong", "graded", "several tasks"])
@pytest.mark.parametrize(
    "options", [{}, {"alpha": 0.5}, {"alpha": 2.5, "capacity": "max"}], ids=str
)
def test_early_rejection_changes_nothing_about_a_search(tiny, tiny_seeds, kind, options):
    task = {"right or wrong": tiny, "graded": soft(tiny), "several tasks": soft(tiny) + tiny}[kind]
    options = {"mutation": 0.1, "archive_size": 6, "rng": 5, **options}
    full = Evolver(task, tiny_seeds, **options).run(60)
    early = Evolver(task, tiny_seeds, chunk=7, **options).run(60)
    assert same_search(full, early)
    unseen = early.records.column("unseen")
    assert unseen.any()
    assert not unseen[early.records.column("accepted") == 1.0].any()
    assert not full.records.column("unseen").any()


def digits_run(digits, seed, steps, chunk):
    options = {"mutation": 0.01, "rng": seed, "chunk": chunk}
    return Evolver(digits, digits.random_seeds(2, rng=seed), **options).run(steps)


@pytest.mark.slow
def test_a_thousand_digit_steps_are_bit_identical(digits):
    full, early = (digits_run(digits, 0, 1_000, chunk) for chunk in (None, 128))
    assert same_search(full, early)
    assert early.records.column("unseen").any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_digit_steps_are_bit_identical_for_most_of_the_price(digits, seed):
    full, early = (digits_run(digits, seed, 10_000, chunk) for chunk in (None, 64))
    assert same_search(full, early)
    assert 1.0 - early.records.column("unseen").mean() / digits.points <= 0.6


def test_brute_force_may_reject_early_and_methods_that_need_all_scores_may_not(tiny, tiny_seeds):
    full, early = (
        make_evolver("brute-force", tiny, tiny_seeds, archive_size=3, chunk=chunk).run(100)
        for chunk in (None, 10)
    )
    assert same_search(full, early)
    for method in ("map-elites", "cycle-qd", "cma-es"):
        with pytest.raises(InputError, match=f"{method} needs all scores .* chunk=10"):
            make_evolver(method, tiny, tiny_seeds, chunk=10)


def test_the_command_line_reports_the_saved_scores():
    run = ["evolve", "--steps", "60", "--pretrained", "--threads", "1", "--chunk", "100"]
    told = json.loads(CliRunner().invoke(app, [*run, "--json"]).stdout)
    assert told["options"]["chunk"] == 100
    assert 0 < told["saved"] < 1
    assert "of scores saved by early rejection" in CliRunner().invoke(app, run).stdout


# -- language models ---------------------------------------------------------------------------


class Riddle(LanguageTask):
    """A task on letters of tiny models; which are right is arbitrary but differs by model."""

    def __init__(self, points):
        super().__init__(points, generator=Generator(max_new_tokens=3, batch=5), name="riddle")
        self.asked = 0

    def score(self, model, indices):
        numbers = range(self.points) if indices is None else indices
        self.asked += len(numbers)
        answers = self.ask(model, [f"what is {k}?" for k in numbers], self.meter(len(numbers)))
        pairs = zip(numbers, answers, strict=True)
        return np.array([(sum(map(ord, text)) + k) % 3 == 0 for k, text in pairs])


@pytest.mark.slow
def test_early_rejection_asks_language_models_less_with_the_same_results(tmp_path):
    for seed, name in enumerate("ab"):
        llama(tmp_path / name, seed, torch.float32, initializer_range=0.5)
        letters(tmp_path / name)
    searches = []
    for chunk in (None, 8):
        task = Riddle(40)
        space = CheckpointSpace(tmp_path / "a", tmp_path / "b")
        searches.append(Evolver(task, space, archive_size=4, rng=0, chunk=chunk).run(24))
    full, early = searches
    assert full.archive.ids == early.archive.ids
    assert np.array_equal(full.archive.scores, early.archive.scores)
    assert full.rng.bit_generator.state == early.rng.bit_generator.state
    unseen = int(early.records.column("unseen").sum())
    assert unseen > 0
    assert early.task.asked == full.task.asked - unseen
