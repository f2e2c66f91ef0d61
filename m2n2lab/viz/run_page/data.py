"""Data of a run page: plain values that JSON has, thinned so that a file stays small."""

from __future__ import annotations

import base64
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from m2n2lab.analysis.lineage import Lineage, called, seed_names
from m2n2lab.analysis.lineage_arrays import lineage_data, lineage_geometry, shares_data
from m2n2lab.analysis.lineage_replay import retraced
from m2n2lab.analysis.maps import curves_data
from m2n2lab.analysis.members import MemberPage, member_page, members_data, spread
from m2n2lab.core.archive import Archive
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.history import COLUMNS
from m2n2lab.core.task import Sample
from m2n2lab.utils.text import plain
from m2n2lab.utils.version import __version__
from m2n2lab.viz.pictures import png_uri, sample_pixels

MAX_CURVE_STEPS = 1_000
"""Steps of a curve."""

MAX_MOMENTS = 200
"""Archives that the time slider shows, the first and the last included."""

MAX_POINTS = 2_000
"""Data points of the niche map: columns that a wide screen can show."""

MAX_ROWS = 60
"""Members of a map, the fittest ones."""

MAX_PICTURE_PIXELS = 256
"""Side of a picture; larger ones are made smaller."""

MAX_TEXT_CHARS, MAX_ANSWER_CHARS = 400, 6_000
"""Characters shown of a question or an answer, and of all that a model wrote."""

MAX_NAME_CHARS = 60
"""Characters shown of a data point's name, and of a class's."""


class Moment(NamedTuple):
    """An archive as it was after a step."""

    step: int
    archive: Archive


def run_data(
    evolver: Evolver, past: Iterable[tuple[int, Archive]] = (), code: str = ""
) -> dict[str, Any]:
    """Return what a run page shows of a search as it is now; the best member is evaluated.

    Args:
        evolver: the search.
        past: its archives after earlier steps; those that are not of this search are left out.
        code: Python that makes it again.
    """
    lineage = retraced(evolver)
    best = evolver.best
    seeds = seed_names(evolver.space)
    moments = _moments(evolver, past)
    curves, curve_steps = _curves(evolver)
    maps = _maps(evolver, moments, seeds)
    return {
        "title": f"{plain(evolver.task.name, MAX_NAME_CHARS)} · {evolver.method}",
        "made": f"m2n2lab {__version__}, Python {platform.python_version()}, "
        f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "figures": _figures(evolver),
        "notes": _notes(evolver, moments, curve_steps, maps),
        "settings": _settings(evolver, seeds),
        "code": code or _code(evolver),
        "curves": curves,
        "maps": maps,
        "shares": _shares(lineage),
        "lineage": _lineage(lineage, best.id, seeds),
        "members": _members(evolver, lineage, seeds),
        "best": _best(member_page(evolver, lineage, best.id), called(best.id, seeds)),
    }


def _figures(evolver: Evolver) -> list[list[str]]:
    standing = evolver.archive.standing
    figures = [
        ("steps", f"{evolver.generation:,}"),
        ("best, train", _percent(standing.train)),
        ("best, held out", _percent(evolver.test)),
        ("covered", _percent(standing.coverage)),
        ("members", f"{len(standing.ids):,} of {evolver.archive.size:,}"),
    ]
    return [[name, text] for name, text in figures]


def _percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{share:.1%}".replace("%", " %")


def _notes(
    evolver: Evolver, moments: Sequence[Moment], curve_steps: int, maps: Mapping[str, Any]
) -> list[str]:
    """Return what this page leaves out, in sentences."""
    notes, steps = [], len(evolver.records)
    by_hand = int(evolver.records.column("by_hand").sum())
    if by_hand:
        notes.append(f"{by_hand:,} steps were made by hand; the code below does not make them.")
    if curve_steps < steps:
        notes.append(f"Curves show {curve_steps:,} of {steps:,} steps, evenly spaced.")
    if len(moments) == 1 and steps:
        notes.append(
            "The run was not recorded, so that the maps show the last archive alone; with "
            "run(…, store=…) the slider has those of earlier steps."
        )
    elif len(moments) <= steps:
        notes.append(f"The slider has the archives after {len(moments):,} of {steps + 1:,} steps.")
    points = len(maps["groups"])
    if points < evolver.task.points:
        notes.append(
            f"Maps show {points:,} of {evolver.task.points:,} data points, evenly spread over the "
            f"classes; fitness and attraction are those of all."
        )
    if any(len(archive.ids) > MAX_ROWS for _, archive in moments):
        notes.append(f"Maps show the {MAX_ROWS} fittest members.")
    return notes


def _settings(evolver: Evolver, seeds: Sequence[str]) -> list[list[str]]:
    values = {
        "task": evolver.task.name,
        "data points": f"{evolver.task.points:,}",
        "method": evolver.method,
        **{name: value for name, value in evolver.options.items() if value not in (None, [], ())},
        "seeds": ", ".join(seeds),
        "parameters": f"{evolver.space.size:,}",
    }
    return [
        [plain(name, MAX_NAME_CHARS), plain(str(v), MAX_TEXT_CHARS)] for name, v in values.items()
    ]


def _code(evolver: Evolver) -> str:
    """Return Python that goes on with a recorded search, or makes one like it."""
    if (stored := evolver.stored) is not None and not stored.branched:
        return (
            f"import m2n2lab as lab\n\n"
            f"evolver = lab.Evolver.resume({stored.path.name!r}, run={stored.run})\n"
        )
    options = "".join(f"    {name}={value!r},\n" for name, value in evolver.options.items())
    origin = evolver.task.origin
    made = "..."
    if origin is not None:
        arguments = ", ".join(f"{name}={value!r}" for name, value in origin["arguments"].items())
        made = f"lab.tasks.{origin['task']}({arguments})"
    return (
        f"import m2n2lab as lab\n\n"
        f"task = {made}\n"
        f"seeds = ...  # {len(evolver.space.seeds)} models; they are not in this file\n"
        f"evolver = lab.make_evolver(\n    {evolver.method!r},\n    task,\n    seeds,\n{options})\n"
        f"evolver.run({evolver.generation})\n"
    )


def _curves(evolver: Evolver) -> tuple[dict[str, Any], int]:
    data = curves_data(evolver, MAX_CURVE_STEPS)
    legend = data.legend
    lines = [
        {"name": legend[column], "values": _numbers(values, 2)}
        for column, values in data.lines().items()
        if not np.isnan(values).all()
    ]
    return {"steps": data.step.astype(int).tolist(), "lines": lines}, len(data.step) - 1


# -- maps ----------------------------------------------------------------------------------------


def _moments(evolver: Evolver, past: Iterable[tuple[int, Archive]]) -> list[Moment]:
    """Return archives of this search, the present one last."""
    kept = [Moment(*each) for each in past if _is_of(evolver, *each)]
    return [*kept, Moment(evolver.generation, evolver.archive)]


def _is_of(evolver: Evolver, step: int, archive: Archive) -> bool:
    """Return whether an archive is that of an earlier step, by what the history says of it.

    A search that was branched from a run goes another way than the run does.
    """
    records = evolver.records
    row = step - evolver.generation + len(records) - 1
    if not -1 <= row < len(records) - 1:
        return False
    now = archive.standing
    if row == -1:
        start = records.start
        return start is not None and start.ids == now.ids and start.best == now.best
    values = dict(zip(COLUMNS, records.table(row, row + 1)[0].tolist(), strict=True))
    near = np.isclose((values["coverage"], values["train"]), (now.coverage, now.train)).all()
    return bool(near) and (values["best"], values["members"]) == (now.best, len(now.ids))


def _maps(evolver: Evolver, moments: Sequence[Moment], seeds: Sequence[str]) -> dict[str, Any]:
    """Return the archives of the slider: who was a member, what they solve, who should meet."""
    task = evolver.task
    everywhere = np.ones(task.points, np.bool_)
    points = np.sort(spread(task, everywhere, MAX_POINTS))
    points = points[np.argsort(task.groups[points], kind="stable")]
    scores: dict[int, NDArray[np.float64]] = {}
    steps = []
    for step, archive in moments:
        rows = np.argsort(-archive.fitness, kind="stable")[:MAX_ROWS]
        ids = [int(archive.ids[row]) for row in rows]
        scores |= {
            id: archive.scores[row, points]
            for id, row in zip(ids, rows, strict=True)
            if id not in scores
        }
        attraction = archive.attraction()[np.ix_(rows, rows)]
        np.fill_diagonal(attraction, 0.0)
        weights = archive.weights[points]
        steps.append(
            {
                "step": step,
                "ids": ids,
                "fitness": _numbers(archive.fitness[rows], 3),
                "weights": _bytes(weights),
                "most": float(weights.max(initial=0.0)),
                "attraction": _bytes(attraction),
                "strongest": float(attraction.max(initial=0.0)),
            }
        )
    top = max(max(float(s.max(initial=0.0)) for s in scores.values()), 1e-12)
    binary = all(bool(((s == 0) | (s == top)).all()) for s in scores.values())
    return {
        "moments": steps,
        "binary": binary,
        "top": top,
        "scores": {
            id: _encoded(np.packbits(s > 0)) if binary else _bytes(s, top)
            for id, s in scores.items()
        },
        "groups": task.groups[points].tolist(),
        "points": points.tolist(),
        "classes": [plain(name, MAX_NAME_CHARS) for name in task.classes],
        "names": None
        if task.names is None
        else [plain(task.names[point], MAX_NAME_CHARS) for point in points],
        "called": {id: called(id, seeds) for id in scores if called(id, seeds) != str(id)},
    }


def _bytes(values: NDArray[np.float64], top: float | None = None) -> str:
    """Return values in [0, top] as bytes, in base64; those above 0 are at least 1."""
    top = max(float(np.max(values, initial=0.0)), 1e-300) if top is None else top
    scaled = np.clip(np.round(values / top * 255), 0, 255)
    return _encoded(np.where(values > 0, np.maximum(scaled, 1), 0).astype(np.uint8))


def _encoded(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _numbers(values: ArrayLike, digits: int) -> list[float | None]:
    """Return numbers as JSON has them: rounded, and ``None`` for those that it lacks."""
    found = np.round(np.asarray(values, float), digits).tolist()
    return [value if math.isfinite(value) else None for value in found]


# -- lineage, members, the best ----------------------------------------------------------------


def _shares(lineage: Lineage) -> dict[str, Any]:
    data = shares_data(lineage)
    return {
        "steps": data.steps.tolist(),
        "shares": [_numbers(row, 3) for row in data.shares],
        "names": list(data.names),
    }


def _lineage(lineage: Lineage, focus: int, seeds: Sequence[str]) -> dict[str, Any]:
    data = lineage_data(lineage, focus)
    drawn = lineage_geometry(data, whole=True)
    lives = drawn.lives
    return {
        "lanes": data.lanes,
        "start": drawn.start,
        "end": drawn.end,
        "lives": [
            [
                called(int(data.ids[k]), seeds),
                *_numbers((x0, x1, y), 2),
                *_numbers([gave], 3),
                int(alive),
            ]
            for k, x0, x1, y, gave, alive in zip(
                lives,
                drawn.lines["x0"],
                drawn.lines["x1"],
                drawn.lines["y0"],
                data.gave[lives],
                data.alive[lives],
                strict=True,
            )
        ],
        "links": [
            [*_numbers(ends, 2), *_numbers([given], 3)]
            for *ends, given in zip(*drawn.links.values(), data.given[drawn.edges], strict=True)
        ],
    }


def _members(evolver: Evolver, lineage: Lineage, seeds: Sequence[str]) -> dict[str, Any]:
    data = members_data(evolver.archive, evolver.task, lineage)
    rows = [
        {
            "name": called(id, seeds),
            "born": born,
            "parents": ", ".join(called(parent, seeds) for parent in parents),
            "fitness": fitness,
            "score": score,
            "alone": alone,
            "painting": _encoded(np.round(painting * 255).astype(np.uint8)),
        }
        for id, born, parents, fitness, score, alone, painting in zip(
            data.ids,
            data.born,
            data.parents,
            _numbers(data.fitness, 3),
            _numbers(data.score, 4),
            _numbers(data.alone, 4),
            data.painting,
            strict=True,
        )
    ]
    return {"rows": rows, "seeds": list(data.seeds)}


def _best(page: MemberPage, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "classes": [plain(name, MAX_NAME_CHARS) for name in page.classes],
        "accuracy": None if page.accuracy is None else _numbers(page.accuracy, 4),
        "held_out": None if page.held_out is None else _numbers(page.held_out, 4),
        "confusion": None if page.confusion is None else page.confusion.tolist(),
        "answers": [_answer(sample) for sample in (*page.wrong, *page.right)],
    }


def _answer(sample: Sample) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "truth": plain(sample.truth, MAX_TEXT_CHARS),
        "prediction": plain(sample.prediction, MAX_TEXT_CHARS),
        "right": sample.right,
    }
    if sample.image is not None:
        picture = Image.fromarray(sample_pixels(sample.image))
        picture.thumbnail((MAX_PICTURE_PIXELS, MAX_PICTURE_PIXELS))  # small ones stay as they are
        shown |= {"picture": png_uri(np.asarray(picture)), "grey": sample.image.ndim == 2}
    if sample.text is not None:
        shown["text"] = plain(sample.text, MAX_TEXT_CHARS)
    if sample.answer is not None:
        lines = sample.answer[:MAX_ANSWER_CHARS].splitlines()
        shown["answer"] = "\n".join(plain(line, MAX_ANSWER_CHARS) for line in lines)
    return shown
