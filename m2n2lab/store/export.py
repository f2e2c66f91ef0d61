"""Export: a recorded run as a history or as plain values, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from m2n2lab.core.history import History
from m2n2lab.store.catalog import snapshot
from m2n2lab.store.reader import replay, run_info, step_rows
from m2n2lab.store.rows import history_rows, unpack_past
from m2n2lab.store.tables import RunRow

COLUMNS = (
    *("step", "child", "outside", "parent_a", "parent_b", "split", "mix", "seed", "by_hand"),
    *("accepted", "score", "fitness", "rank", "rivals", "rival", "rival_fitness"),
    *("alone", "unseen", "best", "train", "test", "coverage", "entropy", "members"),
)
"""Columns of the table ``steps`` that ``told`` exports."""


def whole_history(path: str | Path, run: int | None = None) -> History:
    """Return the history of a run, including the steps before it was recorded or branched.

    Raises:
        StoreError: there is no such store or run.
    """
    with snapshot(path) as file:
        info = run_info(file, path, run)
        with file.decoding(f"the history of run {info.run} before its step {info.start}"):
            past, start, class_means = unpack_past(info.past)
            rows = history_rows(step_rows(file, info, info.last))
            table = np.concatenate((past, rows))
        history = History()
        history.restore(table, start, class_means)
    return history


def told(path: str | Path, run: int | None = None) -> dict[str, Any]:
    """Return a run without its scores and weights, as values that JSON has.

    Steps are rows under ``columns``; unknown values and NaN are ``None``.

    Raises:
        StoreError: there is no such store or run.
    """
    with snapshot(path) as file:
        info = run_info(file, path, run)
        described = file.row(RunRow, "WHERE run = ?", info.run)
        rows = step_rows(file, info, info.last)
    archive = replay(path, info.run, info.last)
    return {
        "run": info.run,
        "title": described.title,
        "created": described.created,
        "maker": described.maker,
        "parent": info.parent,
        "method": info.evolver.method,
        "options": info.evolver.options,
        "task": info.task,
        "space": info.space,
        "seeds": [{"name": seed.name, "sha256": seed.sha256} for seed in info.seeds],
        "start": info.start,
        "last": info.last,
        "columns": list(COLUMNS),
        "steps": [[getattr(row, name) for name in COLUMNS] for row in rows],
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
