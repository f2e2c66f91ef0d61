"""What M2N2's own choices are worth: grids of its options, a heat map each.

- size × α: how many live, and how much they compete.
- split range: from where to where in the vector the split point may fall.
- splits × reach: how many split points a child has, and how far it may go beyond its parents.

Each from scratch and pre-trained (a pair of specialists a seed), test accuracy on the digits, mean
of five seeds. Searches run over all cores and are kept when they are finished.

    python benchmarks/ablations.py            # into benchmarks/results/ablations
    python benchmarks/ablations.py --quick    # a minute, into a temporary folder
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import curves
from findings import Estimate, Finding, about, estimate, markdown
from ideas import search_on
from stills import png

from m2n2lab.config.settings import Settings
from m2n2lab.core.evolver import Evolver
from m2n2lab.tasks import digits
from m2n2lab.utils.files import write_atomically

SEEDS = 5
STARTS = {"scratch": False, "pretrained": True}
STEPS = {"scratch": 10_000, "pretrained": 5_000}
QUICK = {"scratch": 100, "pretrained": 100}
EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Grid(NamedTuple):
    """Two choices and their values.

    Attributes:
        words: what is varied.
        x, y: names of the axes.
        xs, ys: values along them.
        options: of a search in one cell, from its x and y; ``None`` for a cell that means nothing.
        usual: x and y of the paper's own choice.
    """

    words: str
    x: str
    y: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    options: Callable[[float, float], dict[str, Any] | None]
    usual: tuple[float, float]


def _size_alpha(x: float, y: float) -> dict[str, Any]:
    return {"archive_size": int(x), "alpha": y}


def _range(x: float, y: float) -> dict[str, Any] | None:
    return {"between": (x, y)} if x < y else None


def _splits(x: float, y: float) -> dict[str, Any]:
    several = {"split_point": False} if x == 0 else {"splits": int(x)}
    return {**several, "reach": y}


GRIDS = {
    "size-alpha": Grid(
        "members and competition",
        "members",
        "α",
        (5, 10, 20, 40, 80),
        (0.0, 0.5, 1.0, 1.5, 2.0),
        _size_alpha,
        (20, 1.0),
    ),
    "range": Grid("split range", "from", "to", EDGES[:-1], EDGES[1:], _range, (0.0, 1.0)),
    "splits-reach": Grid(
        "split points and reach",
        "splits",
        "reach",
        (0, 1, 2, 4),
        (0.0, 0.25, 0.5, 1.0),
        _splits,
        (1, 0.0),
    ),
}


def on_digits(settings: Settings) -> Evolver:
    return search_on(digits(), settings)


def named(grid: str, start: str, x: float, y: float) -> str:
    """Return the name of a cell's file."""
    return f"{grid}-{start}-{x:g}-{y:g}"


def searches(grids: dict[str, Grid], steps: dict[str, int], seeds: int) -> list[curves.Search]:
    """Return every run of every cell."""
    return [
        curves.Search(
            named(name, start, x, y),
            steps[start],
            Settings(seed=seed, pretrained=pretrained, options=options, threads=1),
            on_digits,
        )
        for name, grid in grids.items()
        for start, pretrained in STARTS.items()
        for x, y in product(grid.xs, grid.ys)
        if (options := grid.options(x, y)) is not None
        for seed in range(seeds)
    ]


def ends(folder: Path, name: str, start: str, steps: int) -> dict[tuple[float, float], list[float]]:
    """Return the test accuracy of each run of each cell of a grid that is finished, by seed."""
    grid = GRIDS[name]
    return {
        (x, y): found
        for x, y in product(grid.xs, grid.ys)
        if (found := curves.last(folder, named(name, start, x, y), steps))
    }


def cells(folder: Path, name: str, start: str, steps: int) -> dict[tuple[float, float], Estimate]:
    """Return the test accuracy, in per cent, of each cell of a grid that is finished."""
    found = ends(folder, name, start, steps)
    return {cell: estimate(100 * end for end in runs) for cell, runs in found.items()}


def gains(folder: Path, name: str, start: str, steps: int) -> dict[tuple[float, float], Estimate]:
    """Return what each cell has over the paper's choice, in points, from runs of the same seed."""
    found = ends(folder, name, start, steps)
    usual = found.pop(GRIDS[name].usual, [])
    return {
        cell: estimate(100 * (end - other) for end, other in zip(runs, usual, strict=True))
        for cell, runs in found.items()
        if len(runs) == len(usual)
    }


def table(name: str, found: dict[tuple[float, float], Estimate], sign: str = "") -> str:
    """Return a grid's figures as a table in Markdown, a row for each y."""
    grid = GRIDS[name]
    heads = (f"{grid.y} \\ {grid.x}", *(f"{x:g}" for x in grid.xs))
    rows = (
        (f"{y:g}", *(found[x, y].words(sign) if (x, y) in found else "–" for x in grid.xs))
        for y in grid.ys
    )
    return markdown(heads, rows)


def tables(folder: Path, name: str, start: str, steps: int) -> str:
    """Return what a grid came to, and what that is against the paper's choice."""
    words = f"**{GRIDS[name].words}, {start}, {steps:,} passes**"
    return (
        f"{words}, test accuracy in %\n\n{table(name, cells(folder, name, start, steps))}\n"
        f"Against the paper's choice, runs of the same seed, in points:\n\n"
        f"{table(name, gains(folder, name, start, steps), '+')}"
    )


def heat_map(folder: Path, name: str, start: str, steps: int) -> Any:
    """Return a grid as a heat map with its means written in."""
    from bokeh.plotting import figure
    from bokeh.transform import linear_cmap

    from m2n2lab.viz.theme import LIGHT

    grid, found = GRIDS[name], cells(folder, name, start, steps)
    means = [cell.mean for cell in found.values()]
    low, high = (min(means), max(means)) if means else (0.0, 100.0)
    middle = (low + high) / 2
    columns = {
        "x": [f"{x:g}" for x, _ in found],
        "y": [f"{y:g}" for _, y in found],
        "mean": means,
        "text": [f"{mean:.1f}" for mean in means],
        "ink": ["#ffffff" if mean > middle else "#1b1b1f" for mean in means],
    }
    plot = figure(
        title=f"{grid.words}, {start}",
        x_range=[f"{x:g}" for x in grid.xs],
        y_range=[f"{y:g}" for y in grid.ys],
        x_axis_label=grid.x,
        y_axis_label=grid.y,
        width=420,
        height=340,
        toolbar_location=None,
    )
    colour = linear_cmap("mean", LIGHT.ramp, low, high)
    plot.rect("x", "y", 0.98, 0.98, source=columns, color=colour)
    centred = {"text_align": "center", "text_baseline": "middle", "text_font_size": "12px"}
    plot.text("x", "y", "text", source=columns, text_color="ink", **centred)
    plot.grid.visible = False
    return plot


def report(folder: Path, draw: Callable[[Any], bytes] = png) -> str:
    """Write tables and heat maps of what is finished, and return the tables."""
    from bokeh.layouts import gridplot

    each = [(name, start, STEPS[start]) for name in GRIDS for start in STARTS]
    text = "\n".join(tables(folder, *one) for one in each)
    told = f"{text}\n{SEEDS} seeds a cell. {about()}. `python benchmarks/ablations.py`\n"
    write_atomically(folder / "ablations.md", told)
    maps = [heat_map(folder, *one) for one in each]
    picture = gridplot(maps, ncols=len(STARTS), toolbar_location=None)
    write_atomically(folder / "ablations.png", draw(picture))
    return told


def best(folder: Path, steps: dict[str, int]) -> Iterator[Finding]:
    """Yield the best cell of each grid."""
    for name, grid in GRIDS.items():
        for start in STARTS:
            found = cells(folder, name, start, steps[start])
            if found:
                (x, y), top = max(found.items(), key=lambda item: item[1].mean)
                what = f"best of {grid.words}, {start}, {steps[start]:,} passes"
                yield Finding(what, f"{grid.x} {x:g}, {grid.y} {y:g}: {top} %")


def corners() -> dict[str, Grid]:
    """Return the grids with their first and last values only."""
    return {
        name: grid._replace(xs=grid.xs[:: len(grid.xs) - 1], ys=grid.ys[:: len(grid.ys) - 1])
        for name, grid in GRIDS.items()
    }


def findings(quick: bool) -> Iterator[Finding]:
    if not quick:
        folder = curves.RESULTS / "ablations"
        curves.gather(searches(GRIDS, STEPS, SEEDS), folder)
        report(folder)
        yield from best(folder, STEPS)
        return
    with tempfile.TemporaryDirectory() as name:
        curves.gather(searches(corners(), QUICK, 1), Path(name))
        yield from best(Path(name), QUICK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, help="processes; one for each core by default")
    parser.add_argument("--nice", type=int, default=0, help="0 to 19, to stand back")
    parser.add_argument("--folder", type=Path, help="of the results")
    parser.add_argument("--quick", action="store_true", help="corners, one seed, few passes")
    parser.add_argument("--report", action="store_true", help="tables and maps of what is there")
    options = parser.parse_args()
    if options.quick:
        for finding in findings(True):
            print(f"{finding.what}: {finding.figure}")
        return
    folder = options.folder or curves.RESULTS / "ablations"
    if not options.report:
        everything = searches(GRIDS, STEPS, SEEDS)
        curves.gather(everything, folder, options.workers, options.nice)
    print(report(folder))


if __name__ == "__main__":
    main()
