"""How much a step of the digits search costs beyond the forward passes that it needs.

Blocks of steps and blocks of forward passes alternate within one run, so that a busy machine slows
both, and the median of the blocks' ratios is printed, twice:

- step / bare: a bare forward pass is plain torch as one would write it by hand, with reused
  buffers: two products, ReLU, argmax, comparison with the truth, for all training images. The
  target is 1.6.
- step / own: the task's own forward pass, which computes the same faster where a product with ten
  columns is slow. The stricter figure: it has no other work in it that the search could hide in.

Passes run over the members in turn, because a step scores another model each time; and one more,
on the test images, counts for each time that the best member changed.

    python benchmarks/digits_speed.py [--steps 4000] [--threads 1 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import cycle
from statistics import median
from time import perf_counter

import m2n2lab as lab  # before torch, as users do: it decides how threads wait  # isort: skip
import torch
from findings import Finding, at_most

BLOCK = 100
TARGET = 1.6


def plain_forward(task):
    """Return a function that takes one forward pass as plain torch with reused buffers."""
    _, inner, outer = task.widths
    x, y = task.training
    hidden, logits = torch.empty(len(x), inner), torch.empty(len(x), outer)
    guess, right = torch.empty(len(x), dtype=torch.long), torch.empty(len(x), dtype=torch.bool)

    def forward(vector):
        w1, b1, w2, b2 = task.layout.split(vector).values()
        torch.addmm(b1, x, w1, out=hidden)
        hidden.relu_()
        torch.addmm(b2, hidden, w2, out=logits)
        torch.argmax(logits, 1, out=guess)
        torch.eq(guess, y, out=right)

    return forward


def timed(call, times=BLOCK):
    start = perf_counter()
    for _ in range(times):
        call()
    return (perf_counter() - start) / times


def measure(threads, count):
    """Print the figures of one number of threads, and yield those that matter."""
    torch.set_num_threads(threads)
    task = lab.tasks.digits()
    evolver = lab.Evolver(task, task.random_seeds(2, rng=0), mutation=0.01, rng=0).run(500)
    by_hand = plain_forward(task)
    steps, own, bare, tests = [], [], [], 0
    for _ in range(max(count // BLOCK, 1)):
        models = cycle([evolver.space.materialise(m.genome) for m in evolver.archive.members])
        best = evolver.best.id
        seconds = timed(evolver.step)
        changed = len(set(evolver.records.column("best")[-BLOCK:].tolist()) | {best}) - 1
        tests += changed
        steps.append(seconds)
        testing = timed(lambda m=models: task.held_out(next(m)), 20) * changed / BLOCK
        own.append(timed(lambda m=models: task.evaluate(next(m))) + testing)
        bare.append(timed(lambda m=models: by_hand(next(m))) + testing)

    per_step, per_own, per_bare = (median(times) for times in (steps, own, bare))
    words = f"{threads} thread{'s' if threads > 1 else ''}"
    print(words)
    print(f"  steps/s, test accuracy known after each   {1 / per_step:8,.0f}")
    print(f"  one step                                  {per_step * 1e6:8.0f} µs")
    print(f"  bare forward passes                       {per_bare * 1e6:8.0f} µs")
    print(f"  the task's own forward passes             {per_own * 1e6:8.0f} µs")
    print(f"  the best member changed                   {tests:8} times in {count:,} steps")
    for name, base, target in (("bare", bare, f"   target <= {TARGET}"), ("own", own, "")):
        ratio = median(step / other for step, other in zip(steps, base, strict=True))
        print(f"  {f'ratio step / {name}':40}  {ratio:8.2f}{target}", flush=True)
        if base is bare:
            yield at_most(f"one step ÷ bare forward passes, {words}", ratio, TARGET)
        else:
            yield Finding(f"one step ÷ the task's own forward passes, {words}", f"{ratio:.2f}")
    yield Finding(f"steps a second, {words}", f"{1 / per_step:,.0f}")


def findings(quick: bool) -> Iterator[Finding]:
    for threads in (1, 2):
        yield from measure(threads, 1_000 if quick else 4_000)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for threads in options.threads:
        list(measure(threads, options.steps))


if __name__ == "__main__":
    main()
