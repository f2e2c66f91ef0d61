"""Acts taken back and done again: any number of them, the same children, and the recorded run."""

import pytest
from helpers.pages import button, figure, opened
from helpers.sessions import until, wait_for
from helpers.stores import same, state
from m2n2lab.widgets.session import acts
from m2n2lab.widgets.session.acts import MERGE, STEPS, Acts
from m2n2lab.widgets.session.session import Session
from playwright.sync_api import expect

from m2n2lab import Evolver, make_evolver, store


@pytest.fixture
def search(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)


def followed(evolver):
    found = Acts(evolver)
    evolver.subscribe(found.observe)
    return found


def steps(found, evolver, count):
    for _ in range(count):
        found.step()
        evolver.step()
    found.rest()


@pytest.mark.parametrize("method", ["m2n2", "ga", "map-elites", "cycle-qd", "m2n2+"])
def test_acts_are_taken_back_in_turn_and_done_again_exactly(method, tiny, tiny_seeds):
    evolver, plain = (
        make_evolver(method, tiny, tiny_seeds, mutation=0.05, rng=0) for _ in range(2)
    )
    found = followed(evolver)
    steps(found, evolver, 30)
    found.begin("the pinning of 0")
    evolver.pin(evolver.best.id)
    steps(found, evolver, 1)
    after = evolver.state_dict()
    history = evolver.records.table().tobytes()
    assert [found.undo() for _ in range(4)] == ["1 step", "the pinning of 0", "30 steps", ""]
    assert state(evolver) == state(plain)
    assert len(evolver.records) == 0
    assert [found.redo() for _ in range(4)] == [
        *(("30 steps", 0), ("the pinning of 0", 0), ("1 step", 0), ("", 0)),
    ]
    assert str(evolver.state_dict()) == str(after)
    assert evolver.records.table().tobytes() == history
    assert [found.undo() for _ in range(2)] == ["1 step", "the pinning of 0"]


def test_what_is_done_after_an_undo_replaces_what_was_undone(search):
    found = followed(search)
    steps(found, search, 3)
    steps(found, search, 2)
    found.undo()
    assert found.next == "2 steps"
    steps(found, search, 1)
    assert (found.last, found.next) == ("1 step", "")


def test_an_act_of_which_nothing_came_is_not_taken_back(search):
    found = followed(search)
    steps(found, search, 2)
    found.begin("the pinning of 0")
    assert found.last == "2 steps"
    found.begin(MERGE)
    found.withdraw()
    assert found.undo() == "2 steps"
    assert found.undo() == ""


def test_steps_too_many_to_keep_are_taken_again(search, monkeypatch):
    monkeypatch.setattr(acts, "MAX_KEPT_STEPS", 5)
    found = followed(search)
    steps(found, search, 4)
    steps(found, search, 9)
    expected = str(search.state_dict())
    found.undo()
    found.undo()
    assert found.redo() == ("4 steps", 4)
    steps(found, search, 4)
    assert found.next == "9 steps"  # is still there
    assert found.redo() == ("9 steps", 9)
    steps(found, search, 9)
    assert str(search.state_dict()) == expected


def test_a_method_without_a_state_takes_nothing_back(tiny, tiny_seeds):
    evolver = make_evolver("cma-es", tiny, tiny_seeds, rng=0)
    found = followed(evolver)
    assert not found.begin(STEPS)
    evolver.step()
    assert (found.last, found.undo()) == ("", "")


def test_a_recorded_run_follows(task, db):
    from helpers.stores import search as searched

    evolver, plain = searched(task), searched(task)
    found = followed(evolver)
    with store.record(evolver, db, batch=7) as recorder:
        steps(found, evolver, 20)
        recorder.flush()
        steps(found, evolver, 30)
        found.undo()
        recorder.flush()
        assert store.steps(db) == range(21)
        found.redo()
        found.undo()
        found.undo()
        found.redo()
        steps(found, evolver, 7)
    plain.run(27)
    assert same(evolver, plain)
    assert same(evolver, store.resume(db, task=task))
    assert same(store.branch(db, step=13, task=task), searched(task).run(13))
    assert store.check(db).is_whole


@pytest.fixture
def session(search):
    session = Session(lambda: search)
    session.start()
    wait_for(session, lambda s: s.phase == "paused" and s.bench is not None)
    yield session
    session.close()
    assert session.join(30)


def test_undo_pauses_a_search_and_takes_its_run_back(session, search):
    session.orders.run()
    wait_for(session, lambda s: s.step > 20)
    session.orders.select(search.best.id)
    session.orders.command("undo")
    undone = wait_for(session, lambda s: s.note.endswith("taken back."))
    assert (undone.step, undone.phase) == (0, "paused")
    shown = wait_for(session, lambda s: s.bench is not None and not s.stale)
    assert {*shown.bench.proposal.parents} <= {*search.archive.ids}
    assert {*shown.members.ids} == {*search.archive.ids}
    session.orders.command("redo")
    wait_for(session, lambda s: s.step > 20 and s.phase == "paused")


def test_a_choice_of_members_that_are_unborn_again_is_dropped(session, search):
    session.orders.step(30)
    late = wait_for(session, lambda s: s.step == 30 and s.phase == "paused").niches.ids[:2]
    session.orders.choose(a=max(late), b=min(late))
    wait_for(session, lambda s: s.bench.proposal.parents == (max(late), min(late)))
    session.orders.command("undo")
    shown = wait_for(session, lambda s: s.step == 0 and s.bench is not None and not s.stale)
    until(lambda: session.orders.choice.a is None)
    assert shown.note == "30 steps are taken back."


def test_steps_of_others_are_not_taken_back(session, search):
    session.orders.step(3)
    wait_for(session, lambda s: s.step == 3 and s.phase == "paused")
    search.run(2)
    wait_for(session, lambda s: s.step == 5 and not s.undo)
    session.orders.command("undo")
    wait_for(session, lambda s: s.note == "There is nothing to take back.")
    assert search.generation == 5


@pytest.mark.slow
def test_a_person_undoes_and_redoes_by_button_and_by_key(page, lab):
    opened(page, lab)
    for expected in ("10", "20"):
        button(page, "×10").click()
        expect(figure(page, "step")).to_have_text(expected)
    button(page, "Merge").click()
    expect(figure(page, "step")).to_have_text("21")
    button(page, "Undo").click()
    expect(figure(page, "step")).to_have_text("20")
    expect(figure(page, "note")).to_contain_text("The merge is taken back.")
    page.keyboard.press("Control+z")
    expect(figure(page, "step")).to_have_text("10")
    expect(figure(page, "note")).to_contain_text("10 steps are taken back.")
    page.keyboard.press("Control+Shift+Z")
    expect(figure(page, "step")).to_have_text("20")
    button(page, "Redo").press("Enter")
    expect(figure(page, "step")).to_have_text("21")
    expect(button(page, "Redo")).to_be_disabled()
    field = page.get_by_label("Split at")
    field.fill("77")
    field.press("Control+z")  # is of the field
    expect(figure(page, "step")).to_have_text("21")
