"""One run on several workers: proposals go out, children are told as they come in."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m2n2lab.errors import InputError
from m2n2lab.executors.pool import POLL, Skipped
from m2n2lab.executors.worker import EvaluationError, Failure, Job, Lost, Result
from m2n2lab.records import Generation, Partial, Proposal
from m2n2lab.rejection import Trial
from m2n2lab.tasks.base import Indices
from m2n2lab.utils.interrupts import interrupt_latch

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.executors.pool import Crew

RETRIES = 3
"""How often a proposal goes to another worker."""

HOPELESS = 3
"""Workers that fail to start, or proposals that are skipped, in a row, before a run gives up."""

log = logging.getLogger("m2n2lab")


@dataclass
class Case:
    """A proposal in flight.

    Attributes:
        genome: kept here, because the parents may be dead by the time that it is told.
        trial: how far it is, where children are scored chunk by chunk.
        tries: how often it was lost.
        orphan: whether the step that bore a parent of it was taken back.
        began: when it was asked for.
    """

    number: int
    proposal: Proposal
    genome: Any
    trial: Trial | None
    indices: Indices | None = None
    tries: int = 0
    orphan: bool = False
    began: float = field(default_factory=time.monotonic)


class Flight:
    """The proposals of one run: ``Crew.run`` waits for all of it, a page takes it beat by beat.

    ::

        flight = crew.fly(evolver)
        flight.allow(10)
        while flight.aloft:
            flight.beat()
        flight.land()

    Args:
        crew: who scores the children.
        evolver: the search.
        steps: how many children may be told.
        until: a generation for which this is true is the last one after which any is asked for.

    Attributes:
        took: seconds from asking for the last child that was told to telling it.
    """

    def __init__(
        self,
        crew: Crew,
        evolver: Evolver,
        steps: int = 0,
        until: Callable[[Generation], bool] | None = None,
    ) -> None:
        self.took = 0.0
        self._crew, self._evolver, self._until = crew, evolver, until
        self._left: float = steps
        self._queue: deque[Case] = deque()  # lost by their workers
        self._flying: dict[int, Case] = {}  # by number
        self._stopping = False
        self._failure: Exception | None = None
        self._bad_starts = self._bad_cases = 0  # in a row
        self._leave = evolver.subscribe(lambda generation: None, self._undone)

    def run(self) -> None:
        """Fly until all is told, and land."""
        with interrupt_latch() as interrupt:
            try:
                while self.aloft:
                    self.beat()
                    if interrupt.pressed and not self._stopping:
                        self.hold()
                        log.warning("Finishing %d evaluations; Ctrl-C again drops them.", self.many)
            finally:
                self.close()
        self.land()
        if interrupt.pressed:
            raise KeyboardInterrupt

    @property
    def many(self) -> int:
        """How many proposals were asked for and wait to be told."""
        return len(self._flying) + len(self._queue)

    @property
    def aloft(self) -> bool:
        """Whether there is something to wait for."""
        return self.many > 0 or (self._left > 0 and not self._stopping)

    def allow(self, steps: float) -> None:
        """Let so many more children be told; after a failure nothing is asked for any more."""
        if self._failure is None:
            if self._stopping:
                self._left, self._stopping = self.many, False
            self._left += steps

    def hold(self) -> None:
        """Ask for no more; what is in flight goes on."""
        self._stopping = True

    def beat(self, most: float = POLL) -> None:
        """Hand out what there is to do, and take what comes within ``most`` seconds.

        What goes wrong is kept, to be raised by ``land``.
        """
        self._hand_out()
        for worker, number, result in self._crew.wait(most):
            self._take(worker, number, result)

    def land(self) -> None:
        """End the run; raises what went wrong in it.

        Raises:
            EvaluationError: the task raised, or workers were lost again and again.
            InputError: scores that cannot be used.
        """
        self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the run; what is in flight is never told."""
        self._leave()
        self._drop_all()

    def _undone(self) -> None:
        """Note whose parents have never been: the last step was taken back, in any thread."""
        born = self._evolver.born
        for case in (*self._flying.values(), *self._queue):
            case.orphan |= any(parent >= born for parent in case.proposal.parents)

    # -- out ---------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give every idle worker something to do."""
        for worker in tuple(self._crew.idle):
            if self._queue:
                case = self._queue.popleft()
            elif len(self._flying) < self._left and not self._stopping:
                case = self._ask()
            else:
                return
            self._flying[case.number] = case
            self._send(worker, case, self._evolver.space.pack(case.genome))

    def _ask(self) -> Case:
        with self._evolver.turn():  # or a parent could die in between
            proposal = self._evolver.ask()
            genome = self._evolver.breed(proposal)
            rejection = self._evolver.rejection
            trial = rejection.trial(proposal) if rejection else None
        case = Case(self._crew.arrivals.asked(), proposal, genome, trial)
        if trial is not None:
            case.indices = trial.upcoming()
        return case

    def _send(self, worker: int, case: Case, genome: Any = None) -> None:
        self._crew.send(worker, case.number, Job(genome, case.indices))

    # -- in ----------------------------------------------------------------------------------------

    def _take(self, worker: int, number: int | None, result: Result) -> None:
        """Take what came from a worker that was starting (no number) or scoring."""
        if isinstance(result, Lost):
            self._crew.start()
        if number is None:
            self._greet(result)
            return
        case = self._flying.get(number)
        if case is None:  # dropped
            return
        if isinstance(result, Lost):
            del self._flying[number]
            self._retry(case, result.reason)
        elif isinstance(result, Failure):
            self._fail(result.error(f"Scoring {_name(case)}"))
            self._drop(case)
        elif result is not None:
            try:
                self._score(worker, case, result)
            except Exception as error:
                self._fail(error)
                if not isinstance(error, InputError):
                    # Not this child's fault: an observer cannot write, for one. What is in flight
                    # would meet the same, and nobody would hear of it.
                    self._drop_all()

    def _greet(self, result: Result) -> None:
        """Take the first word of a worker."""
        if result is None:
            self._bad_starts = 0
        elif isinstance(result, Failure):
            self._fail(result.error("Opening the task in a worker"))
            self._drop_all()
        elif isinstance(result, Lost):
            self._bad_starts += 1
            if self._bad_starts == HOPELESS:
                words = f"{HOPELESS} workers in a row ended before they were ready"
                self._fail(EvaluationError(f"{words}, the last because {result.reason}."))
                self._drop_all()

    def _score(self, worker: int, case: Case, scores: Any) -> None:
        """Take scores: go on with the child's next chunk, or tell it."""
        if case.orphan:
            self._drop(case)
            return
        trial = case.trial
        if trial is not None:
            assert case.indices is not None
            try:
                trial.add(case.indices, scores)
                case.indices = trial.next()
            except Exception:
                self._drop(case)
                raise
            if case.indices is not None:
                self._send(worker, case)
                return
            scores = trial.scores
        step = self._evolver.generation
        seen = len(scores.indices) if isinstance(scores, Partial) else None
        try:
            generation = self._evolver.tell(case.proposal, scores, genome=case.genome)
        finally:
            if self._evolver.generation > step:  # also where an observer raised
                del self._flying[case.number]
                self._crew.arrivals.told(case.number, seen)
                self._left -= 1
                self._bad_cases = 0
                self.took = time.monotonic() - case.began
            else:
                self._drop(case)
        if self._until is not None and self._until(generation):
            self._stopping = True

    def _fail(self, error: Exception) -> None:
        """Ask for no more, and raise this in the end."""
        self._failure = self._failure or error
        self._stopping = True

    # -- what went wrong ---------------------------------------------------------------------------

    def _retry(self, case: Case, reason: str) -> None:
        case.tries += 1
        if case.tries <= RETRIES:
            log.warning("A worker was lost (%s); %s goes to another.", reason, _name(case))
            self._queue.append(case)
            return
        log.error("Skipped %s after %d tries: %s.", _name(case), case.tries, reason)
        self._crew.skipped.append(Skipped(case.proposal, reason))
        self._drop(case)
        self._bad_cases += 1
        if self._bad_cases == HOPELESS:
            self._fail(
                EvaluationError(
                    f"{HOPELESS} proposals in a row could not be scored, the last because "
                    f"{reason}; look at the task, or give it more time."
                )
            )
            self._drop_all()

    def _drop(self, case: Case) -> None:
        self._flying.pop(case.number, None)
        self._crew.arrivals.dropped(case.number)

    def _drop_all(self) -> None:
        for case in (*self._flying.values(), *self._queue):
            self._drop(case)
        self._queue.clear()


def _name(case: Case) -> str:
    parents = " × ".join(map(str, case.proposal.parents))
    return f"the child of {parents}" if parents else "a child without parents"
