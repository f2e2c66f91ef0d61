import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from m2n2lab import Archive, InputError
from m2n2lab.core.population import weighted_sums

# z = 3 1 1 0: the last point is solved by no member.
RIGHT = [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]]
# z = .75 1 1 and, where capacity is the best score, c = .5 .5 1.
GRADED = [[0.5, 0.25, 0], [0.25, 0.5, 0], [0, 0.25, 1]]

LAST = math.nextafter(1.0, 0.0)  # the largest u that a generator of [0, 1) gives


def filled(rows, size=20, **options):
    archive = Archive(len(rows[0]), size, **options)
    for id, row in enumerate(rows):
        archive.add(id, f"genome {id}", row)
    return archive


# -- competition ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.0, [2, 2, 1]),  # plain sums
        (0.5, [1 + 1 / math.sqrt(3), 1 + 1 / math.sqrt(3), 1 / math.sqrt(3)]),
        (1.0, [1 / 3 + 1, 1 / 3 + 1, 1 / 3]),
        (2.0, [1 / 9 + 1, 1 / 9 + 1, 1 / 9]),
    ],
)
def test_a_point_that_many_solve_is_worth_less(alpha, expected):
    archive = filled(RIGHT, alpha=alpha)
    assert archive.z.tolist() == [3, 1, 1, 0]
    assert archive.fitness == pytest.approx(expected)


def test_right_and_wrong_give_the_same_as_ones_and_zeros():
    numbers, truths = filled(RIGHT), filled(np.array(RIGHT, dtype=bool))
    assert np.array_equal(numbers.fitness, truths.fitness)
    assert numbers.draw_mate(2, 0.75) == truths.draw_mate(2, 0.75)


@pytest.mark.parametrize(
    ("capacity", "alpha", "expected"),
    [
        # weights 4/3 1 1: .5·4/3 + .25, .25·4/3 + .5, .25 + 1
        ("one", 1.0, [11 / 12, 10 / 12, 15 / 12]),
        # weights .5/.75 .5 1: 1/3 + 1/8, 1/6 + 1/4, 1/8 + 1
        ("max", 1.0, [11 / 24, 10 / 24, 27 / 24]),
        # weights .5/.75² .5 1: .5·8/9 + 1/8, .25·8/9 + 1/4, 1/8 + 1
        ("max", 2.0, [41 / 72, 34 / 72, 81 / 72]),
        ("one", 0.0, [0.75, 0.75, 1.25]),
        # weights .5 .5 1: .25 + .125, .125 + .25, .125 + 1
        ("max", 0.0, [0.375, 0.375, 1.125]),
    ],
)
def test_graded_scores_compete_for_what_a_point_has_to_give(capacity, alpha, expected):
    archive = filled(GRADED, alpha=alpha, capacity=capacity)
    assert archive.fitness == pytest.approx(expected)


def test_weights_are_what_a_score_of_one_adds_to_fitness():
    assert filled(RIGHT).weights == pytest.approx([1 / 3, 1, 1, 1])  # z = 0 counts as 1
    assert filled(GRADED, capacity="max").weights == pytest.approx([2 / 3, 1 / 2, 1])


score_rows = hnp.arrays(
    float,
    st.tuples(st.integers(1, 6), st.integers(1, 8)),
    elements=st.integers(0, 4).map(lambda quarters: quarters / 4),
)


@given(score_rows, st.sampled_from(["one", "max"]))
def test_with_alpha_one_members_share_exactly_what_the_points_have(rows, capacity):
    # Σ_k Σ_j c_j s_kj / z_j = Σ_j c_j over the points that some member solves.
    archive = filled(rows, capacity=capacity)
    capacities = rows.max(axis=0) if capacity == "max" else (rows.max(axis=0) > 0)
    assert archive.fitness.sum() == pytest.approx(capacities.sum())


@pytest.mark.parametrize("points", [3, 1437, 20_001])
def test_equal_scores_have_equal_fitness_to_the_last_bit(points):
    # Otherwise rounding, and not age, would decide which of them leaves.
    draw = np.random.default_rng(points)
    same = draw.random(points)
    archive = filled([same if k % 2 else draw.random(points) for k in range(9)])
    assert len(set(archive.fitness[1::2].tolist())) == 1


def test_the_best_is_the_member_with_the_highest_mean_and_the_oldest_of_equals():
    archive = filled(RIGHT)
    assert archive.best.id == 0
    assert archive.best.score == 0.5
    archive.add(7, None, [1, 1, 1, 0])
    assert archive.best.id == 7
    assert archive.best.score == 0.75


def test_the_best_once_a_child_is_let_in_is_known_before():
    # z = 3 1 1 0 before; the child is counted in, and member 2 has the lowest fitness, 1/4 or 1/3.
    archive = filled(RIGHT, size=3)
    for scores, expected in [
        ([1, 1, 1, 1], (3, "child")),
        ([0, 1, 1, 1], (3, "child")),  # 3/4 against a half
        ([0, 0, 1, 1], (0, "genome 0")),  # of equals the oldest
        ([0, 0, 0, 1], (0, "genome 0")),
    ]:
        verdict = archive.judge(scores)
        assert verdict.displaced == 2
        assert archive.best_with(3, "child", verdict) == expected
        twin = filled(RIGHT, size=3)
        twin.add(3, "child", scores)
        assert (twin.best.id, twin.best.genome) == expected


def test_a_displaced_member_is_not_the_best_any_more():
    # With its copy z = 2 2 1: all have fitness 1, and the oldest leaves.
    archive = filled([[1, 1, 0], [0, 0, 1]], size=2)
    verdict = archive.judge([1, 1, 0])
    assert verdict.displaced == 0
    assert archive.best_with(2, "child", verdict) == (2, "child")
    # z = 1 2 2 1, fitness 1, 2 and 1. Of equals in score member 1 is older than the child.
    archive = filled([[0, 1, 1, 0], [1, 0, 0, 1]], size=2)
    verdict = archive.judge([0, 1, 1, 0])
    assert verdict.displaced == 0
    assert archive.best_with(2, "child", verdict) == (1, "genome 1")


# -- replacement ----------------------------------------------------------------------------------


def test_while_there_is_room_every_child_is_accepted():
    archive = filled(RIGHT, size=4)
    verdict = archive.add(3, None, [0, 0, 0, 0])
    assert verdict.accepted
    assert (verdict.rival, verdict.rival_fitness, verdict.displaced) == (None, None, None)
    assert (verdict.rank, verdict.of, verdict.alone) == (4, 4, 0)
    assert archive.ids == (0, 1, 2, 3)


def test_the_least_fit_leaves_for_a_fitter_child():
    archive = filled(RIGHT, size=3)
    verdict = archive.add(3, None, [0, 0, 0, 1])
    # With the child z = 3 1 1 1: fitness 4/3, 4/3, 1/3 and 1.
    assert (verdict.accepted, verdict.displaced, verdict.rival) == (True, 2, 2)
    assert verdict.fitness == pytest.approx(1)
    assert verdict.rival_fitness == pytest.approx(1 / 3)
    assert (verdict.score, verdict.rank, verdict.of, verdict.alone) == (0.25, 3, 4, 1)
    assert archive.ids == (0, 1, 3)
    assert archive.z.tolist() == [2, 1, 1, 1]  # the displaced member no longer counts
    assert archive.fitness == pytest.approx([1.5, 1.5, 1])


def test_a_child_that_is_the_least_fit_changes_nothing():
    archive = filled([[1, 1, 0], [0, 1, 1]], size=2)
    standing = archive.standing
    verdict = archive.add(2, None, [0, 1, 0])
    # With the child z = 1 3 1: fitness 4/3, 4/3 and 1/3.
    assert (verdict.accepted, verdict.displaced, verdict.rival) == (False, None, 0)
    assert verdict.rival_fitness == pytest.approx(4 / 3)
    assert verdict.rank == 3
    assert archive.standing is standing
    assert archive.z.tolist() == [1, 2, 1]


def test_at_a_draw_the_child_stays_and_the_oldest_of_the_lowest_leaves():
    archive = filled([[1, 1], [1, 0], [1, 0]], size=3)
    # With the child z = 4 1: fitness 5/4, 1/4, 1/4 and, for the child, 1/4.
    assert archive.add(3, None, [1, 0]).displaced == 1
    # Now member 2 is the oldest of the lowest, although member 3 took the row of member 1.
    assert archive.add(4, None, [1, 0]).displaced == 2
    assert archive.ids == (0, 3, 4)


def test_a_child_competes_with_members_that_solve_the_same():
    # [1 1 0] alone is worth 2; beside its copy each is worth 1, as much as the specialist.
    archive = filled([[1, 1, 0], [0, 0, 1]], size=2)
    verdict = archive.judge([1, 1, 0])
    assert verdict.fitness == pytest.approx(1)
    assert verdict.displaced == 0


@given(
    st.integers(1, 5),
    st.integers(1, 8),
    st.sampled_from(["one", "max"]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.booleans(),
    st.data(),
)
def test_the_archive_is_the_published_algorithm(size, points, capacity, alpha, truths, data):
    one = st.booleans() if truths else st.integers(0, 4).map(lambda quarters: quarters / 4)
    rows = data.draw(hnp.arrays(bool if truths else float, (12, points), elements=one))
    archive = Archive(points, size, alpha, capacity)
    ids, alive = [], np.zeros((0, points))
    for id, row in enumerate(rows):
        ids, alive = [*ids, id], np.vstack([alive, row])
        z = alive.sum(axis=0)
        best = alive.max(axis=0) if capacity == "max" else np.ones(points)
        fitness = (best * alive / np.where(z == 0, 1, z) ** alpha).sum(axis=1)
        expected = archive.judge(row)
        verdict = archive.add(id, None, row)
        assert verdict == expected
        assert verdict.fitness == pytest.approx(fitness[-1])
        assert verdict.score == pytest.approx(row.mean())
        assert verdict.alone == np.count_nonzero((row > 0) & (alive[:-1].sum(axis=0) == 0))
        if len(ids) > size:
            (gone,) = set(ids) - set(archive.ids)
            lowest = np.flatnonzero(np.isclose(fitness, fitness.min(), rtol=0, atol=1e-9))
            # Sums of different thirds may tie on paper and not in binary; plain sums are exact.
            if alpha == 0.0 or len(lowest) == 1:
                assert gone == ids[np.argmin(fitness)]
            assert gone in [ids[k] for k in lowest]
            assert verdict.accepted == (gone != id)
            assert verdict.displaced == (gone if verdict.accepted else None)
            alive = np.delete(alive, ids.index(gone), axis=0)
            ids.remove(gone)
        assert archive.ids == tuple(ids)
        assert np.array_equal(archive.scores, alive)
        assert archive.z == pytest.approx(alive.sum(axis=0))


def test_judging_changes_nothing():
    archive = filled(RIGHT, size=3)
    before = archive.state_dict()
    for scores in ([1, 1, 1, 1], [0, 0, 0, 0], [True] * 4, [0.5, 0, 0, 0.25]):
        archive.judge(scores)
    after = archive.state_dict()
    assert np.array_equal(before.pop("scores"), after.pop("scores"))
    before.pop("graded"), after.pop("graded")  # only chooses the quicker of two equal sums
    assert before == after
    assert archive.fitness == pytest.approx([4 / 3, 4 / 3, 1 / 3])
    assert [archive.draw_mate(2, u) for u in (0.2, 0.7)] == [0, 1]


def test_what_the_archive_gives_out_cannot_change_it():
    archive = filled(RIGHT)
    for array in (archive.scores, archive.z, archive.weights):
        array[:] = 9
    assert not archive.fitness.flags.writeable
    assert archive.z.tolist() == [3, 1, 1, 0]
    assert archive.scores.tolist() == RIGHT


def test_members_are_found_by_id_and_know_their_past():
    archive = Archive(2, 2)
    archive.add(5, "five", [1, 0])
    archive.add(9, "nine", [1, 1], born=4, parents=(5, 3))
    assert len(archive) == 2
    assert 9 in archive
    assert 0 not in archive
    member = archive[9]
    assert (member.id, member.genome, member.score) == (9, "nine", 1.0)
    assert (member.born, member.parents) == (4, (5, 3))
    assert [m.id for m in archive.members] == [5, 9]


# -- what views show ------------------------------------------------------------------------------


def test_coverage_counts_the_points_that_anybody_solves():
    assert filled(RIGHT).coverage == 0.75
    assert filled(RIGHT[:1]).coverage == 0.5
    assert Archive(3).coverage == 0.0


@pytest.mark.parametrize(
    ("rows", "bits"),
    [
        ([[1, 0], [1, 0]], 0.0),  # all agree
        ([[1, 0], [0, 1]], 1.0),  # half of them solve each
        # p = 1/4 and 0: −¼ log2 ¼ − ¾ log2 ¾ = 0.8112781 for one of two points
        ([[1, 0], [0, 0], [0, 0], [0, 0]], 0.8112781 / 2),
        # p = 1/3 and 2/3: 0.9182958 each
        ([[1, 1], [0, 1], [0, 0]], 0.9182958),
        ([[2, 0], [2, 0]], 0.0),  # scores above 1 count as 1
    ],
)
def test_entropy_measures_disagreement_in_bits(rows, bits):
    entropy = filled(rows).entropy
    assert entropy == pytest.approx(bits, abs=1e-7)
    assert not np.signbit(entropy)  # or it is shown as -0.00


# -- attraction -----------------------------------------------------------------------------------


def test_attraction_is_what_b_can_do_and_a_cannot():
    # Weights 1/3 1 1 1: member 0 alone solves point 1, member 1 alone point 2.
    expected = [[0, 1, 0], [1, 0, 0], [1, 1, 0]]
    assert filled(RIGHT).attraction() == pytest.approx(np.array(expected))


def test_graded_attraction_is_what_b_does_better():
    # Weights 2/3 1/2 1. Row 2: B = 0 gains .5 on point 0, B = 1 gains .25 there and on point 1.
    expected = [[0, 1 / 8, 1], [1 / 6, 0, 1], [1 / 3, 1 / 6 + 1 / 8, 0]]
    assert filled(GRADED, capacity="max").attraction() == pytest.approx(np.array(expected))


def shares(draw, ids, steps=4000):
    """Return how often each id is drawn as u runs evenly through [0, 1)."""
    found = [draw((i + 0.5) / steps) for i in range(steps)]
    return np.array([found.count(id) for id in ids]) / steps


@pytest.fixture(scope="module", params=["right or wrong", "graded", "graded, capacity max"])
def mixed(request):
    """An archive that has seen members come and go, so that rows are not in order of age."""
    draw = np.random.default_rng(5)
    archive = Archive(12, 6, capacity="max" if "max" in request.param else "one")
    for id in range(40):
        scores = draw.random(12) * (draw.random(12) < 0.3)
        archive.add(id, None, scores > 0 if request.param == "right or wrong" else scores)
    archive.judge(np.ones(12))  # a child that was only judged must leave no trace
    return archive


def test_parents_are_drawn_in_proportion_to_fitness(mixed):
    found = shares(mixed.draw_parent, mixed.ids)
    # Each member owns one stretch of [0, 1): the grid counts it to within one point.
    assert found == pytest.approx(mixed.fitness / mixed.fitness.sum(), abs=1 / 4000)


def test_mates_are_drawn_in_proportion_to_attraction(mixed):
    for parent, gains in zip(mixed.ids, mixed.attraction(), strict=True):
        assert gains.any()
        found = shares(lambda u, a=parent: mixed.draw_mate(a, u), mixed.ids)
        # At most one stretch of [0, 1) for each of the 12 data points.
        assert found == pytest.approx(gains / gains.sum(), abs=12 / 4000)


def test_when_no_member_beats_the_parent_its_mate_is_drawn_by_fitness():
    archive = filled([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    # z = 3 2 1 1: fitness of members 1 and 2 is 1/3 + 1/2 = 5/6 and 1/3, so 5 to 2.
    found = shares(lambda u: archive.draw_mate(0, u), archive.ids)
    assert found == pytest.approx([0, 5 / 7, 2 / 7], abs=1 / 4000)


def test_members_without_any_score_are_drawn_with_equal_chances():
    archive = filled([[0, 0]] * 4)
    assert shares(archive.draw_parent, archive.ids) == pytest.approx([0.25] * 4)
    found = shares(lambda u: archive.draw_mate(2, u), archive.ids)
    assert found == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=1 / 4000)


def test_a_single_member_is_its_own_mate():
    archive = filled([[1, 0]])
    assert {archive.draw_mate(0, u) for u in (0.0, 0.5, LAST)} == {0}


@pytest.mark.parametrize("scale", [1.0, 0.1, 1 / 3])
def test_the_ends_of_the_wheel_never_pick_a_member_without_a_chance(scale):
    rows = np.array([[0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]]) * scale
    archive = filled(rows)
    assert (archive.draw_parent(0.0), archive.draw_parent(LAST)) == (1, 3)
    for parent in archive.ids:
        gains = archive.attraction()[parent]
        assert gains[archive.draw_mate(parent, 0.0)] > 0
        assert gains[archive.draw_mate(parent, LAST)] > 0


# -- saving ---------------------------------------------------------------------------------------


def test_a_restored_archive_goes_on_as_the_old_one(mixed):
    state = mixed.state_dict()
    twin = Archive(mixed.points, mixed.size, mixed.alpha, mixed.capacity)
    twin.load_state_dict(state)
    assert twin.members == mixed.members
    assert np.array_equal(twin.scores, mixed.scores)
    assert np.array_equal(twin.fitness, mixed.fitness)
    for u in np.linspace(0, LAST, 50):
        parent = mixed.draw_parent(u)
        assert twin.draw_parent(u) == parent
        assert twin.draw_mate(parent, u) == mixed.draw_mate(parent, u)
    assert twin.add(99, None, np.eye(12)[3]) == mixed.judge(np.eye(12)[3])
    assert 99 not in mixed  # nothing is shared


# -- bad input ------------------------------------------------------------------------------------

BAD = {
    "too few scores": (lambda a: a.judge([1, 0]), r"shape \(4,\), got shape \(2,\)"),
    "a table of scores": (lambda a: a.judge(np.ones((4, 1))), r"shape \(4,\), got shape \(4, 1\)"),
    "NaN": (lambda a: a.judge([0, 1, np.nan, 0]), "finite .* got nan on data point 2"),
    "infinite": (lambda a: a.judge([0, 1, 0, np.inf]), "finite .* got inf on data point 3"),
    "negative": (lambda a: a.judge([0, -1, 0, 0]), ">= 0, got -1 on data point 1"),
    "text": (lambda a: a.judge(list("abcd")), "[Ss]cores must be"),
    "None": (lambda a: a.judge([1, None, 0, 0]), "[Ss]cores must be"),
    "ragged": (lambda a: a.judge([[1], [1, 2], [0], [0]]), "[Ss]cores must be"),
    "complex": (lambda a: a.judge([1j] * 4), "[Ss]cores must be"),
    "same id twice": (lambda a: a.add(1, None, [1, 1, 1, 1]), "new id, but 1 is in the archive"),
    "absent parent": (
        lambda a: a.draw_mate(8, 0.5),
        "8 is not in the archive; choose one of: 0, 1, 2",
    ),
    "absent member": (lambda a: a[[]], "not in the archive; choose one of: 0, 1, 2"),
    "no points": (lambda _: Archive(0), "points must be .* >= 1, got 0"),
    "no members": (lambda _: Archive(4, 0), "archive_size must be .* >= 1, got 0"),
    "a truth": (lambda _: Archive(4, True), "archive_size must be an integer .* got True"),
    "half a member": (lambda _: Archive(4, 2.5), "archive_size must be an integer .* got 2.5"),
    "negative alpha": (lambda _: Archive(4, alpha=-1), r"alpha .* in \[0, 10\], got -1"),
    "NaN alpha": (lambda _: Archive(4, alpha=math.nan), r"alpha .* in \[0, 10\], got nan"),
    "capacity": (lambda _: Archive(4, capacity="mix"), "no capacity named 'mix'.* one, max"),
    "foreign state": (
        lambda a: a.load_state_dict(Archive(3, 2).state_dict()),
        "20 members and 4 data points, got 2 and 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_a_sentence_and_changes_nothing(case):
    call, message = BAD[case]
    archive = filled(RIGHT)
    standing = archive.standing
    with pytest.raises(InputError, match=message):
        call(archive)
    assert archive.standing is standing


def test_sums_over_more_points_than_one_stretch_are_complete():
    draw = np.random.default_rng(0)
    scores, weights = draw.random((3, 20_001)), draw.random(20_001)
    expected = (scores.astype(np.longdouble) * weights).sum(axis=1).astype(float)
    np.testing.assert_allclose(weighted_sums(scores, weights), expected, rtol=1e-13)
