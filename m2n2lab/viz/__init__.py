"""Viz: HoloViews plots of the data in ``analysis``, HTML displays, themes and fonts.

``evolver.plot`` has the plots of a search; these names are for custom plots in the same style.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2n2lab.utils.lazy import lazy_names

if TYPE_CHECKING:
    from m2n2lab.viz.accessor import Plots
    from m2n2lab.viz.contact_sheet import Row, draw_choice, draw_sheet, sheet_of
    from m2n2lab.viz.draw_compare import compare
    from m2n2lab.viz.draw_maps import plot_options, sized
    from m2n2lab.viz.theme import DARK, LIGHT, Theme, ramp
    from m2n2lab.viz.xyz_sheet import Axis, Cell, Sheet

_HOMES = {
    "Axis": "m2n2lab.viz.xyz_sheet",
    "Cell": "m2n2lab.viz.xyz_sheet",
    "DARK": "m2n2lab.viz.theme",
    "LIGHT": "m2n2lab.viz.theme",
    "Plots": "m2n2lab.viz.accessor",
    "Row": "m2n2lab.viz.contact_sheet",
    "Sheet": "m2n2lab.viz.xyz_sheet",
    "Theme": "m2n2lab.viz.theme",
    "compare": "m2n2lab.viz.draw_compare",
    "draw_choice": "m2n2lab.viz.contact_sheet",
    "draw_sheet": "m2n2lab.viz.contact_sheet",
    "plot_options": "m2n2lab.viz.draw_maps",
    "ramp": "m2n2lab.viz.theme",
    "sheet_of": "m2n2lab.viz.contact_sheet",
    "sized": "m2n2lab.viz.draw_maps",
}
__all__ = [
    "DARK",
    "LIGHT",
    "Axis",
    "Cell",
    "Plots",
    "Row",
    "Sheet",
    "Theme",
    "compare",
    "draw_choice",
    "draw_sheet",
    "plot_options",
    "ramp",
    "sheet_of",
    "sized",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
