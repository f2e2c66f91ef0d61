"""Methods to compare with, behind the same ask, evaluate, tell and history as M2N2."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.archive import Archive, Capacity
from m2n2lab.errors import InputError, choose, real_number, whole_number
from m2n2lab.evolver import Evolver
from m2n2lab.population import Floats, Member
from m2n2lab.records import Generation, Partial, Proposal
from m2n2lab.spaces import DenseSpace, Space
from m2n2lab.tasks.base import Task
from m2n2lab.turns import in_turn
from m2n2lab.variant import Plus


class GridArchive(Archive):
    """MAP-Elites' archive: the best model of each cell of a grid of behaviours lives.

    Args:
        side: cells a side; up to side² members live.
        halves: (D,) whether a data point counts for the first behaviour (else the second).
            A model's behaviours are its mean scores on either half.
    """

    def __init__(self, halves: NDArray[np.bool_], side: int = 10) -> None:
        self.side = side
        self.halves = halves
        self._cells: dict[int, tuple[int, int]] = {}  # cells of the members, by id
        super().__init__(len(halves), side * side, alpha=0.0)

    def cell(self, scores: Floats) -> tuple[int, int]:
        """Return the cell that scores (D,) fall in; a perfect half falls in the last cell."""
        # A half without points is solved by nobody.
        first, second = (
            float(scores[half].sum()) / max(int(half.sum()), 1)
            for half in (self.halves, ~self.halves)
        )
        top = self.side - 1
        return min(int(first * self.side), top), min(int(second * self.side), top)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As ``Archive.load_state_dict``; ids mean other members then, in other cells."""
        self._cells = {}
        super().load_state_dict(state)

    def _contest(self, fitness: list[float]) -> tuple[bool, int | None]:
        """Let a child live where its cell is empty or its elite has a lower score."""
        now = self._now
        self._cells = {
            id: self._cells.get(id) or self.cell(now.scores[row]) for id, row in now.row_of.items()
        }
        mine = self.cell(now.scores[now.spare])
        for id, cell in self._cells.items():
            if cell == mine:
                row = now.row_of[id]
                return fitness[now.spare] > fitness[row], row
        return True, None

    def draw_mate(self, parent: int, u: float) -> int:
        """Return the id of another member that ``u`` in [0, 1) picks by fitness."""
        return self._draw_other(self._row(parent), u)


class MapElites(Evolver):
    """MAP-Elites over a 10×10 grid of (odd accuracy, even accuracy), with M2N2's merge.

    Parents are drawn in proportion to their scores. "Odd" and "even" are the numbers of the
    classes; a task with one class is halved by the numbers of its data points.

    Args:
        task, seeds, options: as for ``Evolver``; ``archive_size`` is the number of cells and must
            be a square number.
    """

    method = "map-elites"
    lowest_leaves = False  # a cell's elite does

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        archive_size: int = 100,
        alpha: float = 0.0,
        capacity: Capacity = "one",
        **options: Any,
    ) -> None:
        super().__init__(
            task, seeds, archive_size=archive_size, alpha=alpha, capacity=capacity, **options
        )

    def _new_archive(self, size: int, alpha: float, capacity: Capacity) -> Archive:
        side = round(whole_number("archive_size", size, 1) ** 0.5)
        if side * side != size or alpha != 0.0 or capacity != "one":
            raise InputError(
                f"MAP-Elites needs a square archive_size, alpha 0 and capacity 'one', but "
                f"{size}, {alpha:g} and {capacity!r} came; leave them out for its 10×10 grid."
            )
        groups = self.task.groups if len(self.task.classes) > 1 else np.arange(self.task.points)
        return GridArchive(groups % 2 == 1, side)


LEARNED = 500
"""Weights up to which CMA-ES learns a noticeable part of the covariance in a usual run."""


class CmaEs(Evolver):
    """CMA-ES on the flat vector, as the ``cma`` library does it; scores are mean scores.

    Each step is one solution; the distribution moves after every ``population`` of them. The
    archive keeps the best models found, for the views. The step size follows the length of the
    evolution path (CSA), whatever the number of weights N.

    A generation learns a share of some 2 (1 + μ_eff) / N² of the full covariance (Hansen, The CMA
    Evolution Strategy: A Tutorial, arXiv 1604.00772, Table 1), so that for a network of 19,210
    weights 2,500 generations leave it where it was, to one part in ten thousand. Leaving it alone
    does the same without its N² numbers.

    Args:
        task, seeds, options: as for ``Evolver``; the search starts from the seeds' mean.
        sigma0: first step size.
        population: solutions a generation.
        covariance: what is learned of it: ``"none"``, the ``"diagonal"`` or ``"full"``, which takes
            N² doubles (3 GB for the digits network); full for up to 500 weights by default, none
            for more.
    """

    method = "cma-es"
    lowest_leaves = False  # the distribution moves by every child's mean score
    saves = False

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        sigma0: float = 0.01,
        population: int = 20,
        covariance: Literal["none", "diagonal", "full"] | None = None,
        alpha: float = 0.0,
        capacity: Capacity = "one",
        **options: Any,
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its plots want matplotlib, which is not needed
            import cma
            from cma.sigma_adaptation import CMAAdaptSigmaCSA

        super().__init__(task, seeds, alpha=alpha, capacity=capacity, **options)
        if not isinstance(self.space, DenseSpace):
            raise InputError(
                f"CMA-ES needs models that are vectors, but a {type(self.space).__name__} came; "
                f"use another method for it."
            )
        if covariance is None:
            covariance = "full" if self.space.size <= LEARNED else "none"
        choose("covariance", covariance, ("none", "diagonal", "full"))
        start = np.mean([seed.values for seed in self.space.seeds], axis=0, dtype=np.float64)
        self._es = cma.CMAEvolutionStrategy(
            start,
            real_number("sigma0", sigma0, 1e-12),
            {
                "popsize": whole_number("population", population, 2),
                "CMA_diagonal": covariance != "full",
                "CMA_on": float(covariance != "none"),
                # From 300 weights on the library would measure the step size by two solutions of
                # each generation, whose accuracies are too often equal: it shrinks to nothing.
                "AdaptSigma": CMAAdaptSigmaCSA,
                "randn": lambda *shape: self.rng.standard_normal(shape),
                "seed": float("nan"),  # leave NumPy's global generator alone
                "verbose": -9,
            },
        )
        self.options |= {"sigma0": sigma0, "population": population, "covariance": covariance}
        self._asked: list[NDArray[np.float64]] = []  # the current generation's solutions
        self._first = 0  # number of its first solution
        self._next = 0  # number of the next solution to hand out
        self._costs: dict[int, float] = {}  # negated scores of this generation, by number

    def _draw(self, u_a: float, u_b: float, u_split: float, u_mix: float, seed: int) -> Proposal:
        number = self._next
        if number >= self._first + len(self._asked):
            if len(self._costs) < len(self._asked):
                # Solutions that were asked for and never told are handed out again.
                number = next(k for k in range(self._first, self._next) if k not in self._costs)
                return Proposal((), None, None, number)
            self._asked, self._first = self._es.ask(), number
        self._next += 1
        return Proposal((), None, None, number)

    def _make(self, proposal: Proposal) -> Any:
        if proposal.parents:
            return super()._make(proposal)
        return self.space.genome(self._solution(proposal))

    def _solution(self, proposal: Proposal) -> NDArray[np.float64]:
        index = proposal.seed - self._first
        if not 0 <= index < len(self._asked):
            raise InputError(
                f"Solution {proposal.seed} belongs to an earlier generation of CMA-ES; ask for a "
                f"new proposal."
            )
        return self._asked[index]

    @in_turn
    def tell(
        self,
        child: Proposal | Any,
        scores: ArrayLike | Partial | None = None,
        *,
        genome: Any = None,
    ) -> Generation:
        """Let a child compete and, after the last of a generation, move the distribution."""
        generation = super().tell(child, scores, genome=genome)
        proposal = generation.proposal
        last = self._first + len(self._asked)
        if proposal is not None and not proposal.parents and self._first <= proposal.seed < last:
            self._costs[proposal.seed] = -generation.verdict.score
            if len(self._costs) == len(self._asked):
                self._es.tell(self._asked, [self._costs[k] for k in sorted(self._costs)])
                self._first, self._asked, self._costs = self._next, [], {}
        return generation

    def state_dict(self) -> dict[str, Any]:
        """Raise: the library keeps its state as objects only.

        Raises:
            InputError: always.
        """
        raise InputError(
            "The state of CMA-ES cannot be saved, because the cma library keeps it as objects; run "
            "it again with the same rng, which repeats it exactly."
        )


class BruteForce(Evolver):
    """Try SLERP ratios of two seeds from 0 to 1, without a split; then start over.

    Args:
        task, seeds, options: as for ``Evolver``; exactly two seeds.
        ratios: how many ratios there are.
    """

    method = "brute-force"

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        ratios: int = 10_000,
        alpha: float = 0.0,
        capacity: Capacity = "one",
        **options: Any,
    ) -> None:
        self.ratios = whole_number("ratios", ratios, 2)
        super().__init__(task, seeds, alpha=alpha, capacity=capacity, **options)
        self.options["ratios"] = self.ratios
        if len(self.space.seeds) != 2:
            raise InputError(
                f"Brute force tries the ratios of exactly two seeds, but {len(self.space.seeds)} "
                f"came; choose two."
            )
        # Not from the archive, which may have room for one of them only.
        a, b = (Member(id, 0, (), seed, float("nan")) for id, seed in enumerate(self.space.seeds))
        self._seeds = (a, b)

    def _draw(self, u_a: float, u_b: float, u_split: float, u_mix: float, seed: int) -> Proposal:
        ratio = (self.generation % self.ratios) / (self.ratios - 1)
        return Proposal((0, 1), self.space.size, ratio, seed)

    def _parents(self, proposal: Proposal) -> tuple[Member, ...]:
        """Return the parents; the seeds can be merged although they no longer live."""
        return self._seeds if proposal.parents == (0, 1) else super()._parents(proposal)


class Method(NamedTuple):
    """How to make the evolver of a named method."""

    kind: type[Evolver]
    options: dict[str, Any]
    words: str


# Fitness is the plain sum of scores, also of graded ones.
_GA = {"alpha": 0.0, "capacity": "one", "attraction": False}

METHODS = {
    "m2n2": Method(Evolver, {}, "competition, attraction and split points"),
    "m2n2-no-crossover": Method(Evolver, {"crossover": False}, "M2N2 by mutation alone"),
    "m2n2-no-split": Method(Evolver, {"split_point": False}, "M2N2 with one mix for all weights"),
    "m2n2-no-attraction": Method(Evolver, {"attraction": False}, "M2N2, both parents by fitness"),
    "ga": Method(Evolver, _GA, "genetic algorithm: no competition, no attraction"),
    "ga-no-crossover": Method(Evolver, {**_GA, "crossover": False}, "GA by mutation alone"),
    "map-elites": Method(MapElites, {}, "the best of each cell of a grid of behaviours"),
    "cma-es": Method(CmaEs, {}, "a normal distribution that adapts (cma library)"),
    "brute-force": Method(BruteForce, {}, "10,000 SLERP ratios of the two seeds"),
    "m2n2+": Method(Plus, {}, "the lab's variant: M2N2 with weight decay and reach"),
}
"""Every method by name, in the order in which views list them."""


def make_evolver(
    method: str, task: Task, seeds: Sequence[Any] | NDArray[Any] | Space, **options: Any
) -> Evolver:
    """Return the evolver of a method by name (see ``METHODS``).

    Args:
        method: its name.
        task, seeds, options: as for ``Evolver``, and what the method adds.

    Raises:
        InputError: an unknown method, an option it does not have or that makes it another method.
    """
    kind, preset, _ = METHODS[choose("method", method, METHODS)]
    for name in preset.keys() & options.keys():
        if options[name] != preset[name]:
            raise InputError(
                f"Method {method!r} means {name}={preset[name]!r}, but {name}={options[name]!r} "
                f"came; leave it out or choose another method."
            )
    for name in options:
        choose(f"option of method {method!r}", name, _options_of(kind))
    return kind(task, seeds, **{**options, **preset}, method=method)


def _options_of(kind: type[Evolver]) -> list[str]:
    """Return the names of the keyword options that a class of evolvers takes."""
    parameters = [
        parameter
        for base in (kind, Evolver)
        for parameter in inspect.signature(base.__init__).parameters.values()
    ]
    names = dict.fromkeys(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    return [name for name in names if name != "method"]
