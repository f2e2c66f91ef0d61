"""How much faster many workers are, measured with two of them and simulated for up to 1,000.

- measured: children a second of two workers over those of one, on a task that takes some 0.1 s a
  child, one torch thread each. Blocks of one and of two alternate, so that a busy machine slows
  both, and the median of their ratios is printed. The target is 1.7. Beside it stands what two
  plain processes do that score as much, which is all that a machine gives: two cores may be one.
- simulated: the same number of evaluations by W workers, told as they arrive (asynchronous) or
  generation by generation, each as long as its slowest. Durations are log-normal; their spread
  (standard deviation of the logarithm) is measured here, and two wider ones are shown as well:
  language models need longer for longer answers. Asking, breeding and telling happen in one place,
  one at a time, and take what they take here; evaluations last --seconds on average.

    python benchmarks/scaling.py [--kind ray|process] [--steps 40] [--plot scaling.html]
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from findings import Finding, at_least

import m2n2lab as lab

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000)
TARGET = 1.7
WIDER = (0.3, 1.0)
BLOCKS = 3


def slow_task(passes=200):
    """The digits scored many times over: work that fits into a core's cache."""
    digits = lab.tasks.digits()

    def score(model, indices):
        for _ in range(passes):
            right = digits.score(model, indices)
        return right

    task = lab.tasks.from_function(score, digits.points)
    return task, digits.random_seeds(2, rng=0)


def evolver_of(task, seeds):
    return lab.Evolver(task, seeds, mutation=0.01, rng=0)


def pool_of(kind, workers):
    return lab.RayExecutor(workers) if kind == "ray" else lab.ProcessExecutor(workers)


@cache
def _plain_task():
    torch.set_num_threads(1)
    return slow_task()


def _score(children):
    task, seeds = _plain_task()
    for _ in range(children):
        task.evaluate(torch.from_numpy(seeds[0]))


def plain(pool, workers, children):
    """Return children a second of so many plain processes that score so many each."""
    start = perf_counter()
    list(pool.map(_score, [children] * workers))
    return workers * children / (perf_counter() - start)


def rates(kind, steps):
    """Return children a second, a row for each block: of one and two workers, and plain ones."""
    task, seeds = slow_task()
    with (
        pool_of(kind, 1) as one,
        pool_of(kind, 2) as two,
        ProcessPoolExecutor(2, get_context("spawn")) as bare,
    ):
        plain(bare, 8, 1)  # until both are there
        searches = [(evolver_of(task, seeds), pool) for pool in (two, one)]  # the larger starts Ray
        for evolver, pool in searches:
            evolver.run(4 * pool.workers, executor=pool)  # until all workers are there
        pairs = []
        for _ in range(BLOCKS):
            speeds = {}
            for evolver, pool in searches:
                start = perf_counter()
                evolver.run(steps * pool.workers, executor=pool)
                speeds[pool.workers] = steps * pool.workers / (perf_counter() - start)
            pairs.append((speeds[1], speeds[2], *(plain(bare, n, steps) for n in (1, 2))))
    return pairs


def ratios(rows):
    """Return the median ratios two ÷ one of workers, and of plain processes."""
    workers = median(two / one for one, two, *_ in rows)
    return workers, median(two / one for *_, one, two in rows)


def measured(steps=40):
    """Return the spread of evaluation times here, and the seconds that all else takes a child."""
    torch.set_num_threads(1)
    evolver = evolver_of(*slow_task())
    seconds, other = [], []
    for _ in range(steps):
        start = perf_counter()
        proposal = evolver.ask()
        model = evolver.space.materialise(evolver.breed(proposal))
        asked = perf_counter()
        scores = evolver.task.evaluate(model)
        scored = perf_counter()
        evolver.tell(proposal, scores)
        seconds.append(scored - asked)
        other.append(perf_counter() - scored + asked - start)
    return float(np.std(np.log(seconds))), median(other)


def generational(durations, workers, overhead):
    """Return the time for all evaluations, in generations of as many as there are workers."""
    starts = range(0, len(durations), workers)
    return sum(
        max(durations[at : at + workers]) + overhead * len(durations[at : at + workers])
        for at in starts
    )


def asynchronous(durations, workers, overhead):
    """Return the time for all evaluations when each worker gets the next as soon as it is free."""
    free = [0.0] * min(workers, len(durations))
    end = master = 0.0
    for duration in durations:
        master = max(master, heapq.heappop(free)) + overhead  # one is told, the next is bred
        heapq.heappush(free, master + duration)
        end = max(end, master + duration)
    return end


def simulated(spread, overhead, evaluations=10_000, rng=0):
    """Return rows of workers, time and utilisation, asynchronous and generational."""
    draw = np.random.default_rng(rng)
    durations = draw.lognormal(-0.5 * spread**2, spread, evaluations).tolist()  # 1 on average
    rows = []
    for workers in WORKERS:
        times = [way(durations, workers, overhead) for way in (asynchronous, generational)]
        rows.append((workers, *times, *(sum(durations) / (workers * time) for time in times)))
    return rows


def save_plot(tables, path):
    """Write utilisation over workers as a page that needs no network."""
    from bokeh.embed import file_html
    from bokeh.palettes import Category10
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    plot = figure(
        title="Share of time that workers compute",
        x_axis_type="log",
        x_axis_label="workers",
        y_axis_label="utilisation",
        y_range=(0, 1.05),
        width=800,
        height=480,
    )
    for color, (spread, rows) in zip(Category10[10], tables.items(), strict=False):
        for column, words, dash in ((3, "asynchronous", "solid"), (4, "generational", "dashed")):
            shares = [row[column] for row in rows]
            label = f"{words}, spread {spread:.2f}"
            plot.line(
                WORKERS, shares, color=color, line_dash=dash, line_width=2, legend_label=label
            )
    plot.legend.location = "bottom_left"
    Path(path).write_text(file_html(plot, INLINE, "m2n2lab: scaling"), encoding="utf-8")


def findings(quick: bool) -> Iterator[Finding]:
    for kind in ("process",) if quick else ("process", "ray"):
        ratio, here = ratios(rates(kind, 8 if quick else 40))
        yield at_least(f"two workers ÷ one, {kind}", ratio, TARGET)
        yield Finding("two plain processes ÷ one, in the same minute", f"{here:.2f}")
    spread, overhead = measured(20 if quick else 40)
    yield Finding("outside an evaluation, a child", f"{overhead * 1e3:.2f} ms")
    workers, *_, busy, idle = simulated(max(spread, 0.3), overhead, 2_000 if quick else 10_000)[-2]
    what = f"{workers} simulated workers, 1 s an evaluation, spread {max(spread, 0.3):.2f}: busy"
    yield Finding(what, f"{busy:.0%} of the time (generations: {idle:.0%})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=("ray", "process"), default="ray")
    parser.add_argument("--steps", type=int, default=40, help="children a worker and block")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a simulated evaluation")
    parser.add_argument("--plot", type=Path, help="write an HTML page with the plot")
    options = parser.parse_args()

    rows = rates(options.kind, options.steps)
    ratio, here = ratios(rows)
    print(f"{options.kind}: children a second of one and of two workers, and of plain processes")
    for one, two, first, both in rows:
        print(
            f"  {one:6.2f}  {two:6.2f}  ratio {two / one:.2f}"
            f"   plain {first:6.2f}  {both:6.2f}  ratio {both / first:.2f}"
        )
    print(f"  two workers ÷ one (median) {ratio:.2f}   target >= {TARGET}")
    print(f"  two plain processes ÷ one  {here:.2f}\n")

    spread, overhead = measured()
    print(f"measured spread {spread:.2f}, {overhead * 1e3:.2f} ms a child outside its evaluation")
    tables = {s: simulated(s, overhead / options.seconds) for s in (spread, *WIDER)}
    for width, rows in tables.items():
        print(f"\n10,000 evaluations of {options.seconds:g} s on average, spread {width:.2f}")
        print("  workers   asynchronous        generational        times faster")
        for workers, fast, slow, busy, idle in rows:
            hours = f"{fast * options.seconds / 3600:8.3f} h {busy:5.0%}"
            print(
                f"  {workers:7,}   {hours}    {slow * options.seconds / 3600:8.3f} h {idle:5.0%}"
                f"    {slow / fast:10.2f}"
            )
    if options.plot is not None:
        save_plot(tables, options.plot)
        print(f"\nWrote {options.plot}")


if __name__ == "__main__":
    main()
