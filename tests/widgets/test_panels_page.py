"""Panels in a real browser: the equations behind them, their size, and a square to draw in."""

import re

import pytest
from helpers.pages import PIXEL, button, click_at, figure, opened
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def specialists(context, lab):
    """A page that starts from two specialists, shared by the tests of this file in their order."""
    page = context.new_page()
    yield opened(page, f"{lab}?pretrained=1")
    page.close()


@pytest.mark.slow
def test_the_equations_of_bench_niches_and_matrix_have_their_numbers(specialists):
    page, dialog = specialists, specialists.get_by_role("dialog", name="Formula")
    expect(dialog).to_be_hidden()
    button(page, "Formula: Merge bench").click()
    weight = figure(page, "formula-weight")
    expect(weight).to_be_visible()
    numbers = re.search(
        r"([\d.]+) · \(?(−?[\d.]+)\)? \+ ([\d.]+) · \(?(−?[\d.]+)\)? = (−?[\d.]+)",
        weight.locator("..").inner_text(),
    )
    a, x, b, y, child = (float(text.replace("−", "-")) for text in numbers.groups())
    assert a * x + b * y == pytest.approx(child, rel=1e-3)
    before = weight.inner_text()
    page.get_by_label("Weight", exact=True).fill("5")
    page.keyboard.press("Enter")
    expect(weight).not_to_have_text(before)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button(page, "Formula: Merge bench")).to_be_focused()

    button(page, "Formula: Attraction").click()
    expect(figure(page, "formula-attraction")).to_have_text(
        re.compile(figure(page, "attracted").inner_text().removesuffix(".0"))
    )
    button(page, "Close the formula").click()

    x, y = page.evaluate(PIXEL, ["NichesView", 1_300.5, 0.5])
    page.mouse.move(x, y)
    tooltip = page.get_by_text(re.compile(r"^Member .* data point")).first
    expect(tooltip).to_be_visible()
    point = re.search(r"data point (\d+)", tooltip.inner_text())[1]
    page.mouse.click(x, y)
    expect(page.get_by_label("Data point", exact=True)).to_have_value(point)
    expect(page.get_by_role("heading", name=f"Data point {point} class 9")).to_be_visible()
    page.keyboard.press("Escape")


@pytest.mark.slow
def test_a_panel_fills_the_window_and_goes_back_to_its_place(specialists):
    page = specialists
    section = page.get_by_role("region", name="Attraction")
    others = page.get_by_role("region", name="Landscape")
    before, beside = section.bounding_box(), others.bounding_box()
    button(page, "Enlarge: Attraction").click()
    box = section.bounding_box()
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 1440, 900)
    expect(button(page, "Enlarge: Attraction")).to_have_attribute("aria-pressed", "true")
    plot = section.locator(".plot").bounding_box()
    page.wait_for_function(
        "wide => Bokeh.index.find_one(seen('AttractionView').view.model).bbox.width > wide",
        arg=0.8 * plot["width"],
    )
    click_at(page, "AttractionView", 0.5, 0.5)  # it is as large as it looks
    expect(page.get_by_label("Parent B")).to_have_value("0")
    page.keyboard.press("Escape")
    assert section.bounding_box() == before
    assert others.bounding_box() == beside
    expect(button(page, "Enlarge: Attraction")).to_be_focused()


@pytest.mark.slow
def test_a_digit_is_drawn_with_the_mouse_or_the_keys_and_every_member_reads_it(specialists):
    page = specialists
    page.get_by_role("tab", name="Draw").click()
    canvas = page.get_by_role("application", name=re.compile("^Draw here"))
    box = canvas.bounding_box()
    places = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]  # a seven
    (x, y), *rest = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in places]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    readings = figure(page, "readings")
    expect(readings).to_contain_text("Of 2 members")
    expect(readings.get_by_role("listitem").nth(0)).to_have_text(re.compile(r"^A digits.*\d$"))
    specialist = readings.get_by_role("listitem").filter(has_text="digits 5–9")
    expect(specialist).to_contain_text(re.compile(r"7$"))
    button(page, "Clear").click()
    expect(readings).to_contain_text("each member of the archive says what it reads")
    canvas.focus()
    page.keyboard.press(" ")
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    expect(readings).to_contain_text("Of 2 members")
    expect(figure(page, "phase")).to_have_text("paused")  # the space was the pen's


def test_seeds_are_called_by_their_names_and_the_first_merge_says_why_it_is_better(specialists):
    page = specialists
    expect(figure(page, "attracted").locator("..")).to_contain_text(re.compile("digits .* solves"))
    button(page, "Merge").click()
    expect(figure(page, "gain")).to_have_text(
        re.compile(r"^It scores 7\d\.\d %, more than A \(.*\) and B \(.*\), because it keeps ")
    )
