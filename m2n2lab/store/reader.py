"""Reader: the description of a recorded run, and its archive at any step."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.archive import Archive
from m2n2lab.core.operators.competition import Competition
from m2n2lab.core.operators.operator import Operator
from m2n2lab.core.operators.replacement import Replacement
from m2n2lab.store.catalog import run_number, snapshot
from m2n2lab.store.codec import unpack_genome, unpack_scores
from m2n2lab.store.rows import EMPTY, unpack_ids
from m2n2lab.store.schema import StoreError
from m2n2lab.store.specs import EvolverSpec, Seed
from m2n2lab.utils.class_paths import class_name, constructor, is_custom, loaded_class
from m2n2lab.utils.errors import whole_number


class RunInfo(NamedTuple):
    """The part of a run that does not change with its steps, and the last step."""

    run: int
    evolver: EvolverSpec
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
    """Return the archive as it was after a step: its members, their scores and fitness.

    Genomes are included of members that survive to the end of the run; all others are ``None``
    (``branch`` breeds them again). For MAP-Elites the members are right, but not the grid, which
    needs the task.

    Args:
        path: the store.
        run: the number of a run; the last one by default.
        step: a step, or the step at which the run starts; the last one by default.

    Raises:
        StoreError: there is no such store, run or step; or the run's archive is of a custom class
            that is not imported or takes other arguments.
    """
    with snapshot(path) as file:
        info = run_info(file, path, run)
        state = archive_state(file, info, resolve_step(info, step))
        members = [id for id in state["ids"] if id != EMPTY]
        known = stored_genomes(file, info.run, members)
    state["genomes"] = [known.get(id) for id in state["ids"]]
    options = info.evolver.options
    archive = _archive_type(info)(
        info.task["points"],
        options["archive_size"],
        options["alpha"],
        options["capacity"],
        info.shares,
        info.task.get("top", 1.0),  # runs of earlier versions have none
        **_operators(info),
    )
    archive.load_state_dict(state)
    return archive


def _operators(info: RunInfo) -> dict[str, Any]:
    """Return the operators of a run's archive, if it has any of its own.

    Raises:
        StoreError: they are not in the store, or their classes not imported.
    """
    found: dict[str, Any] = {}
    kinds: dict[str, type[Operator]] = {"competition": Competition, "replacement": Replacement}
    for name, kind in kinds.items():
        if name in info.evolver.missing:
            raise StoreError(
                f"The {name} of run {info.run} must be given, because it is not in the store; use "
                f"branch(…, options={{{name!r}: …}}).archive."
            )
        if (recorded := info.evolver.options.get(name)) is not None:
            found[name] = kind.of(recorded)
    return found


def _archive_type(info: RunInfo) -> type[Archive]:
    """Return the class of a run's archive, whose fitness may be its own."""
    path = info.evolver.archive
    if path is None or not is_custom(path):
        return Archive
    found = loaded_class(path)
    if found is None or constructor(found) is not constructor(Archive):
        raise StoreError(
            f"The archive of run {info.run} must be of its class {class_name(path)}, which is not "
            f"imported here or takes other arguments; use branch(…).archive."
        )
    return found


# -- shared with restore -----------------------------------------------------------------------


def run_info(file: sqlite3.Connection, path: str | Path, run: int | None) -> RunInfo:
    """Return the description of a run.

    Raises:
        StoreError: there is no such run.
    """
    number = run_number(file, path, run)
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
    return RunInfo(
        run=number,
        evolver=EvolverSpec.from_json(method, options),
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


def resolve_step(info: RunInfo, step: int | None) -> int:
    """Return a step of a run, or its last one for ``None``.

    Raises:
        StoreError: the step lies outside the run.
    """
    if step is None:
        return info.last
    if not info.start <= whole_number("step", step, 0) <= info.last:
        raise StoreError(
            f"step must be in [{info.start}, {info.last}] for run {info.run}, got {step}; "
            f"choose one of these steps."
        )
    return step


def archive_state(file: sqlite3.Connection, info: RunInfo, step: int) -> dict[str, Any]:
    """Return an archive's state after a step, as ``Archive.state_dict`` but without genomes."""
    run, points = info.run, info.task["points"]
    founders = {
        id: (row, born, json.loads(parents), scores)
        for row, id, born, parents, scores in file.execute(
            "SELECT row, id, born, parents, scores FROM founders WHERE run = ?", (run,)
        )
    }
    ids = _ids(file, info, step, {id: row for id, (row, *_) in founders.items()})
    born = [0] * len(ids)
    parents: list[list[int]] = [[] for _ in ids]
    scores = np.zeros((len(ids), points))
    offset = id_offset(file, run)
    for row, id in enumerate(ids):
        if id == EMPTY:
            continue
        if id in founders:
            _, born[row], parents[row], packed = founders[id]
        else:
            born[row], a, b, packed = file.execute(
                "SELECT step, parent_a, parent_b, scores FROM steps WHERE run = ? AND step = ?",
                (run, id - offset),
            ).fetchone()
            parents[row] = [parent for parent in (a, b) if parent is not None]
        scores[row] = unpack_scores(packed, points)
    graded, _ = step_state(file, info, step)
    return {
        "ids": ids,
        "born": born,
        "parents": parents,
        "scores": scores,
        "graded": graded,
    }


def step_state(file: sqlite3.Connection, info: RunInfo, step: int) -> tuple[bool, bytes]:
    """Return whether any scores up to a step were graded, and the generator's state after it."""
    if step == info.start:
        return info.graded, info.rng
    graded, rng = file.execute(
        "SELECT graded, rng FROM steps WHERE run = ? AND step = ?", (info.run, step)
    ).fetchone()
    return bool(graded), rng


def id_offset(file: sqlite3.Connection, run: int) -> int:
    """Return the difference between a child's id and its step, which is the same for all."""
    row = file.execute("SELECT child - step FROM steps WHERE run = ? LIMIT 1", (run,)).fetchone()
    return int(row[0]) if row else 0


def _ids(file: sqlite3.Connection, info: RunInfo, step: int, founders: dict[int, int]) -> list[int]:
    """Return the members' ids after a step by row: the last stored ids, and all births since."""
    stored = file.execute(
        "SELECT step, ids FROM living WHERE run = ? AND step <= ? ORDER BY step DESC LIMIT 1",
        (info.run, step),
    ).fetchone()
    if stored:
        at, ids = stored[0], unpack_ids(stored[1])
    else:
        at, ids = info.start, [EMPTY] * (info.evolver.options["archive_size"] + 1)
        for id, row in founders.items():
            ids[row] = id
    births = file.execute(
        "SELECT child, rival FROM steps WHERE run = ? AND accepted AND step > ? AND step <= ? "
        "ORDER BY step",
        (info.run, at, step),
    )
    for child, displaced in births:
        ids[ids.index(EMPTY)] = child
        if displaced is not None:
            ids[ids.index(displaced)] = EMPTY
    return ids


def stored_genomes(file: sqlite3.Connection, run: int, ids: list[int]) -> dict[int, Any]:
    """Return the stored ones of the genomes with ``ids``."""
    found = {}
    for id in ids:
        row = file.execute(
            "SELECT genome FROM genomes WHERE run = ? AND id = ?", (run, id)
        ).fetchone()
        if row:
            found[id] = unpack_genome(row[0])
    return found
