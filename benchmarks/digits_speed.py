"""How much a step of the digits search costs beyond the forward passes that it needs.

Blocks of steps and blocks of bare forward passes alternate within one run, so that a busy
machine slows both, and the median of the blocks' ratios is printed. A bare forward pass is the
task's own: logits, predictions and comparison with the truth for all training images; one more on
the test images whenever the best member changed. Two further lines set it beside a plain torch
forward pass, with buffers, as one would write it by hand.

    python benchmarks/digits_speed.py [--steps 4000] [--threads 2]
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import torch

import m2n2lab as lab

BLOCK = 100
TARGET = 1.6


def plain_forward(task, vector):
    """Return a function that takes one forward pass as plain torch with reused buffers."""
    w1, b1, w2, b2 = task.layout.split(vector).values()
    x, y = task.training
    hidden, logits = torch.empty(len(x), w1.shape[1]), torch.empty(len(x), w2.shape[1])
    guess, right = torch.empty(len(x), dtype=torch.long), torch.empty(len(x), dtype=torch.bool)

    def forward():
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    task = lab.tasks.digits()
    evolver = lab.Evolver(task, task.random_seeds(2, rng=0), mutation=0.01, rng=0).run(500)
    steps, bare, plain, tests = [], [], [], 0
    for _ in range(max(options.steps // BLOCK, 1)):
        model = evolver.space.materialise(evolver.best.genome)
        best = evolver.best.id
        seconds = timed(evolver.step)
        changed = len(set(evolver.records.column("best")[-BLOCK:].tolist()) | {best}) - 1
        tests += changed
        steps.append(seconds)
        bare.append(timed(lambda m=model: task.evaluate(m)))
        if changed:
            bare[-1] += timed(lambda m=model: task.held_out(m), 20) * changed / BLOCK
        plain.append(timed(plain_forward(task, model)))

    ratio = median(s / b for s, b in zip(steps, bare, strict=True))
    print(f"threads                     {options.threads}")
    print(f"steps/s, test accuracy known after each   {1 / median(steps):8,.0f}")
    print(f"one step                    {median(steps) * 1e6:8.0f} µs")
    print(f"bare forward passes         {median(bare) * 1e6:8.0f} µs (best changed {tests} times)")
    print(f"plain torch forward pass    {median(plain) * 1e6:8.0f} µs")
    print(f"ratio step / bare           {ratio:8.2f}   target <= {TARGET}")
    beside_plain = median(s / p for s, p in zip(steps, plain, strict=True))
    print(f"ratio step / plain          {beside_plain:8.2f}")


if __name__ == "__main__":
    main()
