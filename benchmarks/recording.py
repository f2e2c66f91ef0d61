"""A moving picture of two specialists becoming one on the page, for README.

``python benchmarks/recording.py .github/lab.webp``
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from browsing import button, drawn, figure, free_port, launched, opened, serving
from browsing import steps as taken
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

SIZE = {"width": 1280, "height": 800}
STEPS = (10, 50, 200, 500)
"""Steps of the search at which it is shown."""
SLOW, QUICK = 2500, 1500
"""Milliseconds for which a still is shown: with something to read, and without."""
MAX_BYTES = 3_000_000
QUALITY = 60
"""Of the pictures, from 0 to 100."""


def still(page: Page) -> Image.Image:
    page.wait_for_timeout(1000)  # until every panel has drawn
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def recorded(page: Page, address: str) -> list[tuple[Image.Image, int]]:
    """Return stills and how long each is shown: the pair, their child, and the search."""
    opened(page, address)
    page.get_by_role("button", name="No thanks").click()
    drawn(page, "LandscapeView")
    stills = [(still(page), SLOW)]
    button(page, "Merge").click()
    expect(figure(page, "step")).to_have_text("1")
    stills.append((still(page), SLOW))
    for steps in STEPS:
        button(page, "Run").click()
        while taken(page) < steps:
            page.wait_for_timeout(20)
        button(page, "Pause").click()
        stills.append((still(page), QUICK))
    return stills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out, port = parser.parse_args().out, free_port()
    command = [sys.executable, "-m", "m2n2lab", "serve", "--port", str(port), "--threads", "1"]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(command, port, Path(folder) / "log"),
        sync_playwright() as playwright,
    ):
        browser = launched(playwright)
        page = browser.new_context(viewport=SIZE).new_page()
        stills = recorded(page, f"http://localhost:{port}/")
        browser.close()
    (first, _), *others = stills
    first.save(
        out,
        save_all=True,
        append_images=[image for image, _ in others],
        duration=[milliseconds for _, milliseconds in stills],
        loop=0,
        quality=QUALITY,
    )
    if out.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{out} has {out.stat().st_size:,} bytes, more than {MAX_BYTES:,}.")


if __name__ == "__main__":
    main()
