"""Operators: each part of a method exchanged, by name or by an object of one's own."""

import numpy as np
import pytest
from helpers.stores import small
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import m2n2lab as lab
from m2n2lab import Archive, DenseSpace, Evolver, InputError, Layout, Proposal
from m2n2lab.core.operators import (
    Crowding,
    Dare,
    LayerMix,
    Lerp,
    Lowest,
    Noise,
    Range,
    Slerp,
    Splits,
    TaskArithmetic,
    Ties,
)
from m2n2lab.core.operators.crossover import layer_starts
from m2n2lab.core.operators.task_vectors import trimmed
from m2n2lab.tasks import from_function

LAYOUT = Layout({"layers.0.weight": (3,), "layers.0.bias": (1,), "layers.1.weight": (4,)})


class Average(lab.Crossover):
    """The example of the docstring."""

    def __call__(self, a, b, proposal, space, rng):
        return space.blend([a, b], [0, space.size], [[0.5, 0.5]])


class Weighted(lab.Crossover, name="weighted"):
    def __init__(self, share=0.5):
        self.share = share

    def __call__(self, a, b, proposal, space, rng):
        share = self.share * rng.random()
        return space.blend([a, b], [0, space.size], [[1.0 - share, share]])


class Rare(lab.Competition):
    """The example of the docstring."""

    def weights(self, scores):
        return 1.0 / (1.0 + (scores > 0).sum(axis=0)) ** 2


class Oldest(lab.Replacement):
    """The oldest member leaves, whatever its fitness."""

    def __call__(self, contest):
        return True, None if contest.has_room else int(contest.ids[0])


class Next(lab.MateChoice):
    """The next younger member, or the oldest for the youngest."""

    def __call__(self, archive, parent, u):
        ids = archive.ids
        return ids[(ids.index(parent) + 1) % len(ids)]


class Halve(lab.Mutation):
    def __call__(self, genome, space, seed):
        return space.blend([genome], [0, space.size], [[0.5]])


def pair(dtype="float64"):
    seeds = np.random.default_rng(0).normal(size=(3, 8))
    return DenseSpace(seeds, LAYOUT, dtype=dtype)


def child(crossover, split=3, mix=0.25, space=None, seed=5):
    space = space or pair()
    rng = np.random.default_rng(seed)
    return crossover(*space.seeds[:2], Proposal((0, 1), split, mix, seed), space, rng).values


def search(method="m2n2", **options):
    task = small()
    seeds = task.random_seeds(3, rng=0, scale=0.5)
    options = {"archive_size": 6, "mutation": 0.1, "rng": 3} | options
    return lab.make_evolver(method, task, seeds, **options)


# -- crossovers --------------------------------------------------------------------------------


def test_slerp_is_the_merge_of_the_paper():
    space = pair()
    expected = space.merge(*space.seeds[:2], 3, 0.25).values
    np.testing.assert_allclose(child(Slerp(), space=space), expected, rtol=1e-15)


def test_a_reach_takes_a_child_beyond_its_parents():
    space = pair()
    expected = space.merge(*space.seeds[:2], 3, -0.5).values
    np.testing.assert_allclose(child(Slerp(0.5), mix=0.0, space=space), expected, rtol=1e-14)


def test_lerp_is_the_weighted_mean_on_either_side_of_the_split():
    a, b, _ = (seed.values for seed in pair().seeds)
    expected = np.where(np.arange(8) < 3, 0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b)
    np.testing.assert_allclose(child(Lerp()), expected)


@given(st.integers(0, 8), st.floats(0, 1), st.integers(1, 6), st.integers(0, 9))
def test_splits_exchange_the_shares_at_every_split(split, mix, splits, seed):
    crossover, proposal = Splits(splits), Proposal((0, 1), split, mix, seed)
    edges, shares = crossover.shares(proposal, LAYOUT, np.random.default_rng(seed))
    assert (edges[0], edges[-1]) == (0, 8)
    assert len(edges) == splits + 2
    assert split in edges
    assert shares == [mix if i % 2 == 0 else 1.0 - mix for i in range(splits + 1)]
    space = pair()
    merged = space.merge_stretches(*space.seeds[:2], edges, shares).values
    assert np.array_equal(child(crossover, split, mix, space, seed), merged)


def test_one_split_of_several_is_the_paper_s_merge():
    assert np.array_equal(child(Splits(1)), child(Slerp()))


def test_each_layer_has_one_mix_around_that_of_its_side():
    assert layer_starts(LAYOUT) == [0, 4]
    edges, mixes = LayerMix(0.2).shares(
        Proposal((0, 1), 4, 0.5, 0), LAYOUT, np.random.default_rng(0)
    )
    assert edges == [0, 4, 8]
    assert len(set(mixes)) == 2
    assert all(abs(mix - 0.5) <= 0.1 for mix in mixes)
    assert np.array_equal(child(LayerMix(0.0), split=4), child(Slerp(), split=4))


def test_layers_are_found_by_the_number_in_their_names():
    names = [
        "embed.weight",
        "h.0.a.weight",
        "h.0.b.weight",
        "h.1.a.weight",
        "W",
        "norm.w",
        "norm.b",
    ]
    assert layer_starts(Layout(dict.fromkeys(names, (1,)))) == [0, 1, 3, 4, 5]


def test_task_arithmetic_adds_both_changes_of_the_base():
    a, b, base = (seed.values for seed in pair().seeds)
    half = child(TaskArithmetic(base=2), mix=0.5)
    np.testing.assert_allclose(half, base + (a - base) + (b - base))
    np.testing.assert_allclose(child(TaskArithmetic(base=2, scale=0.5)), child(Lerp()))


def test_ties_keeps_what_is_large_and_agrees_in_sign():
    base = np.zeros(4)
    a, b = np.array([4.0, 3.0, 0.1, -2.0]), np.array([2.0, -5.0, 0.2, -4.0])
    # The half with the largest elements: a has 4 and 3, b has -5 and -4. Of 3 and -5, at equal
    # weights, -5 is elected; where one has nothing, the other's value is the mean.
    rule = Ties(density=0.5)
    share = np.full(4, 0.5)
    expected = [4.0, -5.0, 0.0, -4.0]
    np.testing.assert_allclose(rule.tensor([a, b, base], share, None), expected)
    # With all elements kept, what agrees is averaged by weight.
    expected = [0.25 * 4 + 0.75 * 2, -5.0, 0.25 * 0.1 + 0.75 * 0.2, 0.25 * -2 + 0.75 * -4]
    np.testing.assert_allclose(
        Ties(density=1.0).tensor([a, b, base], np.full(4, 0.75), None), expected
    )


@given(
    arrays(float, st.integers(1, 12), elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -3.0])),
    st.floats(1e-6, 1.0),
)
def test_what_is_trimmed_is_all_but_the_largest_and_of_equals_the_last(change, density):
    keep = int(np.ceil(density * len(change)))
    order = sorted(range(len(change)), key=lambda i: (-abs(change[i]), i))
    expected = np.where(np.isin(np.arange(len(change)), order[:keep]), change, 0.0)
    assert trimmed(change, density).tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [1, 65_535, 65_537, 200_000])
def test_ties_does_not_depend_on_the_blocks_it_is_computed_in(size, monkeypatch):
    a, b, base, share = np.random.default_rng(size).random((4, size))
    whole = Ties(density=0.3).tensor([a, b, base], share, None)
    monkeypatch.setattr("m2n2lab.core.operators.task_vectors.BLOCK_ELEMENTS", size)
    assert np.array_equal(Ties(density=0.3).tensor([a, b, base], share, None), whole)


def test_dare_drops_elements_and_keeps_their_sum_on_average():
    rule, base = Dare(density=0.25, scale=0.5), np.zeros(40_000)
    a, b = base + 1.0, base + 3.0
    made = rule.tensor([a, b, base], np.full(40_000, 0.5), np.random.default_rng(0))
    assert set(np.unique(made)) == {0.0, 2.0, 6.0, 8.0}  # (½·1 or ½·3 or both) / ¼
    assert np.mean(made == 0.0) == pytest.approx(0.75**2, abs=0.01)
    assert made.mean() == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", lab.Crossover.named)
def test_every_crossover_gives_the_same_child_for_the_same_proposal(name):
    crossover = lab.Crossover.of(name)
    assert np.array_equal(child(crossover), child(crossover))
    assert child(crossover).shape == (8,)


@pytest.mark.parametrize("name", lab.Crossover.named)
def test_a_child_of_equal_parents_that_equal_the_base_is_their_equal(name):
    space = DenseSpace(np.tile([1.0, -2.0, 0.5, 3.0, 0.0, 1.0, 1.0, 2.0], (3, 1)), LAYOUT)
    made = child(lab.Crossover.of(name), space=space)
    np.testing.assert_allclose(made, space.seeds[0].values, rtol=1e-6)


def test_a_base_that_is_no_seed_is_refused():
    with pytest.raises(InputError, match=r"base must be the number of a seed in \[0, 2\], got 3"):
        child(TaskArithmetic(base=3))


# -- competition -------------------------------------------------------------------------------


def test_the_range_subtracts_the_worst_score_of_a_data_point():
    archive = Archive(2, 3, capacity="range")
    for id, scores in enumerate([[0.5, 0.2], [0.7, 0.2], [0.9, 0.6]]):
        archive.add(id, None, scores)
    # Less the worst: 0, 0.2, 0.4 and 0, 0, 0.4. The range over the sum is 0.4 / 0.6 and 1.
    assert archive.fitness == pytest.approx([0.0, 0.2 * 0.4 / 0.6, 0.4 * 0.4 / 0.6 + 0.4])
    assert archive.weights == pytest.approx([0.4 / 0.6, 1.0])
    assert archive.capacity == "range"


@settings(max_examples=60)
@given(
    arrays(float, (9, 4), elements=st.floats(0, 5)),
    st.sampled_from([None, Range(), Range(2.0), Rare()]),
    st.sampled_from([None, Lowest(), Crowding(), Oldest()]),
)
def test_a_verdict_is_what_telling_does_for_every_competition(table, competition, replacement):
    archive = Archive(4, 3, competition=competition, replacement=replacement)
    for id, scores in enumerate(table):
        foretold = archive.judge(scores)
        before = archive.ids
        told = archive.add(id, None, scores)
        assert told == foretold
        assert (id in archive) == foretold.accepted
        left = {*before} - {*archive.ids}
        assert left == (set() if foretold.displaced is None else {foretold.displaced})
        alive = archive.scores
        if competition is not None:
            base = competition.base(alive)
            compared = alive if base is None else alive - base
            expected = compared @ competition.weights(compared)
            np.testing.assert_allclose(archive.fitness, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(arrays(float, (8, 4), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_the_lowest_leaves_as_it_does_without_a_replacement(table):
    ours, theirs = (
        Archive(4, 3, capacity="max"),
        Archive(4, 3, capacity="max", replacement=Lowest()),
    )
    for id, scores in enumerate(table):
        assert ours.add(id, None, scores) == theirs.add(id, None, scores)
    assert ours.ids == theirs.ids


def test_weights_of_the_wrong_shape_are_refused():
    class Wrong(lab.Competition):
        def weights(self, scores):
            return np.ones(3)

    with pytest.raises(InputError, match="one weight >= 0 for each of the 2 data points"):
        Archive(2, 3, competition=Wrong()).add(0, None, [1, 1])


def test_crowding_replaces_the_most_alike():
    archive = Archive(3, 2, alpha=0.0, replacement=Crowding())
    archive.add(0, None, [1, 1, 0])
    archive.add(1, None, [0, 0, 1])
    assert archive.add(2, None, [0, 1, 1]).displaced == 1
    assert archive.add(3, None, [0, 1, 0]).accepted is False  # 0 is nearest, and fitter
    assert archive.ids == (0, 2)


def test_a_replacement_that_names_no_member_is_refused():
    class Nobody(lab.Replacement):
        def __call__(self, contest):
            return True, 99

    archive = Archive(1, 1, replacement=Nobody())
    with pytest.raises(InputError, match="must name a member, got 99"):
        archive.add(0, None, [1])


def test_early_rejection_asks_the_competition_and_the_replacement():
    for options in ({"capacity": "range"}, {"competition": Rare()}, {"replacement": "crowding"}):
        with pytest.raises(InputError, match="needs all scores of every child, got chunk=4"):
            search(chunk=4, **options)
    ours, theirs = search(chunk=4, replacement="lowest").run(60), search().run(60)
    assert ours.archive.ids == theirs.archive.ids


# -- mates, mutation, warm-up ------------------------------------------------------------------


def test_a_mate_is_chosen_by_the_object_that_is_given():
    evolver = search(mate=Next()).run(20)
    proposal = evolver.ask()
    ids = evolver.archive.ids
    a, b = proposal.parents
    assert b == ids[(ids.index(a) + 1) % len(ids)]


def test_the_named_mates_are_the_options_of_the_paper_s_ablations():
    for name, options in (("attraction", {}), ("fitness", {"attraction": False})):
        ours, theirs = search(mate=name).run(30), search(**options).run(30)
        assert ours.archive.ids == theirs.archive.ids
    with pytest.raises(InputError, match="mate and attraction=False exclude each other"):
        search(mate="fitness", attraction=False)


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_compatible_mates_are_drawn_by_attraction_times_the_cosine_of_their_angle(power):
    # B is at 60° from A and can do one thing that A lacks, C at 90° two, D at 120° three.
    vectors = np.array([[np.cos(x), np.sin(x)] for x in np.radians([0, 60, 90, 120])])
    scores = [[1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0]]
    scores.append([0, 0, 0, 0, 1, 1, 1])
    task = from_function(lambda model, at: np.zeros(len(at)), 7)
    mate = f"compatible:power={power}"
    evolver = Evolver(task, DenseSpace(vectors, dtype="float64"), known=scores, mate=mate)
    np.testing.assert_allclose(np.degrees(evolver.archive.angles(0)), [0, 60, 90, 120], atol=1e-6)
    draws = [evolver.mate(evolver.archive, 0, u) for u in np.linspace(0.0, 0.9999, 4001)]
    shares = np.bincount(draws, minlength=4) / len(draws)
    # A cosine of 0 to the power of 0 is 1, as attraction alone.
    expected = {0.0: [0, 1 / 6, 2 / 6, 3 / 6], 1.0: [0, 1, 0, 0], 3.0: [0, 1, 0, 0]}[power]
    np.testing.assert_allclose(shares, expected, atol=1e-3)


def test_where_nobody_compatible_is_better_a_mate_is_drawn_by_attraction_alone():
    vectors = np.array([[1.0, 0.0], [-1.0, 0.1]])
    task = from_function(lambda model, at: np.zeros(len(at)), 2)
    space = DenseSpace(vectors, dtype="float64")
    evolver = Evolver(task, space, known=np.eye(2), mate="compatible")
    assert {evolver.mate(evolver.archive, 0, u) for u in (0.0, 0.5, 0.99)} == {1}
    with pytest.raises(InputError, match=r"power must be a number in \[0, 100\], got -1"):
        search(mate="compatible:power=-1")


def test_angles_need_the_weights_of_the_members():
    archive = Archive(2)
    archive.add(0, None, [1.0, 0.0])
    with pytest.raises(InputError, match="this archive has scores alone"):
        archive.angles(0)


def test_random_mates_are_all_others_alike():
    evolver = search(mate="random").run(20)
    ids = evolver.archive.ids
    draws = [evolver.mate(evolver.archive, ids[0], u) for u in np.linspace(0, 0.999, 500)]
    counts = [draws.count(id) for id in ids]
    assert counts[0] == 0
    assert max(counts[1:]) - min(counts[1:]) <= 1


def test_noise_by_name_is_the_mutation_of_a_number():
    ours, theirs = search(mutation="noise:sigma=0.1").run(30), search().run(30)
    for one, other in zip(ours.archive.members, theirs.archive.members, strict=True):
        assert np.array_equal(one.genome.values, other.genome.values)


def test_a_mutation_of_one_s_own_changes_every_child():
    evolver = search(mutation=Halve())
    proposal = evolver.ask()
    plain = evolver.crossed(*(evolver.archive[i].genome for i in proposal.parents), proposal)
    np.testing.assert_allclose(evolver.breed(proposal).values, plain.values / 2, rtol=1e-6)


def test_a_warm_up_merges_seeds_and_only_seeds_even_those_that_have_left():
    evolver = search(warmup=40, archive_size=3).run(60)
    history = evolver.history
    warm = history[["parent_a", "parent_b"]].to_numpy()[:40]
    assert set(warm.ravel()) == {0, 1, 2}
    assert (warm[:, 0] != warm[:, 1]).all()
    assert not set(range(3)) <= set(evolver.archive.ids)  # a seed has left
    later = history[["parent_a", "parent_b"]].to_numpy()[40:]
    assert (later > 2).any()


def test_a_warm_up_without_crossover_is_refused():
    with pytest.raises(InputError, match="A warm-up merges seeds"):
        search(warmup=3, crossover=False)


# -- names, descriptions, methods ------------------------------------------------------------------


def test_operators_are_made_of_names_with_parameters():
    assert lab.Crossover.of("ties:density=0.3,base=1") == Ties(base=1, density=0.3)
    assert lab.Crossover.of({"operator": "splits", "splits": 2}) == Splits(2)
    assert lab.Mutation.of("noise") == Noise()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("tie", "crossover"),
        (3, "crossover must be a Crossover or the name of one"),
        (Average, "got a class"),
        ("ties:dens=0.3", "other parameters than dens"),
        ("ties:0.3", "name=value"),
        ("ties:density=2", "density must be a number"),
        ({"operator": "some.module:Merge"}, "import some.module first"),
    ],
)
def test_a_crossover_that_is_not_known_is_refused(value, words):
    with pytest.raises(InputError, match=words):
        search(crossover=value)


@pytest.mark.parametrize(
    "operator",
    [Slerp(), Splits(4), Ties(density=0.4), Range(2.0), Noise(0.3), Average(), Weighted(0.2)],
)
def test_a_description_makes_an_equal_operator(operator):
    base = next(base for base in type(operator).__mro__ if "what" in vars(base))
    again = base.of(operator.description)
    assert type(again) is type(operator)
    assert again.parameters == operator.parameters


OPERATORS = {
    "lerp": {"crossover": "lerp"},
    "splits": {"crossover": Splits(2)},
    "per-layer": {"crossover": "per-layer"},
    "ties": {"crossover": "ties"},
    "dare": {"crossover": "dare:density=0.7"},
    "own": {"crossover": Weighted(0.9), "mate": Next(), "competition": Rare()},
    "range": {"capacity": "range"},
    "crowding": {"replacement": "crowding", "mate": "random"},
    "warm-up": {"warmup": 25},
    "noise": {"mutation": Noise(0.05, 0.01)},
    "groups": {"groups": {"first": "W*", "rest": "*"}, "freeze": "b2"},
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_search_by_any_operators_is_resumed_and_branched_as_if_uninterrupted(name, tmp_path):
    whole = search(**OPERATORS[name]).run(50)
    path = tmp_path / "runs.db"
    search(**OPERATORS[name]).run(30, store=path)
    resumed = Evolver.resume(path, task=small())
    branched = lab.store.branch(path, step=20, task=small())
    for again, steps in ((resumed, 20), (branched, 30)):
        again.run(steps)
        assert again.archive.ids == whole.archive.ids
        for one, other in zip(again.archive.members, whole.archive.members, strict=True):
            assert np.array_equal(one.genome.values, other.genome.values)
    replayed = lab.store.replay(path)
    assert replayed.ids == lab.store.branch(path, task=small()).archive.ids
    np.testing.assert_array_equal(
        replayed.fitness, lab.store.branch(path, task=small()).archive.fitness
    )


def test_an_operator_that_cannot_be_recorded_is_asked_for(tmp_path):
    class Local(Average):
        pass

    path = tmp_path / "runs.db"
    whole = search(crossover=Local()).run(30, store=path).run(10)
    with pytest.raises(InputError, match="Option crossover of the run must be given"):
        Evolver.resume(path, task=small())
    again = lab.store.resume(path, task=small(), options={"crossover": Local()}).run(10)
    assert again.archive.ids == whole.archive.ids


def test_a_registered_method_is_made_recorded_and_compared_by_its_name(tmp_path):
    lab.register_method("mine", crossover=Weighted(0.5), alpha=0.5, description="by weight")
    try:
        evolver = search("mine").run(20, store=tmp_path / "runs.db")
        assert evolver.method == "mine"
        assert evolver.crossover.share == 0.5
        assert evolver.archive.alpha == 0.5
        with pytest.raises(InputError, match=r"Method 'mine' means alpha=0\.5, got alpha=1"):
            search("mine", alpha=1)
        whole = evolver.run(10)
        assert (
            Evolver.resume(tmp_path / "runs.db", task=small()).run(10).archive.ids
            == whole.archive.ids
        )
    finally:
        del lab.METHODS["mine"]
    again = Evolver.resume(tmp_path / "runs.db", task=small())  # in another process, say
    assert again.method == "mine"
    assert again.crossover.share == 0.5


def test_the_lab_s_own_methods_keep_their_names():
    for name in ("m2n2", "", 3):
        with pytest.raises(InputError, match="The name of a method must be a text other than"):
            lab.register_method(name, alpha=0.5)
    with pytest.raises(InputError, match="option of Evolver"):
        lab.register_method("mine", alfa=0.5)
    with pytest.raises(InputError, match="kind must be Evolver"):
        lab.register_method("mine", Average)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("cma-es", {"crossover": "lerp"}),
        ("brute-force", {"warmup": 3}),
        ("map-elites", {"competition": "range"}),
        ("m2n2+", {"mutation": Halve()}),
    ],
)
def test_a_method_with_an_operator_of_its_own_takes_no_other(method, options):
    sizes = {} if method == "map-elites" else {"archive_size": 6}
    with pytest.raises(InputError, match="because it has one of its own or none"):
        lab.make_evolver(method, small(), small().random_seeds(2, rng=0), **sizes, **options)


def test_a_class_with_a_merge_of_its_own_takes_no_crossover():
    class Own(Evolver):
        def merge(self, a, b, split, mix):
            return a

    with pytest.raises(InputError, match="Own has a merge of its own, got crossover"):
        Own(small(), small().random_seeds(2, rng=0), crossover="lerp")
