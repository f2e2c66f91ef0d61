"""How soon the page shows something: its frame, its controls, every panel, and a first insight.

Serves the page that starts from two specialists and opens it in a Chromium, ``--visits`` times in
one profile. Times are in milliseconds from the moment at which the page begins to arrive. The
insight is what a visitor gets who presses nothing but Merge: a child that beats both parents.

    python benchmarks/first_paint.py [--visits 5]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import median

from browsing import button, figure, launched, profile, serving_lab
from findings import Finding, at_most
from playwright.sync_api import Page, sync_playwright

PANELS = ("Niches", "Attraction", "Progress", "Landscape")
"""Sections with a plot that is drawn at first."""

WATCH = """
const began = performance.timeOrigin, seen = window.__seen = {}
const all = (root) => [...root.querySelectorAll("*")].flatMap((element) =>
  [element, ...(element.shadowRoot ? all(element.shadowRoot) : [])])
const mark = (name) => { seen[name] ??= performance.now() }
const look = () => {
  const sections = [...document.querySelectorAll("main > section")]
  if (sections.length > 5) mark("frame")
  const header = document.querySelector("header")
  if (header && all(header).some((e) => e.textContent.trim() === "Run" && e.disabled === false))
    mark("controls")
  for (const section of sections) {
    const plots = [...section.querySelectorAll(".plot")]
    const plot = plots.find((p) => !p.closest("[aria-hidden=true]"))
    if (plot && all(plot).some((e) => e.tagName === "CANVAS")) mark(section.ariaLabel)
    if (all(section).some((e) => e.dataset?.testid === "answers" && e.children.length))
      mark("Answers")
  }
  setTimeout(look, 20)
}
look()
"""


def visit(page: Page, address: str) -> dict[str, float]:
    """Return when each part was there, in milliseconds since the page began to arrive."""
    page.goto(address)
    names = ("frame", "controls", *PANELS, "Answers")
    page.wait_for_function("names => names.every((n) => n in window.__seen)", arg=list(names))
    seen: dict[str, float] = page.evaluate("window.__seen")
    button(page, "Merge").click()
    figure(page, "gain").filter(has_text="more than A").wait_for()
    seen["insight"] = page.evaluate("performance.now()")
    navigation = "performance.getEntriesByType('navigation')[0].responseStart"
    arrived: float = page.evaluate(navigation)
    paint: float = page.evaluate("performance.getEntriesByType('paint')[0].startTime")
    return {"request to page": arrived} | {
        name: at - arrived for name, at in {"paint": paint, **seen}.items()
    }


def measured(visits: int) -> dict[str, list[float]]:
    """Return the milliseconds of each part over so many visits."""
    with serving_lab("--pretrained") as (lab, _), sync_playwright() as playwright:
        browser = launched(playwright)
        context = profile(browser)
        found: list[dict[str, float]] = []
        for _ in range(visits):
            page = context.new_page()
            page.add_init_script(WATCH)
            found.append(visit(page, lab.address))
            page.close()
        browser.close()
    return {name: [each[name] for each in found] for name in found[0]}


def findings(quick: bool) -> Iterator[Finding]:
    """Yield what a visitor waits for, in medians."""
    times = {name: median(each) for name, each in measured(3 if quick else 9).items()}
    panels = max(times[name] for name in (*PANELS, "Answers"))
    yield at_most("the page's frame is there after", times["frame"], 500, " ms", 0)
    yield at_most("every panel is there after", panels, 2500, " ms", 0)
    yield at_most("a child that beats both parents after", times["insight"], 10_000, " ms", 0)


def main() -> None:
    """Print the median and the worst of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=5)
    for name, times in measured(parser.parse_args().visits).items():
        print(f"{name:16} {median(times):7.0f} ms, at most {max(times):7.0f} ms")


if __name__ == "__main__":
    main()
