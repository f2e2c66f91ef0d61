"""One search in a worker thread: commands go in, immutable snapshots come out.

The worker owns the evolver; nobody else touches it. A page reads ``session.snapshot``, which is
replaced as a whole and never waits on the lock of a running step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.errors import InputError, choose
from m2n2lab.lineage import Lineage
from m2n2lab.lineage_plots import LineageData, SharesData, lineage_data, shares_data
from m2n2lab.members import MemberPage, MembersData, member_page, members_data
from m2n2lab.plots import (
    AttractionData,
    CurvesData,
    NichesData,
    attraction_data,
    curves_data,
    niches_data,
)

from .workbench import ANSWERS, Answer, Choice, Workbench

if TYPE_CHECKING:
    from m2n2lab.bench import BenchData
    from m2n2lab.evolver import Evolver
    from m2n2lab.history import History
    from m2n2lab.landscape import LandscapeData
    from m2n2lab.records import Standing

log = logging.getLogger("m2n2lab")

PUBLISH_EVERY = 0.1
"""Least seconds between two snapshots while the search runs."""

PACES = {"full speed": 0.0, "20 steps/s": 0.05, "2 steps/s": 0.5}
"""Seconds that a step takes at least, by name."""

CELLS_A_LOOK = 8
"""Cells of a landscape that are evaluated between two looks at the orders, at rest."""

TELL_EVERY = 1.0
"""Least seconds between two looks at members, at lineage and at a pair that nobody chose, while
the search runs."""

PEOPLE = ("members", "lineage", "shares", "chosen", "member")
"""Fields of a snapshot that tell of members one by one."""

STEPS_A_CELL = 8
"""Steps of a running search for each cell of a landscape."""


@dataclass(frozen=True)
class Snapshot:
    """All that a page shows of one moment.

    Attributes:
        phase: ``"starting"``, ``"paused"``, ``"running"``, ``"failed"`` or ``"closed"``.
        message: why it failed, in words; empty otherwise.
        title: task, method and seed.
        step: models told since the seeds.
        speed: steps per second over the last moments; while paused, of the last run.
        accepted: share of children that lived, of the last 1,000; NaN before the first.
        best: id of the best member.
        train: its mean score.
        test: its held-out score; NaN without held-out data.
        coverage: share of data points that some member solves.
        size: members that fit into the archive.
        niches, attraction, curves: arrays of the three plots; the same objects as long as
            nothing in them changed.
        bench: parents and child as last previewed, or ``None``.
        note: why there is no preview, or what became of the last merge by hand.
        stale: whether a parent on the bench has died.
        undoable: whether the last thing that happened was a merge by hand.
        landscape: of the pair on the bench, as far as it is known.
        answers: some data points with what A, B and the child make of them.
        members: the living in a table.
        lineage, shares: who came from whom, and how much of the living came from each seed.
        chosen: the member whose page is open; the best where nobody was chosen.
        member: that page.
    """

    phase: str = "starting"
    message: str = ""
    title: str = ""
    step: int = 0
    speed: float = 0.0
    accepted: float = float("nan")
    best: int = 0
    train: float = float("nan")
    test: float = float("nan")
    coverage: float = float("nan")
    size: int = 1
    niches: NichesData | None = None
    attraction: AttractionData | None = None
    curves: CurvesData | None = None
    bench: BenchData | None = None
    note: str = ""
    stale: bool = False
    undoable: bool = False
    landscape: LandscapeData | None = None
    answers: tuple[Answer, ...] = ()
    members: MembersData | None = None
    lineage: LineageData | None = None
    shares: SharesData | None = None
    chosen: int | None = None
    member: MemberPage | None = None


COMMANDS = ("merge", "undo", "propose")
"""What can be done with the bench: tell the child to the archive, take that back, or put the
search's next proposal on it."""


@dataclass(frozen=True)
class _Orders:
    """What the page has asked for, replaced as a whole under the session's lock."""

    running: bool = False
    steps: int = 0
    pace: float = 0.0
    answers: str = ANSWERS[0]
    choice: Choice = field(default_factory=Choice)
    chosen: int | None = None
    commands: tuple[str, ...] = ()
    closed: bool = False


class Session:
    """A search that a page, a notebook or a test can run, pause and step.

    Args:
        make: makes the evolver; called in the worker thread, once.
        title: what the page calls the search.
        threads: torch threads of the worker; ``None`` leaves torch's own number.
    """

    def __init__(
        self, make: Callable[[], Evolver], title: str = "", threads: int | None = None
    ) -> None:
        self.snapshot = Snapshot(title=title)
        self._make = make
        self._threads = threads
        self._orders = _Orders()
        self._obeyed = self._orders  # the last orders, without what is done once
        self._records: History | None = None  # grows in the worker, is read anywhere
        self._bench: Workbench  # the worker's
        self._lineage: Lineage  # the worker's
        self._opened: int | None = None  # whose page was published last
        self._told = 0.0  # when members and lineage were published last
        self._benched: tuple[Choice, str] | None = None  # what was previewed last
        self._previewed = 0.0  # when
        self._hurry = False  # whether the page waits for what has just been done
        self._standing: Standing | None = None  # of the last snapshot's plots
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._lived: deque[bool] = deque(maxlen=1_000)
        self._times: deque[tuple[float, int]] = deque(maxlen=20)

    # -- commands, from any thread; none of them waits for a step ------------------------------

    def start(self) -> None:
        """Start the worker; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="m2n2lab search", daemon=True)
            self._thread.start()

    def run(self) -> None:
        """Step until told to pause."""
        self._order(running=True)

    def pause(self) -> None:
        """Stop after the step that is under way."""
        self._order(running=False, steps=0)

    def step(self, count: int = 1) -> None:
        """Take ``count`` more steps, then pause; a running search pauses after them."""
        with self._wake:  # a reentrant lock: nobody adds steps in between
            self._order(running=False, steps=self._orders.steps + count)

    def pace(self, name: str) -> None:
        """Set how fast a running search steps, by a name of ``PACES``."""
        self._order(pace=PACES[name])

    def answers(self, which: str) -> None:
        """Set which data points are shown, one of ``ANSWERS``."""
        self._order(answers=which)

    def choose(self, **parts: int | float | None) -> None:
        """Change what is on the bench: ``a``, ``b``, ``split``, ``mix``; previewed at once."""
        with self._wake:
            choice = replace(self._orders.choice, **parts)  # type: ignore[arg-type]
            if parts.keys() & {"a", "b"} and "seed" not in parts:
                choice = replace(choice, seed=None)
            self._order(choice=choice)

    def select(self, member: int) -> None:
        """Open a member's page and follow its ancestors."""
        self._order(chosen=member)

    def history_csv(self) -> str:
        """Return every generation so far as CSV; safe while the search runs."""
        if self._records is None:
            return ""
        table: str = self._records.frame().to_csv()
        return table

    @property
    def running(self) -> bool:
        """Whether the search was told to run, however far the worker is."""
        return self._orders.running

    @property
    def choice(self) -> Choice:
        """What the page wants on the bench, however far the worker is."""
        return self._orders.choice

    def command(self, name: str) -> None:
        """Order one of ``COMMANDS``, to be done between two steps.

        Raises:
            InputError: an unknown one.
        """
        with self._wake:
            self._order(commands=(*self._orders.commands, choose("command", name, COMMANDS)))

    def close(self) -> None:
        """Ask the worker to end; returns at once."""
        self._order(closed=True)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the worker to end; returns whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _order(self, **wishes: Any) -> None:
        with self._wake:
            self._orders = replace(self._orders, **wishes)
            self._wake.notify_all()

    # -- the worker ----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            if self._threads is not None:
                import torch

                torch.set_num_threads(self._threads)
            evolver = self._make()
            self._records = evolver.records
            self._lineage = Lineage(evolver)
            evolver.subscribe(self._lineage.observe)
            self._bench = Workbench(evolver, self._lineage)
            self._publish(evolver, "paused")
            self._loop(evolver)
        except Exception as error:
            self._fail(error)
        finally:
            if self._orders.closed:
                self.snapshot = Snapshot(phase="closed", title=self.snapshot.title)

    def _loop(self, evolver: Evolver) -> None:
        """Obey until closed: step while there is something to do, rest otherwise."""
        published = 0.0
        while (orders := self._next_orders(evolver)) is not None:
            began = time.monotonic()
            try:
                self._serve_bench(orders)
                if not (orders.running or orders.steps):
                    continue
                generation = evolver.step()
                if generation.step % STEPS_A_CELL == 0:
                    self._bench.explore()
            except Exception as error:
                self.pause()
                self._fail(error)
                continue
            self._lived.append(generation.accepted)
            if not self._times or began - self._times[-1][0] >= PUBLISH_EVERY:
                self._times.append((began, generation.step - 1))
            if self._hurry or time.monotonic() - published >= PUBLISH_EVERY:
                self._publish(evolver, "running")
                published = time.monotonic()
            if orders.running and orders.pace > 0.0:
                self._rest(max(began + orders.pace - time.monotonic(), 0.0))

    def _next_orders(self, evolver: Evolver) -> _Orders | None:
        """Return the orders for one round, having waited until there is something to do.

        ``None`` once the session is closed.
        """
        while True:
            with self._wake:
                orders = self._orders
                if orders.closed:
                    return None
                # What is done once is taken off.
                self._obeyed = replace(orders, steps=max(orders.steps - 1, 0), commands=())
                self._orders = self._obeyed
            if orders.steps or orders.running or orders.commands or self._bench_differs(orders):
                return orders
            # The reason of a failure stands there until the search goes on.
            failed = self.snapshot.phase == "failed"
            self._publish(evolver, "failed" if failed else "paused")
            if not self._explore():
                self._rest()

    def _serve_bench(self, orders: _Orders) -> None:
        """Do what was ordered of the bench, and preview what is on it now."""
        choice = orders.choice
        for name in orders.commands:
            if name == "merge":
                generation = self._bench.merge()
                if generation is not None:
                    self._lived.append(generation.accepted)
            elif name == "undo":
                self._bench.undo()
            else:
                choice = self._bench.propose()
                with self._wake:
                    self._order(choice=choice)
        orders = replace(orders, choice=choice)
        if self._bench_differs(orders):
            shown, self._benched = self._benched, (choice, orders.answers)
            if shown and shown[0] == choice and not self._bench.dated:
                self._bench.answer(orders.answers)
            else:
                # What became of a merge is still to be read when the next pair is shown.
                note = self._bench.note if shown and shown[0] == choice else ""
                self._bench.show(choice, orders.answers)
                self._bench.note = self._bench.note or note
            self._previewed = time.monotonic()
            self._hurry = True

    def _bench_differs(self, orders: _Orders) -> bool:
        """Return whether there is something to preview: a choice, or a new pair if none is made."""
        if (orders.choice, orders.answers) != self._benched:
            return True
        late = not orders.running or time.monotonic() - self._previewed > TELL_EVERY
        nobodys = orders.choice.a is None and late
        return nobodys and self._bench.data is not None and self._bench.dated

    def _explore(self) -> bool:
        """Map some more of the landscape; returns whether anything is left to map."""
        return sum(self._bench.explore() for _ in range(CELLS_A_LOOK)) > 0

    def _rest(self, seconds: float | None = None) -> None:
        """Wait for other orders than the last that were obeyed, at most ``seconds``."""
        with self._wake:
            self._wake.wait_for(lambda: self._orders != self._obeyed, timeout=seconds)

    def _fail(self, error: Exception) -> None:
        """Show why the search stopped; what was found until then stays on the page."""
        expected = isinstance(error, InputError)
        if not expected:
            log.exception("The search paused because a step failed.")
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        self.snapshot = replace(self.snapshot, phase="failed", message=message)

    def _publish(self, evolver: Evolver, phase: str) -> None:
        archive, old = evolver.archive, self.snapshot
        now, step = time.monotonic(), evolver.generation
        if phase != "running":
            self._times.clear()
        since, first = self._times[0] if self._times else (now, step)
        self._hurry = False
        bench = self._bench
        niches, attraction = old.niches, old.attraction
        if niches is None or archive.standing is not self._standing:
            self._standing = archive.standing
            niches, attraction = niches_data(archive, evolver.task), attraction_data(archive)
        self.snapshot = Snapshot(
            phase=phase,
            message=old.message if phase == "failed" else "",
            title=old.title,
            step=step,
            speed=(step - first) / (now - since) if now > since else old.speed,
            accepted=float(np.mean(self._lived)) if self._lived else float("nan"),
            best=archive.best.id,
            train=archive.best.score,
            test=evolver.test,
            coverage=archive.coverage,
            size=archive.size,
            niches=niches,
            attraction=attraction,
            curves=old.curves if step == old.step else curves_data(evolver.records),
            bench=bench.data,
            note=bench.note,
            stale=bench.stale,
            undoable=bench.undoable,
            landscape=bench.landscape,
            answers=bench.answers,
            **self._people(evolver, phase),
        )

    def _people(self, evolver: Evolver, phase: str) -> dict[str, Any]:
        """Return members, lineage and the chosen member's page; the old ones while fresh enough."""
        old, lineage, chosen = self.snapshot, self._lineage, self._orders.chosen
        if chosen not in lineage:
            chosen = None
        same = old.members is not None and chosen == self._opened
        now = time.monotonic()
        if same and (
            old.step == evolver.generation or (phase == "running" and now - self._told < TELL_EVERY)
        ):
            return {name: getattr(old, name) for name in PEOPLE}
        self._told, self._opened = now, chosen
        focus = evolver.archive.best.id if chosen is None else chosen
        page = old.member
        if page is None or focus != old.chosen:
            page = member_page(evolver, lineage, focus)
        people = (
            members_data(evolver.archive, evolver.task, lineage),
            lineage_data(lineage, focus),
            shares_data(lineage),
            focus,
            page,
        )
        return dict(zip(PEOPLE, people, strict=True))
