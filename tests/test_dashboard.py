import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[1]
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECTIONS = ("Niches", "Attraction", "Merge bench", "Progress", "Landscape", "Answers")
PATIENCE = 60_000  # milliseconds; only ever waited for when something is broken


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def served(command, port, log):
    """Start a server, wait until it answers, yield its address, end it."""
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            try:
                # Not the page itself: even a plain request for it would start a session.
                urllib.request.urlopen(f"http://localhost:{port}/static/none", timeout=5)
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail(f"the server did not answer: {log.read_text()}")
        yield log
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of ``m2n2lab serve``; its log must not hold an error in the end."""
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "m2n2lab", "serve", "--port", str(port), "--threads", "1"]
    for _ in served(command, port, log):
        yield f"http://localhost:{port}/"
    assert f"http://localhost:{port}" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromium = chromium or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        # Without one on the PATH, Playwright's own.
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser):
    """One profile, so that only the first page loads the scripts."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(context):
    """A page that fails its test on an outside request, a failed one, or an error."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wrong = []

    def local(url):
        return re.match(r"(https?|ws)://(localhost|127\.0\.0\.1)[:/]|data:|blob:", url)

    page.on("request", lambda r: local(r.url) or wrong.append(f"outside request {r.url}"))
    page.on("requestfailed", lambda r: wrong.append(f"failed request {r.url}"))
    page.on("response", lambda r: r.status < 400 or wrong.append(f"{r.status} for {r.url}"))
    page.on("pageerror", lambda e: wrong.append(f"page error {e}"))
    page.on("console", lambda m: m.type == "error" and wrong.append(f"console {m.text}"))
    yield page
    page.close()
    assert wrong == []


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def figure(page, name):
    return page.get_by_test_id(name)


def steps(page):
    return int(figure(page, "step").inner_text().replace(",", ""))


def opened(page, address):
    page.goto(address)
    expect(button(page, "Run")).to_be_enabled(timeout=PATIENCE)
    expect(figure(page, "phase")).to_have_text("paused")
    return page


def last(page):
    """Return the last step of the curves of progress."""
    return page.evaluate(FIND + 'return Array.from(find("step")).pop() }', "per cent")


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


def test_the_page_shows_what_the_same_search_gives_in_python(page, lab, digits):
    from m2n2lab import Evolver
    from m2n2lab.display import percent

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


def test_plots_follow_the_search(page, lab):
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    page.wait_for_timeout(400)
    first = last(page)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("20")
    page.wait_for_timeout(400)
    assert (first, last(page)) == (10, 20)
    for name in ("Niches", "Attraction", "Progress", "Landscape"):
        canvas = page.get_by_role("region", name=name).locator("canvas").first
        box = canvas.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 150


def test_answers_show_digits_and_only_wrong_ones_when_asked(page, lab):
    opened(page, lab)
    answers = figure(page, "answers")
    expect(answers.locator("img")).to_have_count(24)
    button(page, "child wrong").click()
    expect(answers.locator("s.child")).to_have_count(24)
    expect(answers.locator("b.child")).to_have_count(0)  # right answers


def test_the_niche_map_shows_solved_worth_or_sole_solvers(page, lab, digits):
    from m2n2lab import Evolver
    from m2n2lab.plots import NICHE_MODES, niches_data

    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(10)
    data = niches_data(evolver.archive, digits)
    for mode in ("only one", "solved", "worth"):
        button(page, mode).click()
        expected = float(getattr(data, NICHE_MODES[mode]).sum(dtype=float))
        for _ in range(50):
            if (shown := niche_total(page)) == pytest.approx(expected, rel=1e-4):
                break
            page.wait_for_timeout(100)
        assert shown == pytest.approx(expected, rel=1e-4)


PIXEL = """([name, x, y]) => {
    const model = Bokeh.documents.map(d => d.get_model_by_name(name)).find(m => m != null)
    const view = Bokeh.index.find_one(model)
    const box = view.canvas_view.el.getBoundingClientRect()
    return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)]
}"""


def click_at(page, name, x, y):
    """Click on a place of a plot, in the plot's own coordinates."""
    page.mouse.click(*page.evaluate(PIXEL, [name, x, y]))


def test_a_person_picks_a_pair_drags_the_split_and_merges_by_hand(page, lab, digits):
    from m2n2lab import Evolver
    from m2n2lab.bench import bench_data, verdict_words
    from m2n2lab.display import percent
    from m2n2lab.plots import attraction_data

    opened(page, lab)
    for _ in range(6):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("60")
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(60)
    matrix = attraction_data(evolver.archive)
    many = len(matrix.ids)

    # The fourth row's A meets the second column's B.
    a, b = matrix.ids[3], matrix.ids[1]
    click_at(page, "AttractionView", 1.5, many - 3.5)
    expect(page.get_by_label("Parent A")).to_have_value(str(a))
    expect(page.get_by_label("Parent B")).to_have_value(str(b))
    expect(figure(page, "attracted")).to_have_text(f"{matrix.worth[3, 1]:.1f}")
    expect(figure(page, "score-a")).to_have_text(percent(evolver.archive[a].score))

    # The handle is dragged with the mouse, then moved by the keyboard to the very place.
    handle = page.get_by_role("slider", name="split point")
    handle.scroll_into_view_if_needed()
    strip = page.locator(".split-editor .strip").bounding_box()
    knob = handle.bounding_box()
    page.mouse.move(knob["x"] + knob["width"] / 2, strip["y"] + strip["height"] / 2)
    page.mouse.down()
    page.mouse.move(strip["x"] + strip["width"] * 0.2, strip["y"] + 9, steps=6)
    page.mouse.move(strip["x"] + strip["width"] * 0.3, strip["y"] + 9, steps=6)
    page.mouse.up()
    dragged = int(handle.get_attribute("aria-valuenow"))
    assert dragged == pytest.approx(0.3 * evolver.space.size, abs=0.01 * evolver.space.size)
    handle.press("ArrowRight")
    split = dragged + 1
    expect(page.get_by_label("Split at")).to_have_value(str(split))
    expect(handle).to_have_attribute(
        "aria-valuetext", f"{split:,} · {evolver.space.layout.locate(split)}"
    )

    # The preview says what the same proposal does in Python.
    proposal = evolver.ask(parents=(a, b), split=split, mix=0.5)
    page.wait_for_timeout(500)
    shown = figure(page, "verdict").inner_text()
    assert figure(page, "either").inner_text() == percent(bench_data(evolver, proposal).either)
    button(page, "Merge").click()
    expect(figure(page, "step")).to_have_text("61")
    said = figure(page, "note").inner_text()
    if shown.startswith("Would live."):
        assert said.startswith("Child 62 lives")
    else:
        assert re.match(r"Child 62 died: \d+ is fitter", said)
    assert verdict_words(bench_data(evolver, proposal)).split(".")[0] in shown

    button(page, "Undo").click()
    expect(figure(page, "step")).to_have_text("60")
    expect(figure(page, "note")).to_contain_text("taken back")


def test_a_click_on_the_landscape_loads_split_and_mix(page, lab, digits):
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    page.wait_for_timeout(1500)
    click_at(page, "LandscapeView", 0.25, 0.75)
    expect(page.get_by_label("Split at")).to_have_value(str(round(0.25 * 19_210)))
    handle = page.get_by_role("slider", name="split point")
    expect(handle).to_have_attribute("aria-valuenow", str(round(0.25 * 19_210)))


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


def test_two_pages_have_searches_of_their_own(page, context, lab):
    opened(page, lab)
    other = context.new_page()
    opened(other, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    other.wait_for_timeout(500)
    assert steps(other) == 0
    other.close()


def test_dark_and_light_by_address_and_by_the_system(page, browser, lab):
    opened(page, lab + "?theme=dark")
    dark = "rgb(19, 20, 23)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    context = browser.new_context(color_scheme="dark")
    other = context.new_page()
    opened(other, lab)
    assert other.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    context.close()


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
    if width > 900:
        assert max(box["y"] + box["height"] for box in boxes) <= height


def test_panel_serve_opens_the_same_page(page, lab, tmp_path):
    port = free_port()
    script = ROOT / "widgets" / "dashboard.py"
    command = [sys.executable, "-m", "panel", "serve", str(script), "--port", str(port)]
    for log in served([*command, "--address", "127.0.0.1"], port, tmp_path / "log"):
        opened(page, f"http://localhost:{port}/dashboard")
        mine = page.get_by_role("region").all_inner_texts()
        button(page, "Step").click()
        expect(figure(page, "step")).to_have_text("1")
        other = opened(page, lab)
        assert other.get_by_role("region").all_inner_texts() == mine
        assert page.title() == "m2n2lab"
        assert "Traceback" not in log.read_text()
