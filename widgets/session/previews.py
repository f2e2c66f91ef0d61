"""Previews: the bench and its landscape and gallery, kept up to date with the orders."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from m2n2lab.core.records import Proposal
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.progress import Halted

from .orders import MOVES, Mailbox, Object, Orders
from .saver import Saver
from .workbench import VOTES, Choice, Filter, Workbench

if TYPE_CHECKING:
    from m2n2lab.analysis.lineage import Lineage
    from m2n2lab.core.evolver import Evolver

    from .acts import Acts

PREVIEW_SECONDS = 3.0
"""Least time between two previews of a pair that was not chosen, while the search runs."""

COARSE_CELLS = 25
"""Cells of the landscape of a pair that was not chosen, while the search runs."""


class Previews:
    """A workbench that is kept up to date with the orders; only the worker uses it.

    Where a child takes seconds, an evaluation at rest is stopped as soon as steps are ordered, and
    begun again when no more are.

    Args:
        evolver: the search.
        lineage: of its members.
        orders: of the search; the search's own proposal is written into them.
        follow: whether a chosen parent that has died is replaced by a living member.
        saver: saves models.
        acts: of the search.

    Attributes:
        workbench: the bench.
        turn: the evolver's lock.
    """

    def __init__(
        self,
        evolver: Evolver,
        lineage: Lineage,
        orders: Mailbox,
        follow: bool,
        saver: Saver,
        acts: Acts,
    ) -> None:
        self.workbench = Workbench(evolver, lineage, acts)
        self.turn = evolver.turn
        self._done = False  # whether a page waits for what was done in ``serve``
        self._orders = orders
        self._follow = follow
        self._saver = saver
        self._previewed: tuple[Choice, Filter] | None = None  # last
        self._previewed_at = 0.0

    def serve(self, orders: Orders, step_first: bool) -> bool:
        """Carry out the commands to the bench, and preview what is on it now.

        Args:
            orders: as they were taken.
            step_first: preview only if that is a command.

        Returns:
            Whether a page waits for what was done.

        Raises:
            Halted: a preview was stopped; the next call that is not ``step_first`` makes it.
        """
        with self.turn():
            self._serve(orders, step_first)
        done, self._done = self._done, False  # not reached if stopped: the next call returns it
        return done

    def _serve(self, orders: Orders, step_first: bool) -> None:
        bench = self.workbench
        choice, wanted, forced = orders.choice, orders.filter, False
        for name, about in orders.commands:
            self._done = True
            if name == "merge":
                bench.merge(about if isinstance(about, Proposal) else None)
            elif name == "save":
                bench.note = self._save(about)
            elif name in ("pin", "unpin") and isinstance(about, int):
                bench.pin(about, name == "pin")
            elif name in MOVES:
                choice = self._move(name, choice)
            elif name in VOTES:
                bench.vote(name)
            else:
                forced = True
                if name == "propose":
                    choice = bench.propose()
                    self._orders.replace_choice(choice)
        if bench.is_lost:  # the session begins another one
            return
        done = bool(orders.commands) and bench.note
        if self._follow and (living := bench.with_living_parents(choice))[0] != choice:
            self._orders.replace_choice(living[0], old=(choice, orders.choice))
            choice = living[0]
        old, outdated = self._previewed, bench.outdated
        due = not step_first and self._due(replace(orders, choice=choice))
        if not forced and not due:
            return
        self._previewed, self._previewed_at = (choice, wanted), time.monotonic()
        self._done = True
        # What was done just now stays when the next pair is shown unasked; an outcome is of the
        # child that leaves the bench.
        same = old is None or old[0] == choice
        note = bench.note if same and bench.merged is None else ""
        try:
            if old and old[0] == choice and not outdated and not forced:
                bench.answer(wanted)
                return
            if not bench.show(choice, wanted):
                self._keep(old, choice, wanted)
        except Halted:
            self._previewed = None  # made once no more steps are ordered
            raise
        bench.note = bench.note or note
        if self._follow:
            notes = (done, living[1], "" if done == bench.note else bench.note)
            bench.note = " ".join(note for note in notes if note)

    def _move(self, name: str, choice: Choice) -> Choice:
        """Undo or redo, and return what stays of the choice: members of then may be unborn now."""
        bench = self.workbench
        if name == "undo":
            bench.undo()
        elif steps := bench.redo():
            self._orders.step(steps)
        if bench.knows(choice):
            return choice
        self._orders.replace_choice(Choice())
        return Choice()

    def _save(self, about: Object) -> str:
        """Save a model, and return what to say of it."""
        try:
            return self._saver.save(*self.workbench.model_of(about))
        except InputError as error:
            return str(error)

    def _keep(self, old: tuple[Choice, Filter] | None, choice: Choice, wanted: Filter) -> None:
        """Return to what the bench shows, instead of a choice that cannot be previewed."""
        if self.workbench.data is not None and old is not None and old[0] != choice:
            self._orders.replace_choice(old[0], old=(choice,))
            self._previewed = old[0], wanted

    def _due(self, orders: Orders) -> bool:
        """Return whether to preview: another choice or, without one, another pair."""
        bench = self.workbench
        if self._previewed is None:
            return True
        choice, wanted = self._previewed
        if orders.choice != choice:
            return not bench.slow
        if orders.filter != wanted:
            return True
        late = not orders.busy or time.monotonic() - self._previewed_at > PREVIEW_SECONDS
        if bench.merged is not None:  # its outcome is shown for a while
            return not bench.slow and bench.outcome_read(PREVIEW_SECONDS if orders.busy else 0.0)
        if choice.a is not None or bench.data is None or not bench.outdated:
            return False
        return not orders.busy and bench.stale if bench.slow else late

    def refresh(self, orders: Orders) -> None:
        """Bring all that follows the archive up to date; to be called for every snapshot."""
        self.workbench.judge()
        self.workbench.forget_note(PREVIEW_SECONDS if orders.busy else 0.0)
        self.workbench.explain(orders.formula)
        self.workbench.read(orders.sketch)

    def pending(self, choice: Choice) -> bool:
        """Return whether a choice is previewed only on command, because that is slow."""
        return self.workbench.slow and self._previewed is not None and choice != self._previewed[0]

    def mapping(self, orders: Orders) -> bool:
        """Return whether the landscape is to be mapped further."""
        known = self.workbench.landscape
        if known is None or known.complete or not orders.attended:
            return False
        if orders.mapping is not None or self.workbench.slow:
            return bool(orders.mapping)
        return not orders.busy or orders.choice.a is not None or known.done < COARSE_CELLS

    def explore(self) -> None:
        """Evaluate one more cell of the landscape."""
        self.turn.give_way()
        with self.turn():
            self.workbench.explore()

    def paint(self, orders: Orders) -> bool:
        """Draw some missing pictures of the gallery; returns whether there were any."""
        if orders.gallery is None:  # no need to wait for the turn
            return False
        self.turn.give_way()
        with self.turn():
            if not self.workbench.update_gallery(orders.gallery):
                return False
            self.workbench.gallery.draw()
            self.workbench.update_gallery(orders.gallery)
            return True
