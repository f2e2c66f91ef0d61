"""A run in plain values, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from m2n2lab.core.history import History
from m2n2lab.store.catalog import opened
from m2n2lab.store.reader import about_run, replay
from m2n2lab.store.rows import history_rows, unpack_past

COLUMNS = (
    *("step", "child", "outside", "parent_a", "parent_b", "split", "mix", "seed", "by_hand"),
    *(
        "accepted",
        "score",
        "fitness",
        "rank",
        "rivals",
        "rival",
        "rival_fitness",
        "alone",
        "unseen",
    ),
    *("best", "train", "test", "coverage", "entropy", "members"),
)
"""What is told of each step."""


def whole_history(path: str | Path, run: int | None = None) -> History:
    """Return the history of a run, with what was before it was recorded or branched.

    Raises:
        StoreError: no such store or run.
    """
    with opened(path) as file:
        about = about_run(file, path, run)
        past, start, parts = unpack_past(about.past)
        history = History()
        rows = history_rows(file, about.run, about.last)
        history.restore(np.concatenate((past, rows)), start, parts)
    return history


def told(path: str | Path, run: int | None = None) -> dict[str, Any]:
    """Return all of a run but scores and weights, as values that JSON has.

    Steps are rows under ``columns``; what is not known, and NaN, is ``None``.

    Raises:
        StoreError: no such store or run.
    """
    with opened(path) as file:
        about = about_run(file, path, run)
        title, created, maker = file.execute(
            "SELECT title, created, maker FROM runs WHERE run = ?", (about.run,)
        ).fetchone()
        rows = file.execute(
            f"SELECT {', '.join(COLUMNS)} FROM steps WHERE run = ? ORDER BY step", (about.run,)
        ).fetchall()
    archive = replay(path, about.run, about.last)
    return {
        "run": about.run,
        "title": title,
        "created": created,
        "maker": maker,
        "parent": about.parent,
        "method": about.method,
        "options": about.options,
        "task": about.task,
        "space": about.space,
        "seeds": [{"name": seed.name, "sha256": seed.sha256} for seed in about.seeds],
        "start": about.start,
        "last": about.last,
        "columns": list(COLUMNS),
        "steps": [list(row) for row in rows],
        "members": [
            {
                "id": member.id,
                "born": member.born,
                "parents": list(member.parents),
                "score": member.score,
                "fitness": float(fitness),
            }
            for member, fitness in zip(archive.members, archive.fitness, strict=True)
        ],
    }
