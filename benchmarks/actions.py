"""What can be done to a page of the dashboard, at random; the soak does it for minutes."""

from __future__ import annotations

import random
from collections.abc import Callable

from browsing import click_at, steps
from playwright.sync_api import Page

RENEWS = "^Reset$"
ADDS = "^(Add run|Branch from here)$"
FILES = "History|All members|Python script"
LEAVES = f"{RENEWS}|{ADDS}|^(Replace this run|Add as a new run|({FILES}) .*|Switch to .*)$"
"""Buttons that are not pressed like any other: they end or add searches, make files, or leave. A
search on other settings takes other memory, a pair of language models 150 MB: none is started."""

QUICK = 3_000
"""Milliseconds that a click may wait for something that has just gone."""


def press(page: Page, draw: random.Random, selector: str, only: str = "") -> bool:
    """Click on one of the parts that can be seen and used, by its name if ``only`` is given."""
    found = page.evaluate(SPOT, [selector, draw.random(), only, "^$" if only else LEAVES])
    if found:
        page.mouse.click(*found)
    return bool(found)


SPOT = "wanted => inside.spot(...wanted)"


def any_button(page: Page, draw: random.Random) -> bool:
    return press(page, draw, "button")


def transport(page: Page, draw: random.Random) -> bool:
    """Run what is paused, and now and then pause what runs."""
    return press(page, draw, "button", "^Run$") or (
        draw.random() < 0.3 and press(page, draw, "button", "^Pause$")
    )


def by_hand(page: Page, draw: random.Random) -> bool:
    return press(page, draw, "button", "^(Merge|Undo|Search’s next child)$")


def tab(page: Page, draw: random.Random) -> bool:
    return press(page, draw, "[role=tab]")


def choice(page: Page, draw: random.Random) -> bool:
    """Choose something from a list, but no other task: a stray click on Start would begin it."""
    boxes = page.get_by_role("combobox").all()
    found = [each for each in boxes if each.is_visible() and each.is_enabled()]
    if found:
        chosen = draw.choice(found)
        if chosen.and_(page.get_by_label("Task", exact=True)).count():
            return False
        chosen.select_option(index=draw.randrange(chosen.locator("option").count()), timeout=QUICK)
    return bool(found)


def cell(page: Page, draw: random.Random) -> bool:
    members = page.evaluate("inside.members()")
    if members:
        click_at(page, "AttractionView", draw.uniform(0, members), draw.uniform(0, members))
    return bool(members)


def place(page: Page, draw: random.Random) -> bool:
    there = page.evaluate("inside.plot('LandscapeView') !== undefined")
    if there:
        click_at(page, "LandscapeView", draw.random(), draw.random())
    return bool(there)


def slide(page: Page, draw: random.Random) -> bool:
    """Move the split or another slider with the keyboard."""
    found = page.evaluate(SPOT, ["[role=slider]", draw.random()])
    for _ in range(draw.randint(1, 8) if found else 0):
        page.keyboard.press(draw.choice(KEYS))
    return bool(found)


KEYS = ("ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End")


def number(page: Page, draw: random.Random) -> bool:
    """Type a number into a field: of a parent who lives, lived or never did, or of a split."""
    found = page.evaluate(SPOT, ["input", draw.random(), "^(Parent A|Parent B|Split at)$"])
    if found:
        page.keyboard.type(str(draw.randrange(max(steps(page), 2))))
        page.keyboard.press("Enter")
    return bool(found)


def setup(page: Page, draw: random.Random) -> bool:
    return press(page, draw, "summary, button", "^Setup$")


def about(page: Page, draw: random.Random) -> bool:
    return press(page, draw, "summary, button", "^About: ")


def unfold(page: Page) -> None:
    """Open and close all that can be: explanations, the setup, menus."""
    for part in page.locator("summary").all():
        for _ in range(2):
            part.evaluate("part => part.click()")
            page.wait_for_timeout(50)


def renew(page: Page, draw: random.Random) -> bool:
    """Start the search on the page again."""
    return press(page, draw, "button", RENEWS)


def opened(page: Page, draw: random.Random, name: str) -> bool:
    """Open a tab and wait a little: what is in it comes when it is seen."""
    there = press(page, draw, "[role=tab]", f"^{name}$")
    page.wait_for_timeout(1000)
    return there


def compare(page: Page, draw: random.Random) -> bool:
    """Set another search beside the one on the page, or remove one of two."""
    return opened(page, draw, "Compare") and (
        press(page, draw, "button", "^Remove ") or press(page, draw, "button", ADDS)
    )


def row(page: Page, draw: random.Random) -> bool:
    """Choose a member in the table."""
    return opened(page, draw, "Members") and press(page, draw, ROWS)


def life(page: Page, draw: random.Random) -> bool:
    """Choose a member in the lineage."""
    if not opened(page, draw, "Lineage"):
        return False
    box = page.get_by_role("tabpanel", name="Lineage").locator("canvas").first.bounding_box()
    if box is not None:
        x, y = box["width"] * draw.random(), box["height"] * draw.random()
        page.mouse.click(box["x"] + x, box["y"] + y)
    return box is not None


def key(page: Page, draw: random.Random) -> bool:
    page.keyboard.press(draw.choice([" ", "s", "Escape"]))
    return True


ROWS = "table[aria-label='living members'] tr"

Action = Callable[[Page, random.Random], bool]
ACTIONS: dict[Action, float] = {
    **{any_button: 4, transport: 5, by_hand: 3, tab: 3, choice: 1, cell: 4, place: 3, slide: 3},
    **{number: 1, setup: 1, about: 1, row: 2, life: 2, key: 2, compare: 0.3, renew: 0.2},
}
"""What is done, and how often; each returns whether there was something to do it to."""
