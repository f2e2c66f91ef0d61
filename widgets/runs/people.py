"""People: who is before the pages of a shared search, and whose orders it follows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from .roles import Role

COLOURS = (
    *("#0072b2", "#d55e00", "#00875f", "#b24a86", "#8664b2", "#9a6a00", "#2a7f9e", "#a83232"),
)
"""One for each person, one after the other: dark enough for white letters."""


@dataclass(frozen=True)
class Person:
    """One person before a page.

    Attributes:
        number: counted from 1 in the shared search; never reused.
        role: what the person's link says.
        hand: whether a viewer's hand is up.
        turn: whether a viewer may steer for now.
    """

    number: int
    role: Role
    hand: bool = False
    turn: bool = False

    @property
    def name(self) -> str:
        """What others call the person."""
        return f"{'Teacher' if self.role.steers else 'Viewer'} {self.number}"

    @property
    def colour(self) -> str:
        """The person's own colour."""
        return COLOURS[(self.number - 1) % len(COLOURS)]

    @property
    def steers(self) -> bool:
        """Whether the search follows the person's orders."""
        return self.role.steers or self.turn


class People:
    """Everybody before the pages of one search; may be used in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._people: dict[int, Person] = {}
        self._changed: dict[int, Callable[[], object]] = {}
        self._count = 0

    @property
    def all(self) -> tuple[Person, ...]:
        """Those who are here: teachers first, then in the order in which they came."""
        here = tuple(self._people.values())
        return tuple(sorted(here, key=lambda person: (not person.role.steers, person.number)))

    def join(self, role: Role, changed: Callable[[], object]) -> int:
        """Add a person; returns the number.

        Args:
            role: what the person may do.
            changed: called when anybody comes, goes or changes.
        """
        with self._lock:
            self._count += 1
            number = self._count
            self._people[number] = Person(number, role)
            self._changed[number] = changed
        self._tell()
        return number

    def leave(self, number: int) -> None:
        """Remove a person."""
        with self._lock:
            self._changed.pop(number, None)
            known = self._people.pop(number, None) is not None
        if known:
            self._tell()

    def find(self, number: int) -> Person | None:
        """Return a person who is here."""
        return self._people.get(number)

    def raise_hand(self, number: int, up: bool) -> None:
        """Put a viewer's hand up, or down."""
        self._set(number, hand=up)

    def give_turn(self, by: int, number: int, on: bool) -> None:
        """Let a viewer steer, or not any more; only a teacher can, and one viewer at a time."""
        giver, taker = self.find(by), self.find(number)
        if giver is None or not giver.role.steers or taker is None or taker.role.steers:
            return
        with self._lock:
            for other in self._people.values():
                if other.turn and on:
                    self._people[other.number] = replace(other, turn=False)
        self._set(number, turn=on, hand=False)

    def end_turn(self, number: int) -> None:
        """Give the own turn back."""
        self._set(number, turn=False)

    def _set(self, number: int, **fields: bool) -> None:
        with self._lock:
            person = self._people.get(number)
            if person is None or person.role.steers:
                return
            self._people[number] = replace(person, **fields)
        self._tell()

    def _tell(self) -> None:
        for changed in tuple(self._changed.values()):
            changed()
