"""The tour: from a first merge by hand to a search from scratch."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.sessions import PATIENCE, wait_for
from m2n2lab.widgets.html.assets import asset
from m2n2lab.widgets.session.session import Session
from m2n2lab.widgets.session.workbench import Choice
from m2n2lab.widgets.tour.stops import FIRST_STEPS, NICHE_STEPS, SLOW_NICHE_STEPS, STOPS, Moment
from m2n2lab.widgets.tour.tour import DONE_UPDATES, Tour

from m2n2lab import Evolver, make_evolver
from m2n2lab.analysis.merge_preview import describe_gain
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
        wait_for(session, lambda s: s.phase == "paused" and s.bench)
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
        placed = ("a", proposal.parents[0]), ("split", proposal.split), ("mix", proposal.mix)
        return all(getattr(wanted, name) in (None, value) for name, value in placed)

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


# -- 1: the first merge --------------------------------------------------------------------------


def specialists(digits):
    space = digits.space(digits.trained_seeds(rng=0))
    return lambda: Evolver(digits, space, mutation=0.0, rng=0)


def merged(session, step=1):
    session.orders.command("merge")
    return wait_for(session, lambda s: s.step == step and s.phase == "paused")


def test_the_first_merge_of_two_specialists_beats_both_and_the_tour_says_why(started, digits):
    session = started(specialists(digits))
    tour = watched(Tour(lambda: session, LIGHT))
    tour.start()
    assert tour.pane.shown["hint"] == "Press Merge."
    look(tour, merged(session))
    a, b, child = session.snapshot.bench.means
    assert (a < 0.5, b < 0.5, child > 0.7) == (True, True, True)
    assert session.snapshot.merged.accepted
    assert tour.pane.shown["done"]
    assert tour.pane.shown["hint"] == describe_gain(session.snapshot.bench)
    reach(tour, session, 2)


def test_a_child_that_is_no_better_is_not_praised_and_can_be_made_again(started, digits):
    session = started(specialists(digits))
    tour = watched(Tour(lambda: session, LIGHT))
    tour.start()
    on_bench(session, split=9_605, mix=0.2)
    look(tour, merged(session), 2 * DONE_UPDATES)
    shown = tour.pane.shown
    assert (tour.stop, shown["done"], shown["helps"]) == (1, False, True)
    assert shown["hint"].startswith("It is no better than both parents. Press Undo")
    session.orders.command("undo")
    look(tour, wait_for(session, lambda s: s.step == 0 and s.phase == "paused"), 2 * DONE_UPDATES)
    assert (tour.stop, tour.pane.shown["done"]) == (1, False)
    assert tour.pane.shown["hint"] == "Press Merge."
    on_bench(session, split=9_605, mix=0.5)
    look(tour, merged(session))
    assert tour.pane.shown["done"]


def test_a_child_that_died_is_not_praised(tour, rested):
    tour.start()
    generation = SimpleNamespace(accepted=False, outcome="Child 7 died: it was weak.")
    dead = replace(rested.snapshot, merged=generation, undoable=True, step=41)
    look(tour, dead, 2 * DONE_UPDATES)
    assert (tour.stop, tour.pane.shown["done"]) == (1, False)
    assert tour.pane.shown["hint"].startswith("Child 7 died: it was weak. Press Undo, ")


def test_a_merge_that_is_taken_back_is_not_done_any_more(tour, rested):
    on_bench(rested, split=20)
    tour.start()
    look(tour, merged(rested, 41))
    rested.orders.command("undo")
    look(tour, wait_for(rested, lambda s: s.step == 40 and s.phase == "paused"))
    assert not tour.pane.shown["done"]


def test_a_step_of_the_search_is_no_merge_by_hand(tour, rested):
    tour.start()
    rested.orders.step()
    look(tour, wait_for(rested, lambda s: s.step == 41 and s.phase == "paused"), 2 * DONE_UPDATES)
    assert tour.stop == 1


def test_where_a_page_is_touched_it_speaks_of_touch(tour, session):
    tour.pane.touch = True
    for stop in range(1, len(STOPS) + 1):
        open_at(tour, stop)
        words = tour.pane.shown["hint"].lower()
        assert not any(word in words for word in ("click", "press", "key", "arrow"))
        tour.skip()
    tour.start()
    assert tour.pane.shown["hint"] == "Tap Merge."


# -- 2: competition ------------------------------------------------------------------------------


def test_the_second_stop_is_done_when_ten_more_children_have_competed(tour, rested):
    open_at(tour, 2)
    rested.orders.step(FIRST_STEPS - 1)
    look(tour, wait_for(rested, lambda s: s.step == 49 and s.phase == "paused"), 2 * DONE_UPDATES)
    assert tour.stop == 2
    rested.orders.step()
    look(tour, wait_for(rested, lambda s: s.step == 50 and s.phase == "paused"))
    assert tour.pane.shown["hint"].startswith("6 members share the points now")
    reach(tour, rested, 3)


# -- 3: attraction -------------------------------------------------------------------------------


def test_the_third_stop_is_done_when_both_parents_are_picked_by_hand(tour, rested):
    open_at(tour, 3)
    a, b = rested.snapshot.niches.ids[:2]
    look(tour, on_bench(rested, a=a), 2 * DONE_UPDATES)
    assert tour.stop == 3
    look(tour, on_bench(rested, a=a, b=b))
    assert tour.pane.shown["hint"] == f"{a} and {b} are on the bench."
    reach(tour, rested, 4)


def test_a_pair_that_the_search_proposed_was_not_picked_by_hand(tour, rested):
    open_at(tour, 3)
    rested.orders.command("propose")
    wait_for(rested, lambda s: rested.orders.choice.seed is not None)
    look(tour, rested.snapshot, 2 * DONE_UPDATES)
    assert tour.stop == 3


def test_the_same_pair_may_be_picked_again(tour, rested):
    a, b = rested.snapshot.niches.ids[:2]
    on_bench(rested, a=a, b=b)
    open_at(tour, 3)
    look(tour, rested.snapshot, 2 * DONE_UPDATES)
    assert tour.stop == 3
    rested.orders.choose(a=a, b=b)
    reach(tour, rested, 4)


# -- 4: the mix and the split --------------------------------------------------------------------


def lives(session, wanted):
    """Return a snapshot whose child on the bench would live, or would not."""
    bench = session.snapshot.bench
    verdict = replace(bench.verdict, accepted=wanted)
    return replace(session.snapshot, bench=replace(bench, verdict=verdict))


@pytest.mark.parametrize("parts", [{"mix": 0.2}, {"mix": 0.2, "split": 20}])
def test_the_fourth_stop_is_done_when_a_mix_that_matters_is_chosen(tour, rested, parts):
    open_at(tour, 4)
    rested.orders.choose(a=rested.snapshot.niches.ids[1])  # a parent is none of them
    look(tour, rested.snapshot, 2 * DONE_UPDATES)
    on_bench(rested, split=30)  # changes nothing at a mix of 0.50
    look(tour, rested.snapshot, 2 * DONE_UPDATES)
    assert tour.stop == 4
    assert tour.pane.shown["hint"].startswith("Move the mix away from 0.50")
    on_bench(rested, **parts)
    look(tour, lives(rested, True), DONE_UPDATES + 2)
    assert tour.stop == 5


def test_a_child_that_would_not_live_is_no_success_and_dragging_goes_on(tour, rested):
    open_at(tour, 4)
    for split in (20, 21, 22):
        on_bench(rested, split=split, mix=0.2)
        look(tour, lives(rested, False), DONE_UPDATES)
        assert (tour.stop, tour.pane.shown["done"]) == (4, False)
        assert tour.pane.shown["hint"].startswith("This child would not live")
    for split in (23, 24):
        on_bench(rested, split=split)
        look(tour, lives(rested, True), DONE_UPDATES)
        assert (tour.stop, tour.pane.shown["done"]) == (4, True)
    assert tour.pane.shown["hint"].startswith("This child would live: it scores ")


# -- 5 and 6: the search, and from scratch -------------------------------------------------------


@pytest.mark.parametrize("stop", [5, 6])
def test_watching_is_done_once_the_search_has_run_for_a_while_and_is_paused(tour, session, stop):
    open_at(tour, stop)
    look(tour, session.snapshot, 2 * DONE_UPDATES)
    assert tour.pane.shown["hint"].startswith("Press Run,")
    session.orders.step(10)
    look(tour, wait_for(session, lambda s: s.step == 10 and s.phase == "paused"), 2 * DONE_UPDATES)
    assert tour.pane.shown["hint"].startswith("Press Run again,")
    session.orders.run()
    running = wait_for(session, lambda s: s.step >= NICHE_STEPS)
    look(tour, running, 2 * DONE_UPDATES)
    assert "Press Pause" in tour.pane.shown["hint"]
    assert tour.stop == stop
    session.orders.pause()
    look(tour, wait_for(session, lambda s: s.phase == "paused"))
    assert tour.pane.shown["done"]
    reach(tour, session, stop + 1)


def test_a_stop_that_is_done_stays_for_some_looks(tour, session):
    open_at(tour, 5)
    session.orders.step(NICHE_STEPS)
    rest = wait_for(session, lambda s: s.step == NICHE_STEPS and s.phase == "paused")
    look(tour, rest, DONE_UPDATES + 1)  # at the first one a browser does not show it yet
    assert tour.stop == 5
    look(tour, rest)
    assert tour.stop == 6


def test_a_stop_that_is_done_stays_until_a_browser_has_shown_it(tour, session):
    open_at(tour, 5)
    session.orders.step(NICHE_STEPS)
    rest = wait_for(session, lambda s: s.step == NICHE_STEPS and s.phase == "paused")
    tour.pane.param.unwatch(tour.pane.watcher)
    look(tour, rest, 5 * DONE_UPDATES)
    assert (tour.stop, tour.pane.shown["done"]) == (5, True)
    tour.pane.seen = 5
    look(tour, rest, DONE_UPDATES + 1)
    assert tour.stop == 6


def test_steps_count_from_where_the_stop_began(tour, rested):
    open_at(tour, 5)
    rested.orders.step(NICHE_STEPS - 1)
    almost = wait_for(rested, lambda s: s.step == NICHE_STEPS + 39 and s.phase == "paused")
    look(tour, almost, 2 * DONE_UPDATES)
    assert tour.stop == 5
    rested.orders.step()
    reach(tour, rested, 6)


def test_where_a_child_takes_long_fewer_steps_are_waited_for(tour, session):
    open_at(tour, 5)
    session.orders.step(SLOW_NICHE_STEPS)
    rest = wait_for(session, lambda s: s.step == SLOW_NICHE_STEPS and s.phase == "paused")
    look(tour, rest)
    assert not tour.pane.shown["done"]
    look(tour, replace(rest, slow=True))
    assert tour.pane.shown["done"]


def test_the_second_chapter_is_from_scratch_and_going_back_finds_the_first(session):
    begun = []
    tour = watched(Tour(lambda: session, LIGHT, lambda *chapter: begun.append(chapter)))
    open_at(tour, 6)
    assert begun == [(True, True), (False, True)]
    tour.back()
    tour.next()
    assert begun[2:] == [(True, False), (False, True)]


# -- done for the person -------------------------------------------------------------------------


def test_done_for_the_person_the_tour_goes_from_a_merge_to_the_end(tour, session):
    tour.start()
    tour.help()
    tour.help()  # pressed twice
    merged = wait_for(session, lambda s: s.undoable)
    look(tour, merged)
    if not tour.pane.shown["done"]:  # random networks need not make a good child
        assert "set the mix to 0.50" in tour.pane.shown["hint"]
        tour.next()
    reach(tour, session, 2)
    tour.help()
    reach(tour, session, 3)
    before = session.snapshot
    assert (before.step, before.phase) == (1 + FIRST_STEPS, "paused")
    tour.help()
    reach(tour, session, 4)
    assert (session.orders.choice.a, session.orders.choice.b) == strongest(before)
    wait_for(session, lambda s: s.landscape.parents == strongest(before) and s.landscape.complete)
    tour.help()
    wait_for(session, lambda s: s.bench.proposal.mix == session.orders.choice.mix != 0.5)
    look(tour, lives(session, True), DONE_UPDATES + 2)
    assert tour.stop == 5
    tour.help()
    reach(tour, session, 6)
    tour.help()
    reach(tour, session, 7)
    assert session.snapshot.step == 1 + FIRST_STEPS + 2 * NICHE_STEPS
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
    STOPS[3].help(Moment(rested, snapshot, 40, Choice()))
    assert (rested.orders.choice.split, rested.orders.choice.mix) == (
        round(0.3 * snapshot.bench.size),
        0.2,
    )


def test_the_best_cell_of_a_landscape_is_chosen_unless_the_split_has_no_effect_there(rested):
    snapshot = rested.snapshot
    for mix, wanted in ((0.25, 0.25), (0.5, 0.2)):
        scores = np.zeros_like(snapshot.landscape.scores)
        row = int(np.argmin(np.abs(np.asarray(snapshot.landscape.mixes) - mix)))
        scores[row, 2] = 1.0
        landscape = snapshot.landscape._replace(scores=scores, best=(row, 2))
        STOPS[3].help(Moment(rested, replace(snapshot, landscape=landscape), 40, Choice()))
        assert rested.orders.choice.mix == pytest.approx(wanted, abs=0.1)


def test_help_pauses_a_search_that_runs(tour, session):
    session.orders.run()
    wait_for(session, lambda s: s.step > 20)
    open_at(tour, 3)
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
    tour.start()
    look(tour, rested.snapshot)
    assert tour.pane.shown["hint"].startswith("A parent no longer lives")
    step = rested.snapshot.step
    tour.help()
    fresh = wait_for(rested, lambda s: not s.stale)
    assert (fresh.bench.proposal.parents, fresh.step) == (strongest(fresh), step)
    look(tour, fresh)
    tour.help()
    wait_for(rested, lambda s: s.step == step + 1)


def test_where_a_child_takes_long_help_has_it_previewed(rested):
    ordered = []
    rested.orders.command = lambda *order: ordered.append(order)
    moment = Moment(rested, replace(rested.snapshot, slow=True), 40, Choice())
    STOPS[2].help(moment)
    STOPS[3].help(moment)
    assert ordered == [("preview",), ("preview",)]


def test_a_method_without_two_parents_can_be_toured_to_the_end(started, tiny, tiny_seeds):
    session = started(lambda: make_evolver("cma-es", tiny, tiny_seeds, rng=0))
    tour = watched(Tour(lambda: session, LIGHT))
    tour.start()
    for stop in range(1, len(STOPS) + 1):
        assert tour.stop == stop
        tour.help()
        look(tour, session.snapshot)
        tour.next()
    assert tour.stop == 0


# -- leaving it, and other searches --------------------------------------------------------------


@pytest.mark.parametrize("stop", range(1, len(STOPS) + 1))
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
    open_at(tour, 5)
    other.orders.step(NICHE_STEPS + 20)
    wait_for(other, lambda s: s.step == NICHE_STEPS + 20 and s.phase == "paused")
    shown[0] = other
    look(tour, other.snapshot, 2 * DONE_UPDATES)
    assert tour.stop == 5
    assert not tour.pane.shown["done"]
    tour.help()
    reach(tour, other, 6)
    assert (rested.snapshot.step, other.snapshot.step) == (40, 2 * NICHE_STEPS + 20)


def test_a_search_that_failed_is_said_to_have_stopped(tour, session):
    tour.start()
    look(tour, replace(session.snapshot, phase="failed", message="RuntimeError: gone"))
    assert tour.pane.shown["hint"].startswith("The search has stopped")
