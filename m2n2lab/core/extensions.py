"""Extension slots: names in core for objects that packages above it provide.

``evolver.plot``, ``evolver.run(store=…, progress=…)``, ``Evolver.resume`` and ``_repr_html_`` need
drawings and stores, which are built on core. Core names a slot for each; ``m2n2lab/__init__.py``,
which Python runs before any module of the package, in worker processes too, fills them once.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

_TARGETS: dict[str, str] = {}  # "module:name" by slot


def provide(**targets: str) -> None:
    """Fill slots: ``provide(html="m2n2lab.viz.html:html_of")``; nothing is imported yet."""
    _TARGETS.update(targets)


def extension(slot: str) -> Any:
    """Return the object that fills a slot, imported on first use.

    Raises:
        LookupError: no package provides it.
    """
    try:
        module, _, name = _TARGETS[slot].partition(":")
    except KeyError:
        raise LookupError(
            f"Extension slot {slot!r} must be filled with provide({slot}='module:name'), but no "
            f"package provides it; import m2n2lab before its parts."
        ) from None
    return getattr(importlib.import_module(module), name)


class SearchPlots(Protocol):
    """Slot ``plots``: drawings of one search, made from the evolver."""

    def coverage(self, mode: str = "worth") -> Any:
        """Return the niche map."""

    def attraction(self) -> Any:
        """Return the attraction matrix."""

    def curves(self) -> Any:
        """Return accuracy, coverage and entropy over the steps."""

    def lineage(self, focus: int | None = None, whole: bool = True) -> Any:
        """Return the family tree of the members."""

    def painting(self) -> Any:
        """Return the seeds' shares along the members' flat vectors."""

    def landscape(self, a: int, b: int, cells: int = 17) -> Any:
        """Return the scores of a pair's children over split and mix."""

    def export(self, path: str | Path, code: str = "") -> None:
        """Write the search as one HTML file."""


class PastArchives(Protocol):
    """Slot ``past``: returns steps of a recorded run and its archives after them."""

    def __call__(self, path: str | Path, run: int) -> Iterable[tuple[int, Any]]:
        """Return them in order."""


class RecordSearch(Protocol):
    """Slot ``recorder``: records a search into a store during a ``with`` block."""

    def __call__(self, evolver: Any, path: str | Path) -> AbstractContextManager[Any]:
        """Begin to record."""


class ShowProgress(Protocol):
    """Slot ``progress``: shows a progress bar of a search during a ``with`` block."""

    def __call__(self, evolver: Any, steps: int) -> AbstractContextManager[Any]:
        """Begin to show it."""


class ResumeSearch(Protocol):
    """Slot ``resume``: returns a recorded search as it was after its last step."""

    def __call__(self, path: str | Path, run: int | None, *, kind: type[Any], **given: Any) -> Any:
        """Return the evolver."""
