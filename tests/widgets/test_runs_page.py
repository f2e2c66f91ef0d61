"""Several runs on one page: setup, reset, comparison; and pages that are reloaded or closed."""

import re
from pathlib import Path

import pytest
from helpers.pages import button, figure, opened, steps
from playwright.sync_api import expect

from m2n2lab import Evolver, load_archive, make_evolver
from m2n2lab.utils.text import percent


def stepped(page, tens):
    """Take ten steps a few times."""
    for _ in range(tens):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text(f"{10 * tens}")


def setup(page, **fields):
    """Open the drawer and fill it in."""
    page.get_by_text("Setup", exact=True).click()
    page.get_by_label("Method").select_option(fields.pop("method", "m2n2"))
    for name, value in fields.items():
        page.get_by_label(name, exact=True).fill(value)


ENDS = """ends => {
  const near = (a, b) => Math.abs(a - b) < 1e-6
  return Bokeh.documents.flatMap(document => [...document.all_models])
    .filter(model => model.type === "ColumnDataSource" && model.data.xs && model.data.colour)
    .some(({ data: { xs, ys } }) => xs.length === ends.length && ends.every(([x, y], k) =>
      near(Array.from(xs[k]).pop(), x) && near(Array.from(ys[k]).pop(), y)))
}"""
"""Whether curves end at these places."""


@pytest.mark.slow
def test_setup_starts_another_search_whose_address_makes_it_again(page, lab, digits):
    opened(page, lab)
    setup(page, method="ga", Seed="5", **{"Archive size": "7"})
    button(page, "Replace this run").click()
    expect(page.get_by_text("digits · ga · seed 5")).to_be_visible()
    expect(page).to_have_url(re.compile("method=ga&seed=5&pretrained=0&archive_size=7"))
    opened(page, page.url)
    stepped(page, 1)
    seeds = digits.random_seeds(2, rng=5)
    evolver = make_evolver("ga", digits, seeds, archive_size=7, mutation=0.01, rng=5).run(10)
    expect(figure(page, "test")).to_have_text(percent(evolver.test))
    page.get_by_text("Setup", exact=True).click()
    with page.expect_download() as download:
        page.get_by_text("History (.csv)", exact=True).last.click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert len(rows) == 11
    assert rows[0].startswith("step,")
    with page.expect_download() as download:
        page.get_by_text("All members (.safetensors)", exact=True).last.click()
    assert tuple(load_archive(download.value.path()).ids) == evolver.archive.ids
    with page.expect_download() as download:
        page.get_by_text("Page to send (.html)", exact=True).last.click()
    sent = Path(download.value.path()).read_text(encoding="utf-8")
    assert sent.count('"step":10,') == 1
    assert "lab.make_evolver" in sent
    with page.expect_download() as download:
        page.get_by_text("Python script (.py)", exact=True).last.click()
    names = {}
    exec(Path(download.value.path()).read_text(), names)
    assert names["evolver"].archive.ids == evolver.archive.ids
    assert names["evolver"].test == evolver.test


@pytest.mark.slow
def test_setup_says_what_it_cannot_use_and_keeps_the_run(page, lab):
    opened(page, lab)
    stepped(page, 1)
    setup(page, Seed="many")
    button(page, "Replace this run").click()
    expect(page.get_by_role("alert")).to_have_text(
        "seed must be a number, got 'many'; write it in digits."
    )
    expect(figure(page, "step")).to_have_text("10")


@pytest.mark.slow
def test_reset_starts_the_same_search_anew(page, lab, digits):
    opened(page, lab)
    stepped(page, 2)
    button(page, "Reset").click()
    expect(figure(page, "step")).to_have_text("0")
    stepped(page, 2)
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(20)
    expect(figure(page, "test")).to_have_text(percent(evolver.test))
    expect(figure(page, "mean")).to_have_text(
        percent(sum(m.score for m in evolver.archive.members) / len(evolver.archive))
    )


@pytest.mark.slow
def test_a_run_is_compared_with_another_method_on_the_same_seed(page, lab, digits):
    opened(page, lab)
    stepped(page, 3)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Compare with").select_option("ga")
    button(page, "Add run").click()
    other = figure(page, "run-2")
    expect(other).to_contain_text("step 30")  # as many as the run on the page
    seeds = digits.random_seeds(2, rng=0)
    runs = [
        make_evolver(method, digits, seeds, mutation=0.01, rng=0).run(30)
        for method in ("m2n2", "ga")
    ]
    expect(other).to_contain_text(f"{percent(runs[1].test)} held out")
    for metric, column in (("covered", "coverage"), ("best, held out", "test")):
        page.locator("#compare select").nth(1).select_option(metric)
        ends = [[30, 100 * float(run.records.column(column)[-1])] for run in runs]
        page.wait_for_function(ENDS, arg=ends)

    # The other run is put on the page, steered, and the first is where it was.
    button(page, "Show 2").click()
    expect(page.get_by_text("digits · ga · seed 0")).to_be_visible()
    expect(figure(page, "test")).to_have_text(percent(runs[1].test))
    button(page, "Step").click()
    expect(figure(page, "step")).to_have_text("31")
    expect(figure(page, "run-1")).to_contain_text("step 30")
    button(page, "Remove 2").click()
    expect(other).to_have_count(0)
    expect(figure(page, "test")).to_have_text(percent(runs[0].test))
    expect(button(page, "Remove 1")).to_be_disabled()


@pytest.mark.slow
def test_a_run_beside_another_goes_on_while_it_is_not_shown(page, lab):
    opened(page, lab)
    setup(page, method="ga")
    button(page, "Add as a new run").click()
    expect(page.get_by_text("digits · ga · seed 0")).to_be_visible()
    page.get_by_text("Setup", exact=True).click()
    page.get_by_role("tab", name="Compare").click()
    button(page, "Run 1").click()
    expect(button(page, "Pause 1")).to_be_visible()
    expect(figure(page, "run-1")).to_contain_text(re.compile(r"step \d{2,}"))
    expect(figure(page, "step")).to_have_text("0")
    button(page, "Pause 1").click()
    expect(button(page, "Run 1")).to_be_visible()


@pytest.mark.slow
def test_a_page_that_is_loaded_again_or_made_dark_keeps_its_search(page, lab):
    opened(page, lab)
    stepped(page, 1)
    page.reload()
    expect(figure(page, "step")).to_have_text("10")
    page.get_by_label("Switch to dark theme").click()
    expect(page).to_have_url(re.compile("theme=dark"))
    expect(figure(page, "step")).to_have_text("10")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 23)"
    assert "browser_session" not in page.url  # a link that is shared shares no search
    opened(page, page.url)
    expect(figure(page, "step")).to_have_text("0")


@pytest.mark.slow
def test_a_reset_can_be_undone(page, lab):
    opened(page, lab)
    expect(button(page, "Undo reset")).to_be_hidden()
    stepped(page, 3)
    best = figure(page, "test").inner_text()
    button(page, "Reset").click()
    expect(figure(page, "step")).to_have_text("0")
    button(page, "Step").click()
    expect(figure(page, "step")).to_have_text("1")
    button(page, "Undo reset").click()
    expect(figure(page, "step")).to_have_text("30")
    expect(figure(page, "test")).to_have_text(best)
    expect(button(page, "Undo reset")).to_be_hidden()
    button(page, "Step").click()
    expect(figure(page, "step")).to_have_text("31")


@pytest.mark.slow
def test_back_and_forward_come_back_to_the_same_run(page, lab):
    opened(page, lab)
    stepped(page, 2)
    page.goto("about:blank")
    page.wait_for_timeout(5_000)  # longer than a page takes to be loaded again
    page.go_back()
    expect(figure(page, "step")).to_have_text("20")
    page.get_by_label("Switch to dark theme").click()
    expect(page).to_have_url(re.compile("theme=dark"))
    expect(figure(page, "step")).to_have_text("20")
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("30")
    page.go_back()
    expect(figure(page, "step")).to_have_text("30")
    page.go_forward()
    expect(figure(page, "step")).to_have_text("30")


@pytest.mark.slow
def test_a_lost_connection_comes_back_by_itself_to_the_run_and_the_tab(browser, lab):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page, sockets, cut = context.new_page(), [], []

    def connect(socket):
        sockets.append(socket)
        socket.connect_to_server()

    page.route_web_socket(re.compile("/ws"), connect)
    page.route("**/bokeh.min.js*", lambda route: route.abort() if cut else route.continue_())
    opened(page, lab)
    stepped(page, 2)
    page.get_by_role("tab", name="Members").click()
    alert = page.get_by_role("alert").filter(has_text="your clicks have no effect")
    expect(alert).to_be_hidden()
    cut.append(True)
    for socket in sockets:
        socket.close()
    expect(alert).to_be_visible()
    page.wait_for_timeout(6_000)
    expect(alert).to_be_visible()
    cut.clear()
    expect(alert).to_be_hidden()
    expect(figure(page, "step")).to_have_text("20")
    expect(page.get_by_role("tab", name="Members")).to_have_attribute("aria-selected", "true")
    button(page, "Step").click()
    expect(figure(page, "step")).to_have_text("21")
    context.close()


@pytest.mark.slow
def test_two_pages_have_searches_of_their_own(page, context, lab):
    opened(page, lab)
    other = context.new_page()
    opened(other, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    other.wait_for_timeout(500)
    assert steps(other) == 0
    other.close()
