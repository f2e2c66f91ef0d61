"""Previews, the landscape and pictures of the pair on the bench, made as pages order them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from m2n2lab.utils.progress import Halted

from .orders import Mailbox, Orders
from .workbench import VOTES, Choice, Filter, Workbench

if TYPE_CHECKING:
    from m2n2lab.analysis.lineage import Lineage
    from m2n2lab.core.evolver import Evolver

PREVIEW_EVERY = 3.0
"""Least seconds between two previews of a pair that was not chosen, while the search runs."""

COARSE = 25
"""Cells of the landscape of a pair that was not chosen, while the search runs."""


class Previews:
    """A workbench that is kept up to date with the orders; only the worker uses it.

    Where a child takes seconds, what is evaluated at rest makes room for steps as soon as some are
    ordered, and is begun anew when no more are.

    Args:
        evolver: the search.
        lineage: of its members.
        orders: of the search; a proposal of its own is put into them.
        follow: whether a parent that was chosen and has died is replaced by a member that lives.

    Attributes:
        workbench: the bench itself.
        turn: of the evolver.
    """

    def __init__(self, evolver: Evolver, lineage: Lineage, orders: Mailbox, follow: bool) -> None:
        self.workbench = Workbench(evolver, lineage)
        self.turn = evolver.turn
        self._done = False  # whether a page waits for what was done in ``serve``
        self._orders = orders
        self._follow = follow
        self._benched: tuple[Choice, Filter] | None = None  # what was previewed last
        self._previewed = 0.0  # when

    def serve(self, orders: Orders, step_first: bool) -> bool:
        """Do what was ordered of the bench, and preview what is on it now.

        Args:
            orders: as they were taken.
            step_first: preview only what is ordered as a command.

        Returns:
            Whether a page waits for what was done.

        Raises:
            Halted: a preview was stopped; it is made at the next call that is not ``step_first``.
        """
        with self.turn():
            self._serve(orders, step_first)
        done, self._done = self._done, False  # not where it was stopped: the next call says so
        return done

    def _serve(self, orders: Orders, step_first: bool) -> None:
        bench = self.workbench
        choice, wanted, forced = orders.choice, orders.filter, False
        for name, shown in orders.commands:
            self._done = True
            if name == "merge":
                bench.merge(shown)
            elif name == "undo":
                bench.undo()
            elif name in VOTES:
                bench.vote(name)
            else:
                forced = True
                if name == "propose":
                    choice = bench.propose()
                    self._orders.put(choice)
        done = bool(orders.commands) and bench.note
        if self._follow and (living := bench.living(choice))[0] != choice:
            self._orders.put(living[0], over=(choice, orders.choice))
            choice = living[0]
        old, dated = self._benched, bench.dated
        due = not step_first and self._due(replace(orders, choice=choice))
        if not forced and not due:
            return
        self._benched, self._previewed, self._done = (choice, wanted), time.monotonic(), True
        # What became of a merge is still to be read when the next pair is shown.
        note = bench.note if old and old[0] == choice else ""
        try:
            if old and old[0] == choice and not dated and not forced:
                bench.answer(wanted)
                return
            bench.show(choice, wanted)
        except Halted:
            self._benched = None  # it is made once no more steps are wanted
            raise
        bench.note = bench.note or note
        if self._follow:
            notes = (done, living[1], "" if done == bench.note else bench.note)
            bench.note = " ".join(note for note in notes if note)

    def _due(self, orders: Orders) -> bool:
        """Return whether there is something to preview: a choice, or a new pair if none is made."""
        bench = self.workbench
        if self._benched is None:
            return True
        choice, wanted = self._benched
        if orders.choice != choice:
            return not bench.slow
        if orders.filter != wanted:
            return True
        late = not orders.busy or time.monotonic() - self._previewed > PREVIEW_EVERY
        if choice.a is not None or bench.data is None or not bench.dated:
            return False
        return not orders.busy and bench.stale if bench.slow else late

    def pending(self, choice: Choice) -> bool:
        """Return whether a choice waits for the order to preview it, because that is slow."""
        return self.workbench.slow and self._benched is not None and choice != self._benched[0]

    def mapping(self, orders: Orders) -> bool:
        """Return whether more of the landscape is wanted."""
        known = self.workbench.landscape
        if known is None or known.complete or not orders.attended:
            return False
        if orders.mapping is not None or self.workbench.slow:
            return bool(orders.mapping)
        return not orders.busy or orders.choice.a is not None or known.done < COARSE

    def explore(self) -> None:
        """Evaluate one more cell of the landscape."""
        self.turn.give_way()
        with self.turn():
            self.workbench.explore()

    def paint(self, orders: Orders) -> bool:
        """Draw some of what the gallery lacks; returns whether it lacked something."""
        if orders.looking is None:  # then no turn is waited for
            return False
        self.turn.give_way()
        with self.turn():
            if not self.workbench.look(orders.looking):
                return False
            self.workbench.gallery.draw()
            self.workbench.look(orders.looking)
            return True
