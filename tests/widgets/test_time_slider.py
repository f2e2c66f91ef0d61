"""The time slider: looking at a past step, and branching from there."""

import re

import numpy as np
import pytest
from helpers.pages import button, figure, opened
from playwright.sync_api import expect

from m2n2lab import Evolver
from m2n2lab.utils.text import percent

ROWS = """ids => {
  const models = Bokeh.documents.flatMap(document => [...document.all_models])
  return ["NichesView", "AttractionView"].every(name =>
    models.find(model => model.name === name && model.renderers).renderers.some(
      ({ data_source }) => String(data_source?.data.ids?.[0]) === String(ids)))
}"""
"""Whether both maps show these members, the fittest first."""


def by_fitness(evolver):
    archive = evolver.archive
    return [archive.ids[row] for row in np.argsort(-archive.fitness, kind="stable")]


def mean(evolver):
    members = evolver.archive.members
    return percent(sum(member.score for member in members) / len(members))


@pytest.mark.slow
def test_the_past_is_scrubbed_and_another_run_branches_from_it(page, lab, digits):
    def search(steps):
        return Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0).run(steps)

    opened(page, lab)
    slider = page.get_by_role("slider", name="Time")
    when = page.get_by_test_id("when")
    expect(slider).to_be_disabled()
    for _ in range(6):
        button(page, "×10").click()
    expect(figure(page, "step")).to_have_text("60")
    expect(when).to_have_text("step 60, now")

    # Dragged to the middle, then step by step.
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 4, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, y, steps=12)
    page.mouse.up()
    # The hand holds the thumb beside its middle, and a narrow slider has few pixels a step.
    expect(when).to_have_text(re.compile(r"Viewing step (2[5-9]|3[0-5]) of 60"))
    too_far = int(slider.input_value()) - 28
    for _ in range(abs(too_far)):
        slider.press("ArrowLeft" if too_far > 0 else "ArrowRight")
    expect(when).to_have_text("Viewing step 28 of 60")
    expect(figure(page, "mean")).to_have_text(mean(search(28)))
    expect(figure(page, "step")).to_have_text("28")
    page.wait_for_function(ROWS, arg=by_fitness(search(28)))

    # The search goes on meanwhile, and the page stays where it is.
    button(page, "×10").click()
    expect(when).to_have_text("Viewing step 28 of 70")
    expect(figure(page, "mean")).to_have_text(mean(search(28)))

    button(page, "Branch from here").click()
    expect(page.get_by_text("digits · m2n2 · seed 0 · from run 1, step 28")).to_be_visible()
    expect(when).to_have_text("step 28, now")
    button(page, "×10").click()
    expect(when).to_have_text("step 38, now")
    expect(figure(page, "mean")).to_have_text(mean(search(38)))

    page.get_by_role("tab", name="Compare").click()
    button(page, "Show 1").click()
    expect(when).to_have_text("Viewing step 28 of 70")
    button(page, "Now").click()
    expect(when).to_have_text("step 70, now")
    page.wait_for_function(ROWS, arg=by_fitness(search(70)))
    expect(figure(page, "mean")).to_have_text(mean(search(70)))
