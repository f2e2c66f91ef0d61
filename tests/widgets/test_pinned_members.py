"""Pins on the page: ordered, shown, judged anew, and reachable by keyboard."""

import pytest
from helpers.pages import PATIENCE, button, figure, opened
from helpers.sessions import wait_for
from m2n2lab.widgets.members.members import PIN, UNPIN, MembersView, MemberView
from m2n2lab.widgets.session.session import Session
from playwright.sync_api import expect

from m2n2lab import Evolver
from m2n2lab.viz.theme import LIGHT


@pytest.fixture
def search(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1).run(40)


@pytest.fixture
def session(search):
    session = Session(lambda: search)
    session.start()
    wait_for(session, lambda s: s.phase == "paused" and s.bench is not None)
    yield session
    session.close()
    assert session.join(PATIENCE)


def test_a_pin_is_shown_at_once_and_the_verdict_follows_it(session, search):
    rival = session.snapshot.bench.verdict.rival
    session.orders.command("pin", rival)
    pinned = wait_for(session, lambda s: s.note.startswith(f"Member {rival} is pinned"))
    assert [*pinned.members.pinned].count(True) == 1
    assert pinned.members.ids[pinned.members.pinned.index(True)] == rival
    assert pinned.bench.verdict.spared == rival
    assert pinned.bench.verdict.rival != rival
    session.orders.command("merge", pinned.bench.proposal)
    merged = wait_for(session, lambda s: s.merged is not None)
    assert merged.merged.verdict == pinned.bench.verdict
    session.orders.command("unpin", rival)
    freed = wait_for(session, lambda s: "is not pinned any more" in s.note)
    assert not any(freed.members.pinned)


def test_what_cannot_be_pinned_is_said(session, search):
    session.orders.command("pin", 1234)
    wait_for(session, lambda s: "Member 1234 is not in the archive" in s.note)
    for id in search.archive.ids:
        session.orders.command("pin", id)
    wait_for(session, lambda s: "At most 5 of 6 members can be pinned" in s.note)
    assert len(search.archive.pinned) == 5


def test_the_page_of_a_member_pins_it_and_the_table_says_so(session):
    ordered = []
    view = MemberView(LIGHT, lambda *order: ordered.append(order))
    table = MembersView(LIGHT, print)
    id = session.snapshot.members.ids[0]
    session.orders.select(id)
    view.update(wait_for(session, lambda s: s.chosen == id).member)
    assert (view.pin.visible, view.pin.name) == (True, PIN)
    view.pin.clicks += 1
    assert ordered == [("pin", id)]
    session.orders.command("pin", id)
    shown = wait_for(session, lambda s: s.member.pinned)
    view.update(shown.member)
    table.update(shown.members)
    assert view.pin.name == UNPIN
    assert [row["pinned"] for row in table.pane.rows] == [True] + [False] * 5
    view.pin.clicks += 1
    assert ordered[-1] == ("unpin", id)
    view.update(None)
    assert not view.pin.visible


@pytest.mark.slow
def test_a_person_pins_a_member_by_keyboard(page, lab):
    opened(page, lab)
    page.get_by_role("tab", name="Members").click()
    row = page.locator("table.members tbody tr").first
    row.press("Enter")
    button(page, PIN).press("Enter")
    expect(figure(page, "note")).to_contain_text("is pinned: no child takes its place")
    expect(row.locator("td").first).to_contain_text("· pinned")
    expect(figure(page, "member")).to_contain_text(", pinned")
    button(page, UNPIN).press("Enter")
    expect(row.locator("td").first).not_to_contain_text("pinned")
