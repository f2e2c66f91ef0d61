"""Bokeh plots as pictures, taken in a Chromium without the network."""

from __future__ import annotations

import io
from typing import Any

from bokeh.embed import file_html
from bokeh.resources import INLINE
from browsing import PATIENCE, launched
from PIL import Image
from playwright.sync_api import Page, sync_playwright

INKS = 200
"""Colours of a picture, which makes it a third as large."""
READY = "() => window.Bokeh?.documents.length && Bokeh.documents.every(d => d.is_idle)"


def picture(page: Page, html: str) -> bytes:
    """Return a PNG of a page with one plot."""
    page.set_content(html, timeout=PATIENCE)
    page.wait_for_function(READY, timeout=PATIENCE)
    png = page.locator(".bk-Figure, .bk-GridPlot, .bk-Row, .bk-Column").first.screenshot()
    small, out = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    small.quantize(INKS, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


def png(plot: Any) -> bytes:
    """Return a PNG of a plot or a grid of plots."""
    with sync_playwright() as playwright:
        browser = launched(playwright)
        taken = picture(browser.new_page(), file_html(plot, INLINE))
        browser.close()
    return taken
