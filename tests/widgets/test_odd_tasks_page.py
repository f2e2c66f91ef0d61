"""Names that are markup, tasks that break, and pages from elsewhere."""

import http.client
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from helpers.pages import SECTIONS, button, figure, free_port, opened, served
from playwright.sync_api import expect

SERVER = str(Path(__file__).parents[1] / "helpers" / "odd_server.py")


@pytest.fixture
def odd(request, tmp_path):
    port = free_port()
    for _ in served([sys.executable, SERVER, str(port), request.param], port, tmp_path / "log"):
        yield f"http://localhost:{port}/"


@pytest.mark.parametrize("odd", ["hostile"], indirect=True)
@pytest.mark.slow
def test_names_that_are_markup_are_shown_as_text_everywhere(page, odd):
    opened(page, odd)
    expect(page.locator("option", has_text="<script>document.tit")).not_to_have_count(0)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    for tab in ("Lineage", "Seeds", "Members", "Compare", "Progress"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
    for name in ("Niches", "Attraction", "Landscape"):
        box = page.get_by_role("region", name=name).locator("canvas").first.bounding_box()
        for x in range(40, int(box["width"]) - 20, 40):
            page.mouse.move(box["x"] + x, box["y"] + box["height"] * 0.55)
            page.wait_for_timeout(30)
    button(page, "Merge").click()
    expect(figure(page, "step")).to_have_text("11")
    assert page.title() == "m2n2lab"
    inside = """() => {
      const all = root => [...root.querySelectorAll("*")].flatMap(
        e => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])])
      return all(document.body).filter(e => e.matches("img[src=x], script:not([id]):not([type])"))
        .map(e => e.outerHTML.slice(0, 80))
    }"""
    assert [html for html in page.evaluate(inside) if "owned" in html] == []
    # Nobody's name pushes the page out of its window.
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    for name in SECTIONS:
        assert page.get_by_role("region", name=name).bounding_box()["height"] < 900


@pytest.mark.parametrize("odd", ["broken"], indirect=True)
@pytest.mark.slow
def test_a_task_that_breaks_pauses_the_search_and_says_why(page, odd):
    page.goto(odd)
    expect(button(page, "Run")).to_be_enabled()
    button(page, "Run").click()
    expect(page.get_by_role("alert")).to_have_text("RuntimeError: the disk is <b>gone</b>")
    expect(figure(page, "phase")).to_have_text("stopped by an error")
    expect(button(page, "Run")).to_be_enabled()
    # What was found until then is still there.
    expect(page.get_by_role("region", name="Niches").locator("canvas").first).to_be_visible()
    expect(figure(page, "coverage")).not_to_have_text("–")


@pytest.mark.slow
def test_a_page_from_elsewhere_gets_no_websocket(lab):
    connection = http.client.HTTPConnection(urlsplit(lab).netloc, timeout=30)
    upgrade = {
        "Origin": "http://elsewhere.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "c29tZSBzaXh0ZWVuIGJ5dA==",
        "Sec-WebSocket-Protocol": "bokeh, token",
    }
    connection.request("GET", "/ws", headers=upgrade)
    assert connection.getresponse().status == 403
    connection.close()
