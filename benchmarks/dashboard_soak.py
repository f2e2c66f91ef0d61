"""Many pages, clicked on at random for minutes: does anything break, and does memory stay flat?

Serves the dashboard, opens pages on it and presses buttons, tabs, choices, cells, keys and rows at
random, drawn from a seed. Then closes all and opens some more, one after another. Fails on an
error or traceback in the server's log, on an error in a page or its console, on a failed or
outside request, on memory that grows, and on a search that goes on after its page was closed.

Memory is the server's resident set, and the heaps of all pages after a garbage collection each.
What the searches on the pages write down on purpose is taken off the server's: their history, a
fixed number of bytes a step. Over the second half of the run a Theil-Sen slope is fitted to each;
memory grows if the lower end of the slope's 95 % interval is above the limit. That is not judged in
runs under five minutes, because caches and allocators still fill up then. Event listeners are
printed and never judged: Panel's buttons add two each time that they are drawn.

What a page leaves behind in the server is judged in every run, in the same way.

    python benchmarks/dashboard_soak.py [--minutes 10] [--pages 8] [--seed 0]
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from actions import ACTIONS, compare, opened, unfold
from browsing import Lab, button, faults, launched, logged, profile, serving_lab, steps, waited
from findings import Finding
from playwright.sync_api import BrowserContext, CDPSession, Error, Page, sync_playwright
from playwright.sync_api import TimeoutError as Vanished
from scipy.stats import theilslopes

from m2n2lab.core.history import COLUMNS

ROW = 8 * len(COLUMNS)
"""Bytes of history a step."""

JUDGED_FROM = 5.0
"""Minutes from which on memory is judged."""

LIMITS = {"server, MB": 2.0, "pages, MB": 1.0, "DOM nodes": 100.0, "listeners": math.inf}
"""Most growth a minute, over all pages."""

RARE = ("?pretrained=1", "?method=cma-es")
"""Searches that load libraries of their own, 90 MB, when the first of them starts: they are visited
before anything is measured."""

TABS = ("Lineage", "Seeds", "Members", "Compare", "Progress")
"""Of a page: what is in one is made when it is first seen, which is not growth."""

VISITS = 12
FEW_VISITS = 3
"""Pages opened and closed one after the other; few in a short soak, which judges nothing."""

LEFT = 3.0
"""Most megabytes that a page may leave behind when it is closed, over the later half of these."""

IDLE = 10.0
"""Most per cent of a processor that the server may take when all pages are closed."""


class Trend(NamedTuple):
    """How fast something grows, and whether that is too much."""

    slope: float
    low: float
    high: float
    grows: bool


def trend(at: Sequence[float], values: Sequence[float], limit: float) -> Trend:
    """Return the trend over the second half.

    Args:
        at, values: when and how much, at least four of each.
        limit: most growth between one and the next whole number of ``at``.
    """
    half = (at[0] + at[-1]) / 2
    late, much = zip(*((x, v) for x, v in zip(at, values, strict=True) if x >= half), strict=True)
    slope, _, low, high = theilslopes(much, late, alpha=0.95)
    return Trend(float(slope), float(low), float(high), bool(low > limit))


def judge(name: str, found: Trend, limit: float, judged: bool) -> list[str]:
    """Print a trend and return what is wrong with it, if it is to be ``judged``."""
    word = "too short to judge" if not judged else "grows" if found.grows else "flat"
    rest = "not judged" if limit == math.inf else f"limit {limit:g}   {word}"
    print(f"  {name:28}{found.slope:8.2f}   (95 %: {found.low:.2f} to {found.high:.2f})   {rest}")
    return [f"memory: {name} grows"] if judged and found.grows else []


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
        told = "".join(f"{name:>12}" for name in LIMITS)
        print(f"{'minute':>9}{'steps':>12}{'searches':>10}{'resident':>10}{told}")

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
            f"  {self.minutes[-1]:7.1f}{taken:12,}{self._lab.searches:10}{resident / 1e6:10.1f}"
            + "".join(f"{values[-1]:12,.1f}" for values in self.values.values()),
            flush=True,
        )

    def judge(self, judged: bool) -> list[str]:
        """Print the trends and return what grows, if that is to be ``judged``."""
        print("growth a minute over the second half, all pages together")
        found = {n: trend(self.minutes, self.values[n], limit) for n, limit in LIMITS.items()}
        return [w for n, limit in LIMITS.items() for w in judge(n, found[n], limit, judged)]


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


def soak(lab: Lab, context: BrowserContext, options: argparse.Namespace) -> list[str]:
    """Do it all and return what went wrong."""
    for query in RARE:
        visit(lab, context, query)
    pages = [context.new_page() for _ in range(options.pages)]
    crowd = Crowd(pages, options.seed)
    draw = random.Random(options.seed)
    for page in pages:
        button(lab.open(page), "Run").click()
        for name in TABS:
            opened(page, draw, name)
        unfold(page)
        compare(page, draw)  # or searches beside others would be added more often than removed
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
    return wrong + left_behind(lab, pages) + visits(lab, context, long)


def left_behind(lab: Lab, pages: Sequence[Page]) -> list[str]:
    """Close all pages and return what of their searches goes on."""
    most = lab.searches
    for page in pages:
        page.close()
    seconds = waited(lambda: not lab.searches)
    left, busy = lab.searches, lab.process.cpu_percent(interval=3.0)
    print(f"{left} of {most} searches go on {seconds:.1f} s after all pages were closed")
    print(f"the server then takes {busy:.0f} % of a processor, limit {IDLE:.0f} %")
    wrong = [f"{left} searches never ended"] if left else []
    return wrong + (["the server is busy without a page"] if busy > IDLE else [])


def visit(lab: Lab, context: BrowserContext, query: str = "") -> float:
    """Open a page, let it run a second, close it, and return the server's megabytes then."""
    page = lab.open(context.new_page(), query)
    button(page, "Run").click()
    page.wait_for_timeout(1000)
    lab.close(page)
    return float(lab.process.memory_info().rss / 1e6)


def visits(lab: Lab, context: BrowserContext, long: bool) -> list[str]:
    """Visit page after page, and return whether they leave too much behind; few do not tell."""
    count = VISITS if long else FEW_VISITS
    resident = [visit(lab, context) for _ in range(count)]
    print(f"resident after each of {count} visits: " + " ".join(f"{r:.0f}" for r in resident))
    return judge("left by a page, MB", trend(range(count), resident, LEFT), LEFT, long)


def soaked(options: argparse.Namespace) -> list[str]:
    """Serve the dashboard, do it all and return what went wrong."""
    with serving_lab() as (lab, log), sync_playwright() as playwright:
        browser = launched(playwright)
        try:
            wrong = soak(lab, profile(browser), options)
        except RuntimeError as error:  # the server ended
            wrong = [str(error)]
        browser.close()
        return wrong + logged(log)


def findings(quick: bool) -> Iterator[Finding]:
    options = arguments().parse_args(["--minutes", "0.4", "--pages", "2"] if quick else [])
    wrong = soaked(options)
    what = f"{options.pages} pages clicked at random for {options.minutes:g} minutes: went wrong"
    yield Finding(what, "; ".join(wrong) or "nothing", "nothing", not wrong)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pages", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    wrong = soaked(arguments().parse_args())
    if wrong:
        raise SystemExit("\n".join(["What went wrong:", *wrong]))
    print("nothing went wrong")


if __name__ == "__main__":
    main()
