"""``m2n2lab serve --shared``: one search that every page watches and steers."""

import pytest
from helpers.pages import button, figure, free_port, lab_command, logged, opened, served, steps
from playwright.sync_api import expect

from m2n2lab import Evolver
from m2n2lab.utils.text import percent


@pytest.fixture
def shared(tmp_path):
    """The address of a server whose pages share one search."""
    port = free_port()
    log = tmp_path / "log"
    for _ in served([*lab_command(port), "--shared"], port, log):
        yield f"http://localhost:{port}/"
    assert "\n".join(logged(log, "traceback")) == ""


@pytest.mark.slow
def test_two_people_on_one_search_take_turns_and_corrupt_nothing(page, context, shared, digits):
    other = opened(context.new_page(), shared)
    opened(page, shared)
    for _ in range(10):  # without waiting for each other
        button(page, "Step").click()
        button(other, "Step").click()
    for each in (page, other):
        expect(figure(each, "step")).to_have_text("20")
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(20)
    mean = percent(sum(member.score for member in evolver.archive.members) / len(evolver.archive))
    for each in (page, other):
        expect(figure(each, "mean")).to_have_text(mean)

    # One runs it, the other pauses it; both see where it stopped.
    button(page, "Run").click()
    button(other, "Pause").click()
    expect(figure(page, "phase")).to_have_text("paused")
    stopped = steps(other)
    expect(figure(page, "step")).to_have_text(f"{stopped:,}")

    # One merges by hand, and both see that.
    button(other, "Merge").click()
    for each in (page, other):
        expect(figure(each, "step")).to_have_text(f"{stopped + 1:,}")

    # It goes on without pages, and the next one finds it as it was left.
    other.close()
    page.reload()
    expect(figure(page, "step")).to_have_text(f"{stopped + 1:,}")
