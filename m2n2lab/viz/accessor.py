"""Plot accessor: ``evolver.plot``, the plots of one search, and all of it as one file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from m2n2lab.analysis.landscape import landscape_data
from m2n2lab.analysis.lineage import seed_names
from m2n2lab.analysis.lineage_arrays import lineage_data, painting_data
from m2n2lab.analysis.lineage_replay import retraced
from m2n2lab.analysis.maps import attraction_data, curves_data, niches_data
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.extensions import PastArchives, extension
from m2n2lab.utils.errors import file_path
from m2n2lab.utils.files import write_atomically
from m2n2lab.viz.draw_landscape import draw_landscape
from m2n2lab.viz.draw_lineage import draw_lineage, draw_painting
from m2n2lab.viz.draw_maps import draw_attraction, draw_curves, draw_niches, sized
from m2n2lab.viz.run_page import run_page
from m2n2lab.viz.theme import LIGHT, Theme


class Plots:
    """Plots of the current state of one search.

    Args:
        evolver: the search; another thread may step it meanwhile.
        theme: colours; light by default.
    """

    def __init__(self, evolver: Evolver, theme: Theme = LIGHT) -> None:
        self._evolver = evolver
        self._theme = theme.on_paper

    def coverage(self, mode: str = "worth") -> Any:
        """Return the niche map (``niches_data``): the worth of each data point to each member.

        Args:
            mode: ``"solved"``, ``"worth"`` or ``"only one"``.
        """
        archive = self._evolver.archive
        with self._evolver.turn():
            data = niches_data(archive, self._evolver.task, seed_names(self._evolver.space))
        return sized(draw_niches(data, archive.size, self._theme, mode), 420)

    def attraction(self) -> Any:
        """Return the attraction matrix (``attraction_data``): what B solves and A lacks."""
        with self._evolver.turn():
            data = attraction_data(
                self._evolver.archive, self._evolver.task, seed_names(self._evolver.space)
            )
        return sized(draw_attraction(data, self._theme), 440, 520)

    def curves(self) -> Any:
        """Return accuracy, coverage and entropy over the steps (``curves_data``)."""
        with self._evolver.turn():
            data = curves_data(self._evolver)
        return sized(draw_curves(data, self._theme), 320)

    def lineage(self, focus: int | None = None, whole: bool = True) -> Any:
        """Return the family tree of the members (``lineage_data``).

        Args:
            focus: id of the member whose ancestry is highlighted; the best by default.
            whole: the whole run, otherwise its recent part.

        Raises:
            InputError: the focus was never a member.
        """
        with self._evolver.turn():
            chosen = self._evolver.best.id if focus is None else focus
            data = lineage_data(retraced(self._evolver), chosen)
        return sized(draw_lineage(data, self._theme, whole), 420)

    def painting(self) -> Any:
        """Return the seeds' shares along the members' flat vectors (``painting_data``)."""
        evolver = self._evolver
        with evolver.turn():
            data = painting_data(evolver.archive, evolver.space.layout, retraced(evolver))
        return sized(draw_painting(data, self._theme), 420)

    def landscape(self, a: int, b: int, cells: int = 17) -> Any:
        """Return the score of a pair's children over split and mix (``landscape_data``).

        Args:
            a, b: ids of the parents.
            cells: splits and mixes, one more than a power of two; each cell is a child.

        Raises:
            InputError: a parent is not a member, or the number of cells is another.
        """
        data = landscape_data(self._evolver, a, b, cells)
        return sized(draw_landscape(data, None, self._theme), 420, 560)

    def export(self, path: str | Path, code: str = "") -> None:
        """Write the search as one HTML file, which opens anywhere without a server or network.

        It has the curves, the niches and the attraction, the lineage, the members, answers of the
        best one and the settings, in at most 10 MB. Of a search that is recorded a slider shows the
        archives of up to 200 steps. The best member is evaluated for its answers.

        Args:
            path: the file, such as ``"run.html"``.
            code: Python that makes the run again, to be shown; by default as far as it is known.

        Raises:
            OSError: the file cannot be written.
            StoreError: the store of the run cannot be read.
        """
        path = file_path("path", path)
        stored = self._evolver.stored
        past: Iterable[tuple[int, Any]] = ()
        if stored is not None:
            recorded: PastArchives = extension("past")
            past = recorded(stored.path, stored.run)
        write_atomically(path, run_page(self._evolver, past, code))
