"""Who watches a search from outside, and hears of every generation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from m2n2lab.records import Generation

Observer = Callable[[Generation], object]
log = logging.getLogger("m2n2lab")


@dataclass
class _Subscription:
    observer: Observer
    undo: Callable[[], object] | None
    strict: bool
    reported: bool = False


class Observers:
    """Observers in the order in which they came; they can come and go while one is called."""

    def __init__(self) -> None:
        self._all: dict[int, _Subscription] = {}  # by number
        self._next = 0

    def subscribe(
        self, observer: Observer, undo: Callable[[], object] | None = None, strict: bool = False
    ) -> Callable[[], None]:
        """Call ``observer`` with every generation from now on; returns a function that ends it.

        Args:
            observer: what to call. One that raises is reported once in the log, and neither stops
                the search nor the other observers.
            undo: called when the last generation is taken back.
            strict: raise what the observer raises, once all have been called.
        """
        number = self._next
        self._next += 1
        self._all[number] = _Subscription(observer, undo, strict)

        def unsubscribe() -> None:
            self._all.pop(number, None)

        return unsubscribe

    def __len__(self) -> int:
        return len(self._all)

    def notify(self, generation: Generation) -> None:
        """Tell all of a generation."""
        failure: Exception | None = None
        for subscription in tuple(self._all.values()):
            try:
                subscription.observer(generation)
            except Exception as error:
                if subscription.strict:
                    failure = failure or error
                elif not subscription.reported:
                    subscription.reported = True
                    log.exception(
                        "Observer %r failed at step %d; the search goes on.",
                        subscription.observer,
                        generation.step,
                    )
        if failure is not None:
            raise failure

    def undone(self) -> None:
        """Tell those who want to know that the last generation was taken back."""
        for subscription in tuple(self._all.values()):
            if subscription.undo is not None:
                subscription.undo()
