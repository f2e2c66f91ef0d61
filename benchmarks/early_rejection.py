"""What early rejection saves on the zoo's two language models: evaluations, and seconds.

Two searches with the same seed take turns, one that scores every child in full and one that gives
children up early; both must go the very same way. Targets: at most 0.7 of the evaluations, in less
time.

    python benchmarks/early_rejection.py [--runs 3] [--steps 60] [--chunk 16]
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from findings import Finding, at_most, unjudged

from m2n2lab.settings import Settings, default_threads
from m2n2lab.zoo.language import trained

BLOCK = 5
"""Steps that a search takes before it is the other's turn."""


def measured(seed, steps, chunk):
    """Return the shares of evaluations and of seconds that one search needed."""
    settings = Settings(task="gsm8k+webshop", seed=seed)
    full = settings.make()
    early = Settings(task="gsm8k+webshop", seed=seed, options={"chunk": chunk}).make()
    seconds = {full: 0.0, early: 0.0}
    for block in range(-(-steps // BLOCK)):
        for evolver in [full, early] if block % 2 else [early, full]:
            began = time.perf_counter()
            evolver.run(min(BLOCK, steps - evolver.generation))
            seconds[evolver] += time.perf_counter() - began
    assert full.archive.ids == early.archive.ids
    assert np.array_equal(full.archive.scores, early.archive.scores)
    unseen = early.records.column("unseen").mean()
    return 1.0 - unseen / early.task.points, seconds[early] / seconds[full]


def measure(runs, steps, chunk):
    """Search so many times, and yield what giving up early saved on the mean."""
    if not trained():
        print("The zoo's language models have not been trained yet: nothing to measure.")
        return
    shares = []
    for seed in range(runs):
        shares.append(measured(seed, steps, chunk))
        evaluations, seconds = shares[-1]
        print(f"seed {seed}: {evaluations:.2f} of the evaluations, {seconds:.2f} of the seconds")
    evaluations, seconds = np.mean(shares, axis=0)
    yield at_most("share of a language model's evaluations", evaluations, 0.7)
    yield at_most("seconds with early rejection ÷ without", seconds, 1.0)


def findings(quick: bool) -> Iterator[Finding]:
    torch.set_num_threads(default_threads())
    yield from unjudged(measure(1, 10, 16)) if quick else measure(3, 60, 16)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--threads", type=int, default=default_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    list(measure(given.runs, given.steps, given.chunk))


if __name__ == "__main__":
    main()
