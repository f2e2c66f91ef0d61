"""Tour: stops that lead a newcomer from a first merge by hand to a search from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import param

from m2n2lab.viz.theme import Theme

from ..html.assets import asset
from ..session.session import Session
from ..session.snapshot import Snapshot
from ..session.workbench import Choice
from ..views.themed import Themed
from .stops import STOPS, Moment

DONE_UPDATES = 20
"""Updates for which a finished stop stays once a browser shows it, so that its effect is seen."""


class TourGuide(Themed):
    """The button that starts the tour, the invitation, and the bubble of a stop."""

    _esm = asset("tour/tour.js")
    _stylesheets: ClassVar = [asset("tour/tour.css")]

    shown = param.Dict(
        default={}, doc="Text and target of the bubble; empty while the tour is closed."
    )
    seen = param.Integer(default=0, doc="The stop that a browser shows as done; 0 for none.")
    asked = param.List(default=[], doc="The last presses, each with its number, from 1.")
    touch = param.Boolean(default=False, doc="Whether the browser is used by touch alone.")


class Tour:
    """Leads through the page; it judges by snapshots what the person has done.

    Args:
        session: returns the search that the page shows and the tour steers.
        theme: colours.
        begin: has the page show a search for what follows, from two specialists or from random
            networks: a new one, or the one that was shown for that before.
    """

    def __init__(
        self,
        session: Callable[[], Session],
        theme: Theme,
        begin: Callable[[bool, bool], None] = lambda pretrained, new: None,
    ) -> None:
        self.pane = TourGuide.themed(theme)
        self._session, self._begin = session, begin
        self._at: int | None = None  # index in STOPS
        self._now: Moment  # of the stop that is open
        self._choice: Choice  # on the bench at the last update
        self._done_updates = 0  # since the stop is shown as done and the choice is the same
        self._helped: Snapshot | None = None  # the snapshot when help was asked for last
        self._last_press = 0  # number of the last press
        self.pane.param.watch(lambda event: self._on_presses(event.new), "asked")

    @property
    def stop(self) -> int:
        """The stop that is open, from 1; 0 while the tour is closed."""
        return 0 if self._at is None else self._at + 1

    def start(self) -> None:
        """Open the first stop."""
        self._begin(STOPS[0].pretrained, True)
        self._open(0)

    def toggle(self) -> None:
        """Open the first stop, or end the tour where it is open."""
        if self._at is None:
            self.start()
        else:
            self.skip()

    def back(self) -> None:
        """Go to the stop before."""
        if self._at:
            self._move(self._at - 1)

    def next(self) -> None:
        """Go to the next stop; after the last the tour is over."""
        if self._at is None:
            return
        if self._at + 1 < len(STOPS):
            self._move(self._at + 1)
        else:
            self.skip()

    def _move(self, at: int) -> None:
        """Open another stop, with its search on the page."""
        assert self._at is not None
        if STOPS[at].pretrained != STOPS[self._at].pretrained:
            self._begin(STOPS[at].pretrained, at > self._at)
        self._open(at, self._now.note)

    def skip(self) -> None:
        """End the tour."""
        self._at = None
        self._send({})

    def help(self) -> None:
        """Do what the stop asks for the person."""
        if self._at is None or self._now.done:
            return
        snapshot = self._now.session.snapshot
        if (help := STOPS[self._at].help) and snapshot is not self._helped:
            self._helped = snapshot  # a second press changes nothing until the first is followed
            help(replace(self._now, snapshot=snapshot))

    def update(self, snapshot: Snapshot) -> None:
        """Judge by a snapshot whether the stop is done; to be called at every refresh of the page.

        Also if the snapshot is still the last one: a finished stop stays for some updates.
        """
        if self._at is None:
            return
        session, now = self._session(), self._now
        if session is not now.session:  # the page shows another search now
            self._open(self._at)
            return
        note, touch = snapshot.note or now.note, self.pane.touch
        now = replace(now, snapshot=snapshot, note=note, touch=touch)
        stop, undone = STOPS[self._at], snapshot.step < self._now.snapshot.step
        done = (now.done and not undone) or stop.done(now)
        self._now = replace(now, done=done and not stop.failed(now))
        left_alone = session.orders.choice is self._choice
        seen = self._now.done and self.pane.seen == self.stop
        self._done_updates = self._done_updates + 1 if seen and left_alone else 0
        self._choice = session.orders.choice
        if self._done_updates > DONE_UPDATES:
            self.next()
        else:
            self._show_stop()

    def _on_presses(self, presses: list[tuple[int, str]]) -> None:
        """Do what was pressed; several presses may arrive at once."""
        known = {
            "start": self.start,
            "toggle": self.toggle,
            "back": self.back,
            "next": self.next,
            "help": self.help,
            "skip": self.skip,
        }
        for number, what in presses:
            if number > self._last_press:
                self._last_press = number
                known[what]()

    def _open(self, at: int, note: str = "") -> None:
        session = self._session()
        snapshot, self._choice = session.snapshot, session.orders.choice
        self._at, self._done_updates, self._helped = at, 0, None
        self.pane.seen = 0
        self._now = Moment(
            session, snapshot, snapshot.step, self._choice, note, touch=self.pane.touch
        )
        self._show_stop()

    def _show_stop(self) -> None:
        """Show the open stop."""
        assert self._at is not None
        stop = STOPS[self._at]
        hint = stop.hint(self._now)
        if self._now.snapshot.phase == "failed":
            hint = "The search has stopped; its message says why."
        self._send(
            {
                "number": self.stop,
                "of": len(STOPS),
                "title": stop.title,
                "text": stop.text,
                "section": stop.section,
                "controls": list(stop.controls),
                "hint": hint,
                "done": self._now.done,
                "helps": stop.help is not None and not self._now.done,
            }
        )

    def _send(self, shown: dict[str, Any]) -> None:
        """Send what the bubble shows, if it is new."""
        if self.pane.shown != shown:
            self.pane.shown = shown
