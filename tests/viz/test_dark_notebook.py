"""Plots of a notebook take the colours of the dark theme where the notebook is dark."""

import holoviews as hv
import pytest
from bokeh.embed import file_html
from bokeh.resources import INLINE

from m2n2lab import Evolver
from m2n2lab.viz.theme import DARK, LIGHT, ramp

COLOURS = """() => {
  const [figure] = Bokeh.documents[0].roots(), found = new Set([figure.background_fill_color])
  for (const model of figure.references()) {
    for (const colour of model.palette ?? []) found.add(colour)
    const name = (key) => model.attributes[key]?.value ?? model.attributes[key]
    for (const key of ["major_label_text_color", "line_color", "fill_color", "text_color"])
      if (typeof name(key) === "string" && name(key).startsWith("#")) found.add(name(key))
    for (const colour of model.data?.color ?? []) found.add(colour)
  }
  return [...found]
}"""


def shown(page, plot, body):
    """Return the colours of a plot in a notebook with a body like this."""
    page.goto("about:blank")  # or Bokeh would keep the plot before
    page.set_content(file_html(hv.render(plot), INLINE).replace("<body", f"<body {body}"))
    page.wait_for_function("() => window.Bokeh?.documents[0]?.roots()[0]?.inner_width > 0")
    page.wait_for_timeout(300)
    return set(page.evaluate(COLOURS))


@pytest.mark.slow
def test_plots_of_a_dark_notebook_are_dark_and_others_light(page, tiny, tiny_seeds):
    evolver = Evolver(tiny, tiny_seeds, archive_size=6, mutation=0.05, rng=1).run(20)
    only_light = {LIGHT.card, LIGHT.quiet, LIGHT.text, *ramp(LIGHT, start=2)}
    only_light -= {*DARK[1:10], *DARK.runs, *ramp(DARK), *ramp(DARK, start=2)}
    for draw in (evolver.plot.coverage, evolver.plot.attraction, evolver.plot.lineage):
        dark = shown(page, draw(), 'data-jp-theme-light="false"')
        assert {DARK.card, DARK.quiet} <= dark
        assert len(dark & only_light) <= 2  # of 256 steps, rounded another way
        light = shown(page, draw(), 'data-jp-theme-light="true"')
        assert {LIGHT.card, LIGHT.quiet} <= light
        assert DARK.card not in light
    assert DARK.card in shown(page, evolver.plot.curves(), 'class="vscode-dark"')
