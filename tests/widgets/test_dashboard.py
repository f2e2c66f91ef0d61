import re
import sys

import pytest
from helpers.pages import ROOT, SECTIONS, button, figure, free_port, logged, opened, served, steps
from playwright.sync_api import expect


def last(page):
    """Return the last step of the curves of progress."""
    return page.evaluate(FIND + 'return Array.from(find("step")).pop() }', "covered")


def niche_total(page):
    """Return the sum over the niche map, the widest image on the page."""
    return page.evaluate(
        FIND
        + """const widest = sources.sort((a, b) => b.data.dw[0] - a.data.dw[0])[0]
        return Array.from(widest.data.image[0]).reduce((a, b) => a + b, 0) }""",
        "image",
    )


FIND = """column => {
    const sources = Object.values(Bokeh.index)
        .flatMap(view => [...view.model.document.all_models ?? []])
        .filter(model => model.type === "ColumnDataSource" && column in (model.data ?? {}))
    const find = name => sources[0].data[name]
"""


def soon(page, seen, wanted):
    """Return whether a page comes to show what is wanted."""
    for _ in range(100):
        if seen() == wanted:
            return True
        page.wait_for_timeout(100)
    return False


def test_step_takes_one_step_and_ten_takes_ten(page, lab):
    opened(page, lab)
    assert steps(page) == 0
    button(page, "Step").click()
    expect(figure(page, "step")).to_have_text("1")
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("11")
    expect(figure(page, "phase")).to_have_text("paused")


def test_run_moves_the_numbers_and_pause_stops_them(page, lab):
    opened(page, lab)
    before = figure(page, "test").inner_text()
    button(page, "Run").click()
    expect(figure(page, "phase")).to_have_text("running")
    expect(figure(page, "step")).to_have_text(re.compile(r"\d{3,}|\d,\d+"))
    expect(figure(page, "test")).not_to_have_text(before)
    expect(figure(page, "accepted")).to_have_text(re.compile(r"\d+\.\d %"))
    button(page, "Pause").click()
    expect(figure(page, "phase")).to_have_text("paused")
    page.wait_for_timeout(300)
    stopped = steps(page)
    page.wait_for_timeout(500)
    assert steps(page) == stopped
    assert stopped >= 100


@pytest.mark.slow
def test_the_page_shows_what_the_same_search_gives_in_python(page, lab, digits):
    from m2n2lab import Evolver
    from m2n2lab.utils.text import percent

    opened(page, lab)
    for _ in range(3):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("30")
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(30)
    expect(figure(page, "test")).to_have_text(percent(evolver.test))
    expect(figure(page, "coverage")).to_have_text(percent(evolver.archive.coverage))
    expect(figure(page, "accepted")).to_have_text(
        percent(evolver.records.column("accepted").mean())
    )


@pytest.mark.slow
def test_plots_follow_the_search(page, lab):
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    assert soon(page, lambda: last(page), 10)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("20")
    assert soon(page, lambda: last(page), 20)
    for name in ("Niches", "Attraction", "Progress", "Landscape"):
        canvas = page.get_by_role("region", name=name).locator("canvas").first
        box = canvas.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 150


@pytest.mark.slow
def test_answers_show_digits_and_only_wrong_ones_when_asked(page, lab):
    opened(page, lab)
    answers = figure(page, "answers")
    expect(answers.locator("img")).to_have_count(24)
    page.get_by_label("Which answers").select_option("child wrong")
    expect(answers.locator("s.child")).to_have_count(24)
    expect(answers.locator("b.child")).to_have_count(0)  # right answers


@pytest.mark.slow
def test_the_niche_map_shows_solved_worth_or_sole_solvers(page, lab, digits):
    from m2n2lab import Evolver
    from m2n2lab.analysis.maps import NICHE_MODES, niches_data

    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(10)
    data = niches_data(evolver.archive, digits)
    shown = {"only one": "solved by only one"}
    for mode in ("only one", "solved", "worth"):
        button(page, shown.get(mode, mode)).click()
        expected = float(getattr(data, NICHE_MODES[mode]).sum(dtype=float))
        assert soon(page, lambda: niche_total(page), pytest.approx(expected, rel=1e-4))


@pytest.mark.slow
def test_space_runs_and_pauses_and_s_steps(page, lab):
    opened(page, lab)
    page.keyboard.press("s")
    expect(figure(page, "step")).to_have_text("1")
    page.keyboard.press(" ")
    expect(figure(page, "phase")).to_have_text("running")
    page.keyboard.press(" ")
    expect(figure(page, "phase")).to_have_text("paused")
    stopped = steps(page)
    page.get_by_label("Parent A").press("s")  # typed into a field, it is no command
    page.wait_for_timeout(400)
    assert steps(page) == stopped


@pytest.mark.slow
def test_tabs_show_members_and_lineage_of_the_search(page, lab, digits):
    from m2n2lab import Evolver

    opened(page, lab)
    for _ in range(4):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("40")
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(40)
    page.get_by_role("tab", name="Members").click()
    table = page.locator("#members").get_by_role("table").first.get_by_role("row")
    expect(table).to_have_count(1 + len(evolver.archive))
    fittest = max(zip(evolver.archive.fitness, evolver.archive.ids, strict=True))
    expect(table.nth(1)).to_contain_text(str(fittest[1]))
    expect(table.nth(1)).to_contain_text(f"{fittest[0]:.1f}")
    page.get_by_role("tab", name="Members").press("ArrowLeft")
    expect(page.get_by_role("tab", name="Seeds")).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Lineage").click()
    page.wait_for_timeout(300)
    box = page.locator("#lineage canvas").first.bounding_box()
    assert box["width"] > 200
    assert box["height"] > 120


@pytest.mark.slow
def test_an_address_that_asks_for_nonsense_says_so_as_text(page, lab):
    page.goto(lab + "?method=<img src=x onerror=alert(1)>")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("There is no method named '<img src=x onerror=alert(1)>'")
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.slow
def test_every_panel_explains_itself(page, lab):
    opened(page, lab)
    for name in SECTIONS:
        page.get_by_label(f"About: {name}").click()
        note = page.get_by_role("region", name=name).get_by_role("note")
        expect(note).to_be_visible()
        assert len(note.inner_text().split(". ")) >= 2
        page.get_by_label(f"About: {name}").click()


@pytest.mark.slow
def test_dark_and_light_by_address_and_by_the_system(page, browser, lab):
    opened(page, lab + "?theme=dark")
    dark = "rgb(19, 20, 23)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    context = browser.new_context(color_scheme="dark")
    other = context.new_page()
    opened(other, lab)
    assert other.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    context.close()


@pytest.mark.slow  # test_accessibility looks at all widths too
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 800), (390, 844)])
def test_nothing_is_cut_off_or_overlaps_at_any_width(page, lab, width, height):
    page.set_viewport_size({"width": width, "height": height})
    opened(page, lab)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [page.get_by_role("region", name=name).bounding_box() for name in SECTIONS]
    for i, a in enumerate(boxes):
        assert a["x"] >= 0
        assert a["x"] + a["width"] <= width
        for b in boxes[i + 1 :]:
            apart_x = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            apart_y = a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
            assert apart_x or apart_y
    if width > 900:  # a low window has the upper row, and the rest below it
        bottoms = sorted(box["y"] + box["height"] for box in boxes)
        assert bottoms[-1 if height >= 900 else 2] <= height


@pytest.mark.slow
def test_panel_serve_opens_the_same_page(page, lab, tmp_path):
    port = free_port()
    script = ROOT / "widgets" / "dashboard.py"
    command = [sys.executable, "-m", "panel", "serve", str(script), "--port", str(port)]
    for log in served([*command, "--address", "127.0.0.1"], port, tmp_path / "log"):
        opened(page, f"http://localhost:{port}/dashboard")
        mine = page.get_by_role("region").all_inner_texts()
        button(page, "Step").click()
        expect(figure(page, "step")).to_have_text("1")
        other = opened(page.context.new_page(), lab)  # leaving would ask: nothing is recorded
        assert other.get_by_role("region").all_inner_texts() == mine
        assert page.title() == other.title() == "m2n2lab"
        assert "\n".join(logged(log)) == ""
