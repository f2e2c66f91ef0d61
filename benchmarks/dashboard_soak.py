"""Many pages, clicked on at random for minutes: does anything break, and does memory stay flat?

Serves the dashboard, opens pages on it and presses buttons, tabs, choices, cells, keys and rows at
random, drawn from a seed. Fails on an error or traceback in the server's log, on an error in a
page or its console, on a failed or outside request, on memory that grows, and on a search that
goes on after its page was closed.

Memory is the server's resident set, and the heaps of all pages after a garbage collection each.
What the searches write down on purpose is taken off the server's: their history, a fixed number of
bytes a step. Over the second half of the run a Theil-Sen slope is fitted to each; memory grows if
the lower end of the slope's 95 % interval is above the limit. Nothing is judged in runs under five
minutes, because caches and allocators still fill up then.

    python benchmarks/dashboard_soak.py [--minutes 10] [--pages 8] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from browsing import Lab, button, click_at, faults, launched, profile, serving_lab, steps, waited
from playwright.sync_api import BrowserContext, CDPSession, Error, Page, sync_playwright
from playwright.sync_api import TimeoutError as Vanished
from scipy.stats import theilslopes

from m2n2lab.history import COLUMNS

ROW = 8 * len(COLUMNS)
"""Bytes of history a step."""

JUDGED_FROM = 5.0
"""Minutes from which on memory is judged."""

LIMITS = {"server, MB": 2.0, "pages, MB": 1.0, "DOM nodes": 100.0, "listeners": 50.0}
"""Most growth a minute, over all pages."""

RENEWS = "^(Reset|Start anew)$"
ADDS = "^Add run$"
LEAVES = f"{RENEWS}|{ADDS}|^(Start beside|History|Archive|Code|light or dark)$"
"""Buttons that are not pressed like any other: they end or add searches, make files, or leave."""

QUICK = 3_000
"""Milliseconds that a click may wait for something that has just gone."""


IDLE = 10.0
"""Most per cent of a processor that the server may take when all pages are closed."""

LINES = 60
"""Lines of the server's log that are printed from an error on."""


class Trend(NamedTuple):
    """How fast something grows, a minute, and whether that is too much."""

    slope: float
    low: float
    high: float
    grows: bool


def trend(minutes: Sequence[float], values: Sequence[float], limit: float) -> Trend:
    """Return the trend over the second half.

    Args:
        minutes, values: when and how much, at least four of each.
        limit: most growth a minute.
    """
    half = (minutes[0] + minutes[-1]) / 2
    late = [(m, v) for m, v in zip(minutes, values, strict=True) if m >= half]
    at, much = zip(*late, strict=True)
    slope, _, low, high = theilslopes(much, at, alpha=0.95)
    return Trend(float(slope), float(low), float(high), bool(low > limit))


# -- what can be done to a page: each returns whether there was something to do it to -------------


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
    return press(page, draw, "button", "^(Merge|Undo|Edit next proposal)$")


def tab(page: Page, draw: random.Random) -> bool:
    return press(page, draw, "[role=tab]")


def choice(page: Page, draw: random.Random) -> bool:
    found = [each for each in page.get_by_role("combobox").all() if each.is_visible()]
    if found:
        chosen = draw.choice(found)
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


def renew(page: Page, draw: random.Random) -> bool:
    """Start the search on the page again."""
    return press(page, draw, "button", RENEWS)


def compare(page: Page, draw: random.Random) -> bool:
    """Set another search beside the one on the page, or remove one of two."""
    return press(page, draw, "[role=tab]", "^Compare$") and (
        press(page, draw, "button", "^Remove ") or press(page, draw, "button", ADDS)
    )


def row(page: Page, draw: random.Random) -> bool:
    """Choose a member in the table, which is in a tab."""
    return press(page, draw, "[role=tab]", "^Members$") and press(page, draw, ROWS)


def life(page: Page, draw: random.Random) -> bool:
    """Choose a member in the lineage, which is in a tab."""
    if not press(page, draw, "[role=tab]", "^Lineage$"):
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
"""What is done, and how often."""


def logged(log: Path) -> list[str]:
    """Return the server's log from its first error on."""
    lines = log.read_text(errors="replace").splitlines()
    bad = (k for k, text in enumerate(lines) if re.search("error|traceback", text, re.I))
    first = next(bad, len(lines))
    return [f"log: {text}" for text in lines[first : first + LINES]]


# -- watching --------------------------------------------------------------------------------------


class Watch:
    """Takes the memory of the server and of the pages."""

    def __init__(self, lab: Lab, pages: Sequence[Page]) -> None:
        self._lab = lab
        self._pages = pages
        self._clients: list[CDPSession] = [p.context.new_cdp_session(p) for p in pages]
        for client in self._clients:
            client.send("HeapProfiler.enable")
        self._began = time.monotonic()
        self.minutes: list[float] = []
        self.values: dict[str, list[float]] = {name: [] for name in LIMITS}
        print(f"{'minute':>9}{'steps':>12}{'resident':>10}" + "".join(f"{n:>12}" for n in LIMITS))

    def sample(self) -> None:
        """Take and print one line."""
        taken = sum(steps(page) for page in self._pages)
        heaps, nodes, listeners = 0.0, 0, 0
        for client in self._clients:
            client.send("HeapProfiler.collectGarbage")
            heaps += client.send("Runtime.getHeapUsage")["usedSize"]
            counters = client.send("Memory.getDOMCounters")
            nodes, listeners = nodes + counters["nodes"], listeners + counters["jsEventListeners"]
        resident = self._lab.process.memory_info().rss
        self.minutes.append((time.monotonic() - self._began) / 60)
        now = ((resident - ROW * taken) / 1e6, heaps / 1e6, nodes, listeners)
        for values, value in zip(self.values.values(), now, strict=True):
            values.append(value)
        print(
            f"  {self.minutes[-1]:7.1f}{taken:12,}{resident / 1e6:10.1f}"
            + "".join(f"{values[-1]:12,.1f}" for values in self.values.values()),
            flush=True,
        )

    def judge(self, judged: bool) -> list[str]:
        """Print the trends and return what grows, if that is to be ``judged``."""
        print("growth a minute over the second half, all pages together")
        wrong = []
        for name, limit in LIMITS.items():
            found = trend(self.minutes, self.values[name], limit)
            word = ("grows" if found.grows else "flat") if judged else "too short to judge"
            print(
                f"  {name:14}{found.slope:10.2f}   (95 %: {found.low:.2f} to {found.high:.2f}, "
                f"limit {limit:g})   {word}"
            )
            if judged and found.grows:
                wrong.append(f"memory: {name} grows")
        return wrong


class Crowd:
    """Clicks on pages at random and keeps count."""

    def __init__(self, pages: Sequence[Page], seed: int) -> None:
        self._pages = pages
        self._draw = random.Random(seed)
        self._seen = {page: faults(page) for page in pages}
        self._done = Counter[str]()
        self._missed = Counter[str]()
        self._failed = Counter[str]()

    def act(self) -> None:
        """Do one thing to one page."""
        page = self._draw.choice(self._pages)
        (action,) = self._draw.choices([*ACTIONS], [*ACTIONS.values()])
        name = action.__name__
        try:
            (self._done if action(page, self._draw) else self._missed)[name] += 1
        except Vanished:  # between the look and the click
            self._missed[name] += 1
        except Error as error:
            self._failed[f"{name}: {error.message.splitlines()[0]}"] += 1

    def report(self, everything: bool) -> list[str]:
        """Print what was done and return what went wrong.

        Args:
            everything: there was time for every action, so one that was never done is wrong.
        """
        counts = ", ".join(f"{name} {count}" for name, count in self._done.most_common())
        missed = ", ".join(f"{name} {count}" for name, count in self._missed.most_common())
        print(f"{self._done.total():,} actions: {counts}")
        print(f"not there or not to be used: {missed or 'none'}")
        wrong = [f"{count} times {what}" for what, count in self._failed.items()]
        for number, seen in enumerate(self._seen.values(), 1):
            wrong += [f"page {number}: {what}" for what in dict.fromkeys(seen)]
        if everything:
            wrong += [f"never done: {a.__name__}" for a in ACTIONS if not self._done[a.__name__]]
        return wrong


def soak(lab: Lab, log: Path, context: BrowserContext, options: argparse.Namespace) -> list[str]:
    """Do it all and return what went wrong."""
    pages = [context.new_page() for _ in range(options.pages)]
    crowd = Crowd(pages, options.seed)
    for page in pages:
        button(lab.open(page), "Run").click()
    watch = Watch(lab, pages)
    end, every = time.monotonic() + 60 * options.minutes, max(0.6 * options.minutes, 2.0)
    due = 0.0
    while (now := time.monotonic()) < end:
        if now >= due:
            watch.sample()
            # Collecting garbage takes a while on a busy machine; clicks shall have most of it.
            due = time.monotonic() + max(every, 4 * (time.monotonic() - now))
        crowd.act()
    watch.sample()
    long = options.minutes >= JUDGED_FROM
    wrong = crowd.report(long) + watch.judge(long)
    most = lab.searches
    for page in pages:
        page.close()
    seconds = waited(lambda: not lab.searches)
    left, busy = lab.searches, lab.process.cpu_percent(interval=3.0)
    print(f"{left} of {most} searches go on {seconds:.1f} s after all pages were closed")
    print(f"the server then takes {busy:.0f} % of a processor, limit {IDLE:.0f} %")
    wrong += [f"{left} searches never ended"] if left else []
    wrong += ["the server is busy without a page"] if busy > IDLE else []
    return wrong + logged(log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pages", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with serving_lab() as (lab, log), sync_playwright() as playwright:
        browser = launched(playwright)
        wrong = soak(lab, log, profile(browser), options)
        browser.close()
    if wrong:
        raise SystemExit("\n".join(["What went wrong:", *wrong]))
    print("nothing went wrong")


if __name__ == "__main__":
    main()
