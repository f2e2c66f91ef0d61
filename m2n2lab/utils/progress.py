"""Progress of long evaluations: how far they are, who follows them, and how they are stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from m2n2lab.utils.subscribers import Subscribers


class Halted(Exception):  # noqa: N818  # not an error: a person asked for it
    """An evaluation was asked to stop; what was answered so far is kept by the task."""


@dataclass(frozen=True)
class Progress:
    """How far the questions of one evaluation are.

    Attributes:
        done: questions that are answered.
        total: questions that were asked.
        tokens: tokens that were generated for them.
        seconds: since the first was asked.
        unit: what one of them is called.
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
        """How far it is, as text."""
        speed = f", {self.rate:,.0f} tokens/s" if self.tokens else ""
        return f"{self.unit} {self.done} of {self.total}{speed}"


def _never() -> bool:
    return False


def _ignore(progress: Progress) -> None:
    del progress


@dataclass
class Watch:
    """A follower of evaluations, which may stop them.

    Attributes:
        progress: called after each batch.
        halted: asked before each batch and each token, as ``threading.Event.is_set``; once it is
            true the evaluation ends with ``Halted``.
    """

    progress: Callable[[Progress], object] = _ignore
    halted: Callable[[], bool] = _never

    def check(self) -> None:
        """Return if the evaluation may go on.

        Raises:
            Halted: a stop was asked for.
        """
        if self.halted():
            raise Halted("The evaluation was stopped before all questions were answered.")


class Watches(Watch):
    """Several watches of the same evaluations as one; they may be added and removed meanwhile."""

    def __init__(self) -> None:
        super().__init__(self._report, self._any_halted)
        self._watches: Subscribers[Watch] = Subscribers()

    def add(self, watch: Watch) -> Callable[[], None]:
        """Add a watch; returns a function that removes it."""
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
