import threading

import pytest
from helpers.pages import PATIENCE
from m2n2lab.widgets.runs import browser_sessions
from m2n2lab.widgets.runs.browser_sessions import BrowserSessions
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


def test_a_run_started_anew_ends_the_old_one_and_takes_its_place(runs):
    runs.start()
    runs.add(Settings(method="ga", threads=1))
    old, other = runs.all
    new = runs.renew(old, Settings(seed=3, threads=1))
    assert runs.all == (new, other)
    assert new.number == 3
    assert old.session.join(SECONDS)
    assert old.session.snapshot.phase == "closed"


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
