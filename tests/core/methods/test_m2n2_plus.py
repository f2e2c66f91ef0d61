"""The lab's variant, and the ideas that were tried for it."""

import numpy as np
import pytest
from ideas import Ideas, IdeasArchive

from m2n2lab import Evolver, InputError, Proposal, make_evolver, store
from m2n2lab.analysis.landscape import landscape_data
from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings
from m2n2lab.core.methods.m2n2_plus import REACH, Plus
from m2n2lab.core.operators import Slerp


def picture(evolver):
    return [m.genome.values.tobytes() for m in evolver.archive.members], evolver.archive.ids


def test_a_stretched_mix_keeps_its_middle_and_goes_beyond_both_ends():
    assert [Slerp(0.5).stretched(mix) for mix in (0.0, 0.25, 0.5, 1.0)] == [-0.5, 0.0, 0.5, 1.5]
    assert [Slerp().stretched(mix) for mix in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]


def test_children_of_the_variant_lie_beyond_their_parents(tiny, tiny_seeds):
    # Of two parallel models SLERP is the straight line, here from 1 to 3.
    space = tiny.space([np.ones(82), 3 * np.ones(82)])
    child = Plus(tiny, space, reach=0.5).breed(Proposal((0, 1), 40, 0.75, 0))
    assert child.values[:40] == pytest.approx(np.full(40, 3.0))  # 0.75 is the end, 1.0
    assert child.values[40:] == pytest.approx(np.full(42, 1.0))
    child = Plus(tiny, space, reach=0.5).breed(Proposal((0, 1), 40, 1.0, 0))
    assert child.values[:40] == pytest.approx(np.full(40, 4.0))
    assert child.values[40:] == pytest.approx(np.zeros(42), abs=1e-6)


def test_with_neither_decay_nor_reach_the_variant_is_m2n2(tiny, tiny_seeds):
    plain = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.1, rng=2).run(80)
    same = Plus(tiny, tiny_seeds, archive_size=6, mutation=0.1, rng=2, decay=0.0).run(80)
    ideas = Ideas(tiny, tiny_seeds, archive_size=6, mutation=0.1, rng=2).run(80)
    assert picture(same) == picture(plain) == picture(ideas)


def test_a_weight_decays_before_it_is_mutated(tiny):
    space = tiny.space([np.ones(82), 3 * np.ones(82)])
    plus = Plus(tiny, space, mutation=0.1, decay=0.25)
    plain = Evolver(tiny, space, mutation=0.1)
    proposal = Proposal((0, 1), 40, 0.0, 7)  # 1 before the split and 3 after it
    lost = plain.breed(proposal).values - plus.breed(proposal).values
    assert lost[:40] == pytest.approx(np.full(40, 0.25))
    assert lost[40:] == pytest.approx(np.full(42, 0.75))


def test_decay_bounds_weights_that_selection_does_not_determine(tiny, tiny_seeds):
    # sigma / sqrt(2 decay) = 0.1 / sqrt(0.1) = 0.316; a random walk of as many steps comes to 2.
    plus = Plus(tiny, tiny_seeds, mutation=0.1, decay=0.05)
    genome = plus.space.seeds[0]
    for seed in range(400):
        genome = plus.mutate(genome, seed)
    assert genome.values.std() == pytest.approx(0.1 / np.sqrt(2 * 0.05), rel=0.25)


def test_the_variant_reaches_beyond_parents_only_without_mutation(tiny, tiny_seeds):
    assert make_evolver("m2n2+", tiny, tiny_seeds).reach == REACH
    assert make_evolver("m2n2+", tiny, tiny_seeds, mutation=0.1).reach == 0.0
    assert make_evolver("m2n2+", tiny, tiny_seeds, mutation=0.1, reach=0.2).reach == 0.2


def test_trained_networks_are_mutated_by_the_variant_alone():
    wanted = Settings(method="m2n2+", pretrained=True)
    assert build_evolver(wanted).mutation == Plus.trained_mutation == wanted.default_mutation > 0.0
    assert Settings(pretrained=True).default_mutation == 0.0
    assert Settings("gsm8k", "m2n2+").default_mutation == 0.0  # checkpoints cannot be


def test_the_variant_is_a_method_that_keeps_its_options(tiny, tiny_seeds, tmp_path):
    options = {"reach": 0.3, "decay": 0.1, "mutation": 0.05}
    evolver = make_evolver("m2n2+", tiny, tiny_seeds, rng=1, archive_size=6, **options)
    evolver.run(30, store=tmp_path / "runs.db")
    again = store.resume(tmp_path / "runs.db", task=tiny)
    assert again.method == "m2n2+"
    assert {name: again.options[name] for name in options} == options
    assert picture(again) == picture(evolver)


@pytest.mark.parametrize("wrong", [{"reach": -0.1}, {"decay": 1.5}, {"decay": float("nan")}])
def test_a_wrong_option_of_the_variant_is_refused_by_name(tiny, tiny_seeds, wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
        Plus(tiny, tiny_seeds, **wrong)


def test_the_landscape_shows_the_children_that_the_variant_would_have(tiny, tiny_seeds):
    evolver = Plus(tiny, tiny_seeds, reach=0.5)
    data = landscape_data(evolver, 0, 1, cells=3)
    for row, column in np.ndindex(3, 3):
        mix, split = float(data.mixes[row]), int(data.splits[column])
        child = evolver.breed(Proposal((0, 1), split, mix, 0))
        right = tiny.evaluate(evolver.space.materialise(child))
        assert data.scores[row, column] == pytest.approx(right.mean())


# -- ideas ----------------------------------------------------------------------------------------


def test_a_child_of_several_splits_changes_sides_at_each(tiny, tiny_seeds):
    evolver = Ideas(tiny, tiny_seeds, splits=3)
    proposal = Proposal((0, 1), 30, 0.2, 5)
    more = np.random.default_rng(5).integers(82, size=2).tolist()
    one, two, three = sorted([30, *more])
    child = evolver.breed(proposal).values
    a, b = evolver.space.seeds
    before, after = (evolver.space.merge(a, b, at, 0.2).values for at in (82, 0))
    for part, whole in ((slice(0, one), before), (slice(one, two), after)):
        assert np.array_equal(child[part], whole[part])
    for part, whole in ((slice(two, three), before), (slice(three, 82), after)):
        assert np.array_equal(child[part], whole[part])


def test_splits_fall_into_the_given_range(tiny, tiny_seeds):
    evolver = Ideas(tiny, tiny_seeds, between=(0.5, 0.75), archive_size=6).run(60)
    splits = evolver.history["split"].astype(int)
    assert 41 <= splits.min() < splits.max() < 62


def test_the_success_rule_follows_the_share_of_accepted_children(tiny, tiny_seeds):
    evolver = Ideas(tiny, tiny_seeds, mutation=0.1, archive_size=4, success=0.25).run(100)
    lived = evolver.history["accepted"]
    assert evolver.scale == pytest.approx(np.exp(0.02 * (lived - 0.25).sum()))


def full(loser="lowest", appeal=1.0, union=False):
    """Three members: 0 alone solves point 0, 1 and 2 share the rest and 2 solves more."""
    archive = IdeasArchive(5, 3, 1.0, "one")
    archive.loser, archive.appeal, archive.union = loser, appeal, union
    for id, scores in enumerate(([1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 1, 0])):
        archive.add(id, None, scores)
    return archive


@pytest.mark.parametrize(("loser", "displaced"), [("lowest", 0), ("shared", 1), ("nearest", 2)])
def test_each_idea_displaces_its_own_member(loser, displaced):
    # Child: fitness 1/3 + 1/3 + 1/2 + 1 = 2.17. Others: 1, 2/3, 7/6 with it counted in.
    archive = full(loser)
    child = [0, 1, 1, 1, 1] if loser != "lowest" else [1, 1, 1, 1, 1]
    verdict = archive.judge(child)
    assert (verdict.accepted, verdict.displaced) == (True, displaced)


def test_appeal_sharpens_the_choice_of_a_mate_and_the_union_makes_it_certain():
    # Seen from 0 the gains are 1/2 + 1/2 = 1 of member 1, and 2 of member 2.
    draws = np.linspace(0, 1, 500, endpoint=False)
    for archive, share in ((full(), 2 / 3), (full(appeal=2.0), 4 / 5), (full(union=True), 1.0)):
        mates = [archive.draw_mate(0, float(u)) for u in draws]
        assert np.mean([mate == 2 for mate in mates]) == pytest.approx(share, abs=0.01)
