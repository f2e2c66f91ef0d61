"""The zoo's language models on the page: answers and trips of the chosen, live."""

import sys

import pytest
from pages import free_port, opened, served
from playwright.sync_api import expect

COMMAND = [sys.executable, "-m", "m2n2lab", "serve", "--task", "gsm8k+webshop", "--limit", "4"]


@pytest.fixture(scope="module")
def speaking(tmp_path_factory):
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [*COMMAND, "--threads", "1", "--port", str(port)]
    for _ in served(command, port, log):
        yield f"http://localhost:{port}/"


def said(page, who):
    """Return all that A, B or the child wrote, opened."""
    region = page.get_by_role("region", name="Answers")
    return region.locator(f"details.{who} pre").all_text_contents()


def test_answers_and_trips_of_the_child_change_with_a_step(page, speaking):
    opened(page, speaking)
    region = page.get_by_role("region", name="Answers")
    expect(region.locator("details.child").first).to_be_visible()
    before = said(page, "child")
    print(before)
