"""A registry of subscribers that may subscribe and unsubscribe while they are being called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Subscribers(Generic[T]):
    """Subscribers in the order in which they subscribed.

    Iterating goes over those of the moment at which it began, so a subscriber may leave, or another
    thread may add one, meanwhile.
    """

    def __init__(self) -> None:
        self._all: dict[int, T] = {}
        self._numbers = count()

    def add(self, subscriber: T) -> Callable[[], None]:
        """Add a subscriber; returns a function that removes it, which may be called twice."""
        number = next(self._numbers)
        self._all[number] = subscriber

        def unsubscribe() -> None:
            self._all.pop(number, None)

        return unsubscribe

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._all.values()))
