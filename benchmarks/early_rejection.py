"""What early rejection saves on the zoo's two language models: evaluations, and seconds.

Two searches with the same seed take turns, one that scores every child in full and one that gives
children up early; both must go the very same way. Targets: at most 0.7 of the evaluations, in less
time.

The longer a search, the fewer children live, and the more is saved: what the first steps saved is
told too. A chunk is as large as a batch that a model answers at once, or answering takes longer.

    python benchmarks/early_rejection.py [--seeds 4 5] [--steps 300] [--limit 60] [--chunk 12]
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from findings import Finding, at_most, unjudged

from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings
from m2n2lab.utils.concurrency.processors import default_threads
from m2n2lab.zoo.language import trained

SEEDS = [4, 5]
"""Nothing was chosen by what came of these."""

BLOCK = 5
"""Steps that a search takes before it is the other's turn."""

FIRST = 60
"""Steps that are also told by themselves."""


def measured(seed, steps, limit, chunk):
    """Return the shares of evaluations and of seconds that one search needed."""
    settings = Settings(task="gsm8k+webshop", seed=seed, limit=limit)
    full = build_evolver(settings)
    early = build_evolver(replace(settings, options={"chunk": chunk}))
    seconds = {full: 0.0, early: 0.0}
    for block in range(-(-steps // BLOCK)):
        for evolver in [full, early] if block % 2 else [early, full]:
            began = time.perf_counter()
            evolver.run(min(BLOCK, steps - evolver.generation))
            seconds[evolver] += time.perf_counter() - began
    assert full.archive.ids == early.archive.ids
    assert np.array_equal(full.archive.scores, early.archive.scores)
    seen = 1.0 - early.records.column("unseen") / early.task.points
    first = f"{seen[:FIRST].mean():.2f} in the first {FIRST} steps"
    shares = float(seen.mean()), seconds[early] / seconds[full]
    print(f"seed {seed}: {shares[0]:.2f} of the evaluations ({first}), {shares[1]:.2f} of the time")
    return shares


def measure(seeds, *given):
    """Search with each seed, and yield what giving up early saved on the mean."""
    if not trained():
        print("The zoo's language models have not been trained yet: nothing to measure.")
        return
    shares = [measured(seed, *given) for seed in seeds]
    evaluations, seconds = np.mean(shares, axis=0)
    yield at_most("share of a language model's evaluations", evaluations, 0.7)
    yield at_most("seconds with early rejection ÷ without", seconds, 1.0)


def findings(quick: bool) -> Iterator[Finding]:
    torch.set_num_threads(default_threads())
    yield from unjudged(measure([0], 30, 12, 6)) if quick else measure(SEEDS, 300, 60, 12)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--limit", type=int, default=60, help="problems, and as many wishes")
    parser.add_argument("--chunk", type=int, default=12)
    parser.add_argument("--threads", type=int, default=default_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    list(measure(given.seeds, given.steps, given.limit, given.chunk))


if __name__ == "__main__":
    main()
