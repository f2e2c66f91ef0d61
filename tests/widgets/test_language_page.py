"""The zoo's language models on the page: what the pair and its child wrote, live."""

import re

import pytest
from helpers.pages import button, figure, trying
from playwright.sync_api import expect


def wrote(page, model):
    """Return all that A, B or the child wrote, whether opened or not."""
    answers = page.get_by_role("region", name="Answers")
    return answers.locator(f"details.{model} pre").all_text_contents()


def changes(page, kind, before):
    """Wait until the child's answers that hold a text are others than before."""
    for _ in range(300):
        if [t for t in wrote(page, "child") if kind in t] != [t for t in before if kind in t]:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"The child still writes {before}.")


@pytest.mark.slow
def test_sums_and_trips_of_the_pair_and_its_child_open_in_full(page, tmp_path):
    for _ in trying(page, "gsm8k+webshop", tmp_path):
        button(page, "Step").click()
        expect(figure(page, "step")).to_have_text("1")
        child = page.get_by_role("region", name="Answers").locator("details.child pre")
        expect(child).to_have_count(8)
        parents = wrote(page, "a") + wrote(page, "b")
        # One of the pair does sums, one goes shopping, and all that they wrote is there.
        assert any("####" in text for text in parents)
        assert any("Observation: WebShop" in text and "search[" in text for text in parents)
        page.get_by_role("region", name="Answers").locator("details.child summary").first.click()
        expect(child.first).to_be_visible()
        # Another child of the pair, and another step: both wrote something else.
        before = wrote(page, "child")
        button(page, "Search’s next child").click()
        button(page, "Step").click()
        expect(figure(page, "step")).to_have_text("2")
        for kind in ("####", "Observation:"):
            changes(page, kind, before)
        # A landscape of 289 children is mapped only on request.
        landscape = page.get_by_role("region", name="Landscape")
        begin = landscape.get_by_role(
            "button", name=re.compile(r"^(Map|Go on) \(\d of 289 children\)")
        )
        begin.click()
        landscape.get_by_role("button", name=re.compile(r"^Stop \(\d\d of 289 children\)")).click()
        expect(landscape.locator("canvas").first).to_be_visible()
        expect(landscape.get_by_role("button", name=re.compile(r"^Go on \(\d\d "))).to_be_visible()
