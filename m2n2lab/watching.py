"""What can be seen of a search from outside: its history, plots of it, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from m2n2lab.history import History
from m2n2lab.observers import Observer, Observers

if TYPE_CHECKING:
    import pandas as pd

    from m2n2lab.evolver import Evolver
    from m2n2lab.plots import Plots


class Watched:
    """A search that keeps its history and tells observers of every generation.

    Attributes:
        records: what happened, a row of numbers a step.
    """

    def __init__(self) -> None:
        self.records = History()
        self._observers = Observers()

    def subscribe(
        self,
        observer: Observer,
        undo: Callable[[], object] | None = None,
        strict: bool = False,
    ) -> Callable[[], None]:
        """Call ``observer`` with every generation from now on; returns a function that ends it.

        Args:
            observer: what to call. One that raises is reported once in the log, and neither stops
                the search nor the other observers.
            undo: called when the last step is taken back.
            strict: let ``tell`` raise what the observer raises; the step is told all the same.
        """
        return self._observers.subscribe(observer, undo, strict)

    @property
    def history(self) -> pd.DataFrame:
        """One row a step, indexed by step."""
        return self.records.frame()

    @property
    def plot(self) -> Plots:
        """Plots of this search as HoloViews objects."""
        from m2n2lab.plots import Plots

        return Plots(cast("Evolver", self))
