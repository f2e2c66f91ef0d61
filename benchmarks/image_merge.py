"""The zoo's four picture models merged: M2N2 against every seed, in both languages.

Searched on Japanese captions alone; scores are means over held-out captions, of which no model has
seen any. The best member is the one with the highest mean on the captions that were searched on.

    python benchmarks/image_merge.py [--runs 5] [--first 0] [--steps 120] [--sheet images.png]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
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
from m2n2lab.viz.contact_sheet import sheet_of
from m2n2lab.zoo.images import trained


def measured(evolver: Evolver, genome: Any) -> tuple[float, dict[str, float]]:
    """Return a model's mean score on what is searched on, and each language's on held-out ones."""
    task = evolver.task
    model = evolver.space.materialise(genome)
    return float(task.evaluate(model).mean()), task.held_out_by_class(model)


def measure(runs: int, steps: int, first: int = 0, sheet: Path | None = None) -> Iterator[Finding]:
    """Search so many times; print a table, and yield the figures with a target."""
    console = Console()
    if not trained():
        console.print("The zoo's picture models have not been trained yet: nothing to measure.")
        return
    rows: list[tuple[str, float, dict[str, float]]] = []
    merged: list[dict[str, float]] = []
    took: list[float] = []
    for rng in range(first, first + runs):
        began = time.perf_counter()
        evolver = build_evolver(Settings("text2image", seed=rng))
        evolver.run(steps)
        took.append(time.perf_counter() - began)
        if not rows:
            space: Any = evolver.space
            for seed, genome in zip(space.plan.seeds, space.seeds, strict=True):
                rows.append((seed.path.name, *measured(evolver, genome)))
            if sheet:
                sheet.write_bytes(sheet_of(evolver))
        rows.append((f"M2N2, rng {rng}", *measured(evolver, evolver.best.genome)))
        merged.append(rows[-1][2])
        console.print(f"{rows[-1][0]}: {rows[-1][2]} after {took[-1]:.0f} s", highlight=False)
    seeds = [held for name, _, held in rows if not name.startswith("M2N2")]
    table = Table(title=f"{steps} children a search, searched on Japanese captions")
    for title in ("model", "searched on", "Japanese, held out", "English, held out"):
        table.add_column(title, justify="right")
    for name, train, held in rows:
        table.add_row(name, *map(percent, (train, held["Japanese"], held["English"])))
    console.print(table)
    for language in ("Japanese", "English"):
        found = np.array([held[language] for held in merged])
        best = max(held[language] for held in seeds)
        console.print(
            f"{language}: M2N2 {estimate(100 * found)} %, worst run "
            f"{percent(found.min())}; best seed {percent(best)}, "
            f"{100 * (found.mean() - best):+.1f} points, {percent(found.mean() / best)} of it; "
            f"the Japanese seed {percent(seeds[0][language])}"
        )
        if language == "Japanese":
            gain = 100 * float(found.mean() - best)
            yield at_least("merged picture model, Japanese, points over the best seed", gain, 10)
        else:
            yield at_least("its English ÷ the best English seed's", float(found.mean() / best), 0.9)
    console.print(f"a search took {np.mean(took):.0f} s (at most {max(took):.0f} s)")
    yield at_most("such a search takes", max(took), 300, " s", 0)


def findings(quick: bool) -> Iterator[Finding]:
    torch.set_num_threads(default_threads())
    if quick:
        yield from unjudged(measure(1, 10))
    else:
        yield from measure(5, Settings("text2image").steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="searches with other seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of these seeds")
    parser.add_argument("--steps", type=int, default=Settings("text2image").steps)
    parser.add_argument("--sheet", type=Path, help="PNG of the seeds and the first run's best")
    options = parser.parse_args()
    torch.set_num_threads(default_threads())
    list(measure(options.runs, options.steps, options.first, options.sheet))


if __name__ == "__main__":
    main()
