import pytest
from pages import button, figure, opened
from playwright.sync_api import expect

BOTH = """names => {
    const buttons = (root) => [...root.querySelectorAll("*")].flatMap((element) =>
        [...(element.tagName === "BUTTON" ? [element] : []),
         ...(element.shadowRoot ? buttons(element.shadowRoot) : [])])
    const all = buttons(document)
    for (const name of names) all.find((found) => found.textContent.trim() === name).click()
}"""


@pytest.mark.parametrize("choice", ["whole run"])
def test_a_choice_with_a_button_pressed_right_after_it_is_heard_without_an_error(page, lab, choice):
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    page.evaluate(BOTH, [choice, "Step"])
    expect(figure(page, "step")).to_have_text("11")
