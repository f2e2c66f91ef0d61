"""The zoo's picture models on the page: their pictures, one of them enlarged, and a blind vote."""

import re

import pytest
from helpers.pages import button, figure, trying
from playwright.sync_api import expect

EACH = 4
"""Prompts of each language in the gallery."""


@pytest.mark.slow
def test_pictures_appear_one_opens_a_person_s_own_is_drawn_and_the_better_is_chosen(page, tmp_path):
    for _ in trying(page, "text2image", tmp_path):
        page.get_by_role("tab", name="Gallery").click()
        gallery = page.get_by_role("table", name="pictures of members")
        people = gallery.locator("tbody tr")
        expect(people.filter(has_text="seed japanese")).to_be_visible()
        expect(people.filter(has_text="child")).to_be_visible()
        drawn = gallery.locator("tbody img[src]")
        expect(drawn).to_have_count(2 * EACH * people.count())

        button(page, "Step").click()
        expect(figure(page, "step")).to_have_text("1")

        child = people.filter(has_text="child")
        child.get_by_role("button").nth(1).click()
        large = page.get_by_test_id("large")
        expect(large.locator("figure")).to_have_count(3)  # with both parents
        expect(large).to_contain_text("背景に")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(child.get_by_role("button").nth(2)).to_have_attribute("aria-pressed", "true")

        own = "黒い背景に大きな赤い星"
        page.get_by_label("Your own prompt").fill(own)
        page.get_by_label("Your own prompt").press("Enter")
        expect(gallery.locator("thead th").nth(1)).to_have_text(own)
        expect(drawn).to_have_count((2 * EACH + 1) * people.count())
        expect(child.locator("td").first).to_have_text("")  # there is no score for it
        expect(large.locator("figure")).to_have_count(3)
        expect(large).to_contain_text(own)
        hostile = '"><img src=x onerror=alert(1)>'
        page.get_by_label("Your own prompt").fill(hostile)
        page.get_by_label("Your own prompt").press("Enter")
        expect(gallery.locator("thead th").nth(1)).to_have_text(hostile)
        expect(large).to_contain_text(hostile)
        page.get_by_label("Your own prompt").fill("x" * 1_001)
        page.get_by_label("Your own prompt").press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("1 to 1,000 characters")

        button(page, "Choose blindly").click()
        ballot = page.get_by_test_id("ballot")
        expect(ballot.locator("img")).to_have_count(2)
        expect(ballot).to_contain_text("Which is better?")
        button(page, "Left is better").click()
        expect(ballot).to_contain_text(re.compile("You chose the child [01] of 1 time"))
        expect(button(page, "Left is better")).to_be_hidden()
