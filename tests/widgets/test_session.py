import gc
import json
import re
import threading
import time
import weakref
from functools import partial

import numpy as np
import pytest
from helpers.sessions import PATIENCE, wait_for
from m2n2lab.widgets.session.run_recorder import start_recorder
from m2n2lab.widgets.session.session import Session
from m2n2lab.widgets.session.snapshot import Snapshot
from m2n2lab.widgets.session.workbench import MAX_ANSWERS, Filter

from m2n2lab import Evolver, InputError


@pytest.fixture
def make(tiny, tiny_seeds):
    return lambda: Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)


@pytest.fixture
def session(make):
    session = Session(make, title="tiny · m2n2 · seed 1")
    session.start()
    yield session
    session.close()
    assert session.join(PATIENCE)


def test_no_thread_runs_before_the_page_is_there(make):
    before = threading.active_count()
    session = Session(make)
    assert threading.active_count() == before
    assert session.snapshot.phase == "starting"
    assert session.join()


def test_a_session_that_has_ended_releases_its_search(make):
    made = []

    def note():
        evolver = make()
        made.append(weakref.ref(evolver))
        return evolver

    session = Session(note)
    session.start()
    session.orders.step(3)
    wait_for(session, lambda s: s.step == 3)
    session.close()
    assert session.join(PATIENCE)
    gc.collect()
    assert made[0]() is None
    assert (session.snapshot.phase, session.archive(), session.page()) == ("closed", b"", "")


def test_a_session_is_exported_as_a_page_while_it_runs(make):
    session = Session(make, record=partial(start_recorder, title="tiny"))
    session.start()
    try:
        session.orders.run()
        wait_for(session, lambda s: s.step >= 5)
        page = session.page("the code")
        found = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
        steps = [moment["step"] for moment in found["maps"]["moments"]]
        assert (steps[0], found["code"]) == (0, "the code")
        assert steps[-1] >= 5
        assert steps == sorted(set(steps))
    finally:
        session.close()
        assert session.join(PATIENCE)


def test_a_started_session_rests_with_its_seeds(session):
    snapshot = wait_for(session, lambda s: s.phase == "paused")
    assert snapshot.step == 0
    assert snapshot.niches.ids == (0, 1) or snapshot.niches.ids == (1, 0)
    assert snapshot.attraction.worth.shape == (2, 2)
    assert snapshot.title == "tiny · m2n2 · seed 1"


def test_steps_are_taken_exactly_and_then_it_pauses(session):
    session.orders.step()
    session.orders.step(10)
    snapshot = wait_for(session, lambda s: s.step == 11 and s.phase == "paused")
    time.sleep(0.05)
    assert session.snapshot.step == snapshot.step


def test_stepping_in_a_session_is_stepping_by_hand(session, make):
    session.orders.step(25)
    snapshot = wait_for(session, lambda s: s.step == 25 and s.phase == "paused")
    evolver = make().run(25)
    assert snapshot.best == evolver.best.id
    assert snapshot.test == evolver.test
    assert snapshot.coverage == evolver.archive.coverage
    assert sorted(snapshot.niches.ids) == list(evolver.archive.ids)
    train = snapshot.curves.train[1:]  # after where it began
    np.testing.assert_array_equal(train, 100 * evolver.records.column("train"))


def test_run_goes_on_until_pause(session):
    session.orders.run()
    wait_for(session, lambda s: s.phase == "running" and s.step > 20 and s.speed > 0)
    session.orders.pause()
    step = wait_for(session, lambda s: s.phase == "paused").step
    time.sleep(0.05)
    assert session.snapshot.step == step


def test_a_slow_pace_is_left_at_once_when_paused(session):
    session.orders.pace("2 steps/s")
    session.orders.run()
    wait_for(session, lambda s: s.step >= 1)
    began = time.monotonic()
    session.orders.pause()
    wait_for(session, lambda s: s.phase == "paused")
    assert time.monotonic() - began < PATIENCE  # it would hang if the wait did not hear the pause
    assert session.snapshot.step < 30


def test_plots_stay_the_same_objects_while_nothing_changes(session):
    before = wait_for(session, lambda s: s.phase == "paused")
    session.orders.filter(Filter("child wrong"))
    after = wait_for(session, lambda s: s is not before)
    assert after.niches is before.niches
    assert after.attraction is before.attraction


def test_answers_are_spread_over_the_data_or_those_that_are_wrong(session):
    session.orders.step(10)
    shown = wait_for(session, lambda s: s.step == 10 and s.phase == "paused" and not s.stale)
    assert len(shown.answers) == MAX_ANSWERS
    assert len({answer.child.truth for answer in shown.answers}) == 4
    session.orders.filter(Filter("child wrong"))
    wrong = wait_for(session, lambda s: s.answers and not any(a.child.right for a in s.answers))
    assert len(wrong.answers) <= MAX_ANSWERS
    session.orders.filter(Filter("A or B wrong"))
    either = wait_for(session, lambda s: any(a.child.right for a in s.answers))
    assert not any(answer.a.right and answer.b.right for answer in either.answers)


# -- the bench ---------------------------------------------------------------------------------


def previewed(session, **parts):
    """Put something on the bench and wait for its preview."""
    session.orders.choose(**parts)

    def there(snapshot):
        if snapshot.bench is None or snapshot.stale:
            return False
        proposal = snapshot.bench.proposal
        a, b = proposal.parents
        shown = {"a": a, "b": b, "split": proposal.split, "mix": proposal.mix}
        return all(shown[name] == value for name, value in parts.items())

    return wait_for(session, there)


@pytest.fixture
def rested(session):
    """A session at rest after forty steps."""
    session.orders.step(40)
    wait_for(session, lambda s: s.step == 40 and s.phase == "paused" and not s.stale)
    return session


def test_the_bench_starts_with_the_best_and_its_most_attractive_mate(rested):
    snapshot = rested.snapshot
    a, b = snapshot.bench.proposal.parents
    assert a == snapshot.best
    row = snapshot.attraction.worth[snapshot.attraction.ids.index(a)]
    assert b == snapshot.attraction.ids[int(np.nanargmax(row))]


def test_a_preview_is_what_the_evolver_says_and_changes_nothing(rested, make):
    a, b = rested.snapshot.niches.ids[:2]
    shown = previewed(rested, a=a, b=b, split=40, mix=0.79)
    evolver = make().run(40)
    scores = evolver.evaluate(shown.bench.proposal)
    np.testing.assert_array_equal(shown.bench.scores[2], scores)
    assert shown.bench.verdict == evolver.verdict(scores)
    either = np.maximum(*shown.bench.scores[:2])
    assert shown.bench.either == pytest.approx(either.mean())
    assert shown.step == 40
    rested.orders.step(20)
    after = wait_for(rested, lambda s: s.step == 60 and s.phase == "paused")
    assert sorted(after.niches.ids) == list(evolver.run(20).archive.ids)


def test_a_merge_does_what_its_preview_said_and_undo_takes_it_back(rested):
    before = rested.snapshot
    a, b = before.niches.ids[:2]
    preview = previewed(rested, a=a, b=b, split=30, mix=0.9).bench.verdict
    rested.orders.command("merge")
    merged = wait_for(rested, lambda s: s.step == 41 and s.phase == "paused")
    assert merged.undoable
    if preview.accepted:
        assert preview.displaced not in merged.niches.ids
        assert merged.note.startswith("Child ")
        assert "lives" in merged.note
    else:
        assert merged.niches.ids == before.niches.ids
        assert f"does not beat {preview.rival}" in merged.note
    rested.orders.command("undo")
    undone = wait_for(rested, lambda s: s.step == 40)
    assert undone.niches.ids == before.niches.ids
    assert not undone.undoable
    assert undone.curves.step[-1] == 40


def test_undo_takes_the_search_back_act_by_act_and_redo_does_them_again(rested):
    before = rested.snapshot.niches.ids
    previewed(rested, split=30)
    rested.orders.command("merge")
    wait_for(rested, lambda s: s.step == 41 and s.phase == "paused")
    rested.orders.step(3)
    last = wait_for(rested, lambda s: s.step == 44 and s.phase == "paused")
    assert (last.undo, last.redo) == ("3 steps", "")
    rested.orders.command("undo")
    undone = wait_for(rested, lambda s: s.note == "3 steps are taken back.")
    assert (undone.step, undone.undo, undone.redo) == (41, "the merge", "3 steps")
    rested.orders.command("undo")
    undone = wait_for(rested, lambda s: s.note == "The merge is taken back.")
    assert (undone.step, undone.undo, undone.redo) == (40, "40 steps", "the merge")
    assert undone.niches.ids == before
    for _ in range(3):
        rested.orders.command("redo")
    wait_for(rested, lambda s: s.note == "There is nothing to do again.")
    assert rested.snapshot.step == 44
    assert rested.snapshot.niches.ids == last.niches.ids
    assert list(rested.snapshot.curves.step) == list(last.curves.step)


def test_the_next_proposal_can_be_edited_before_it_is_submitted(rested, make):
    rested.orders.command("propose")
    expected = make().run(40).ask()
    # The pair alone may be on the bench already.
    shown = wait_for(rested, lambda s: s.bench.proposal.seed == expected.seed)
    proposal = shown.bench.proposal
    assert (proposal.parents, proposal.split, proposal.mix) == (
        expected.parents,
        expected.split,
        expected.mix,
    )
    edited = previewed(rested, mix=0.25).bench.proposal
    assert (edited.parents, edited.split) == (expected.parents, expected.split)
    rested.orders.command("merge")
    assert wait_for(rested, lambda s: s.step == 41).undoable


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"a": 999}, "Member 999 is not in the archive"),
        ({"b": 999}, "Member 999 is not in the archive"),
        ({"split": 10**9}, "A split must be an integer in [0, 82]"),
        ({"mix": 1.5}, "mix must be a number in [0, 1], got 1.5"),
    ],
)
def test_what_cannot_be_on_the_bench_is_named_and_it_keeps_what_it_shows(rested, wrong, said):
    a, b = rested.snapshot.niches.ids[:2]
    before = previewed(rested, a=a, b=b, split=40, mix=0.79)
    kept = rested.orders.choice
    rested.orders.choose(**wrong)
    shown = wait_for(rested, lambda s: s.note and rested.orders.choice == kept)
    assert shown.note.startswith(said)
    assert shown.bench is before.bench
    rested.orders.command("merge", shown.bench.proposal)
    merged = wait_for(rested, lambda s: s.step == 41 and s.merged).merged
    made = merged.proposal
    assert (made.parents, made.split, made.mix) == ((a, b), 40, 0.79)


def test_a_verdict_follows_the_archive_although_the_pair_stays(rested, make):
    a, b = rested.snapshot.niches.ids[:2]
    shown = previewed(rested, a=a, b=b, split=40, mix=0.79)
    evolver = make().run(40)
    child = evolver.evaluate(shown.bench.proposal)
    moved = 0
    for step in range(41, 60):
        before = shown.bench.verdict
        rested.orders.step()
        shown = wait_for(rested, lambda s, n=step: s.step == n and s.phase == "paused")
        evolver.step()
        if shown.stale:
            break
        assert shown.bench.verdict == evolver.verdict(child)
        moved += shown.bench.verdict != before
    assert moved


def test_a_merge_stays_on_the_bench_until_the_search_goes_on(rested):
    pair = rested.snapshot.bench.proposal.parents
    rested.orders.command("merge")
    merged = wait_for(rested, lambda s: s.step == 41 and s.phase == "paused")
    assert merged.merged.child == merged.merged.step + 1
    assert merged.bench.proposal.parents == pair == merged.merged.parents
    assert merged.note == merged.merged.outcome
    rested.orders.step(10)
    later = wait_for(rested, lambda s: s.step == 51 and s.phase == "paused" and not s.merged)
    assert later.note == ""
    assert later.bench.verdict != merged.bench.verdict


def test_a_landscape_is_filled_in_at_rest_and_its_best_cell_is_real(rested, make):
    a, b = rested.snapshot.niches.ids[:2]
    previewed(rested, a=a, b=b)
    data = wait_for(
        rested, lambda s: s.landscape.parents == (a, b) and s.landscape.complete
    ).landscape
    evolver = make().run(40)
    row, column = data.best
    x, y = evolver.archive[a].genome, evolver.archive[b].genome
    child = evolver.space.merge(x, y, int(data.splits[column]), float(data.mixes[row]))
    assert data.scores[row, column] == pytest.approx(
        evolver.task.evaluate(evolver.space.materialise(child)).mean()
    )
    assert data.scores.max() == data.scores[row, column]
    # The corners are the parents themselves.
    assert data.scores[0, -1] == pytest.approx(evolver.archive[a].score)
    assert data.scores[-1, -1] == pytest.approx(evolver.archive[b].score)


def test_a_method_without_two_parents_has_no_bench_and_says_why(tiny, tiny_seeds):
    from m2n2lab import make_evolver

    session = Session(lambda: make_evolver("cma-es", tiny, tiny_seeds, rng=0))
    session.start()
    session.orders.step(5)
    snapshot = wait_for(session, lambda s: s.step == 5 and s.phase == "paused")
    assert snapshot.message == ""
    session.orders.command("propose")
    assert "nothing to edit" in wait_for(session, lambda s: s.note).note
    session.close()
    assert session.join(PATIENCE)


def test_unknown_commands_are_refused(session):
    with pytest.raises(InputError, match="no command named 'marry'"):
        session.orders.command("marry")


def test_a_step_that_fails_pauses_with_the_reason_and_can_go_on(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, mutation=0.05, rng=1)
    step, broken = evolver.step, [RuntimeError("the disk is <b>gone</b>")]
    evolver.step = lambda: (_ for _ in ()).throw(broken[0]) if broken else step()
    session = Session(lambda: evolver)
    session.start()
    session.orders.run()
    failed = wait_for(session, lambda s: s.phase == "failed")
    assert failed.message == "RuntimeError: the disk is <b>gone</b>"
    assert failed.niches is not None
    broken.clear()
    session.orders.step(3)
    assert wait_for(session, lambda s: s.step == 3 and s.phase == "paused").message == ""
    session.close()
    assert session.join(PATIENCE)


def test_an_evolver_that_cannot_be_made_says_why():
    def refuse():
        raise InputError("A merge needs at least two seeds, got 1; add another model.")

    session = Session(refuse)
    session.start()
    failed = wait_for(session, lambda s: s.phase == "failed")
    assert failed.message.startswith("A merge needs at least two seeds")
    assert session.join(PATIENCE)


def test_closing_ends_the_worker_even_while_it_runs(make):
    session = Session(make)
    session.start()
    session.orders.run()
    wait_for(session, lambda s: s.step > 5)
    session.close()
    assert session.join(PATIENCE)
    assert session.snapshot == Snapshot(phase="closed")
