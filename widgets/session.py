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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.errors import InputError
from m2n2lab.plots import (
    AttractionData,
    CurvesData,
    NichesData,
    attraction_data,
    curves_data,
    niches_data,
)

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.records import Standing
    from m2n2lab.tasks.base import Sample

log = logging.getLogger("m2n2lab")

PUBLISH_EVERY = 0.1
"""Least seconds between two snapshots while the search runs."""

SHOWN = 24
"""Data points whose answers a snapshot carries."""

PACES = {"full speed": 0.0, "20 steps/s": 0.05, "2 steps/s": 0.5}
"""Seconds that a step takes at least, by name."""

ANSWERS = ("all", "wrong")
"""Which data points are shown: evenly from all, or those that the best member gets wrong."""


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
        answers: some data points with the best member's answers.
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
    answers: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class _Orders:
    """What the page has asked for, replaced as a whole under the session's lock."""

    running: bool = False
    steps: int = 0
    pace: float = 0.0
    answers: str = ANSWERS[0]
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
        self._shown = ""  # which answers the last snapshot carries
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
                generation = evolver.step()
            except Exception as error:
                self.pause()
                self._fail(error)
                continue
            self._lived.append(generation.accepted)
            if not self._times or began - self._times[-1][0] >= PUBLISH_EVERY:
                self._times.append((began, generation.step - 1))
            if time.monotonic() - published >= PUBLISH_EVERY:
                self._publish(evolver, "running")
                published = time.monotonic()
            if orders.running and orders.pace > 0.0:
                self._rest(orders, max(began + orders.pace - time.monotonic(), 0.0))

    def _next_orders(self, evolver: Evolver) -> _Orders | None:
        """Return the orders for one step, having waited until there is one to take.

        ``None`` once the session is closed.
        """
        while True:
            with self._wake:
                orders = self._orders
                if orders.closed:
                    return None
                if orders.steps:  # one that was asked for is taken off
                    orders = self._orders = replace(orders, steps=orders.steps - 1)
                    return orders
                if orders.running:
                    return orders
            # At rest the page sees the last step, unless the reason of a failure stands there.
            if self.snapshot.phase != "failed" or orders.answers != self._shown:
                self._publish(evolver, "paused")
            self._rest(orders)

    def _rest(self, orders: _Orders, seconds: float | None = None) -> None:
        """Wait until the orders are other ones than ``orders``, at most ``seconds``."""
        with self._wake:
            self._wake.wait_for(lambda: self._orders != orders, timeout=seconds)

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
        self._shown = self._orders.answers
        niches, attraction = old.niches, old.attraction
        if niches is None or archive.standing is not self._standing:
            self._standing = archive.standing
            niches, attraction = niches_data(archive, evolver.task), attraction_data(archive)
        self.snapshot = Snapshot(
            phase=phase,
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
            answers=self._answers(evolver, niches),
        )

    def _answers(self, evolver: Evolver, niches: NichesData) -> tuple[Sample, ...]:
        """Return the best member's answers on the data points to be shown."""
        points = niches.points
        if self._shown == "wrong":
            row = niches.ids.index(evolver.best.id)
            points = points[niches.scores[row] < 1.0]
        places = np.unique(np.linspace(0, len(points) - 1, min(SHOWN, len(points))).astype(int))
        model = evolver.space.materialise(evolver.best.genome)
        return tuple(evolver.task.samples(model, np.sort(points[places])))
