import re

import pytest
from browsing import serving_lab
from pages import button, figure, opened, steps
from playwright.sync_api import expect

BOTH = """names => {
    const buttons = (root) => [...root.querySelectorAll("*")].flatMap((element) =>
        [...(element.tagName === "BUTTON" ? [element] : []),
         ...(element.shadowRoot ? buttons(element.shadowRoot) : [])])
    const all = buttons(document)
    for (const name of names) all.find((found) => found.textContent.trim() === name).click()
}"""


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
