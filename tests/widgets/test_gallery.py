"""The gallery: which models are drawn, when, and blind votes that become scores."""

import dataclasses
import threading
import time

import numpy as np
import panel as pn
import pytest
from helpers.pictures import brightness, scribbled
from helpers.sessions import wait_for
from m2n2lab.widgets.members.gallery_view import GalleryView
from m2n2lab.widgets.session.blind_vote import Ballot
from m2n2lab.widgets.session.gallery import GalleryRequest
from m2n2lab.widgets.session.session import PUBLISH_SECONDS, Session
from m2n2lab.widgets.session.snapshot import Snapshot
from m2n2lab.widgets.session.workbench import Choice, Filter, Workbench

import m2n2lab
from m2n2lab.analysis.lineage import Lineage
from m2n2lab.analysis.lineage_replay import retraced
from m2n2lab.tasks import Text2Image, Watch
from m2n2lab.viz.theme import LIGHT
from m2n2lab.zoo.images import captions

JAPANESE, ENGLISH = 4, 2
"""Prompts in each language: held-out ones, then those that are searched on, four at most."""


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return scribbled(tmp_path_factory.mktemp("scribblers"), ("painter", "potter"))


def search_of(space, scorer):
    task = Text2Image(
        captions("search", ["Japanese"], 3),
        captions("test", ["Japanese", "English"], ENGLISH),
        scorer=scorer,
        steps=1,
    )
    return m2n2lab.Evolver(task, space, archive_size=4, rng=0).run(2)


@pytest.fixture
def search(space):
    return search_of(space, brightness)


@pytest.fixture
def bench(search):
    bench = Workbench(search, retraced(search))
    bench.show(Choice(), Filter())
    return bench


def drawn(bench, looking):
    """Draw all that is missing; return how often something was drawn."""
    times = 0
    while bench.update_gallery(looking):
        bench.gallery.draw()
        times += 1
    return times


def test_nothing_is_drawn_without_a_request(bench):
    assert not bench.update_gallery(None)
    assert bench.gallery.data is None


def test_seeds_the_best_the_newest_and_the_bench_draw_in_both_languages(bench, search):
    assert drawn(bench, GalleryRequest()) > 1  # a few at a time
    data = bench.gallery.data
    a, b = bench.data.proposal.parents
    best, newest = search.archive.best.id, max(search.archive.ids)
    assert [row.name for row in data.rows] == [
        *("seed painter", "seed potter", f"best: {best}", f"newest: {newest}"),
        *(f"A: {a}", f"B: {b}", "child"),
    ]
    assert [prompt.language for prompt in data.prompts] == [
        *["Japanese"] * JAPANESE,
        *["English"] * ENGLISH,
    ]
    task, space = search.task, search.space
    for row, genome in zip(data.rows, (*space.seeds, search.archive.best.genome), strict=False):
        own = task.draw(space.materialise(genome), data.prompts)
        for mine, shown in zip(own, row.drawn, strict=True):
            np.testing.assert_array_equal(mine.picture, shown.picture)
            assert mine.score == shown.score
    assert not bench.update_gallery(GalleryRequest())
    assert bench.gallery.data is data  # nothing new to show


def test_the_enlarged_picture_is_drawn_first_with_its_parents_from_the_same_noise(bench, search):
    looking = GalleryRequest("child", JAPANESE)  # the first English prompt
    assert bench.update_gallery(looking)
    assert [row.drawn for row in bench.gallery.data.parents] == [(None,)] * 2
    for _ in range(3):
        bench.gallery.draw()
        bench.update_gallery(looking)
    (a, b), child = bench.gallery.data.parents, bench.gallery.data.rows[-1]
    prompt = bench.gallery.data.prompts[JAPANESE]
    assert bench.gallery.data.at == ("child", prompt)
    assert [each.drawn[0].prompt for each in (a, b)] == [prompt] * 2
    assert (a.name, b.name) == tuple(
        f"{k}: {id}" for k, id in zip("AB", bench.data.proposal.parents, strict=True)
    )
    assert not np.array_equal(child.drawn[JAPANESE].picture, a.drawn[0].picture)
    assert "on the bench" in bench.gallery.data.origin
    so_far = [drawn for row in bench.gallery.data.rows for drawn in row.drawn if drawn]
    assert {drawn.prompt for drawn in so_far} == {prompt}


def test_only_living_parents_of_a_member_are_shown(bench, search):
    newest = max(search.archive.ids)
    drawn(bench, GalleryRequest(f"newest: {newest}", 0))
    parents = bench.gallery.data.parents
    assert bench.gallery.data.at[0] == f"newest: {newest}"
    born = retraced(search)[newest].parents
    assert len(born) == 2
    assert [each.name for each in parents] == [f"parent: {p}" for p in born if p in search.archive]
    assert f"from {born[0]} × {born[1]}" in bench.gallery.data.origin


def test_all_models_draw_a_person_s_own_prompt_without_a_score(bench):
    drawn(bench, GalleryRequest(own=" 青い星 "))
    data = bench.gallery.data
    assert data.prompts[0].text == "青い星"
    assert all(np.isnan(row.drawn[0].score) for row in data.rows)
    assert data.rows[0].drawn[0].picture.shape == (32, 32, 3)
    drawn(bench, GalleryRequest(own="x" * 10_000))
    assert "1 to 1,000 characters, got 10,000" in bench.gallery.data.note
    assert len(bench.gallery.data.prompts) == JAPANESE + ENGLISH


def test_where_the_task_draws_nothing_there_is_no_gallery_and_no_choice(tiny, tiny_seeds):
    search = m2n2lab.Evolver(tiny, tiny_seeds, archive_size=3, rng=0)
    bench = Workbench(search, Lineage(search))
    assert not bench.update_gallery(GalleryRequest())
    bench.show(Choice(), Filter())
    bench.vote("ballot")
    assert "this task has none" in bench.note


def child_side(bench, search):
    """Return the side of the open ballot on which the child's picture is."""
    ballot, child = bench.blind_vote.ballot, search.breed(bench.data.proposal)
    point = search.task.names.index(ballot.prompt)
    (drawn,) = search.task.samples(search.space.materialise(child), [point])
    (side,) = (
        side
        for side in ("left", "right")
        if np.array_equal(getattr(ballot, side), np.round(drawn.image * 255))
    )
    return side


def test_a_choice_is_blind_until_it_is_made_and_becomes_the_child_s_score(bench, search):
    before = bench.data
    bench.vote("left")  # nothing to choose between yet
    assert bench.data is before
    for number in range(search.task.points):
        bench.vote("ballot")
        ballot = bench.blind_vote.ballot
        assert ballot.open
        assert "left" not in ballot.message
        point = search.task.names.index(ballot.prompt)
        side = child_side(bench, search)
        bench.vote(side)
        assert not bench.blind_vote.ballot.open
        assert f"The child’s was {side}" in bench.blind_vote.ballot.message
        assert f"{number + 1} of {number + 1}" in bench.blind_vote.ballot.message
        assert bench.data.scores[2, point] == 1.0
    assert (bench.data.scores[2] == 1.0).all()
    assert bench.data.verdict != before.verdict
    np.testing.assert_array_equal(bench.data.scores[:2], before.scores[:2])
    bench.vote("ballot")
    assert "for every prompt" in bench.note
    generation = bench.merge(bench.data.proposal)
    np.testing.assert_array_equal(generation.scores, 1.0)


def test_a_lost_vote_scores_zero_and_the_child_appears_on_both_sides(bench, search):
    sides = set()
    for mix in np.linspace(0.3, 0.7, 12):  # of each child one choice
        bench.show(Choice(mix=float(mix)), Filter())
        bench.vote("ballot")
        ballot, side = bench.blind_vote.ballot, child_side(bench, search)
        sides.add(side)
        bench.vote("right" if side == "left" else "left")
        assert bench.data.scores[2, search.task.names.index(ballot.prompt)] == 0.0
    assert sides == {"left", "right"}


def test_a_choice_about_another_child_does_not_count(bench):
    bench.vote("ballot")
    bench.show(Choice(mix=0.9), Filter())
    data = bench.data
    bench.vote("left")
    assert bench.data is data
    assert "changed meanwhile" in bench.blind_vote.ballot.message


def test_a_session_draws_only_while_the_gallery_is_shown(search):
    session = Session(lambda: search)
    session.start()
    try:
        wait_for(session, lambda s: s.bench is not None)
        assert session.snapshot.gallery is None
        session.orders.view_gallery(GalleryRequest())
        full = wait_for(
            session, lambda s: s.gallery and all(None not in row.drawn for row in s.gallery.rows)
        )
        session.orders.view_gallery(None)
        session.orders.step()
        later = wait_for(session, lambda s: s.step == full.step + 1 and s.phase == "paused")
        assert later.gallery is full.gallery
        session.orders.view_gallery(GalleryRequest(own="赤い円"))
        wait_for(session, lambda s: s.gallery.prompts[0].text == "赤い円")
        session.orders.command("ballot")
        wait_for(session, lambda s: s.ballot is not None)
        session.orders.command("left")
        wait_for(session, lambda s: not s.ballot.open)
    finally:
        session.close()
        assert session.join(10.0)


def test_a_running_search_shows_its_steps_and_draws_a_few_pictures_with_each(space):
    slow = threading.Event()

    def scorer(pictures, prompts):
        if slow.is_set():  # so that more than a moment lies between two answers
            time.sleep(1.1 * PUBLISH_SECONDS)
        return brightness(pictures, prompts)

    search = search_of(space, scorer)
    slow.set()
    session = Session(lambda: search)
    session.start()
    try:
        session.orders.view_gallery(GalleryRequest())
        session.orders.run()
        # An evaluation that tells of its pictures must not keep its own step from being shown.
        shown = wait_for(session, lambda s: s.phase == "running" and s.step > 3)
        wait_for(session, lambda s: s.step > shown.step and s.phase == "running")
        wait_for(session, lambda s: s.gallery and None not in s.gallery.rows[0].drawn)
    finally:
        session.close()
        assert session.join(10.0)


def test_a_session_that_is_closed_while_it_draws_ends_without_an_error(search, caplog):
    drawing = threading.Event()

    def halted():
        drawing.set()
        return False

    session = Session(lambda: search)
    session.start()
    wait_for(session, lambda s: s.bench is not None)
    assert session.snapshot.draws
    search.task.watch(Watch(halted=halted))
    session.orders.view_gallery(GalleryRequest(own="赤い円"))
    assert drawing.wait(10.0)
    session.close()
    assert session.join(10.0)
    assert session.snapshot.phase == "closed"
    assert not caplog.records


# -- on the page -----------------------------------------------------------------------------------


@pytest.fixture
def view():
    looked, voted = [], []
    return GalleryView(LIGHT, looked.append, voted.append), looked, voted


def html(view):
    return "".join(pane.object for pane in view.pane.select(pn.pane.HTML))


def test_pictures_are_buttons_with_names_and_scores_and_missing_ones_are_marked(view, bench):
    shown, _, _ = view
    bench.update_gallery(GalleryRequest())
    bench.gallery.draw()
    bench.update_gallery(GalleryRequest())
    shown.update(Snapshot(gallery=bench.gallery.data))
    rows = shown.table.rows
    assert [row["name"] for row in rows] == [row.name for row in bench.gallery.data.rows]
    first = rows[0]["pictures"]
    assert first[0]["src"].startswith("data:image/png;base64,")
    assert first[0]["label"] == f"seed painter drew: {bench.gallery.data.prompts[0].text}"
    assert float(first[0]["score"]) == pytest.approx(
        bench.gallery.data.rows[0].drawn[0].score, abs=0.01
    )
    assert first[-1] is None


def test_a_click_or_a_prompt_requests_pictures(view):
    shown, looked, voted = view
    shown.table.chosen = ["child", 2]
    shown.own.value = " 青い星 "
    assert looked == [
        GalleryRequest("child", 2),
        GalleryRequest("child", 0, "青い星"),
    ]  # seen large at once
    shown.own.value = ""
    assert looked[-1] == GalleryRequest()
    shown.ask.clicks += 1
    shown.right.clicks += 1
    assert voted == ["ballot", "right"]


def test_the_enlarged_picture_is_shown_with_its_parents_once_they_are_drawn(view, bench):
    shown, _, _ = view
    bench.update_gallery(GalleryRequest(own="<b>x</b>"))
    shown.update(Snapshot(gallery=bench.gallery.data))
    assert shown.table.detail == {}
    drawn(bench, GalleryRequest("child", 0, "<b>x</b>"))
    shown.update(Snapshot(gallery=bench.gallery.data))
    detail = shown.table.detail
    assert (detail["row"], detail["prompt"]) == ("child", "<b>x</b>")
    assert [parent["name"][0] for parent in detail["parents"]] == ["A", "B"]
    for each in (detail, *detail["parents"]):
        assert each["src"].startswith("data:image/png;base64,")
    bench.update_gallery(GalleryRequest(own="y" * 2_000))
    shown.update(Snapshot(gallery=bench.gallery.data))
    assert 'role="alert"' in html(shown)


def test_two_pictures_can_be_chosen_between_until_a_choice_is_made(view):
    shown, _, _ = view
    picture = np.zeros((4, 4, 3), np.uint8)
    ballot = Ballot("赤い円", picture, picture)
    shown.update(Snapshot(ballot=ballot))
    assert shown.left.visible
    assert "赤い円" in html(shown)
    shown.update(Snapshot(ballot=dataclasses.replace(ballot, open=False, message="The child’s.")))
    assert not shown.left.visible
    assert "The child’s." in html(shown)
