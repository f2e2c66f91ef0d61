import threading

import pytest
from helpers.pages import PATIENCE
from helpers.sessions import wait_for
from m2n2lab.widgets.runs import browser_sessions
from m2n2lab.widgets.runs.browser_sessions import BrowserSession, BrowserSessions
from m2n2lab.widgets.runs.runs import MAX_RUNS, Runs

from m2n2lab import InputError
from m2n2lab.config.settings import Settings

SECONDS = PATIENCE / 1000


@pytest.fixture
def runs(digits):
    runs = Runs({"digits": digits})
    runs.add(Settings(threads=1))
    yield runs
    runs.close()
    for run in runs.all:
        assert run.session.join(SECONDS)


def reached(session, step):
    """Wait until a session has come to rest after a step."""
    seen = threading.Event()

    def look():
        if session.snapshot.step == step and session.snapshot.phase == "paused":
            seen.set()

    session.subscribe(look)
    look()
    assert seen.wait(SECONDS)
    return session.snapshot


def test_nothing_runs_before_a_page_is_opened(runs):
    assert runs.all[0].session.join(0)
    runs.start()
    assert reached(runs.all[0].session, 0).niches is not None


def test_a_second_run_leaves_the_first_as_it_is(runs):
    runs.start()
    first = runs.all[0]
    first.session.orders.step(5)
    reached(first.session, 5)
    second = runs.add(Settings(method="ga", threads=1))
    second.session.orders.step(3)
    reached(second.session, 3)
    assert first.session.snapshot.step == 5
    assert [run.number for run in runs.all] == [1, 2]
    assert second.session.snapshot.title == "digits · ga · seed 0"


def test_a_run_started_anew_takes_the_place_of_the_old_one_which_ends_with_the_next(runs):
    runs.start()
    runs.add(Settings(method="ga", threads=1))
    old, other = runs.all
    old.session.orders.run()
    new = runs.renew(old, Settings(seed=3, threads=1))
    assert runs.all == (new, other)
    assert new.number == 3
    assert not old.session.orders.running
    new.session.orders.step()
    wait_for(new.session, lambda s: s.step == 1)
    newest = runs.renew(new, Settings(seed=4, threads=1))
    assert old.session.join(SECONDS)
    assert old.session.snapshot.phase == "closed"
    runs.close()
    for run in (new, newest, other):
        assert run.session.join(SECONDS)


def test_a_run_that_was_replaced_can_be_had_back_once(runs):
    runs.start()
    old = runs.all[0]
    old.session.orders.step(3)
    wait_for(old.session, lambda s: s.step == 3)
    assert runs.undo_replace() is None
    first = runs.restart(old)
    new = runs.restart(first)  # pressed twice: the first had nothing to lose
    assert runs.replaced == (old, new)
    assert first.session.join(SECONDS)
    assert runs.undo_replace() is old
    assert runs.all == (old,)
    assert old.session.snapshot.step == 3
    assert new.session.join(SECONDS)
    assert runs.undo_replace() is None
    second = runs.add(Settings(seed=1, threads=1))
    newer = runs.restart(old)
    runs.remove(newer)  # with it goes what it has replaced
    assert runs.undo_replace() is None
    assert runs.all == (second,)
    assert old.session.join(SECONDS)


def test_a_run_can_be_removed_but_not_the_last_one(runs):
    runs.start()
    second = runs.add(Settings(method="ga", threads=1))
    first = runs.all[0]
    runs.remove(first)
    assert runs.all == (second,)
    assert first.session.join(SECONDS)
    runs.remove(second)
    assert runs.all == (second,)


def test_a_page_holds_so_many_runs_and_says_so(runs):
    for seed in range(1, MAX_RUNS):
        runs.add(Settings(seed=seed, threads=1))
    with pytest.raises(InputError, match=f"at most {MAX_RUNS} runs"):
        runs.add(Settings(threads=1))


def test_a_search_that_cannot_be_made_says_why_where_its_page_looks():
    runs = Runs()
    run = runs.add(Settings(), InputError("A seed must be a number."))
    runs.start()
    assert run.session.join(SECONDS)
    assert run.session.snapshot.phase == "failed"
    assert run.session.snapshot.message == "A seed must be a number."


# -- browser sessions --------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(browser_sessions.time, "monotonic", lambda: now[0])
    return now


def test_a_browser_session_waits_a_little_for_its_page_to_be_reloaded(clock, runs):
    sessions = BrowserSessions()
    session = sessions.add(runs, runs.all[0])
    session.connect("page")
    clock[0] = 100.0
    assert sessions.find(session.key) is session
    session.disconnect("page")
    clock[0] += browser_sessions.RELOAD_GRACE_SECONDS - 0.1
    assert sessions.find(session.key) is session
    session.connect("the page loaded again")
    clock[0] += 100.0
    assert sessions.find(session.key) is session
    session.disconnect("the page loaded again")
    clock[0] += browser_sessions.RELOAD_GRACE_SECONDS + 0.1
    assert sessions.find(session.key) is None
    runs.start()
    for run in runs.all:
        assert run.session.join(SECONDS)


def test_a_session_in_which_something_was_done_is_kept_paused_and_goes_on(clock, runs):
    sessions = BrowserSessions()
    session, run = sessions.add(runs, runs.all[0]), runs.all[0]
    session.connect("page")
    runs.start()
    run.session.orders.step(5)
    wait_for(run.session, lambda s: s.step == 5 and s.phase == "paused")
    run.session.orders.run()
    session.disconnect("page")
    clock[0] += browser_sessions.RELOAD_GRACE_SECONDS + 0.1
    sessions.close_abandoned()
    assert not run.session.orders.running
    step = wait_for(run.session, lambda s: s.phase == "paused").step
    clock[0] += browser_sessions.KEEP_SECONDS - 10.0
    assert sessions.find(session.key) is session
    assert run.session.snapshot.step == step >= 5
    session.connect("page again")
    assert run.session.orders.running
    run.session.orders.pause()
    session.disconnect("page again")
    clock[0] += browser_sessions.KEEP_SECONDS + 0.1
    assert sessions.find(session.key) is None
    assert run.session.join(SECONDS)


def test_of_many_sessions_without_pages_those_end_that_were_left_first(clock, monkeypatch):
    monkeypatch.setattr(browser_sessions, "MAX_KEPT", 2)
    monkeypatch.setattr(BrowserSession, "used", True)
    sessions = BrowserSessions()
    kept = [sessions.add(Runs(), None) for _ in range(4)]
    for session in kept:
        session.connect("page")
        clock[0] += 10.0
        session.disconnect("page")
    clock[0] += 10.0
    sessions.close_abandoned()
    assert [sessions.find(session.key) for session in kept] == [None, None, *kept[2:]]


def test_a_browser_session_stays_as_long_as_one_of_its_pages(clock, runs):
    sessions = BrowserSessions()
    session = sessions.add(runs, runs.all[0])
    session.connect("one")
    session.connect("other")
    session.disconnect("one")
    session.disconnect("one")
    clock[0] += 100.0
    assert sessions.find(session.key) is session


def test_a_shared_browser_session_outlives_all_pages(clock, runs):
    sessions = BrowserSessions()
    session = sessions.add(runs, runs.all[0], shared=True)
    session.connect("page")
    session.disconnect("page")
    clock[0] += 1e6
    assert sessions.find(session.key) is session


def test_keys_cannot_be_guessed_and_unknown_ones_find_nothing(runs):
    sessions = BrowserSessions()
    keys = {sessions.add(runs, runs.all[0]).key for _ in range(50)}
    assert len(keys) == 50
    assert min(map(len, keys)) >= 20
    assert sessions.find("") is None
    assert sessions.find("nonsense") is None
