"""Recorder: writes every generation of an evolver into a run store."""

from __future__ import annotations

import atexit
import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.core.evolver import Evolver, checked_evolver
from m2n2lab.core.population import Population
from m2n2lab.core.records import Generation, Partial, Standing, Stored
from m2n2lab.store.codec import fingerprint, is_graded, pack_genome, pack_rng, pack_scores
from m2n2lab.store.labels import write_label
from m2n2lab.store.pins import PinsRow, forget_pins, pinned_after, write_pins
from m2n2lab.store.reader import archive_state, run_info, step_state
from m2n2lab.store.rows import EMPTY, pack_ids, pack_past, packed_step, row_ids
from m2n2lab.store.schema import StoreError, StoreFile
from m2n2lab.store.specs import EvolverSpec, describe_space, describe_task
from m2n2lab.store.tables import FounderRow, GenomeRow, LivingRow, RunRow, SeedRow, StepRow
from m2n2lab.store.writer import Writer
from m2n2lab.utils.errors import file_path
from m2n2lab.utils.version import __version__

if TYPE_CHECKING:
    from types import TracebackType

BATCH_STEPS = 1000
"""Number of waiting steps at which they are written."""

FLUSH_SECONDS = 0.5
"""Time after which a step is written, whether or not another one follows."""


class Recorder:
    """Writes an evolver's steps into a store, in batches, from any thread that steps it.

    ::

        with m2n2lab.store.record(evolver, "runs.db"):
            evolver.run(1_000)
            evolver.tell(model)      # steps by hand, and steps taken back, are recorded too

    A step is written in one transaction: the change of members, scores and the generator's state.
    Steps that cannot be written wait, and are tried again with the next step.

    Args:
        evolver: the search, recorded from its current state on.
        path: the store; created if it does not exist.
        title: the title of the run.
        batch: number of waiting steps at which they are written.
        empty: whether the run is in the store before it has a step.
        settings: JSON of the settings that the search was made from, kept with the run.

    Raises:
        StoreError: another process writes to the store, or it cannot be written.
        InputError: models that cannot be stored.
    """

    def __init__(
        self,
        evolver: Evolver,
        path: str | Path,
        title: str = "",
        batch: int = BATCH_STEPS,
        empty: bool = True,
        settings: str = "",
    ) -> None:
        self._evolver = checked_evolver(evolver)
        self._batch = batch
        self._settings = settings
        self._lock = threading.RLock()
        self._rows: list[StepRow] = []  # of steps that wait to be written
        self._external: dict[int, Any] = {}  # waiting genomes that cannot be bred again
        self._kept: set[int] = set()  # ids whose genomes stay in the store
        self._written: set[int] = set()  # ids whose genomes are in the store
        self._pins: list[PinsRow] = []  # waiting
        self._pinned: frozenset[int] = frozenset()  # as written or waiting
        self._undone = False  # whether steps were taken back that may be in the store
        self._flusher: threading.Thread | None = None
        self._closed = threading.Event()
        self._flush_time = time.monotonic() + FLUSH_SECONDS
        self._unsubscribe: Callable[[], None] | None = None
        self._writer = Writer.open(file_path("path", path))
        try:
            with evolver.turn():  # no other thread steps it meanwhile
                self._start(title, empty)
        except BaseException:
            self._writer.close()
            raise
        atexit.register(self._close_at_exit)

    def _start(self, title: str, empty: bool) -> None:
        """Continue a run or begin a new one, and subscribe to the evolver."""
        evolver = self._evolver
        self._population: Population = evolver.archive.population
        self._standing: Standing = evolver.archive.standing
        self._last, self._born = evolver.generation, evolver.born
        self.start = self.recorded = evolver.generation
        self._number = self._join()
        if self._number is not None:
            self._enter(self._number)
        else:
            self._insert = self._prepare(title)
            if empty:
                self._begin()
        self._unsubscribe = evolver.subscribe(self._observe, self._undo, strict=True)

    @property
    def path(self) -> Path:
        """The store."""
        return self._writer.path

    @property
    def number(self) -> int | None:
        """Number of the run; ``None`` as long as it has no step and need not be in the store."""
        return self._number

    @property
    def run(self) -> int:
        """Number of the run, which begins in the store if it has not yet.

        Raises:
            StoreError: it cannot be written.
        """
        return self._begin()

    def _begin(self) -> int:
        with self._lock:
            if self._number is None:
                with self._writer.transaction() as file:
                    number = self._insert(file)
                self._number = number
                self._enter(number)
            return self._number

    def _enter(self, run: int) -> None:
        """Note that a run is being recorded."""
        self._writer.runs.add(run)
        self._evolver.stored = Stored(self._writer.path, run)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- start of a run ------------------------------------------------------------------------

    def _join(self) -> int | None:
        """Return the run that this search was resumed from, if it is at its end; else ``None``."""
        stored, evolver = self._evolver.stored, self._evolver
        if stored is None or stored.branched or stored.path != self.path:
            return None
        if stored.run in self._writer.runs:
            raise StoreError(
                f"Run {stored.run} of {self.path} is already being recorded; close that first."
            )
        with self._writer.transaction() as file:
            if file.execute("SELECT 1 FROM runs WHERE run = ?", (stored.run,)).fetchone() is None:
                return None
            info = run_info(file, self.path, stored.run)
            if info.last != evolver.generation:
                return None
            graded, rng = step_state(file, info, info.last)
            # Proposals that were never scored have used up random numbers since.
            if rng != pack_rng(evolver.rng) and not (
                evolver.saves and self._matches(archive_state(file, info, info.last))
            ):
                return None
            self._graded = graded
            self._pinned = pinned_after(file, stored.run, info.last)
            self.start = info.start
            ids = file.execute("SELECT id FROM genomes WHERE run = ?", (stored.run,)).fetchall()
            kept = file.execute(
                "SELECT id FROM founders WHERE run = :run "
                "UNION SELECT child FROM steps WHERE run = :run AND outside AND accepted",
                {"run": stored.run},
            ).fetchall()
        self._written = {id for (id,) in ids}
        self._kept = {id for (id,) in kept}
        return stored.run

    def _matches(self, state: dict[str, Any]) -> bool:
        """Return whether an archive's state is that of this search."""
        now = self._population
        ids = row_ids(now)
        rows = [row for row, id in enumerate(ids) if id != EMPTY]
        return ids == state["ids"] and np.array_equal(now.scores[rows], state["scores"][rows])

    def _prepare(self, title: str) -> Callable[[StoreFile], int]:
        """Return a function that begins a run at the current state, and returns its number."""
        evolver, now = self._evolver, self._population
        space, seeds = describe_space(evolver.space)
        origin = evolver.stored
        parent = origin.run if origin is not None and origin.path == self.path else None
        shares = evolver.task.shares
        packed = {row: pack_scores(now.scores[row]) for row in now.row_of.values()}
        self._graded = any(map(is_graded, packed.values()))
        description = RunRow(
            run=0,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            title=title or f"{evolver.task.name} · {evolver.method}",
            maker=f"m2n2lab {__version__}",
            method=evolver.method,
            options=EvolverSpec.of(evolver).to_json(),
            task=json.dumps(describe_task(evolver.task)),
            shares=None if shares is None else shares.astype("<f8").tobytes(),
            space=json.dumps(space),
            start=evolver.generation,
            born=evolver.born,
            rng=pack_rng(evolver.rng),
            graded=int(self._graded),
            past=pack_past(evolver.records, self._standing),
            parent=parent,
            seeds=len(seeds),
            founders=len(packed),
        )

        def insert(file: StoreFile) -> int:
            (last,) = file.execute("SELECT max(run) FROM runs").fetchone()
            run = (last or 0) + 1
            file.write([description._replace(run=run)])
            file.write(
                SeedRow(run, k, seed.name, seed.sha256, seed.genome) for k, seed in enumerate(seeds)
            )
            file.write(
                FounderRow(run, row, m.id, m.born, json.dumps(m.parents), packed[row])
                for row, m in enumerate(now.rows)
                if m is not None
            )
            file.write(GenomeRow(run, m.id, pack_genome(m.genome)) for m in now.members)
            if self._settings:
                write_label(file, run, settings=self._settings)
            return run

        self._written = set(now.row_of)
        self._kept = set(now.row_of)
        return insert

    # -- steps ---------------------------------------------------------------------------------

    def _observe(self, generation: Generation) -> None:
        """Add one generation; write the waiting ones once there are many, or one is old."""
        evolver = self._evolver
        with self._lock:
            if generation.before is not self._standing:
                self._check_continuity(generation)
            self._note_pins()  # before the step, which changes none
            observed = generation.scores
            scores = pack_scores(observed.with_gaps if isinstance(observed, Partial) else observed)
            self._graded = self._graded or is_graded(scores)
            mark = None
            if generation.accepted:
                self._population = evolver.archive.population
                genome = evolver.archive[generation.child].genome
                mark = fingerprint(genome)
                if generation.proposal is None:
                    self._external[generation.child] = genome
            rng = pack_rng(evolver.rng)
            self._rows.append(
                packed_step(self._number or 0, generation, self._graded, rng, mark, scores)
            )
            self._standing, self._last = generation.after, generation.step
            if len(self._rows) >= self._batch or time.monotonic() >= self._flush_time:
                self.flush()
            elif self._flusher is None:
                self._flusher = threading.Thread(
                    target=self._flush_regularly, name="m2n2lab recorder", daemon=True
                )
                self._flusher.start()

    def _note_pins(self) -> None:
        """Have the pinned members written if they have changed since the last step."""
        pinned = self._evolver.archive.pinned
        if pinned != self._pinned:
            self._pins.append(PinsRow.of(self._number or 0, self._last, pinned))
            self._pinned = pinned

    def _check_continuity(self, generation: Generation) -> None:
        """Check that a search whose state was loaded continues from the last recorded step.

        Raises:
            StoreError: it does not.
        """
        before, after = generation.before, self._standing
        same = before.ids == after.ids and np.array_equal(before.fitness, after.fitness)
        if not same or generation.step != self._last + 1:
            raise StoreError(
                f"Run {self.run} is recorded up to step {self._last}, but the search was moved to "
                f"another state and took step {generation.step} from there; close this recorder "
                f"and begin another."
            )

    def _undo(self) -> None:
        """Take back the last steps."""
        with self._lock:
            now = self._evolver.generation
            self._undone |= self.recorded > now
            self._rows = [row for row in self._rows if row.step <= now]
            self._pins = [row for row in self._pins if row.step <= now]
            # Ids of children that were taken back are used again.
            born = self._born = self._evolver.born
            self._external = {id: genome for id, genome in self._external.items() if id < born}
            self._kept = {id for id in self._kept if id < born}
            self._written -= {id for id in self._written if id >= born}
            self._last = self._evolver.generation
            self._population = self._evolver.archive.population
            self._standing = self._evolver.archive.standing
            self.flush()

    def _flush_regularly(self) -> None:
        """Write steps that no other step follows, until the recorder is closed."""
        while not self._closed.wait(FLUSH_SECONDS):
            with self._lock:
                if self._unsubscribe is not None and time.monotonic() >= self._flush_time:
                    try:
                        self.flush()
                    except StoreError:
                        self._flush_time = 0.0  # the next step tries again and raises

    def flush(self) -> None:
        """Write all waiting steps.

        Raises:
            StoreError: they cannot be written; they wait on, and the search can go on.
        """
        with self._lock:
            self._note_pins()
            if not self._rows and not self._undone and (not self._pins or self._number is None):
                return
            now, run = self._population, self._begin()
            external = self._external
            members = {member.id: member.genome for member in now.members}
            new = (external | members).keys() - self._written
            obsolete = self._written - members.keys() - self._kept - external.keys()
            with self._writer.transaction() as file:
                if self._undone:
                    last = self._rows[0].step - 1 if self._rows else self._last
                    born = self._rows[0].child if self._rows else self._born
                    for table in ("steps", "living"):
                        file.execute(f"DELETE FROM {table} WHERE run = ? AND step > ?", (run, last))
                    file.execute("DELETE FROM genomes WHERE run = ? AND id >= ?", (run, born))
                    forget_pins(file, run, last)
                file.write(row if row.run == run else row._replace(run=run) for row in self._rows)
                file.write(GenomeRow(run, id, pack_genome((external | members)[id])) for id in new)
                file.executemany(
                    "DELETE FROM genomes WHERE run = ? AND id = ?", [(run, id) for id in obsolete]
                )
                file.write([LivingRow(run, self._last, pack_ids(now))])
                write_pins(file, [row._replace(run=run) for row in self._pins])
            self._written = (self._written | new) - obsolete
            self._kept |= external.keys()
            self._rows, self._external, self._undone, self._pins = [], {}, False, []
            self.recorded = self._last
            self._flush_time = time.monotonic() + FLUSH_SECONDS

    def close(self) -> None:
        """Write all waiting steps and release the store; a second call does nothing.

        Raises:
            StoreError: they cannot be written; close again once they can.
        """
        with self._lock:
            if self._unsubscribe is None:
                return
            self.flush()
            self._release()

    def abandon(self) -> int:
        """Release the store without writing the waiting steps; return how many there are.

        A run that is resumed takes them again, with the same outcome.
        """
        with self._lock:
            self._release()
            return len(self._rows)

    def _release(self) -> None:
        if self._unsubscribe is None:
            return
        self._unsubscribe()
        self._unsubscribe = None
        self._closed.set()
        atexit.unregister(self._close_at_exit)
        if self._number is not None:
            self._writer.runs.discard(self._number)
        self._writer.close()

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except StoreError as error:
            print(
                f"{self.abandon():,} steps after step {self.recorded:,} were observed, but are not "
                f"recorded: {error}",
                file=sys.stderr,
            )


record = Recorder
"""Record a search in a ``with`` statement (see ``Recorder``)."""
