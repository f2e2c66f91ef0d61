"""Saver: models of a search, written into the folder that the server was started with."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from m2n2lab.checkpoint import CheckpointSpace
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.progress import Progress

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

HOW = "Models are saved into the folder that the server is started with: m2n2lab serve --output DIR"

MEGABYTE = 1 << 20


class Saver:
    """Saves models of one search, each under a name of its own.

    Args:
        evolver: the search.
        folder: where models are saved; ``None`` where the server was given none.
        report: called with the progress of a model of many megabytes.
    """

    def __init__(
        self, evolver: Evolver, folder: Path | None, report: Callable[[Progress], object]
    ) -> None:
        self._evolver = evolver
        self._folder = folder
        self._report = report

    def save(self, genome: Any, name: str, made: str) -> str:
        """Save a model, and return what to say of it.

        Args:
            genome: of the model.
            name: of the model, for its file or folder.
            made: its origin as a sentence, for its card.
        """
        if self._folder is None:
            return f"{HOW}."
        space, folder = self._evolver.space, self._folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not isinstance(space, CheckpointSpace):
                path = self._free(f"{name}.safetensors")
                space.save(genome, path)
            else:
                one_file = not space.plan.base.path.is_dir()
                path = self._free(f"{name}.safetensors" if one_file else name)
                space.save(genome, path, made, self._counted(space.plan.cost))
        except (InputError, OSError) as error:
            return f"Not saved: {error}"
        return f"Saved as {path.name} in {folder}."

    def _free(self, name: str) -> Path:
        """Return a path in the folder that nothing has, for a file or folder of a name."""
        assert self._folder is not None  # as checked
        stem, dot, suffix = re.sub(r"[^\w.-]+", "-", name).strip(".-").partition(".safetensors")
        names = [f"{stem}{dot}{suffix}"]
        while (path := self._folder / names[-1]).exists():
            names.append(f"{stem}-{len(names) + 1}{dot}{suffix}")
        return path

    def _counted(self, total: int) -> Callable[[int], None]:
        """Return a function that adds up bytes and reports them."""
        return partial(self._add, [0], max(total, 1), monotonic())

    def _add(self, done: list[int], total: int, began: float, count: int) -> None:
        done[0] += count
        written, whole = min(done[0], total) // MEGABYTE, total // MEGABYTE
        self._report(Progress(written, whole, 0, monotonic() - began, unit="megabyte"))
