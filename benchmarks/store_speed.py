"""What recording costs: speed with a store over speed without, and size and speed of a long run.

Two searches with the same seed take turns, one recorded and one not, so that whatever else the
machine does hits both alike. Targets: at least 0.9 of the speed; 50,000 steps in less than 60 MB,
opened and replayed at any step in less than a second each.

    python benchmarks/store_speed.py [--steps 50000] [--compared 6000]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from findings import Finding, at_least, at_most

from m2n2lab import Evolver, store, tasks

BLOCK = 500
"""Steps that a search takes before it is the other's turn."""


def search():
    task = tasks.digits()
    return Evolver(task, task.random_seeds(2, rng=0), mutation=0.01, rng=0)


def timed(function, *args, **options):
    began = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - began, result


def compared(recorded, plain, steps):
    """Return the ratios of pairs of blocks, without a store over with one: seconds, CPU seconds."""
    ratios = []
    for block in range(steps // BLOCK):
        took = {}
        for evolver in [plain, recorded] if block % 2 else [recorded, plain]:
            cpu = time.process_time()
            seconds, _ = timed(evolver.run, BLOCK)
            took[evolver] = seconds, time.process_time() - cpu
        ratios.append([a / b for a, b in zip(took[plain], took[recorded], strict=True)])
    return zip(*ratios, strict=True)


def measure(steps, compare):
    """Print what recording costs, and yield the figures with a target."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "runs.db"
        recorded, plain = search(), search()
        recorded.run(0), plain.run(0)
        with store.record(recorded, path):
            seconds, cpu = compared(recorded, plain, compare)
            recorded.run(max(steps - recorded.generation, 0))
            last = recorded.generation
        size = sum(file.stat().st_size for file in Path(name).glob("runs.db*"))
        for what, found in (("seconds", seconds), ("CPU seconds", cpu)):
            print(
                f"{what} without a store / with one: {statistics.median(found):.3f} (median of "
                f"{len(found)} blocks of {BLOCK} steps, {min(found):.2f} to {max(found):.2f})"
            )
        yield at_least("speed with a store ÷ without one", statistics.median(seconds), 0.9)
        print(f"{last:,} steps: {size / 1e6:.1f} MB")
        # Weights of the living are most of a short run; 60 MB are meant for 50,000 steps.
        yield at_most(f"{last:,} steps take", size / 1e6, 60, " MB", 1)
        opened = timed(store.resume, path)[0]
        print(f"opened (resume): {opened:.3f} s")
        yield at_most("such a run is opened in", opened, 1, " s")
        places = [round(last * k / 20) for k in range(21)]
        for what, function in (("replayed", store.replay), ("branched", store.branch)):
            took = [timed(function, path, None, step)[0] for step in places]
            print(f"{what} at 21 steps: {statistics.median(took):.4f} s, at most {max(took):.4f} s")
            if function is store.replay:
                yield at_most("and replayed at any step in", max(took), 1, " s")


def findings(quick: bool) -> Iterator[Finding]:
    torch.set_num_threads(1)
    yield from measure(*((4_000, 2_000) if quick else (50_000, 6_000)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--compared", type=int, default=6_000)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    list(measure(given.steps, given.compared))


if __name__ == "__main__":
    main()
