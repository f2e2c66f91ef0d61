"""One search in a worker thread: commands go in, immutable snapshots come out.

The worker takes the evolver's turn for all it does with it, so that others may step it too. A page
reads ``session.snapshot``, which is replaced as a whole, and never waits for a running step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from m2n2lab.errors import InputError
from m2n2lab.exporting import archive_bytes
from m2n2lab.retrace import retraced
from m2n2lab.utils.progress import Halted, Progress, Watch

from .closing import started
from .hindsight import unrecorded
from .orders import Orders
from .previews import Previews
from .snapshot import Camera, Snapshot
from .stepper import Stepper, here
from .workbench import Workbench

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.executors import Crew
    from m2n2lab.history import History
    from m2n2lab.lineage import Lineage
    from m2n2lab.records import Generation

    from .tape import Tape

log = logging.getLogger("m2n2lab")

PUBLISH_EVERY = 0.4
"""Least seconds between two snapshots that nobody waits for: more of them would cost the search."""

LOOK_EVERY = 0.05
"""Most seconds that cells of a landscape are evaluated without a look at the orders, at rest."""

STEPS_A_CELL = 32
"""Steps of a running search for each cell of a landscape."""


class Session(Previews):
    """A search that a page, a notebook or a test can run, pause and step.

    Args:
        make: makes the evolver, or returns one that others step too; called in the worker, once.
        title: what the page calls the search.
        threads: torch threads of the worker; ``None`` leaves torch's own number.
        people: whether snapshots tell of members one by one.
        follow: whether somebody takes the place of a chosen parent that has died.
        record: begins to record the search, or says why that cannot be; by default the past cannot
            be looked at.
        executor: makes the workers that score children, which end with the session; by default its
            own thread does.
    """

    def __init__(
        self,
        make: Callable[[], Evolver],
        title: str = "",
        threads: int | None = None,
        people: bool = True,
        follow: bool = False,
        record: Callable[[Evolver], Tape | str] = unrecorded,
        executor: Callable[[], Crew | None] = here,
    ) -> None:
        super().__init__(record, follow)
        self.snapshot = Snapshot(title=title)
        self._make = make
        self._threads = threads
        self._people = people
        self._executor = executor
        self._obeyed = self._orders  # the last orders, without what is done once
        self._listeners: tuple[tuple[Callable[[], object], bool], ...] = ()
        self._records: History | None = None  # grows in the worker, is read anywhere
        self._export: Callable[[], bytes] | None = None
        self._camera: Camera  # the worker's, as all that follows
        self._lineage: Lineage
        self._stepper: Stepper | None = None
        self._unwatch: tuple[Callable[[], None], ...] = ()
        self._elsewhere = False  # whether somebody else has stepped since the worker looked
        self._published = 0.0  # when the last snapshot was taken
        self._counted = 0.0  # when answers were last counted in it
        self._message = ""  # why the search stopped
        self._thread: threading.Thread | None = None

    # -- its life, from any thread ---------------------------------------------------------------

    def start(self, attended: bool = True) -> None:
        """Start the worker; a second call does nothing.

        Args:
            attended: whether somebody can see it already; landscapes are mapped from then on.
        """
        with self._wake:
            if self._thread is None:
                self._order(attended=attended)
                started(self)
                self._thread = threading.Thread(
                    target=self._work, name="m2n2lab search", daemon=True
                )
                self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the worker to end; returns whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    # -- what can be read from any thread ------------------------------------------------------

    @property
    def history(self) -> History | None:
        """Every generation so far; ``None`` before there is an evolver."""
        return self._records

    def archive(self) -> bytes:
        """Return the archive as a file (see ``archive_bytes``); empty before there is one."""
        return self._export() if self._export else b""

    def listen(self, listener: Callable[[], object], always: bool = False) -> Callable[[], None]:
        """Call ``listener``, in the worker, when an order has been obeyed and can be seen.

        It must return at once. Returns a function that ends it.

        Args:
            listener: what is called.
            always: call it for every snapshot, at most one in ``PUBLISH_EVERY`` besides.
        """
        entry = listener, always
        with self._wake:
            self._listeners = (*self._listeners, entry)

        def unlisten() -> None:
            with self._wake:
                self._listeners = tuple(x for x in self._listeners if x is not entry)

        return unlisten

    # -- the worker ----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            if self._threads is not None:
                import torch

                torch.set_num_threads(self._threads)
            evolver = self._make()
            self._watch(evolver)
            self._records = evolver.records
            self._export = partial(archive_bytes, evolver)
            self._stepper = Stepper(evolver, self._executor)
            self._begin_tape(evolver)
            self._publish_rest()
            while not (orders := self._take_orders()).closed:
                try:
                    self._obey(evolver, orders, self._stepper)
                except Halted:
                    # A step is as if it had not begun, and so is a preview; the next round rests,
                    # takes the step that the preview was in the way of, or is none.
                    self._interrupted = self._yields
                except Exception as error:
                    self._order(running=False, steps=0, mapping=False)
                    self._fail(error)
        except Exception as error:
            self._fail(error)
        finally:
            self._look_away()
            if self._stepper is not None:
                self._stepper.close()
            self._end_tape()
            if self._orders.closed:
                self.snapshot = Snapshot(phase="closed", title=self.snapshot.title)
                self._forget()

    def _forget(self) -> None:
        """Let go of the search: pages may point here a while longer, and models can be large."""
        self._export = self._stepper = self._tape = None
        self._untaped = "The search has ended: nothing branches from it any more."
        for name in ("_make", "_bench", "_camera", "_lineage"):
            vars(self).pop(name, None)

    def _watch(self, evolver: Evolver) -> None:
        """Watch a search from how it stands now."""
        with evolver.turn():
            self._look_away()
            self._turn = evolver.turn
            self._lineage = lineage = retraced(evolver)
            self._bench = Workbench(evolver, lineage)
            self._camera = Camera(evolver, lineage, self._bench, self.snapshot.title, self._people)
            self._benched = None
            self._unwatch = (
                evolver.task.watch(Watch(self._answered, self._halted)),
                evolver.subscribe(lineage.observe, undo=lineage.forget_last),
                evolver.subscribe(self._notice, undo=self._stir),
            )

    def _look_away(self) -> None:
        for end in self._unwatch:
            end()
        self._unwatch = ()

    def _notice(self, generation: Generation) -> None:
        """Note a step, whoever took it; called in that thread."""
        self._camera.count(generation)
        self._stir()

    def _stir(self) -> None:
        """Have the worker look, if it was not the worker that changed something."""
        if threading.current_thread() is not self._thread and not self._elsewhere:
            with self._wake:
                self._elsewhere = True
                self._wake.notify_all()

    def _halted(self) -> bool:
        """Return whether a model should stop to answer; asked in the middle of an evaluation.

        Not of what somebody else evaluates: a task may be shared, and a search stepped elsewhere.
        """
        if threading.current_thread() is not self._thread:
            return False
        orders, under_way = self._orders, self._stepper is not None and self._stepper.under_way
        return orders.closed or (orders.halted if under_way else self._yields and orders.stepping)

    def _answered(self, answers: Progress) -> None:
        """Show how far the questions of an evaluation are, and the past: it can take minutes."""
        if threading.current_thread() is self._thread:  # a task may be shared
            self._look_back_meanwhile()
        # By a clock of its own: an evaluation ends with an answer, and its step must be shown too.
        if time.monotonic() - self._counted >= PUBLISH_EVERY:
            self.snapshot = replace(self.snapshot, answers_so_far=answers)
            self._counted = time.monotonic()
            self._call_listeners(hurry=False)

    def _take_orders(self) -> Orders:
        """Return the orders, and take off them what is done once."""
        with self._wake:
            orders = self._orders
            if orders.steps or orders.commands:
                self._orders = replace(orders, steps=max(orders.steps - 1, 0), commands=())
            self._obeyed = self._orders
        return orders

    def _obey(self, evolver: Evolver, orders: Orders, stepper: Stepper) -> None:
        """Do one round: what is asked of the bench, then one step, or rest until there is more."""
        began = time.monotonic()
        self._elsewhere = False
        if self._lineage.now != evolver.generation:  # a state was loaded, or a merge taken back
            self._watch(evolver)
        self._yields = not orders.stepping and not orders.commands
        with self._turn():
            self._serve_bench(orders)
        self._hurry |= self._look_back(orders.past)
        before = evolver.generation
        if not orders.stepping and not stepper.settle(orders.halted):
            self._rest()
            return
        if orders.stepping and self.snapshot.phase not in ("running", "stepping"):
            self._hurry = True  # somebody waits to see that, and the step may take minutes
            self._publish("running" if orders.busy else "stepping")
        elif not orders.stepping and self.snapshot.phase == "running":
            self._hurry = True  # what is in flight comes in later
        if orders.stepping:
            self._turn.give_way()
            stepper.step(orders.running)
            self._interrupted = False
        if evolver.generation > before:
            self._bench.took(stepper.took)
            self._message = "" if orders.stepping else self._message
            if evolver.generation % STEPS_A_CELL == 0 and self._mapping(orders):
                self._explore()
            self._paint(orders)  # a few pictures a step, which takes as many and more
        self._hurry |= orders.running and orders.pace >= PUBLISH_EVERY  # every step is looked at
        if self._hurry or time.monotonic() - self._published >= PUBLISH_EVERY:
            self._publish("running" if orders.busy else self._at_rest)
        if orders.running and orders.pace > 0.0:
            self._wait(max(began + orders.pace - time.monotonic(), 0.0))

    def _look_back_meanwhile(self) -> None:
        """Look back in the middle of an evaluation, which goes on whatever comes of it."""
        before, message = self._past, self.snapshot.message
        try:
            self._look_back(self._orders.past)
        except InputError as error:
            message = str(error)
        if self._past is not before or message != self.snapshot.message:
            self.snapshot = replace(self.snapshot, past=self._past, message=message)
            self._call_listeners()

    def _rest(self) -> None:
        """Show what there is and wait for other orders; map the landscape meanwhile."""
        self._publish_rest()
        while self._idle and self._paint(self._obeyed):
            self._publish_rest()
        began = time.monotonic()
        while self._idle and self._mapping(self._obeyed):
            self._explore()
            if time.monotonic() - began > LOOK_EVERY:
                if time.monotonic() - self._published >= PUBLISH_EVERY:
                    self._publish_rest()
                self._wait(0.0)  # or nobody else would get a word in
                began = time.monotonic()
        if self._idle:
            self._publish_rest()
            with self._wake:
                self._wake.wait_for(lambda: not self._idle)
        if self._elsewhere:  # somebody else steps: followed, but not at every step
            self._wait(max(self._published + PUBLISH_EVERY - time.monotonic(), 0.0))

    @property
    def _idle(self) -> bool:
        """Whether there are no other orders than the obeyed ones, and nobody else has stepped."""
        return self._orders is self._obeyed and not self._elsewhere

    def _wait(self, seconds: float | None = None) -> None:
        """Wait for other orders than the last that were obeyed, at most ``seconds``."""
        with self._wake:
            self._wake.wait_for(lambda: self._orders is not self._obeyed, timeout=seconds)

    def _publish_rest(self) -> None:
        self._hurry = True
        self._publish(self._at_rest)

    @property
    def _at_rest(self) -> str:
        return "failed" if self._message else "paused"

    def _publish(self, phase: str) -> None:
        """Take a snapshot, and call those who wait for it."""
        orders = self._obeyed
        slow = self._bench.slow
        pending = slow and self._benched is not None and orders.choice != self._benched[0]
        with self._turn():
            self._bench.remember()
            self.snapshot = self._camera.take(
                phase,
                self._message,
                orders.chosen,
                slow=slow,
                pending=pending,
                mapping=self._mapping(orders),
                first=self._tape.first if self._tape else None,
                untaped=self._untaped,
                past=self._past,
                elsewhere=self._stepper.words if self._stepper else "",
            )
        self._published = time.monotonic()
        hurry, self._hurry = self._hurry, False
        self._call_listeners(hurry)

    def _fail(self, error: Exception) -> None:
        """Show why the search stopped; what was found until then stays on the page."""
        expected = isinstance(error, InputError)
        if not expected:
            log.exception("The search paused because a step failed.")
        words = str(error).partition("\nTraceback")[0]  # a worker's is in the log
        self._message = words if expected else f"{type(error).__name__}: {words}"
        self.snapshot = replace(self.snapshot, phase="failed", message=self._message)
        self._call_listeners()

    def _call_listeners(self, hurry: bool = True) -> None:
        for listener, always in self._listeners:
            if hurry or always:
                listener()
