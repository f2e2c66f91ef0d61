"""Plot rotation: the plots of a page, updated in turn while a search runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..session.snapshot import Snapshot


class PlotRotation:
    """Plots that show a snapshot: all at once or, while its search runs, one at each update.

    A browser draws one plot in a few frames; all of them would delay clicks.

    Args:
        updates: one for each plot; shows it a snapshot.
        drawn: returns how often plots have been drawn, rather than refreshed.

    Attributes:
        shown: the snapshot that all plots show; ``None`` if there is none.
    """

    def __init__(
        self, updates: Iterable[Callable[[Snapshot], object]], drawn: Callable[[], int]
    ) -> None:
        self.shown: Snapshot | None = None
        self._updates = deque(updates)
        self._drawn = drawn
        self._partly_shown: Snapshot | None = None  # in some of them
        self._left = 0  # how many do not show that one yet

    def __len__(self) -> int:
        return len(self._updates)

    def reset(self) -> None:
        """Let the next update show its snapshot in all plots, also while the search runs."""
        self.shown = None

    def update(self, snapshot: Snapshot) -> bool:
        """Show a snapshot in all plots or in the next one; returns whether all show it now."""
        if snapshot.phase == "running" and self.shown is not None:
            self._update_next(snapshot)
        else:
            self._update_all(snapshot)
        return self.shown is snapshot

    def _update_next(self, snapshot: Snapshot) -> None:
        if snapshot is not self._partly_shown:
            self._partly_shown, self._left = snapshot, len(self._updates)
        self._updates.rotate(-1)
        self._updates[-1](snapshot)
        self._left -= 1
        if self._left == 0:
            self.shown = snapshot

    def _update_all(self, snapshot: Snapshot) -> None:
        self.shown = snapshot
        for update in self._updates:
            drawn = self._drawn()
            update(snapshot)
            if self._drawn() > drawn:
                # One new plot per refresh: what a person does meanwhile comes first.
                self.reset()
                return
