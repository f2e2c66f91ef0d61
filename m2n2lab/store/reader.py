"""Reader: the description of a recorded run, and its archive at any step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from operator import index
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.archive import Archive
from m2n2lab.core.operators.competition import Competition
from m2n2lab.core.operators.operator import Operator
from m2n2lab.core.operators.replacement import Replacement
from m2n2lab.store.catalog import last_step, run_number, snapshot
from m2n2lab.store.codec import unpack_genome, unpack_scores
from m2n2lab.store.pins import pinned_after
from m2n2lab.store.rows import EMPTY, unpack_ids
from m2n2lab.store.schema import StoreError, StoreFile
from m2n2lab.store.specs import EvolverSpec, Seed, read_space, read_task
from m2n2lab.store.tables import FounderRow, GenomeRow, LivingRow, RunRow, SeedRow, StepRow
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
    founders: int | None  # of earlier versions it is not known
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
    return _archive(info, state, known)


MAX_PAST = 200
"""Archives of a run that ``past`` returns, unless another number is asked for."""


def past(
    path: str | Path, run: int | None = None, count: int = MAX_PAST
) -> Iterator[tuple[int, Archive]]:
    """Return evenly spaced steps of a run, the first and the last included, and their archives.

    As ``replay``, but without any genomes.

    Args:
        path: the store.
        run: the number of a run; the last one by default.
        count: the most archives, at least two.

    Raises:
        StoreError: as ``replay``.
    """
    count = whole_number("count", count, 2)
    with snapshot(path) as file:
        info = run_info(file, path, run)
        steps = np.linspace(info.start, info.last, min(count, info.last - info.start + 1))
        for step in np.unique(steps.round().astype(int)).tolist():
            yield step, _archive(info, archive_state(file, info, step), {})


def _archive(info: RunInfo, state: dict[str, Any], genomes: Mapping[int, Any]) -> Archive:
    """Return an archive of a run in a state, with the genomes that are known by id."""
    state["genomes"] = [genomes.get(id) for id in state["ids"]]
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


def run_info(file: StoreFile, path: str | Path, run: int | None) -> RunInfo:
    """Return the description of a run.

    Raises:
        StoreError: there is no such run, or it is damaged.
    """
    number = run_number(file, path, run)
    row = file.row(RunRow, "WHERE run = ?", number)
    rows = [*file.rows(SeedRow, "WHERE run = ? ORDER BY seed", number)]
    numbers = [seed.seed for seed in rows]
    if row.seeds not in (None, len(rows)) or numbers != [*range(len(rows))]:
        raise file.damaged(f"a seed of run {number} is lost")
    last = last_step(file, number, row.start)
    with file.decoding(f"the description of run {number}"):
        return RunInfo(
            run=number,
            evolver=EvolverSpec.from_json(row.method, row.options),
            task=read_task(row.task),
            shares=None if row.shares is None else np.frombuffer(row.shares, "<f8").astype(float),
            space=read_space(row.space),
            start=row.start,
            born=row.born,
            rng=row.rng,
            graded=bool(row.graded),
            past=row.past,
            parent=row.parent,
            seeds=[Seed(seed.name, seed.sha256, seed.genome) for seed in rows],
            founders=row.founders,
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


def archive_state(file: StoreFile, info: RunInfo, step: int) -> dict[str, Any]:
    """Return an archive's state after a step, as ``Archive.state_dict`` but without genomes.

    Raises:
        DamageError: something of it is not as it was recorded.
    """
    run, points = info.run, info.task["points"]
    founders = {row.id: row for row in file.rows(FounderRow, "WHERE run = ?", run)}
    if info.founders not in (None, len(founders)):
        raise file.damaged(f"a member that run {run} began with is lost")
    with file.decoding(f"the archive of run {run} after step {step:,}"):
        ids = _ids(file, info, step, {id: row.row for id, row in founders.items()})
        born = [0] * len(ids)
        parents: list[list[int]] = [[] for _ in ids]
        scores = np.zeros((len(ids), points))
        offset = id_offset(file, run)
        for row, id in enumerate(ids):
            if id == EMPTY:
                continue
            if (founder := founders.get(id)) is not None:
                born[row], packed = founder.born, founder.scores
                parents[row] = [index(parent) for parent in json.loads(founder.parents)]
            else:
                birth = step_row(file, run, id - offset)
                born[row], packed = birth.step, birth.scores
                both = (birth.parent_a, birth.parent_b)
                parents[row] = [parent for parent in both if parent is not None]
            scores[row] = unpack_scores(packed, points)
    graded, _ = step_state(file, info, step)
    return {
        "ids": ids,
        "born": born,
        "parents": parents,
        "scores": scores,
        "graded": graded,
        "pinned": sorted(pinned_after(file, run, step)),
    }


def step_row(file: StoreFile, run: int, step: int) -> StepRow:
    """Return the row of a step.

    Raises:
        DamageError: it is missing or not as it was recorded.
    """
    return file.row(StepRow, "WHERE run = ? AND step = ?", run, step)


def step_rows(file: StoreFile, info: RunInfo, last: int, after: int | None = None) -> list[StepRow]:
    """Return the rows of a run's steps ``after`` one, by default its start, up to ``last``.

    Raises:
        DamageError: one is missing or not as it was recorded.
    """
    first = info.start if after is None else after
    rows = [
        *file.rows(
            StepRow,
            "WHERE run = ? AND step > ? AND step <= ? ORDER BY step",
            *(info.run, first, last),
        )
    ]
    for expected, row in enumerate(rows, first + 1):
        if row.step != expected:
            raise file.damaged(f"step {expected:,} of run {info.run} is lost")
    if len(rows) != max(last - first, 0):
        raise file.damaged(f"step {first + len(rows) + 1:,} of run {info.run} is lost")
    return rows


def step_state(file: StoreFile, info: RunInfo, step: int) -> tuple[bool, bytes]:
    """Return whether any scores up to a step were graded, and the generator's state after it.

    Raises:
        DamageError: the step is missing or not as it was recorded.
    """
    if step == info.start:
        return info.graded, info.rng
    row = step_row(file, info.run, step)
    return bool(row.graded), row.rng


def id_offset(file: StoreFile, run: int) -> int:
    """Return the difference between a child's id and its step, which is the same for all."""
    row = next(file.rows(StepRow, "WHERE run = ? LIMIT 1", run), None)
    return 0 if row is None else row.child - row.step


def _ids(file: StoreFile, info: RunInfo, step: int, founders: dict[int, int]) -> list[int]:
    """Return the members' ids after a step by row: the last stored ids, and all births since."""
    stored = next(
        file.rows(
            LivingRow, "WHERE run = ? AND step <= ? ORDER BY step DESC LIMIT 1", info.run, step
        ),
        None,
    )
    if stored is not None:
        at, ids = stored.step, unpack_ids(stored.ids)
    else:
        at, ids = info.start, [EMPTY] * (info.evolver.options["archive_size"] + 1)
        for id, row in founders.items():
            ids[row] = id
    for birth in step_rows(file, info, step, at):
        if birth.accepted:
            ids[ids.index(EMPTY)] = birth.child
            if birth.rival is not None:
                ids[ids.index(birth.rival)] = EMPTY
    return ids


def stored_genomes(file: StoreFile, run: int, ids: Iterable[int]) -> dict[int, Any]:
    """Return the stored ones of the genomes with ``ids``.

    Raises:
        DamageError: one is not as it was recorded.
    """
    found = {}
    for id in ids:
        for row in file.rows(GenomeRow, "WHERE run = ? AND id = ?", run, id):
            with file.decoding(f"the model of member {id} of run {run}"):
                found[id] = unpack_genome(row.genome)
    return found
