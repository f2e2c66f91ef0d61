"""Merging by hand on the page: pick a pair, drag the split, merge, undo, load a cell."""

import re

import pytest
from helpers.pages import button, click_at, drawn, figure, opened
from playwright.sync_api import expect


def test_a_person_picks_a_pair_drags_the_split_and_merges_by_hand(page, lab, digits):
    from m2n2lab import Evolver
    from m2n2lab.analysis.maps import attraction_data
    from m2n2lab.analysis.merge_preview import bench_data
    from m2n2lab.utils.text import percent

    opened(page, lab)
    for _ in range(6):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("60")
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(60)
    matrix = attraction_data(evolver.archive, evolver.task)
    many = len(matrix.ids)

    # The fourth row's A meets the second column's B.
    a, b = matrix.ids[3], matrix.ids[1]
    click_at(page, "AttractionView", 1.5, many - 3.5)
    expect(page.get_by_label("Parent A")).to_have_value(str(a))
    expect(page.get_by_label("Parent B")).to_have_value(str(b))
    expect(figure(page, "attracted")).to_have_text(f"{matrix.worth[3, 1]:.1f}")
    expect(figure(page, "score-a")).to_have_text(percent(evolver.archive[a].score))

    # The handle is dragged with the mouse, then moved by the keyboard to the very place.
    handle = page.get_by_role("slider", name="split point")
    handle.scroll_into_view_if_needed()
    strip = page.locator(".split-editor .strip").bounding_box()
    knob = handle.bounding_box()
    page.mouse.move(knob["x"] + knob["width"] / 2, strip["y"] + strip["height"] / 2)
    page.mouse.down()
    page.mouse.move(strip["x"] + strip["width"] * 0.2, strip["y"] + 9, steps=6)
    page.mouse.move(strip["x"] + strip["width"] * 0.3, strip["y"] + 9, steps=6)
    page.mouse.up()
    dragged = int(handle.get_attribute("aria-valuenow"))
    assert dragged == pytest.approx(0.3 * evolver.space.size, abs=0.01 * evolver.space.size)
    handle.press("ArrowRight")
    split = dragged + 1
    expect(page.get_by_label("Split at")).to_have_value(str(split))
    expect(handle).to_have_attribute(  # a row of the first layer is what one pixel weighs
        "aria-valuetext", f"30 % · first layer, row {split // 256}"
    )

    # The preview says what the same proposal does in Python.
    proposal = evolver.ask(parents=(a, b), split=split, mix=0.5)
    expect(figure(page, "verdict")).to_have_attribute(
        "title", f"of {a} × {b}, split {split:,}, mix 0.50"
    )
    shown = figure(page, "verdict").inner_text()
    assert figure(page, "either").inner_text() == percent(bench_data(evolver, proposal).either)
    button(page, "Merge").click()
    expect(figure(page, "step")).to_have_text("61")
    said = figure(page, "note").inner_text()
    rival = re.search(r"(displaces|does not beat|member,) (\d+)\b", shown)[2]
    if shown.startswith("Would live."):
        assert said == f"Child 62 lives and takes the place of {rival}."
    else:
        assert re.match(rf"Child 62 died: its fitness [\d.]+ does not beat {rival} ", said)

    button(page, "Undo").click()
    expect(figure(page, "step")).to_have_text("60")
    expect(figure(page, "note")).to_contain_text("taken back")


@pytest.mark.slow
def test_a_click_on_the_landscape_loads_split_and_mix(page, lab, digits):
    opened(page, lab)
    button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("10")
    drawn(page, "LandscapeView")
    click_at(page, "LandscapeView", 0.25, 0.75)
    expect(page.get_by_label("Split at")).to_have_value(str(round(0.25 * 19_210)))
    handle = page.get_by_role("slider", name="split point")
    expect(handle).to_have_attribute("aria-valuenow", str(round(0.25 * 19_210)))
