"""Attendance: who is before the pages of a shared search; hands that are up; and who may steer."""

from __future__ import annotations

import json
from collections.abc import Callable

import panel as pn

from ..runs.people import People, Person
from ..runs.roles import Role


class AttendanceView:
    """One page's place among the people of a shared search.

    Args:
        people: all of them.
        changed: called, in any thread, when somebody comes, goes or changes.

    Attributes:
        shown: what the page's script shows, as JSON; empty if nobody else is here.
        said: what the person did, set by the page's script, which finds this widget by its name:
            ``"hand"``, ``"end"``, or the number of a viewer whose turn begins or ends; then a
            count.
        free: names of widgets that somebody who only watches can set.
    """

    free = ("people_said",)

    def __init__(self, people: People, changed: Callable[[], object]) -> None:
        self._people, self._changed = people, changed
        self._number: int | None = None
        self.shown = pn.widgets.TextInput(name="people", visible=False)
        self.shown.jscallback(value="show_people(cb_obj.value)")
        self.said = pn.widgets.TextInput(name="people_said", visible=False)
        self.said.param.watch(lambda event: self._on_said(event.new), "value")

    @property
    def person(self) -> Person | None:
        """The person before the page; ``None`` before the browser is there."""
        return None if self._number is None else self._people.find(self._number)

    def join(self, role: Role) -> None:
        """Count the person before the page, once."""
        if self.person is None:
            self._number = self._people.join(role, self._changed)

    def leave(self) -> None:
        """Stop counting the person: the page is gone."""
        if self._number is not None:
            self._people.leave(self._number)
            self._number = None

    def _on_said(self, said: str) -> None:
        what, _, _ = said.partition(" ")
        person = self.person
        if person is None:
            return
        if what == "hand":
            self._people.raise_hand(person.number, not person.hand)
        elif what == "end":
            self._people.end_turn(person.number)
        elif what.isdecimal() and (other := self._people.find(int(what))) is not None:
            self._people.give_turn(person.number, other.number, not other.turn)

    def update(self) -> None:
        """Show who is here."""
        here, me = self._people.all, self.person
        if me is None or (len(here) < 2 and me.role.steers):
            self.shown.value = ""
            return
        self.shown.value = json.dumps(
            {
                "me": me.number,
                "teaches": me.role.steers,
                "steers": me.steers,
                "people": [
                    {
                        "number": person.number,
                        "name": person.name,
                        "teaches": person.role.steers,
                        "colour": person.colour,
                        "hand": person.hand,
                        "turn": person.turn,
                    }
                    for person in here
                ],
            }
        )
