"""The bench as a page shows it: slow tasks, paintings, hostile names; by mouse and by keys."""

import re
import time
from dataclasses import replace

import numpy as np
import panel as pn
import pytest
from helpers.figures import serving
from helpers.pages import button, figure, opened
from helpers.sessions import PATIENCE, wait_for
from m2n2lab.widgets.bench.bench_view import BenchView
from m2n2lab.widgets.html.names import MAX_NAME_CHARS
from m2n2lab.widgets.html.pictures import painting_uri, shares_label
from m2n2lab.widgets.session.orders import Mailbox
from m2n2lab.widgets.session.session import Session
from m2n2lab.widgets.session.snapshot import Snapshot
from playwright.sync_api import expect

from m2n2lab import DenseSpace, Evolver, Layout, tasks
from m2n2lab.analysis.lineage import Lineage
from m2n2lab.analysis.maps import niches_data
from m2n2lab.analysis.merge_preview import bench_data
from m2n2lab.viz.theme import LIGHT

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\x1b[31m' + "x" * 100_000


class Shown:
    """Stands for a session without a worker: keeps the orders and shows what is set."""

    def __init__(self):
        self.snapshot, self.orders = Snapshot(), Mailbox()


def hostile(score=lambda model, at: model[at % 40] > 0):
    """Return a search in which every name is an attack."""
    task = tasks.from_function(
        score, 40, classes=(HOSTILE, HOSTILE + "2"), groups=np.arange(40) % 2
    )
    layout = Layout({HOSTILE: (4, 5), "B’s <b>": (2, 10), "down.0." * 10 + "to_q.weight": (2,)})
    seeds = np.random.default_rng(0).normal(size=(3, 42))
    return Evolver(task, DenseSpace(seeds, layout), archive_size=6, rng=0)


def shown_on(view, session, **changes):
    session.snapshot = replace(session.snapshot, **changes)
    view.update(session.snapshot)


def made(evolver, **known):
    """Return a view of a pair, the session that it orders from, and what is on the bench."""
    lineage = Lineage(evolver)
    a, b = evolver.archive.ids[:2]
    data = bench_data(evolver, evolver.ask(parents=(a, b), split=20, mix=0.25), lineage)
    session = Shown()
    view = BenchView(lambda: session, LIGHT)
    niches = niches_data(evolver.archive, evolver.task)
    shown_on(view, session, phase="paused", bench=data, niches=niches, **known)
    return view, session, data


@pytest.fixture
def ready(tiny, tiny_seeds):
    return made(Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1).run(40))


def scores_and_verdict(view):
    """Return the texts above and below the controls."""
    scores, verdict = (pane.object for pane in view.pane.select(pn.pane.HTML))
    return scores, verdict


def html(view):
    return "".join(scores_and_verdict(view))


# -- slow tasks --------------------------------------------------------------------------------


def test_a_fast_task_has_no_preview_button_and_can_be_merged(ready):
    view, session, data = ready
    assert not view.preview.visible
    assert not view.merge.disabled
    view.merge.clicks += 1
    assert session.orders.now.commands == (("merge", data.proposal),)


def test_merge_asks_for_the_child_that_the_page_shows_not_for_one_that_it_does_not_show_yet(ready):
    view, session, data = ready
    newer = replace(data, proposal=data.proposal.edit(split=7, mix=0.75))
    session.snapshot = replace(session.snapshot, bench=newer)
    view.merge.clicks += 1
    shown_on(view, session)
    view.merge.clicks += 1
    ordered = [proposal for _, proposal in session.orders.now.commands]
    assert ordered == [data.proposal, newer.proposal]


def test_a_slow_task_shows_what_was_chosen_and_keeps_the_last_preview_apart(ready):
    view, session, data = ready
    a, b = data.proposal.parents
    shown_on(view, session, slow=True)
    assert view.preview.visible
    assert 'data-testid="waits"' not in html(view)
    view.pick(91, 92)
    view.load(7, 0.75)
    assert view.merge.disabled  # at once, before the worker says that it waits
    shown_on(view, session, slow=True, pending=True)
    assert (view.a.value, view.b.value, view.at.value, view.mix.value) == (91, 92, 7, 0.75)
    assert (view.split.split, view.split.mix) == (7, 0.75)
    assert view.merge.disabled
    said = html(view)
    assert (
        f'The last preview, <b class="a">{a}</b> × <b class="b">{b}</b>, split 20, mix 0.25.'
        in said
    )
    assert "can be merged once it is previewed" in said
    assert 'class="verdict dies old"' in said or 'class="verdict old"' in said
    assert 'class="child">Would' not in said


def test_preview_is_ordered_once_and_the_button_is_back_when_it_is_there(ready):
    view, session, data = ready
    view.load(7, 0.75)
    shown_on(view, session, slow=True, pending=True)
    view.preview.clicks += 1
    assert session.orders.now.commands == (("preview", None),)
    assert view.preview.disabled
    newer = replace(data, proposal=data.proposal.edit(split=7, mix=0.75))
    shown_on(view, session, bench=newer, pending=False)
    assert not view.preview.disabled
    assert not view.merge.disabled
    assert 'data-testid="waits"' not in html(view)


def test_a_choice_that_is_taken_back_can_be_merged_again(ready):
    view, session, _ = ready
    shown_on(view, session, slow=True)
    view.load(7, 0.75)
    view.load(20, 0.25)
    assert view.merge.disabled
    shown_on(view, session)  # the worker has seen nothing new
    assert not view.merge.disabled


def test_a_parent_that_has_died_disables_the_merge_and_says_why(ready):
    view, session, _ = ready
    shown_on(view, session, stale=True)
    assert view.merge.disabled
    assert "A parent no longer lives; pick another pair." in html(view)


# -- what is shown -----------------------------------------------------------------------------


def test_the_parents_paintings_are_sent_to_the_editor_once(ready):
    view, session, data = ready
    assert view.split.made == [
        {
            "uri": painting_uri(painting, LIGHT),
            "words": f"{name}: {shares_label(painting, data.seeds)}",
        }
        for name, painting in zip("AB", data.paintings, strict=True)
    ]
    sent = []
    view.split.param.watch(lambda *events: sent.extend(e.name for e in events), ["made", "names"])
    shown_on(view, session, bench=replace(data, omega=0.5))
    assert sent == []
    shown_on(view, session, bench=replace(data, paintings=()))
    assert view.split.made == []


def test_hostile_names_are_shown_as_text_and_shortened():
    view, _, data = made(hostile())
    said = html(view)
    assert len(said) < 10_000
    assert "<script" not in said
    assert "<img" not in said
    assert "\x1b" not in said
    assert "&lt;script&gt;" in said
    # In the verdict too: A is better at the first class, and the child keeps it.
    keeps = replace(data, accuracy=np.array([[0.9, 0.1], [0.5, 0.8], [0.8, 0.6]]))
    view.update(Snapshot(phase="paused", bench=keeps, note=HOSTILE))
    _, said = scores_and_verdict(view)
    assert '<b class="a">A</b> gets right in &lt;script&gt;' in said
    assert len(said) < 2_000
    assert "<script" not in said
    assert "\x1b" not in said
    assert [len(name) <= MAX_NAME_CHARS for name in view.split.names] == [True] * 3
    assert view.split.names[2].endswith("to_q.weight")
    assert "\x1b" not in view.split.names[0]


@pytest.mark.parametrize("many", [1, 10, 1000])
def test_bars_of_any_number_of_classes_fit_their_picture(many):
    groups = np.arange(1000) % many
    names = [f"class {k}" for k in range(many)]
    task = tasks.from_function(lambda m, at: m[at % 30] > 0, 1000, classes=names, groups=groups)
    view, _, _ = made(Evolver(task, np.random.default_rng(0).normal(size=(2, 30)), rng=0))
    scores, _ = scores_and_verdict(view)
    bars = re.findall(r'<rect x="([\d.-]+)" y="([\d.-]+)" width="([\d.-]+)"', scores)
    places = np.array(bars, dtype=float)
    assert len(places) == 4 * many  # B has stripes over its colour
    assert (places[:, 2] > 0).all()
    assert (places[:, 0] >= 0).all()
    assert (places[:, 0] + places[:, 2] <= 440.01).all()
    assert scores.count("<text") <= 40


def test_a_class_without_data_points_has_no_score(ready):
    view, session, data = ready
    accuracy = data.accuracy.copy()
    accuracy[:, 0] = np.nan
    shown_on(view, session, bench=replace(data, accuracy=accuracy))
    scores, _ = scores_and_verdict(view)
    assert re.search(r"<title>A, [^<]*: –</title>", scores)


# -- in a browser ------------------------------------------------------------------------------


@pytest.fixture
def slow_bench(page):
    """The bench of a slow search with hostile names, on a page of its own."""
    evaluated = []

    def score(model, at):
        evaluated.append(None)
        time.sleep(0.15)
        return model[at % 40] > 0

    session = Session(lambda: hostile(score))

    def view():
        bench = BenchView(lambda: session, LIGHT)

        def loaded():
            session.start()
            pn.state.add_periodic_callback(lambda: bench.update(session.snapshot), period=100)

        pn.state.onload(loaded)
        return pn.Column(bench.pane, width=420)

    with serving(view) as address:
        try:
            page.goto(address)
            wait_for(session, lambda s: s.slow and s.phase == "paused")
            yield page, session, evaluated
        finally:
            session.close()
            assert session.join(PATIENCE)


FOCUS = """() => {
    let at = document.activeElement
    while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement
    const looks = getComputedStyle(at), dot = getComputedStyle(at, "::after")
    const name = at.getAttribute("aria-label") || at.labels?.[0]?.textContent || at.textContent
    const seen = looks.outlineStyle === "solid" || dot.boxShadow !== "none"
    return [name.trim().replace(/[,:].*/, ""), seen]
}"""


def test_a_slow_bench_with_hostile_names_is_worked_by_keys_alone(slow_bench):
    page, session, evaluated = slow_bench
    expect(button(page, "Preview")).to_be_enabled()
    assert page.locator("script", has_text="alert").count() == 0
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    place = page.locator(".split-editor .place")
    assert place.inner_text().startswith("50 % · B’s <b>, row 0")

    # Both paintings lie above the strip and as wide, with labels of the shares in them.
    strip = page.locator(".split-editor .strip").bounding_box()
    for k, name in enumerate("AB"):
        image = page.locator(".made img").nth(k)
        expect(image).to_have_attribute("title", re.compile(rf"^{name}: seed \d 100.0 %$"))
        box = image.bounding_box()
        assert box["x"] == pytest.approx(strip["x"], abs=0.5)
        assert box["width"] == pytest.approx(strip["width"], abs=0.5)
        assert box["y"] + box["height"] <= strip["y"]

    # The keyboard goes through all there is, in the order in which it is read, and is seen.
    page.get_by_label("Parent A").focus()
    stops = []
    for _ in range(9):
        stops.append(page.evaluate(FOCUS))
        page.keyboard.press("Tab")
    names = [name for name, _ in stops]
    assert names[:7] == [
        "Parent A",
        "Parent B",
        "Split at",
        "Mix",
        "split point",
        "Preview",
        "Merge",
    ]
    assert "Search’s next child" in names
    assert all(seen for name, seen in stops if name in names[:7])

    # Nothing is evaluated while the split and the mix are moved.
    before = len(evaluated)
    handle = page.get_by_role("slider", name="split point")
    handle.press("PageUp")
    handle.press("ArrowRight")
    page.get_by_role("slider", name="Mix").press("ArrowRight")
    expect(figure(page, "waits")).to_contain_text("split 21, mix 0.50")
    expect(button(page, "Merge")).to_be_disabled()
    expect(page.get_by_label("Split at")).to_have_value("26")
    expect(handle).to_have_attribute("aria-valuenow", "26")
    wait_for(session, lambda s: s.pending and session.orders.choice.mix == 0.51)
    assert len(evaluated) == before
    button(page, "Preview").press("Enter")
    expect(figure(page, "waits")).to_have_count(0)
    assert len(evaluated) == before + 1
    button(page, "Merge").press("Enter")
    expect(figure(page, "note")).to_contain_text(re.compile(r"^Child 3 (lives|died)"))
    assert session.snapshot.step == 1


@pytest.mark.slow
def test_the_buttons_stay_in_sight_however_long_the_verdict_is(page, lab):
    opened(page, lab)
    section = page.get_by_role("region", name="Merge bench")
    box = section.bounding_box()
    verdict = figure(page, "verdict")
    verdict.evaluate("e => { e.textContent = 'A long story. '.repeat(60) }")
    for name in ("Merge", "Undo", "Search’s next child"):
        place = button(page, name).bounding_box()
        assert place["y"] + place["height"] <= box["y"] + box["height"]
        middle = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
        assert name in page.evaluate(
            """([x, y]) => { let at = document.elementFromPoint(x, y)
                 while (at.shadowRoot?.elementFromPoint(x, y) &&
                        at.shadowRoot.elementFromPoint(x, y) !== at)
                     at = at.shadowRoot.elementFromPoint(x, y)
                 return at.textContent }""",
            middle,
        )


def test_what_the_split_does_not_move_is_hatched_with_its_reason(tiny, tiny_seeds, page):
    groups = {"first": "W1", "rest": "*"}
    evolver = Evolver(tiny, tiny_seeds, groups=groups, exclude="b1", freeze="b2", rng=0)
    view, _, data = made(evolver)
    offsets = dict(zip(evolver.space.layout.shapes, evolver.space.layout.offsets, strict=False))
    found = {reason: start for start, _, reason in data.beside}
    assert found == {
        "stays as in A": offsets["b1"],
        "group rest: a split of its own": offsets["W2"],
        "stays as in the first seed": offsets["b2"],
    }
    with serving(lambda: view.split) as address:
        page.goto(address)
        for reason in found:
            expect(page.get_by_role("img", name=reason)).to_be_visible()
