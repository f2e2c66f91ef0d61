"""Niche map, attraction matrix and progress curves of a search, as plain arrays (``*_data``).

``m2n2lab.viz`` draws them; the dashboard refreshes the same drawings with new arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.archive import Archive
from m2n2lab.core.history import COLUMNS
from m2n2lab.core.task import Task
from m2n2lab.utils.errors import choose
from m2n2lab.utils.text import plain

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

CURVE_POINTS = 400
"""Points of a curve that are drawn, whatever the length of the run."""

CURVE_CLASSES = 4
"""Classes that have a curve of their own where there are no more: the tasks of several at once."""

LONGEST_NAME = 30
"""Characters of a class's name in a legend."""

CROWD_HEIGHT = 2.4
"""Height of the strip of solvers above the niche map, in rows."""

FITNESS_WIDTH = 0.16
"""Width of the fitness bars beside the niche map, as a share of its width."""


class NichesData(NamedTuple):
    """Who solves what. Rows by fitness, the fittest first; columns grouped by class.

    Within a class the data points are sorted by how many members solve them, crowded ones left:
    that is what makes niches visible.
    """

    ids: tuple[int, ...]  # (P,)
    fitness: NDArray[np.float64]  # (P,)
    points: NDArray[np.intp]  # (D,) data point of each column
    scores: NDArray[np.float32]  # (P, D)
    worth: NDArray[np.float32]  # (P, D) c_j s_kj / z_j^α
    alone: NDArray[np.float32]  # (P, D) the score where no other member scores, else −score
    crowd: NDArray[np.float64]  # (D,) z_j
    solvers: NDArray[np.intp]  # (D,) how many members score
    weights: NDArray[np.float64]  # (D,) c_j / z_j^α
    names: Sequence[str] | None  # of all data points by their numbers, where they have names
    classes: tuple[str, ...]
    edges: NDArray[np.intp]  # (classes + 1,) first column of each class, and D


def niches_data(archive: Archive, task: Task) -> NichesData:
    """Return the niche map of an archive."""
    z, weights = archive.z, archive.weights
    points = np.lexsort((-z, task.groups))
    rows = np.argsort(-archive.fitness, kind="stable")
    scores = archive.scores[np.ix_(rows, points)]
    solvers = (scores > 0).sum(axis=0)
    edges = np.searchsorted(task.groups[points], np.arange(len(task.classes) + 1))
    return NichesData(
        ids=tuple(archive.ids[row] for row in rows),
        fitness=archive.fitness[rows],
        points=points,
        scores=scores.astype(np.float32),
        worth=(scores * weights[points]).astype(np.float32),
        alone=np.where(solvers == 1, scores, -scores).astype(np.float32),
        crowd=z[points],
        solvers=solvers,
        weights=weights[points],
        names=task.names,
        classes=task.classes,
        edges=edges,
    )


class AttractionData(NamedTuple):
    """Who should meet whom: g(A, B), rows A and columns B, the fittest first."""

    ids: tuple[int, ...]  # (P,)
    worth: NDArray[np.float64]  # (P, P), NaN on the diagonal
    most: NDArray[np.intp]  # (P, P) class in which most of that lies
    part: NDArray[np.float32]  # (P, P) how much of it
    classes: tuple[str, ...]

    def ordered(self, order: Sequence[int]) -> AttractionData:
        """Return the same with rows and columns in another order (P,)."""
        cells = np.ix_(order, order)
        return AttractionData(
            tuple(self.ids[row] for row in order),
            self.worth[cells],
            self.most[cells],
            self.part[cells],
            self.classes,
        )


def attraction_data(archive: Archive, task: Task) -> AttractionData:
    """Return the attraction matrix of an archive."""
    rows = np.argsort(-archive.fitness, kind="stable")
    worth = archive.attraction()[np.ix_(rows, rows)]
    np.fill_diagonal(worth, np.nan)
    points = np.argsort(task.groups, kind="stable")
    edges = np.searchsorted(task.groups[points], np.arange(len(task.classes) + 1)).tolist()
    scores = archive.scores[np.ix_(rows, points)].astype(np.float32)
    weights = archive.weights[points].astype(np.float32)
    parts = np.array([_gains(scores[:, a:b], weights[a:b]) for a, b in pairwise(edges)])
    return AttractionData(
        tuple(archive.ids[row] for row in rows),
        worth,
        parts.argmax(axis=0),
        parts.max(axis=0),
        task.classes,
    )


def _gains(scores: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[Any]:
    """Return Σ_j w_j max(s_Bj − s_Aj, 0) for all A and B (P, P)."""
    if np.array_equal(scores, scores > 0):  # right or wrong: one product
        return ((1 - scores) * weights) @ scores.T
    gains: NDArray[Any] = np.vecdot(
        np.maximum(scores - scores[:, np.newaxis], np.float32(0)), weights
    )
    return gains


def cluster_order(scores: NDArray[Any]) -> tuple[int, ...]:
    """Return the rows of scores (P, D) such that members who solve the same stand together.

    Two are the further apart the less they share of what either solves (Jaccard's distance, where
    scores are right or wrong). Of both directions the one with the earlier row first is taken.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import pdist

    if len(scores) < 3:
        return tuple(range(len(scores)))
    differ = pdist(scores, "cityblock")
    first, second = np.triu_indices(len(scores), 1)
    total = scores.sum(axis=1)
    either = (total[first] + total[second] + differ) / 2
    apart = np.divide(differ, either, out=np.zeros_like(differ), where=either > 0)
    order = leaves_list(linkage(apart, "average", optimal_ordering=True)).tolist()
    return tuple(order if order[0] < order[-1] else reversed(order))


class CurvesData(NamedTuple):
    """How far the search has come, in per cent; first where it began."""

    step: NDArray[np.float64]  # (n,)
    covered: NDArray[np.float64]  # (n,) share of data points that some member solves
    entropy: NDArray[np.float64]  # (n,) of 1 bit a data point: half the members solve each
    train: NDArray[np.float64]  # (n,) score of the best member
    test: NDArray[np.float64]  # (n,) its score on held-out data; NaN where it is not known
    classes: Mapping[str, NDArray[np.float64]]  # (n,) of each class that has a curve of its own

    def lines(self) -> dict[str, NDArray[np.float64]]:
        """Return the curves by names that suit columns; those of classes are from outside."""
        return {
            "covered": self.covered,
            "entropy, % of 1 bit": self.entropy,
            "best, train": self.train,
            "best, held out": self.test,
            **{f"class {k}": values for k, values in enumerate(self.classes.values())},
        }

    @property
    def legend(self) -> dict[str, str]:
        """The words that a legend has for each of the lines; not escaped."""
        words = {name: name for name in self.lines()}
        own = {f"class {k}": plain(name, LONGEST_NAME) for k, name in enumerate(self.classes)}
        return words | {name: f"best, {said}" for name, said in own.items()}


def curves_data(evolver: Evolver, points: int = CURVE_POINTS) -> CurvesData:
    """Return curves of at most ``points`` steps and where they began, the last step among them."""
    rows = evolver.records.sample(points)
    start = evolver.records.start if len(rows) else evolver.archive.standing
    assert start is not None  # there is a row
    began = rows[0, COLUMNS.index("step")] - 1 if len(rows) else evolver.generation
    # Of the members before the first step the score on held-out data was not kept.
    tested = evolver.test if not len(rows) else float("nan")
    first = (began, start.coverage, start.entropy, start.train, tested)
    columns = [COLUMNS.index(name) for name in ("step", "coverage", "entropy", "train", "test")]
    step, *shares = np.vstack((first, rows[:, columns])).T
    covered, entropy, train, test = (100 * share for share in shares)
    names = evolver.task.classes
    parts = {}
    if 1 < len(names) <= CURVE_CLASSES:
        parts = dict(
            zip(names, 100 * evolver.records.class_means_at(step, len(names)).T, strict=True)
        )
    return CurvesData(step, covered, entropy, train, test, parts)


NICHE_MODES = {"solved": "scores", "worth": "worth", "only one": "alone"}
"""What the niche map can show, and the field of ``NichesData`` that holds it."""


def choose_mode(mode: str) -> str:
    """Return the mode of a niche map, if it is one.

    Raises:
        InputError: an unknown mode.
    """
    return choose("mode of the niche map", mode, NICHE_MODES)


class NichesGeometry(NamedTuple):
    """Marks around a niche map of P rows and D columns, in its coordinates.

    Row r of the map lies between P − r − 1 and P − r.
    """

    width: float  # of map and bars
    height: float  # of map and strip
    crowd: dict[str, NDArray[np.float64]]  # x, top, base of the area of solvers above the map
    bars: dict[str, NDArray[np.float64]]  # x0, y0, x1, y1 of the fitness bars on the right
    notes: dict[str, list[Any]]  # x, y, text


def niches_geometry(data: NichesData, size: int) -> NichesGeometry:
    """Place solvers above the map and fitness beside it, in one coordinate system.

    Args:
        data: the map.
        size: members that fit into the archive; a point that all of them solve fills the strip.
    """
    members, columns = data.scores.shape
    base = members + 0.4
    rows = np.arange(members)
    steps = np.repeat(np.arange(columns + 1), 2)[1:-1].astype(float)
    top = base + CROWD_HEIGHT * np.repeat(data.crowd / max(size, 1), 2)
    left = columns * 1.02
    longest = max(float(data.fitness.max(initial=0.0)), 1e-12)
    return NichesGeometry(
        width=columns * (1.03 + FITNESS_WIDTH),
        height=members + CROWD_HEIGHT + 1.6,
        crowd={"x": steps, "top": top, "base": np.full(len(steps), base)},
        bars={
            "x0": np.full(members, left),
            "y0": members - rows - 0.85,
            "x1": left + columns * FITNESS_WIDTH * data.fitness / longest,
            "y1": members - rows - 0.15,
        },
        notes={
            "x": [0.0, left],
            "y": [base + CROWD_HEIGHT + 0.1, base + 0.1],
            "text": ["solvers per data point: crowded is cheap", "fitness"],
        },
    )
