"""How soon the page answers while the zoo's picture models draw, and how fast they draw.

Serves the page of a search over pictures and opens its gallery in a Chromium, with one torch
thread. Clicks are timed inside the page, as in ``dashboard_latency.py``: Run; Pause, until the page
says that it pauses, and until it has paused (a model stops within a denoising step); and while the
search runs a picture of the gallery, until it is seen large. Clicks come at random moments. But for
the one that waits until it has paused, the browser answers them before Python hears of them.

    python benchmarks/drawing_latency.py [--clicks 40]
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator

import torch
from browsing import button, faults, launched, opened, profile, serving_lab
from dashboard_latency import SOON, heading, line, press, spread, timed
from findings import Finding, at_most
from playwright.sync_api import Page, sync_playwright

from m2n2lab.zoo.images import captions, image_specialists, shapes, trained

ROUND = ("Run", "picture", "Pause")
PROMPTS = 16


def sampling() -> Finding:
    """Return how long one member takes to draw for 16 prompts, on all threads."""
    space, task = image_specialists(), shapes(1, 0)
    prompts = captions("search", ("Japanese",), PROMPTS)
    took = []
    for mix in (0.2, 0.4, 0.6):
        model = space.materialise(space.merge(*space.seeds[:2], space.size // 2, mix))
        began = time.perf_counter()
        task.draw(model, prompts)
        took.append(time.perf_counter() - began)
    print(f"{PROMPTS} pictures take {min(took):.2f} s ({torch.get_num_threads()} threads)")
    return at_most(f"drawing for {PROMPTS} prompts", min(took), 4, " s", 2)


def clicks(page: Page, count: int) -> tuple[dict[str, list[float]], list[float]]:
    """Return milliseconds until clicks were heard, by kind, and until the search had paused.

    Infinite where there was no answer.
    """
    draw, heard, paused = random.Random(0), {kind: [] for kind in ROUND}, []

    def idle() -> None:
        page.wait_for_timeout(1000 * draw.uniform(0.4, 1.0))

    gallery = page.get_by_role("table", name="pictures of members")
    for number in range(count):
        for kind in ROUND:
            wanted = button(page, kind)
            if kind == "picture":
                # Seeds are drawn from the first, so their pictures are there all the time.
                row = gallery.locator("tbody tr").nth(number % 4)
                wanted = row.get_by_role("button").nth(number % 8)
                wanted.scroll_into_view_if_needed()
            told = timed(page, kind, lambda wanted=wanted: press(wanted))
            heard[kind].append(told.get("heard", math.inf))
            if kind == "Pause":
                paused.append(told.get("took", math.inf))
            idle()
    return heard, paused


def measure(count: int) -> Iterator[Finding]:
    """Draw, then click; prints both, and yields what has a target."""
    if not trained():
        print("The zoo's picture models have not been trained yet: nothing to measure.")
        return
    yield sampling()
    options = ("--task", "text2image")
    with serving_lab(*options) as (lab, log), sync_playwright() as playwright:
        browser = launched(playwright)
        page = profile(browser).new_page()
        wrong = faults(page)
        opened(page, lab.address)
        page.get_by_role("tab", name="Gallery").click()
        seeds = page.get_by_role("table", name="pictures of members").locator("tbody tr")
        seeds.nth(3).locator("td").nth(7).locator("img[src]").wait_for()
        heard, paused = clicks(page, count)
        browser.close()
        wrong += [log.read_text()] * ("Traceback" in log.read_text())
    heading("clicks while pictures are made")
    for kind, values in heard.items():
        line(f"{kind}, ms", values, 0, f"target p95 <= {SOON}")
        yield at_most(f"{kind}, while pictures are made, p95", spread(values)[1], SOON, " ms", 0)
    line("and paused, ms", paused, 0)
    yield Finding("paused, while pictures are made, p95", f"{spread(paused)[1]:.0f} ms")
    if wrong:
        raise SystemExit("\n".join(["Something went wrong meanwhile:", *wrong]))


def findings(quick: bool) -> Iterator[Finding]:
    yield from measure(6 if quick else 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=40, help="of each kind")
    list(measure(parser.parse_args().clicks))


if __name__ == "__main__":
    main()
