"""The tour: five stops that end with a merge by hand."""

import time
from dataclasses import replace

import numpy as np
import pytest
from helpers.sessions import PATIENCE, wait_for
from m2n2lab.widgets.html.assets import asset
from m2n2lab.widgets.session.session import Session
from m2n2lab.widgets.session.workbench import Choice
from m2n2lab.widgets.tour.stops import NICHE_STEPS, SLOW_NICHE_STEPS, STOPS, Moment
from m2n2lab.widgets.tour.tour import DONE_UPDATES, Tour

from m2n2lab import Evolver, make_evolver
from m2n2lab.viz.theme import LIGHT

PAGE = asset("page/page.html")


@pytest.fixture
def started():
    """Starts sessions that are at rest, and ends them."""
    sessions = []

    def start(make):
        session = Session(make)
        sessions.append(session)
        session.start()
        wait_for(session, lambda s: s.phase == "paused")
        return session

    yield start
    for session in sessions:
        session.close()
        assert session.join(PATIENCE)


@pytest.fixture
def make(tiny, tiny_seeds):
    return lambda: Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)


@pytest.fixture
def session(started, make):
    return started(make)


@pytest.fixture
def tour(session):
    return watched(Tour(lambda: session, LIGHT))


def watched(tour):
    """Say that a browser shows what it is sent, at once."""
    guide = tour.pane

    def shown(event):
        guide.seen = event.new["number"] if event.new.get("done") else 0

    guide.watcher = guide.param.watch(shown, "shown")
    return tour


@pytest.fixture
def rested(session):
    """A session at rest after forty steps."""
    session.orders.step(40)
    wait_for(session, lambda s: s.step == 40 and s.phase == "paused" and not s.stale)
    return session


def look(tour, snapshot, times=1):
    for _ in range(times):
        tour.update(snapshot)


def reach(tour, session, stop):
    """Look at the search as the page does until another stop is open."""
    end = time.monotonic() + PATIENCE
    while tour.stop != stop:
        assert time.monotonic() < end, f"still at {tour.pane.shown}"
        tour.update(session.snapshot)
        time.sleep(0.005)


def open_at(tour, stop):
    """Open a stop of the tour by pressing Next."""
    tour.start()
    for _ in range(stop - 1):
        tour.next()
    assert tour.stop == stop


def on_bench(session, **parts):
    """Put something on the bench and wait until it is shown there."""
    session.orders.choose(**parts)
    wanted = session.orders.choice

    def there(snapshot):
        proposal = snapshot.bench.proposal
        return (wanted.a in (None, proposal.parents[0])) and wanted.split in (None, proposal.split)

    return wait_for(session, there)


def strongest(snapshot):
    data = snapshot.attraction
    row, column = np.unravel_index(np.nanargmax(data.worth), data.worth.shape)
    return data.ids[row], data.ids[column]


def test_a_closed_tour_reads_and_sends_nothing(tour):
    sent = []
    tour.pane.param.watch(sent.append, "shown")
    tour.update(object())  # anything that were read of it would fail
    assert (sent, tour.stop) == ([], 0)


def test_an_open_tour_sends_only_what_is_new(tour, session):
    sent = []
    tour.pane.param.watch(sent.append, "shown")
    tour.start()
    look(tour, session.snapshot, 50)
    assert len(sent) == 1


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.title)
def test_each_stop_says_two_or_three_sentences_of_a_section_of_the_page(stop):
    assert f'<section aria-label="{stop.section}"' in PAGE
    assert stop.text.count(". ") + 1 in (2, 3)


# -- 1: niches -----------------------------------------------------------------------------------


def test_the_first_stop_is_done_once_the_search_has_run_for_a_while_and_is_paused(tour, session):
    tour.start()
    look(tour, session.snapshot, 2 * DONE_UPDATES)
    assert tour.pane.shown["hint"].startswith("Press Run,")
    session.orders.step(10)
    look(tour, wait_for(session, lambda s: s.step == 10 and s.phase == "paused"), 2 * DONE_UPDATES)
    assert tour.pane.shown["hint"].startswith("Press Run again,")
    session.orders.run()
    running = wait_for(session, lambda s: s.step >= NICHE_STEPS)
    look(tour, running, 2 * DONE_UPDATES)
    assert "Press Pause" in tour.pane.shown["hint"]
    assert tour.stop == 1
    session.orders.pause()
    look(tour, wait_for(session, lambda s: s.phase == "paused"))
    assert tour.pane.shown["done"]
    reach(tour, session, 2)


def test_a_stop_that_is_done_stays_for_some_looks(tour, session):
    tour.start()
    session.orders.step(NICHE_STEPS)
    rest = wait_for(session, lambda s: s.step == NICHE_STEPS and s.phase == "paused")
    look(tour, rest, DONE_UPDATES + 1)  # at the first one a browser does not show it yet
    assert tour.stop == 1
    look(tour, rest)
    assert tour.stop == 2


def test_a_stop_that_is_done_stays_until_a_browser_has_shown_it(tour, session):
    tour.start()
    session.orders.step(NICHE_STEPS)
    rest = wait_for(session, lambda s: s.step == NICHE_STEPS and s.phase == "paused")
    tour.pane.param.unwatch(tour.pane.watcher)
    look(tour, rest, 5 * DONE_UPDATES)
    assert (tour.stop, tour.pane.shown["done"]) == (1, True)
    tour.pane.seen = 1
    look(tour, rest, DONE_UPDATES + 1)
    assert tour.stop == 2


def test_steps_count_from_where_the_tour_began(tour, rested):
    tour.start()
    rested.orders.step(NICHE_STEPS - 1)
    almost = wait_for(rested, lambda s: s.step == NICHE_STEPS + 39 and s.phase == "paused")
    look(tour, almost, 2 * DONE_UPDATES)
    assert tour.stop == 1
    rested.orders.step()
    reach(tour, rested, 2)


def test_where_a_child_takes_long_fewer_steps_are_waited_for(tour, session):
    tour.start()
    session.orders.step(SLOW_NICHE_STEPS)
    rest = wait_for(session, lambda s: s.step == SLOW_NICHE_STEPS and s.phase == "paused")
    look(tour, rest)
    assert not tour.pane.shown["done"]
    look(tour, replace(rest, slow=True))
    assert tour.pane.shown["done"]


# -- 2: attraction -------------------------------------------------------------------------------


def test_the_second_stop_is_done_when_both_parents_are_picked_by_hand(tour, rested):
    open_at(tour, 2)
    a, b = rested.snapshot.niches.ids[:2]
    look(tour, on_bench(rested, a=a), 2 * DONE_UPDATES)
    assert tour.stop == 2
    look(tour, on_bench(rested, a=a, b=b))
    assert tour.pane.shown["hint"] == f"{a} and {b} are on the bench."
    reach(tour, rested, 3)


def test_a_pair_that_the_search_proposed_was_not_picked_by_hand(tour, rested):
    open_at(tour, 2)
    rested.orders.command("propose")
    wait_for(rested, lambda s: rested.orders.choice.seed is not None)
    look(tour, rested.snapshot, 2 * DONE_UPDATES)
    assert tour.stop == 2


def test_the_same_pair_may_be_picked_again(tour, rested):
    a, b = rested.snapshot.niches.ids[:2]
    on_bench(rested, a=a, b=b)
    open_at(tour, 2)
    look(tour, rested.snapshot, 2 * DONE_UPDATES)
    assert tour.stop == 2
    rested.orders.choose(a=a, b=b)
    reach(tour, rested, 3)


# -- 3: the split --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [{"split": 20}, {"mix": 0.2}])
def test_the_third_stop_is_done_when_split_or_mix_are_chosen(tour, rested, part):
    open_at(tour, 3)
    rested.orders.choose(a=rested.snapshot.niches.ids[1])  # a parent is none of them
    look(tour, rested.snapshot, 2 * DONE_UPDATES)
    assert tour.stop == 3
    rested.orders.choose(**part)
    reach(tour, rested, 4)


def test_dragging_on_is_not_interrupted(tour, rested):
    open_at(tour, 3)
    for split in (20, 21, 22):
        look(tour, on_bench(rested, split=split), DONE_UPDATES)
        assert tour.stop == 3
    look(tour, rested.snapshot)
    bench = rested.snapshot.bench
    assert ("would live" in tour.pane.shown["hint"]) == bench.verdict.accepted
    reach(tour, rested, 4)


# -- 4 and 5: the merge and its outcome ----------------------------------------------------------


def test_a_merge_by_hand_leads_to_its_outcome(tour, rested):
    on_bench(rested, split=20)
    open_at(tour, 4)
    rested.orders.step()
    look(tour, wait_for(rested, lambda s: s.step == 41 and s.phase == "paused"), 2 * DONE_UPDATES)
    assert tour.stop == 4  # it was the search's own
    rested.orders.command("merge")
    merged = wait_for(rested, lambda s: s.step == 42 and s.phase == "paused")
    reach(tour, rested, 5)
    assert merged.note.startswith("Child ")
    assert tour.pane.shown["hint"] == merged.note
    rested.orders.command("undo")
    look(tour, wait_for(rested, lambda s: s.step == 41), 2 * DONE_UPDATES)
    assert tour.pane.shown["hint"] == "The merge is taken back."
    assert tour.stop == 5  # the person ends it
    tour.next()
    assert (tour.stop, tour.pane.shown) == (0, {})


def test_without_a_merge_the_last_stop_says_so_and_one_can_go_back(tour, session):
    open_at(tour, 5)
    look(tour, session.snapshot)
    assert tour.pane.shown["hint"].startswith("Nothing has been merged")
    tour.back()
    assert tour.stop == 4


# -- done for the person -------------------------------------------------------------------------


def test_done_for_the_person_the_tour_makes_a_merge_and_ends(tour, session):
    tour.start()
    tour.help()
    tour.help()  # pressed twice
    reach(tour, session, 2)
    before = session.snapshot
    assert (before.step, before.phase) == (NICHE_STEPS, "paused")
    wait_for(session, lambda s: s.landscape.complete)
    tour.help()
    reach(tour, session, 3)
    assert (session.orders.choice.a, session.orders.choice.b) == strongest(before)
    known = wait_for(
        session, lambda s: s.landscape.parents == strongest(before) and s.landscape.complete
    ).landscape
    tour.help()
    reach(tour, session, 4)
    corners = known.scores[[0, 0, -1, -1], [0, -1, 0, -1]]
    if known.scores.max() > corners.max():
        row, column = known.best
        expected = known.splits[column], known.mixes[row]
    else:
        expected = round(0.3 * session.snapshot.bench.size), 0.2
    assert (session.orders.choice.split, session.orders.choice.mix) == expected
    tour.help()
    merged = wait_for(session, lambda s: s.undoable)
    look(tour, merged)
    tour.help()  # pressed once more, it is done
    reach(tour, session, 5)
    assert session.snapshot.step == NICHE_STEPS + 1
    assert session.snapshot.bench.proposal.parents == strongest(before)
    assert tour.pane.shown["hint"] == merged.note
    assert not tour.pane.shown["helps"]
    tour.next()
    assert tour.stop == 0


@pytest.mark.parametrize("known", ["nothing", "a parent"])
def test_a_landscape_that_knows_no_better_child_gives_thirty_per_cent(rested, known):
    snapshot = rested.snapshot
    scores = np.zeros_like(snapshot.landscape.scores)
    scores[0, -1] = 1.0  # A itself
    landscape = snapshot.landscape._replace(scores=scores, best=(0, scores.shape[1] - 1))
    snapshot = replace(snapshot, landscape=None if known == "nothing" else landscape)
    STOPS[2].help(Moment(rested, snapshot, 40, Choice()))
    assert (rested.orders.choice.split, rested.orders.choice.mix) == (
        round(0.3 * snapshot.bench.size),
        0.2,
    )


def test_help_pauses_a_search_that_runs(tour, session):
    session.orders.run()
    wait_for(session, lambda s: s.step > 20)
    open_at(tour, 2)
    look(tour, session.snapshot)
    assert tour.pane.shown["hint"].startswith("Press Pause first")
    tour.help()
    rest = wait_for(session, lambda s: s.phase == "paused")
    assert not session.orders.running
    assert session.orders.choice.a is not None
    assert rest.step > 20


def test_a_pair_that_has_died_is_replaced_before_it_is_merged(tour, rested):
    a, b = rested.snapshot.niches.ids[-2:]
    on_bench(rested, a=a, b=b)
    while not rested.snapshot.stale:
        rested.orders.step(50)
        goal = rested.snapshot.step + 50
        wait_for(rested, lambda s, goal=goal: s.step >= goal and s.phase == "paused")
    open_at(tour, 4)
    look(tour, rested.snapshot)
    assert tour.pane.shown["hint"].startswith("A parent no longer lives")
    step = rested.snapshot.step
    tour.help()
    fresh = wait_for(rested, lambda s: not s.stale)
    assert (fresh.bench.proposal.parents, fresh.step) == (strongest(fresh), step)
    tour.help()
    reach(tour, rested, 5)
    assert rested.snapshot.step == step + 1


def test_where_a_child_takes_long_help_has_it_previewed(rested):
    ordered = []
    rested.orders.command = lambda *order: ordered.append(order)
    moment = Moment(rested, replace(rested.snapshot, slow=True), 40, Choice())
    STOPS[1].help(moment)
    STOPS[2].help(moment)
    assert ordered == [("preview",), ("preview",)]


def test_a_method_without_two_parents_can_be_toured_to_the_end(started, tiny, tiny_seeds):
    session = started(lambda: make_evolver("cma-es", tiny, tiny_seeds, rng=0))
    tour = watched(Tour(lambda: session, LIGHT))
    tour.start()
    for stop in range(1, 6):
        assert tour.stop == stop
        tour.help()
        look(tour, session.snapshot)
        tour.next()
    assert tour.stop == 0


# -- leaving it, and other searches --------------------------------------------------------------


@pytest.mark.parametrize("stop", range(1, 6))
def test_it_can_be_skipped_at_any_stop_and_begun_again(tour, stop):
    open_at(tour, stop)
    tour.pane.asked = [[1, "skip"]]
    assert (tour.stop, tour.pane.shown) == (0, {})
    tour.pane.asked = [[1, "skip"], [2, "start"]]
    assert tour.stop == 1


def test_presses_that_arrive_together_all_count_once(tour):
    tour.pane.asked = [[1, "toggle"], [2, "next"], [3, "next"]]
    assert tour.stop == 3
    tour.pane.asked = [[2, "next"], [3, "next"], [4, "next"], [5, "back"], [6, "back"]]
    assert tour.stop == 2
    tour.pane.asked = [[6, "back"], [7, "toggle"]]
    assert tour.stop == 0


def test_presses_that_come_late_open_nothing(tour):
    tour.pane.asked = [[1, "back"], [2, "next"], [3, "help"], [4, "skip"]]
    assert tour.stop == 0


def test_another_search_on_the_page_is_judged_from_its_own_start(started, make, rested):
    other = started(make)
    shown = [rested]
    tour = watched(Tour(lambda: shown[0], LIGHT))
    tour.start()
    other.orders.step(NICHE_STEPS + 20)
    wait_for(other, lambda s: s.step == NICHE_STEPS + 20 and s.phase == "paused")
    shown[0] = other
    look(tour, other.snapshot, 2 * DONE_UPDATES)
    assert tour.stop == 1
    assert not tour.pane.shown["done"]
    tour.help()
    reach(tour, other, 2)
    assert (rested.snapshot.step, other.snapshot.step) == (40, 2 * NICHE_STEPS + 20)


def test_a_search_that_failed_is_said_to_have_stopped(tour, session):
    tour.start()
    look(tour, replace(session.snapshot, phase="failed", message="RuntimeError: gone"))
    assert tour.pane.shown["hint"].startswith("The search has stopped")
