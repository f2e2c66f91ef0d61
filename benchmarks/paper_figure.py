"""The paper's figure: test accuracy of every method over forward passes, and its two diagnostics.

From scratch to 50,000 forward passes and pre-trained to 10,000, ten seeds each (arXiv 2508.16204,
§4.1). Pre-trained runs start from the one pair of specialists that the published code has, for the
pair decides most of what can be reached; a third panel has another pair for every seed. Searches
run over all cores and are written down when they are finished, so the command goes on where it was
stopped. With all of them it writes curves (means and 95 % intervals, the paper's values at the
right) and a table.

    python benchmarks/paper_figure.py                # into benchmarks/results/paper
    python benchmarks/paper_figure.py --quick        # a minute, into a temporary folder
    python benchmarks/paper_figure.py --predict      # how long it would take, a minute
    python benchmarks/paper_figure.py --covariance   # what CMA-ES costs with a full covariance
    python benchmarks/paper_figure.py --task mnist --data ../shared/data/mnist
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import curves
import numpy as np
import pandas as pd
import torch
from findings import Estimate, Finding, about, estimate, markdown
from published import specialists
from stills import png

from m2n2lab import Evolver, make_evolver, tasks
from m2n2lab.analysis.comparison import CompareData, label_heights
from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings
from m2n2lab.utils.files import write_atomically


class Start(NamedTuple):
    """A panel of the figure.

    Attributes:
        words: what the searches start from.
        pretrained: whether the seeds are trained on half of the classes each.
        steps: forward passes.
        paper: the paper's test accuracy at the end of each method, in per cent; ``None`` for a
            method or task that it does not tell of.
        make: makes the evolver of one of its searches.
    """

    words: str
    pretrained: bool
    steps: int
    paper: dict[str, float | None]
    make: Callable[[Settings], Evolver] = build_evolver


def from_published_pair(settings: Settings) -> Evolver:
    """Return the evolver of the settings, with the published code's specialists as seeds."""
    task = tasks.digits()
    return make_evolver(settings.method, task, specialists(task), rng=settings.seed)


PRETRAINED = {
    "m2n2": 68.4,
    "m2n2-no-attraction": 66.2,
    "map-elites": 62.4,
    "m2n2-no-split": 57.8,
    "brute-force": 57.8,
    "ga": 52.0,
}

STARTS = {
    "scratch": Start(
        "from scratch",
        False,
        50_000,
        {
            "m2n2": 87.0,
            "cma-es": 86.0,
            "m2n2-no-crossover": 77.0,
            "ga-no-crossover": 71.0,
            "ga": 68.0,
            "map-elites": 60.0,
        },
    ),
    "pretrained": Start(
        "pre-trained, the published pair", True, 10_000, {**PRETRAINED}, from_published_pair
    ),
    # The paper's code has one pair for all runs: here every seed has a pair of its own.
    "pairs": Start("pre-trained, a pair a seed", True, 10_000, dict.fromkeys(PRETRAINED)),
}

# 28×28 pixels and 8,000 images take many times as long as the digits: a narrow layer.
MNIST = {"mnist": Start("from scratch", False, 50_000, dict.fromkeys(("m2n2", "ga", "cma-es")))}
MNIST_HIDDEN = 32
SEEDS = {"digits": 10, "mnist": 5}

QUICK = {"scratch": 600, "pretrained": 300, "pairs": 300, "mnist": 200}
"""Forward passes of the quick version."""

COLOURS = {
    "m2n2": "#0072b2",
    "cma-es": "#d55e00",
    "ga": "#009e73",
    "map-elites": "#cc79a7",
    "m2n2-no-crossover": "#56b4e9",
    "ga-no-crossover": "#8fbf6a",
    "m2n2-no-attraction": "#56b4e9",
    "m2n2-no-split": "#e69f00",
    "brute-force": "#7f7f7f",
}
PANELS = {
    "test": "test accuracy, %",
    "coverage": "training coverage, %",
    "entropy": "population entropy, bits",
}


def starts_of(task: str) -> dict[str, Start]:
    return MNIST if task == "mnist" else STARTS


def searches(
    starts: dict[str, Start], seeds: int, task: str = "digits", data: Path | None = None
) -> list[curves.Search]:
    """Return every run of the figure."""
    wide: dict[str, Any] = {"hidden": (MNIST_HIDDEN,), "data": data} if task == "mnist" else {}
    return [
        curves.Search(
            f"{name}-{method}",
            start.steps,
            Settings(
                task=task, method=method, seed=seed, pretrained=start.pretrained, threads=1, **wide
            ),
            start.make,
        )
        for name, start in starts.items()
        for method in start.paper
        for seed in range(seeds)
    ]


ROUNDED = 0.05
"""What rounding to a decimal hides of the paper's value, in points."""


def verdict(paper: float | None, ours: Estimate) -> str:
    """Say whether the paper's value lies in our interval, and else by how much ours differs."""
    if paper is None:
        return "nothing to compare with"
    if ours.runs < 2:
        return "one run tells nothing"
    if abs(ours.mean - paper) <= ours.half + ROUNDED:
        return "agrees"
    return f"{abs(ours.mean - paper):.1f} points {'above' if ours.mean > paper else 'below'}"


class Row(NamedTuple):
    """A method's line in the table."""

    start: str
    method: str
    paper: float | None
    ours: Estimate
    verdict: str


def rows(folder: Path, starts: dict[str, Start]) -> Iterator[Row]:
    """Yield what is finished, the paper's best first."""
    for name, start in starts.items():
        for method, paper in start.paper.items():
            found = curves.last(folder, f"{name}-{method}", start.steps)
            if found:
                ours = estimate(100 * x for x in found)
                words = f"{start.words}, {start.steps:,} passes"
                yield Row(words, method, paper, ours, verdict(paper, ours))


def table(folder: Path, starts: dict[str, Start]) -> str:
    """Return paper, ours, interval and verdict of each method in Markdown."""
    heads = ("start", "method", "paper", "ours, mean", "95 % interval", "seeds", "verdict")
    return markdown(
        heads,
        (
            (
                row.start,
                f"`{row.method}`",
                "–" if row.paper is None else f"{row.paper:.1f}",
                f"{row.ours.mean:.1f}",
                f"{row.ours.mean - row.ours.half:.1f} to {row.ours.mean + row.ours.half:.1f}"
                if row.ours.runs > 1
                else "–",
                str(row.ours.runs),
                row.verdict,
            )
            for row in rows(folder, starts)
        ),
    )


def band(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return mean and half of the 95 % interval of a column at each step."""
    groups = [(step, estimate(part)) for step, part in frame.groupby("step")[column]]
    return pd.DataFrame(
        {
            "step": [step for step, _ in groups],
            "mean": [e.mean for _, e in groups],
            "half": [np.nan_to_num(e.half) for _, e in groups],
        }
    )


def panel(folder: Path, name: str, start: Start, column: str) -> Any:
    """Return the curves of one quantity, with the paper's values where they are of it."""
    from bokeh.models import Label
    from bokeh.plotting import figure

    room, scale = 1.45, 1.0 if column == "entropy" else 100.0
    plot = figure(
        width=440,
        height=290 if column == "test" else 210,
        x_range=(0, start.steps * room),
        y_axis_label=PANELS[column],
        x_axis_label="forward passes" if column == [*PANELS][-1] else None,
        title=f"{start.words}" if column == "test" else None,
        toolbar_location=None,
    )
    plot.xaxis.ticker = [k * start.steps // 5 for k in range(6)]
    plot.xaxis.formatter.use_scientific = False
    drawn: dict[str, tuple[Any, Any]] = {}
    for method, paper in start.paper.items():
        frame = curves.read(folder, f"{name}-{method}")
        if not len(frame):
            continue
        curve = band(frame[frame["step"] <= start.steps], column)
        step, mean, half = (curve[part].to_numpy() for part in ("step", "mean", "half"))
        colour = COLOURS[method]
        plot.line(step, scale * mean, color=colour, line_width=2)
        low, high = scale * (mean - half), scale * (mean + half)
        plot.varea(step, low, high, color=colour, alpha=0.15)
        drawn[method] = step, scale * mean
        if column == "test" and paper is not None:
            at = {"x": [start.steps * 1.02], "y": [paper]}
            plot.scatter(**at, marker="diamond", size=12, color=colour, line_color="white")
    if column == "test" and drawn:
        steps, values = zip(*drawn.values(), strict=True)
        data = CompareData(tuple(drawn), tuple(range(len(drawn))), steps, values)
        for method, place in zip(drawn, label_heights(data), strict=True):
            words = {"text": method, "text_color": COLOURS[method], "text_font_size": "11px"}
            plot.add_layout(Label(x=start.steps * 1.05, y=place, text_baseline="middle", **words))
    return plot


def drawing(folder: Path, starts: dict[str, Start]) -> Any:
    """Return the curves of what is finished: a column for each start, a row for each quantity."""
    from bokeh.layouts import gridplot

    rows = [[panel(folder, *start, column) for start in starts.items()] for column in PANELS]
    return gridplot(rows, toolbar_location=None)


def report(
    folder: Path,
    starts: dict[str, Start],
    task: str,
    command: str,
    draw: Callable[[Any], bytes] = png,
) -> str:
    """Write figure and table of what is finished, and return the table."""
    seconds = sum(
        curves.read(folder, f"{name}-{method}").groupby("seed")["seconds"].max().sum()
        for name, start in starts.items()
        for method in start.paper
    )
    text = (
        f"{table(folder, starts)}\n{seconds / 60:.0f} minutes of one core. {about()}. `{command}`\n"
    )
    write_atomically(folder / f"{task}.md", text)
    write_atomically(folder / f"{task}.png", draw(drawing(folder, starts)))
    return text


# -- what it costs --------------------------------------------------------------------------------


def speeds(
    starts: dict[str, Start], task: str, data: Path | None, steps: int
) -> dict[str, tuple[float, float]]:
    """Return CPU seconds and seconds a step of each way to search, measured after a few steps."""
    torch.set_num_threads(1)
    found = {}
    for search in searches(starts, 1, task, data):
        evolver = search.make(search.settings).run(steps // 4)
        cpu, wall = process_time(), perf_counter()
        evolver.run(steps)
        found[search.name] = ((process_time() - cpu) / steps, (perf_counter() - wall) / steps)
    return found


def predict(
    starts: dict[str, Start], seeds: int, task: str, data: Path | None, steps: int = 400
) -> float:
    """Print what a step of each method takes, and return minutes of one core for everything."""
    total = 0.0
    for name, (cpu, wall) in speeds(starts, task, data, steps).items():
        share = cpu * seeds * starts[name.split("-", 1)[0]].steps / 60
        total += share
        print(
            f"  {name:30} {1 / cpu:7,.0f} steps/s of CPU {1 / wall:7,.0f} steps/s here"
            f" {share:7.1f} min of one core for {seeds} seeds",
            flush=True,
        )
    print(f"  {'all':30} {total:.0f} min of one core, {total / 2:.0f} min on two")
    return total


def covariance(sizes: Sequence[int] = (200, 400, 800), size: int = 19_210) -> None:
    """Print what CMA-ES takes a step with a full covariance, and what the digits would need.

    A step draws from N² numbers and adapts them, and now and then an N³ decomposition follows, so
    the time is fitted by a power of N.
    """
    import m2n2lab as lab

    torch.set_num_threads(1)
    taken = []
    for count in sizes:
        task = lab.tasks.from_function(lambda model, _: model[:8] > 0.0, 8)
        seeds = np.random.default_rng(0).normal(0.0, 0.01, (2, count))
        evolver = lab.make_evolver("cma-es", task, seeds, rng=0, covariance="full").run(40)
        began = perf_counter()
        evolver.run(400)
        taken.append((perf_counter() - began) / 400)
        print(f"  {count:6,} weights {1e3 * taken[-1]:10.2f} ms a step")
    power, factor = np.polyfit(np.log(sizes), np.log(taken), 1)
    step = float(np.exp(factor + power * np.log(size)))
    print(
        f"  grows as N^{power:.2f}: {step:.2g} s a step for {size:,} weights, "
        f"{50_000 * step / 3600:,.0f} h for one search of 50,000, and {8e-9 * size**2:.1f} GB for "
        f"each N×N matrix (extrapolated)"
    )


# -- running it -----------------------------------------------------------------------------------


def quick_starts(task: str) -> dict[str, Start]:
    """Return the starts with so few passes that the paper's values mean nothing for them."""
    return {
        name: start._replace(steps=QUICK[name], paper=dict.fromkeys(start.paper))
        for name, start in starts_of(task).items()
    }


def findings(quick: bool) -> Iterator[Finding]:
    """Yield a row for each method; the quick version has too few passes to be judged."""
    if not quick:
        folder = curves.RESULTS / "paper"
        curves.gather(searches(STARTS, SEEDS["digits"]), folder)
        report(folder, STARTS, "digits", "python benchmarks/paper_figure.py")
        for row in rows(folder, STARTS):
            target = "" if row.paper is None else f"the paper's {row.paper:.1f} %"
            met = row.verdict == "agrees" if target else None
            yield Finding(f"{row.start}, {row.method}", f"{row.ours} %", target, met)
        return
    starts = quick_starts("digits")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        curves.gather(searches(starts, 2), folder)
        drawing(folder, starts)
        for row in rows(folder, starts):
            yield Finding(f"{row.start}, {row.method}", f"{row.ours} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--seeds", type=int, help="runs of each method")
    parser.add_argument("--workers", type=int, help="processes; one for each core by default")
    parser.add_argument("--nice", type=int, default=0, help="0 to 19, to stand back")
    parser.add_argument("--folder", type=Path, help="of the results")
    parser.add_argument("--quick", action="store_true", help="two seeds and few passes")
    parser.add_argument("--report", action="store_true", help="figure and table of what is there")
    parser.add_argument("--predict", action="store_true", help="how long it would take")
    parser.add_argument("--covariance", action="store_true", help="cost of a full covariance")
    options = parser.parse_args()
    if options.covariance:
        return covariance()
    starts = quick_starts(options.task) if options.quick else starts_of(options.task)
    seeds = options.seeds or (2 if options.quick else SEEDS[options.task])
    if options.predict:
        predict(starts, seeds, options.task, options.data)
        return None
    home = Path(tempfile.mkdtemp()) if options.quick else curves.RESULTS / "paper"
    folder = options.folder or home
    if not options.report:
        everything = searches(starts, seeds, options.task, options.data)
        curves.gather(everything, folder, options.workers, options.nice)
    words = [("--task", options.task != "digits", options.task), ("--data", options.data, "FOLDER")]
    given = "".join(f" {flag} {value}" for flag, on, value in words if on)
    print(report(folder, starts, options.task, f"python benchmarks/paper_figure.py{given}"))
    print(f"Wrote {folder}/{options.task}.png and {options.task}.md")
    return None


if __name__ == "__main__":
    main()
