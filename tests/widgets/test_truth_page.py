"""What a page shows is true: marks, verdicts, fields, settings, and a task that is being loaded."""

import re
import sys

import pytest
from helpers.pages import (
    button,
    click_at,
    drawn,
    figure,
    free_port,
    opened,
    served,
    steps,
)
from playwright.sync_api import expect

MARK = """() => {
    const model = Bokeh.documents.map(d => d.get_model_by_name("LandscapeView")).find(m => m)
    const marked = model.renderers.find(r => r.glyph.marker?.value === "circle_cross")
    const { data } = marked.data_source, { x, y } = marked.glyph
    return [Array.from(data[x.field])[0], Array.from(data[y.field])[0]]
}"""
"""The place of the bench's mark on the landscape, as the mark itself reads it."""


def region(page, name):
    return page.get_by_role("region", name=name)


@pytest.mark.slow
def test_the_mark_on_the_landscape_follows_the_split_and_the_mix(page, lab):
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    drawn(page, "LandscapeView")

    def marked(x, y):
        page.wait_for_function(
            f"""([x, y]) => {{
                const at = ({MARK})()
                return Math.abs(at[0] - x) < 1e-3 && Math.abs(at[1] - y) < 1e-3
            }}""",
            arg=[x, y],
        )

    marked(0.5, 0.5)
    page.get_by_label("Split at").fill("1921")
    page.get_by_label("Split at").press("Enter")
    marked(0.1, 0.5)
    mix = page.get_by_role("slider", name="Mix")
    for _ in range(4):
        mix.press("ArrowLeft")
    marked(0.1, 0.46)
    click_at(page, "LandscapeView", 0.75, 0.25)
    marked(0.75, 0.25)


@pytest.mark.slow
def test_a_field_says_what_it_refuses_and_shows_the_number_that_is_used(page, lab):
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    field, said = page.get_by_label("Split at"), region(page, "Merge bench").get_by_role("alert")
    title = re.compile("split 9,605, mix 0.50")
    for typed, got in (("99999999", "“99999999”"), ("abc", "“abc”"), ("-3", "“-3”"), ("", "no")):
        field.fill(typed)
        field.press("Enter")
        expect(said).to_contain_text("Split at must be an integer in [0, 19,210], got " + got)
        expect(said).to_contain_text("it stays 9,605")
        expect(field).to_have_value("9605")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(figure(page, "verdict")).to_have_attribute("title", title)
    field.fill("15,000")
    field.press("Enter")
    expect(said).to_be_hidden()
    expect(field).to_have_value("15000")
    expect(figure(page, "verdict")).to_have_attribute("title", re.compile("split 15,000"))

    # A parent that does not live is refused, and the fields show the pair on the bench again.
    a = page.get_by_label("Parent A")
    before = a.input_value()
    a.fill("999999")
    a.press("Enter")
    expect(figure(page, "note")).to_contain_text("Member 999999 is not in the archive")
    expect(a).to_have_value(before)
    expect(figure(page, "verdict")).to_have_attribute("title", re.compile(f"^of {before} × "))


@pytest.mark.slow
def test_a_merged_child_stays_on_the_bench_until_the_search_goes_on(page, lab):
    opened(page, lab)
    for _ in range(3):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("30")
    expect(figure(page, "phase")).to_have_text("paused")
    page.wait_for_timeout(1_000)  # for the pair of the last step
    expect(button(page, "Merge")).to_be_enabled()
    shown = [figure(page, f"score-{name}").inner_text() for name in ("a", "b", "child")]
    pair = [page.get_by_label(f"Parent {name}").input_value() for name in "AB"]
    button(page, "Merge").click()
    expect(figure(page, "outcome")).to_contain_text(re.compile(r"^Child 32 (lives|died)"))
    expect(figure(page, "verdict")).to_have_count(0)
    expect(button(page, "Merge")).to_be_disabled()
    assert [figure(page, f"score-{name}").inner_text() for name in ("a", "b", "child")] == shown
    assert [page.get_by_label(f"Parent {name}").input_value() for name in "AB"] == pair

    # The next child is a preview again, and what was said of the last one is gone.
    for _ in range(2):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("51")
    expect(figure(page, "verdict")).to_be_visible()
    expect(figure(page, "outcome")).to_have_count(0)
    expect(figure(page, "note")).to_have_text("")


@pytest.mark.slow
def test_setup_shows_what_will_be_used(page, lab):
    opened(page, lab)
    page.get_by_text("Setup", exact=True).click()
    size, alpha = page.get_by_label("Archive size"), page.get_by_label("α, competition")
    start, mutation = page.get_by_label("Start from"), page.get_by_label("Mutation")
    for method, expected in {
        "m2n2": ("20", "1", "0.01"),
        "ga": ("20", "0", "0.01"),
        "map-elites": ("the method’s own", "0", "0.01"),
    }.items():
        page.get_by_label("Method").select_option(method)
        for field, value in zip((size, alpha, mutation), expected, strict=True):
            expect(field).to_have_attribute("placeholder", value)
    page.get_by_label("Method").select_option("ga")
    expect(alpha).to_be_disabled()  # that makes it a genetic algorithm
    page.get_by_label("Method").select_option("m2n2")
    expect(alpha).to_be_enabled()
    start.select_option("two specialists")
    expect(mutation).to_have_attribute("placeholder", "0")
    tasks = page.get_by_label("Task").locator("option").all_text_contents()
    if "gsm8k" not in tasks:
        pytest.skip("the zoo's language models are not installed")
    page.get_by_label("Task").select_option("gsm8k")
    expect(start).to_have_value("the zoo's pair")
    expect(start).to_be_disabled()
    expect(size).to_have_attribute("placeholder", "10")
    page.get_by_label("Task").select_option("digits")
    expect(start).to_be_enabled()
    expect(start).to_have_value("two specialists")
    expect(size).to_have_attribute("placeholder", "20")


@pytest.mark.slow
def test_no_claim_depends_on_the_theme_or_on_a_bound_that_merges_exceed(page, lab):
    for theme, strong, weak in (("light", "darker", "lighter"), ("dark", "lighter", "darker")):
        opened(page, f"{lab}?theme={theme}")
        for name in ("Niches", "Attraction", "Landscape"):
            said = region(page, name).locator(".help [role=note]").text_content()
            said += region(page, name).locator(".head p").text_content()
            assert strong in said.lower()
            assert weak not in said.lower()
        most = region(page, "Merge bench").locator(".most").get_attribute("title")
        assert "may solve more than both" in most
        chosen, other = (button(page, name) for name in ("worth", "solved"))
        ink, rest = (
            one.evaluate("e => getComputedStyle(e).backgroundColor") for one in (chosen, other)
        )
        assert ink != rest


@pytest.mark.slow
def test_a_task_that_is_being_loaded_shows_that_and_nothing_of_the_one_before(page, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "m2n2lab", "serve", "--threads", "1", "--port", str(port)]
    for _ in served(command, port, tmp_path / "log"):
        opened(page, f"http://localhost:{port}/")
        button(page, "×10").click()
        expect(figure(page, "step")).to_have_text("10")
        drawn(page, "LandscapeView")
        page.get_by_text("Setup", exact=True).click()
        options = page.get_by_label("Task").locator("option").all_text_contents()
        if "gsm8k" not in options:
            pytest.skip("the zoo's language models are not installed")
        page.get_by_label("Task").select_option("gsm8k")
        button(page, "Replace this run").click()
        wait = page.locator(".wait")
        expect(wait).to_contain_text(re.compile(r"^Loading gsm8k: .* · \d+ s"))
        for name in ("Niches", "Attraction", "Landscape", "Progress"):
            assert not region(page, name).locator("canvas").first.is_visible()
        assert figure(page, "score-a").count() == 0
        assert figure(page, "count").count() == 0 or not figure(page, "count").inner_text()
        assert figure(page, "verdict").count() == 0
        expect(wait).to_contain_text("scoring the models, question")
        expect(wait).to_be_hidden()
        expect(region(page, "Niches").locator("canvas").first).to_be_visible()
        expect(figure(page, "score-a")).to_be_visible()
        assert steps(page) == 0
