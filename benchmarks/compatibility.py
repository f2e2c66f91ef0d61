"""Attraction × compatibility against attraction alone, where seeds have several ancestors.

Models that were trained from different starts are seldom good when merged. Four specialists of the
digits come from two random networks: of either, one was trained on digits 0–4 and one on 5–9. So
each has a counterpart of the same ancestor, at an angle of some 15 to 20 degrees, and one of the
other, at 90. Attraction alone cannot tell them apart, for both can do the same; `mate="compatible"`
multiplies it with the cosine of the angle (the paper's future work, arXiv 2508.16204, §6).

    python benchmarks/compatibility.py               # into benchmarks/results/compatibility
    python benchmarks/compatibility.py --report
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import curves
import numpy as np
from experiments import gain, percent, words
from findings import Finding, about, markdown

from m2n2lab.config.settings import Settings
from m2n2lab.core.evolver import Evolver
from m2n2lab.tasks import digits
from m2n2lab.utils.files import write_atomically

FOLDER = curves.RESULTS / "compatibility"
ANCESTORS, SPREAD, TRAINING_STEPS = 2, 0.1, 30
"""Random networks, the standard deviation of their weights, and steps that each specialist took."""

HALVES = ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
SEEDS, PASSES = 20, 5_000
MATES = {
    "attraction": "attraction alone (M2N2)",
    "compatible": "attraction × cosine",
    "compatible:power=3": "attraction × cosine³",
    "random": "a mate at random",
}
"""Choices of parent B."""


def make(settings: Settings) -> Evolver:
    """Return the search from four specialists of two ancestors."""
    task = digits()
    ancestors = task.random_seeds(ANCESTORS, rng=settings.seed, scale=SPREAD)
    seeds = task.trained_seeds(
        HALVES * ANCESTORS,
        rng=settings.seed,
        steps=TRAINING_STEPS,
        start=np.repeat(ancestors, len(HALVES), axis=0),
    )
    return Evolver(task, seeds, rng=settings.seed, **settings.options)


def file_of(mate: str) -> str:
    """Return the name of a choice's file."""
    return mate.replace(":", "-").replace("=", "-")


def searches(seeds: int, passes: int) -> list[curves.Search]:
    """Return every search, all choices of a seed before those of the next one."""
    return [
        curves.Search(
            file_of(mate), passes, Settings(seed=seed, threads=1, options={"mate": mate}), make
        )
        for seed in range(seeds)
        for mate in MATES
    ]


def table(folder: Path, passes: int) -> str:
    """Return test accuracies and gains to attraction alone in Markdown."""
    rows, found = [], {}
    for mate in MATES:
        frame = curves.read(folder, file_of(mate))
        found[mate] = frame[frame["step"] == passes].set_index("seed")["test"]
        if len(found[mate]):
            more = None if mate == "attraction" else gain(found["attraction"], found[mate])
            score, gained = words(percent(found[mate])), "–" if more is None else words(more)
            rows.append((MATES[mate], str(len(found[mate])), score, gained))
    return markdown(("parent B", "seeds", "test accuracy, %", "to attraction alone"), rows)


def report(folder: Path, passes: int) -> str:
    """Write the table of what is finished, and return it."""
    text = f"{table(folder, passes)}\n{about()}. `python benchmarks/compatibility.py`\n"
    write_atomically(folder / "compatibility.md", text)
    return text


def findings(quick: bool) -> Iterator[Finding]:
    """Yield test accuracy and gain of every choice of parent B."""
    seeds, passes = (2, 300) if quick else (SEEDS, PASSES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if quick else FOLDER
        curves.gather(searches(seeds, passes), folder)
        for line in table(folder, passes).splitlines()[2:]:
            mate, count, score, gained = (cell.strip() for cell in line.strip("|").split("|"))
            yield Finding(f"two ancestors, {mate}, {count} seeds", f"{score} %, gain {gained}")


def main() -> None:
    """Run what is not finished yet, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, help="processes of one thread each")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.report:
        curves.gather(searches(options.seeds, PASSES), FOLDER, options.workers, options.nice)
    print(report(FOLDER, PASSES))


if __name__ == "__main__":
    main()
