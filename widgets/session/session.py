"""One search in a worker thread: orders go in, immutable snapshots come out.

The worker takes the evolver's turn for all it does with it, so that others may step it too. A page
reads ``session.snapshot``, which is replaced as a whole, and never waits for a running step.

The way of a click, on a cell of the attraction map and then on Merge:

 1. browser: ``pick`` in ``cells.js`` writes the pair into a hidden field; Merge is a button.
 2. server: ``Cells._pick``, ``AttractionView.picked``, ``BenchView.pick``; ``BenchView._command``.
 3. ``orders.Mailbox.choose`` and ``.command`` replace the ``Orders``, wake the worker and return.
 4. worker: ``Session._work`` takes the orders between two steps, and ``_obey`` goes through them.
 5. ``previews.Previews.serve`` waits for the evolver's turn and finds what is due on the bench.
 6. ``workbench.Workbench.show`` evaluates the child of the pair; ``.merge`` submits it.
 7. ``Evolver.tell`` has it judged by ``Archive.judge`` and put in by ``Archive.admit``.
 8. Its observers follow: the lineage, ``Camera.count``, and the store's ``Recorder``.
 9. ``Session._publish`` replaces the snapshot by that of ``Camera.take`` and calls all listeners.
10. One of them is ``Page._hurry``, which only has ``RefreshScheduler`` schedule a look at the page.
11. server: ``Page.refresh`` hands the snapshot to ``BenchView.update`` and all other views.
12. browser: Bokeh patches what has changed; ``split_editor.js`` and the plots draw it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from m2n2lab.analysis.lineage_replay import retraced
from m2n2lab.store.archive_file import archive_bytes
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.progress import Halted, Progress, Watch
from m2n2lab.utils.subscribers import Subscribers

from .orders import Mailbox, Orders
from .previews import Previews
from .recording import Recording, not_recorded
from .shutdown import started
from .snapshot import Camera, Snapshot
from .stepper import Stepper, here

if TYPE_CHECKING:
    from m2n2lab.analysis.lineage import Lineage
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.history import History
    from m2n2lab.executors import Crew

    from .run_recorder import RunRecorder

log = logging.getLogger("m2n2lab")

PUBLISH_SECONDS = 0.4
"""Least seconds between two snapshots that nobody waits for: more of them would cost the search."""

LOOK_EVERY = 0.05
"""Most seconds that cells of a landscape are evaluated without a look at the orders, at rest."""

STEPS_A_CELL = 32
"""Steps of a running search for each cell of a landscape."""


class Session:
    """A search that a page, a notebook or a test can run, pause and step.

    Args:
        make: makes the evolver, or returns one that others step too; called in the worker, once.
        title: what the page calls the search.
        threads: torch threads of the worker; ``None`` leaves torch's own number.
        people: whether snapshots tell of members one by one.
        follow: whether a parent that was chosen and has died is replaced by a member that lives.
        record: begins to record the search, or says why that cannot be; by default the past cannot
            be looked at.
        executor: makes the workers that score children, which end with the session; by default its
            own thread does.

    Attributes:
        snapshot: the latest, replaced as a whole.
        orders: what is asked of the search; given in any thread.
        bench: previews, landscape and pictures of the pair on the bench; the worker's, from when
            there is an evolver until the search is closed.
        recording: what is recorded of the search, and the past that is looked at; the worker's,
            but for ``branch``.
    """

    def __init__(
        self,
        make: Callable[[], Evolver],
        title: str = "",
        threads: int | None = None,
        people: bool = True,
        follow: bool = False,
        record: Callable[[Evolver], RunRecorder | str] = not_recorded,
        executor: Callable[[], Crew | None] = here,
    ) -> None:
        self.snapshot = Snapshot(title=title)
        self.orders = Mailbox()
        self.bench: Previews
        self.recording = Recording(self.orders)
        self._people = people
        self._follow = follow
        # The thread drops what it is given when it ends.
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
        self._camera: Camera  # the worker's, as all that follows
        self._lineage: Lineage
        self._stepper: Stepper | None = None
        self._unwatch: tuple[Callable[[], None], ...] = ()
        self._elsewhere = False  # whether a step was taken in another thread since the last look
        self._yields = False  # whether what is evaluated makes room for steps
        self._interrupted = False  # whether it has just done so: the step comes first then
        self._notify_now = False  # whether a page waits for what has just been done
        self._published = 0.0  # when the last snapshot was taken
        self._counted = 0.0  # when answers were last counted in it
        self._message = ""  # why the search stopped

    # -- its life, from any thread ---------------------------------------------------------------

    def start(self, attended: bool = True) -> None:
        """Start the worker; a second call does nothing.

        Args:
            attended: whether a page shows it already; landscapes are mapped from then on.
        """
        with self._start_lock:
            if self._thread.ident is None:
                self.orders.attend(attended)
                started(self)
                self._thread.start()

    def close(self) -> None:
        """Ask the worker to end; returns at once."""
        self.orders.close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the worker to end; returns whether it has."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- what can be read from any thread ------------------------------------------------------

    @property
    def history(self) -> History | None:
        """Every generation so far; ``None`` before there is an evolver."""
        return self._records

    def archive(self) -> bytes:
        """Return the archive as a file (see ``archive_bytes``); empty before there is one."""
        export = self._export
        return export() if export else b""

    def subscribe(
        self, listener: Callable[[], object], every_snapshot: bool = False
    ) -> Callable[[], None]:
        """Call ``listener``, in the worker, when the snapshot shows what was ordered.

        It must return at once. Returns a function that ends the subscription.

        Args:
            listener: what is called.
            every_snapshot: call it for other snapshots too, at most one in ``PUBLISH_SECONDS``.
        """
        return self._listeners.add((listener, every_snapshot))

    # -- the worker ----------------------------------------------------------------------------

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
            evolver = make()
            self._watch(evolver)
            self._records = evolver.records
            self._export = partial(archive_bytes, evolver)
            self._stepper = Stepper(evolver, executor)
            self.recording.begin(record(evolver))
            self._publish_rest()
            while not (orders := self.orders.take()).closed:
                try:
                    self._obey(evolver, orders, self._stepper)
                except Halted:
                    # A step is as if it had not begun, and so is a preview; the next round rests,
                    # takes the step that the preview was in the way of, or is none.
                    self._interrupted = self._yields
                except Exception as error:
                    self.orders.rest()
                    self._fail(error)
        except Exception as error:
            self._fail(error)
        finally:
            self._look_away()
            if self._stepper is not None:
                self._stepper.close()
            self.recording.close()
            if self.orders.now.closed:
                self.snapshot = Snapshot(phase="closed", title=self.snapshot.title)
                self._forget()

    def _forget(self) -> None:
        """Let go of the search: pages may point here a while longer, and models can be large."""
        self._export = self._stepper = None
        self.recording.forget()
        with suppress(AttributeError):  # there are none where no evolver could be made
            del self._lineage, self.bench, self._camera

    def _watch(self, evolver: Evolver) -> None:
        """Watch a search from how it stands now."""
        with evolver.turn():
            self._look_away()
            self._lineage = lineage = retraced(evolver)
            self.bench = bench = Previews(evolver, lineage, self.orders, self._follow)
            self._camera = camera = Camera(
                evolver, lineage, bench.workbench, self.snapshot.title, self._people
            )
            self._unwatch = (
                evolver.task.watch(Watch(self._answered, self._halted)),
                evolver.subscribe(lineage.observe, undo=lineage.forget_last),
                evolver.subscribe(camera.count),
                evolver.subscribe(self._stir, undo=self._stir),
            )

    def _look_away(self) -> None:
        for end in self._unwatch:
            end()
        self._unwatch = ()

    def _stir(self, *_: object) -> None:
        """Have the worker look, if the search was stepped or taken back in another thread."""
        if threading.current_thread() is not self._thread and not self._elsewhere:
            self._elsewhere = True
            self.orders.notify()

    def _halted(self) -> bool:
        """Return whether a model should stop to answer; asked in the middle of an evaluation.

        Not of what another thread evaluates: a task may be shared, and a search stepped elsewhere.
        """
        if threading.current_thread() is not self._thread:
            return False
        orders, stepper = self.orders.now, self._stepper
        if stepper is not None and stepper.under_way:
            return orders.closed or orders.halted
        return orders.closed or (self._yields and orders.stepping)

    def _answered(self, answers: Progress) -> None:
        """Show how far the questions of an evaluation are, and the past: it can take minutes."""
        if threading.current_thread() is self._thread:  # a task may be shared
            self._look_back_meanwhile()
        # By a clock of its own: an evaluation ends with an answer, and its step must be shown too.
        if time.monotonic() - self._counted >= PUBLISH_SECONDS:
            self.snapshot = replace(self.snapshot, answers_so_far=answers)
            self._counted = time.monotonic()
            self._notify(ordered=False)

    def _obey(self, evolver: Evolver, orders: Orders, stepper: Stepper) -> None:
        """Do one round: what is asked of the bench, then one step, or rest until there is more."""
        began = time.monotonic()
        self._elsewhere = False
        if self._lineage.now != evolver.generation:  # a state was loaded, or a merge taken back
            self._watch(evolver)
        self._yields = not orders.stepping and not orders.commands
        self._notify_now |= self.bench.serve(
            orders, step_first=self._interrupted and orders.stepping
        )
        self._notify_now |= self.recording.select(orders.past)
        before = evolver.generation
        if not orders.stepping and not stepper.settle(orders.halted):
            self._rest()
            return
        if orders.stepping and self.snapshot.phase not in ("running", "stepping"):
            self._notify_now = True  # somebody waits to see that, and the step may take minutes
            self._publish("running" if orders.busy else "stepping")
        elif not orders.stepping and self.snapshot.phase == "running":
            self._notify_now = True  # what is in flight comes in later
        if orders.stepping:
            evolver.turn.give_way()
            stepper.step(orders.running)
            self._interrupted = False
        if evolver.generation > before:
            self.bench.workbench.took(stepper.took)
            self._message = "" if orders.stepping else self._message
            if evolver.generation % STEPS_A_CELL == 0 and self.bench.mapping(orders):
                self.bench.explore()
            self.bench.paint(orders)  # a few pictures a step, which takes as many and more
        self._notify_now |= (
            orders.running and orders.pace >= PUBLISH_SECONDS
        )  # every step is looked at
        if self._notify_now or time.monotonic() - self._published >= PUBLISH_SECONDS:
            self._publish("running" if orders.busy else self._at_rest)
        if orders.running and orders.pace > 0.0:
            self.orders.wait(max(began + orders.pace - time.monotonic(), 0.0))

    def _look_back_meanwhile(self) -> None:
        """Look back in the middle of an evaluation, which goes on whatever comes of it."""
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
        """Show what there is and wait for other orders; map the landscape meanwhile."""
        self._publish_rest()
        while self._idle and self.bench.paint(self.orders.taken):
            self._publish_rest()
        began = time.monotonic()
        while self._idle and self.bench.mapping(self.orders.taken):
            self.bench.explore()
            if time.monotonic() - began > LOOK_EVERY:
                if time.monotonic() - self._published >= PUBLISH_SECONDS:
                    self._publish_rest()
                self.orders.wait(0.0)  # other threads run meanwhile
                began = time.monotonic()
        if self._idle:
            self._publish_rest()
            self.orders.wait(until=lambda: self._elsewhere)
        if self._elsewhere:  # the search is stepped elsewhere: followed, but not at every step
            self.orders.wait(max(self._published + PUBLISH_SECONDS - time.monotonic(), 0.0))

    @property
    def _idle(self) -> bool:
        """Whether there are no new orders, and no step was taken in another thread."""
        return not self.orders.new and not self._elsewhere

    def _publish_rest(self) -> None:
        self._notify_now = True
        self._publish(self._at_rest)

    @property
    def _at_rest(self) -> str:
        return "failed" if self._message else "paused"

    def _publish(self, phase: str) -> None:
        """Take a snapshot, and call those who wait for it."""
        orders, bench, recording = self.orders.taken, self.bench, self.recording
        with bench.turn():
            bench.workbench.remember()
            self.snapshot = self._camera.take(
                phase,
                self._message,
                orders.chosen,
                slow=bench.workbench.slow,
                pending=bench.pending(orders.choice),
                mapping=bench.mapping(orders),
                first=recording.first,
                unrecorded_reason=recording.unrecorded_reason,
                past=recording.past,
                elsewhere=self._stepper.words if self._stepper else "",
            )
        self._published = time.monotonic()
        ordered, self._notify_now = self._notify_now, False
        self._notify(ordered)

    def _fail(self, error: Exception) -> None:
        """Show why the search stopped; what was found until then stays on the page."""
        expected = isinstance(error, InputError)
        if not expected:
            log.exception("The search paused because a step failed.")
        words = str(error).partition("\nTraceback")[0]  # a worker's is in the log
        self._message = words if expected else f"{type(error).__name__}: {words}"
        self.snapshot = replace(self.snapshot, phase="failed", message=self._message)
        self._notify()

    def _notify(self, ordered: bool = True) -> None:
        """Call the listeners; without an order only those of every snapshot."""
        for listener, every_snapshot in self._listeners:
            if ordered or every_snapshot:
                listener()
