"""The paper's second experiment on the zoo: word problems and shopping in one language model.

Every method gets the same number of evaluations (one evaluation scores one child on all training
examples), the same two specialists and the same merge, as in arXiv 2508.16204, §4.2: an archive of
15, random merges of the seeds until it is full, no mutation, at most 6 turns of a shopping trip
(the paper: 7). CMA-ES searches one SLERP coefficient a layer, MAP-Elites has 4 × 4 cells of
accuracy in either task. Beside them stand merges without a search: the best of 21 plain SLERPs, and
the best of five strengths of linear, task arithmetic, TIES and DARE, chosen on the training
examples too. Held-out examples score the member that is best on the training examples, once.

Merges that are given the base can come near it, which searches of the two seeds cannot: it stands
in the table too. The interval of a merge without a search, to M2N2, is that of M2N2's seeds alone.

Searches are written down when they are finished; the same command goes on where it was stopped.

    python benchmarks/paper_language.py                     # into benchmarks/results/language
    python benchmarks/paper_language.py --seeds 3 --evaluations 300
    python benchmarks/paper_language.py --report            # table and figure of what is there
    python benchmarks/paper_language.py --quick             # a minute, into a temporary folder
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import curves
import numpy as np
import pandas as pd
import torch
from experiments import Method, drawing, ends, experiment, gain, minutes, percent, population, words
from findings import Estimate, Finding, about, estimate, markdown
from stills import png

from m2n2lab.checkpoint import CheckpointSpace
from m2n2lab.config.builders import build_evolver, build_task
from m2n2lab.config.settings import Settings
from m2n2lab.core.operators import Crossover, Dare, Lerp, TaskArithmetic, Ties
from m2n2lab.core.records import Proposal
from m2n2lab.core.task import Task
from m2n2lab.utils.files import write_atomically
from m2n2lab.zoo.language import AGENT, BASE, MATHS, trained

FOLDER = curves.RESULTS / "language"
TASK = "gsm8k+webshop"
TRAINING, HELD_OUT = 30, 64
"""Examples of each of the two tasks, as many of either so that each is half of the mean."""

ARCHIVE = 15
WARMUP = ARCHIVE - 2
"""Random merges of the seeds at the beginning: the archive is full then (the paper: at most 50)."""

POINTS = 20
"""Steps of a search that are kept, besides the start."""


_POPULATION = {"archive_size": ARCHIVE, "warmup": WARMUP}

METHODS = {
    "m2n2": Method("M2N2", "m2n2", _POPULATION, "#0072b2"),
    "no-attraction": Method(
        "M2N2 without attraction", "m2n2-no-attraction", _POPULATION, "#56b4e9"
    ),
    "no-split": Method("M2N2 without split point", "m2n2-no-split", _POPULATION, "#e69f00"),
    "ga": Method("GA", "ga", _POPULATION, "#009e73"),
    "map-elites": Method(
        "MAP-Elites, 4 × 4", "map-elites", {"behaviours": "tasks", "side": 4}, "#cc79a7"
    ),
    "cma-es": Method("CMA-ES, a coefficient a layer", "cma-es", {}, "#d55e00"),
}
"""Searches."""

Make = Callable[[CheckpointSpace, float, np.random.Generator], Any]


class Static(NamedTuple):
    """A merge without a search: the best of some strengths.

    Attributes:
        words: what it is called in the table.
        strengths: that are tried.
        make: makes the child of a strength, with random numbers of a seed.
        random: whether it depends on them.
    """

    words: str
    strengths: tuple[float, ...]
    make: Make
    random: bool = False


def crossed(
    make: Callable[[float], Crossover],
    space: CheckpointSpace,
    strength: float,
    rng: np.random.Generator,
) -> Any:
    """Return the child of a crossover of a strength, half of either parent; seed 2 is the base."""
    a, b = space.seeds[:2]
    return make(strength)(a, b, Proposal((0, 1), space.size, 0.5, 0), space, rng)


def slerped(space: CheckpointSpace, mix: float, rng: np.random.Generator) -> Any:
    """Return a plain SLERP."""
    a, b = space.seeds[:2]
    return space.merge(a, b, space.size, mix)


def mean_of(space: CheckpointSpace, mix: float, rng: np.random.Generator) -> Any:
    """Return a weighted mean."""
    a, b = space.seeds[:2]
    return Lerp()(a, b, Proposal((0, 1), space.size, mix, 0), space, rng)


def base_of(space: CheckpointSpace, strength: float, rng: np.random.Generator) -> Any:
    """Return the base, which both specialists were trained from."""
    return space.seeds[2]


def arithmetic(scale: float) -> Crossover:
    return TaskArithmetic(base=2, scale=scale)


def ties(scale: float) -> Crossover:
    return Ties(base=2, scale=scale)


def dare(scale: float) -> Crossover:
    return Dare(base=2, scale=scale)


SCALES = (0.1, 0.3, 0.5, 0.7, 1.0)
"""λ of task vectors; near 0 a merge is the base."""

STATICS = {
    "slerp": Static("SLERP, best of 21", tuple(np.linspace(0.0, 1.0, 21).round(2)), slerped),
    "linear": Static("linear, best of 5", (0.3, 0.4, 0.5, 0.6, 0.7), mean_of),
    "task-arithmetic": Static("task arithmetic, best of 5 λ", SCALES, partial(crossed, arithmetic)),
    "ties": Static("TIES (density 0.2), best of 5 λ", SCALES, partial(crossed, ties)),
    "dare": Static("DARE (density 0.5), best of 5 λ", SCALES, partial(crossed, dare), True),
    "base": Static("the base of both, unmerged", (0.0,), base_of),
    "maths": Static("the maths seed", (0.0,), slerped),
    "agent": Static("the shopping seed", (1.0,), slerped),
}
"""Merges without a search, and the seeds."""


def settings_of(name: str, seed: int, evaluations: int) -> Settings:
    """Return the settings of a search."""
    method = METHODS[name]
    options = dict(method.options)
    if name == "cma-es":
        options |= {"archive_size": ARCHIVE, "population": population(evaluations)}
    return Settings(
        TASK, method.method, seed, threads=1, limit=TRAINING, held_out=HELD_OUT, options=options
    )


def held_out(task: Task, model: Any) -> tuple[float, float]:
    """Return the held-out scores of a model in word problems and in shopping."""
    maths, shopping = task.held_out_by_class(model).values()
    return maths, shopping


def searched(search: curves.Search) -> pd.DataFrame:
    """Run a search in one thread and return its rows; held-out examples are scored at the end."""
    torch.set_num_threads(1)
    evolver, rows, began = build_evolver(search.settings), [], process_time()
    for step in np.unique(np.linspace(0, search.steps, POINTS + 1).round().astype(int)).tolist():
        evolver.run(step - evolver.generation)
        now = evolver.archive.standing
        seconds = process_time() - began
        rows.append((search.seed, step, now.train, now.coverage, now.entropy, seconds))
    table = pd.DataFrame(rows, columns=["seed", "step", "train", "coverage", "entropy", "seconds"])
    best = evolver.space.materialise(evolver.best.genome)
    return with_scores(table, *held_out(evolver.task, best))


def with_scores(table: pd.DataFrame, maths: float, shopping: float) -> pd.DataFrame:
    """Return rows with the held-out scores in the last one."""
    last = table.index[-1]
    for name, score in (("maths", maths), ("shopping", shopping), ("test", (maths + shopping) / 2)):
        table[name] = np.nan
        table.loc[last, name] = score
    return table


def tried(search: curves.Search) -> pd.DataFrame:
    """Try the strengths of a merge without a search, and return one row about the best."""
    torch.set_num_threads(1)
    static, began = STATICS[search.name.rpartition("-at-")[0]], process_time()
    space = CheckpointSpace(MATHS, AGENT, BASE, dtype="float32")
    task = build_task(search.settings)
    children = [
        static.make(space, strength, np.random.default_rng((search.seed, k)))
        for k, strength in enumerate(static.strengths)
    ]
    trains = [float(task.evaluate(space.materialise(child)).mean()) for child in children]
    best = int(np.argmax(trains))
    row = {
        "seed": search.seed,
        "step": search.steps,
        "train": trains[best],
        "strength": static.strengths[best],
        "seconds": process_time() - began,
    }
    return with_scores(pd.DataFrame([row]), *held_out(task, space.materialise(children[best])))


def file_of(name: str, evaluations: int) -> str:
    """Return the name of a method's file."""
    return f"{name}-at-{len(STATICS[name].strengths) if name in STATICS else evaluations}"


def searches(names: Sequence[str], seeds: int, evaluations: int) -> list[curves.Search]:
    """Return every search, all methods of a seed before those of the next one."""
    found = []
    for seed in range(seeds):
        for name in names:
            if name in METHODS:
                settings = settings_of(name, seed, evaluations)
                file = file_of(name, evaluations)
                found.append(curves.Search(file, evaluations, settings, measure=searched))
            elif seed == 0 or STATICS[name].random:
                settings = Settings(TASK, seed=seed, threads=1, limit=TRAINING, held_out=HELD_OUT)
                steps = len(STATICS[name].strengths)
                found.append(
                    curves.Search(file_of(name, evaluations), steps, settings, measure=tried)
                )
    return found


# -- what was found -----------------------------------------------------------------------------


def ends_of(folder: Path, name: str, evaluations: int) -> pd.DataFrame:
    """Return the last row of each seed of a method, by seed."""
    steps = len(STATICS[name].strengths) if name in STATICS else evaluations
    return ends(folder, file_of(name, evaluations), steps)


def gain_of(folder: Path, name: str, evaluations: int) -> Estimate | None:
    """Return the points by which a method is above M2N2 on held-out examples, seed by seed.

    A merge without a search, of which there is one, is compared with every seed of M2N2.
    """
    if name == "m2n2":
        return None
    own, other = (ends_of(folder, each, evaluations)["test"] for each in ("m2n2", name))
    return gain(own, other, one=name in STATICS and not STATICS[name].random)


def table(folder: Path, evaluations: int) -> str:
    """Return scores, gains to M2N2, coverage and entropy of each method in Markdown."""
    heads = ("method", "paper", "maths", "shopping", "mean", "to M2N2", "coverage", "entropy")
    rows = []
    for name in (*METHODS, *STATICS):
        last = ends_of(folder, name, evaluations)
        if not len(last):
            continue
        title = METHODS[name].words if name in METHODS else STATICS[name].words
        seeds = f", {len(last)} seeds" if len(last) > 1 else ""
        found = gain_of(folder, name, evaluations)
        more = ("–", "–")
        if name in METHODS:
            more = (words(percent(last["coverage"])), f"{estimate(last['entropy']).mean:.2f}")
        rows.append(
            (
                f"{title}{seeds}",
                "",
                *(words(percent(last[column])) for column in ("maths", "shopping", "test")),
                "–" if found is None else words(found),
                *more,
            )
        )
    return markdown(heads, rows)


PANELS = {
    "train": ("mean of both, training, %", 100.0),
    "coverage": ("coverage, %", 100.0),
    "entropy": ("entropy, bits", 1.0),
}


def report(folder: Path, evaluations: int, command: str) -> str:
    """Write the table and the figure of what is finished, and return the table."""
    files = {file_of(name, evaluations): each for name, each in (METHODS | STATICS).items()}
    text = (
        f"{table(folder, evaluations)}\n{minutes(folder, files):.0f} minutes of one core. "
        f"{about()}. `{command}`\n"
    )
    write_atomically(folder / f"at-{evaluations}.md", text)
    searched = {file_of(name, evaluations): method for name, method in METHODS.items()}
    picture = png(drawing(folder, searched, PANELS))
    write_atomically(folder / f"at-{evaluations}.png", picture)
    return text


def findings(quick: bool) -> Iterator[Finding]:
    """Yield the held-out mean of M2N2 and of CMA-ES, and their difference."""
    if not trained():
        yield Finding("the paper's second experiment", "the zoo has no language models here")
        return
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            curves.gather(searches(("m2n2", "cma-es"), 1, WARMUP + 2), Path(folder), workers=1)
            last = ends_of(Path(folder), "m2n2", WARMUP + 2)
            yield Finding("M2N2 on language models, a short search", words(percent(last["test"])))
        return
    curves.gather(searches((*METHODS, *STATICS), 10, 100), FOLDER)
    for name in METHODS:
        found = percent(ends_of(FOLDER, name, 100)["test"])
        yield Finding(f"{METHODS[name].words}, held out, 100 evaluations", f"{words(found)} %")


def main() -> None:
    """Run what is not finished yet, write what was found, and print the table."""
    names = [*METHODS, *STATICS]
    experiment(__doc__, Path(__file__), 100, names, FOLDER, searches, report, findings)


if __name__ == "__main__":
    main()
