"""Following an evolver from outside, and writing down all that it is told."""

from __future__ import annotations

import atexit
import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.core.population import Population
from m2n2lab.core.records import Generation, Partial, Standing, Stored
from m2n2lab.store.codec import is_graded, mark, pack_genome, pack_rng, pack_scores
from m2n2lab.store.reader import about_run, archive_state, moment
from m2n2lab.store.rows import NOBODY, STEP, pack_ids, pack_past, step_row
from m2n2lab.store.schema import StoreError
from m2n2lab.store.specs import space_words, task_words
from m2n2lab.store.writer import Writer
from m2n2lab.utils.version import __version__

if TYPE_CHECKING:
    from types import TracebackType

    from m2n2lab.core.evolver import Evolver

BATCH = 1000
"""Most steps that wait to be written."""

LATEST = 0.5
"""Seconds after which a step is written, whether or not another one follows."""


class Recorder:
    """Writes an evolver's steps into a store, many at a time, from any thread that steps.

    ::

        with m2n2lab.store.record(evolver, "runs.db"):
            evolver.run(1_000)
            evolver.tell(model)      # steps by hand and what is taken back are recorded too

    All that belongs to a step is written in one transaction: who came and went, scores, the
    generator's state. What cannot be written now waits, and is tried again with the next step.

    Args:
        evolver: the search, from how it stands now.
        path: the store; made if need be.
        title: what to call the run.
        batch: most steps that wait to be written.

    Raises:
        StoreError: another process writes to the store, or it cannot be written.
        InputError: models that cannot be stored.
    """

    def __init__(
        self, evolver: Evolver, path: str | Path, title: str = "", batch: int = BATCH
    ) -> None:
        self._evolver = evolver
        self._batch = batch
        self._turn = threading.RLock()
        self._rows: list[tuple[Any, ...]] = []  # of steps that wait to be written
        self._outside: dict[int, Any] = {}  # genomes that nobody can breed again
        self._kept: set[int] = set()  # ids whose genomes stay
        self._written: set[int] = set()  # ids whose genomes are in the store
        self._cut = False  # whether steps were taken back that may be in the store
        self._late: threading.Thread | None = None
        self._ended = threading.Event()
        self._due = time.monotonic() + LATEST
        self._leave: Callable[[], None] | None = None
        self._writer = Writer.open(Path(path))
        try:
            with evolver.turn():  # whoever steps it in another thread waits
                self._start(title)
        except BaseException:
            self._writer.close()
            raise
        atexit.register(self.close)

    def _start(self, title: str) -> None:
        """Find or make the run, and listen from now on."""
        evolver = self._evolver
        self._population: Population = evolver.archive.population
        self._after: Standing = evolver.archive.standing
        self._last, self._born = evolver.generation, evolver.born
        self.run = self._join() or self._begin(title)
        self._writer.runs.add(self.run)
        evolver.stored = Stored(self._writer.path, self.run)
        self._leave = evolver.subscribe(self._observe, self._undo, strict=True)

    @property
    def path(self) -> Path:
        """The store."""
        return self._writer.path

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- how a run begins ----------------------------------------------------------------------

    def _join(self) -> int | None:
        """Return the run that this search came from, where it stands at its end; else ``None``."""
        stored, evolver = self._evolver.stored, self._evolver
        if stored is None or stored.branched or stored.path != self.path:
            return None
        if stored.run in self._writer.runs:
            raise StoreError(
                f"Run {stored.run} of {self.path} is being recorded already; end that first."
            )
        with self._writer.transaction() as file:
            if file.execute("SELECT 1 FROM runs WHERE run = ?", (stored.run,)).fetchone() is None:
                return None
            about = about_run(file, self.path, stored.run)
            if about.last != evolver.generation:
                return None
            graded, rng = moment(file, about, about.last)
            # What was asked for and never told has used up random numbers since.
            if rng != pack_rng(evolver.rng) and not (
                evolver.saves and self._lives(archive_state(file, about, about.last))
            ):
                return None
            self._graded = graded
            ids = file.execute("SELECT id FROM genomes WHERE run = ?", (stored.run,)).fetchall()
            kept = file.execute(
                "SELECT id FROM founders WHERE run = :run "
                "UNION SELECT child FROM steps WHERE run = :run AND outside AND accepted",
                {"run": stored.run},
            ).fetchall()
        self._written = {id for (id,) in ids}
        self._kept = {id for (id,) in kept}
        return stored.run

    def _lives(self, state: dict[str, Any]) -> bool:
        """Return whether an archive's state is that of this search."""
        now = self._population
        ids = [NOBODY if member is None else member.id for member in now.rows]
        rows = [row for row, id in enumerate(ids) if id != NOBODY]
        return ids == state["ids"] and np.array_equal(now.scores[rows], state["scores"][rows])

    def _begin(self, title: str) -> int:
        """Write down how the search stands now, as a run of its own."""
        evolver, now = self._evolver, self._population
        about, seeds = space_words(evolver.space)
        came = evolver.stored
        parent = came.run if came is not None and came.path == self.path else None
        shares = evolver.task.shares
        packed = {row: pack_scores(now.scores[row]) for row in now.row_of.values()}
        self._graded = any(map(is_graded, packed.values()))
        with self._writer.transaction() as file:
            run = file.execute(
                "INSERT INTO runs (created, title, maker, method, options, task, shares, space, "
                "start, born, rng, graded, past, parent) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    datetime.now(timezone.utc).isoformat(timespec="seconds"),
                    title or f"{evolver.task.name} · {evolver.method}",
                    f"m2n2lab {__version__}",
                    evolver.method,
                    json.dumps(evolver.options),
                    json.dumps(task_words(evolver.task)),
                    None if shares is None else shares.astype("<f8").tobytes(),
                    json.dumps(about),
                    evolver.generation,
                    evolver.born,
                    pack_rng(evolver.rng),
                    self._graded,
                    pack_past(evolver.records, self._after),
                    parent,
                ),
            ).lastrowid
            assert run is not None
            file.executemany(
                "INSERT INTO seeds VALUES (?,?,?,?,?)",
                [(run, k, seed.name, seed.sha256, seed.genome) for k, seed in enumerate(seeds)],
            )
            file.executemany(
                "INSERT INTO founders VALUES (?,?,?,?,?,?)",
                [
                    (run, row, m.id, m.born, json.dumps(m.parents), packed[row])
                    for row, m in enumerate(now.rows)
                    if m is not None
                ],
            )
            genomes = [(run, m.id, pack_genome(m.genome)) for m in now.members]
            file.executemany("INSERT INTO genomes VALUES (?,?,?)", genomes)
        self._written = set(now.row_of)
        self._kept = set(now.row_of)
        return run

    # -- step by step --------------------------------------------------------------------------

    def _observe(self, generation: Generation) -> None:
        """Take in one generation; write those that wait when there are many, or one is old."""
        evolver = self._evolver
        with self._turn:
            if generation.before is not self._after:
                self._check_moved(generation)
            told = generation.scores
            scores = pack_scores(told.with_gaps if isinstance(told, Partial) else told)
            self._graded = self._graded or is_graded(scores)
            known = None
            if generation.accepted:
                self._population = evolver.archive.population
                genome = evolver.archive[generation.child].genome
                known = mark(genome)
                if generation.proposal is None:
                    self._outside[generation.child] = genome
            rng = pack_rng(evolver.rng)
            self._rows.append(step_row(self.run, generation, self._graded, rng, known, scores))
            self._after, self._last = generation.after, generation.step
            if len(self._rows) >= self._batch or time.monotonic() >= self._due:
                self.flush()
            elif self._late is None:
                self._late = threading.Thread(
                    target=self._flush_late, name="m2n2lab recorder", daemon=True
                )
                self._late.start()

    def _check_moved(self, generation: Generation) -> None:
        """See that a search whose state was loaded stands where the last recorded step left it."""
        before, after = generation.before, self._after
        same = before.ids == after.ids and np.array_equal(before.fitness, after.fitness)
        if not same or generation.step != self._last + 1:
            raise StoreError(
                f"Run {self.run} was recorded up to step {self._last}, but the search was moved to "
                f"another state meanwhile and told step {generation.step}; end this recording and "
                f"begin another."
            )

    def _undo(self) -> None:
        """Take back the last step."""
        with self._turn:
            if self._rows:
                self._rows.pop()
            else:
                self._cut = True
            # The ids of what was taken back are given away again.
            born = self._born = self._evolver.born
            self._outside = {id: genome for id, genome in self._outside.items() if id < born}
            self._kept = {id for id in self._kept if id < born}
            self._written -= {id for id in self._written if id >= born}
            self._last = self._evolver.generation
            self._population = self._evolver.archive.population
            self._after = self._evolver.archive.standing
            self.flush()

    def _flush_late(self) -> None:
        """Write steps after which no other came, until the end; what fails is tried again."""
        while not self._ended.wait(LATEST):
            with self._turn:
                if self._leave is not None and time.monotonic() >= self._due:
                    try:
                        self.flush()
                    except StoreError:
                        self._due = 0.0

    def flush(self) -> None:
        """Write all that waits.

        Raises:
            StoreError: it cannot be written; it waits on, and the search can go on.
        """
        with self._turn:
            if not self._rows and not self._cut:
                return
            now, run = self._population, self.run
            outside = self._outside
            alive = {member.id: member.genome for member in now.members}
            new = (outside | alive).keys() - self._written
            dead = self._written - alive.keys() - self._kept - outside.keys()
            with self._writer.transaction() as file:
                if self._cut:
                    kept = self._rows[0][1] - 1 if self._rows else self._last
                    born = self._rows[0][2] if self._rows else self._born
                    for what in ("steps WHERE run = ? AND step", "living WHERE run = ? AND step"):
                        file.execute(f"DELETE FROM {what} > ?", (run, kept))
                    file.execute("DELETE FROM genomes WHERE run = ? AND id >= ?", (run, born))
                file.executemany(STEP, self._rows)
                file.executemany(
                    "INSERT OR REPLACE INTO genomes VALUES (?,?,?)",
                    [(run, id, pack_genome((outside | alive)[id])) for id in new],
                )
                file.executemany(
                    "DELETE FROM genomes WHERE run = ? AND id = ?", [(run, id) for id in dead]
                )
                file.execute(
                    "INSERT OR REPLACE INTO living VALUES (?,?,?)",
                    (run, self._last, pack_ids(now)),
                )
            self._written = (self._written | new) - dead
            self._kept |= outside.keys()
            self._rows, self._outside, self._cut = [], {}, False
            self._due = time.monotonic() + LATEST

    def close(self) -> None:
        """Write what waits and let go of the store; a second call does nothing.

        Raises:
            StoreError: it cannot be written; close again when it can.
        """
        with self._turn:
            if self._leave is None:
                return
            self.flush()
            self._leave()
            self._leave = None
            self._ended.set()
            atexit.unregister(self.close)
            self._writer.runs.discard(self.run)
            self._writer.close()


record = Recorder
"""Record a search in a ``with`` statement (see ``Recorder``)."""
