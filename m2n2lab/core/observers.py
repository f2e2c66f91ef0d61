"""Observers of a search, which are called with every generation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from m2n2lab.core.records import Generation
from m2n2lab.utils.concurrency.subscribers import Subscribers

Observer = Callable[[Generation], object]
log = logging.getLogger("m2n2lab")


@dataclass
class _Subscription:
    observer: Observer
    undo: Callable[[], object] | None
    strict: bool
    reported: bool = False


class Observers:
    """Observers in the order of subscription; they can subscribe and unsubscribe during a call."""

    def __init__(self) -> None:
        self._subscriptions: Subscribers[_Subscription] = Subscribers()

    def subscribe(
        self, observer: Observer, undo: Callable[[], object] | None = None, strict: bool = False
    ) -> Callable[[], None]:
        """Call ``observer`` with every generation from now on; return a function that ends this.

        Args:
            observer: called with each generation. If it raises, the error is logged once, and the
                search and the other observers go on.
            undo: called when the last generation is taken back.
            strict: raise the observer's error after all observers were called.
        """
        return self._subscriptions.add(_Subscription(observer, undo, strict))

    def __len__(self) -> int:
        return len(self._subscriptions)

    def notify(self, generation: Generation) -> None:
        """Call every observer with a generation."""
        failure: Exception | None = None
        for subscription in self._subscriptions:
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

    def notify_undone(self) -> None:
        """Call every ``undo``, because the last generation was taken back."""
        for subscription in self._subscriptions:
            if subscription.undo is not None:
                subscription.undo()
