"""Niche map, attraction matrix and progress curves of a search, as plain arrays (``*_data``).

``m2n2lab.viz`` draws them; the dashboard refreshes the same drawings with new arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.analysis.lineage import called
from m2n2lab.core.archive import Archive
from m2n2lab.core.history import COLUMNS
from m2n2lab.core.task import Task
from m2n2lab.utils.errors import choose
from m2n2lab.utils.text import plain

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver

MAX_CURVE_POINTS = 400
"""Maximum number of points of a curve, whatever the length of the run."""

MAX_CURVE_CLASSES = 4
"""Maximum number of classes for which each has a curve, such as the tasks of a sum of tasks."""

MAX_NAME_CHARS = 30
"""Maximum length of a class's name in a legend."""

CROWD_HEIGHT_ROWS = 2.4
"""Height of the strip of solvers above the niche map, in rows."""

FITNESS_WIDTH_SHARE = 0.16
"""Width of the fitness bars beside the niche map, as a share of its width."""


class NichesData(NamedTuple):
    """Members and the data points they solve, rows by fitness, columns grouped by class.

    The fittest is first. Within a class the data points are sorted by the number of members that
    solve them, crowded ones left, which makes niches visible.
    """

    ids: tuple[int, ...]  # (P,)
    fitness: NDArray[np.float64]  # (P,)
    points: NDArray[np.intp]  # (D,) data point of each column
    scores: NDArray[np.float32]  # (P, D)
    worth: NDArray[np.float32]  # (P, D) c_j s_kj / z_j^α
    alone: NDArray[np.float32]  # (P, D) the score where no other member scores, else −score
    crowd: NDArray[np.float64]  # (D,) z_j
    solvers: NDArray[np.intp]  # (D,) number of members that score
    weights: NDArray[np.float64]  # (D,) c_j / z_j^α
    names: Sequence[str] | None  # of all data points by number, if they have names
    classes: tuple[str, ...]
    edges: NDArray[np.intp]  # (classes + 1,) first column of each class, and D
    seeds: tuple[str, ...] = ()  # (K,) names of the seeds

    @property
    def labels(self) -> tuple[str, ...]:
        """What the members (P,) are called."""
        return tuple(called(id, self.seeds) for id in self.ids)


def niches_data(archive: Archive, task: Task, seeds: Sequence[str] = ()) -> NichesData:
    """Return the niche map of an archive; seeds are called by their names, if any are given."""
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
        seeds=tuple(seeds),
    )


class AttractionData(NamedTuple):
    """Attraction g(A, B), rows A and columns B, the fittest first."""

    ids: tuple[int, ...]  # (P,)
    worth: NDArray[np.float64]  # (P, P) g, NaN on the diagonal
    most: NDArray[np.intp]  # (P, P) class with the largest part of g
    part: NDArray[np.float32]  # (P, P) that part
    classes: tuple[str, ...]
    seeds: tuple[str, ...] = ()  # (K,) names of the seeds

    @property
    def labels(self) -> tuple[str, ...]:
        """What the members (P,) are called."""
        return tuple(called(id, self.seeds) for id in self.ids)

    def ordered(self, order: Sequence[int]) -> AttractionData:
        """Return the same with rows and columns in another order (P,)."""
        cells = np.ix_(order, order)
        return AttractionData(
            tuple(self.ids[row] for row in order),
            self.worth[cells],
            self.most[cells],
            self.part[cells],
            self.classes,
            self.seeds,
        )


def attraction_data(archive: Archive, task: Task, seeds: Sequence[str] = ()) -> AttractionData:
    """Return the attraction matrix of an archive; seeds are called by names, if any are given."""
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
        tuple(seeds),
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
    """Return an order of the rows of scores (P, D) in which members that solve the same are close.

    The distance of two members is the less the more they share of what either solves (Jaccard's
    distance for right/wrong scores). Of both directions the one with the lower row first is taken.
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
    """Progress of a search in per cent, from the standing before its first step."""

    step: NDArray[np.float64]  # (n,)
    covered: NDArray[np.float64]  # (n,) share of data points that some member solves
    entropy: NDArray[np.float64]  # (n,) of 1 bit a data point: half the members solve each
    train: NDArray[np.float64]  # (n,) score of the best member
    test: NDArray[np.float64]  # (n,) its score on held-out data; NaN where unknown
    classes: Mapping[str, NDArray[np.float64]]  # (n,) best member's score in each class, if few

    def lines(self) -> dict[str, NDArray[np.float64]]:
        """Return the curves by column name; classes are numbered, as their names are arbitrary."""
        return {
            "covered": self.covered,
            "how mixed the answers are (entropy)": self.entropy,
            "best, train": self.train,
            "best, held out": self.test,
            **{f"class {k}": values for k, values in enumerate(self.classes.values())},
        }

    @property
    def legend(self) -> dict[str, str]:
        """Legend label of each line by column name; not escaped."""
        labels = {name: name for name in self.lines()}
        classes = {f"class {k}": plain(name, MAX_NAME_CHARS) for k, name in enumerate(self.classes)}
        return labels | {column: f"best, {name}" for column, name in classes.items()}


def curves_data(evolver: Evolver, points: int = MAX_CURVE_POINTS) -> CurvesData:
    """Return curves of at most ``points`` steps, including the last, from where they began."""
    rows = evolver.records.sample(points)
    start = evolver.records.start if len(rows) else evolver.archive.standing
    assert start is not None  # there is a row
    began = rows[0, COLUMNS.index("step")] - 1 if len(rows) else evolver.generation
    # The held-out score before the first step is not recorded.
    tested = evolver.test if not len(rows) else float("nan")
    first = (began, start.coverage, start.entropy, start.train, tested)
    columns = [COLUMNS.index(name) for name in ("step", "coverage", "entropy", "train", "test")]
    step, *shares = np.vstack((first, rows[:, columns])).T
    covered, entropy, train, test = (100 * share for share in shares)
    names = evolver.task.classes
    classes = {}
    if 1 < len(names) <= MAX_CURVE_CLASSES:
        means = 100 * evolver.records.class_means_at(step, len(names))
        classes = dict(zip(names, means.T, strict=True))
    return CurvesData(step, covered, entropy, train, test, classes)


NICHE_MODES = {"solved": "scores", "worth": "worth", "only one": "alone"}
"""Modes of the niche map, and their fields of ``NichesData``."""


def choose_mode(mode: str) -> str:
    """Return ``mode`` if it is a mode of the niche map.

    Raises:
        InputError: the mode is unknown.
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
    """Return the solvers above the map and the fitness beside it, in one coordinate system.

    Args:
        data: the map.
        size: capacity of the archive; a data point that so many members solve fills the strip.
    """
    members, columns = data.scores.shape
    base = members + 0.4
    rows = np.arange(members)
    steps = np.repeat(np.arange(columns + 1), 2)[1:-1].astype(float)
    top = base + CROWD_HEIGHT_ROWS * np.repeat(data.crowd / max(size, 1), 2)
    left = columns * 1.02
    longest = max(float(data.fitness.max(initial=0.0)), 1e-12)
    return NichesGeometry(
        width=columns * (1.03 + FITNESS_WIDTH_SHARE),
        height=members + CROWD_HEIGHT_ROWS + 0.6,
        crowd={"x": steps, "top": top, "base": np.full(len(steps), base)},
        bars={
            "x0": np.full(members, left),
            "y0": members - rows - 0.85,
            "x1": left + columns * FITNESS_WIDTH_SHARE * data.fitness / longest,
            "y1": members - rows - 0.15,
        },
        notes={
            "x": [columns * (1.03 + FITNESS_WIDTH_SHARE)],
            "y": [base + 0.1],
            "text": ["fitness"],
        },
    )
