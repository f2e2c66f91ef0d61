"""The list of runs: those of a visit, of other pages and of the store."""

import pytest
from helpers.sessions import until, wait_for
from m2n2lab.widgets.runs.browser_sessions import BROWSER_SESSIONS
from m2n2lab.widgets.runs.run_list import RunList
from m2n2lab.widgets.runs.run_store import REMOVED, keep_small, open_run_store, runs_folder
from m2n2lab.widgets.runs.runs import Runs

from m2n2lab import InputError, store
from m2n2lab.config.settings import Settings

SETTINGS = Settings(threads=1)


@pytest.fixture
def visit(db):
    """Return a function that begins a visit with one run; all visits end with the test."""
    sessions = []

    def begin(steps=0, recorded=True, settings=SETTINGS):
        runs = Runs(store=db if recorded else None)
        session = BROWSER_SESSIONS.add(runs, runs.add(settings))
        sessions.append(session)
        runs.start()
        stepped(session.shown, steps)
        return session

    yield begin
    for session in sessions:
        BROWSER_SESSIONS._sessions.pop(session.key, None)
        session.runs.close()
        for run in session.runs.all:
            assert run.session.join(60)


def stepped(run, steps):
    wait_for(run.session, lambda snapshot: snapshot.niches is not None)
    if steps:
        before = run.session.snapshot.step
        run.session.orders.step(steps)
        wait_for(run.session, lambda s: s.phase == "paused" and s.step == before + steps)
        until(lambda: run.session.recording.number is not None or not run.session.recording.kept)
    return run


def left(session):
    """Close the visit, and wait until its runs have ended."""
    runs = session.runs.all
    session.runs.close()
    for run in runs:
        assert run.session.join(60)
    BROWSER_SESSIONS._sessions.pop(session.key)


def test_a_run_of_an_earlier_visit_is_listed_and_goes_on_where_it_ended(visit, db):
    first = visit(30)
    runs, shown = RunList(first.runs), first.shown
    (line,) = runs.lines(shown)
    assert (line.place, line.steps, line.task, line.method) == ("shown", 30, "digits", "m2n2")
    runs.rename(line.key, "  thirty steps ")
    runs.annotate(line.key, "look at the eights")
    left(first)

    second = visit()
    runs, shown = RunList(second.runs), second.shown
    mine, old = runs.lines(shown)
    assert (mine.place, mine.steps) == ("shown", 0)
    assert (old.place, old.name, old.note) == ("stored", "thirty steps", "look at the eights")
    opened = runs.open(old.key, SETTINGS)
    assert (opened.title, opened.settings) == ("thirty steps", SETTINGS)
    assert stepped(opened, 5).session.snapshot.step == 35
    assert opened.session.recording.first == 0  # its past can be looked at
    runs._read = -10.0
    found = {each.key: each for each in runs.lines(opened)}
    assert len(found) == 2
    assert (found["open-2"].steps, found["open-2"].name) == (35, "thirty steps")
    left(second)
    assert [(run.start, run.last) for run in store.runs(db)] == [(0, 35)]


def test_a_run_of_a_page_that_was_closed_moves_to_the_page_that_opens_it(visit):
    first, second = visit(12), visit(1)
    runs = RunList(second.runs)
    (held,) = [line for line in runs.lines(second.shown) if line.key.startswith("stored")]
    assert held.place == "stored"  # no page shows it
    opened = runs.open(held.key, SETTINGS)
    assert opened.session is first.shown.session
    assert stepped(opened, 3).session.snapshot.step == 15
    assert first.key not in BROWSER_SESSIONS._sessions
    assert opened in second.runs.all


def test_a_run_of_another_page_is_opened_as_a_copy_and_not_deleted(visit, db):
    first, second = visit(12), visit(1)
    first.connect("a page")
    runs = RunList(second.runs)
    (held,) = [line for line in runs.lines(second.shown) if line.place == "elsewhere"]
    with pytest.raises(InputError, match="Another page shows that run"):
        runs.delete(held.key, second.shown)
    copy = stepped(runs.open(held.key, SETTINGS), 4)
    assert "copy" in runs.told
    assert copy.session.snapshot.step == 16
    assert first.shown.session.snapshot.step == 12
    assert [run.parent for run in store.runs(db)] == [None, None, 1]


def test_a_deleted_run_is_gone_until_that_is_undone(visit, db):
    first = visit(5)
    left(first)
    session = visit(2)
    runs, shown = RunList(session.runs), session.shown
    with pytest.raises(InputError, match="The run on the page cannot be deleted"):
        runs.delete(runs.lines(shown)[0].key, shown)
    runs.delete(runs.lines(shown)[1].key, shown)
    assert runs.undoable
    assert len(runs.lines(shown)) == 1
    runs.undo()
    assert not runs.undoable
    assert [line.steps for line in runs.lines(shown)] == [2, 5]
    runs.delete(runs.lines(shown)[1].key, shown)
    left(session)
    keep_small(db)
    assert [run.run for run in store.runs(db)] == [2]


def test_without_a_store_runs_are_listed_named_and_deleted_all_the_same(visit):
    session = visit(3, recorded=False)
    other = session.runs.add(Settings("digits", "ga", threads=1))
    runs = RunList(session.runs)
    stepped(other, 2)
    key = f"open-{other.number}"
    runs.annotate(key, "a note")
    runs.pin(key, True)
    named = runs.rename(key, "mine")
    line = next(line for line in runs.lines(session.shown) if line.key == key)
    assert (line.name, line.note, line.pinned, line.recorded) == ("mine", "a note", True, False)
    assert (named.title, named.unrecorded) == ("mine", 2)
    runs.delete(key, session.shown)
    assert len(runs.lines(session.shown)) == 1
    runs.undo()
    assert [line.name for line in runs.lines(session.shown)] == ["mine", ""]
    assert stepped(session.runs.numbered(other.number), 1).session.snapshot.step == 3


def test_recorded_steps_are_not_lost_and_others_are(visit):
    assert visit(3).shown.unrecorded == 0
    assert visit(3, recorded=False).shown.unrecorded == 3


def test_a_run_that_was_labelled_before_its_first_step_keeps_the_label(visit):
    session = visit()
    runs = RunList(session.runs)
    (line,) = runs.lines(session.shown)
    runs.annotate(line.key, "before")
    shown = stepped(runs.rename(line.key, "early"), 2)

    def line_now():
        runs._read = -10.0
        return runs.lines(shown)[0]

    until(lambda: line_now().recorded)
    line = line_now()
    assert (line.name, line.note) == ("early", "before")


def test_reset_of_a_stored_run_begins_where_it_began(visit):
    left(visit(6))
    session = visit()
    runs = RunList(session.runs)
    opened = stepped(runs.open(runs.lines(session.shown)[1].key, SETTINGS), 1)
    again = session.runs.restart(opened)
    assert stepped(again, 1).session.snapshot.step == 1


def test_a_run_of_another_program_is_shown_with_what_is_known(visit, db, tiny, tiny_seeds):
    from m2n2lab import Evolver

    Evolver(tiny, tiny_seeds, rng=0).run(3, store=db)
    session = visit()
    runs = RunList(session.runs)
    (line,) = [each for each in runs.lines(session.shown) if each.place == "stored"]
    assert (line.task, line.steps) == ("tiny", 3)
    opened = runs.open(line.key, SETTINGS)
    assert "tiny" in opened.title


def test_too_many_runs_go_and_that_is_told(visit, db):
    for _ in range(3):
        left(visit(2))
    gone = keep_small(db, limit=0)
    assert gone == REMOVED[db] == 3
    session = visit()
    runs = RunList(session.runs)
    runs.lines(session.shown)
    assert runs.told == "3 of the oldest runs without a name or a pin were removed to make room."


def test_a_second_server_records_into_a_store_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("M2N2LAB_RUNS", str(tmp_path / "runs"))
    first = open_run_store()
    assert first.path == runs_folder().resolve() / "runs.db"
    first.close()


def test_settings_come_back_from_a_run_on_the_machine_at_hand(tmp_path):
    asked = Settings(
        "mnist", "ga", 7, True, tmp_path, (8, 4), "cuda", 3, {"archive_size": 9}, label="mine"
    )
    here = Settings(threads=2).from_json(asked.to_json())
    assert here.device == "cpu"
    assert here.threads == 2
    assert here.to_json() == asked.to_json()
    assert here.data == tmp_path
    with pytest.raises(InputError, match="must be JSON that this version knows"):
        Settings().from_json('{"nothing": 1}')
