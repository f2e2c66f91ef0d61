"""Run table: the list of runs on the page, in its drawer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import param

from m2n2lab.utils.errors import InputError
from m2n2lab.utils.text import percent
from m2n2lab.viz.theme import Theme

from ..html.assets import asset
from ..runs.run_list import RunList
from ..runs.runs import Run
from .themed import Themed


class RunTable(Themed):
    """A table with a row for each run: fields for its name and note, and buttons."""

    _esm = asset("views/run_table.js")
    _stylesheets: ClassVar = [asset("views/run_table.css")]

    rows = param.List(default=[], doc="What each row shows.")
    told = param.String(default="", doc="What was done last, or cannot be done.")
    undoable = param.Boolean(default=False, doc="Whether a deletion can be undone.")
    seen = param.Boolean(default=False, doc="Whether it is visible.")
    asked = param.List(default=[], doc="What was asked for: a count, the deed, the key, a text.")


class RunsView:
    """The list of runs.

    Args:
        theme: colours.
        runs: the list.
        shown: returns the run on the page.
        show: puts a run on the page.
        compare: shows the comparison of all runs of the visit.
    """

    def __init__(
        self,
        theme: Theme,
        runs: RunList,
        shown: Callable[[], Run],
        show: Callable[[Run], object],
        compare: Callable[[], object],
    ) -> None:
        self._runs, self._shown, self._show, self._compare = runs, shown, show, compare
        self.pane = RunTable.themed(theme)
        self.pane.param.watch(lambda event: self.update(), "seen")
        self.pane.param.watch(lambda event: self._do(*event.new[1:]), "asked")

    def update(self) -> None:
        """Show the runs, if the list is visible."""
        if not self.pane.seen:
            return
        try:
            lines, told = self._runs.lines(self._shown()), self._runs.told
        except InputError as error:  # the store cannot be read
            lines, told = [], str(error)
        rows = [asdict(line) | {"best": percent(line.best)} for line in lines]
        fresh: dict[str, Any] = {"rows": rows, "told": told, "undoable": self._runs.undoable}
        changed = {n: value for n, value in fresh.items() if getattr(self.pane, n) != value}
        if changed:
            self.pane.param.update(**changed)

    def _do(self, deed: str, key: str, text: str) -> None:
        """Do what a button or a field asks for."""
        runs, shown = self._runs, self._shown()
        try:
            if deed == "open":
                self._show(runs.open(key, shown.settings))
            elif deed == "compare":
                runs.open(key, shown.settings)
                self._compare()
            elif deed == "name":
                named = runs.rename(key, text)
                if named is not None and named.number == shown.number:
                    self._show(named)
            elif deed == "note":
                runs.annotate(key, text)
            elif deed == "pin":
                runs.pin(key, text == "yes")
            elif deed == "delete":
                runs.delete(key, shown)
            elif deed == "undo":
                runs.undo()
        except InputError as error:
            runs.message = str(error)
        self.update()
