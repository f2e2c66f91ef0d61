"""Verdicts: the sentences on a child before and after its step, for every method and score type."""

import re
from dataclasses import replace

import numpy as np
import pytest

from m2n2lab import METHODS, Evolver, Verdict, make_evolver, tasks
from m2n2lab.analysis.lineage import Lineage
from m2n2lab.analysis.merge_preview import BenchData, bench_data, describe_gain, describe_verdict
from m2n2lab.core.records import Partial, Proposal
from m2n2lab.utils.text import plain

HOSTILE = "<script>alert(1)</script>\x1b[31m" + "x" * 100_000


def numbers(text):
    """Return the numbers in a verdict as text."""
    text = re.sub(
        r"is the lowest of (\d+); the weakest member, (\d+), has ([\d.]+)\.",
        r"ranks \1 of \1 and does not beat \2 (\3).",
        text,
    )
    pattern = (
        r"(Would live|Would not live)\. Fitness ([\d.]+) ranks (\d+) of (\d+) and "
        r"(?:there is room for it|(displaces|does not beat) (\d+) \(([\d.]+)\))\."
        r"(?: It scores on ([\d,]+) data points? where nobody else does\.)?"
    )
    return re.fullmatch(pattern, text).groups()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("graded", [False, True])
def test_verdict_and_outcome_are_true_sentences_of_every_method(method, graded, tiny_seeds):
    def score(model, at):
        return model[at].sigmoid() if graded else model[at] > 0

    # Three classes, so that grids have cells, and an archive that fills up on the way.
    task = tasks.from_function(score, 40, graded=graded, classes="abc", groups=np.arange(40) % 3)
    size = {"map-elites": 100, "cycle-qd": 300}.get(method, 5)
    evolver = make_evolver(method, task, tiny_seeds, archive_size=size, mutation=0.3, rng=0)
    seen = set()
    for _ in range(60):
        proposal = evolver.ask()
        scores = evolver.evaluate(proposal)
        head, mine, rank, of, verb, rival, its, alone = numbers(str(evolver.verdict(scores)))
        members, before = evolver.archive.ids, evolver.archive.scores
        generation = evolver.tell(proposal, scores)
        child, lives = generation.child, generation.child in evolver.archive
        assert (head == "Would live") == lives
        assert int(of) == len(members) + 1
        assert 1 <= int(rank) <= int(of)
        assert int((alone or "0").replace(",", "")) == int(((scores > 0) & ~before.any(0)).sum())
        gone = set(members) - set(evolver.archive.ids)
        if rival is None:
            assert (lives, gone) == (True, set())
            assert generation.outcome == f"Child {child} lives: there was room for it."
        elif lives:
            assert (verb, gone) == ("displaces", {int(rival)})
            assert float(mine) >= float(its)
            assert generation.outcome == f"Child {child} lives and takes the place of {rival}."
        else:
            assert (verb, gone) == ("does not beat", set())
            assert int(rival) in members
            assert float(mine) <= float(its)
            said = f"Child {child} died: its fitness {mine} does not beat {rival} ({its})."
            assert generation.outcome == said
        seen.add((lives, rival is None))
    assert len(seen) >= 2  # several outcomes


def test_a_verdict_counts_points_solved_alone_and_unscored_points():
    lost = Verdict(False, 0.5, 1.0, 3, 3, 7, 2.0, 0)
    said = "Would not live. Fitness 1.0 is the lowest of 3; the weakest member, 7, has 2.0."
    assert str(lost) == said
    alone = " It scores on {} where nobody else does."
    assert str(replace(lost, alone=1)) == said + alone.format("1 data point")
    assert str(replace(lost, alone=2_000)) == said + alone.format("2,000 data points")
    left = " Given up with {} unscored, counted as solved here."
    assert str(replace(lost, unseen=1)) == said + left.format("1 data point")
    assert str(replace(lost, unseen=2)) == said + left.format("2 data points")
    assert str(replace(lost, unseen=1_500)) == said + left.format("1,500 data points")


@pytest.mark.parametrize(
    ("mine", "its", "told"),
    [
        (1.0, 2.0, ("1.0", "2.0")),
        (1.04, 1.0, ("1.04", "1.00")),
        (1.0004, 1.0, ("1.0004", "1.0000")),
        (1.00004, 1.0, ("1.0", "1.0")),  # too close to be told apart by four decimals
        (1.0, 1.0, ("1.0", "1.0")),
    ],
)
def test_fitness_has_as_many_decimals_as_it_takes_to_differ_and_four_at_most(mine, its, told):
    verdict = Verdict(False, 0.5, mine, 3, 3, 7, its, 0)
    assert (verdict.told, verdict.fate) == (told[0], f"does not beat 7 ({told[1]})")


@pytest.mark.parametrize(
    ("scores", "top", "best"),
    [
        ([True, False], 1.0, np.array([True, True, False])),
        ([True, False], 2.0, np.array([1.0, 2.0, 0.0])),  # of which nothing is right or wrong
        ([0.5, 0.25], 1.0, np.array([0.5, 1.0, 0.25])),
    ],
)
def test_unscored_points_count_with_the_highest_score(scores, top, best):
    partial = Partial(np.array([0, 2]), np.array(scores), 3, top)
    assert partial.unseen == 1
    assert partial.best.dtype == best.dtype
    np.testing.assert_array_equal(partial.best, best)
    np.testing.assert_array_equal(partial.with_gaps, [scores[0], np.nan, scores[1]])


@pytest.fixture
def watched(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    return evolver.run(40), lineage


def bench(classes, accuracy, verdict=None):
    """Return a bench in which only classes and verdict matter."""
    return BenchData(
        proposal=Proposal((3, 5), 4, 0.5, 0),
        size=8,
        borders=(0, 8),
        tensors=("w",),
        rows=(0,),
        omega=0.1,
        classes=classes,
        accuracy=np.array(accuracy),
        kept=np.array([[0.75, 0.5], [0.5, 0.625]]),
        scores=np.zeros((3, 4)),
        verdict=verdict or Verdict(True, 0.5, 2.0, 1, 3, None, None, 0),
    )


KEPT = "75% of what A gets right in cats and 62% of what B gets right in dogs"


def test_why_a_child_is_better_than_both_parents_is_said_and_nothing_of_any_other():
    data = bench(("all",), [[0.5], [0.5], [0.75]])
    scores = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    assert describe_gain(replace(data, scores=scores)) == (
        "It scores 75.0 %, more than A (50.0 %) and B (50.0 %), because it keeps 100 % of what A "
        "does better and 50 % of what B does better."
    )
    for child in ([1.0, 1.0, 0.0, 0.0], [0.0] * 4):
        assert describe_gain(replace(data, scores=np.array([*scores[:2], child]))) == ""
    alike = np.array([[0.0] * 4, [0.0] * 4, [1.0] * 4])
    assert describe_gain(replace(data, scores=alike)).endswith("and B (0.0 %).")


def test_the_bench_describes_the_verdict_and_what_the_child_keeps():
    data = bench(("cats", "dogs"), [[0.9, 0.1], [0.5, 0.8], [0.8, 0.6]])
    assert describe_verdict(data) == f"{data.verdict} It keeps {KEPT}."
    nothing = replace(data, accuracy=np.array([[0.9, 0.1], [0.5, 0.8], [0.6, 0.4]]))
    assert describe_verdict(nothing) == str(data.verdict)
    alike = replace(data, accuracy=np.array([[0.5, 0.5], [0.52, 0.5], [1.0, 1.0]]))
    assert describe_verdict(alike) == str(data.verdict)  # neither leads by enough
    empty = replace(data, accuracy=np.array([[0.9, np.nan], [0.5, np.nan], [0.8, np.nan]]))
    assert describe_verdict(empty) == f"{data.verdict} It keeps 75% of what A gets right in cats."
    one = bench(("all",), [[0.9], [0.1], [0.9]])
    assert describe_verdict(one) == str(one.verdict)


def test_a_long_name_of_a_class_is_shortened_in_a_verdict():
    text = describe_verdict(bench((HOSTILE, "dogs"), [[0.9, 0.1], [0.5, 0.1], [0.8, 0.1]]))
    assert len(text) < 200
    assert "\x1b" not in text
    assert "of what A gets right in <script>alert(1)</sc…" in text


def test_a_text_becomes_one_line_that_is_not_too_long():
    assert plain("abc", 3) == "abc"
    assert plain("abcdefgh", 5) == "ab…gh"
    assert plain("abcdefgh", 4) == "ab…h"
    assert plain("a\n\tb\x1b[31m\x9b\x00", 20) == "a  b�[31m��"
    assert plain("நிரல் ☃ é", 40) == "நிரல் ☃ é"
    assert [len(plain("x" * 100_000, n)) for n in (1, 2, 40)] == [1, 2, 40]


def test_the_bench_has_the_paintings_of_its_parents(watched):
    evolver, lineage = watched
    a, b = evolver.archive.ids[:2]
    proposal = evolver.ask(parents=(a, b))
    first, second = bench_data(evolver, proposal, lineage).paintings
    np.testing.assert_array_equal(first, lineage.painting(a))
    np.testing.assert_array_equal(second, lineage.painting(b))
    assert bench_data(evolver, proposal).paintings == ()


def test_the_seeds_of_brute_force_are_on_the_bench_although_they_have_left(tiny, tiny_seeds):
    evolver = make_evolver("brute-force", tiny, tiny_seeds, archive_size=2, ratios=50, rng=0)
    while 0 in evolver.archive or 1 in evolver.archive:
        evolver.step()
    data = bench_data(evolver, evolver.ask())
    for row, seed in zip(data.scores, evolver.space.seeds, strict=False):
        made = evolver.space.materialise(seed)
        np.testing.assert_array_equal(row, tiny.evaluate(made))
