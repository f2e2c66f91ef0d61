"""Cells of the matrix and of the landscape, chosen with the keyboard in a real browser."""

import json
import re

import pytest
from helpers.pages import PATIENCE, button, click_at, figure, opened
from m2n2lab.widgets.views.cells import Cells
from playwright.sync_api import expect

FRAME = """place => {
    const frame = place.querySelector(".cell"), box = frame.getBoundingClientRect()
    return [getComputedStyle(frame).display, box.x + box.width / 2, box.y + box.height / 2,
            box.width, getComputedStyle(place).outlineStyle]
}"""


@pytest.mark.slow
def test_a_pair_and_a_cell_are_picked_by_keys_alone(page, lab):
    opened(page, lab)
    for _ in range(2):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("20")
    matrix = page.get_by_role("application", name=re.compile("^Attraction, cell by cell"))
    said = matrix.get_by_role("status")
    assert matrix.evaluate(FRAME)[0] == "none"
    matrix.focus()
    page.keyboard.press("Shift+Tab")  # a frame is seen where the keyboard leads
    page.keyboard.press("Tab")
    expect(matrix).to_be_focused()
    expect(said).to_have_text(
        re.compile(r"^A \d+, B \d+: solves what A gets wrong, worth [\d.]+ points of reward$")
    )
    first = said.inner_text()
    shown, x, y, width, outline = matrix.evaluate(FRAME)
    assert (shown, outline) == ("block", "solid")
    page.keyboard.press("ArrowLeft")
    expect(said).to_have_text(re.compile(r"^(\d+) meets itself$"))
    assert matrix.evaluate(FRAME)[1] < x - width / 2
    page.keyboard.press("ArrowRight")
    expect(said).to_have_text(first)
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    a, b = re.findall(r"\d+", said.inner_text())[:2]
    spot = matrix.evaluate(FRAME)[1:3]
    assert spot[1] > y
    page.keyboard.press("Enter")
    expect(page.get_by_label("Parent A")).to_have_value(a)
    expect(page.get_by_label("Parent B")).to_have_value(b)
    expect(figure(page, "phase")).to_have_text("paused")  # no key was a command of the page

    # A mouse picks the same pair there.
    click_at(page, "AttractionView", 0.5, 0.5)
    expect(page.get_by_label("Parent A")).not_to_have_value(a)
    page.wait_for_timeout(600)  # or both would be one double click
    page.mouse.click(*spot)
    expect(page.get_by_label("Parent A")).to_have_value(a)
    expect(page.get_by_label("Parent B")).to_have_value(b)

    scape = page.get_by_role("application", name=re.compile("^Landscape, cell by cell"))
    said = scape.get_by_role("status")
    scape.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    words = re.compile(r"^split 0, mix (0\.\d\d): score [\d.]+ %$")
    expect(said).to_have_text(words, timeout=PATIENCE)
    mix = words.match(said.inner_text())[1]
    page.keyboard.press("Enter")
    expect(page.get_by_label("Split at")).to_have_value("0")
    slider = page.get_by_role("slider", name="Mix")
    expect(slider).not_to_have_value("0.5")  # which it has until then
    assert float(slider.input_value()) == pytest.approx(float(mix), abs=0.01)


def test_what_no_map_has_is_let_be():
    class Map:
        def __init__(self):
            self.picks = []

        def picked(self, x, y):
            self.picks.append((x, y))

    found = Map()
    cells = Cells(found)
    for picked in (
        "{", "", "[]", "null", "[1, 2, 3, 4]", json.dumps(["Map", "a", 1, 1]), '["Map", NaN, 1, 1]',
        json.dumps(["Other", 1, 1, 1]), '["Map", 1e999, 1, 1]', json.dumps([["Map"], 1, 1, 1]),
    ):  # fmt: skip
        cells.pane.value = picked
    assert found.picks == []
    cells.pane.value = json.dumps(["Map", 1.5, 2, 1])
    assert found.picks == [(1.5, 2.0)]
