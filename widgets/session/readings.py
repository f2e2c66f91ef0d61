"""Readings: which class each member of an archive sees in a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.analysis.lineage import seed_names
from m2n2lab.core.task import Task
from m2n2lab.tasks.classify import Classify
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

MAX_SIDE = 64
"""Most pixels along a side of a drawing."""


@dataclass(frozen=True, eq=False)
class ReadingsData:
    """How the members of an archive read one drawing.

    Attributes:
        picture: (H, W) the drawing as the models get it, in [0, 1].
        classes: (C,) names of the classes.
        ids: (P,) the members, the fittest first.
        chances: (P, C) the probability that each member gives to each class.
        parents: ids of A and B on the bench; empty without a pair.
        seeds: (K,) names of the seeds.
        child: (C,) the same of the child on the bench; ``None`` without one.
    """

    picture: Floats
    classes: tuple[str, ...]
    ids: tuple[int, ...]
    chances: Floats
    parents: tuple[int, ...]
    seeds: tuple[str, ...]
    child: Floats | None

    @property
    def votes(self) -> list[tuple[str, int]]:
        """The classes that members see, and how many do; the most frequent first."""
        counts = np.bincount(self.chances.argmax(axis=1), minlength=len(self.classes))
        order = np.argsort(-counts, kind="stable")
        return [(self.classes[c], int(counts[c])) for c in order if counts[c]]


def reads_drawings(task: Task) -> bool:
    """Return whether models of a task can read a drawing: it classifies pictures."""
    return isinstance(task, Classify) and task.image_shape is not None


def readings_data(
    evolver: Evolver, ink: Sequence[int], parents: tuple[int, ...] = (), child: Any = None
) -> ReadingsData | None:
    """Return how the members read a drawing; ``None`` if there is nothing to read.

    Args:
        evolver: the search.
        ink: pixels of a square drawing, row by row.
        parents: ids of A and B on the bench.
        child: genome of their child, if there is one.

    Raises:
        InputError: the drawing is no square, or larger than ``MAX_SIDE`` a side.
    """
    task = evolver.task
    if not isinstance(task, Classify) or task.image_shape is None or not any(ink):
        return None
    side = math.isqrt(len(ink))
    if side * side != len(ink) or side > MAX_SIDE:
        raise InputError(
            f"A drawing must be a square of at most {MAX_SIDE} pixels a side, got {len(ink)} "
            f"pixels; draw it again."
        )
    x = task.from_drawing(np.reshape(ink, (side, side)))
    archive = evolver.archive
    members = [archive.members[row] for row in np.argsort(-archive.fitness, kind="stable")]

    def chances(genome: Any) -> Floats:
        found: Floats = task.probabilities(evolver.space.materialise(genome), x[None])[0]
        return found

    low, high = float(x.min()), float(x.max())
    return ReadingsData(
        picture=(x.reshape(task.image_shape).astype(float) - low) / max(high - low, 1e-12),
        classes=task.classes,
        ids=tuple(member.id for member in members),
        chances=np.array([chances(member.genome) for member in members]),
        parents=parents,
        seeds=seed_names(evolver.space),
        child=None if child is None else chances(child),
    )
