"""Going on with a run from its end, or with a new one from any of its steps, bit for bit."""

from __future__ import annotations

import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.evolver import Evolver
from m2n2lab.core.history import COLUMNS
from m2n2lab.core.records import Proposal, Stored
from m2n2lab.core.spaces.space import Space, Vector
from m2n2lab.core.task import Task
from m2n2lab.store.catalog import opened
from m2n2lab.store.codec import mark, unpack_genome, unpack_rng, unpack_scores
from m2n2lab.store.reader import (
    About,
    about_run,
    archive_state,
    child_shift,
    moment,
    step_of,
)
from m2n2lab.store.rows import NOBODY, TOLD, history_rows, proposal_of, unpack_past
from m2n2lab.store.schema import StoreError
from m2n2lab.store.specs import made_evolver, made_space, made_task

REMEMBERED = 256
"""Children that are kept while a run is repeated: more than workers have in flight."""

Seeds = Sequence[Any] | NDArray[Any] | Space


def resume(
    path: str | Path,
    run: int | None = None,
    *,
    task: Task | None = None,
    seeds: Seeds | None = None,
    kind: type[Evolver] | None = None,
) -> Evolver:
    """Return the evolver of a run as it was after its last step; recording it goes on there.

    Nothing is evaluated. What was not yet written when its process ended is searched again, with
    the same outcome.

    Args:
        path: the store.
        run: the number of a run; the last one by default.
        task: the run's task, where it was made of a function or of data of one's own.
        seeds: the run's seeds, where these are torch modules; or its space.
        kind: the class of evolvers, where it is one's own.

    Raises:
        StoreError: no such store or run; another task or other seeds; a method that cannot be
            taken up again from where the recording began.
    """
    return _at(path, run, None, task, seeds, kind, branched=False)


def branch(
    path: str | Path,
    run: int | None = None,
    step: int | None = None,
    *,
    task: Task | None = None,
    seeds: Seeds | None = None,
    kind: type[Evolver] | None = None,
) -> Evolver:
    """Return an evolver as it was after any step of a run; recording it makes a new run.

    Members that have died since are bred again along their lineage, which takes no evaluations:
    the same proposal always makes the same child.

    Args:
        path: the store.
        run: the number of a run; the last one by default.
        step: a step, or the step at which the run starts; the last one by default.
        task, seeds, kind: as for ``resume``.

    Raises:
        StoreError: as ``resume``; or this computer makes other children than the one that the run
            was recorded on.
    """
    return _at(path, run, step, task, seeds, kind, branched=True)


def _at(
    path: str | Path,
    run: int | None,
    step: int | None,
    task: Task | None,
    seeds: Seeds | None,
    kind: type[Evolver] | None,
    branched: bool,
) -> Evolver:
    with opened(path) as file:
        about = about_run(file, path, run)
        at = step_of(about, step)
        task = made_task(about.task, task)
        vectors = [_vector(seed.genome) for seed in about.seeds]
        space = made_space(about.space, about.seeds, vectors, seeds, task)
        known = _seed_scores(file, about, len(space.seeds))
        evolver = made_evolver(about.method, about.options, task, space, known, kind or Evolver)
        if evolver.saves:
            _load(file, about, at, evolver)
        else:
            _repeat(file, about, at, evolver)
        past = unpack_past(about.past)
        rows = history_rows(file, about.run, at)
        table = np.concatenate((past.table, rows))
        parts = past.parts | _parts(file, about, rows, task)
        evolver.records.restore(table, past.start if len(table) else None, parts)
    evolver.stored = Stored(Path(path).resolve(), about.run, branched)
    return evolver


def _parts(
    file: sqlite3.Connection, about: About, rows: NDArray[np.float64], task: Task
) -> dict[int, Sequence[float]]:
    """Return what each new best member scored in each class (see ``History.class_means``)."""
    step, best = (rows[:, COLUMNS.index(name)] for name in ("step", "best"))
    parts: dict[int, Sequence[float]] = {}
    shift = child_shift(file, about.run)
    for row in np.flatnonzero(np.diff(best, prepend=np.nan) != 0.0):
        (packed,) = file.execute(
            "SELECT scores FROM founders WHERE run = ?1 AND id = ?2 UNION ALL "
            "SELECT scores FROM steps WHERE run = ?1 AND step = ?2 - ?3",
            (about.run, int(best[row]), shift),
        ).fetchone()
        parts[int(step[row])] = task.means(unpack_scores(packed, task.points))
    return parts


def _seed_scores(file: sqlite3.Connection, about: About, count: int) -> NDArray[np.float64]:
    """Return the seeds' scores (K, D) where the run begins with them, else zeros."""
    scores = np.zeros((count, about.task["points"]))
    if about.start == 0:
        state = archive_state(file, about, 0)
        for id, row in zip(state["ids"], state["scores"], strict=True):
            if id != NOBODY:
                scores[id] = row
    return scores


def _vector(packed: bytes | None) -> Vector | None:
    genome = None if packed is None else unpack_genome(packed)
    return genome if isinstance(genome, Vector) else None


def _load(file: sqlite3.Connection, about: About, step: int, evolver: Evolver) -> None:
    """Put an evolver into the state after a step."""
    state = archive_state(file, about, step)
    genomes = _genomes(file, about, step, evolver, [id for id in state["ids"] if id != NOBODY])
    pack = evolver.space.pack
    state["genomes"] = [pack(genomes[id]) if id != NOBODY else None for id in state["ids"]]
    _, rng = moment(file, about, step)
    born, best, test = file.execute(
        "SELECT child + 1, best, test FROM steps WHERE run = ? AND step = ?", (about.run, step)
    ).fetchone() or (about.born, None, None)
    evolver.load_state_dict(
        {
            "method": about.method,
            "step": step,
            "born": born,
            "tested": None if best is None else (best, float("nan") if test is None else test),
            "rng": unpack_rng(rng),
            "archive": state,
        }
    )


def _genomes(
    file: sqlite3.Connection, about: About, step: int, evolver: Evolver, wanted: list[int]
) -> dict[int, Any]:
    """Return the genomes of who lived after a step, bred again where they are not stored."""
    run, seeds = about.run, evolver.space.seeds
    shift = child_shift(file, run)
    stored = {id for (id,) in file.execute("SELECT id FROM genomes WHERE run = ?", (run,))}
    births: dict[int, tuple[Proposal, int]] = {}
    uses: Counter[int] = Counter(wanted)
    known: set[int] = set()
    todo = list(wanted)
    while todo:
        id = todo.pop()
        if id in known:
            continue
        known.add(id)
        if id in stored or id < len(seeds):
            continue
        row = file.execute(
            f"SELECT {TOLD}, mark FROM steps WHERE run = ? AND step = ?", (run, id - shift)
        ).fetchone()
        proposal = proposal_of(row[:-1])
        if proposal is None or not proposal.parents:
            raise StoreError(
                f"Member {id} of run {run} was not bred from parents and is no longer stored, so "
                f"step {step} cannot be taken up again; choose a later one."
            )
        births[id] = proposal, row[-1]
        uses.update(proposal.parents)
        todo += proposal.parents
    genomes: dict[int, Any] = {}
    for id in sorted(known):
        if id in births:
            proposal, expected = births[id]
            genomes[id] = evolver.offspring(proposal, [genomes[p] for p in proposal.parents])
            if mark(genomes[id]) != expected:
                raise StoreError(
                    f"Member {id} of run {run}, bred again, differs from what was recorded: this "
                    f"computer rounds differently; branch where the run was made, or resume it."
                )
            uses.subtract(proposal.parents)
            for parent in proposal.parents:
                if uses[parent] == 0:  # or all that ever lived would be in memory at once
                    del genomes[parent]
        elif id in stored:
            (packed,) = file.execute(
                "SELECT genome FROM genomes WHERE run = ? AND id = ?", (run, id)
            ).fetchone()
            genomes[id] = unpack_genome(packed)
        else:
            genomes[id] = seeds[id]
    return genomes


def _repeat(file: sqlite3.Connection, about: About, step: int, evolver: Evolver) -> None:
    """Tell a new evolver, which has no state to load, all of a run again, up to a step.

    Scores are taken from the store; only held-out parts are evaluated.
    """
    if about.start:
        raise StoreError(
            f"A search by {about.method} is taken up again by repeating it, but run {about.run} is "
            f"recorded only from step {about.start} on; record such a search from its start."
        )
    rows = file.execute(
        f"SELECT {TOLD}, rng, scores FROM steps WHERE run = ? AND step <= ? ORDER BY step",
        (about.run, step),
    )
    told_last: OrderedDict[Proposal, Any] = OrderedDict()
    for number, (*told, rng, packed) in enumerate(rows.fetchall(), start=1):
        proposal = proposal_of(tuple(told))
        if proposal is None:
            raise StoreError(
                f"Step {number} of run {about.run} told a model from outside, which a search by "
                f"{about.method} cannot repeat; start it anew."
            )
        if not proposal.by_hand:
            evolver.ask()
        # Workers may score a solution twice, and bring it once more after its generation has ended.
        genome = told_last.get(proposal)
        genome = evolver.breed(proposal) if genome is None else genome
        told_last[proposal] = genome
        if len(told_last) > REMEMBERED:
            told_last.popitem(last=False)
        evolver.tell(proposal, unpack_scores(packed, about.task["points"]), genome=genome)
        # What was asked for and never told used up random numbers too.
        evolver.rng.bit_generator.state = unpack_rng(rng)
