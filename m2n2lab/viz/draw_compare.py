"""Comparison plot: the curves of several searches, each with its name at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np

from m2n2lab.analysis.comparison import MIN_LABEL_GAP, CompareData, compare_data, label_heights
from m2n2lab.analysis.maps import curves_data
from m2n2lab.core.evolver import Evolver
from m2n2lab.utils.errors import InputError, described
from m2n2lab.viz.draw_maps import Hook, column_hook, font_hook, sized, theme_hook
from m2n2lab.viz.theme import LIGHT, Theme

X_RANGE_FACTOR = 1.02
"""End of the x axis, as a multiple of the last step: the ends of the curves stay visible."""

MAX_NAME_CHARS = 30
"""Longest name that is shown in full."""

Columns = dict[str, Any]


def run_colour(theme: Theme, number: int) -> str:
    """Return the colour of a search; there are as many as searches on a page."""
    return theme.runs[number % len(theme.runs)]


def compare_columns(
    data: CompareData, theme: Theme, apart: float = MIN_LABEL_GAP
) -> dict[str, Columns]:
    """Return the sources of the plot: curves, and names at their ends, ``apart`` by so much."""
    colours = [run_colour(theme, number) for number in data.numbers]
    places = label_heights(data, apart)
    named = [k for k, steps in enumerate(data.steps) if len(steps)]
    ends = [float(data.steps[k][-1]) for k in named]
    return {
        "runs": {
            "xs": [steps.tolist() for steps in data.steps],
            "ys": [values.tolist() for values in data.values],
            "colour": colours,
        },
        "names": {
            "x": ends,
            "y": [float(places[k]) for k in named],
            "text": [_short(data.names[k]) for k in named],
            "colour": [colours[k] for k in named],
            # Inside the plot, on the side where there is more room.
            "align": ["right" if end > data.last / 2 else "left" for end in ends],
        },
    }


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1] + "…"


def draw_compare(
    data: CompareData,
    theme: Theme,
    hooks: tuple[Hook, ...] = (),
    apart: float = MIN_LABEL_GAP,
    ylabel: str = "per cent",
) -> Any:
    """Draw the curves over the forward passes, with names ``apart`` (see ``label_heights``)."""
    columns = compare_columns(data, theme, apart)
    lines = [
        {"x": x, "y": y, "colour": colour}
        for x, y, colour in zip(*columns["runs"].values(), strict=True)
        if x  # HoloViews takes a colour for a number where no line has a point
    ]
    options: dict[str, Any] = {"default_tools": [], "show_legend": False}
    curves = hv.Contours(lines, ["x", "y"], ["colour"], label="runs").opts(
        color="colour",
        line_width=2.2,
        hooks=[column_hook(columns["runs"], line_color="colour"), *hooks],
        **options,
    )
    names = columns["names"]
    labels = hv.Labels(
        tuple(names.values()),
        ["x", "y"],
        ["text", "colour", "align"],
        label="names",
    ).opts(
        text_color="colour",
        text_font_size="11px",
        text_baseline="bottom",
        hooks=[font_hook, column_hook(names, text_color="colour", text_align="align"), *hooks],
        **options,
    )
    low, high = data.bounds
    return (curves * labels).opts(
        responsive=True,
        toolbar=None,
        default_tools=[],
        hooks=[theme_hook(theme, grid=True, axes=False), *hooks],
        xlim=(0, data.last * X_RANGE_FACTOR),
        ylim=(low, high),
        xformatter="%d",
        xlabel="forward passes",
        ylabel=ylabel,
    )


def compare(
    runs: Mapping[str, Evolver] | Sequence[Evolver],
    metric: str | None = None,
    theme: Theme = LIGHT,
) -> Any:
    """Return one plot of several searches over their forward passes (a HoloViews object).

    ::

        runs = {m: m2n2lab.make_evolver(m, task, seeds, rng=0) for m in ("m2n2", "ga")}
        for evolver in runs.values():
            evolver.run(2_000)
        m2n2lab.compare(runs)

    Args:
        runs: the searches by name; those of a list have the names of their methods.
        metric: ``"best, held out"``, ``"best, train"`` or ``"covered"``; by default the held-out
            score, or the training score if a search has no held-out data.
        theme: colours.

    Raises:
        InputError: there are no runs, one is no search, or the metric is unknown.
    """
    named = _named(runs)
    curves = {name: curves_data(evolver) for name, evolver in named.items()}
    if metric is None:
        tested = all(not np.isnan(each.test).all() for each in curves.values())
        metric = "best, held out" if tested else "best, train"
    data = compare_data(curves, metric)
    return sized(draw_compare(data, theme.on_paper, ylabel=f"{metric}, per cent"), 380)


def _named(runs: Any) -> dict[str, Evolver]:
    """Return searches by name; those of a list by their methods, numbered where these are equal.

    Raises:
        InputError: there are none, or one is no search.
    """
    if isinstance(runs, Evolver):
        runs = [runs]
    if isinstance(runs, (list, tuple)):
        named: dict[str, Any] = {}
        for each in runs:
            name, number = str(getattr(each, "method", each)), 1
            while (unique := name if number == 1 else f"{name} {number}") in named:
                number += 1
            named[unique] = each
        runs = named
    values = [*runs.values()] if isinstance(runs, Mapping) else [runs]
    wrong = [each for each in values if not isinstance(each, Evolver)]
    if wrong:
        raise InputError(
            f"compare needs searches by name, got {described(wrong[0])}; give them as "
            f'{{"m2n2": evolver, …}}.'
        )
    if not runs:
        raise InputError(
            'compare needs at least one run, got none; give them by name, as {"m2n2": evolver, …}.'
        )
    return dict(runs)
