"""Progress of long evaluations: reports while they run, and how they are stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from m2n2lab.utils.subscribers import Subscribers


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
    """

    done: int
    total: int
    tokens: int
    seconds: float
    unit: str = "question"

    @property
    def rate(self) -> float:
        """Generated tokens per second; 0 before there are any."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def words(self) -> str:
        """The report as text, such as ``question 3 of 10, 120 tokens/s``."""
        speed = f", {self.rate:,.0f} tokens/s" if self.tokens else ""
        return f"{self.unit} {self.done} of {self.total}{speed}"


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
    tokens: int = 0
    start: float = field(default_factory=time.monotonic)

    def add(self, done: int, tokens: int) -> None:
        """Count more answers and tokens."""
        self.done += done
        self.tokens += tokens
        seconds = time.monotonic() - self.start
        self.watch.progress(Progress(self.done, self.total, self.tokens, seconds, self.unit))
