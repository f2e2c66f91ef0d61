"""The list of runs on the page, and what is asked before steps are lost."""

import re
import sys

import pytest
from helpers.pages import button, faults, figure, free_port, opened, served
from playwright.sync_api import expect


def serve(folder, *more):
    """Serve the dashboard; yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "m2n2lab", "serve", "--threads", "1", "--port", str(port)]
    for _ in served([*command, *more], port, folder / "log"):
        yield f"http://localhost:{port}/"


@pytest.fixture
def quiet(context):
    """A page with whose dialogs the test deals itself."""
    page = context.new_page()
    wrong = faults(page)
    yield page
    page.close()
    assert [each for each in wrong if not each.startswith("dialog")] == []


@pytest.mark.slow
def test_runs_of_every_visit_are_listed_named_opened_compared_and_deleted(context, page, tmp_path):
    for address in serve(tmp_path):
        opened(page, address)
        button(page, "×10").click()
        expect(figure(page, "step")).to_have_text("10")
        page.get_by_text("Runs", exact=True).click()
        rows = page.locator(".runs tbody tr")
        expect(rows).to_have_count(1)
        expect(rows.first).to_contain_text("on the page")
        expect(page.get_by_label(re.compile("^Delete "))).to_be_disabled()
        page.get_by_label(re.compile("^Name of ")).fill("mine")
        page.keyboard.press("Enter")
        page.get_by_label("Note on mine").fill("ten steps")
        page.keyboard.press("Enter")
        expect(page.get_by_text("mine", exact=True)).to_be_visible()  # the page's own title
        page.keyboard.press("Escape")
        expect(rows.first).to_be_hidden()

        other = context.new_page()
        opened(other, address)
        button(other, "Step").click()
        expect(figure(other, "step")).to_have_text("1")
        page.goto("about:blank")  # its run is on no page any more
        other.get_by_text("Runs", exact=True).click()
        rows = other.locator(".runs tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.nth(1)).to_contain_text("10")
        expect(other.get_by_label("Note on mine")).to_have_value("ten steps")
        expect(rows.nth(1)).not_to_contain_text("on another page")
        other.get_by_label("Compare mine").click()
        tab = other.get_by_role("tab", name="Compare")
        expect(tab).to_have_attribute("aria-selected", "true")
        expect(figure(other, "run-2")).to_contain_text("step 10")
        expect(figure(other, "step")).to_have_text("1")
        if not rows.first.is_visible():
            other.get_by_text("Runs", exact=True).click()
        other.get_by_label("Open mine").click()
        expect(figure(other, "step")).to_have_text("10")
        button(other, "Step").click()
        expect(figure(other, "step")).to_have_text("11")
        if not rows.first.is_visible():
            other.get_by_text("Runs", exact=True).click()
        other.get_by_label(re.compile("^Delete ")).and_(other.locator(":enabled")).click()
        expect(rows).to_have_count(1)
        button(other, "Undo delete").click()
        expect(rows).to_have_count(2)
        other.close()


@pytest.mark.slow
def test_steps_that_nothing_records_are_asked_about_once(quiet, tmp_path):
    page, asked = quiet, []

    def answer(dialog):
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", answer)
    for address in serve(tmp_path, "--store", "none"):
        opened(page, address)
        page.reload()
        expect(button(page, "Run")).to_be_enabled()
        assert asked == []
        button(page, "×10").click()
        expect(figure(page, "step")).to_have_text("10")
        button(page, "Reset").click()
        sure = button(page, "Reset 10 unrecorded steps")
        button(page, "Keep").click()
        expect(sure).to_be_hidden()
        expect(figure(page, "step")).to_have_text("10")
        button(page, "Reset").click()  # asked about these already
        expect(figure(page, "step")).to_have_text("0")
        button(page, "Step").click()
        expect(figure(page, "step")).to_have_text("1")
        button(page, "Reset").click()
        button(page, "Reset 1 unrecorded steps").click()
        expect(figure(page, "step")).to_have_text("0")
        button(page, "Undo reset").click()
        expect(figure(page, "step")).to_have_text("1")
        page.wait_for_timeout(1_000)
        page.reload()
        expect(figure(page, "step")).to_have_text("1")
        assert asked == ["beforeunload"]


@pytest.mark.slow
def test_recorded_steps_are_not_asked_about(page, lab):
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    page.wait_for_timeout(1_000)
    button(page, "Reset").click()
    expect(figure(page, "step")).to_have_text("0")
    page.reload()  # a question would be a fault of the page
    expect(button(page, "Run")).to_be_enabled()
