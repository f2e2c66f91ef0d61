"""How soon the dashboard is there, how soon it answers a click, and what it costs the search.

Serves the dashboard and opens it in a Chromium. Everything about a click is timed inside the page:
from the release of the button, as the browser took it in, to the frame that shows the result.
Clicks come at random moments, so that they do not keep step with the page's own looks at the
search.

- opening: until Run can be clicked, on the page's own clock that starts with the navigation; with
  an empty profile, and with one that has the scripts already. Then the first click.
- clicks: digits at full speed; Step from rest. Of each, until the page shows that it was heard and
  until it was done: Pause is heard when the page says that it pauses, Step when it says that it
  steps, a cell of the attraction matrix when the frames are around it. It is done when the bench
  previews another pair, Parent A and Parent B say so and the frames in the matrix agree, or when
  the page says that a parent does not live. At full speed members come and go, so it is counted how
  often the pair is the one that stood there when it was clicked.
- behind: how old the shown step is at a click on Pause, at most: the steps that come after it,
  until the search pauses, by the speed of the run. It would grow if snapshots queued.
- speed: steps per second with one page open, by those of the search alone in a process of its own
  with as many torch threads. Blocks alternate, and both take the very same steps. Told apart are
  the first seconds, in which the page draws its plots, and what comes then.
- closing: from closing a page to the end of its search's thread in the server.
- collecting: Python's search for garbage among all that the server imports, during which nothing
  else runs: what ``gc.freeze`` saves it.

    python benchmarks/dashboard_latency.py [--clicks 40] [--openings 5] [--blocks 5] [--pages 8]
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from browsing import Lab, button, click_at, faults, launched, profile, serving_lab, steps
from findings import Finding, at_least, at_most
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

Result = TypeVar("Result")

SOON = 100
"""Milliseconds within which 95 % of the clicks are to be answered."""

ENOUGH = 21
"""Clicks from which on the slowest alone does not decide."""

KINDS = ("Run", "Pause", "Step", "pair")
SETTLED = 500
"""Steps before the speed is taken: by then the archive is full."""

DRAWN = 8.0
"""Seconds from then on in which the page has drawn its plots: one after the other, for clicks come
first, and slowly, for the search runs."""


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 50th and 95th percentile and the maximum; all three are values that occurred."""
    middle, high, most = np.percentile(values, [50, 95, 100], method="higher").tolist()
    return middle, high, most


def heading(words: str) -> None:
    print(f"{words:40}" + "".join(f"{name:>8}" for name in ("p50", "p95", "max")))


def line(name: str, values: Sequence[float], digits: int, words: str = "") -> None:
    cells = "".join(f"{value:8.{digits}f}" for value in spread(values)) if values else "  (none)"
    print(f"  {name:38}{cells}   {words}".rstrip(), flush=True)


class Clicks:
    """What came of clicks on one page.

    Attributes:
        heard, took: milliseconds by kind until it was heard, and until it was done; infinite where
            there was no answer.
        pairs: how often a cell gave the pair that was asked for, another one, or none.
        behind: seconds by which the shown step was behind, at most.
    """

    def __init__(self, seed: int = 0) -> None:
        self.heard: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.took: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.pairs: Counter[str] = Counter()
        self.behind: list[float] = []
        self._draw = random.Random(seed)

    def make(self, page: Page, count: int) -> None:
        """Make ``count`` clicks of each kind, from rest to rest."""
        page.bring_to_front()
        for _ in range(count):
            run = self._timed(page, "Run", self._press(button(page, "Run")))
            self._idle(page)
            while self._timed(page, "pair", self._pick(page))["answer"] == "there already":
                pass
            self._idle(page)
            pause = self._timed(page, "Pause", self._press(button(page, "Pause")))
            if "took" in run and "took" in pause:
                self.behind.append(behind(run, pause))
            self._idle(page)
            self._timed(page, "Step", self._press(button(page, "Step")))
            self._idle(page)

    def _idle(self, page: Page) -> None:
        page.wait_for_timeout(1000 * self._draw.uniform(0.4, 1.0))

    def _timed(self, page: Page, kind: str, click: Callable[[], None]) -> dict[str, Any]:
        told = timed(page, kind, click)
        if told.get("answer") != "there already":
            self.heard[kind].append(told.get("heard", math.inf))
            self.took[kind].append(told.get("took", math.inf))
            if kind == "pair":
                self.pairs[told["answer"]] += 1
        return told

    def _press(self, wanted: Locator) -> Callable[[], None]:
        return lambda: press(wanted)

    def _pick(self, page: Page) -> Callable[[], None]:
        members = int(page.evaluate("inside.members()"))
        row, column = self._draw.sample(range(members), 2)
        return lambda: click_at(page, "AttractionView", column + 0.5, members - row - 0.5)

    def report(self, where: str) -> Iterator[Finding]:
        """Print what came of them, and yield how soon 95 % of each kind were heard and done."""
        for kind in KINDS:
            name = "a pair, while it runs" if kind == "pair" else kind
            line(f"{name}, heard, ms", self.heard[kind], 0, f"target p95 <= {SOON}")
            row = at_most(f"{name}, {where}, p95", spread(self.heard[kind])[1], SOON, " ms", 0)
            yield row if len(self.heard[kind]) >= ENOUGH else row._replace(met=None)
            if kind != "Run":
                line("and done, ms", self.took[kind], 0)
                most = spread(self.took[kind])[1]
                yield Finding(f"{name}, {where}, until it is done, p95", f"{most:.0f} ms")
        total = sum(self.pairs.values())
        said = ", ".join(f"{answer} {count}" for answer, count in self.pairs.most_common())
        print(f"  of {total} cells at full speed came: {said}")
        line("the shown step is behind, s", self.behind, 2)


def press(wanted: Locator) -> None:
    """Click on the middle of something with the mouse."""
    box = wanted.bounding_box()
    assert box is not None
    wanted.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def timed(page: Page, kind: str, click: Callable[[], None]) -> dict[str, Any]:
    """Click and return what the page tells of it."""
    page.evaluate("kind => { window.timed = inside.arm(kind) }", kind)
    click()
    told: dict[str, Any] = page.evaluate("window.timed")
    return told


def behind(run: dict[str, Any], pause: dict[str, Any]) -> float:
    """Return seconds of search between the step shown at a click on Pause and the last one."""
    ran = (pause["began"] + pause["took"] - run["began"]) / 1000
    taken = pause["steps"] - run["was"]
    return ran * (pause["steps"] - pause["was"]) / taken if taken else 0.0


def started(page: Page) -> Page:
    press(button(page, "Run"))
    button(page, "Pause").wait_for()
    return page


class Visits:
    """Opens pages of one lab and closes them.

    Attributes:
        wrong: errors of all pages.
        ended: seconds from closing to the end of the search.
    """

    def __init__(self, lab: Lab) -> None:
        self.wrong: list[str] = []
        self.ended: list[float] = []
        self._lab = lab

    def open(self, context: BrowserContext) -> Page:
        page = context.new_page()
        seen = faults(page)
        self._lab.open(page)
        page.on("close", lambda _: self.wrong.extend(seen))
        return page

    def close(self, page: Page) -> None:
        self.ended.append(self._lab.close(page))

    def opening(self, browser: Browser, count: int) -> Iterator[Finding]:
        """Time openings with an empty profile and with a warm one, and the first clicks."""
        took: dict[str, list[float]] = {"empty": [], "warm": []}
        first: list[float] = []
        for _ in range(count):
            context = profile(browser)
            for kind in took:
                page = self.open(context)
                took[kind].append(page.evaluate("inside.usable") / 1000)
                told = timed(page, "Run", lambda page=page: press(button(page, "Run")))
                first.append(told.get("heard", math.inf))
                self.close(page)
            context.close()
        heading("opening a page, until Run can be clicked")
        line("the first of a fresh server, s", took["empty"][:1], 1)
        line("empty profile, s", took["empty"][1:], 1)
        line("warm profile, s", took["warm"], 1)
        line("the first click, Run, ms", first, 0)
        for kind, values in took.items():
            middle = median(values[1:] or values)
            yield Finding(
                f"opening a page, {kind} profile, until Run can be clicked", f"{middle:.1f} s"
            )

    def speed(self, context: BrowserContext, blocks: int, seconds: float) -> Iterator[Finding]:
        """Compare a search under one open page with the same search alone."""
        shown, bare = [], []
        for _ in range(blocks):
            page = started(self.open(context))
            while steps(page) < SETTLED:
                page.wait_for_timeout(100)
            marks = [page.evaluate("inside.change()")]
            for wait in (seconds, DRAWN - seconds, seconds):
                page.wait_for_timeout(1000 * max(wait, 0.0))
                marks.append(page.evaluate("inside.change()"))
            self.close(page)
            times, at = zip(*marks, strict=True)
            shown.append(np.diff(times))
            bare.append(by_itself(alone, at))
        print("speed of the search, one torch thread")
        ratios = np.median(np.array(bare) / np.array(shown), axis=0)
        for name, ratio in (("in its first seconds", ratios[0]), ("then", ratios[2])):
            print(f"  {f'ratio with a page / alone, {name}':50}{ratio:8.2f}", flush=True)
        yield Finding("speed of the search in a page's first seconds ÷ alone", f"{ratios[0]:.2f}")
        yield at_least("speed of the search with a page open ÷ alone", float(ratios[2]), 0.7)


def alone(steps: Sequence[int]) -> list[float]:
    """Return seconds that the dashboard's search takes from each step to the next, by itself."""
    import torch

    from m2n2lab.config.builders import build_evolver
    from m2n2lab.config.settings import Settings

    torch.set_num_threads(1)
    evolver = build_evolver(Settings(threads=1)).run(steps[0])
    times = [perf_counter()]
    for step in steps[1:]:
        evolver.run(step - evolver.generation)
        times.append(perf_counter())
    return np.diff(times).tolist()


def by_itself(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a fresh process: there nothing else has the interpreter."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def collecting() -> list[float]:
    """Return milliseconds of full garbage collections among all that the server imports."""
    import gc

    import m2n2lab.widgets.server.server  # noqa: F401  # what is searched

    gc.collect()  # what the imports have left behind
    times = []
    for _ in range(5):
        start = perf_counter()
        gc.collect()
        times.append(1e3 * (perf_counter() - start))
    return times


def measure(visits: Visits, browser: Browser, options: argparse.Namespace) -> Iterator[Finding]:
    yield from visits.opening(browser, options.openings)
    context = profile(browser)
    page = visits.open(context)
    one = Clicks()
    one.make(page, options.clicks)
    heading("clicks, one page open")
    yield from one.report("one page open")
    others = [started(visits.open(context)) for _ in range(options.pages - 1)]
    if others:
        many = Clicks()
        many.make(page, options.clicks)
        heading(f"clicks on one of {options.pages} pages, all running")
        yield from many.report(f"{options.pages} pages running")
        for name, values in many.heard.items():
            growth = spread(values)[1] / spread(one.heard[name])[1]
            print(f"  {f'ratio {options.pages} pages / one, p95 of {name}':38}{growth:8.2f}")
    for other in (*others, page):
        visits.close(other)
    yield from visits.speed(context, options.blocks, options.seconds)
    heading("closing a page")
    line("until its search has ended, s", visits.ended, 1, "target <= 5")
    yield at_most("a closed page's search ends within", max(visits.ended), 5, " s", 1)
    pauses = by_itself(collecting)
    heading("garbage collections of the server's imports")
    line("were they not left out, ms", pauses, 0)
    what = "a garbage collection of the server's imports, were they not left out"
    yield Finding(what, f"{median(pauses):.0f} ms")


def measured(options: argparse.Namespace) -> Iterator[Finding]:
    """Serve the dashboard, measure it, and end the process if anything went wrong meanwhile."""
    with serving_lab() as (lab, log), sync_playwright() as playwright:
        browser = launched(playwright)
        visits = Visits(lab)
        yield from measure(visits, browser, options)
        browser.close()
        wrong = visits.wrong + [log.read_text()] * ("Traceback" in log.read_text())
    if wrong:
        raise SystemExit("\n".join(["Something went wrong meanwhile:", *wrong]))


def findings(quick: bool) -> Iterator[Finding]:
    few = {"clicks": 6, "openings": 1, "blocks": 1, "seconds": 4.0, "pages": 1}
    yield from measured(arguments().parse_args([], argparse.Namespace(**(few if quick else {}))))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=40, help="of each kind")
    parser.add_argument("--openings", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a block")
    parser.add_argument("--pages", type=int, default=8)
    return parser


def main() -> None:
    list(measured(arguments().parse_args()))


if __name__ == "__main__":
    main()
