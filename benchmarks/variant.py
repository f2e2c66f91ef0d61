"""The lab's variant ``m2n2+`` against M2N2, and all the ideas that were tried for it.

- tune: every idea by itself on a part of the digits' training data, held out on the rest of it;
  seeds 100–104. The 360 test images are not looked at.
- judge: ``m2n2`` and ``m2n2+`` on the digits' test images and on MNIST, with seeds 200–209, which
  nothing was tuned on; pre-trained also without mutation, as checkpoints are merged. Gains are
  differences of runs with the same seed.

Searches run over all cores and are kept when they are finished, as for the paper's figure.

    python benchmarks/variant.py tune     # into benchmarks/results/ideas
    python benchmarks/variant.py judge --data ../shared/data/mnist    # benchmarks/results/variant
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import curves
import torch
from findings import Finding, about, estimate, markdown
from ideas import search_on

from m2n2lab.config.settings import Settings
from m2n2lab.core.evolver import Evolver
from m2n2lab.tasks import Classify, digits
from m2n2lab.utils.files import write_atomically

FOLD = 1_150
"""Images that are searched on when an idea is tried; the other 287 of the training data are held
out. As in the real split they are the last ones, by other writers."""
TRAINING = 1_437

TUNING = range(100, 105)
JUDGING = range(200, 210)
STARTS = {"scratch": False, "pretrained": True}
STEPS = {"scratch": 10_000, "pretrained": 3_000}
"""Forward passes for trying an idea."""

IDEAS: dict[str, dict[str, Any]] = {
    "m2n2": {},
    "reach 0.25": {"reach": 0.25},
    "reach 0.5": {"reach": 0.5},
    "reach 1": {"reach": 1.0},
    "two splits": {"splits": 2},
    "four splits": {"splits": 4},
    "appeal 2": {"appeal": 2.0},
    "largest union": {"union": True},
    "sole owners stay": {"loser": "shared"},
    "crowding": {"loser": "nearest"},
    "reach 0.5, two splits": {"reach": 0.5, "splits": 2},
}
MUTATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "scratch": {
        "mutation 0.02": {"mutation": 0.02},
        "mutation spread by 3": {"spread": 3.0},
        "a tenth mutated": {"part": 0.1},
        "a tenth mutated, 0.03": {"part": 0.1, "mutation": 0.03},
        "success rule 1/10": {"success": 0.1},
        "decay 0.002": {"decay": 0.002},
        "mutation 0.02, decay 0.01": {"mutation": 0.02, "decay": 0.01},
        "decay 0.002, four splits": {"decay": 0.002, "splits": 4},
        "decay 0.002, appeal 2": {"decay": 0.002, "appeal": 2.0},
    },
    "pretrained": {
        "mutation 0.01": {"mutation": 0.01},
        "mutation 0.01, reach 0.25": {"mutation": 0.01, "reach": 0.25},
        "mutation 0.01, decay 0.002": {"mutation": 0.01, "decay": 0.002},
        "mutation 0.01, four splits": {"mutation": 0.01, "splits": 4},
    },
}
"""M2N2 mutates from scratch by 0.01, and merges of trained models not at all."""

ADAM = 300
"""Steps of Adam after which a network has all training images right."""

MNIST_HIDDEN = 32


class Place(NamedTuple):
    """Where the variant is judged.

    Attributes:
        words: what it is.
        steps: forward passes.
        settings: of its searches, but for method and seed.
        target: test accuracy that the variant should reach, in per cent.
    """

    words: str
    steps: int
    settings: Settings
    target: float | None


def places(data: Path | None) -> dict[str, Place]:
    """Return where the variant is judged; MNIST only with a folder of its files."""
    found = {
        "scratch": Place("digits from scratch", 50_000, Settings(threads=1), 92.0),
        "pretrained": Place(
            "digits pre-trained", 10_000, Settings(threads=1, pretrained=True), 80.0
        ),
        "unmutated": Place(
            "digits pre-trained, without mutation",
            10_000,
            Settings(threads=1, pretrained=True, options={"mutation": 0.0}),
            None,
        ),
    }
    if data is not None:
        for name, pretrained, steps in (("scratch", False, 5_000), ("pretrained", True, 2_000)):
            settings = Settings(
                task="mnist", data=data, hidden=(MNIST_HIDDEN,), pretrained=pretrained, threads=1
            )
            words = f"MNIST {'pre-trained' if pretrained else 'from scratch'}, {MNIST_HIDDEN} wide"
            found[f"mnist-{name}"] = Place(words, steps, settings, None)
    return found


# -- trying ideas ---------------------------------------------------------------------------------


def fold() -> Classify:
    """Return the digits' training data, split once more."""
    from sklearn.datasets import load_digits

    data = load_digits()
    X, y = data.images[:TRAINING], data.target[:TRAINING]
    return Classify(X[:FOLD], y[:FOLD], X[FOLD:], y[FOLD:], name="digits fold")


def on_fold(settings: Settings) -> Evolver:
    return search_on(fold(), settings)


def tries() -> list[curves.Search]:
    """Return every run of every idea."""
    return [
        curves.Search(
            f"{start}-{idea.replace(' ', '-').replace('/', '-').replace(',', '')}",
            STEPS[start],
            Settings(seed=seed, pretrained=pretrained, options=options, threads=1),
            on_fold,
        )
        for start, pretrained in STARTS.items()
        for idea, options in {**IDEAS, **MUTATIONS[start]}.items()
        for seed in TUNING
    ]


def tried(folder: Path) -> str:
    """Return a table of what every idea brought, beside M2N2 with the same seeds."""
    rows = []
    for name, steps in dict.fromkeys((search.name, search.steps) for search in tries()):
        start, idea = name.split("-", 1)
        ends = _by_seed(folder, name, steps)
        plain = _by_seed(folder, f"{start}-m2n2", steps)
        both = ends.keys() & plain.keys()
        if both:
            train = estimate(100 * x for x in curves.last(folder, name, steps, "train"))
            held = estimate(100 * x for x in ends.values())
            gain = estimate(100 * (ends[seed] - plain[seed]) for seed in both)
            words = "–" if idea == "m2n2" else f"{gain.mean:+.1f} ± {gain.half:.1f}"
            rows.append((start, f"{steps:,}", idea, str(train), str(held), words))
    heads = ("start", "passes", "idea", "searched on, %", "held out, %", "gain, points")
    return markdown(heads, rows)


def _by_seed(folder: Path, name: str, steps: int) -> dict[int, float]:
    rows = curves.read(folder, name)
    ends = rows[rows["step"] == steps]
    return dict(zip(ends["seed"].astype(int), ends["test"].astype(float), strict=True))


# -- judging --------------------------------------------------------------------------------------


def trials(found: dict[str, Place], seeds: range = JUDGING) -> list[curves.Search]:
    """Return every run by which the variant is judged."""
    return [
        curves.Search(
            f"{name}-{method}", place.steps, replace(place.settings, method=method, seed=seed)
        )
        for name, place in found.items()
        for method in ("m2n2", "m2n2+")
        for seed in seeds
    ]


def judged(folder: Path, found: dict[str, Place]) -> Iterator[Finding]:
    """Yield what both methods reach in each place, and the variant's gain."""
    for name, place in found.items():
        plain, plus = (_by_seed(folder, f"{name}-{m}", place.steps) for m in ("m2n2", "m2n2+"))
        both = sorted(plain.keys() & plus.keys())
        if not both:
            continue
        words = f"{place.words}, {place.steps:,} passes, {len(both)} seeds"
        ends = estimate(100 * plus[seed] for seed in both)
        yield Finding(f"{words}: m2n2", f"{estimate(100 * plain[seed] for seed in both)} %")
        target = "" if place.target is None else f"≥ {place.target:g} %"
        met = None if place.target is None else bool(ends.mean >= place.target)
        yield Finding(f"{words}: m2n2+", f"{ends} %", target, met)
        gain = estimate(100 * (plus[seed] - plain[seed]) for seed in both)
        sure = gain.mean - gain.half > 0 if len(both) > 1 else None
        yield Finding(f"{words}: gain", f"{gain} points", "interval above 0", sure)


def by_gradient(task: Classify, seeds: range) -> Finding:
    """Return what Adam makes of the same networks on the same images, to measure a search by."""
    ends = []
    for seed in seeds:
        (network,) = task.trained_seeds([task.classes], rng=seed, steps=ADAM)
        ends.append(100 * task.held_out(torch.from_numpy(network)))
    what = f"{task.name}, the same network trained by {ADAM} steps of Adam, {len(seeds)} seeds"
    return Finding(what, f"{estimate(ends)} %")


def findings(quick: bool) -> Iterator[Finding]:
    """Yield the judgement; the quick version has too few passes for the targets."""
    if not quick:
        data = Path(os.environ["M2N2LAB_DATA"]) / "mnist" if "M2N2LAB_DATA" in os.environ else None
        folder, found, seeds = curves.RESULTS / "variant", places(data), JUDGING
        curves.gather(trials(found, seeds), folder)
        yield from judged(folder, found)
        yield by_gradient(digits(), seeds)
        return
    few = {name: p._replace(steps=p.steps // 100, target=None) for name, p in places(None).items()}
    with tempfile.TemporaryDirectory() as name:
        curves.gather(trials(few, JUDGING[:2]), Path(name))
        for row in judged(Path(name), few):
            yield Finding(row.what, row.figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("tune", "judge"))
    parser.add_argument("--data", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--workers", type=int, help="processes; one for each core by default")
    parser.add_argument("--nice", type=int, default=0, help="0 to 19, to stand back")
    parser.add_argument("--folder", type=Path, help="of the results")
    parser.add_argument("--report", action="store_true", help="the table of what is there")
    options = parser.parse_args()
    tuning = options.what == "tune"
    folder = options.folder or curves.RESULTS / ("ideas" if tuning else "variant")
    found = places(options.data)
    if not options.report:
        searches = tries() if tuning else trials(found)
        curves.gather(searches, folder, options.workers, options.nice)
    heads = ("what", "figure", "target", "met")
    if tuning:
        limit = by_gradient(fold(), TUNING)
        text = f"{tried(folder)}\n{limit.what}: {limit.figure} of the held-out images.\n"
    else:
        rows = [*judged(folder, found), by_gradient(digits(), JUDGING)]
        text = markdown(heads, ((*row[:3], row.verdict) for row in rows))
    told = f"{text}\n{about()}. `python benchmarks/variant.py {options.what}`\n"
    write_atomically(folder / f"{options.what}.md", told)
    print(told)


if __name__ == "__main__":
    main()
