"""The tour in a real browser: walked by hand, by its own help, skipped, and offered once."""

import re

import pytest
from helpers.pages import PATIENCE, button, click_at, figure, opened, steps
from playwright.sync_api import expect

MIX = "Mix, the share of B before the split"
CONTROLS = ("Merge", "×10", None, MIX, "Run", "Run", "Undo")
"""What is to be used at each stop; the matrix itself at the third."""

OTHERS = """own => {
    const all = root => [...root.querySelectorAll("*")].flatMap(
        element => [element, ...(element.shadowRoot ? all(element.shadowRoot) : [])])
    return all(document.body)
        .filter(element => element.matches("button, input, select, a, summary, canvas, [role]"))
        .filter(element => !own.contains(element) && element.checkVisibility())
        .map(element => [element.outerHTML.slice(0, 80), element.getBoundingClientRect().toJSON()])
}"""
"""What could be clicked on, with its place, except for what is inside of an element."""


def apart(a, b):
    """Whether two boxes share no pixel."""
    beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    return beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


def outlined(page, section):
    region = page.get_by_role("region", name=section, exact=True)
    return region.evaluate("element => element.style.outlineStyle") == "solid"


def place(page, number):
    expect(page.get_by_role("dialog")).to_contain_text(f"{number} of 7", timeout=PATIENCE)


def control(page, name):
    if name is None:
        return page.get_by_role("region", name="Attraction").locator("canvas").first
    if name in (MIX, "split point"):
        return page.get_by_role("slider", name=name)
    return button(page, name)


@pytest.fixture
def toured(page, lab):
    """A page with the tour at its first stop."""
    page.emulate_media(reduced_motion="reduce")
    opened(page, lab)
    button(page, "Tour").click()
    place(page, 1)
    expect(button(page, "Merge")).to_be_enabled()  # of the two specialists
    return page


@pytest.mark.slow
def test_the_tour_is_walked_by_hand_from_a_child_that_beats_both_to_a_search_from_scratch(toured):
    page, bubble = toured, toured.get_by_role("dialog")
    hint = figure(page, "tour-hint")
    expect(bubble).to_be_focused()
    assert outlined(page, "Merge bench")
    expect(page.locator(".title")).to_contain_text("pre-trained")  # the server is from scratch
    button(page, "Merge").click()
    expect(hint).to_contain_text("It scores 76.5 %, more than A (49.1 %) and B (48.2 %)")
    expect(hint).to_have_class("hint done")
    expect(figure(page, "gain")).to_have_text(hint.inner_text())

    place(page, 2)
    assert (outlined(page, "Merge bench"), outlined(page, "Niches")) == (False, True)
    button(page, "×10").click()
    expect(hint).to_contain_text("13 members share the points")

    place(page, 3)
    matrix = page.get_by_role("region", name="Attraction")
    assert apart(bubble.bounding_box(), matrix.bounding_box())
    click_at(page, "AttractionView", 1.5, 0.5)  # the weakest meets the second
    expect(hint).to_have_text(re.compile(r"^\d+ and \d+ are on the bench\.$"))
    a, b = re.findall(r"\d+", hint.inner_text())
    expect(page.get_by_label("Parent A")).to_have_value(a)
    expect(page.get_by_label("Parent B")).to_have_value(b)

    place(page, 4)
    handle = control(page, "split point")
    handle.press("Shift+ArrowLeft")
    expect(hint).to_contain_text("Move the mix away from 0.50")
    mix = control(page, CONTROLS[3])
    mix.press("ArrowLeft")
    expect(hint).to_have_text(re.compile(r"^This child would "))

    place(page, 5)
    expect(mix).to_be_focused()  # moving it is not interrupted
    button(page, "Next").click()

    place(page, 6)
    expect(bubble).to_be_focused()
    expect(page.locator(".title")).not_to_contain_text("pre-trained")
    expect(figure(page, "step")).to_have_text("0")
    button(page, "Run").click()
    expect(hint).to_contain_text("Press Pause", timeout=PATIENCE)
    button(page, "Pause").click()
    expect(hint).to_contain_text("Niches: ", timeout=PATIENCE)

    place(page, 7)
    button(page, "Finish").click()
    expect(bubble).to_have_count(0)
    expect(button(page, "Tour")).to_be_focused()
    assert not outlined(page, "Merge bench")


@pytest.mark.slow
def test_all_stops_are_done_for_the_person_with_the_keyboard(toured):
    page, hint = toured, figure(toured, "tour-hint")
    done = ("It scores 76.5 %", "13 members", "are on the bench", "would", "solves", "Niches:")
    for number, text in enumerate(done, 1):
        place(page, number)
        # The first of the bubble's buttons; space on it is no command for the page.
        page.keyboard.press("Tab")
        expect(button(page, "Do it for me")).to_be_focused()
        page.keyboard.press(" ")
        expect(hint).to_contain_text(text, timeout=PATIENCE)
        expect(button(page, "Next")).to_be_focused()
        expect(figure(page, "phase")).to_have_text("paused", timeout=PATIENCE)
    place(page, 7)
    expect(figure(page, "step")).to_have_text("500")
    expect(button(page, "Do it for me")).to_have_count(0)
    button(page, "Finish").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.slow
def test_escape_and_skip_end_it_at_any_moment(toured):
    page, bubble = toured, toured.get_by_role("dialog")
    button(page, "Next").click()
    button(page, "Next").click()
    place(page, 3)
    page.keyboard.press("Escape")
    expect(bubble).to_have_count(0)
    assert not outlined(page, "Merge bench")
    button(page, "Tour").click()
    place(page, 1)
    control(page, "split point").press("Escape")  # from anywhere on the page
    expect(bubble).to_have_count(0)
    button(page, "Tour").click()
    button(page, "Skip tour").click()
    expect(bubble).to_have_count(0)
    button(page, "Tour").click()
    place(page, 1)
    button(page, "Tour").click()
    expect(bubble).to_have_count(0)
    assert steps(page) == 0


@pytest.mark.slow
def test_space_still_runs_and_pauses_while_the_bubble_has_the_focus(toured):
    toured.keyboard.press(" ")
    expect(figure(toured, "phase")).to_have_text("running", timeout=PATIENCE)
    toured.keyboard.press(" ")
    expect(figure(toured, "phase")).to_have_text("paused", timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 800), (390, 844)])
def test_what_is_to_be_used_is_never_covered(toured, width, height):
    page, bubble = toured, toured.get_by_role("dialog")
    page.set_viewport_size({"width": width, "height": height})
    button(page, "Skip tour").click()
    expect(bubble).to_have_count(0)
    button(page, "Tour").click()
    for number, name in enumerate(CONTROLS, 1):
        place(page, number)
        page.wait_for_timeout(600)  # until it has been placed again
        # In a narrow window the bubble itself has what is in the page's header.
        own = bubble.get_by_role("button", name=f"{name} (tour)", exact=True)
        used = control(page, name).bounding_box()
        box, used = bubble.bounding_box(), own.bounding_box() if own.is_visible() else used
        assert own.is_visible() == (width < 900 and name in ("×10", "Run"))
        assert own.is_visible() or apart(box, used)
        assert used["y"] >= 0
        assert used["y"] + used["height"] <= height
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height
        if width < 900:
            assert box["y"] + box["height"] >= height - 10
        button(page, "Next" if number < len(CONTROLS) else "Finish").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_the_invitation_is_shown_once_and_covers_nothing(browser, lab):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = opened(context.new_page(), lab)
    invitation = page.get_by_text("New here?").locator("..")
    expect(invitation).to_be_visible()
    assert page.evaluate("document.activeElement === document.body")
    for width, height in ((1440, 900), (1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(600)
        box = invitation.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        others = invitation.evaluate(OTHERS)
        assert len(others) > 20
        assert [name for name, other in others if not apart(box, other)] == []
    high = page.locator("header").bounding_box()["height"]
    button(page, "No thanks").click()
    expect(invitation).to_be_hidden()
    assert page.locator("header").bounding_box()["height"] < high
    opened(page, lab)
    expect(button(page, "Tour")).to_be_visible()
    expect(invitation).to_be_hidden()
    context.close()


@pytest.mark.slow
def test_after_a_start_from_the_invitation_there_is_no_other(browser, lab):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = opened(context.new_page(), lab)
    page.get_by_role("button", name="Start the tour").click()
    place(page, 1)
    expect(page.get_by_text("New here?")).to_be_hidden()
    opened(page, lab)
    expect(button(page, "Tour")).to_be_visible()
    expect(page.get_by_text("New here?")).to_be_hidden()
    context.close()
