"""A registry of subscribers that can subscribe and unsubscribe while they are being called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Subscribers(Generic[T]):
    """Subscribers in the order in which they subscribed.

    Iteration goes over a copy, so subscribers can be added and removed meanwhile, also by other
    threads.
    """

    def __init__(self) -> None:
        self._all: dict[int, T] = {}
        self._numbers = count()

    def add(self, subscriber: T) -> Callable[[], None]:
        """Add a subscriber and return a function that removes it, which can be called twice."""
        number = next(self._numbers)
        self._all[number] = subscriber

        def unsubscribe() -> None:
            self._all.pop(number, None)

        return unsubscribe

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._all.values()))
