"""The paper's third experiment on the zoo: four models that draw, one of which knows Japanese.

As in arXiv 2508.16204, §4.3: only the U-Nets are merged, text encoder and tokenizer are those of
the Japanese model; attention layers are merged apart from the rest; the worst score of the
population on each caption is subtracted before the competition; random merges of the seeds come
first; there is no mutation. Every search optimises the likeness of pictures drawn from Japanese
captions and true drawings, the paper's NCS, by features of the lab's own (`picture_features.py`).

Reported on held-out captions: NCS in both languages, the zoo's own score of shapes, the Fréchet
distance to true drawings, and cross-lingual consistency: the mean cosine of pictures drawn from a
Japanese caption and from its English translation with the same noise. English is never searched on.

CMA-ES chains the seeds: one SLERP coefficient a layer for each seed after the first. MAP-Elites has
10 × 10 cells of the scores of captions with odd and even numbers, between 0.95 and 1, where all
models are.

    python benchmarks/paper_images.py                     # into benchmarks/results/images
    python benchmarks/paper_images.py --seeds 3 --evaluations 300
    python benchmarks/paper_images.py --report            # table, figure and sheet of what is there
    python benchmarks/paper_images.py --quick             # a minute, into a temporary folder
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import curves
import numpy as np
import pandas as pd
import torch
from experiments import Method, drawing, ends, experiment, gain, minutes, percent, population, words
from findings import Finding, about, estimate, markdown
from picture_features import Likeness, drawn, features
from stills import png

from m2n2lab.checkpoint import CheckpointSpace
from m2n2lab.config.settings import Settings
from m2n2lab.core.methods.registry import make_evolver
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.task import Task
from m2n2lab.tasks.images.reports import frechet_distance
from m2n2lab.tasks.images.shape_scores import shape_scores
from m2n2lab.tasks.images.shapes import LANGUAGES, scenes
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.files import write_atomically
from m2n2lab.viz.contact_sheet import Row, draw_sheet
from m2n2lab.zoo.images import HOME, SPECIALISTS, captions, shapes, trained

FOLDER = curves.RESULTS / "images"
TRAINING, HELD_OUT = 24, 48
"""Scenes to search on, in Japanese, and held-out ones, in both languages."""

ARCHIVE = 15
WARMUP = ARCHIVE - len(SPECIALISTS)
"""Random merges of the seeds at the beginning: the archive is full then (the paper: at most 50)."""

POINTS = 20
"""Steps of a search that are kept, besides the start."""

GROUPS = {"attention": "*attentions*", "rest": "*"}
"""Attention layers are merged apart from the rest."""

AXES = (("odd captions", 0.95, 1.0), ("even captions", 0.95, 1.0))
"""Of MAP-Elites' grid: between 0 and 1 all models would fall into one cell."""


def halves(scores: Floats) -> tuple[float, float]:
    """Return the mean scores of captions with odd and even numbers."""
    return float(scores[1::2].mean()), float(scores[::2].mean())


_PLAIN = {"archive_size": ARCHIVE, "warmup": WARMUP}
_PAPER = {**_PLAIN, "capacity": "range", "groups": GROUPS}

METHODS = {
    "m2n2": Method("M2N2", "m2n2", _PAPER, "#0072b2"),
    "no-attraction": Method("M2N2 without attraction", "m2n2-no-attraction", _PAPER, "#56b4e9"),
    "no-split": Method("M2N2 without split points", "m2n2-no-split", _PAPER, "#e69f00"),
    "no-competition": Method(
        "M2N2 without competition", "m2n2", {**_PAPER, "alpha": 0.0}, "#999999"
    ),
    "no-range": Method(
        "M2N2, nothing subtracted", "m2n2", {**_PAPER, "capacity": "max"}, "#66a61e"
    ),
    "compatible": Method(
        "M2N2, attraction × compatibility", "m2n2", {**_PAPER, "mate": "compatible"}, "#a6761d"
    ),
    "no-groups": Method(
        "M2N2, attention not apart", "m2n2", {**_PLAIN, "capacity": "range"}, "#7570b3"
    ),
    "ga": Method("GA", "ga", {**_PLAIN, "groups": GROUPS}, "#009e73"),
    "map-elites": Method(
        "MAP-Elites, 10 × 10",
        "map-elites",
        {"groups": GROUPS, "behaviours": halves, "axes": AXES},
        "#cc79a7",
    ),
    "cma-es": Method("CMA-ES, three coefficients a layer", "cma-es", {}, "#d55e00"),
}
"""Searches."""


def mean_of(space: CheckpointSpace) -> Any:
    """Return the SLERP of all seeds, one after the other, with equal shares."""
    child, *others = space.seeds
    for number, seed in enumerate(others, start=2):
        child = space.merge(child, seed, space.size, 1 / number)
    return child


def seed_of(number: int) -> Callable[[CheckpointSpace], Any]:
    """Return a function that returns a seed."""
    return lambda space: space.seeds[number]


STATICS: dict[str, tuple[str, Callable[[CheckpointSpace], Any]]] = {
    "mean": ("all four in equal shares", mean_of),
    **{
        name: (f"the {name.replace('-', ' ')} seed", seed_of(number))
        for number, name in enumerate(SPECIALISTS)
    },
}
"""Models without a search: title, and what makes them."""


def space_of() -> CheckpointSpace:
    """Return the U-Nets of the four models, with the Japanese model's text encoder."""
    return CheckpointSpace(
        *(HOME / name for name in SPECIALISTS), components=("unet",), tokenizer=0, dtype="float32"
    )


def task_of() -> Task:
    """Return the Japanese captions, scored by likeness to true drawings."""
    return shapes(TRAINING, HELD_OUT, scorer=Likeness())


def options_of(name: str, evaluations: int) -> dict[str, Any]:
    """Return the options of a method."""
    options = dict(METHODS[name].options)
    if name == "cma-es":
        options |= {"archive_size": ARCHIVE, "population": population(evaluations)}
    return options


def reported(task: Any, model: Any) -> dict[str, float]:
    """Return what is reported of a model on held-out captions."""
    asked = {language: captions("test", (language,), HELD_OUT) for language in LANGUAGES}
    made = {
        language: np.stack([each.picture for each in task.draw(model, prompts)])
        for language, prompts in asked.items()
    }
    network, found = features(), {}
    likeness = Likeness()
    for language, pictures in made.items():
        texts = [prompt.text for prompt in asked[language]]
        found[f"ncs-{language}"] = float(np.mean(likeness.score(pictures, asked[language])))
        found[f"shapes-{language}"] = float(shape_scores(pictures, texts).mean())
    true = np.stack([drawn(scene) for scene in scenes("test")[:HELD_OUT]])
    for language, pictures in made.items():
        found[f"distance-{language}"] = frechet_distance(network.raw(pictures), network.raw(true))
    both = [network.embed(pictures) for pictures in made.values()]
    found["consistency"] = float(np.einsum("nd,nd->n", *both).mean())
    return found


def searched(search: curves.Search) -> pd.DataFrame:
    """Run a search in one thread and return its rows; the best model is reported on at the end."""
    torch.set_num_threads(1)
    name = search.name.rpartition("-at-")[0]
    method, seed = METHODS[name], search.settings.seed
    options = options_of(name, search.steps)
    evolver = make_evolver(method.method, task_of(), space_of(), rng=seed, **options)
    rows, began = [], process_time()
    for step in np.unique(np.linspace(0, search.steps, POINTS + 1).round().astype(int)).tolist():
        evolver.run(step - evolver.generation)
        now = evolver.archive.standing
        taken = process_time() - began
        rows.append((seed, step, now.train, now.coverage, now.entropy, taken))
    table = pd.DataFrame(rows, columns=["seed", "step", "train", "coverage", "entropy", "seconds"])
    best = evolver.best.genome
    return finished(table, evolver.task, evolver.space.materialise(best), best)


def tried(search: curves.Search) -> pd.DataFrame:
    """Return one row about a model without a search."""
    torch.set_num_threads(1)
    space, task, began = space_of(), task_of(), process_time()
    genome = STATICS[search.name.rpartition("-at-")[0]][1](space)
    model = space.materialise(genome)
    train = float(task.evaluate(model).mean())
    row = {"seed": 0, "step": 1, "train": train, "seconds": process_time() - began}
    return finished(pd.DataFrame([row]), task, model, genome)


def finished(table: pd.DataFrame, task: Any, model: Any, genome: Recipe) -> pd.DataFrame:
    """Return rows with what is reported of the model, and its recipe, in the last one."""
    last = table.index[-1]
    found = reported(task, model)
    for name, value in {**found, "test": found["ncs-Japanese"]}.items():
        table[name] = np.nan
        table.loc[last, name] = value
    table["recipe"] = ""
    table.loc[last, "recipe"] = json.dumps(genome.to_json())
    return table


def file_of(name: str, evaluations: int) -> str:
    """Return the name of a method's file."""
    return f"{name}-at-{1 if name in STATICS else evaluations}"


def searches(names: Sequence[str], seeds: int, evaluations: int) -> list[curves.Search]:
    """Return every search, all methods of a seed before those of the next one."""
    found = []
    for seed in range(seeds):
        for name in names:
            settings = Settings("text2image", seed=seed, threads=1)
            file = file_of(name, evaluations)
            if name in METHODS:
                found.append(curves.Search(file, evaluations, settings, measure=searched))
            elif seed == 0:
                found.append(curves.Search(file, 1, settings, measure=tried))
    return found


# -- what was found -----------------------------------------------------------------------------

COLUMNS = {
    "ncs-Japanese": "NCS, Japanese",
    "ncs-English": "NCS, English",
    "shapes-Japanese": "shapes, Japanese",
    "shapes-English": "shapes, English",
    "consistency": "consistency",
}
"""Columns of the table in per cent."""


def ends_of(folder: Path, name: str, evaluations: int) -> pd.DataFrame:
    """Return the last row of each seed of a method, by seed."""
    return ends(folder, file_of(name, evaluations), 1 if name in STATICS else evaluations)


def table(folder: Path, evaluations: int) -> str:
    """Return what is reported of each method in Markdown."""
    heads = (
        "method",
        "paper",
        *COLUMNS.values(),
        "distance, Japanese",
        "shapes to M2N2",
        "entropy",
    )
    own, rows = ends_of(folder, "m2n2", evaluations), []
    for name in (*METHODS, *STATICS):
        last = ends_of(folder, name, evaluations)
        if not len(last):
            continue
        title = METHODS[name].words if name in METHODS else STATICS[name][0]
        seeds = f", {len(last)} seeds" if len(last) > 1 else ""
        found = None
        if name != "m2n2" and len(own):
            column = "shapes-Japanese"
            found = gain(own[column], last[column], one=name in STATICS)
        rows.append(
            (
                f"{title}{seeds}",
                "",
                *(words(percent(last[column])) for column in COLUMNS),
                words(estimate(last["distance-Japanese"])),
                "–" if found is None else words(found),
                f"{estimate(last['entropy']).mean:.2f}" if name in METHODS else "–",
            )
        )
    return markdown(heads, rows)


PANELS = {
    "train": ("NCS of the best, training, %", 100.0),
    "coverage": ("coverage, %", 100.0),
    "entropy": ("entropy, bits", 1.0),
}
SHOWN = (0, 1, 4, 9)
"""Held-out scenes on the sheet."""


def sheet(folder: Path, evaluations: int) -> bytes:
    """Return pictures of the seeds and of the best of each method's seed 0 in both languages."""
    space, task = space_of(), task_of()
    asked = [
        captions("test", (language,), HELD_OUT)[index] for language in LANGUAGES for index in SHOWN
    ]
    rows = []
    for name in (*SPECIALISTS, "ga", "map-elites", "cma-es", "m2n2"):
        last = ends_of(folder, name, evaluations)
        if 0 in last.index:
            genome = Recipe.from_json(json.loads(last.loc[0, "recipe"]))
            title = METHODS[name].words if name in METHODS else STATICS[name][0]
            rows.append(Row(title, task.draw(space.materialise(genome), asked)))
    return draw_sheet(rows)


def report(folder: Path, evaluations: int, command: str) -> str:
    """Write table, figure and sheet of what is finished, and return the table."""
    files = {file_of(name, evaluations): name for name in (*METHODS, *STATICS)}
    text = (
        f"{table(folder, evaluations)}\n{minutes(folder, files):.0f} minutes of one core. "
        f"{about()}. `{command}`\n"
    )
    write_atomically(folder / f"at-{evaluations}.md", text)
    found = {file_of(name, evaluations): method for name, method in METHODS.items()}
    write_atomically(folder / f"at-{evaluations}.png", png(drawing(folder, found, PANELS)))
    write_atomically(folder / f"sheet-at-{evaluations}.png", sheet(folder, evaluations))
    return text


def findings(quick: bool) -> Iterator[Finding]:
    """Yield what is reported of each method, or of a short search."""
    if not trained():
        yield Finding("the paper's third experiment", "the zoo has no picture models here")
        return
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            curves.gather(searches(("m2n2",), 1, WARMUP + 2), Path(folder), workers=1)
            last = ends_of(Path(folder), "m2n2", WARMUP + 2)
            found = words(percent(last["ncs-Japanese"]))
            yield Finding("M2N2 on picture models, a short search, NCS", f"{found} %")
        return
    curves.gather(searches((*METHODS, *STATICS), 10, 120), FOLDER)
    for name, method in METHODS.items():
        last = ends_of(FOLDER, name, 120)
        found = [words(percent(last[column])) for column in COLUMNS]
        names = ", ".join(COLUMNS.values())
        yield Finding(f"{method.words}, 120 evaluations: {names}", ", ".join(found))


def main() -> None:
    """Run what is not finished yet, write what was found, and print the table."""
    names = [*METHODS, *STATICS]
    experiment(__doc__, Path(__file__), 120, names, FOLDER, searches, report, findings)


if __name__ == "__main__":
    main()
