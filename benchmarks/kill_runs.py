"""Recorded searches that are killed at random moments and taken up again: do all end the same?

Each is searched in a process of its own that is killed without warning; the store that it leaves is
resumed here, and its last archive compared, to the last bit, with that of a search that nobody
killed. Target: all of them.

    python benchmarks/kill_runs.py [--kills 200] [--steps 400]
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from findings import Finding

from m2n2lab import Evolver, store, tasks

TASK = tasks.digits(hidden=4)
"""A step is quick, so that a kill may come anywhere."""


def search():
    return Evolver(TASK, TASK.random_seeds(2, rng=0), archive_size=8, mutation=0.05, rng=0)


def record_until_killed(path, steps, ready):
    torch.set_num_threads(1)
    evolver = search()
    with store.record(evolver, path, batch=7):
        ready.send(True)
        evolver.run(steps)
    ready.recv()  # there is nothing left to do but wait


def same(a, b):
    """Return whether two searches are at the same point, to the last bit."""
    x, y = (evolver.state_dict() for evolver in (a, b))
    genomes = zip(x["archive"]["genomes"], y["archive"]["genomes"], strict=True)
    return (
        a.archive.ids == b.archive.ids
        and np.array_equal(x["archive"]["scores"], y["archive"]["scores"])
        and x["rng"] == y["rng"]
        and all(np.array_equal(one, other) for one, other in genomes if one is not None)
        and np.array_equal(a.records.table(), b.records.table(), equal_nan=True)
    )


def survived(context, path, steps, whole, longest):
    """Kill one search on its way; return the step that it was taken up at, and how it ended."""
    ready, theirs = context.Pipe()
    process = context.Process(target=record_until_killed, args=(path, steps, theirs))
    process.start()
    ready.recv()
    time.sleep(random.uniform(0.0, longest))
    process.kill()
    process.join()
    resumed = store.resume(path)
    stopped = resumed.generation
    return stopped, same(whole, resumed.run(steps - stopped, store=path))


def measure(kills, steps):
    """Kill so many searches of so many steps; yield how many ended as the one that was not."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    whole = search().run(steps)
    longest = time.perf_counter() - began
    # Processes that start quickly, from one that has loaded what they need.
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    context.set_forkserver_preload(["kill_runs"])
    stops, good = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(kills):
            path = Path(folder, f"{number}.db")
            stopped, well = survived(context, path, steps, whole, longest)
            stops.append(stopped)
            good += well
    print(
        f"killed and resumed: {good} of {kills} exact; they were taken up at steps "
        f"{min(stops)} to {max(stops)}, {len(set(stops))} different ones"
    )
    yield Finding("killed runs that resume exactly", f"{good} of {kills}", "all", good == kills)


def findings(quick: bool) -> Iterator[Finding]:
    yield from measure(10 if quick else 200, 400)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_args()
    list(measure(given.kills, given.steps))


if __name__ == "__main__":
    main()
