"""Members: a table of all, and a page of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.analysis.lineage import Life, Lineage
from m2n2lab.core.archive import Archive
from m2n2lab.core.task import Sample, Task
from m2n2lab.utils.arrays import Floats

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

SAMPLES_PER_OUTCOME = 12
"""Right answers, and as many wrong ones, on a member's page."""

CONFUSION_POINTS = 2000
"""Data points, evenly spread over the classes, from which a confusion matrix is counted."""


class MembersData(NamedTuple):
    """The members, the fittest first."""

    ids: tuple[int, ...]  # (P,)
    born: tuple[int, ...]  # (P,) step
    parents: tuple[tuple[int, ...], ...]  # (P,) ids
    fitness: Floats  # (P,)
    score: Floats  # (P,) mean over the data points
    alone: Floats  # (P,) share of data points on which no other member scores
    by_hand: tuple[bool, ...]  # (P,)
    pinned: tuple[bool, ...]  # (P,)
    classes: tuple[str, ...]
    accuracy: Floats  # (P, C) mean score in each class; NaN in an empty one
    painting: Floats  # (P, BINS, K + 1)
    seeds: tuple[str, ...]  # (K + 1,) names of a painting's columns


def members_data(archive: Archive, task: Task, lineage: Lineage) -> MembersData:
    """Return the table of the members.

    Raises:
        InputError: the lineage did not observe this archive.
    """
    rows = np.argsort(-archive.fitness, kind="stable")
    members = [archive.members[row] for row in rows]
    scores = archive.scores[rows]
    alone = (scores > 0) & ((scores > 0).sum(axis=0) == 1)
    return MembersData(
        ids=tuple(member.id for member in members),
        born=tuple(member.born for member in members),
        parents=tuple(member.parents for member in members),
        fitness=archive.fitness[rows],
        score=np.array([member.score for member in members]),
        alone=alone.mean(axis=1),
        by_hand=tuple(lineage[member.id].by_hand for member in members),
        pinned=tuple(member.id in archive.pinned for member in members),
        classes=task.classes,
        accuracy=np.array([task.means(row) for row in scores]),
        painting=np.array([lineage.painting(member.id) for member in members]),
        seeds=lineage.names,
    )


class MemberPage(NamedTuple):
    """All about one member; values that need its weights are ``None`` or empty if it has left."""

    life: Life
    painting: Floats  # (BINS, K + 1)
    classes: tuple[str, ...]
    seeds: tuple[str, ...]  # (K + 1,) names of the painting's columns
    of: int  # number of members
    rank: int | None = None  # 1 for the fittest
    fitness: float | None = None
    accuracy: Floats | None = None  # (C,) mean score in each class
    held_out: Floats | None = None  # (C,) the same on held-out data, where the task has some
    confusion: NDArray[np.int64] | None = None  # (C, C) points by truth and answer, if classes
    right: tuple[Sample, ...] = ()
    wrong: tuple[Sample, ...] = ()
    pinned: bool = False

    @property
    def alive(self) -> bool:
        """Whether the member is in the archive."""
        return self.life.died is None


def member_page(evolver: Evolver, lineage: Lineage, id: int) -> MemberPage:
    """Return the page of a present or displaced member.

    The model is made and evaluated on some samples, and on up to ``CONFUSION_POINTS`` of them if
    its answers are classes, so this takes as long as a step or more.

    Raises:
        InputError: there never was such a member.
    """
    archive, task = evolver.archive, evolver.task
    painting, seeds = lineage.painting(id), lineage.names
    page = MemberPage(lineage[id], painting, task.classes, seeds, of=len(archive))
    if id not in archive:
        return page
    scores = archive.scores_of(id)
    model = evolver.space.materialise(archive[id].genome)
    held_out = task.held_out_by_class(model)
    solved = scores >= 1.0
    return update_page(page, evolver, lineage)._replace(
        accuracy=np.array(task.means(scores)),
        held_out=np.array([held_out.get(c, np.nan) for c in task.classes]) if held_out else None,
        right=(right := _some(task, model, solved)),
        wrong=(wrong := _some(task, model, ~solved)),
        confusion=_confusion(task, model, (*right, *wrong)),
    )


def update_page(page: MemberPage, evolver: Evolver, lineage: Lineage) -> MemberPage:
    """Return a page with the present rank and fitness of its member; nothing is evaluated."""
    archive, id = evolver.archive, page.life.id
    if id not in archive:
        painting, seeds = lineage.painting(id), lineage.names
        return MemberPage(lineage[id], painting, page.classes, seeds, of=len(archive))
    fitness = float(archive.fitness[archive.ids.index(id)])
    rank = 1 + int((archive.fitness > fitness).sum())
    return page._replace(
        life=lineage[id],
        of=len(archive),
        rank=rank,
        fitness=fitness,
        pinned=id in archive.pinned,
    )


def spread(task: Task, where: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """Return up to ``count`` data points of ``where`` (D,), evenly spread over the classes."""
    points = np.flatnonzero(where)
    points = points[np.argsort(task.groups[points], kind="stable")]
    positions = np.linspace(0, len(points) - 1, min(count, len(points))).astype(int)
    chosen: NDArray[np.intp] = points[positions]
    return chosen


def _some(task: Task, model: Any, where: NDArray[np.bool_]) -> tuple[Sample, ...]:
    """Return some samples of the data points in ``where`` (D,)."""
    points = spread(task, where, SAMPLES_PER_OUTCOME)
    return tuple(task.samples(model, points)) if len(points) else ()


def _confusion(task: Task, model: Any, known: tuple[Sample, ...]) -> NDArray[np.int64] | None:
    """Return counts by true class (row) and predicted class (column), (C, C).

    ``None`` if the task has a single class, gives no samples, or its answers are not classes, which
    the ``known`` samples show before many more are evaluated.
    """
    numbers = {name: number for number, name in enumerate(task.classes)}

    def classes(samples: Any) -> bool:
        return all(s.truth in numbers and s.prediction in numbers for s in samples)

    if len(numbers) < 2 or not known or not classes(known):
        return None
    everywhere = np.ones(task.points, np.bool_)
    samples = task.samples(model, spread(task, everywhere, CONFUSION_POINTS))
    if not classes(samples):
        return None
    table = np.zeros((len(task.classes),) * 2, np.int64)
    for sample in samples:
        table[numbers[sample.truth], numbers[sample.prediction]] += 1
    return table
