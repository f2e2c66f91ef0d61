import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab import Evolver, InputError, Proposal, Recipe, Verdict, make_evolver
from m2n2lab.analysis.lineage import BINS, MAX_MOMENTS, Lineage, merged_painting
from m2n2lab.analysis.lineage_arrays import (
    MAX_OLD_BIRTHS,
    RECENT_BIRTHS,
    lineage_data,
    lineage_geometry,
    member_at,
    shares_data,
)
from m2n2lab.core.population import Member
from m2n2lab.core.records import Generation

SIZE = 96  # two weights a bin


class Search:
    """A search whose events are given by a test, observed by ``lineage``."""

    def __init__(self, seeds=2, size=SIZE, genomes=()):
        self.genomes = dict(enumerate(genomes))
        self.members = tuple(
            Member(k, 0, (), self.genomes.get(k), 0.1 * (k + 1)) for k in range(seeds)
        )
        self.alive = list(range(seeds))
        self.born, self.step = seeds, 0
        space = SimpleNamespace(seeds=(None,) * seeds, size=size)
        self.size = size
        search = {"space": space, "archive": self, "generation": 0, "inheritance": self.inheritance}
        self.lineage = Lineage(SimpleNamespace(**search))

    def __contains__(self, id):
        return id in self.genomes

    def __getitem__(self, id):
        return SimpleNamespace(genome=self.genomes[id])

    def inheritance(self, proposal):
        split, mix = proposal.split, proposal.mix
        return [(0, split, mix, False), (split, self.size, 1.0 - mix, False)]

    def reject(self, parents=(0, 1)):
        return self.tell(Proposal(parents, 0, 0.5, 1), accepted=False)

    def bear(self, *parents, split=None, mix=None, by_hand=(), displaced=None, genome=None):
        proposal = Proposal(parents, split, mix, 1, by_hand) if parents else None
        if genome is not None:
            self.genomes[self.born] = genome
        return self.tell(proposal, displaced)

    def tell(self, proposal, displaced=None, accepted=True):
        self.step += 1
        id, self.born = self.born, self.born + 1
        verdict = Verdict(accepted, id / 100, 1.0, 1, 2, displaced, 0.0, 0)
        if accepted:
            self.alive = [m for m in self.alive if m != displaced] + [id]
        self.lineage.observe(Generation(self.step, proposal, id, verdict, None, None, 0.0, None))
        return id


def ancestors(lineage, id):
    """Return the ids of a member's ancestors, oldest first."""
    rows, _ = lineage.line(id)
    return lineage.column("id")[rows[:-1]].tolist()


@pytest.fixture
def family():
    """The lineage of two seeds and six births, computed by hand."""
    search = Search()
    search.bear(0, 1, split=48, mix=0.25)  # 2
    search.reject()  # 3
    search.bear(0, 2, split=96, mix=0.5, displaced=1)  # 4
    search.bear()  # 5 from outside
    search.bear(2, 5, split=24, mix=1.0, displaced=0)  # 6
    search.bear(6, displaced=2)  # 7 a mutated copy
    search.bear(4, 7, split=0, mix=0.0, by_hand=("split",), displaced=5)  # 8
    return search.lineage


def test_a_genealogy_of_six_births(family):
    lives = {id: family[id] for id in (0, 1, 2, 4, 5, 6, 7, 8)}
    assert {id: (x.born, x.died) for id, x in lives.items()} == {
        **{0: (0, 5), 1: (0, 3), 2: (1, 6), 4: (3, None)},
        **{5: (4, 7), 6: (5, None), 7: (6, None), 8: (7, None)},
    }
    assert [x.parents for x in lives.values()] == [
        *[(), (), (0, 1), (0, 2), (), (2, 5), (6,), (4, 7)]
    ]
    assert [id for id, x in lives.items() if x.by_hand] == [5, 8]
    assert (lives[2].split, lives[2].mix, lives[2].score) == (48, 0.25, 0.02)
    assert (lives[7].split, lives[7].mix) == (None, None)
    assert len(family) == 8
    assert 3 not in family


def test_ancestors_are_in_the_order_of_birth(family):
    assert ancestors(family, 0) == []
    assert ancestors(family, 4) == [0, 1, 2]
    assert ancestors(family, 8) == [0, 1, 2, 4, 5, 6, 7]


def test_paintings_are_the_hand_computed_ones(family):
    # Columns: seed 0, seed 1, outside. 2 has a quarter of seed 1 before the middle, then three.
    two = np.repeat([[0.75, 0.25, 0.0], [0.25, 0.75, 0.0]], 24, axis=0)
    # 4 is half of seed 0 and half of 2.
    four = np.repeat([[0.875, 0.125, 0.0], [0.625, 0.375, 0.0]], 24, axis=0)
    np.testing.assert_allclose(family.painting(4), four)
    # 6 is all of 5, from outside, before the first quarter, and all of 2 from there on.
    six = np.concatenate((np.tile([0.0, 0.0, 1.0], (12, 1)), two[12:]))
    np.testing.assert_allclose(family.painting(6), six)
    np.testing.assert_allclose(family.painting(7), six)  # its mutation is not shown
    # 8: mix 0, but all of it lies after the split, where B has 1 - 0.
    np.testing.assert_allclose(family.painting(8), six)
    # Displaced members have their mean everywhere.
    np.testing.assert_allclose(family.painting(2), np.tile([0.5, 0.5, 0.0], (BINS, 1)))
    np.testing.assert_allclose(family[6].shares, [0.3125, 0.4375, 0.25])


def test_a_split_inside_an_interval_has_each_parent_in_proportion():
    a, b = np.eye(2)[[0] * BINS], np.eye(2)[[1] * BINS]
    child = merged_painting(
        a, b, a, [(0, 25, 0.9, False), (25, SIZE, 0.1, False)], SIZE
    )  # one of the two weights of interval 12
    np.testing.assert_allclose(child[[11, 12, 13], 1], [0.9, 0.5, 0.1])
    whole = merged_painting(a, b, a, [(0, 7, 1.0, False)], 10)  # weights longer than intervals
    assert whole[:33, 1].tolist() == [1.0] * 33
    assert whole[33, 1] == pytest.approx(0.6)  # 33.6 intervals
    assert whole[34:, 1].tolist() == [0.0] * 14


def test_a_child_takes_the_lane_of_the_member_it_displaced(family):
    data = lineage_data(family)
    assert dict(zip(data.ids.tolist(), data.lane.tolist(), strict=True)) == {
        **{0: 0, 1: 1, 2: 2, 4: 1, 5: 3, 6: 0, 7: 2, 8: 3}
    }
    assert data.lanes == 4


def test_edges_lead_from_parents_to_children(family):
    data = lineage_data(family, focus=4)
    drawn = {(int(data.ids[a]), int(data.ids[b])) for a, b in data.edges}
    assert drawn == {(0, 2), (1, 2), (0, 4), (2, 4), (2, 6), (5, 6), (6, 7), (4, 8), (7, 8)}
    assert data.direct.all()
    assert data.ids[data.gave > 0].tolist() == [0, 1, 2, 4]
    # Half of 4 is from 0, half from 2, which has as much of 0 as of 1.
    assert data.gave[data.gave > 0].tolist() == [0.75, 0.25, 0.5, 1.0]
    assert data.ended.tolist() == [5, 3, 6, 7, 7, 7, 7, 7]
    assert data.alive.tolist() == [False] * 3 + [True, False] + [True] * 3


def test_rejected_children_change_nothing(family):
    before, moments = lineage_data(family), shares_data(family)
    verdict = Verdict(False, 0.9, 1.0, 1, 2, 4, 0.0, 0)
    for step in range(8, 30):
        family.observe(
            Generation(step, Proposal((4, 6), 1, 0.5, 1), step, verdict, None, None, 0, None)
        )
    after = lineage_data(family)
    for name in ("ids", "born", "lane", "edges", "alive", "gave"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert (len(family), family.now) == (8, 29)
    np.testing.assert_array_equal(shares_data(family).shares[:8], moments.shares)
    assert 9 not in family


def test_an_unknown_member_is_refused_with_a_present_one(family):
    for ask in (family.painting, family.line, family.__getitem__):
        with pytest.raises(
            InputError, match=r"never a member 3, or it was not observed; .*such as 8"
        ):
            ask(3)
    with pytest.raises(InputError, match="never a member 77"):
        lineage_data(family, focus=77)


# Events of a random search: the members A, B and the displaced one, how they are merged, and the
# origin of the child.
EVENTS = st.lists(
    st.tuples(
        *(st.integers(0, 99) for _ in range(3)),
        st.integers(0, SIZE),
        st.floats(0, 1),
        st.sampled_from(["merge", "merge", "merge", "copy", "outside", "reject"]),
    ),
    max_size=40,
)


def play(events, room=4, seeds=2):
    search = Search(seeds)
    for event in events:
        happen(search, event, room)
    return search


def happen(search, event, room=4):
    a, b, gone, split, mix, origin = event
    a, b, gone = (search.alive[k % len(search.alive)] for k in (a, b, gone))
    displaced = gone if len(search.alive) >= room else None
    if origin == "merge":
        search.bear(a, b, split=split, mix=mix, displaced=displaced)
    elif origin == "reject":
        search.reject()
    else:
        search.bear(*([a] if origin == "copy" else []), displaced=displaced)


@given(EVENTS)
def test_shares_always_sum_to_one(events):
    search = play(events)
    for id in search.alive:
        painting = search.lineage.painting(id)
        assert painting.shape == (BINS, 3)
        np.testing.assert_allclose(painting.sum(axis=1), 1.0)
        np.testing.assert_allclose(search.lineage[id].shares, painting.mean(axis=0))
    np.testing.assert_allclose(shares_data(search.lineage).shares.sum(axis=1), 1.0)


@given(EVENTS)
def test_active_children_mark_the_ancestors_of_members(events):
    search = play(events)
    lineage = search.lineage
    expected = set().union(*(ancestors(lineage, id) for id in search.alive))
    found = lineage.column("id")[lineage.column("active_children") > 0]
    assert set(found.tolist()) | set(search.alive) == expected | set(search.alive)
    assert set(lineage.column("id")[lineage.column("died") < 0].tolist()) == set(search.alive)


@given(EVENTS)
def test_lives_in_a_lane_follow_each_other(events):
    data = lineage_data(play(events).lineage)
    for lane in range(data.lanes):
        inside = data.lane == lane
        born, ended = data.born[inside], data.ended[inside]
        assert (born[1:] == ended[:-1]).all()
        assert data.alive[inside].tolist() == [False] * (len(born) - 1) + [True]


@given(EVENTS, EVENTS.filter(len))
def test_the_last_generation_can_be_taken_back(events, more):
    search, same = play(events), play(events)
    before = search.alive, search.born, search.step
    happen(search, more[0])
    search.lineage.forget_last()
    search.alive, search.born, search.step = before
    for event in more:  # and goes on as if nothing had been
        happen(search, event)
        happen(same, event)
    for name in ("id", "born", "died", "row_a", "row_b", "active_children", "lane"):
        np.testing.assert_array_equal(search.lineage.column(name), same.lineage.column(name))
    for id in same.alive:
        np.testing.assert_array_equal(search.lineage.painting(id), same.lineage.painting(id))
    for mine, other in zip(shares_data(search.lineage), shares_data(same.lineage), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert search.lineage.lanes == same.lineage.lanes


@given(EVENTS)
def test_without_a_split_shares_of_ancestors_equal_the_painting(events):
    search = play([(a, b, c, SIZE, mix, "merge") for a, b, c, _, mix, _ in events])
    for id in search.alive:
        data = lineage_data(search.lineage, focus=id)
        seeds = [float(data.gave[data.ids == k][0]) for k in (0, 1)]
        np.testing.assert_allclose([*seeds, 0.0], search.lineage[id].shares, atol=1e-12)


@given(EVENTS)
def test_a_mix_of_nought_or_one_at_an_edge_paints_as_its_recipe(events):
    search = Search()
    recipes = {k: Recipe.seed(k, 2, SIZE) for k in (0, 1)}
    for a, b, gone, split, mix, _ in events:
        a, b, gone = (search.alive[k % len(search.alive)] for k in (a, b, gone))
        w, cut = round(mix), split // 2 * 2
        gone = gone if len(search.alive) >= 4 else None
        child = search.bear(a, b, split=cut, mix=float(w), displaced=gone)
        factors = [[1 - w, w], [w, 1 - w]]
        recipes[child] = recipes[a].combine(recipes[b], [0, cut, SIZE], factors)
    for id in search.alive:
        np.testing.assert_allclose(search.lineage.painting(id)[:, :2], recipes[id].paint(BINS))


def test_a_recipe_paints_itself():
    seeds = [Recipe.seed(k, 2, SIZE) for k in range(2)]
    search = Search(genomes=seeds)
    child = seeds[0].combine(seeds[1], [0, 48, SIZE], [[0.6, 0.6], [0.0, 0.0]])
    search.bear(0, 1, split=48, mix=0.1, genome=child)
    painting = search.lineage.painting(2)
    np.testing.assert_allclose(painting[:24], [[0.5, 0.5, 0.0]] * 24)
    np.testing.assert_allclose(painting[24:], [[0.0, 0.0, 1.0]] * 24)  # of no seed


def test_moments_are_few_and_evenly_spaced_however_long_the_run():
    search = Search()
    for step in range(5_000):
        if step == 2_000:
            search.bear(displaced=1)
        else:
            search.reject()
    data = shares_data(search.lineage)
    assert len(data.steps) <= MAX_MOMENTS
    assert (data.steps[0], data.steps[-1]) == (0, 5_000)
    assert len(set(np.diff(data.steps[:-1]))) == 1
    before = data.steps <= 2_000
    np.testing.assert_allclose(data.shares[before], [[0.5, 0.5, 0.0]] * before.sum())
    np.testing.assert_allclose(data.shares[~before], [[0.5, 0.0, 0.5]] * (~before).sum())
    assert shares_data(Search().lineage).steps.tolist() == [0]


@pytest.fixture(scope="module")
def long_run():
    draw, search, room = np.random.default_rng(0), Search(), 20
    tracemalloc.start()
    for a, b, gone, split, way in draw.random((20_000, 5)):
        if way > 0.13:
            search.reject()
        else:
            event = (int(a * 99), int(b * 99), int(gone * 99), int(split * SIZE), float(a), "merge")
            happen(search, event, room)
    search.bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return search


@pytest.mark.slow
def test_memory_stays_small(long_run):
    lineage = long_run.lineage
    assert 2_400 < len(lineage) < 2_800
    paintings = {id: lineage.painting(id) for id in lineage.column("id").tolist()}
    whole = {id for id, painting in paintings.items() if (painting != painting[0]).any()}
    assert 10 < len(whole) <= len(long_run.alive) == 20
    assert whole <= set(long_run.alive)  # of the dead only the mean is known
    # 120 bytes a birth, of which the array module may reserve an eighth more, and the paintings.
    assert long_run.bytes < len(lineage) * 140 + 100_000


def test_a_long_run_is_drawn_in_part_and_every_child_has_an_edge(long_run):
    lineage = long_run.lineage
    focus = long_run.alive[0]
    data = lineage_data(lineage, focus, last=100)
    assert len(data.ids) <= 100 + 20 + 2 + 1 + 3 * MAX_OLD_BIRTHS
    assert data.ids.tolist() == sorted(set(data.ids.tolist()))
    assert {*long_run.alive, focus, 0, 1, *lineage.column("id")[-100:].tolist()} <= {*data.ids}
    assert 0 < data.direct.mean() < 1
    reached = set(data.edges[:, 1].tolist())
    assert reached == set(range(2, len(data.ids)))  # all but the seeds have a parent
    parents = {id: set(ancestors(lineage, id)) for id in data.ids[-40:].tolist()}
    for a, b in data.edges:
        if int(data.ids[b]) in parents:
            assert data.ids[a] in parents[int(data.ids[b])]
    marked = set(data.ids[data.gave > 0].tolist())
    assert marked <= {focus, *ancestors(lineage, focus)}
    assert data.since == lineage.column("born")[-RECENT_BIRTHS]


def test_the_drawing_lies_within_the_span_and_a_click_finds_the_nearest_member(long_run):
    data = lineage_data(long_run.lineage)
    for whole in (False, True):
        around = lineage_geometry(data, whole)
        assert (around.lines["x0"] >= around.start).all()
        assert (around.lines["x1"] <= around.end).all()
        assert (around.links["x0"] <= around.links["x1"]).all()
        assert around.start < (0 if whole else data.since) < data.now < around.end
        for place in around.lives[::37]:
            middle = (max(data.born[place], around.start) + data.ended[place]) / 2
            found = member_at(data, middle, around.y[place] + 0.2, whole)
            assert found == data.ids[place]


def test_the_lineage_of_a_real_search_has_its_members(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    evolver.run(150)
    evolver.tell(np.mean(tiny_seeds, axis=0) * 3, np.ones(60))
    alive = {id for id in lineage.column("id").tolist() if lineage[id].died is None}
    assert alive == set(evolver.archive.ids)
    for member in evolver.archive.members:
        life = lineage[member.id]
        assert (life.born, life.parents, life.score) == (member.born, member.parents, member.score)
    best = lineage[evolver.best.id]
    assert best.by_hand
    assert best.shares.tolist() == [0.0, 0.0, 1.0]
    assert lineage.now == evolver.generation == 151


def test_members_of_unobserved_birth_count_as_external(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1).run(100)
    lineage = Lineage(evolver)
    seeds = [id for id in evolver.archive.ids if id < 2]
    expected = np.eye(3)[[*seeds, *[2] * (6 - len(seeds))]].mean(axis=0)
    np.testing.assert_allclose(shares_data(lineage).shares, [expected])
    assert shares_data(lineage).steps.tolist() == [100]


@pytest.mark.parametrize("method", ["brute-force", "cma-es", "map-elites", "m2n2-no-crossover"])
def test_every_method_can_be_observed(tiny, tiny_seeds, method):
    mutation = 0.0 if method in ("brute-force", "cma-es") else 0.05
    size = 4 if method == "map-elites" else 3
    evolver = make_evolver(method, tiny, tiny_seeds, archive_size=size, mutation=mutation, rng=0)
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    evolver.run(60)
    assert len(lineage) > 2
    assert not lineage.column("by_hand").any()
    outside = shares_data(lineage).shares[-1, 2]
    assert (outside > 0) == (method == "cma-es")
    lineage_data(lineage, evolver.best.id)
