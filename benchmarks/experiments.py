"""What the paper's second and third experiment share: methods, their gains, and figures of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import curves
import numpy as np
import pandas as pd
from findings import Estimate, Finding, estimate
from paper_figure import band


class Method(NamedTuple):
    """A row of a table.

    Attributes:
        words: what it is called there.
        method: the lab's name of it; ``""`` for merges without a search.
        options: of the method.
        colour: of its curve.
    """

    words: str
    method: str
    options: dict[str, Any]
    colour: str


def population(evaluations: int) -> int:
    """Return CMA-ES's solutions a generation: 25 of 1,000 evaluations, as in the paper."""
    return max(round(25 * (evaluations / 1000) ** 0.5), 4)


def ends(folder: Path, file: str, steps: int) -> pd.DataFrame:
    """Return the last row of each seed of a method, by seed."""
    rows = curves.read(folder, file)
    return rows[rows["step"] == steps].set_index("seed")


def words(found: Estimate) -> str:
    """Return a mean and its interval."""
    return f"{found}" if found.runs > 1 else f"{found.mean:.1f}"


def percent(values: Any) -> Estimate:
    """Return the estimate of shares, in per cent."""
    return estimate([100 * float(value) for value in values])


def gain(own: pd.Series, other: pd.Series, one: bool = False) -> Estimate | None:
    """Return the points by which other values, by seed, are above one's own, seed by seed.

    Args:
        own, other: values by seed.
        one: whether there is a single other value, which is compared with all of one's own.
    """
    if not len(own) or not len(other):
        return None
    if one:
        return percent(float(other.iloc[0]) - own)
    both = own.index.intersection(other.index)
    return percent(other[both] - own[both]) if len(both) else None


def drawing(
    folder: Path, files: Mapping[str, Method], panels: Mapping[str, tuple[str, float]]
) -> Any:
    """Return curves of searches over evaluations, with bands of their intervals.

    Args:
        folder: of the CSV files.
        files: methods by the name of their file.
        panels: title and factor by column; the first one has the legend.
    """
    from bokeh.layouts import row
    from bokeh.plotting import figure

    plots = []
    for number, (column, (title, scale)) in enumerate(panels.items()):
        plot = figure(
            width=360, height=320, title=title, x_axis_label="evaluations", toolbar_location=None
        )
        for file, method in files.items():
            frame = curves.read(folder, file)
            if not len(frame):
                continue
            curve = band(frame, column)
            step, mean, half = (curve[part].to_numpy() for part in ("step", "mean", "half"))
            label = {} if number else {"legend_label": method.words}
            plot.line(step, scale * mean, color=method.colour, line_width=2, **label)
            low, high = scale * (mean - half), scale * (mean + half)
            plot.varea(step, low, high, color=method.colour, alpha=0.12)
        if not number and plot.renderers:
            plot.legend.location, plot.legend.label_text_font_size = "bottom_right", "10px"
        plots.append(plot)
    return row(*plots)


def minutes(folder: Path, files: Mapping[str, Any]) -> float:
    """Return the minutes of one core that all finished searches took."""
    return float(
        np.sum(
            [
                curves.read(folder, file).groupby("seed")["seconds"].max().sum() / 60
                for file in files
            ]
        )
    )


def experiment(
    description: str | None,
    script: Path,
    evaluations: int,
    names: Sequence[str],
    folder: Path,
    searches: Callable[[Sequence[str], int, int], list[curves.Search]],
    report: Callable[[Path, int, str], str],
    findings: Callable[[bool], Iterator[Finding]],
) -> None:
    """Run what is not finished of an experiment, write what was found, and print the table.

    Args:
        description: the script's, of which the first line is shown as help.
        script: its file.
        evaluations: default number of evaluations of a search.
        names: of all methods.
        folder: of the results.
        searches: returns the searches of methods, seeds and evaluations.
        report: writes table and figures for evaluations and the command that makes them.
        findings: yields the findings of the quick version.
    """
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=evaluations)
    parser.add_argument("--methods", nargs="+", default=names)
    parser.add_argument("--workers", type=int, help="processes of one thread each")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        for finding in findings(True):
            print(*finding[:2])
        return
    if not options.report:
        wanted = searches(options.methods, options.seeds, options.evaluations)
        curves.gather(wanted, folder, options.workers, options.nice)
    command = f"python benchmarks/{script.name}"
    if options.evaluations != evaluations:
        command += f" --evaluations {options.evaluations}"
    print(report(folder, options.evaluations, command))
