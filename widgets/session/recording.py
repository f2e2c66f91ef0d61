"""Recording: the past of a search, as far as its worker has recorded it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from m2n2lab.core.archive import Archive
    from m2n2lab.core.evolver import Evolver

    from .orders import Mailbox
    from .run_recorder import RunRecorder
    from .snapshot import Past


def not_recorded(evolver: Evolver) -> str:
    """Return why a search that is not recorded has no past."""
    return "The steps of this search are not recorded, so its past cannot be looked at."


class Recording:
    """What is recorded of one search, and the step that is looked at.

    Only the worker uses it, but for ``branch`` and ``archives``.

    Args:
        orders: of the search.

    Attributes:
        past: the archive of the step that is looked at; ``None`` for the present.
        unrecorded_reason: why nothing is recorded; empty otherwise.
    """

    def __init__(self, orders: Mailbox) -> None:
        self.past: Past | None = None
        self.unrecorded_reason = ""
        self._orders = orders
        self._recorder: RunRecorder | None = None  # is branched from in any thread
        self._begun = (
            threading.Event()
        )  # set once it is known whether there is one, or the worker has ended

    def branch(self, step: int) -> Evolver:
        """Return an evolver as the search was after a step; may be called in any other thread.

        Waits for a search that has just been started.

        Raises:
            InputError: it is not recorded, or cannot be resumed there.
        """
        self._begun.wait()
        recorder = self._recorder
        if recorder is None:
            reason = self.unrecorded_reason or "The search never began: nothing branches from it."
            raise InputError(reason)
        return recorder.branch(step)

    def begin(self, recorder: RunRecorder | str) -> None:
        """Set the search's recorder, or why it has none."""
        if isinstance(recorder, str):
            self.unrecorded_reason = recorder
        else:
            self._recorder = recorder
        self._begun.set()

    def archives(self) -> list[tuple[int, Archive]]:
        """Return recorded steps and the archives after them; may be called in any thread."""
        recorder = self._recorder
        return [] if recorder is None else recorder.archives()

    @property
    def first(self) -> int | None:
        """The earliest step that can be looked at again; ``None`` where none can."""
        return None if self._recorder is None else self._recorder.first

    @property
    def number(self) -> int | None:
        """Number of the run in the user's own store; ``None`` while it is not there."""
        recorder = self._recorder
        return None if recorder is None else recorder.number

    @property
    def kept(self) -> bool:
        """Whether the steps outlive the search."""
        recorder = self._recorder
        return recorder is not None and recorder.kept

    def select(self, step: int | None) -> bool:
        """Select the archive of a step, or the present; returns whether that is another one.

        Raises:
            StoreError: the recording cannot be written or read.
        """
        recorder = self._recorder
        if step is not None and (recorder is None or not recorder.first <= step < recorder.last):
            self._orders.leave_step(step)  # it is the present, or was undone
            step = None
        if step == (self.past and self.past.step):
            return False
        self.past = None
        if step is not None and recorder is not None:
            try:
                self.past = recorder.past(step)
            except BaseException:
                self._orders.leave_step(step)  # or it would be tried again and again
                raise
        return True

    def close(self) -> None:
        """Write the last steps and close the store."""
        self._begun.set()
        if self._recorder is not None:
            self._recorder.close()

    def forget(self) -> None:
        """Release the search, which has ended."""
        self._recorder = None
        self.unrecorded_reason = "The search has ended: nothing branches from it any more."
