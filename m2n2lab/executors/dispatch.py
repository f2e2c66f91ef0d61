"""Dispatch: the proposals of one run that are in flight, told to the evolver as scores arrive."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from m2n2lab.core.early_rejection import Trial
from m2n2lab.core.evolver import log_failure
from m2n2lab.core.records import Generation, Partial, Proposal
from m2n2lab.executors.pool import POLL_SECONDS, Pool
from m2n2lab.executors.replay import Arrivals
from m2n2lab.executors.worker import EvaluationError, Failure, Job, Lost, Result
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.concurrency.interrupts import interrupt_latch
from m2n2lab.utils.errors import message_of

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

MAX_RETRIES = 3
"""Retries of a proposal on other workers after its worker was lost."""

MAX_LOSSES_IN_A_ROW = 3
"""Consecutive workers that fail to start, or skipped proposals, at which a run gives up."""

log = logging.getLogger("m2n2lab")


class Skipped(NamedTuple):
    """A proposal that no worker could score, and the reason of the last failure."""

    proposal: Proposal
    reason: str


@dataclass
class Evaluation:
    """A proposal in flight.

    Attributes:
        number: its number in the record of arrivals.
        proposal: the proposal.
        genome: the child, bred at once because its parents may leave the archive meanwhile.
        trial: the scores so far, if children are scored chunk by chunk.
        indices: (n,) data points of the current chunk.
        tries: number of workers that were lost with it.
        failures: number of times that scoring or telling it raised an exception.
        orphan: whether the step in which one of its parents was born was taken back.
        began: monotonic time at which it was asked for.
    """

    number: int
    proposal: Proposal
    genome: Any
    trial: Trial | None
    indices: Indices | None = None
    tries: int = 0
    failures: int = 0
    orphan: bool = False
    began: float = field(default_factory=time.monotonic)


class Dispatch:
    """One run on a pool of workers, taken as a whole by ``run`` or polled by its caller.

    ::

        dispatch = pool.dispatch(evolver)
        dispatch.allow(10)
        while dispatch.pending:
            dispatch.poll()
        dispatch.finish()

    Args:
        pool: workers that hold the evolver's task and space.
        evolver: the search.
        arrivals: records the order of asking and telling.
        skipped: receives proposals that are given up.
        steps: number of steps that may be taken.
        until: after a generation for which this is true, no more children are asked for.
        catch: exceptions at which a child is skipped, which counts as one of the steps.
        retries: number of times that a child is tried again first, whatever was raised.

    Attributes:
        took: seconds from asking for the last child to telling it.
    """

    def __init__(
        self,
        pool: Pool,
        evolver: Evolver,
        arrivals: Arrivals,
        skipped: list[Skipped],
        steps: int = 0,
        until: Callable[[Generation], bool] | None = None,
        catch: tuple[type[Exception], ...] = (),
        retries: int = 0,
    ) -> None:
        self.took = 0.0
        self._catch, self._max_retries = catch, retries
        self._pool, self._evolver, self._until = pool, evolver, until
        self._arrivals, self._skipped = arrivals, skipped
        self._remaining: float = steps
        self._retries: deque[Evaluation] = deque()  # to be sent again
        self._sent: dict[int, Evaluation] = {}  # by number
        self._stopping = False
        self._failure: Exception | None = None
        self._failed_starts = self._skipped_in_a_row = 0
        self._unsubscribe = evolver.subscribe(lambda generation: None, self._mark_orphans)

    def run(self) -> None:
        """Poll until nothing is pending, and finish.

        Raises:
            EvaluationError, InputError: as ``finish``.
            KeyboardInterrupt: Ctrl-C; children in flight are finished before, unless it is pressed
                again.
        """
        with interrupt_latch() as interrupt:
            try:
                while self.pending:
                    self.poll()
                    if interrupt.pressed and not self._stopping:
                        self.stop_asking()
                        log.warning(
                            "Finishing %d evaluations; press Ctrl-C again to drop them.",
                            self.in_flight,
                        )
            finally:
                self.close()
        self.finish()
        if interrupt.pressed:
            raise KeyboardInterrupt

    @property
    def in_flight(self) -> int:
        """Number of proposals that were asked for but not told yet."""
        return len(self._sent) + len(self._retries)

    @property
    def pending(self) -> bool:
        """Whether any step is still to be taken."""
        return self.in_flight > 0 or (self._remaining > 0 and not self._stopping)

    def allow(self, steps: float) -> None:
        """Allow ``steps`` more steps; after a failure no more children are asked for."""
        if self._failure is None:
            if self._stopping:
                self._remaining, self._stopping = self.in_flight, False
            self._remaining += steps

    def stop_asking(self) -> None:
        """Ask for no more children; those in flight go on."""
        self._stopping = True

    def poll(self, timeout: float = POLL_SECONDS) -> None:
        """Send jobs to idle workers, and handle the results that arrive within ``timeout`` seconds.

        A failure is kept, to be raised by ``finish``.
        """
        self._assign_jobs()
        for worker, number, result in self._pool.wait(timeout):
            self._handle(worker, number, result)

    def finish(self) -> None:
        """End the run and raise its failure, if there was one.

        Raises:
            EvaluationError: the task raised, or too many workers in a row were lost.
            InputError: scores cannot be used.
        """
        self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the run; proposals in flight are asked for again by the next run."""
        self._unsubscribe()
        self._drop_all()

    def _mark_orphans(self) -> None:
        """Mark children of members that were taken back; called in any thread."""
        born = self._evolver.born
        for evaluation in (*self._sent.values(), *self._retries):
            evaluation.orphan |= any(parent >= born for parent in evaluation.proposal.parents)

    # -- to workers --------------------------------------------------------------------------------

    def _assign_jobs(self) -> None:
        """Give every idle worker a job."""
        for worker in tuple(self._pool.idle):
            if self._retries:
                evaluation = self._retries.popleft()
            elif len(self._sent) < self._remaining and not self._stopping:
                evaluation = self._ask()
            else:
                return
            self._sent[evaluation.number] = evaluation
            self._send(worker, evaluation, self._evolver.space.pack(evaluation.genome))

    def _ask(self) -> Evaluation:
        with self._arrivals.observing(self._evolver):  # else a parent could leave the archive
            proposal = self._evolver.ask()
            while self._is_in_flight(proposal):  # drawn again, after a step was taken back
                self._arrivals.dropped(self._arrivals.asked())
                proposal = self._evolver.ask()
            genome = self._evolver.breed(proposal)
            rejection = self._evolver.rejection
            trial = rejection.trial(proposal) if rejection else None
            evaluation = Evaluation(self._arrivals.asked(), proposal, genome, trial)
        if trial is not None:
            evaluation.indices = trial.upcoming()
        return evaluation

    def _is_in_flight(self, proposal: Proposal) -> bool:
        in_flight = (*self._sent.values(), *self._retries)
        return any(each.proposal.key == proposal.key for each in in_flight)

    def _send(self, worker: int, evaluation: Evaluation, genome: Any = None) -> None:
        self._pool.send(worker, evaluation.number, Job(genome, evaluation.indices))

    # -- from workers ------------------------------------------------------------------------------

    def _handle(self, worker: int, number: int | None, result: Result) -> None:
        """Handle the result of a worker that was starting (no number) or scoring."""
        if isinstance(result, Lost):
            self._pool.start()
        if number is None:
            self._handle_start(result)
            return
        evaluation = self._sent.get(number)
        if evaluation is None:  # dropped
            return
        if isinstance(result, Lost):
            del self._sent[number]
            self._retry(evaluation, result.reason)
        elif isinstance(result, Failure):
            error = result.error(f"Scoring {evaluation.proposal.child_text}")
            reason = f"{result.class_name}: {result.message}"
            self._take_failure(evaluation, error, reason, result.is_of(self._catch))
        elif result is not None:
            try:
                self._score(worker, evaluation, result)
            except Exception as error:
                if number in self._sent:
                    reason = f"{type(error).__name__}: {message_of(error)}"
                    self._take_failure(evaluation, error, reason, isinstance(error, self._catch))
                else:
                    # It was told, so an observer cannot write, for example. What is in flight
                    # would fail likewise, unheard.
                    self._fail(error)
                    self._drop_all()

    def _handle_start(self, result: Result) -> None:
        """Handle the first result of a worker."""
        if result is None:
            self._failed_starts = 0
        elif isinstance(result, Failure):
            self._fail(result.error("Opening the task in a worker"))
            self._drop_all()
        elif isinstance(result, Lost):
            self._failed_starts += 1
            if self._failed_starts == MAX_LOSSES_IN_A_ROW:
                self._fail(
                    EvaluationError(
                        f"{MAX_LOSSES_IN_A_ROW} workers in a row ended before they were ready, "
                        f"the last because {result.reason}; check that the task can be opened in "
                        f"another process."
                    )
                )
                self._drop_all()

    def _score(self, worker: int, evaluation: Evaluation, scores: Any) -> None:
        """Handle scores: request the child's next chunk, or tell the evolver its scores."""
        if evaluation.orphan:
            self._drop(evaluation)
            return
        trial = evaluation.trial
        if trial is not None:
            assert evaluation.indices is not None
            trial.add(evaluation.indices, scores)
            evaluation.indices = trial.next()
            if evaluation.indices is not None:
                self._send(worker, evaluation)
                return
            scores = trial.scores
        evolver = self._evolver
        seen = len(scores.indices) if isinstance(scores, Partial) else None
        with self._arrivals.observing(evolver):
            step = evolver.generation
            try:
                generation = evolver.tell(evaluation.proposal, scores, genome=evaluation.genome)
            finally:
                if evolver.generation > step:  # also if an observer raised
                    del self._sent[evaluation.number]
                    self._arrivals.told(evaluation.number, seen)
                    self._remaining -= 1
                    self._skipped_in_a_row = 0
                    self.took = time.monotonic() - evaluation.began
        if self._until is not None and self._until(generation):
            self._stopping = True

    # -- failures ----------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        """Ask for no more children, and keep the first error for ``finish``."""
        self._failure = self._failure or error
        self._stopping = True

    def _take_failure(
        self, evaluation: Evaluation, error: Exception, reason: str, caught: bool
    ) -> None:
        """Try a child again that could not be scored or told, skip it, or end the run."""
        evaluation.failures += 1
        left = self._max_retries + 1 - evaluation.failures
        if left > 0 or caught:
            log_failure(evaluation.proposal, reason, left)
        if left > 0:
            del self._sent[evaluation.number]
            rejection = self._evolver.rejection
            if rejection is not None:  # from its first data points on, as it may have had its last
                evaluation.trial = rejection.trial(evaluation.proposal)
                evaluation.indices = evaluation.trial.upcoming()
            self._retries.append(evaluation)
        elif caught:
            self._skipped.append(Skipped(evaluation.proposal, reason))
            self._drop(evaluation)
            self._remaining -= 1
        else:
            self._fail(error)
            self._drop(evaluation, again=True)

    def _retry(self, evaluation: Evaluation, reason: str) -> None:
        evaluation.tries += 1
        child = evaluation.proposal.child_text
        if evaluation.tries <= MAX_RETRIES:
            log.warning("A worker was lost (%s); %s is sent to another.", reason, child)
            self._retries.append(evaluation)
            return
        log.error("Skipped %s after %d tries: %s.", child, evaluation.tries, reason)
        self._skipped.append(Skipped(evaluation.proposal, reason))
        self._drop(evaluation)
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == MAX_LOSSES_IN_A_ROW:
            self._fail(
                EvaluationError(
                    f"{MAX_LOSSES_IN_A_ROW} proposals in a row could not be scored, the last "
                    f"because {reason}; check the task, or give it a longer timeout."
                )
            )
            self._drop_all()

    def _drop(self, evaluation: Evaluation, again: bool = False) -> None:
        """Forget a proposal in flight, or let the next run ask for it ``again``."""
        again = again and not evaluation.orphan
        self._sent.pop(evaluation.number, None)
        self._arrivals.dropped(evaluation.number, again)
        if again:
            self._evolver.put_back(evaluation.proposal)

    def _drop_all(self) -> None:
        for evaluation in (*self._sent.values(), *self._retries):
            self._drop(evaluation, again=True)
        self._retries.clear()
