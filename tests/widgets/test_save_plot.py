"""Plots are saved from the page as pictures, with nothing but the browser."""

import csv
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers.pages import PATIENCE, button, figure, opened
from PIL import Image
from playwright.sync_api import expect

CARDS = {"light": (255, 255, 255), "dark": (28, 30, 34)}
PLOTS = {  # panel: tab, name of the file, a text in the plot
    "Niches": (None, "niches", "class of the data point"),
    "Attraction": (None, "attraction", "B (column): what it could add"),
    "Progress": ("Progress", "curves", "best, held out"),
    "Lineage": ("Lineage", "lineage", "living member"),
    "Seeds": ("Seeds", "shares", "share of the living, %"),
    "Compare": ("Compare", "compare", "forward passes"),
    "Landscape": (None, "landscape", "mix (share of B before it)"),
}
SIZE = """name => {
    const model = Bokeh.documents.map(d => d.get_model_by_name(name)).find(m => m != null)
    const {width, height} = Bokeh.index.find_one(model).bbox
    return [width, height]
}"""

DRAWN = """name => {
    const model = Bokeh.documents.map(d => d.get_model_by_name(name)).find(m => m != null)
    return model != null && Bokeh.index.find_one(model)?.bbox.width > 0
}"""


def saved(page, panel, kind):
    """Save the plot of a panel; returns the file's name and where it is."""
    page.get_by_label(f"Save: {panel}").click()
    region = page.get_by_role("region", name=panel)
    with page.expect_download() as download:
        region.get_by_role("button", name=kind, exact=True).click()
    return download.value.suggested_filename, download.value.path()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_plot_is_saved_as_png_and_svg_as_it_is_seen(page, lab, theme):
    opened(page, f"{lab}?theme={theme}")
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10", timeout=PATIENCE)
    page.wait_for_timeout(1000)  # the landscape's first cells
    for panel, (tab, name, text) in PLOTS.items():
        if tab:
            page.get_by_role("tab", name=tab).click()
            panel = "Progress"
        page.wait_for_function(DRAWN, arg=f"{name.title()}View")  # when its tab is first seen
        size = page.evaluate(SIZE, f"{name.title()}View")
        file, path = saved(page, panel, "PNG 1×")
        assert file == f"{name}.png"
        with Image.open(path) as picture:
            assert list(picture.size) == size
            assert picture.getpixel((0, 0)) == (*CARDS[theme], 255)
            assert picture.getchannel("A").getextrema() == (255, 255)
            assert len(picture.convert("RGB").getcolors(size[0] * size[1])) > 20

        if name in ("niches", "curves"):
            for times in (2, 3):
                file, path = saved(page, panel, f"PNG {times}×")
                assert file == f"{name}@{times}x.png"
                with Image.open(path) as picture:
                    assert list(picture.size) == [times * side for side in size]
                    inner = picture.convert("RGB").crop((0, 0, *picture.size))
                    assert len(inner.getcolors(picture.size[0] * picture.size[1])) > 20
        file, path = saved(page, panel, "CSV")
        assert file == f"{name}.csv"
        rows = list(csv.reader(Path(path).read_text().splitlines()))
        assert len(rows) > 2
        if name == "curves":
            best = rows[0].index("best, held out")
            assert len(rows) >= 12  # from the seeds to the tenth step
            assert 0 < float(rows[11][best]) < 100
        if name == "attraction":
            matrix = [row for row in rows if "image, row" in row[0]]
            assert len(matrix) == len(matrix[0]) - 1

        file, path = saved(page, panel, "SVG")
        assert file == f"{name}.svg"
        root = ElementTree.parse(path).getroot()
        assert [int(root.get(side)) for side in ("width", "height")] == size
        tags = [element.tag.split("}")[1] for element in root.iter()]
        assert {"text", "path"} <= set(tags)
        assert not {"script", "foreignObject", "a", "use"} & set(tags)
        assert not [key for element in root.iter() for key in element.attrib if key[:2] == "on"]
        assert tags[1] == "rect"
        assert root[0].get("fill") == "rgb({}, {}, {})".format(*CARDS[theme])
        texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
        assert texts.count(text) == 1


@pytest.mark.slow
def test_a_menu_closes_by_escape_or_a_click_elsewhere_and_a_tab_without_a_plot_has_none(page, lab):
    opened(page, lab)
    menu = page.get_by_label("Save: Niches")
    png = page.get_by_role("region", name="Niches").get_by_role("button", name="PNG 1×")
    menu.focus()
    page.keyboard.press("Enter")
    expect(png).to_be_visible()
    page.keyboard.press("Escape")
    expect(png).to_be_hidden()
    expect(menu).to_be_focused()
    menu.click()
    page.get_by_text("who solves what").click()
    expect(png).to_be_hidden()
    page.get_by_role("tab", name="Members").click()
    expect(page.get_by_label("Save: Progress")).to_be_hidden()
    page.get_by_role("tab", name="Seeds").click()
    expect(page.get_by_label("Save: Progress")).to_be_visible()
    expect(page.get_by_label(re.compile("^Save: "))).to_have_count(4)
