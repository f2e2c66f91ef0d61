"""Pinned members: no child displaces them, whatever the method and the scores."""

import numpy as np
import pytest

import m2n2lab as lab
from m2n2lab.core.archive import Archive

BETTER = [0, 1, 1, 1]


def full(**options):
    """Return a full archive of 3, of which member 0 is the weakest."""
    archive = Archive(4, size=3, **options)
    for id, scores in enumerate(([1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1])):
        archive.add(id, None, np.array(scores, bool))
    return archive


def test_a_pinned_member_is_not_displaced_and_the_next_weakest_is():
    archive = full()
    assert archive.judge(BETTER).rival == 0
    archive.pin(0)
    verdict = archive.judge(BETTER)
    assert (verdict.accepted, verdict.rival, verdict.spared) == (True, 1, 0)
    assert "displaces 1" in str(verdict)
    assert "Member 0 would be its rival, but is pinned." in str(verdict)
    assert archive.add(3, None, BETTER) == verdict
    assert archive.ids == (0, 2, 3)
    assert archive.pinned == {0}
    archive.pin(0, on=False)
    assert archive.judge(BETTER).rival == 0


def test_a_child_above_a_pinned_member_alone_is_rejected_and_the_reason_is_true():
    archive = full()
    archive.pin(0)
    verdict = archive.judge([0, 0, 0, 0])
    assert (verdict.accepted, verdict.rival, verdict.spared) == (False, 1, 0)
    assert "the weakest member" not in str(verdict)  # which is 0


def test_one_place_is_left_for_children():
    archive = full()
    archive.pin(0)
    archive.pin(1)
    with pytest.raises(lab.InputError, match="At most 2 of 3 members can be pinned"):
        archive.pin(2)
    archive.pin(1)  # again
    with pytest.raises(lab.InputError, match="Member 9 is not in the archive"):
        archive.pin(9)
    assert archive.pinned == {0, 1}


def test_a_replacement_of_its_own_kind_is_not_shown_pinned_members():
    archive = full(replacement=lab.core.operators.Crowding())
    near = [1, 0, 0, 1]
    assert archive.judge(near).rival in (0, 2)
    archive.pin(0)
    archive.pin(2)
    verdict = archive.judge(near)
    assert verdict.rival == 1
    archive.add(3, None, near)
    assert archive.pinned == {0, 2}
    assert {0, 2} <= {*archive.ids}


def test_a_pin_is_a_new_standing_and_changes_no_fitness():
    archive = full()
    before = archive.standing
    archive.pin(0)
    assert archive.standing is not before
    assert np.array_equal(archive.standing.fitness, before.fitness)


@pytest.mark.parametrize("method", ["m2n2", "ga", "map-elites", "cycle-qd", "cma-es"])
def test_pinned_members_outlive_any_search(method):
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=24)
    task = lab.tasks.from_function(
        lambda model, at: np.asarray(model)[at] * wanted[at] > 0, 24, name="signs",
        classes=["even", "odd"], groups=np.arange(24) % 2,
    )  # fmt: skip
    seeds = rng.normal(size=(3, 24)).astype("float32") - wanted
    options = {"archive_size": 4} if method in ("m2n2", "ga", "cma-es") else {"side": 3}
    living = []
    for pinned in ((), (0, 1)):
        evolver = lab.make_evolver(method, task, seeds, mutation=0.5, rng=0, **options)
        for id in pinned:
            evolver.pin(id)
        living.append({*evolver.run(150).archive.ids})
    assert not {0, 1} <= living[0]
    assert {0, 1} <= living[1]


def test_a_verdict_says_what_tell_does_with_pins():
    task = lab.tasks.from_function(lambda model, at: np.asarray(model)[at] > 0, 12, name="positive")
    seeds = np.random.default_rng(0).normal(size=(4, 12)).astype("float32")
    evolver = lab.Evolver(task, seeds, archive_size=4, mutation=0.5, rng=1)
    weakest = evolver.archive.ids[int(np.argmin(evolver.archive.fitness))]
    evolver.pin(weakest)
    for _ in range(40):
        proposal = evolver.ask()
        scores = evolver.evaluate(proposal)
        expected = evolver.verdict(scores)
        assert evolver.tell(proposal, scores).verdict == expected
    assert weakest in evolver.archive


def test_early_rejection_finds_the_same_members_with_pins():
    task = lab.tasks.from_function(lambda model, at: np.asarray(model)[at] > 0, 40, name="positive")
    seeds = np.random.default_rng(0).normal(size=(4, 40)).astype("float32")
    found = []
    for chunk in (None, 3):
        evolver = lab.Evolver(task, seeds, archive_size=5, mutation=0.3, rng=1, chunk=chunk)
        evolver.pin(2)
        evolver.run(200)
        found.append((evolver.archive.ids, evolver.archive.pinned))
    assert found[0] == found[1]
    assert 2 in found[0][0]


def test_a_state_keeps_pins_and_one_without_has_none():
    task = lab.tasks.from_function(lambda model, at: np.asarray(model)[at] > 0, 6, name="t")
    seeds = np.eye(3, 6, dtype="float32")
    evolver = lab.Evolver(task, seeds, archive_size=3, rng=0)
    evolver.pin(1)
    state = evolver.state_dict()
    other = lab.Evolver(task, seeds, archive_size=3, rng=0)
    other.load_state_dict(state)
    assert other.archive.pinned == {1}
    del state["archive"]["pinned"]
    other.load_state_dict(state)
    assert other.archive.pinned == frozenset()
