"""The past of a search, as far as its worker has recorded it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

    from .orders import Mailbox
    from .run_recorder import Past, Tape


def unrecorded(evolver: Evolver) -> str:
    """Say why there is no past of a search that is not recorded."""
    return "The steps of this search are not recorded, so its past cannot be looked at."


class Recorded:
    """What is recorded of one search, and the step of it that is looked at.

    Only the worker uses it, but for ``branch``.

    Args:
        orders: of the search.

    Attributes:
        past: the archive of the step that is looked at; ``None`` for the present.
        untaped: why nothing is recorded, in words.
    """

    def __init__(self, orders: Mailbox) -> None:
        self.past: Past | None = None
        self.untaped = ""
        self._orders = orders
        self._tape: Tape | None = None  # is branched from in any thread
        self._begun = threading.Event()  # set once there is one or not, or the worker has ended

    def branch(self, step: int) -> Evolver:
        """Return an evolver as the search was after a step; can be called in any other thread.

        Waits for a search that has just been started.

        Raises:
            InputError: it is not recorded, or cannot be taken up again there.
        """
        self._begun.wait()
        tape = self._tape
        if tape is None:
            raise InputError(self.untaped or "The search never began: nothing branches from it.")
        return tape.branch(step)

    def begin(self, tape: Tape | str) -> None:
        """Set what the search is recorded on, or why it is not."""
        if isinstance(tape, str):
            self.untaped = tape
        else:
            self._tape = tape
        self._begun.set()

    @property
    def first(self) -> int | None:
        """The earliest step that can be looked at again; ``None`` where none can."""
        return None if self._tape is None else self._tape.first

    def look(self, step: int | None) -> bool:
        """Look at the archive of a step, or at the present; returns whether that is another one.

        Raises:
            StoreError: the recording cannot be written or read.
        """
        tape = self._tape
        if step is not None and (tape is None or not tape.first <= step < tape.last):
            self._orders.stop_looking(step)  # it is the present, or was taken back
            step = None
        if step == (self.past and self.past.step):
            return False
        self.past = None
        if step is not None and tape is not None:
            try:
                self.past = tape.look(step)
            except BaseException:
                self._orders.stop_looking(step)  # or it would be tried for ever
                raise
        return True

    def close(self) -> None:
        """Write what waits, and let go of the store."""
        self._begun.set()
        if self._tape is not None:
            self._tape.close()

    def forget(self) -> None:
        """Let go of the search, which has ended."""
        self._tape = None
        self.untaped = "The search has ended: nothing branches from it any more."
