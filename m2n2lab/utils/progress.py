"""Progress of long evaluations: reports while they run, and how they are stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from m2n2lab.utils.concurrency.subscribers import Subscribers
from m2n2lab.utils.text import duration


class Halted(Exception):  # noqa: N818  # not an error: the stop was requested
    """A requested stop of an evaluation; the task keeps the answers given so far."""


@dataclass(frozen=True)
class Progress:
    """A report on one running evaluation.

    Attributes:
        done: questions answered.
        total: questions asked.
        tokens: tokens generated for the answers.
        seconds: time since the first question.
        unit: name of one question.
        known: questions whose answers were known before, which took no time.
        step: number of the step that the next answers have reached, such as of denoising; 0 if
            there are none, or they are not under way.
        steps: steps of an answer.
        together: questions that are being answered.
    """

    done: int
    total: int
    tokens: int
    seconds: float
    unit: str = "question"
    known: int = 0
    step: int = 0
    steps: int = 1
    together: int = 1

    @property
    def rate(self) -> float:
        """Generated tokens per second; 0 before there are any."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds until all are answered, at the speed so far; 0 if that is not known."""
        begun = self.together * self.step / max(self.steps, 1)
        made = self.done - self.known + begun
        return max(self.total - self.done - begun, 0.0) * self.seconds / made if made > 0 else 0.0

    @property
    def words(self) -> str:
        """The report as text, such as ``question 3 of 10, 120 tokens/s, 0:40 left``."""
        found = f"{self.unit} {self.done} of {self.total}"
        if self.step:
            first, last = self.done + 1, min(self.done + self.together, self.total)
            which = f"{self.unit} {first}" if last <= first else f"{self.unit}s {first}–{last}"
            found = f"{which} of {self.total}, step {self.step} of {self.steps}"
        found += f", {self.rate:,.0f} tokens/s" if self.tokens else ""
        return found + (f", {duration(self.left)} left" if self.left >= 1.0 else "")


def _never() -> bool:
    return False


def _ignore(progress: Progress) -> None:
    del progress


@dataclass
class Watch:
    """An observer of evaluations that can stop them.

    Attributes:
        progress: called with a report after each batch.
        halted: called before each batch and each token, such as ``threading.Event.is_set``; once
            it returns true the evaluation ends with ``Halted``.
    """

    progress: Callable[[Progress], object] = _ignore
    halted: Callable[[], bool] = _never

    def check(self) -> None:
        """Return if the evaluation may go on.

        Raises:
            Halted: a stop was requested.
        """
        if self.halted():
            raise Halted("The evaluation was stopped before all questions were answered.")


class Watches(Watch):
    """Several watches as one; they can be added and removed during an evaluation."""

    def __init__(self) -> None:
        super().__init__(self._report, self._any_halted)
        self._watches: Subscribers[Watch] = Subscribers()

    def add(self, watch: Watch) -> Callable[[], None]:
        """Add a watch and return a function that removes it."""
        return self._watches.add(watch)

    def _report(self, progress: Progress) -> None:
        for watch in self._watches:
            watch.progress(progress)

    def _any_halted(self) -> bool:
        return any(watch.halted() for watch in self._watches)


@dataclass
class Meter:
    """A counter of answers and tokens of one evaluation, which reports to a watch."""

    watch: Watch
    total: int
    unit: str = "question"
    done: int = 0
    known: int = 0
    tokens: int = 0
    start: float = field(default_factory=time.monotonic)

    def add(self, done: int, tokens: int, known: bool = False) -> None:
        """Count more answers and tokens; ``known`` ones took no time."""
        self.done += done
        self.known += done if known else 0
        self.tokens += tokens
        self._report()

    def step(self, step: int, steps: int, together: int) -> None:
        """Report the step that the next ``together`` answers have reached."""
        self._report(step=step, steps=steps, together=together)

    def _report(self, **more: int) -> None:
        seconds = time.monotonic() - self.start
        self.watch.progress(
            Progress(self.done, self.total, self.tokens, seconds, self.unit, self.known, **more)
        )
