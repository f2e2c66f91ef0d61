import base64
import io
import re
from itertools import combinations

import numpy as np
import panel as pn
import pytest
from bokeh.document import Document
from bokeh.events import Tap
from helpers.figures import drawn, same, serving, tick_names
from m2n2lab.widgets.html.pictures import heat_uri, painting_uri, seeds_key, shares_label
from m2n2lab.widgets.html.texts import MAX_TEXT_CHARS
from m2n2lab.widgets.members.members import MembersView, MemberView
from m2n2lab.widgets.views.lineage import LineageView, SharesView
from PIL import Image
from playwright.sync_api import expect

from m2n2lab import Evolver
from m2n2lab.analysis.lineage import BINS, Lineage
from m2n2lab.analysis.lineage_arrays import lineage_data, lineage_geometry, shares_data
from m2n2lab.analysis.members import MemberPage, MembersData, member_page, members_data
from m2n2lab.tasks import Sample
from m2n2lab.viz.draw_lineage import (
    birth_columns,
    edge_columns,
    lane_ticks,
    life_columns,
    share_columns,
)
from m2n2lab.viz.theme import DARK, LIGHT, seed_colours

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\x1b[31m'

NAMES = ("a", "b", "outside")


@pytest.fixture(scope="module")
def watched(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    evolver.run(60)
    evolver.tell(evolver.ask(parents=(evolver.best.id, None)))
    return evolver.run(60), lineage


@pytest.fixture
def members(watched, tiny):
    return members_data(watched[0].archive, tiny, watched[1])


def pixels(uri):
    """Return the picture in a data URI (H, W, 3)."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def colour(text):
    return [int(text[i : i + 2], 16) for i in (1, 3, 5)]


# -- the table ---------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_member_the_fittest_first(members):
    view = MembersView(LIGHT, print)
    view.update(members)
    rows = view.pane.rows
    assert [row["id"] for row in rows] == list(members.ids)
    for k, row in enumerate(rows):
        assert row["fitness"] == members.fitness[k]
        assert (row["score"], row["alone"]) == (members.score[k], members.alone[k])
        assert row["parents"] == list(members.parents[k])
        assert row["made"] == shares_label(members.painting[k], members.seeds)
        assert row["worst"] == members.accuracy[k].min()


def test_newer_members_replace_older_ones_and_the_same_ones_are_not_sent_again(members):
    sent = []
    view = MembersView(LIGHT, print)
    view.pane.param.watch(lambda event: sent.append(event.new), "rows")
    view.update(None)
    view.update(members)
    view.update(members)
    assert len(sent) == 1
    fewer = MembersData(
        *(v if n in ("classes", "seeds") else v[1:] for n, v in members._asdict().items())
    )
    view.update(fewer._replace(fitness=fewer.fitness + 1))
    assert [row["id"] for row in view.pane.rows] == list(members.ids[1:])
    assert view.pane.rows[0]["fitness"] == members.fitness[1] + 1


def test_a_row_chosen_on_the_page_is_reported_and_one_chosen_elsewhere_is_not(members):
    chosen = []
    view = MembersView(LIGHT, chosen.append)
    view.update(members)
    view.pane.selected = members.ids[2]  # as the browser sets it
    view.choose(members.ids[1])
    view.choose(None)
    assert chosen == [members.ids[2]]
    assert view.pane.selected == -1
    view.pane.selected = members.ids[2]
    assert chosen == [members.ids[2]] * 2


def test_lines_that_were_alike_at_first_take_the_colours_and_widths_of_later_ones(tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    view = LineageView(LIGHT, lambda member: None)
    view.update(lineage_data(lineage, evolver.best.id))
    source = drawn(view)
    evolver.run(60)
    data = lineage_data(lineage, evolver.best.id)
    view.update(data)
    for name, columns in (
        ("edges", edge_columns(data, LIGHT)),
        ("lines", life_columns(data, LIGHT)),
    ):
        assert len(set(columns["color"])) > 1
        assert list(source(name)["color"]) == list(columns["color"])
        renderer = view.handles[name]["glyph_renderer"]
        for mark in (renderer.glyph, renderer.nonselection_glyph, renderer.selection_glyph):
            assert (mark.line_color, mark.line_width) == ("color", "line_width")


def test_a_painting_is_a_strip_of_stacked_shares():
    painting = np.zeros((BINS, 3))
    painting[:24] = [1.0, 0.0, 0.0]
    painting[24:] = [0.0, 6 / 13, 7 / 13]
    first, second, outside = map(colour, seed_colours(LIGHT, 2))
    picture = pixels(painting_uri(painting, LIGHT))
    assert picture.shape == (13, BINS, 3)
    assert (picture[:, :24] == first).all()
    assert (picture[:6, 24:] == second).all()
    assert (picture[6:, 24:] == outside).all()
    assert shares_label(painting, NAMES) == "a 50.0 %, outside 26.9 %, b 23.1 %"
    assert "outside" not in seeds_key(np.array([0.25, 0.75, 0.0]), NAMES, LIGHT)


def test_a_heat_row_runs_from_the_background_to_the_strongest():
    picture = pixels(heat_uri(np.array([0.0, 1.0, np.nan]), DARK))
    assert picture.tolist() == [[colour(c) for c in (DARK.card, DARK.ramp[-1], DARK.card)]]


# -- the page of one ---------------------------------------------------------------------------


def test_a_page_shows_scores_confusion_answers_and_what_it_is_made_of(watched):
    evolver, lineage = watched
    page = member_page(evolver, lineage, evolver.best.id)
    view = MemberView(LIGHT, print)
    assert "Click a member" in view._text.object
    view.update(page)
    html = view._text.object
    assert f"<h3>{evolver.best.id} <span>rank {page.rank} of 6" in html
    assert " × ".join(map(str, page.life.parents)) in html
    counts = [int(c or 0) for c in re.findall(r"<td[^>]*>(\d*)</td>", html)]
    assert counts == page.confusion.ravel().tolist()
    widths = [float(w) for w in re.findall(r'<b style="width:([\d.]+)%', html)]
    assert widths == pytest.approx((100 * page.accuracy).tolist(), abs=0.05)
    marks = [float(w) for w in re.findall(r'<i style="left:([\d.]+)%', html)]
    assert marks == pytest.approx((100 * page.held_out).tolist(), abs=0.05)
    assert html.count("<s>") == len(page.wrong)
    assert painting_uri(page.painting, LIGHT) in html


def test_the_page_of_a_dead_member_says_so(watched):
    evolver, lineage = watched
    dead = next(id for id in lineage.column("id").tolist() if id not in evolver.archive)
    view = MemberView(DARK, print)
    view.update(member_page(evolver, lineage, dead))
    assert f"died at step {lineage[dead].died}: its weights are gone" in view._text.object
    assert "only the mean is kept" in view._text.object
    assert "<table" not in view._text.object


def test_hostile_texts_are_shown_as_text(watched):
    evolver, lineage = watched
    page = member_page(evolver, lineage, evolver.best.id)
    bad = Sample(0, HOSTILE, HOSTILE + "x" * 100_000, False, text=HOSTILE)
    view = MemberView(LIGHT, print)
    view.update(page._replace(classes=(HOSTILE,) * 4, right=(bad,), wrong=(bad,)))
    html = view._text.object
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html
    assert "x" * MAX_TEXT_CHARS not in html


def test_pages_without_classes_pictures_or_held_out_data_are_short(watched):
    evolver, lineage = watched
    page = member_page(evolver, lineage, evolver.best.id)
    view = MemberView(LIGHT, print)
    view.update(
        MemberPage(
            page.life,
            page.painting,
            ("all", "none"),
            page.seeds,
            6,
            1,
            2.0,
            np.array([0.5, np.nan]),
        )
    )
    assert "50.0 %" in view._text.object
    assert "–" in view._text.object
    for text in ("held out", "<table", "Wrong"):
        assert text not in view._text.object


# -- lineage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_lineage_is_refreshed_in_place(tiny, tiny_seeds, theme):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1)
    lineage = Lineage(evolver)
    evolver.subscribe(lineage.observe)
    view, shares = LineageView(theme, print), SharesView(theme)
    view.update(None)
    view.update(lineage_data(lineage))
    shares.update(shares_data(lineage))
    source, areas = drawn(view), drawn(shares)
    figure = view.handles["lines"]["plot"]
    evolver.run(100)
    data = lineage_data(lineage, evolver.best.id)
    view.update(data)
    assert view.handles["lines"]["plot"] is figure
    same(source("lines"), life_columns(data, theme))
    same(source("edges"), edge_columns(data, theme))
    for name, columns in birth_columns(data).items():
        same(source(name), columns)
    assert (figure.x_range.end, figure.y_range.end) == (lineage_geometry(data).end, 6)
    assert tick_names(figure.yaxis[0]) == dict(lane_ticks(data))
    assert {label for _, label in lane_ticks(data)} == set(map(str, evolver.archive.ids))
    shares.update(shares_data(lineage))
    for name, columns in share_columns(shares_data(lineage)).items():
        same(areas(name), columns)
    assert shares.handles["seed 0"]["plot"].x_range.end == 100
    assert figure.xaxis[0].axis_label == "step"
    assert figure.yaxis[0].axis_label == "living member"
    assert not [tool for tool in figure.toolbar.tools if type(tool).__name__ != "HoverTool"]


def test_births_are_marked_by_their_outcome(watched):
    evolver, lineage = watched
    data = lineage_data(lineage, evolver.best.id)
    births = birth_columns(data, whole=True)
    assert {name: len(columns["step"]) for name, columns in births.items()} == {
        "lives": (data.alive & ~data.by_hand).sum(),
        "died": (~data.alive & ~data.by_hand).sum(),
        "by hand, lives": (data.alive & data.by_hand).sum(),
        "by hand, died": (~data.alive & data.by_hand).sum(),
        "chosen": 1,
    }
    assert data.by_hand.sum() == 1
    short = data._replace(born=np.where(data.alive, data.born, data.ended))
    assert len(birth_columns(short, whole=True)["died"]["step"]) == 0  # too short to be seen
    lives = life_columns(data, LIGHT, whole=True)
    best = list(lives["id"]).index(evolver.best.id)
    assert (lives["color"][best], lives["gave"][best]) == (LIGHT.ramp[-1], "100.0 %")
    assert lives["died"][best] == "alive"


def test_the_span_can_be_changed_and_a_click_chooses(watched):
    chosen = []
    view = LineageView(LIGHT, chosen.append)
    data = lineage_data(watched[1])._replace(since=80)
    view.update(data)
    drawn(view)
    figure = view.handles["lines"]["plot"]
    recent = figure.x_range.start
    view.span.value = "whole run"
    assert figure.x_range.start < 0 < recent
    youngest = int(data.ids[-1])
    lane = data.lanes - data.lane[-1] - 0.5
    document = Document()
    document.add_root(figure)
    for x, y in ((data.now, lane), (-1.0, data.lanes - 0.4)):
        document.callbacks.trigger_event(Tap(figure, x=float(x), y=float(y)))
    assert chosen == [youngest, 0]


def test_of_many_lanes_only_some_are_named_the_chosen_one_among_them(watched):
    evolver, lineage = watched
    data = lineage_data(lineage, evolver.best.id)
    many = data._replace(lanes=40, lane=data.lane * 5)
    labels = [label for _, label in lane_ticks(many)]
    assert len(labels) < 6
    assert str(evolver.best.id) in labels


# -- colours -----------------------------------------------------------------------------------

# Machado et al. 2009: what protan-, deuteran- and tritanopes see, in linear RGB.
SIGHT = [
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
]
XYZ = np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1094, 0.8728]])


def lab(text, sight):
    """Return CIE L*a*b* of a colour for one kind of sight."""
    linear = np.clip(np.array(sight) @ (np.array(colour(text)) / 255) ** 2.2, 0, 1)
    x, y, z = np.cbrt(XYZ @ linear)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_of_seeds_are_distinct_for_all_kinds_of_sight(theme):
    hues = seed_colours(theme, 6)
    assert len(set(hues)) == 7
    for sight in SIGHT:
        seen = [lab(hue, sight) for hue in hues]
        apart = [np.linalg.norm(a - b) for a, b in combinations(seen, 2)]
        assert min(apart) > 15
        assert np.linalg.norm(seen[0] - seen[1]) > 35
    assert seed_colours(theme, 8)[6] == hues[0]


# -- in a browser ------------------------------------------------------------------------------


@pytest.fixture
def served_views(page, watched, tiny):
    """A served page of all four views, on which nothing may fail or come from outside."""
    evolver, lineage = watched
    picked = []

    def show(id):
        picked.append(id)
        table.choose(id)
        one.update(member_page(evolver, lineage, id))
        lives.update(lineage_data(lineage, id))

    table, lives = MembersView(LIGHT, show), LineageView(LIGHT, show)
    one, shares = MemberView(LIGHT, print), SharesView(LIGHT)

    def view():
        def loaded():
            data = members_data(evolver.archive, tiny, lineage)
            table.update(data._replace(classes=(HOSTILE,) * 4))
            lives.update(lineage_data(lineage))
            shares.update(shares_data(lineage))

        pn.state.onload(loaded)
        plots = [pn.Column(v.pane, width=600, height=260) for v in (lives, shares)]
        return pn.Column(table.pane, one.pane, pn.Row(lives.span, lives.key), *plots)

    page.set_viewport_size({"width": 800, "height": 1400})
    with serving(view) as address:
        page.goto(address)
        page.picked = picked
        yield page


PLACE = """([x, y]) => {
    const models = Object.values(Bokeh.index).flatMap(v => [...v.model.document.all_models])
    const figure = models.find(m => m.type === "Figure"
                               && m.right.some(axis => axis.axis_label === "living member"))
    const view = Bokeh.index.find_one(figure), box = view.el.getBoundingClientRect()
    return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)]
}"""


@pytest.mark.slow
def test_members_and_lives_are_chosen_by_mouse_and_keys_without_internet(
    served_views, members, watched
):
    page = served_views
    table = page.get_by_role("table", name="living members")
    rows = table.locator("tbody").get_by_role("row")
    expect(rows).to_have_count(6)
    expect(rows.first.get_by_role("cell").first).to_have_text(re.compile(rf"{members.ids[0]}\b"))
    cells = rows.nth(2).get_by_role("cell")
    expect(cells.nth(2)).to_have_text(f"{members.fitness[2]:.1f}")
    expect(cells.nth(3)).to_have_text(f"{members.score[2]:.1%}".replace("%", " %"))
    image = cells.nth(1).get_by_role("img")
    expect(image).to_have_attribute("alt", shares_label(members.painting[2], members.seeds))
    expect(cells.nth(5).get_by_role("img")).to_have_attribute("alt", re.compile("^<script>"))
    rows.nth(2).click()
    expect(page.get_by_test_id("member").locator("h3")).to_have_text(
        re.compile(rf"^{members.ids[2]} rank")
    )
    expect(rows.nth(2)).to_have_attribute("aria-current", "true")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("member").locator("h3")).to_have_text(
        re.compile(rf"^{members.ids[3]} rank")
    )
    # Sorted by the youngest, then by the oldest member.
    table.get_by_role("button", name="born").click()
    header = table.get_by_role("columnheader", name="born")
    expect(header).to_have_attribute("aria-sort", "descending")
    expect(rows.first).to_contain_text(str(max(members.ids)))
    table.get_by_role("button", name="born").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    expect(rows.first).to_contain_text(str(min(members.ids)))
    # The middle of a life that is over.
    data = lineage_data(watched[1])
    place = int(np.flatnonzero(~data.alive & (data.ended - data.born > 5))[-1])
    middle = float(data.born[place] + data.ended[place]) / 2
    lane = float(data.lanes - data.lane[place]) - 0.5
    page.mouse.click(*page.evaluate(PLACE, [middle, lane]))
    expect(page.get_by_test_id("member").locator("h3")).to_contain_text("its weights are gone")
    expect(rows.and_(page.locator('[aria-current="true"]'))).to_have_count(0)
    assert page.picked == [*members.ids[2:4], int(data.ids[place])]
