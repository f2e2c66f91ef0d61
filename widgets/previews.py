"""What a worker does on the bench for those who look: previews, the landscape, pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from m2n2lab.turns import Turns
from m2n2lab.utils.progress import Halted

from .hindsight import Hindsight
from .orders import Orders
from .workbench import VOTES, Choice, Filter, Workbench

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver

    from .tape import Tape

PREVIEW_EVERY = 3.0
"""Least seconds between two previews of a pair that nobody chose, while the search runs."""

COARSE = 25
"""Cells of the landscape of a pair that nobody chose, while the search runs."""


class Previews(Hindsight):
    """A search whose bench is kept up to date with the orders.

    Where a child takes seconds, what is evaluated at rest makes room for steps as soon as some are
    ordered, and is begun anew when no more are.

    Args:
        record: begins to record the search, or says why that cannot be.
        follow: whether somebody takes the place of a chosen parent that has died.
    """

    def __init__(self, record: Callable[[Evolver], Tape | str], follow: bool) -> None:
        super().__init__(record)
        self._follow = follow
        self._bench: Workbench  # the worker's, as all that follows
        self._turn = Turns()  # the evolver's, once there is one
        self._benched: tuple[Choice, Filter] | None = None  # what was previewed last
        self._previewed = 0.0  # when
        self._hurry = False  # whether the page waits for what has just been done
        self._yields = False  # whether what is evaluated makes room for steps
        self._interrupted = False  # whether it has just done so: the step comes first then

    def _serve_bench(self, orders: Orders) -> None:
        """Do what was ordered of the bench, and preview what is on it now."""
        choice, wanted, forced = orders.choice, orders.filter, False
        for name, shown in orders.commands:
            self._hurry = True
            if name == "merge":
                self._bench.merge(shown)
            elif name == "undo":
                self._bench.undo()
            elif name in VOTES:
                self._bench.vote(name)
            else:
                forced = True
                if name == "propose":
                    choice = self._bench.propose()
                    with self._wake:
                        self._order(choice=choice)
        done = bool(orders.commands) and self._bench.note
        if self._follow and (living := self._bench.living(choice))[0] != choice:
            with self._wake:
                if self._orders.choice in (choice, orders.choice):  # else there is another by now
                    self._order(choice=living[0])
            choice = living[0]
        old, dated = self._benched, self._bench.dated
        if not forced and not self._preview_due(replace(orders, choice=choice)):
            return
        self._benched, self._previewed, self._hurry = (choice, wanted), time.monotonic(), True
        # What became of a merge is still to be read when the next pair is shown.
        note = self._bench.note if old and old[0] == choice else ""
        try:
            if old and old[0] == choice and not dated and not forced:
                self._bench.answer(wanted)
                return
            self._bench.show(choice, wanted)
        except Halted:
            self._benched = None  # it is made once no more steps are wanted
            raise
        self._bench.note = self._bench.note or note
        if self._follow:
            notes = (done, living[1], "" if done == self._bench.note else self._bench.note)
            self._bench.note = " ".join(note for note in notes if note)

    def _preview_due(self, orders: Orders) -> bool:
        """Return whether there is something to preview: a choice, or a new pair if none is made."""
        if self._interrupted and orders.stepping:
            return False
        if self._benched is None:
            return True
        choice, wanted = self._benched
        if orders.choice != choice:
            return not self._bench.slow
        if orders.filter != wanted:
            return True
        late = not orders.busy or time.monotonic() - self._previewed > PREVIEW_EVERY
        if choice.a is not None or self._bench.data is None or not self._bench.dated:
            return False
        return not orders.busy and self._bench.stale if self._bench.slow else late

    def _mapping(self, orders: Orders) -> bool:
        """Return whether more of the landscape is wanted."""
        known = self._bench.landscape
        if known is None or known.complete or not orders.attended:
            return False
        if orders.mapping is not None or self._bench.slow:
            return bool(orders.mapping)
        return not orders.busy or orders.choice.a is not None or known.done < COARSE

    def _explore(self) -> None:
        self._turn.give_way()
        with self._turn():
            self._bench.explore()

    def _paint(self, orders: Orders) -> bool:
        """Draw some of what the gallery lacks; returns whether it lacked something."""
        if orders.looking is None:  # nor is anybody's turn waited for
            return False
        self._turn.give_way()
        with self._turn():
            if not self._bench.look(orders.looking):
                return False
            self._bench.gallery.draw()
            self._bench.look(orders.looking)
            return True
