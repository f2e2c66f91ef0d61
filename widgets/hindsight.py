"""Recording a search in its worker, and looking at its past there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from m2n2lab.errors import InputError

from .commands import Commands

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver

    from .tape import Past, Tape


def unrecorded(evolver: Evolver) -> str:
    """Say why there is no past of a search whose recording nobody asked for."""
    return "The steps of this search are not recorded, so its past cannot be looked at."


class Hindsight(Commands):
    """The past of a search, as far as its worker has recorded it.

    Args:
        record: begins to record the search, or says why that cannot be.
    """

    def __init__(self, record: Callable[[Evolver], Tape | str]) -> None:
        super().__init__()
        self._record = record
        self._tape: Tape | None = None  # made in the worker, is branched from anywhere
        self._untaped = ""  # why there is none
        self._begun = threading.Event()  # set once that is known, or the worker ended before
        self._past: Past | None = None  # what is looked at

    def branch(self, step: int) -> Evolver:
        """Return an evolver as the search was after a step; can be called in any other thread.

        Waits for a search that has just been started.

        Raises:
            InputError: it is not recorded, or cannot be taken up again there.
        """
        self._begun.wait()
        if self._tape is None:
            raise InputError(self._untaped or "The search never began: nothing branches from it.")
        return self._tape.branch(step)

    def _begin_tape(self, evolver: Evolver) -> None:
        tape = self._record(evolver)
        if isinstance(tape, str):
            self._untaped = tape
        else:
            self._tape = tape
        self._begun.set()

    def _end_tape(self) -> None:
        self._begun.set()
        if self._tape is not None:
            self._tape.close()

    def _look_back(self, step: int | None) -> bool:
        """Look at the archive of a step, or at the present; returns whether that is another one.

        Raises:
            StoreError: the recording cannot be written or read.
        """
        tape = self._tape
        if step is not None and (tape is None or not tape.first <= step < tape.last):
            self._forget_past(step)  # it is the present, or was taken back
            step = None
        if step == (self._past and self._past.step):
            return False
        self._past = None
        if step is not None and tape is not None:
            try:
                self._past = tape.look(step)
            except BaseException:
                self._forget_past(step)  # or it would be tried for ever
                raise
        return True

    def _forget_past(self, step: int) -> None:
        """Take back the order to look at a step, unless there is another one by now."""
        with self._wake:
            if self._orders.past == step:
                self._order(past=None)
