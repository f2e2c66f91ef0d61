"""How the cost of a step grows with archive and task: P members, D data points.

A step is all but scoring: two parents are drawn, a child's scores are judged, and it is admitted if
it is accepted. Scores are drawn at random, right or wrong, or graded. One child in eight is as good
as the members, and is mostly accepted; the others are worse: on the digits, 13 % are accepted. An
accepted child costs many times a rejected one, so a search that accepts more is slower than this.
``attraction()`` is the matrix that the page shows. Every figure is the least of a few blocks, for
other work on the machine only adds to it.

    python benchmarks/growth.py [--full] [--plot growth.html]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from findings import Finding, at_most, markdown

import m2n2lab as lab

MEMBERS = (5, 20, 100, 300, 1_000)
POINTS = (100, 1_000, 10_000, 100_000)
GRADED_LIMIT = 25_000_000
"""Most scores, members times data points, of graded archives here: 0.2 GB a copy."""
MATRIX_LIMIT = 2e9
"""Most sums over data points, P² D, of an attraction matrix here."""

TARGET = (100, 100_000)
STEP_MS, ATTRACTION_S = 5.0, 0.2
BLOCKS = 3


class Cost(NamedTuple):
    """What an archive costs.

    Attributes:
        members: P.
        points: D.
        graded: whether scores are graded rather than right or wrong.
        step: milliseconds of a mean step.
        accepted: share of the children that were accepted.
        attraction: seconds; NaN if it was not measured.
    """

    members: int
    points: int
    graded: bool
    step: float
    accepted: float
    attraction: float


def archive_of(members, points, graded, draw):
    """Return a full archive with random scores."""
    archive = lab.Archive(points, members, capacity=None)
    levels = 0.4 + 0.2 * draw.random(members)  # shares of data points that they solve
    scores = np.zeros((members + 1, points))
    for row, level in enumerate(levels):
        scores[row] = draw.random(points) < level
        if graded:
            scores[row] *= draw.random(points)
    archive.load_state_dict(  # at once, as one by one takes P steps
        {
            "ids": [*range(members), -1],
            "born": [0] * (members + 1),
            "parents": [[]] * (members + 1),
            "genomes": [None] * (members + 1),
            "scores": scores,
            "graded": graded,
        }
    )
    return archive, levels


def cost(members, points, graded, steps=16, rng=0):
    """Return the cost of an archive's steps and of its attraction."""
    draw = np.random.default_rng(rng)
    archive, levels = archive_of(members, points, graded, draw)
    born, taken, accepted = members, [], 0
    for _ in range(BLOCKS):
        children = []
        for step in range(steps):
            child = draw.random(points) < draw.choice(levels) * (1.0 if step % 8 == 7 else 0.2)
            children.append(child * draw.random(points) if graded else child)
        start = perf_counter()
        for scores in children:
            parent = archive.draw_parent(draw.random())
            archive.draw_mate(parent, draw.random())
            accepted += archive.add(born, None, scores, born=born).accepted
            born += 1
        taken.append((perf_counter() - start) / steps)
    seconds = np.nan
    if members**2 * points <= MATRIX_LIMIT:
        seconds = min(timed(archive.attraction) for _ in range(BLOCKS))
    share = accepted / (BLOCKS * steps)
    return Cost(members, points, graded, min(taken) * 1e3, share, seconds)


def timed(call):
    """Return the seconds of a call."""
    start = perf_counter()
    call()
    return perf_counter() - start


def costs(full):
    """Yield the costs over P and D."""
    for graded in (False, True):
        for points in POINTS if full else POINTS[1:3]:
            for members in MEMBERS if full else MEMBERS[:3]:
                if not graded or members * points <= GRADED_LIMIT:
                    yield cost(members, points, graded)


def table(rows):
    """Return the costs as Markdown."""
    heads = ("scores", "P", "D", "a step, ms", "accepted", "attraction, s")
    return markdown(
        heads,
        (
            (
                "graded" if row.graded else "right or wrong",
                f"{row.members:,}",
                f"{row.points:,}",
                f"{row.step:.2f}",
                f"{row.accepted:.0%}",
                "–" if np.isnan(row.attraction) else f"{row.attraction:.4f}",
            )
            for row in rows
        ),
    )


def save_plot(rows, path):
    """Write the cost of a step over P, a line for each D, as a page that needs no network."""
    from bokeh.embed import file_html
    from bokeh.palettes import Category10
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    plot = figure(
        title="A step without its scoring",
        x_axis_type="log",
        y_axis_type="log",
        x_axis_label="P, members",
        y_axis_label="ms",
        width=800,
        height=480,
    )
    for color, points in zip(Category10[10], POINTS, strict=False):
        for graded, dash in ((False, "solid"), (True, "dashed")):
            line = [row for row in rows if (row.points, row.graded) == (points, graded)]
            label = f"D = {points:,}, {'graded' if graded else 'right or wrong'}"
            plot.line(
                [row.members for row in line],
                [row.step for row in line],
                color=color,
                line_dash=dash,
                line_width=2,
                legend_label=label,
            )
    plot.legend.location = "top_left"
    Path(path).write_text(file_html(plot, INLINE, "m2n2lab: growth"), encoding="utf-8")


def findings(quick: bool) -> Iterator[Finding]:
    members, points = TARGET
    for graded in (False, True):
        row = cost(members, points, graded, steps=8 if quick else 32)
        kind = "graded" if graded else "right/wrong"
        what = f"P = {members}, D = {points:,}, {kind}"
        yield at_most(f"a step, {what}, {row.accepted:.0%} accepted", row.step, STEP_MS, " ms")
        yield at_most(f"attraction(), {what}", row.attraction, ATTRACTION_S, " s", 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="P 5 to 1,000, D 100 to 100,000")
    parser.add_argument("--plot", type=Path, help="write an HTML page with the plot")
    options = parser.parse_args()
    rows = [*costs(options.full)]
    print(table(rows))
    for row in findings(quick=not options.full):
        print(f"{row.what}: {row.figure} (target {row.target}: {row.verdict})")
    if options.plot is not None:
        save_plot(rows, options.plot)
        print(f"\nWrote {options.plot}")


if __name__ == "__main__":
    main()
