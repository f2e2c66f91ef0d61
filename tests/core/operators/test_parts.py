"""Parts: merges of some tensors, and of groups with a split and a mix of their own."""

import re

import numpy as np
import pytest
from helpers.stores import small
from hypothesis import given
from hypothesis import strategies as st

import m2n2lab as lab
from m2n2lab import DenseSpace, InputError, Layout, Proposal
from m2n2lab.core.operators import Lerp, Slerp
from m2n2lab.core.operators.parts import Group, Parts
from m2n2lab.core.spaces.slerp import slerp

LAYOUT = Layout(
    {
        "embed": (2,),
        "l.0.attn": (3,),
        "l.0.mlp": (2,),
        "l.1.attn": (2,),
        "l.1.mlp": (1,),
        "head": (2,),
    }
)
ATTENTION = [2, 3, 4, 7, 8]
"""Indices of the attention's weights."""
REST = [0, 1, 5, 6, 9, 10, 11]


def space():
    return DenseSpace(np.random.default_rng(1).normal(size=(3, 12)), LAYOUT, dtype="float64")


def crossed(parts, proposal, crossover=None):
    models = space()
    a, b, _ = models.seeds
    return parts.cross(crossover or Slerp(), a, b, proposal, models).values


def test_a_group_is_a_vector_of_its_own():
    group = Group("attention", LAYOUT, ["l.0.attn", "l.1.attn"])
    assert group.size == 5
    assert group.ranges == [(2, 5), (7, 9)]
    assert [group.whole(i) for i in range(6)] == [2, 3, 4, 7, 8, 9]
    assert [group.own(i) for i in (0, 2, 4, 6, 8, 12)] == [0, 0, 2, 3, 4, 5]
    assert list(group.stretches([0, 1, 4, 5])) == [(0, 2, 3), (1, 3, 5), (1, 7, 8), (2, 8, 9)]


@given(st.sets(st.sampled_from(list(LAYOUT.shapes)), min_size=1), st.data())
def test_stretches_cover_a_group_once_with_the_right_numbers(names, data):
    group = Group("some", LAYOUT, [name for name in LAYOUT.shapes if name in names])
    inner = data.draw(st.lists(st.integers(0, group.size), max_size=4))
    edges = [0, *sorted(inner), group.size]
    indices = [group.whole(i) for i in range(group.size)]
    found = {}
    for number, start, stop in group.stretches(edges):
        found |= dict.fromkeys(range(start, stop), number)
    assert sorted(found) == indices
    for own, index in enumerate(indices):
        assert edges[found[index]] <= own < edges[found[index] + 1]
        assert group.own(index) == own


def test_each_group_is_merged_with_its_own_angle_split_and_mix():
    parts = Parts(LAYOUT, {"attention": "*attn", "rest": "*"})
    proposal = Proposal((0, 1), 7, 0.3, 11)
    (split, mix), (other_split, other_mix) = parts.cuts(proposal)
    assert (split, mix) == (3, 0.3)
    child = crossed(parts, proposal)
    a, b, _ = (seed.values for seed in space().seeds)
    for indices, at, share in ((ATTENTION, split, mix), (REST, other_split, other_mix)):
        x, y = a[indices], b[indices]
        omega = np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        before, after = slerp(omega, share), slerp(omega, 1.0 - share)
        expected = [
            f * p + g * q
            for i, (p, q) in enumerate(zip(x, y, strict=True))
            for f, g in [before if i < at else after]
        ]
        np.testing.assert_allclose(child[indices], expected, rtol=1e-12)


def test_the_other_groups_draw_from_the_seed_of_the_child():
    parts = Parts(LAYOUT, {"attention": "*attn", "head": "head", "rest": "*"})
    cuts = [parts.cuts(Proposal((0, 1), 7, 0.3, seed)) for seed in range(300)]
    assert {first for first, *_ in cuts} == {(3, 0.3)}
    splits = np.array([[cut.split for cut in others] for _, *others in cuts])
    assert set(splits[:, 0]) == {0, 1}
    assert set(splits[:, 1]) == set(range(5))
    mixes = np.array([[cut.mix for cut in others] for _, *others in cuts])
    assert abs(np.corrcoef(mixes.T)[0, 1]) < 0.2
    assert abs(mixes.mean() - 0.5) < 0.05


def test_without_a_split_no_group_has_one():
    parts = Parts(LAYOUT, {"attention": "*attn", "rest": "*"})
    assert [cut.split for cut in parts.cuts(Proposal((0, 1), 12, 0.3, 1))] == [5, 7]


def test_what_is_excluded_stays_as_in_parent_a_and_what_is_frozen_as_in_the_first_seed():
    parts = Parts(LAYOUT, exclude="*mlp", freeze="head")
    models = space()
    first, a, b = models.seeds
    child = parts.cross(Lerp(), a, b, Proposal((1, 2), 12, 0.5, 0), models).values
    np.testing.assert_array_equal(child[[5, 6, 9]], a.values[[5, 6, 9]])
    np.testing.assert_array_equal(child[[10, 11]], first.values[[10, 11]])
    merged = [0, 1, 2, 3, 4, 7, 8]
    np.testing.assert_allclose(child[merged], (a.values + b.values)[merged] / 2)


def test_mutation_leaves_alone_what_is_not_merged():
    task = small()
    seeds = task.random_seeds(2, rng=0, scale=0.5)
    names = list(task.space(seeds).layout.shapes)
    evolver = lab.Evolver(task, seeds, mutation=0.3, rng=1, include=names[0], archive_size=5)
    evolver.run(40)
    offsets = evolver.space.layout.offsets
    founders = [seed.values[offsets[1] :] for seed in evolver.space.seeds]
    for member in evolver.archive.members:
        rest = member.genome.values[offsets[1] :]
        assert any(np.array_equal(rest, founder) for founder in founders)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("*attn", 5),
        (["embed", "head"], 4),
        ("re:l[.]1[.].*", 3),
        (re.compile("embed|head"), 4),
        (("l.0.*", re.compile("head")), 7),
    ],
)
def test_patterns_are_globs_and_regular_expressions(patterns, expected):
    assert Parts(LAYOUT, include=patterns).groups[0].size == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": "*attention*"}, "include must fit a tensor, but '.attention.' fits none of 6"),
        ({"exclude": 3}, "exclude must be patterns of names of tensors, got 3"),
        ({"exclude": [3]}, "exclude must be patterns of names of tensors, got 3"),
        ({"freeze": "re:("}, "freeze must be a regular expression behind 're:'"),
        ({"exclude": "*"}, "At least one of the 6 tensors must be merged"),
        (
            {"groups": {"attention": "*attn"}},
            "'embed' is in none of attention; add a group such as",
        ),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        Parts(LAYOUT, **options)


def test_a_painting_shows_groups_and_what_is_frozen():
    task = small()
    seeds = task.random_seeds(2, rng=0, scale=0.5)
    names = list(task.space(seeds).layout.shapes)
    evolver = lab.Evolver(task, seeds, rng=1, include=names[0], freeze=names[2], archive_size=9)
    evolver.space.names = ()
    from m2n2lab.analysis.lineage import BINS, Lineage

    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    evolver.tell(evolver.ask(parents=(1, 0), split=evolver.space.size, mix=1.0))
    painting = lineage.painting(2)
    offsets, size = evolver.space.layout.offsets, evolver.space.size
    middle = [(i + 0.5) * size / BINS for i in range(BINS)]
    for at, row in zip(middle, painting, strict=True):
        inside = [k for k in range(len(names)) if offsets[k] + 1 < at < offsets[k + 1] - 1]
        if inside:
            # Merged: all of B, which is seed 0. Frozen: seed 0. All else: parent A, seed 1.
            assert row[:2] == pytest.approx([1, 0] if inside[0] in (0, 2) else [0, 1])
