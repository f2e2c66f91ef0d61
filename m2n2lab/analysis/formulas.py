"""Formulas with their numbers: the equations of a merge at one weight and at one data point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.analysis.lineage import seed_names
from m2n2lab.core.operators.crossover import Slerp
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.slerp import slerp
from m2n2lab.core.spaces.space import Vector
from m2n2lab.utils.arrays import Floats

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.records import Proposal


@dataclass(frozen=True)
class WeightFormula:
    """How one weight of a child comes from its parents: f_t(θ_A, θ_B).

    Attributes:
        index: of the weight in the flat vector.
        place: its tensor and row.
        split, mix: of the proposal.
        omega: ω in radians.
        t: w before the split, 1 − w from it on.
        factors: of A and B in f_t; empty where another crossover makes the child.
        crossover: its name then.
        terms: (n,) what the weight is a sum of: ``""``, the weight itself, or the names of the
            seeds whose weights a recipe mixes.
        a, b, child: (n,) the numbers of each.
    """

    index: int
    place: str
    split: int
    mix: float
    omega: float
    t: float
    factors: tuple[float, ...]
    crossover: str
    terms: tuple[str, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    child: tuple[float, ...]

    @property
    def merged(self) -> tuple[float, ...]:
        """f_t(θ_A, θ_B) (n,), the child without its mutation."""
        if not self.factors:
            return self.child
        a, b = self.factors
        return tuple(a * x + b * y for x, y in zip(self.a, self.b, strict=True))


@dataclass(frozen=True)
class PointFormula:
    """What one data point pays to each member that solves it, and what it adds to an attraction.

    Attributes:
        point: number of the data point.
        name: its class.
        ids: (P,) the members.
        scores: (P,) s_kj.
        fitness: (P,) of the members, over all data points.
        capacity: c_j.
        alpha: α; ``None`` where another competition sets the weights.
        competition: its name then.
        z: z_j, the sum of the scores.
        weight: c_j / z_j^α, what a score of 1 earns.
        parents: ids of A and B.
        child: the child's score; ``None`` once it is a member itself.
        attraction: g(A, B) over all data points; ``None`` if a parent has left the archive.
        gains: number of data points that add to it.
        seeds: (K,) names of the seeds.
    """

    point: int
    name: str
    ids: tuple[int, ...]
    scores: tuple[float, ...]
    fitness: tuple[float, ...]
    capacity: float
    alpha: float | None
    competition: str
    z: float
    weight: float
    parents: tuple[int, int]
    child: float | None
    attraction: float | None
    gains: int
    seeds: tuple[str, ...]

    def score(self, member: int) -> float:
        """Return the score of a member; NaN if it has left."""
        return self.scores[self.ids.index(member)] if member in self.ids else float("nan")

    @property
    def here(self) -> float:
        """What this data point adds to g(A, B); NaN if a parent has left the archive."""
        a, b = map(self.score, self.parents)
        return self.weight * max(b - a, 0.0) if a == a else float("nan")


@dataclass(frozen=True)
class FormulaData:
    """The equations of a pair and its child, with their numbers.

    Attributes:
        weight: at one weight.
        point: at one data point.
        size: N, number of weights.
        points: D, number of data points.
    """

    weight: WeightFormula
    point: PointFormula
    size: int
    points: int


def formula_data(
    evolver: Evolver,
    proposal: Proposal,
    genomes: Sequence[Any],
    child: Floats | None,
    index: int | None = None,
    point: int | None = None,
) -> FormulaData:
    """Return the equations for a pair and its child; nothing changes.

    Args:
        evolver: the search.
        proposal: of two parents.
        genomes: of A, B and the child.
        child: (D,) the child's scores; ``None`` once it is a member itself.
        index: of the weight; the last one before the split by default.
        point: the data point; by default the one that adds most to g(A, B).
    """
    return FormulaData(
        _weight(evolver, proposal, genomes, index),
        _point(evolver, proposal, child, point),
        evolver.space.size,
        evolver.archive.points,
    )


def _weight(
    evolver: Evolver, proposal: Proposal, genomes: Sequence[Any], index: int | None
) -> WeightFormula:
    split, mix, size = proposal.split or 0, proposal.mix or 0.0, evolver.space.size
    index = max(split, 1) - 1 if index is None else min(max(index, 0), size - 1)
    omega = evolver.space.angle(genomes[0], genomes[1])
    crossover = evolver.crossover or Slerp()
    plain = isinstance(crossover, Slerp) and evolver.parts is None
    w = crossover.stretched(mix) if isinstance(crossover, Slerp) else mix
    t = w if index < split else 1.0 - w
    numbers = [_numbers(genome, index) for genome in genomes]
    names = seed_names(evolver.space)
    columns = len(numbers[0])
    derived = tuple(f"derived vector {k + 1}" for k in range(columns - len(names)))
    several = isinstance(genomes[0], Recipe)
    return WeightFormula(
        index=index,
        place=evolver.space.layout.locate(index),
        split=split,
        mix=mix,
        omega=omega,
        t=t,
        factors=slerp(omega, t) if plain else (),
        crossover="" if plain else "groups of tensors" if evolver.parts else str(crossover),
        terms=(*names, *derived)[:columns] if several else ("",),
        a=numbers[0],
        b=numbers[1],
        child=numbers[2],
    )


def _numbers(genome: Any, index: int) -> tuple[float, ...]:
    """Return a genome's weight or, of a recipe, its coefficients there."""
    if isinstance(genome, Vector):
        return (float(genome.values[index]),)
    return tuple(genome.at(index).tolist())


def _point(
    evolver: Evolver, proposal: Proposal, child: Floats | None, point: int | None
) -> PointFormula:
    archive, task = evolver.archive, evolver.task
    first, second = proposal.parents
    weights, scores = archive.weights, archive.scores
    gains = np.zeros(archive.points)
    known = first in archive and second in archive
    if known:
        gains = weights * np.maximum(archive.scores_of(second) - archive.scores_of(first), 0.0)
    if point is None:
        point = int(np.argmax(gains))
    point = min(max(point, 0), archive.points - 1)
    z, weight = float(archive.z[point]), float(weights[point])
    alpha = archive.alpha if archive.competition is None else None
    return PointFormula(
        point=point,
        name=task.classes[int(task.groups[point])],
        ids=archive.ids,
        scores=tuple(scores[:, point].tolist()),
        fitness=tuple(archive.fitness.tolist()),
        capacity=weight * z**alpha if alpha is not None and z > 0.0 else weight,
        alpha=alpha,
        competition="" if archive.competition is None else str(archive.competition),
        z=z,
        weight=weight,
        parents=(first, second),
        child=None if child is None else float(child[point]),
        attraction=float(gains.sum()) if known else None,
        gains=int(np.count_nonzero(gains)),
        seeds=seed_names(evolver.space),
    )
