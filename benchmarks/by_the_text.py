"""M2N2 and its ablations in a loop written by the paper's text alone, beside the lab's own.

Where a value of the paper's figure is not met, this tells whether the lab does something else than
the text says: archive of zero vectors, NumPy's random numbers, nothing shared with the lab but the
digits and their networks. Both start from the published pair, without mutation.

    python benchmarks/by_the_text.py ga --passes 1500 --runs 24
    python benchmarks/by_the_text.py m2n2-no-attraction --passes 10000 --runs 10
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from findings import Finding, estimate
from numpy.typing import NDArray
from published import specialists

from m2n2lab import make_evolver, tasks
from m2n2lab.tasks.classify import Classify

Floats = NDArray[np.floating]
METHODS = {"m2n2": (1.0, True), "m2n2-no-attraction": (1.0, False), "ga": (0.0, False)}
"""α of the competition, and whether mates are drawn by attraction."""

SIZE = 20


def merged(a: Floats, b: Floats, split: int, mix: float) -> Floats:
    """Return SLERP at ``mix`` before the split and at 1 − mix after it."""
    share = np.where(np.arange(len(a)) < split, mix, 1.0 - mix)
    cosine = np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
    omega = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.sin(omega) <= 1e-6:
        return (1.0 - share) * a + share * b
    return (np.sin((1.0 - share) * omega) * a + np.sin(share * omega) * b) / np.sin(omega)


def searched(
    task: Classify, seeds: Floats, alpha: float, attracts: bool, rng: int, passes: int
) -> float:
    """Return the best model's test accuracy after so many passes."""
    draw = np.random.default_rng(rng)
    genomes = np.zeros((SIZE, seeds.shape[1]), np.float32)
    scores = np.zeros((SIZE, task.points))

    def shares(rows: Floats) -> Floats:
        z = rows.sum(axis=0)
        return rows / np.where(z == 0.0, 1.0, z) ** alpha

    def compete(genome: Floats) -> None:
        told = np.asarray(task.evaluate(torch.from_numpy(genome.astype(np.float32))), float)
        lowest = int(np.argmin(shares(np.vstack([scores, told])).sum(axis=1)))
        if lowest < SIZE:
            genomes[lowest], scores[lowest] = genome, told

    def drawn(worth: Floats) -> int:
        return int(draw.choice(SIZE, p=worth / worth.sum()))

    for seed in seeds:
        compete(seed)
    for _ in range(passes):
        worth = shares(scores)
        a = b = drawn(worth.sum(axis=1))
        pull = np.maximum(worth - worth[a], 0.0).sum(axis=1) if attracts else worth.sum(axis=1)
        if pull.any():  # else nobody has what A lacks
            b = drawn(pull)
        compete(merged(genomes[a], genomes[b], int(draw.integers(seeds.shape[1])), draw.random()))
    return task.held_out(torch.from_numpy(genomes[scores.mean(axis=1).argmax()]))


def measure(method: str, passes: int, runs: int) -> Iterator[Finding]:
    """Yield what a method reaches by the text and in the lab."""
    torch.set_num_threads(1)
    task = tasks.digits()
    seeds = specialists(task)
    alpha, attracts = METHODS[method]
    ways = {
        "by the text": lambda k: searched(task, seeds, alpha, attracts, k, passes),
        "the lab's": lambda k: make_evolver(method, task, seeds, rng=k).run(passes).test,
    }
    for name, way in ways.items():
        values = [100 * way(k) for k in range(runs)]
        spread = f"single runs {min(values):.1f} to {max(values):.1f} %"
        print(f"{method} {name}: {estimate(values)} %, {spread}", flush=True)
        what = f"{method} {name}, {passes:,} passes, seeds 0–{runs - 1}"
        yield Finding(what, f"{estimate(values)} %")


def findings(quick: bool) -> Iterator[Finding]:
    yield from measure("ga", 500 if quick else 1_500, 4 if quick else 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--passes", type=int, default=1_500)
    parser.add_argument("--runs", type=int, default=24)
    given = parser.parse_args()
    list(measure(given.method, given.passes, given.runs))


if __name__ == "__main__":
    main()
