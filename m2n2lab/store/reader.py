"""What is known of a run in a store, and its archive at any step."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.archive import Archive
from m2n2lab.store.catalog import number_of, opened
from m2n2lab.store.codec import unpack_genome, unpack_scores
from m2n2lab.store.rows import NOBODY, unpack_ids
from m2n2lab.store.schema import StoreError
from m2n2lab.store.specs import Seed
from m2n2lab.utils.errors import whole_number


class About(NamedTuple):
    """All of a run that does not change with its steps."""

    run: int
    method: str
    options: dict[str, Any]
    task: dict[str, Any]
    shares: NDArray[np.float64] | None
    space: dict[str, Any]
    start: int
    born: int
    rng: bytes
    graded: bool
    past: bytes
    parent: int | None
    seeds: list[Seed]
    last: int


def replay(path: str | Path, run: int | None = None, step: int | None = None) -> Archive:
    """Return the archive as it was after a step: who lived, with which scores and fitness.

    The genomes are there of whoever still lives at the end of the run; those of the dead are
    ``None`` (``branch`` breeds them again). Of MAP-Elites the members are as they were, to be
    looked at: its grid needs the task.

    Args:
        path: the store.
        run: the number of a run; the last one by default.
        step: a step, or the step at which the run starts; the last one by default.

    Raises:
        StoreError: no such store, run or step.
    """
    with opened(path) as file:
        about = about_run(file, path, run)
        state = archive_state(file, about, step_of(about, step))
        living = [id for id in state["ids"] if id != NOBODY]
        known = stored_genomes(file, about.run, living)
    state["genomes"] = [known.get(id) for id in state["ids"]]
    options = about.options
    archive = Archive(
        about.task["points"],
        options["archive_size"],
        options["alpha"],
        options["capacity"],
        about.shares,
        about.task.get("top", 1.0),  # runs of earlier versions have none
    )
    archive.load_state_dict(state)
    return archive


# -- parts that resuming shares ----------------------------------------------------------------


def about_run(file: sqlite3.Connection, path: str | Path, run: int | None) -> About:
    """Return what is known of a run.

    Raises:
        StoreError: no such run.
    """
    number = number_of(file, path, run)
    row = file.execute(
        "SELECT method, options, task, shares, space, start, born, rng, graded, past, parent, "
        "max(start, ifnull((SELECT max(step) FROM steps WHERE run = ?1), 0)) "
        "FROM runs WHERE run = ?1",
        (number,),
    ).fetchone()
    method, options, task, shares, space, start, born, rng, graded, past, parent, last = row
    seeds = file.execute(
        "SELECT name, sha256, genome FROM seeds WHERE run = ? ORDER BY seed", (number,)
    )
    return About(
        run=number,
        method=method,
        options=json.loads(options),
        task=json.loads(task),
        shares=None if shares is None else np.frombuffer(shares, "<f8").astype(float),
        space=json.loads(space),
        start=start,
        born=born,
        rng=rng,
        graded=bool(graded),
        past=past,
        parent=parent,
        seeds=[Seed(*seed) for seed in seeds],
        last=last,
    )


def step_of(about: About, step: int | None) -> int:
    """Return a step of a run, the last one for ``None``.

    Raises:
        StoreError: a step outside the run.
    """
    if step is None:
        return about.last
    if not about.start <= whole_number("step", step, 0) <= about.last:
        raise StoreError(
            f"Run {about.run} has steps {about.start} to {about.last}, but {step} came; choose one "
            f"of these."
        )
    return step


def archive_state(file: sqlite3.Connection, about: About, step: int) -> dict[str, Any]:
    """Return an archive's state after a step, as ``Archive.state_dict`` has it but for genomes."""
    run, points = about.run, about.task["points"]
    founders = {
        id: (row, born, json.loads(parents), scores)
        for row, id, born, parents, scores in file.execute(
            "SELECT row, id, born, parents, scores FROM founders WHERE run = ?", (run,)
        )
    }
    ids = _ids(file, about, step, {id: row for id, (row, *_) in founders.items()})
    born = [0] * len(ids)
    parents: list[list[int]] = [[] for _ in ids]
    scores = np.zeros((len(ids), points))
    shift = child_shift(file, run)
    for row, id in enumerate(ids):
        if id == NOBODY:
            continue
        if id in founders:
            _, born[row], parents[row], packed = founders[id]
        else:
            born[row], a, b, packed = file.execute(
                "SELECT step, parent_a, parent_b, scores FROM steps WHERE run = ? AND step = ?",
                (run, id - shift),
            ).fetchone()
            parents[row] = [parent for parent in (a, b) if parent is not None]
        scores[row] = unpack_scores(packed, points)
    graded, _ = moment(file, about, step)
    return {
        "ids": ids,
        "born": born,
        "parents": parents,
        "scores": scores,
        "graded": graded,
    }


def moment(file: sqlite3.Connection, about: About, step: int) -> tuple[bool, bytes]:
    """Return whether graded scores had come after a step, and the generator's state then."""
    if step == about.start:
        return about.graded, about.rng
    graded, rng = file.execute(
        "SELECT graded, rng FROM steps WHERE run = ? AND step = ?", (about.run, step)
    ).fetchone()
    return bool(graded), rng


def child_shift(file: sqlite3.Connection, run: int) -> int:
    """Return what a child's id is ahead of the step that it was told at: one number for all."""
    row = file.execute("SELECT child - step FROM steps WHERE run = ? LIMIT 1", (run,)).fetchone()
    return int(row[0]) if row else 0


def _ids(file: sqlite3.Connection, about: About, step: int, founders: dict[int, int]) -> list[int]:
    """Return who lived after a step, by row: from the last note of all, birth by birth."""
    noted = file.execute(
        "SELECT step, ids FROM living WHERE run = ? AND step <= ? ORDER BY step DESC LIMIT 1",
        (about.run, step),
    ).fetchone()
    if noted:
        at, ids = noted[0], unpack_ids(noted[1])
    else:
        at, ids = about.start, [NOBODY] * (about.options["archive_size"] + 1)
        for id, row in founders.items():
            ids[row] = id
    births = file.execute(
        "SELECT child, rival FROM steps WHERE run = ? AND accepted AND step > ? AND step <= ? "
        "ORDER BY step",
        (about.run, at, step),
    )
    for child, displaced in births:
        ids[ids.index(NOBODY)] = child
        if displaced is not None:
            ids[ids.index(displaced)] = NOBODY
    return ids


def stored_genomes(file: sqlite3.Connection, run: int, ids: list[int]) -> dict[int, Any]:
    """Return the genomes of ids, as far as they are stored."""
    found = {}
    for id in ids:
        row = file.execute(
            "SELECT genome FROM genomes WHERE run = ? AND id = ?", (run, id)
        ).fetchone()
        if row:
            found[id] = unpack_genome(row[0])
    return found
