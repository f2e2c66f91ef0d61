"""Restore: resume a run from its end, or branch a new one from any of its steps, bit for bit."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.checkpoint.from_record import NOT_MOVED
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.history import COLUMNS
from m2n2lab.core.records import Partial, Proposal, Stored
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.space import Space, Vector
from m2n2lab.core.task import Task
from m2n2lab.store.catalog import snapshot
from m2n2lab.store.codec import fingerprint, unpack_genome, unpack_rng, unpack_scores
from m2n2lab.store.pins import pins_of
from m2n2lab.store.reader import (
    RunInfo,
    archive_state,
    id_offset,
    resolve_step,
    run_info,
    step_row,
    step_rows,
    step_state,
    stored_genomes,
)
from m2n2lab.store.rows import EMPTY, history_rows, proposal_of, unpack_past
from m2n2lab.store.schema import StoreError, StoreFile
from m2n2lab.store.specs import restore_evolver, restore_space, restore_task
from m2n2lab.store.tables import FounderRow, StepRow
from m2n2lab.utils.class_paths import class_path

MAX_REPEATED_GENOMES = 256
"""Genomes that are kept while a run is repeated: more than workers have in flight."""

Seeds = Sequence[Any] | NDArray[Any] | Space


class _Now(NamedTuple):
    """What is not as it was recorded: none of it changes what a search finds.

    Attributes:
        moved: the places of checkpoints that have moved.
        batch: prompts or pictures scored together.
        trusted: whether code that comes with checkpoints may be run.
    """

    moved: Mapping[str, str | Path] = NOT_MOVED
    batch: int | None = None
    trusted: bool = False


AS_RECORDED = _Now()


def resume(
    path: str | Path,
    run: int | None = None,
    *,
    task: Task | None = None,
    seeds: Seeds | None = None,
    kind: type[Evolver] | None = None,
    options: Mapping[str, Any] | None = None,
    seed_map: Mapping[str, str | Path] = NOT_MOVED,
    batch: int | None = None,
    trust_remote_code: bool = False,
) -> Evolver:
    """Return the evolver of a run as it was after its last step; recording it continues the run.

    Nothing is evaluated. Steps that were not yet written when the process ended are taken again,
    with the same outcome.

    Args:
        path: the store.
        run: the number of a run; the last one by default.
        task: the run's task, if it was made from a custom function or custom data.
        seeds: the run's seeds, if these are torch modules; or its space.
        kind: the class of evolvers, if that is a custom one whose module is not imported, or a
            class of a script, notebook or function.
        options: the evolver's options that are no plain values, such as functions.
        seed_map: the places of checkpoints that have moved, by their letter (``"A"`` is the
            first), recorded name or the last part of that.
        batch: prompts answered, or pictures drawn, together; as before by default.
        trust_remote_code: whether code that comes with the models may be run, as before.

    Raises:
        StoreError: there is no such store or run; the task, the seeds or the classes are not
            those of the run, or not known; or the method cannot be resumed because it was not
            recorded from its start.
    """
    now = _Now(seed_map, batch, trust_remote_code)
    return _at(path, run, None, task, seeds, kind, options or {}, False, now)


def branch(
    path: str | Path,
    run: int | None = None,
    step: int | None = None,
    *,
    task: Task | None = None,
    seeds: Seeds | None = None,
    kind: type[Evolver] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Evolver:
    """Return an evolver as it was after any step of a run; recording it begins a new run.

    Members that were displaced since are bred again along their lineage, which takes no
    evaluations: the same proposal always makes the same child.

    Args:
        path: the store.
        run: the number of a run; the last one by default.
        step: a step, or the step at which the run starts; the last one by default.
        task, seeds, kind, options: as for ``resume``.

    Raises:
        StoreError: as ``resume``; or a child that is bred again differs, because this computer
            rounds differently from the one that recorded the run.
    """
    return _at(path, run, step, task, seeds, kind, options or {}, True)


def _at(
    path: str | Path,
    run: int | None,
    step: int | None,
    task: Task | None,
    seeds: Seeds | None,
    kind: type[Evolver] | None,
    options: Mapping[str, Any],
    branched: bool,
    now: _Now = AS_RECORDED,
) -> Evolver:
    with snapshot(path) as file:
        info = run_info(file, path, run)
        at = resolve_step(info, step)
        task = restore_task(info.task, task, now.batch)
        with file.decoding(f"a seed of run {info.run}"):
            vectors = [_vector(seed.genome) for seed in info.seeds]
        space = restore_space(info.space, info.seeds, vectors, seeds, task, now.moved, now.trusted)
        known = _seed_scores(file, info, len(space.seeds))
        evolver = restore_evolver(info.evolver, task, space, known, kind or Evolver, options)
        if evolver.saves and not _has_own_state(type(evolver)):
            _load(file, info, at, evolver)
            classes = class_path(type(evolver)), class_path(type(space))
            if classes != (info.evolver.path, info.space.get("class")):
                _check_merges(file, info, at, evolver)
        else:
            _repeat(file, info, at, evolver)
        with file.decoding(f"the history of run {info.run} before its step {info.start}"):
            past = unpack_past(info.past)
        rows = history_rows(step_rows(file, info, at))
        with file.decoding(f"the history of run {info.run}"):
            table = np.concatenate((past.table, rows))
        class_means = past.class_means | _class_means(file, info, rows, task)
        evolver.records.restore(table, past.start if len(table) else None, class_means)
    evolver.stored = Stored(Path(path).resolve(), info.run, branched)
    return evolver


def _has_own_state(evolver_type: type[Evolver]) -> bool:
    """Return whether a class changes what a step remembers, so that the run must be repeated.

    A class that does so and says that it ``saves`` has all of it in its history.
    """
    names = {"ask", "tell", "state_dict", "load_state_dict"}
    bases = evolver_type.__mro__[: evolver_type.__mro__.index(Evolver)]
    return any(names & vars(base).keys() and "saves" not in vars(base) for base in bases)


def _check_merges(file: StoreFile, info: RunInfo, step: int, evolver: Evolver) -> None:
    """Check classes that may be those of a run: they must merge as recorded.

    Breeds the oldest member that can be bred again, if need be along its lineage.

    Raises:
        StoreError: it differs from the member.
    """
    for member in evolver.archive.members:
        if not member.parents or member.born <= info.start:
            continue
        try:
            bred = _genomes(file, info, step, evolver, [member.id], again=True)[member.id]
        except StoreError:  # an ancestor was not bred from parents and is no longer stored
            continue
        if not _alike(bred, member.genome):
            raise StoreError(
                f"Member {member.id} of run {info.run}, bred again by {type(evolver).__name__} in "
                f"a {type(evolver.space).__name__}, differs from its record; give the classes "
                f"that made the run as kind= and seeds=."
            )
        return


def _alike(a: Any, b: Any) -> bool:
    """Return whether two genomes are equal but for the rounding of another computer."""
    if isinstance(a, Recipe) and isinstance(b, Recipe):
        return _alike_fields(a.to_json(), b.to_json())
    pairs = [(a.values, b.values)]
    if a.buffers is not None and b.buffers is not None:
        pairs.append((a.buffers.merged, b.buffers.merged))
    return all(_near(x.astype(float), y.astype(float)) for x, y in pairs)


def _near(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    # Infinite entries are equal, as in masks of attention.
    differences = np.where(x == y, 0.0, x - y)
    return bool(np.linalg.norm(differences) <= 1e-4 * np.linalg.norm(y))


def _alike_fields(a: Any, b: Any) -> bool:
    """Return whether two plain values are equal but for the rounding of their numbers."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike_fields(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike_fields, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, atol=1e-4))
    return bool(a == b)


def _class_means(
    file: StoreFile, info: RunInfo, rows: NDArray[np.float64], task: Task
) -> dict[int, Sequence[float]]:
    """Return the class means of each new best member, by step (see ``History.class_means``)."""
    step, best = (rows[:, COLUMNS.index(name)] for name in ("step", "best"))
    class_means: dict[int, Sequence[float]] = {}
    offset = id_offset(file, info.run)
    for row in np.flatnonzero(np.diff(best, prepend=np.nan) != 0.0):
        id = int(best[row])
        found: FounderRow | StepRow | None = next(
            file.rows(FounderRow, "WHERE run = ? AND id = ?", info.run, id), None
        )
        found = step_row(file, info.run, id - offset) if found is None else found
        with file.decoding(f"the scores of member {id} of run {info.run}"):
            class_means[int(step[row])] = task.means(unpack_scores(found.scores, task.points))
    return class_means


def _seed_scores(file: StoreFile, info: RunInfo, count: int) -> NDArray[np.float64]:
    """Return the seeds' scores (K, D) if the run begins with them, else zeros."""
    with file.decoding(f"the scores of the seeds of run {info.run}"):
        scores = np.zeros((count, info.task["points"]))
        if info.start == 0:
            state = archive_state(file, info, 0)
            for id, row in zip(state["ids"], state["scores"], strict=True):
                if id != EMPTY:
                    scores[id] = row
    return scores


def _vector(packed: bytes | None) -> Vector | None:
    genome = None if packed is None else unpack_genome(packed)
    return genome if isinstance(genome, Vector) else None


def _load(file: StoreFile, info: RunInfo, step: int, evolver: Evolver) -> None:
    """Put an evolver into the state after a step."""
    state = archive_state(file, info, step)
    genomes = _genomes(file, info, step, evolver, [id for id in state["ids"] if id != EMPTY])
    pack = evolver.space.pack
    state["genomes"] = [pack(genomes[id]) if id != EMPTY else None for id in state["ids"]]
    _, packed = step_state(file, info, step)
    with file.decoding(f"the generator of run {info.run} after step {step:,}"):
        rng = unpack_rng(packed)
    born, best, test = info.born, None, None
    if step > info.start:
        row = step_row(file, info.run, step)
        born, best, test = row.child + 1, row.best, row.test
    evolver.load_state_dict(
        {
            "method": info.evolver.method,
            "step": step,
            "born": born,
            "tested": None if best is None else (best, float("nan") if test is None else test),
            "rng": rng,
            "archive": state,
        }
    )


def _genomes(
    file: StoreFile,
    info: RunInfo,
    step: int,
    evolver: Evolver,
    wanted: list[int],
    again: bool = False,
) -> dict[int, Any]:
    """Return the genomes of ``wanted`` members after a step, bred again if they are not stored.

    Args:
        file, info, step, evolver: the run, and an evolver of its classes.
        wanted: their ids.
        again: breed them again although they are stored, and compare nothing with its record.

    Raises:
        StoreError: one cannot be bred, or differs from its record.
    """
    run, seeds = info.run, evolver.space.seeds
    offset = id_offset(file, run)
    stored = {id for (id,) in file.execute("SELECT id FROM genomes WHERE run = ?", (run,))}
    stored -= set(wanted) if again else set()
    births: dict[int, tuple[Proposal, int | None]] = {}
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
        if id - offset <= info.start:
            raise file.damaged(f"the model of member {id} of run {run} is lost")
        row = step_row(file, run, id - offset)
        proposal = proposal_of(row)
        if proposal is None or not proposal.parents:
            raise StoreError(
                f"Step {step} of run {run} cannot be restored, because member {id} was not bred "
                f"from parents and is no longer stored; choose a later step."
            )
        births[id] = proposal, row.mark
        uses.update(proposal.parents)
        todo += proposal.parents
    genomes: dict[int, Any] = {}
    for id in sorted(known):
        if id in births:
            proposal, expected = births[id]
            genomes[id] = evolver.offspring(proposal, [genomes[p] for p in proposal.parents])
            if not again and fingerprint(genomes[id]) != expected:
                raise StoreError(
                    f"Member {id} of run {run}, bred again, differs from its record because this "
                    f"computer rounds differently; branch on the computer that made the run, or "
                    f"resume it."
                )
            uses.subtract(proposal.parents)
            for parent in set(proposal.parents):  # a member may be merged with itself
                if uses[parent] == 0:  # else all past members would be in memory at once
                    del genomes[parent]
        elif id in stored:
            genomes |= stored_genomes(file, run, [id])
        else:
            genomes[id] = seeds[id]
    return genomes


def _repeat(file: StoreFile, info: RunInfo, step: int, evolver: Evolver) -> None:
    """Repeat a run up to a step on a new evolver, whose method has no state to load.

    Scores are taken from the store; only held-out scores are computed.

    Raises:
        StoreError: it was not recorded from its start, has external models, or takes another
            course here.
    """
    if info.start:
        raise StoreError(
            f"A search by {info.evolver.method} can only be resumed if it was recorded from its "
            f"start, but run {info.run} begins at step {info.start}; record such a search from its "
            f"start."
        )
    recent: OrderedDict[Proposal, Any] = OrderedDict()
    steps = step_rows(file, info, step)
    proposals = [proposal_of(row) for row in steps]
    pins = dict(pins_of(file, info.run))
    evolver.expect([proposal for proposal in proposals if proposal is not None])
    for number, (proposal, row) in enumerate(zip(proposals, steps, strict=True), start=1):
        _pin(evolver, pins.get(number - 1))
        if proposal is None:
            raise StoreError(
                f"Step {number} of run {info.run} submitted an external model, which a search by "
                f"{info.evolver.method} cannot repeat; start a new one."
            )
        # In runs of earlier versions workers could score a solution twice, and return it again
        # after its generation had ended.
        genome = recent.get(proposal)
        if genome is not None:
            evolver.allow_again(proposal)
        elif not proposal.by_hand:
            evolver.ask()
        genome = evolver.breed(proposal) if genome is None else genome
        recent[proposal] = genome
        if len(recent) > MAX_REPEATED_GENOMES:
            recent.popitem(last=False)
        scores = _observed(unpack_scores(row.scores, info.task["points"]), evolver.task.top)
        verdict = evolver.tell(proposal, scores, genome=genome).verdict
        found = verdict.accepted, verdict.rival, fingerprint(genome) if row.accepted else None
        if found != (bool(row.accepted), row.rival, row.mark):
            raise StoreError(
                f"Step {number} of run {info.run}, taken again, differs from its record because "
                f"this computer rounds differently or {type(evolver).__name__} has changed; resume "
                f"it on the computer and with the code that made the run."
            )
        # Proposals that were never scored used up random numbers too.
        evolver.rng.bit_generator.state = unpack_rng(row.rng)
    _pin(evolver, pins.get(step))


def _pin(evolver: Evolver, ids: frozenset[int] | None) -> None:
    """Pin these members and no others; ``None`` changes nothing."""
    if ids is not None:
        for id in evolver.archive.pinned - ids:
            evolver.pin(id, on=False)
        for id in ids:
            evolver.pin(id)


def _observed(scores: NDArray[np.float64], top: float) -> NDArray[np.float64] | Partial:
    """Return scores (D,) as they were observed; those with gaps as early rejection left them."""
    known = np.flatnonzero(~np.isnan(scores))
    return scores if len(known) == len(scores) else Partial(known, scores[known], len(scores), top)
