"""The zoo's two language models merged: M2N2 against both seeds and the best of 21 SLERPs.

Scores are means over word problems and shopping trips, each task half, on held-out examples. The
best member, and the best SLERP, are those with the highest mean on the examples that were searched
on; the best SLERP on the held-out ones is told too, which no search could know.

    python benchmarks/llm_merge.py [--runs 5] [--steps 100]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from findings import Finding, at_least, at_most, estimate, unjudged
from rich.console import Console
from rich.table import Table

from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings
from m2n2lab.core.evolver import Evolver
from m2n2lab.utils.concurrency.processors import default_threads
from m2n2lab.utils.text import percent
from m2n2lab.zoo.language import trained

RATIOS = 21


def measured(evolver: Evolver, genome: Any) -> tuple[float, dict[str, float]]:
    """Return a model's mean score on what is searched on, and each task's on held-out examples."""
    task = evolver.task
    model = evolver.space.materialise(genome)
    scores = task.evaluate(model)
    return float(np.mean(list(task.by_class(scores).values()))), task.held_out_by_class(model)


def overhead(evolver: Evolver) -> float:
    """Return the share of an evaluation that writing a child into the live model takes."""
    a, b = evolver.space.seeds
    shares = []
    for k in range(3):
        child = evolver.space.merge(a, b, evolver.space.size // 2, 0.41 + 0.01 * k)
        began = time.perf_counter()
        model = evolver.space.materialise(child)
        shown = time.perf_counter()
        evolver.task.evaluate(model)
        shares.append((shown - began) / (time.perf_counter() - began))
    return float(np.median(shares))


def measure(runs: int, steps: int, ratios: int = RATIOS) -> Iterator[Finding]:
    """Print all models' scores, and yield what M2N2 gains."""
    rows: list[tuple[str, float, dict[str, float]]] = []
    first = build_evolver(Settings("gsm8k+webshop"))
    space, tasks = first.space, first.task.classes
    for name, seed in zip(("maths seed", "agent seed"), space.seeds, strict=True):
        rows.append((name, *measured(first, seed)))
    slerps = [
        (f"SLERP {mix:.2f}", *measured(first, space.merge(*space.seeds, space.size, float(mix))))
        for mix in np.linspace(0.0, 1.0, ratios)
    ]
    rows.append(max(slerps, key=lambda row: row[1]))
    best = max(slerps, key=lambda row: np.mean(list(row[2].values())))
    rows.append((f"{best[0]}, best held out", *best[1:]))
    took = []
    found = []
    for rng in range(runs):
        began = time.perf_counter()
        evolver = build_evolver(Settings("gsm8k+webshop", seed=rng)).run(steps)
        took.append(time.perf_counter() - began)
        found.append((f"M2N2, rng {rng}", *measured(evolver, evolver.best.genome)))
    rows += found
    angle = np.degrees(space.angle(*space.seeds))
    table = Table(title=f"{steps} children a search, {angle:.1f}° between the seeds")
    for title in ("model", "searched on", *(f"{name}, held out" for name in tasks), "mean"):
        table.add_column(title, justify="right")
    for name, train, held in rows:
        scores = list(held.values())
        table.add_row(name, *map(percent, (train, *scores, float(np.mean(scores)))))
    console = Console()
    console.print(table)
    means = np.array([np.mean(list(held.values())) for _, _, held in found])
    seeds, slerp = (
        max(float(np.mean(list(held.values()))) for _, _, held in some)
        for some in (rows[:2], slerps)
    )
    console.print(
        f"M2N2 {estimate(100 * means)} % on held-out examples, "
        f"{100 * (means.mean() - seeds):+.1f} points to the better seed, "
        f"{100 * (means.mean() - slerp):+.1f} to the best of {ratios} SLERPs there; "
        f"worst run {percent(means.min())}"
    )
    share = overhead(first)
    console.print(
        f"a search took {np.mean(took):.0f} s (at most {max(took):.0f} s); writing a child into "
        f"the live model is {percent(share)} of an evaluation"
    )

    yield at_least(
        "M2N2 above the better language model", 100 * (means.mean() - seeds), 25, " points", 1
    )
    gain = 100 * (means.mean() - slerp)
    yield at_least(f"M2N2 above the best of {ratios} SLERPs", gain, 0, " points", 1)
    yield Finding("M2N2 on held-out examples", f"{estimate(100 * means)} %")
    yield at_most("such a search takes", max(took), 180, " s", 0)
    yield at_most("writing a child into the model", 100 * share, 5, " % of an evaluation", 1)


def findings(quick: bool) -> Iterator[Finding]:
    if not trained():
        yield Finding("the zoo's language models merged", "the zoo has none here")
        return
    torch.set_num_threads(default_threads())
    if quick:
        yield from unjudged(measure(1, 10, 5))
    else:
        yield from measure(5, Settings("gsm8k+webshop").steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="searches with other seeds")
    parser.add_argument("--steps", type=int, default=Settings("gsm8k+webshop").steps)
    options = parser.parse_args()
    torch.set_num_threads(default_threads())
    list(measure(options.runs, options.steps))


if __name__ == "__main__":
    main()
