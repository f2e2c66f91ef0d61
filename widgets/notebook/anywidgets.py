"""Widgets of the console that are moved by hand, for any Jupyter front end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from m2n2lab.analysis.maps import AttractionData
from m2n2lab.analysis.merge_preview import BenchData

from ..html.assets import asset
from ..html.names import short_names


class ConsoleWidget(anywidget.AnyWidget):
    """A widget that reports changes by a person, and none by the kernel.

    The worker and the front end may change it at the same time; each change is made as a whole.

    Args:
        changed: called with the traits that the front end has changed.
    """

    def __init__(self, changed: Callable[[dict[str, Any]], object], **traits: Any) -> None:
        self._lock = threading.RLock()
        self._changed = changed
        super().__init__(**traits)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Apply and report what the front end has changed."""
        with self._lock:
            super().set_state(sync_data)
        self._changed(sync_data)

    def show(self, **traits: Any) -> None:
        """Show other values; equal ones are not sent again."""
        with self._lock:
            fresh = {name: v for name, v in traits.items() if getattr(self, name) != v}
            with self.hold_sync():
                for name, value in fresh.items():
                    setattr(self, name, value)


class PairPicker(ConsoleWidget):
    """The attraction matrix, and a menu of the living for each parent."""

    _esm = asset("notebook/pair_picker.js")
    _css = asset("notebook/pair_picker.css")

    ids = traitlets.List(traitlets.Int()).tag(sync=True)
    worth = traitlets.List(traitlets.List()).tag(sync=True)
    a = traitlets.Int(-1).tag(sync=True)
    b = traitlets.Int(-1).tag(sync=True)

    def present(self, data: AttractionData) -> None:
        """Show the living members, and their attraction."""
        worth = data.worth.round(3)
        worth[worth != worth] = 0.0  # no member is paired with itself
        self.show(ids=list(data.ids), worth=worth.tolist())


class SplitStrip(ConsoleWidget):
    """The flat vector with a split that is dragged, or moved by the arrow keys."""

    _esm = asset("bench/split_editor.js")
    _css = asset("bench/split_editor.css")

    size = traitlets.Int(1).tag(sync=True)
    split = traitlets.Int(0).tag(sync=True)
    mix = traitlets.Float(0.5).tag(sync=True)
    borders = traitlets.List([0, 1]).tag(sync=True)
    names = traitlets.List([""]).tag(sync=True)
    rows = traitlets.List([0]).tag(sync=True)
    beside: traitlets.List[Any] = traitlets.List([]).tag(sync=True)
    made: traitlets.List[Any] = traitlets.List([]).tag(sync=True)

    def present(self, data: BenchData) -> None:
        """Show the vector of a pair."""
        self.show(
            size=data.size,
            borders=list(data.borders),
            names=list(short_names(data.tensors)),
            rows=list(data.rows),
            beside=[list(part) for part in data.beside],
        )


class MixSlider(ConsoleWidget):
    """The share of B before the split, and the angle between the parents."""

    _esm = asset("bench/mix_slider.js")
    _css = asset("bench/mix_slider.css")

    value = traitlets.Float(0.5, min=0.0, max=1.0).tag(sync=True)
    angle = traitlets.Float(None, allow_none=True).tag(sync=True)
    disabled = traitlets.Bool(True).tag(sync=True)
