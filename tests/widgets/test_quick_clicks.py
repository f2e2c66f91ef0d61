import re

import pytest
from helpers.pages import button, click_at, drawn, figure, opened, serving_lab, steps
from playwright.sync_api import expect

BOTH = """names => {
    const buttons = (root) => [...root.querySelectorAll("*")].flatMap((element) =>
        [...(element.tagName === "BUTTON" ? [element] : []),
         ...(element.shadowRoot ? buttons(element.shadowRoot) : [])])
    const all = buttons(document)
    for (const name of names) all.find((found) => found.textContent.trim() === name).click()
}"""


FRAMES = """() => {
    const figure = Bokeh.documents.map((d) => d.get_model_by_name("AttractionView")).find(Boolean)
    const { left, bottom } = figure.renderers.find((r) => r.glyph?.type === "Quad").data_source.data
    return [bottom[0], left[1]]
}"""
"""Where A's row and B's column of the matrix are framed."""


@pytest.mark.slow
@pytest.mark.parametrize(("tab", "choice"), [("Lineage", "whole run"), ("Progress", "solved")])
def test_a_choice_with_a_button_pressed_right_after_it_is_heard(page, lab, tab, choice):
    opened(page, lab)
    page.get_by_role("tab", name=tab).click()
    button(page, "Run").click()
    expect(figure(page, "step")).to_have_text(re.compile(r"\d,\d{3}"))  # both spans differ
    button(page, "Pause").click()
    expect(figure(page, "phase")).to_have_text("paused")
    expect(page.get_by_role("tabpanel", name=tab).locator("canvas").first).to_be_visible()
    before = steps(page)
    page.evaluate(BOTH, [choice, "Step"])
    expect(figure(page, "step")).to_have_text(f"{before + 1:,}")


@pytest.mark.slow
def test_run_and_pause_are_answered_before_a_busy_server_hears_of_them(page):
    with serving_lab() as (lab, _):
        opened(page, lab.address)
        lab.process.suspend()
        button(page, "Run").click()
        expect(button(page, "Pause")).to_be_visible()
        expect(figure(page, "phase")).to_have_text("running")
        expect(figure(page, "step")).to_have_text("0")
        lab.process.resume()
        expect(figure(page, "step")).not_to_have_text("0")
        lab.process.suspend()
        button(page, "Pause").click()
        expect(figure(page, "phase")).to_have_text("pausing …")
        lab.process.resume()
        expect(figure(page, "phase")).to_have_text("paused")
        expect(button(page, "Run")).to_be_visible()


@pytest.mark.slow
def test_a_page_whose_server_has_ended_says_so(page):
    with serving_lab() as (lab, _):
        opened(page, lab.address)
        alert = page.get_by_role("alert").filter(has_text="does not answer any more")
        expect(alert).to_be_hidden()
        lab.process.kill()
        lab.process.wait()
        expect(alert).to_be_visible()


@pytest.mark.slow
def test_a_step_and_a_pair_are_answered_before_a_busy_server_hears_of_them(page):
    with serving_lab() as (lab, _):
        opened(page, lab.address)
        button(page, "×10").click()
        expect(figure(page, "step")).to_have_text("10")
        expect(figure(page, "phase")).to_have_text("paused")
        drawn(page, "AttractionView")
        lab.process.suspend()
        button(page, "Step").click()
        expect(figure(page, "phase")).to_have_text("stepping …")
        lab.process.resume()
        expect(figure(page, "step")).to_have_text("11")
        expect(figure(page, "phase")).to_have_text("paused")
        lab.process.suspend()
        for row, column in ((2, 5), (4, 1)):
            page.wait_for_timeout(600)  # or both would be one double click
            click_at(page, "AttractionView", column + 0.5, row + 0.5)
            page.wait_for_function(f"() => ({FRAMES})().join() === '{row},{column}'")
        lab.process.resume()
        pair = page.evaluate("""() => {
            const figure = Bokeh.documents.map((d) => d.get_model_by_name("AttractionView"))
                .find(Boolean)
            const image = figure.renderers.find((r) => r.glyph?.type === "Image")
            const ids = image.data_source.data.ids[0]
            return [ids[ids.length - 1 - 4], ids[1]].map(String)
        }""")
        expect(page.get_by_label("Parent A")).to_have_value(pair[0])
        expect(page.get_by_label("Parent B")).to_have_value(pair[1])
        assert page.evaluate(FRAMES) == [4, 1]
