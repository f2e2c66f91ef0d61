import copy
import pickle

import cma
import numpy as np
import pytest
import torch
from cma.sigma_adaptation import CMAAdaptSigmaCSA
from helpers.crews import Scripted
from helpers.grids import GRIDS
from helpers.stores import small

from m2n2lab import METHODS, DenseSpace, Evolver, InputError, Layout, Proposal, make_evolver, store
from m2n2lab.core.methods.behaviours import Axis, Behaviours, GroupMeans
from m2n2lab.core.methods.map_elites import GridArchive
from m2n2lab.tasks import Classify, from_function

PLAIN = {"archive_size": 6, "mutation": 0.01}
OPTIONS = {method: {"mutation": 0.01} for method in GRIDS}
SIZES = {"map-elites": 100, "cycle-qd": 4 * 125}  # cells of their grids


@pytest.fixture
def start(tiny):
    """Make the evolver of a method on the tiny task, from random seeds."""

    def start(method, rng=0, **options):
        chosen = {**OPTIONS.get(method, PLAIN), **options}
        return make_evolver(method, tiny, tiny.random_seeds(2, rng=1), rng=rng, **chosen)

    return start


def picture(evolver):
    members = evolver.archive.members
    genomes = [member.genome.values.tobytes() for member in members]
    return evolver.archive.ids, genomes, evolver.archive.scores.tobytes()


# -- all methods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_searches_within_its_archive(method, start):
    evolver = start(method)
    assert evolver.method == method
    evolver.run(60)
    assert evolver.generation == len(evolver.history) == 60
    assert len(evolver.archive) <= evolver.archive.size == SIZES.get(method, 6)
    assert len(evolver.archive) >= 2
    scores = evolver.archive.scores
    for member, row in zip(evolver.archive.members, scores, strict=True):
        again = evolver.task.evaluate(evolver.space.materialise(member.genome))
        assert np.array_equal(again, row)
        assert member.score == row.mean()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_archive(method, start):
    assert picture(start(method).run(60)) == picture(start(method).run(60))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "brute-force"])
def test_another_seed_gives_another_archive(method, start):
    assert picture(start(method).run(60)) != picture(start(method, rng=1).run(60))


@pytest.mark.parametrize("method", METHODS)
def test_a_person_can_steer_every_method(method, start):
    evolver = start(method).run(5)
    a, b = evolver.archive.ids[:2]
    generation = evolver.tell(evolver.ask(parents=(a, b), split=30, mix=0.5))
    assert generation.parents == (a, b)
    assert generation.proposal.by_hand == ("parents", "split", "mix")
    evolver.run(25)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [8, 40])
def test_every_method_proposes_ahead_each_once_and_is_told_in_any_order(method, count, start):
    evolver = start(method, population=5) if method == "cma-es" else start(method)
    evolver.run(20)
    proposals = [evolver.ask() for _ in range(count)]
    assert len({(p.parents, p.split, p.mix, p.seed) for p in proposals}) == count
    for proposal in reversed(proposals):  # whose parents leave on the way
        scores = evolver.evaluate(proposal)
        verdict = evolver.verdict(scores)
        assert evolver.tell(proposal, scores).verdict == verdict
    for proposal in proposals:
        with pytest.raises(InputError, match=r"told once, got one that was told at step \d+ "):
            evolver.tell(proposal)
    assert evolver.generation == 20 + count
    members = evolver.archive.members
    assert len({m.genome.values.tobytes() for m in members if m.born > 20}) == len(
        [m for m in members if m.born > 20]
    )
    evolver.run(10)


# -- M2N2's ablations -----------------------------------------------------------------------------


def test_without_crossover_a_child_is_its_parent_and_noise(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, crossover=False, mutation=0.02)
    proposal = evolver.ask()
    assert (len(proposal.parents), proposal.split, proposal.mix) == (1, None, None)
    parent = evolver.archive[proposal.parents[0]].genome
    expected = evolver.space.mutate(parent, 0.02, proposal.seed)
    assert np.array_equal(evolver.breed(proposal).values, expected.values)


def test_without_a_split_point_the_mix_holds_for_all_weights(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, split_point=False, archive_size=4)
    evolver.run(20)
    assert set(evolver.history["split"]) == {evolver.space.size}


def test_without_attraction_both_parents_are_drawn_by_fitness():
    # Both models solve point 0, model 1 also point 1: fitness 1/2 and 3/2, so 1 to 3.
    task = from_function(lambda model, _: np.array([1, model[1]]), 2)
    evolver = Evolver(task, [[1, 0], [0, 1]], attraction=False)
    pairs = [evolver.ask().parents for _ in range(2000)]
    # Standard deviation of a share: √(0.25·0.75 / 2000) = 0.0097.
    assert np.mean([b == 1 for _, b in pairs]) == pytest.approx(0.75, abs=5 * 0.0097)
    assert np.mean([b == 1 for a, b in pairs if a == 1]) == pytest.approx(0.75, abs=0.06)
    attracted = Evolver(task, [[1, 0], [0, 1]])
    assert {attracted.ask(parents=(0, None)).parents[1] for _ in range(20)} == {1}


def test_without_mutation_a_child_is_the_bare_merge(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds)
    proposal = evolver.ask()
    a, b = (evolver.archive[id].genome for id in proposal.parents)
    expected = evolver.space.merge(a, b, proposal.split, proposal.mix)
    assert np.array_equal(evolver.breed(proposal).values, expected.values)


# -- genetic algorithm ----------------------------------------------------------------------------


def test_the_genetic_algorithm_counts_what_a_model_solves(start):
    evolver = start("ga").run(60)
    archive = evolver.archive
    assert archive.fitness.tolist() == archive.scores.sum(axis=1).tolist()
    assert evolver.history["fitness"].tolist() == (evolver.history["score"] * 60).round().tolist()


# -- MAP-Elites -----------------------------------------------------------------------------------

# Four points of odd classes, five of even ones.
ODD = np.array([1, 0, 1, 0, 1, 0, 1, 0, 0], dtype=bool)


def grid(halves=ODD, side=10):
    """Return the archive of a square grid over two halves of the data points."""
    axes = [Axis("odd"), Axis("even")]
    behaviours = Behaviours(GroupMeans([halves, ~halves]), axes, scaled=True)
    return GridArchive(len(halves), behaviours, (side, side))


def odd_points(evolver):
    """Return which data points count for the first behaviour."""
    first, second = evolver.archive.behaviours.measure.groups
    assert np.array_equal(first, ~second)
    return first


def scored(odd, even):
    """Return scores with so many right among the odd and the even points."""
    scores = np.zeros(9)
    scores[np.flatnonzero(ODD)[:odd]] = 1
    scores[np.flatnonzero(~ODD)[:even]] = 1
    return scores


@pytest.mark.parametrize(
    ("odd", "even", "cell"),
    [
        (0, 0, (0, 0)),
        (1, 0, (2, 0)),  # 1/4 · 10 = 2.5
        (2, 1, (5, 2)),  # 2/4 · 10 = 5, 1/5 · 10 = 2
        (3, 4, (7, 8)),  # 3/4 · 10 = 7.5, 4/5 · 10 = 8
        (4, 5, (9, 9)),  # a perfect half falls in the last cell
    ],
)
def test_a_cell_is_the_tenths_of_odd_and_even_points_solved(odd, even, cell):
    assert grid().cell(scored(odd, even)) == cell


def test_an_elite_gives_way_only_to_a_better_model_of_its_cell():
    archive = grid(side=2)  # cells by less than half or more
    assert archive.add(0, None, scored(0, 1)).accepted
    assert archive.add(1, None, scored(3, 1)).accepted  # another cell
    same = archive.add(2, None, scored(1, 0))  # as many points, and the same cell as 0
    assert (same.accepted, same.rival) == (False, 0)
    better = archive.add(3, None, scored(1, 2))
    assert (better.accepted, better.displaced) == (True, 0)
    assert archive.ids == (1, 3)
    assert archive.fitness.tolist() == [4, 3]  # plain sums


def test_each_cell_has_one_elite(start):
    archive = start("map-elites", mutation=0.3).run(200).archive
    cells = [archive.cell(scores) for scores in archive.scores]
    assert len(set(cells)) == len(cells) > 5


def test_map_elites_halves_by_the_numbers_of_the_classes(tiny, start):
    assert np.array_equal(odd_points(start("map-elites")), tiny.groups % 2 == 1)
    task = from_function(lambda model, at: model[at] > 0, 4)  # one class: by the points' numbers
    evolver = make_evolver("map-elites", task, [[1, 0, 0, 0], [0, 1, 1, 0]])
    assert odd_points(evolver).tolist() == [False, True, False, True]


def test_map_elites_draws_parents_by_their_scores():
    archive = grid()
    for id, (odd, even) in enumerate([(1, 0), (0, 3), (4, 2)]):
        archive.add(id, None, scored(odd, even))
    uniform = [(i + 0.5) / 1000 for i in range(1000)]
    parents = np.bincount([archive.draw_parent(u) for u in uniform], minlength=3) / 1000
    assert parents == pytest.approx([0.1, 0.3, 0.6], abs=0.002)
    mates = np.bincount([archive.draw_mate(2, u) for u in uniform], minlength=3) / 1000
    assert mates == pytest.approx([0.25, 0.75, 0], abs=0.002)


def test_map_elites_takes_classes_that_are_all_even():
    y = np.arange(20) % 2 * 2
    task = Classify(np.eye(20)[:, :3] + y[:, None], y, hidden=2)
    evolver = make_evolver("map-elites", task, task.random_seeds(2), mutation=0.1, rng=1).run(50)
    assert not odd_points(evolver).any()
    cells = [evolver.archive.cell(scores) for scores in evolver.archive.scores]
    # Nothing is solved among no odd points; of the even ones, 20, two are a tenth.
    solved = (evolver.archive.scores.sum(axis=1) // 2).clip(max=9)
    assert cells == [(0, tenths) for tenths in solved]
    assert len(set(cells)) == len(cells) > 1


def test_map_elites_takes_graded_tasks():
    task = from_function(lambda model, at: model[at].abs().clamp(max=1), 4, graded=True)
    evolver = make_evolver("map-elites", task, [[0.5, 0, 0, 0.2], [0, 0.3, 0.9, 0]]).run(20)
    assert evolver.archive.fitness == pytest.approx(evolver.archive.scores.sum(axis=1))


# -- CMA-ES ---------------------------------------------------------------------------------------


@pytest.fixture
def sphere():
    """Score exp(−(x − target)²) on each of eight coordinates."""
    target = torch.linspace(-0.05, 0.05, 8)
    return from_function(
        lambda model, at: torch.exp(-1000 * (model - target)[at] ** 2), 8, graded=True
    )


LIBRARY = {
    "none": {"CMA_diagonal": True, "CMA_on": 0.0},
    "diagonal": {"CMA_diagonal": True},
    "full": {},
}


def follow(evolver, start, options, population, generations):
    """Compare the steps of an evolver with those of the library, from one seed; return it."""
    rng = np.random.default_rng(evolver.options["rng"])
    options = {"popsize": population, "verbose": -9, "seed": float("nan"), **options}
    options["randn"] = lambda *shape: rng.standard_normal(shape)
    library = cma.CMAEvolutionStrategy(start, 0.01, options)
    for _ in range(generations):
        costs = []
        for number in range(population):
            rng.random(4), rng.bit_generator.random_raw()  # what every proposal draws
            if number == 0:
                solutions = library.ask()
            proposal = evolver.ask()
            child = evolver.breed(proposal).values
            assert np.array_equal(child, solutions[number].astype(np.float32))
            scores = evolver.evaluate(proposal)
            evolver.tell(proposal, scores)
            costs.append(-scores.astype(float).mean())
        library.tell(solutions, costs)
    return library


@pytest.mark.parametrize("covariance", LIBRARY)
def test_cma_es_takes_the_steps_of_the_library(covariance, sphere):
    seeds = np.zeros((2, 8))
    evolver = make_evolver("cma-es", sphere, seeds, population=6, covariance=covariance, rng=4)
    follow(evolver, seeds[0], LIBRARY[covariance], 6, generations=15)


def test_many_weights_leave_the_covariance_alone_and_the_step_size_follows_the_path(sphere):
    few = make_evolver("cma-es", sphere, np.zeros((2, 8)))
    assert few.options["covariance"] == "full"
    task = from_function(lambda model, at: model[at] > 0, 8)
    many = make_evolver("cma-es", task, np.zeros((2, 600)), population=4)
    assert many.options["covariance"] == "none"
    step_size = {"AdaptSigma": CMAAdaptSigmaCSA}
    library = follow(many, np.zeros(600), {**LIBRARY["none"], **step_size}, 4, generations=10)
    assert np.all(library.sm.variances == 1.0)
    assert library.sigma != 0.01


def test_cma_es_improves_and_leaves_numpys_global_generator_alone(sphere):
    before = np.random.get_state()  # noqa: NPY002  # the very generator in question
    evolver = make_evolver("cma-es", sphere, np.zeros((2, 8)), population=8)
    first = evolver.best.score
    evolver.run(800)
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    # At the start exp(−1000·x²) averages 0.49 over the eight targets.
    assert first == pytest.approx(0.49, abs=0.01)
    assert evolver.best.score > 0.95


def test_cma_es_starts_from_the_mean_of_the_seeds(sphere):
    evolver = make_evolver("cma-es", sphere, [[1.0] * 8, [3.0] * 8], sigma0=1e-6, population=4)
    assert evolver.breed(evolver.ask()).values == pytest.approx([2.0] * 8, abs=1e-4)


def test_solutions_that_are_never_told_are_made_up_for_by_others(start):
    evolver = start("cma-es", population=4)
    proposals = [evolver.ask() for _ in range(6)]
    assert [proposal.seed for proposal in proposals[:4]] == [0, 1, 2, 3]
    assert len({proposal.seed for proposal in proposals}) == 6
    children = [evolver.breed(proposal).values for proposal in proposals]
    assert len({child.tobytes() for child in children}) == 6
    for proposal in (proposals[5], proposals[2], proposals[0]):
        evolver.tell(proposal)
    assert evolver.ask().seed > 4  # still this generation
    evolver.tell(proposals[4])
    assert evolver.ask().seed == 4  # the next one
    late = evolver.tell(proposals[1])  # only competes
    assert late.proposal.seed == 1
    assert np.array_equal(evolver.breed(proposals[3]).values, children[3])
    evolver.run(4)
    assert evolver.ask().seed == 8  # the second was filled up by an extra one


def test_extra_solutions_come_from_the_distribution_of_their_generation(sphere):
    seeds = [[1.0] * 8, [3.0] * 8]
    evolver = make_evolver("cma-es", sphere, seeds, sigma0=0.1, population=4)
    proposals = [evolver.ask() for _ in range(400)]
    extras = np.array([evolver.breed(p).values for p in proposals[4:]])
    assert extras.mean(axis=0) == pytest.approx([2.0] * 8, abs=5 * 0.1 / 396**0.5)
    assert extras.std(axis=0) == pytest.approx([0.1] * 8, rel=0.2)


def test_extra_solutions_change_nothing_about_those_that_follow(sphere):
    once, ahead = (make_evolver("cma-es", sphere, np.zeros((2, 8)), population=4) for _ in range(2))
    ours, theirs = ([evolver.ask() for _ in range(4)] for evolver in (once, ahead))
    state = ahead.rng.bit_generator.state
    extra = ahead.ask()
    ahead.breed(extra)
    ahead.rng.bit_generator.state = state  # what the proposal itself has drawn
    for a, b in zip(ours, theirs, strict=True):
        once.tell(a), ahead.tell(b)
    for _ in range(4):
        a, b = once.ask(), ahead.ask()
        assert np.array_equal(once.breed(a).values, ahead.breed(b).values)


@pytest.mark.parametrize("hand", [{"mix": 0.5}, {"split": 3}, None])
def test_children_by_hand_between_solutions_take_none_and_count_for_none(hand, start):
    evolver, seeds = start("cma-es", population=4), []
    for _ in range(12):
        evolver.tell(evolver.ask(**hand) if hand else np.zeros(evolver.space.size))
        proposal = evolver.ask()
        seeds.append(proposal.seed)
        evolver.tell(proposal)
    assert seeds == list(range(12))


def test_a_solution_that_is_no_longer_kept_is_refused(start):
    evolver = start("cma-es", population=3)
    old = [evolver.ask() for _ in range(3)]
    for _ in range(300):  # nobody tells these
        evolver.ask()
    evolver.run(3)
    for proposal in old:
        evolver.breed(proposal)  # of the generation before
    with pytest.raises(InputError, match="Solution 999 belongs to another generation"):
        evolver.breed(Proposal((), None, None, 999))


def test_the_order_of_scored_solutions_does_not_matter(start):
    forwards, backwards = start("cma-es", population=6), start("cma-es", population=6)
    for _ in range(3):
        ours, theirs = ([evolver.ask() for _ in range(6)] for evolver in (forwards, backwards))
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(forwards.breed(a).values, backwards.breed(b).values)
        for a, b in zip(ours, reversed(theirs), strict=True):
            forwards.tell(a), backwards.tell(b)


# -- brute force ----------------------------------------------------------------------------------


@pytest.fixture
def peak():
    """A task that is solved best, four points of four, by the mix 0.7 of its two seeds."""
    goal = np.array([np.cos(0.7 * np.pi / 2), np.sin(0.7 * np.pi / 2)])
    limits = np.array([0.01, 0.05, 0.1, 0.4])
    return from_function(lambda model, at: abs(model.numpy() - goal).max() < limits[at], 4)


@pytest.mark.parametrize("size", [1, 2, 20])
def test_brute_force_finds_the_best_ratio_although_the_seeds_have_left(size, peak):
    evolver = make_evolver("brute-force", peak, np.eye(2), ratios=11, archive_size=size)
    evolver.run(11)
    assert evolver.history["mix"].tolist() == pytest.approx(np.linspace(0, 1, 11))
    assert set(evolver.history["split"]) == {2}
    assert evolver.best.score == 1.0
    assert evolver.history.loc[evolver.history["child"] == evolver.best.id, "mix"].item() == 0.7
    again = evolver.run(11).history["mix"]  # it starts over
    assert again.tolist()[11:] == again.tolist()[:11]


def test_brute_force_proposes_each_ratio_once_however_far_it_asks_ahead(peak):
    evolver = make_evolver("brute-force", peak, np.eye(2), ratios=11)
    proposals = []
    for _ in range(4):
        ahead = [evolver.ask() for _ in range(3)]
        evolver.tell(evolver.ask(parents=(0, 1)))  # by hand, which takes none
        evolver.tell([0.5, 0.5])
        for proposal in reversed(ahead):
            evolver.tell(proposal)
        proposals += ahead
    assert [p.mix for p in proposals[:11]] == pytest.approx(np.linspace(0, 1, 11))
    assert proposals[11].mix == 0.0  # it starts over


def test_brute_force_on_workers_scores_each_ratio_once(peak):
    evolver = make_evolver("brute-force", peak, np.eye(2), ratios=101)
    evolver.run(101, executor=Scripted(5))
    assert sorted(evolver.history["mix"]) == pytest.approx(np.linspace(0, 1, 101))


def test_brute_force_taken_up_from_a_store_proposes_what_was_not_told(peak, tmp_path):
    evolver = make_evolver("brute-force", peak, np.eye(2), ratios=11)
    with store.record(evolver, tmp_path / "runs.db"):
        evolver.run(11)
        ahead = [evolver.ask() for _ in range(6)]
        for proposal in (ahead[4], ahead[0], ahead[1]):
            evolver.tell(proposal)
        evolver.tell(evolver.ask(parents=(0, 1), mix=0.9, split=1))
    again = store.resume(tmp_path / "runs.db", task=peak)
    mixes = [again.ask().mix for _ in range(10)]
    assert mixes == pytest.approx([0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 0.0, 0.1])


def test_brute_force_goes_on_from_a_state_with_what_it_left_out(peak):
    first = make_evolver("brute-force", peak, np.eye(2), ratios=11).run(4)
    state = first.state_dict()
    second = make_evolver("brute-force", peak, np.eye(2), ratios=11)
    second.load_state_dict(state)
    assert [second.ask() for _ in range(9)] == [first.ask() for _ in range(9)]


def test_brute_force_counts_what_a_model_solves(peak):
    archive = make_evolver("brute-force", peak, np.eye(2), ratios=11).run(11).archive
    # Fitness is the plain sum of scores, however many others solve the same.
    assert archive.fitness.tolist() == archive.scores.sum(axis=1).tolist()
    assert archive.scores.sum(axis=0).max() > 1


def test_brute_force_checks_ratios_that_a_person_gives(peak):
    evolver = make_evolver("brute-force", peak, np.eye(2), ratios=11)
    for bad in ({"mix": 1.5}, {"mix": float("nan")}, {"split": 3}):
        with pytest.raises(InputError, match="got"):
            evolver.ask(parents=(0, 1), **bad)
        with pytest.raises(InputError, match="got"):
            evolver.evaluate(evolver.ask().edit(**bad))


# -- bad input ------------------------------------------------------------------------------------


class Odd:
    """A space that is not a ``DenseSpace``."""

    size, layout, seeds = 2, None, ("a", "b")
    merge = mutate = angle = genome = pack = save = print

    def materialise(self, genome):
        return np.ones(2)


EYE = np.eye(2)
BAD = {
    "unknown": (("m2n3",), {}, "no method named 'm2n3'; did you mean 'm2n2'"),
    "unlike any": (("xyz",), {}, "no method named 'xyz'; choose one of: m2n2, "),
    "not a name": ((None,), {}, "no method named 'None'"),
    "another alpha": (("ga",), {"alpha": 1.0}, "'ga' means alpha=0.0, got alpha=1.0"),
    "crossover": (
        ("m2n2-no-crossover",),
        {"crossover": True, "mutation": 0.1},
        "means crossover=False, got crossover=True",
    ),
    "misspelt option": (("m2n2",), {"mutatoin": 0.1}, "'mutatoin'; did you mean 'mutation'"),
    "another's option": (("ga",), {"ratios": 5}, "no option of method 'ga' named 'ratios'"),
    "no mutation": (("ga-no-crossover",), {}, "copy of its parent.*mutation=0;"),
    "grid not square": (("map-elites",), {"archive_size": 20}, "square archive_size.* got 20"),
    "grid alpha": (("map-elites",), {"alpha": 1.0}, "alpha 0 .* 1 and 'one'"),
    "step size": (("cma-es",), {"sigma0": 0.0}, "sigma0 must be a finite number .* got 0.0"),
    "population": (("cma-es",), {"population": 1}, "population .* >= 2, got 1"),
    "one ratio": (("brute-force",), {"ratios": 1}, "ratios .* >= 2, got 1"),
    "three seeds": (("brute-force",), {"seeds": np.eye(3)}, "exactly two seeds, got 3"),
    "covariance": (
        ("cma-es",),
        {"covariance": "half"},
        "no covariance named 'half'; choose one of: none, diagonal, full",
    ),
    "no vectors": (("cma-es",), {"seeds": Odd()}, "a space that merges stretches, got a Odd"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_a_sentence(case):
    (method,), options, message = BAD[case]
    task = from_function(lambda model, at: np.asarray(model)[at] > 0, 2)
    options = {"seeds": EYE, **options}
    with pytest.raises(InputError, match=message):
        make_evolver(method, task, **options)


def test_the_state_of_cma_es_cannot_be_saved(start):
    with pytest.raises(InputError, match=r"CMA-ES cannot be saved.*same rng"):
        start("cma-es").state_dict()


# -- CMA-ES of mixes ---------------------------------------------------------------------------


LAYERS = Layout({"0.weight": (3,), "0.bias": (1,), "1.weight": (3,), "1.bias": (1,)})


def mixes_of(evolver, member):
    """Return the shares of the second seed in each weight of a member, which lie on one line."""
    a, b = (seed.values for seed in evolver.space.seeds)
    return (member.genome.values - a) / (b - a)


def layered(granularity, sphere, **options):
    # Antiparallel seeds: SLERP is a lerp, so that mixes can be read off the weights.
    seeds = DenseSpace([np.ones(8), -np.ones(8)], LAYERS, dtype="float64")
    return make_evolver("cma-es", sphere, seeds, granularity=granularity, rng=1, **options)


@pytest.mark.parametrize(
    ("granularity", "starts", "options"),
    [
        ("layer", [0, 0, 0, 0, 1, 1, 1, 1], {}),
        ("tensor", [0, 0, 0, 1, 2, 2, 2, 3], {}),
        ("group", [0, 0, 0, 1, 0, 0, 0, 1], {"groups": {"weights": "*weight", "biases": "*bias"}}),
    ],
)
def test_cma_es_has_one_mix_for_each(granularity, starts, options, sphere):
    evolver = layered(granularity, sphere, population=4, archive_size=30, **options).run(20)
    members = [member for member in evolver.archive.members if member.born]
    for member in members:
        found = mixes_of(evolver, member)
        assert ((found >= 0.0) & (found <= 1.0)).all()
        first = [starts.index(start) for start in starts]
        np.testing.assert_allclose(found, found[first], atol=1e-12)
    assert len({tuple(mixes_of(evolver, m).round(6)) for m in members}) == len(members)


def test_cma_es_of_mixes_keeps_what_is_frozen(sphere):
    groups = {"weights": "*weight"}
    evolver = layered("group", sphere, groups=groups, freeze="0.bias", exclude="1.bias").run(10)
    for member in evolver.archive.members[2:]:
        np.testing.assert_array_equal(mixes_of(evolver, member)[[3, 7]], [0.0, 0.0])


def test_cma_es_of_mixes_is_resumed_as_uninterrupted(sphere, tmp_path):
    whole = layered("layer", sphere, population=4).run(30)
    layered("layer", sphere, population=4).run(17, store=tmp_path / "runs.db")
    again = store.resume(tmp_path / "runs.db", task=sphere).run(13)
    assert np.array_equal(whole.records.table(), again.records.table(), equal_nan=True)


@pytest.mark.parametrize(
    ("granularity", "options", "words"),
    [
        ("layers", {}, "no granularity named 'layers'"),
        ("group", {}, "granularity='group' needs groups of tensors"),
        ("layer", {"exclude": "*bias"}, "granularity='layer' mixes all tensors"),
        ("weights", {"exclude": "*bias"}, "CMA-ES of weights changes all of them"),
    ],
)
def test_cma_es_refuses_what_does_not_fit_its_granularity(granularity, options, words, sphere):
    with pytest.raises(InputError, match=words):
        layered(granularity, sphere, **options)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_cma_es_of_mixes_starts_from_the_mean_of_all_seeds(count, sphere):
    # Parallel seeds, of which a SLERP is a lerp.
    seeds = DenseSpace([k * np.ones(8) for k in range(1, count + 1)], LAYERS, dtype="float64")
    options = {"granularity": "layer", "rng": 1, "archive_size": 30}
    still = make_evolver("cma-es", sphere, seeds, sigma0=1e-9, **options).run(1)
    np.testing.assert_allclose(still.archive.members[-1].genome.values, (count + 1) / 2, atol=1e-6)

    moved = make_evolver("cma-es", sphere, seeds, **options).run(10)
    for member in moved.archive.members[count:]:
        first, second = member.genome.values[:4], member.genome.values[4:]
        assert len({*first}) == len({*second}) == 1
        assert first[0] != second[0]
        assert 1.0 <= min(first[0], second[0]) < max(first[0], second[0]) <= count


def test_cma_es_of_mixes_of_three_seeds_keeps_what_is_frozen(sphere):
    seeds = DenseSpace([k * np.ones(8) for k in (1, 2, 3)], LAYERS, dtype="float64")
    options = {"granularity": "group", "groups": {"weights": "*weight"}, "freeze": "*bias"}
    evolver = make_evolver("cma-es", sphere, seeds, rng=1, **options).run(10)
    for member in evolver.archive.members[3:]:
        np.testing.assert_array_equal(member.genome.values[[3, 7]], [1.0, 1.0])


@pytest.mark.parametrize("method", METHODS)
def test_a_search_can_be_pickled_and_copied_and_goes_on_alike(method):
    task = small()
    options = {"mutation": 0.1} | ({} if method in GRIDS else {"archive_size": 5})
    evolver = make_evolver(method, task, task.random_seeds(2, rng=0), rng=2, **options).run(30)
    others = pickle.loads(pickle.dumps(evolver)), copy.deepcopy(evolver)
    evolver.run(30)
    for other in others:
        assert np.array_equal(other.run(30).archive.scores, evolver.archive.scores)
