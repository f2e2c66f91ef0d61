"""Session: one search in a worker thread; orders go in, immutable snapshots come out.

The worker holds the evolver's turn whenever it uses it, so that other threads may step it too. A
page reads ``session.snapshot``, which is replaced as a whole, and never waits for a running step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from m2n2lab.analysis.lineage_replay import retraced
from m2n2lab.store.archive_file import archive_bytes
from m2n2lab.utils.concurrency.loading import reporting
from m2n2lab.utils.concurrency.subscribers import Subscribers
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.progress import Halted, Progress, Watch
from m2n2lab.viz.run_page import run_page

from .acts import Acts
from .orders import MOVES, Mailbox, Orders
from .previews import Previews
from .recording import Recording, not_recorded
from .saver import Saver
from .shutdown import register
from .snapshot import Snapshot, SnapshotBuilder
from .stepper import Stepper, no_workers

if TYPE_CHECKING:
    from m2n2lab.analysis.lineage import Lineage
    from m2n2lab.core.archive import Archive
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.history import History
    from m2n2lab.executors import Crew

    from .run_recorder import RunRecorder

log = logging.getLogger("m2n2lab")

PUBLISH_SECONDS = 0.4
"""Least time between two snapshots that no page waits for: more of them would slow the search."""

POLL_SECONDS = 0.05
"""Most time that cells of a landscape are evaluated, at rest, before the orders are checked."""

STEPS_PER_CELL = 32
"""Steps of a running search for each cell of a landscape."""


class Session:
    """A search that a page, a notebook or a test can run, pause and step.

    Args:
        make: makes the evolver, or returns one that other threads step too; called once, in the
            worker.
        title: what the page calls the search.
        threads: torch threads of the worker; ``None`` leaves torch's default.
        members: whether snapshots describe the members one by one.
        follow: whether a chosen parent that has died is replaced by a living member.
        record: starts a recorder of the search, or returns why there is none; by default the past
            cannot be looked at.
        executor: makes the workers that score children and end with the session; by default its
            own thread scores them.
        output: the folder into which models are saved; by default none is.

    Attributes:
        snapshot: the latest, replaced as a whole.
        orders: of the search; may be given in any thread.
        bench: previews, landscape and pictures of the pair on the bench; the worker's, from when
            there is an evolver until the search is closed.
        recording: of the search, and the past step that is looked at; the worker's, except for
            ``branch``.
    """

    def __init__(
        self,
        make: Callable[[], Evolver],
        title: str = "",
        threads: int | None = None,
        members: bool = True,
        follow: bool = False,
        record: Callable[[Evolver], RunRecorder | str] = not_recorded,
        executor: Callable[[], Crew | None] = no_workers,
        output: Path | None = None,
    ) -> None:
        self._output = output
        self.snapshot = Snapshot(title=title)
        self.orders = Mailbox()
        self.bench: Previews
        self.recording = Recording(self.orders)
        self._members = members
        self._follow = follow
        # A thread drops its arguments when it ends.
        self._thread = threading.Thread(
            target=self._work,
            args=(make, threads, record, executor),
            name="m2n2lab search",
            daemon=True,
        )
        self._start_lock = threading.Lock()
        self._listeners: Subscribers[tuple[Callable[[], object], bool]] = Subscribers()
        self._records: History | None = None  # grows in the worker, is read anywhere
        self._export: Callable[[], bytes] | None = None
        self._page: Callable[[list[tuple[int, Archive]], str], str] | None = None
        self._builder: SnapshotBuilder  # the worker's, as all that follows
        self._lineage: Lineage
        self._acts: Acts
        self._stepper: Stepper | None = None
        self._subscriptions: tuple[Callable[[], None], ...] = ()
        self._stepped_outside = False  # whether another thread has stepped since the last round
        self._yields = False  # whether an evaluation makes room for steps
        self._interrupted = False  # whether one has just done so: the step comes first then
        self._notify_now = False  # whether a page waits for what has just been done
        self._published = 0.0  # when the last snapshot was taken
        self._progress_shown = 0.0  # when a count of answers was last shown
        self._message = ""  # why the search stopped

    # -- start and end, from any thread ----------------------------------------------------------

    def start(self, attended: bool = True) -> None:
        """Start the worker; a second call does nothing.

        Args:
            attended: whether a page shows it already; landscapes are mapped from then on.
        """
        with self._start_lock:
            if self._thread.ident is None:
                self.orders.attend(attended)
                register(self)
                self._thread.start()

    def close(self) -> None:
        """Ask the worker to end; returns at once."""
        self.orders.close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the worker to end; returns whether it has."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- results, from any thread ----------------------------------------------------------------

    @property
    def history(self) -> History | None:
        """Every generation so far; ``None`` before there is an evolver."""
        return self._records

    def archive(self) -> bytes:
        """Return the archive as a file (see ``archive_bytes``); empty before there is one."""
        export = self._export
        return export() if export else b""

    def page(self, code: str = "") -> str:
        """Return the search as one HTML file (see ``run_page``); empty before there is one.

        Waits for the step in progress, and has the best member answer.

        Args:
            code: Python that makes the search again.
        """
        page = self._page
        return page(self.recording.archives(), code) if page else ""

    def subscribe(
        self, listener: Callable[[], object], every_snapshot: bool = False
    ) -> Callable[[], None]:
        """Call ``listener``, in the worker, when a snapshot shows what was ordered.

        It must return at once. Returns a function that ends the subscription.

        Args:
            listener: what is called.
            every_snapshot: call it for other snapshots too, at most one in ``PUBLISH_SECONDS``.
        """
        return self._listeners.add((listener, every_snapshot))

    # -- the worker ------------------------------------------------------------------------------

    def _work(
        self,
        make: Callable[[], Evolver],
        threads: int | None,
        record: Callable[[Evolver], RunRecorder | str],
        executor: Callable[[], Crew | None],
    ) -> None:
        try:
            if threads is not None:
                import torch

                torch.set_num_threads(threads)
            with reporting(self._show_loading):
                evolver = make()
            self._acts = Acts(evolver)
            self._observe(evolver)
            self._records = evolver.records
            self._export = partial(archive_bytes, evolver)
            self._page = partial(run_page, evolver)
            self._stepper = Stepper(evolver, executor)
            self.recording.begin(record(evolver))
            self._publish_rest()
            while not (orders := self.orders.take()).closed:
                try:
                    self._do_round(evolver, orders, self._stepper)
                except Halted:
                    # The step or preview is as if it had not begun. The next round rests, or takes
                    # the step that the preview delayed, or there is none.
                    self._interrupted = self._yields
                except Exception as error:
                    self.orders.withdraw()
                    self._fail(error)
        except Exception as error:
            self._fail(error)
        finally:
            self._unsubscribe()
            if self._stepper is not None:
                self._stepper.close()
            self.recording.close()
            if self.orders.now.closed:
                self.snapshot = Snapshot(phase="closed", title=self.snapshot.title)
                self._release()

    def _release(self) -> None:
        """Release the search: pages may hold the session for a while, and models can be large."""
        self._export = self._page = self._stepper = None
        self.recording.forget()
        with suppress(AttributeError):  # there are none where no evolver could be made
            del self._acts, self._lineage, self.bench, self._builder

    def _observe(self, evolver: Evolver) -> None:
        """Observe a search from its current state on."""
        with evolver.turn():
            self._unsubscribe()
            self._lineage = lineage = retraced(evolver)
            saver = Saver(evolver, self._output, self._show_progress)
            self.bench = bench = Previews(
                evolver, lineage, self.orders, self._follow, saver, self._acts
            )
            self._builder = builder = SnapshotBuilder(
                evolver, lineage, bench.workbench, self.snapshot.title, self._members
            )
            self._subscriptions = (
                evolver.task.watch(Watch(self._show_progress, self._should_halt)),
                evolver.subscribe(lineage.observe, undo=partial(self._forget_step, evolver)),
                evolver.subscribe(self._acts.observe),
                evolver.subscribe(builder.count),
                evolver.subscribe(self._stepped, undo=self._stepped),
            )

    def _forget_step(self, evolver: Evolver) -> None:
        """Have the lineage forget a step that was taken back, if it can; else it is begun anew."""
        if evolver.generation == self._lineage.now - 1 and self._lineage.can_forget:
            self._lineage.forget_last()

    def _unsubscribe(self) -> None:
        for end in self._subscriptions:
            end()
        self._subscriptions = ()

    def _stepped(self, *_: object) -> None:
        """Notify the worker if another thread has stepped the search or undone a step."""
        if threading.current_thread() is not self._thread and not self._stepped_outside:
            self._stepped_outside = True
            self.orders.notify()

    def _should_halt(self) -> bool:
        """Return whether a model should stop answering; asked in the middle of an evaluation.

        Evaluations of other threads go on: a task may be shared, and others may step the search.
        """
        if threading.current_thread() is not self._thread:
            return False
        orders, stepper = self.orders.now, self._stepper
        if stepper is not None and stepper.under_way:
            return orders.closed or orders.halted
        return orders.closed or (self._yields and orders.stepping)

    def _show_progress(self, answers: Progress) -> None:
        """Show the progress of an evaluation, and the past: an evaluation can take minutes."""
        if threading.current_thread() is self._thread:  # a task may be shared
            self._update_past()
        # By a clock of its own: an evaluation ends with an answer, and its step must be shown too.
        if time.monotonic() - self._progress_shown >= PUBLISH_SECONDS:
            self.snapshot = replace(self.snapshot, answers_so_far=answers)
            self._progress_shown = time.monotonic()
            self._notify(ordered=False)

    def _show_loading(self, what: str) -> None:
        """Show what is being loaded, before there is a search."""
        self.snapshot = replace(self.snapshot, loading=what)
        self._notify(ordered=False)

    def _do_round(self, evolver: Evolver, orders: Orders, stepper: Stepper) -> None:
        """Do what is ordered of the bench, then take one step, or rest until there is more."""
        began = time.monotonic()
        moved = self._lineage.now != evolver.generation  # a state was loaded, or a merge undone
        if self._stepped_outside or moved:
            self._acts.forget()
        self._stepped_outside = False
        if moved:
            self._observe(evolver)
        self._yields = not orders.stepping and not orders.commands
        step_first = self._interrupted and orders.stepping
        if stepper.in_flight and any(name in MOVES for name, _ in orders.commands):
            orders = replace(
                orders, commands=tuple(order for order in orders.commands if order[0] not in MOVES)
            )
            self.bench.workbench.note = "Children are still being scored; wait until they arrive."
            self._notify_now = True
        self._notify_now |= self.bench.serve(orders, step_first)
        if (old := self.bench.workbench).is_lost:
            self._observe(evolver)
            self.bench.workbench.follow(old)
            self._notify_now |= self.bench.serve(replace(self.orders.now, commands=()), False)
        self._notify_now |= self.recording.select(orders.past)
        before = evolver.generation
        if not orders.stepping and not stepper.settle(orders.halted):
            self._acts.rest()
            self._rest()
            return
        if orders.stepping and self.snapshot.phase not in ("running", "stepping"):
            self._notify_now = True  # a person waits to see that, and the step may take minutes
            self._publish("running" if orders.busy else "stepping")
        elif not orders.stepping and self.snapshot.phase == "running":
            self._notify_now = True  # children in flight arrive later
        if orders.stepping:
            evolver.turn.give_way()
            self._acts.step()
            stepper.step(orders.running)
            self._interrupted = False
        if evolver.generation > before:
            self.bench.workbench.took(stepper.took)
            self._message = "" if orders.stepping else self._message
            if evolver.generation % STEPS_PER_CELL == 0 and self.bench.mapping(orders):
                self.bench.explore()
            self.bench.paint(orders)  # a few at a time: a step draws as many itself, or more
        # At a slow pace every step is looked at.
        self._notify_now |= orders.running and orders.pace >= PUBLISH_SECONDS
        if self._notify_now or time.monotonic() - self._published >= PUBLISH_SECONDS:
            self._publish("running" if orders.busy else self._rest_phase)
        if orders.running and orders.pace > 0.0:
            self.orders.wait(max(began + orders.pace - time.monotonic(), 0.0))

    def _update_past(self) -> None:
        """Look back in the middle of an evaluation, which goes on even if that fails."""
        recording = self.recording
        before, message = recording.past, self.snapshot.message
        try:
            recording.select(self.orders.past)
        except InputError as error:
            message = str(error)
        if recording.past is not before or message != self.snapshot.message:
            self.snapshot = replace(self.snapshot, past=recording.past, message=message)
            self._notify()

    def _rest(self) -> None:
        """Publish what there is and wait for other orders; map the landscape meanwhile."""
        self._publish_rest()
        while self._idle and self.bench.paint(self.orders.taken):
            self._publish_rest()
        began = time.monotonic()
        while self._idle and self.bench.mapping(self.orders.taken):
            self.bench.explore()
            if time.monotonic() - began > POLL_SECONDS:
                if time.monotonic() - self._published >= PUBLISH_SECONDS:
                    self._publish_rest()
                self.orders.wait(0.0)  # lets other threads run
                began = time.monotonic()
        if self._idle:
            self._publish_rest()
            self.orders.wait(until=lambda: self._stepped_outside)
        if self._stepped_outside:  # followed, but not at every step
            self.orders.wait(max(self._published + PUBLISH_SECONDS - time.monotonic(), 0.0))

    @property
    def _idle(self) -> bool:
        """Whether there are no new orders, and no other thread has stepped the search."""
        return not self.orders.new and not self._stepped_outside

    def _publish_rest(self) -> None:
        self._notify_now = True
        self._publish(self._rest_phase)

    @property
    def _rest_phase(self) -> str:
        return "failed" if self._message else "paused"

    def _publish(self, phase: str) -> None:
        """Take a snapshot and call the listeners."""
        orders, bench, recording = self.orders.taken, self.bench, self.recording
        with bench.turn():
            bench.workbench.remember()
            bench.refresh(orders)
            self.snapshot = self._builder.build(
                phase,
                self._message,
                orders.chosen,
                slow=bench.workbench.slow,
                pending=bench.pending(orders.choice),
                mapping=bench.mapping(orders),
                first=recording.first,
                unrecorded_reason=recording.unrecorded_reason,
                past=recording.past,
                in_flight=self._stepper.in_flight if self._stepper else "",
            )
        self._published = time.monotonic()
        ordered, self._notify_now = self._notify_now, False
        self._notify(ordered)

    def _fail(self, error: Exception) -> None:
        """Show why the search stopped; what was found until then stays on the page."""
        expected = isinstance(error, InputError)
        if not expected:
            log.exception("The search paused because a step failed.")
        text = str(error).partition("\nTraceback")[0]  # a worker's is in the log
        self._message = text if expected else f"{type(error).__name__}: {text}"
        self.snapshot = replace(self.snapshot, phase="failed", message=self._message)
        self._notify()

    def _notify(self, ordered: bool = True) -> None:
        """Call the listeners; without an order, only those of every snapshot."""
        for listener, every_snapshot in self._listeners:
            if ordered or every_snapshot:
                listener()
