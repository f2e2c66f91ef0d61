"""The page without a mouse, without colours and at every width; axe-core finds no fault."""

import pytest
from helpers.pages import ROOT, button, drawn, figure, opened
from playwright.sync_api import expect

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

VIOLATIONS = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] })
  return violations.filter(({ impact }) => impact !== "minor")
    .map(({ id, impact, nodes }) => [impact, id, ...nodes.map(({ html }) => html.slice(0, 200))])
}"""

SMALL = """() => everything(document).filter((e) => e.matches("button, summary, select, input"))
  .map((e) => [e, e.getBoundingClientRect()])
  .filter(([e, box]) => box.width && e.checkVisibility({ visibilityProperty: true })
    && !["checkbox", "range"].includes(e.type) && (box.width < 23.5 || box.height < 23.5))
  .map(([e, box]) => `${e.textContent || e.id} ${box.width} x ${box.height}`)"""
"""Controls that are smaller than 24 pixels; those in a table of members are as high as its rows."""

NAMELESS = """() => everything(document).filter((e) => e.tabIndex >= 0
    && e.checkVisibility({ visibilityProperty: true })
    && !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
  .map((e) => e.outerHTML.slice(0, 150))"""
"""Places where the Tab key stops, without a name."""

SIZES = {"1280": (1280, 720), "1440": (1440, 900), "390": (390, 844), "320": (320, 640)}


def begun(page, address):
    """Open the page, and wait until it shows ten steps."""
    opened(page, address)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    return drawn(page, "AttractionView", "NichesView", "CurvesView")


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_on_any_tab_or_in_any_drawer(page, lab, theme):
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make axe")
    begun(page, f"{lab}?theme={theme}")
    page.evaluate(AXE.read_text())
    found = {"page": page.evaluate(VIOLATIONS)}
    for tab in page.get_by_role("tab").all():
        tab.click()
        name = tab.inner_text()
        if name == "Members":
            page.locator("table.members tbody tr").first.click()
            expect(page.locator("#members .page h3")).to_be_visible()
        page.wait_for_timeout(500)
        found[name] = page.evaluate(VIOLATIONS)
    for name in ("Setup", "Runs"):
        page.get_by_text(name, exact=True).click()
        page.wait_for_timeout(500)
        found[name] = page.evaluate(VIOLATIONS)
        page.keyboard.press("Escape")
    page.get_by_label("Formula: Merge bench").click()
    expect(page.locator("#formula")).to_be_visible()
    page.wait_for_timeout(500)
    found["formula"] = page.evaluate(VIOLATIONS)
    page.keyboard.press("Escape")
    button(page, "Tour").click()
    page.wait_for_timeout(500)
    found["tour"] = page.evaluate(VIOLATIONS)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.slow
def test_every_control_has_a_name_a_size_and_a_state_and_keys_can_be_switched_off(page, lab):
    begun(page, lab)
    drawn(page, "LandscapeView")
    page.wait_for_timeout(500)
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(SMALL) == []
    worth, solved = button(page, "worth"), button(page, "solved")
    expect(worth).to_have_attribute("aria-pressed", "true")
    solved.click()
    expect(solved).to_have_attribute("aria-pressed", "true")
    expect(worth).to_have_attribute("aria-pressed", "false")
    for name in ("Step", "Merge", "worth"):
        button(page, name).focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        style = button(page, name).evaluate("e => getComputedStyle(e).outline")
        assert "solid 2px" in style

    body = page.get_by_text("who solves what")
    body.click()
    page.keyboard.press("s")
    expect(figure(page, "step")).to_have_text("11")
    page.get_by_text("Setup", exact=True).click()
    page.get_by_label("Keys: space runs and pauses, s steps").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Keys: space runs and pauses, s steps")).to_be_hidden()
    body.click()
    page.keyboard.press("s")
    page.wait_for_timeout(500)
    expect(figure(page, "step")).to_have_text("11")
    page.evaluate("localStorage.removeItem('shortcuts')")


@pytest.mark.slow
def test_escape_and_a_click_elsewhere_close_drawers_and_notes(page, lab):
    opened(page, lab)
    for opener, inside in (
        (page.get_by_text("Setup", exact=True), page.get_by_label("Method", exact=True)),
        (page.get_by_label("About: Niches"), page.locator("[aria-label=Niches] [role=note]")),
    ):
        for close in (
            lambda: page.keyboard.press("Escape"),
            lambda: page.get_by_role("heading", name="m2n2lab").click(),
        ):
            opener.click()
            expect(inside).to_be_visible()
            close()
            expect(inside).to_be_hidden()


OVERLAPS = """() => {
  const box = (e) => e?.getBoundingClientRect()
  const find = (name) => everything(document).find((e) => e.dataset.testid === name)
  const section = box(document.querySelector('section[aria-label="Merge bench"]'))
  const verdict = box(find("verdict")), wrong = []
  const buttons = everything(document.querySelector('section[aria-label="Merge bench"]'))
    .filter((e) => e.tagName === "BUTTON" && box(e).width)
  for (const button of buttons) {
    const at = box(button)
    if (at.bottom > verdict.top + 1 && at.top < verdict.bottom - 1 && at.right > verdict.left
        && at.left < verdict.right) wrong.push(`verdict under ${button.textContent}`)
  }
  if (verdict.bottom > section.bottom) wrong.push("verdict cut off")
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("wider than the window")
  // No control alone on a line of the header.
  const controls = everything(document.querySelector("header"))
    .filter((e) => e.matches("button, summary, select") && box(e).width
      && !e.closest?.(".drawer, .invitation, .bubble") && e.checkVisibility()
      && getComputedStyle(e).position !== "absolute")
  for (const one of controls) {
    const middle = box(one).top + box(one).height / 2
    const near = controls.filter((other) => other !== one
      && box(other).top < middle && box(other).bottom > middle)
    if (!near.length) wrong.push(`${one.textContent.slice(0, 20)} alone on a line`)
  }
  return wrong
}"""


def test_nothing_is_cut_covered_or_alone_on_a_line_at_any_width(page, lab):
    begun(page, lab)
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(700)
        assert (width, page.evaluate(OVERLAPS)) == (width, [])
    page.set_viewport_size({"width": 1440, "height": 900})


@pytest.mark.slow
def test_in_forced_colours_the_strip_the_tab_and_the_toggle_can_be_told(page, lab):
    page.emulate_media(forced_colors="active")
    begun(page, lab)
    shown = "e => getComputedStyle(e).backgroundColor"
    parts = [page.locator(f".part.{name}.before").evaluate(shown) for name in "ab"]
    assert parts[0] != parts[1]
    tabs = [
        page.get_by_role("tab", name=name).evaluate("e => getComputedStyle(e).borderBottomColor")
        for name in ("Progress", "Lineage")
    ]
    assert tabs[0] != tabs[1]
    toggles = [button(page, name).evaluate(shown) for name in ("worth", "solved")]
    assert toggles[0] != toggles[1]
    # Without colours at all: B is striped, and rows have letters.
    assert "gradient" in page.locator(".part.b.before").evaluate(
        "e => getComputedStyle(e).backgroundImage"
    )
    page.emulate_media(forced_colors="none")
