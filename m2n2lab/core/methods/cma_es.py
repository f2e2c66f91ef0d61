"""CMA-ES on the flat vector, with the ``cma`` library."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from m2n2lab.core.archive import Capacity
from m2n2lab.core.evolver import MAX_UNTOLD, Evolver
from m2n2lab.core.records import Generation, Proposal
from m2n2lab.core.spaces.space import DenseSpace
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number

MAX_FULL_COVARIANCE_WEIGHTS = 500
"""Weights up to which CMA-ES learns a noticeable part of the covariance in a usual run."""

EXTRA = 1 << 40
"""Number from which on solutions beyond the ``population`` of a generation are counted."""

EXTRA_PER_GENERATION = 1 << 20
"""Numbers for the extra solutions of one generation."""


class CmaEs(Evolver):
    """CMA-ES on the flat vector, as in the ``cma`` library; it maximises the mean score.

    Each step evaluates one solution; the distribution is updated after every ``population`` of
    them. Each solution is proposed once: where all of a generation are proposed and some are not
    told yet, as on workers, or never will be, extra ones are drawn from the same distribution, and
    the first ``population`` to be told count. The archive keeps the best models found, for the
    views. The step size is adapted by the
    length of the evolution path (CSA), whatever the number of weights N.

    A generation learns about 2 (1 + μ_eff) / N² of the full covariance (Hansen, The CMA Evolution
    Strategy: A Tutorial, arXiv 1604.00772, Table 1), so 2,500 generations of a network of 19,210
    weights change it by one part in ten thousand. Not learning it has the same effect without its
    N² numbers.

    Args:
        task, seeds, options: as for ``Evolver``; the search starts from the seeds' mean.
        sigma0: initial step size.
        population: solutions per generation.
        covariance: the learned part of it: ``"none"``, the ``"diagonal"`` or ``"full"``, which
            takes N² doubles (3 GB for the digits network); by default full for up to 500 weights
            and none for more.
    """

    method = "cma-es"
    lowest_leaves = False  # every child's mean score updates the distribution
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
            warnings.simplefilter("ignore")  # about matplotlib, which only its plots need
            import cma
            from cma.sigma_adaptation import CMAAdaptSigmaCSA

        super().__init__(task, seeds, alpha=alpha, capacity=capacity, **options)
        if not isinstance(self.space, DenseSpace):
            raise InputError(
                f"CMA-ES needs models that are vectors, got a {type(self.space).__name__}; "
                f"use another method for it."
            )
        if covariance is None:
            covariance = "full" if self.space.size <= MAX_FULL_COVARIANCE_WEIGHTS else "none"
        choose("covariance", covariance, ("none", "diagonal", "full"))
        start = np.mean([seed.values for seed in self.space.seeds], axis=0, dtype=np.float64)
        self._normals: np.random.Generator = self.rng
        self._es = cma.CMAEvolutionStrategy(
            start,
            real_number("sigma0", sigma0, 1e-12),
            {
                "popsize": whole_number("population", population, 2),
                "CMA_diagonal": covariance != "full",
                "CMA_on": float(covariance != "none"),
                # From 300 weights on the library's default adapts the step size by comparing two
                # solutions per generation, whose accuracies are too often equal: it vanishes.
                "AdaptSigma": CMAAdaptSigmaCSA,
                "randn": self._standard_normal,
                "seed": float("nan"),  # leave NumPy's global generator alone
                "verbose": -9,
            },
        )
        self.options |= {"sigma0": sigma0, "population": population, "covariance": covariance}
        self._population = population
        self._generation = 0  # number of the distribution
        self._solutions: list[Floats] = []  # of the current generation
        self._next = 0  # number of the next solution to propose
        self._extras = 0  # number of extra solutions proposed in this generation
        self._costs: dict[int, float] = {}  # negated scores of this generation, by number
        self._drawn: dict[int, Floats] = {}  # extra solutions, and earlier ones that are not told
        self._expected: defaultdict[int, list[int]] = defaultdict(list)  # extras, by generation

    def _standard_normal(self, *shape: int) -> Floats:
        return self._normals.standard_normal(shape)

    def _draw(self, u_a: float, u_b: float, u_split: float, u_mix: float, seed: int) -> Proposal:
        if not self._solutions:
            self._solutions = self._es.ask()
            for number in self._expected.pop(self._generation, ()):
                self._solution(number)
        # A number can be told before it is proposed here: in a run that was recorded on workers.
        while (number := self._next_number()) in self._costs:
            pass
        if number >= EXTRA:
            self._solution(number)  # drawn now, as it may be bred when the distribution is another
        return Proposal((), None, None, number)

    def _next_number(self) -> int:
        if self._next < self._first + self._population:
            self._next += 1
            return self._next - 1
        self._extras += 1
        return EXTRA + self._generation * EXTRA_PER_GENERATION + self._extras - 1

    @property
    def _first(self) -> int:
        """Number of the first solution of the generation."""
        return self._generation * self._population

    def _is_current(self, number: int) -> bool:
        """Return whether a solution belongs to the current generation."""
        if number >= EXTRA:
            return (number - EXTRA) // EXTRA_PER_GENERATION == self._generation
        return self._first <= number < self._first + len(self._solutions)

    def _make(self, proposal: Proposal) -> Any:
        if proposal.parents:
            return super()._make(proposal)
        return self.space.genome(self._solution(proposal.seed))

    def _solution(self, number: int) -> Floats:
        """Return a solution by number, of this generation or one of those kept from earlier ones.

        Raises:
            InputError: it belongs to another generation.
        """
        current = bool(self._solutions) and self._is_current(number)
        if current and number < EXTRA:
            return self._solutions[number - self._first]
        if number not in self._drawn:
            if not current:
                raise InputError(
                    f"Solution {number} belongs to another generation of CMA-ES; ask for a new "
                    f"proposal."
                )
            self._keep(number, self._extra(number))
        return self._drawn[number]

    def _extra(self, number: int) -> Floats:
        """Return one more solution of this generation, the same for the same number."""
        self._normals = np.random.default_rng((self.options["rng"], number))
        try:
            solution: Floats = self._es.ask(1)[0]
        finally:
            self._normals = self.rng
        return solution

    def _keep(self, number: int, solution: Floats) -> None:
        self._drawn[number] = solution
        if len(self._drawn) > MAX_UNTOLD:
            del self._drawn[next(iter(self._drawn))]

    def expect(self, proposals: Sequence[Proposal]) -> None:
        """Draw the extra solutions among ``proposals`` while their generation lasts."""
        for proposal in proposals:
            if not proposal.parents and proposal.seed >= EXTRA:
                generation = (proposal.seed - EXTRA) // EXTRA_PER_GENERATION
                self._expected[generation].append(proposal.seed)

    def _learn(self, generation: Generation) -> None:
        """Update the distribution after the last solution of a generation."""
        proposal = generation.proposal
        if proposal is None or proposal.parents:
            return
        number = proposal.seed
        if not self._is_current(number):
            self._drawn.pop(number, None)
            return
        self._costs[number] = -generation.verdict.score
        if len(self._costs) == self._population:
            told = sorted(self._costs)
            solutions = [self._solution(number) for number in told]
            with warnings.catch_warnings():
                # The library expects all that it proposed, of which some may never be told.
                warnings.simplefilter("ignore")
                self._es.tell(solutions, [self._costs[number] for number in told])
            for number in range(self._first, self._next):
                if number not in self._costs:
                    self._keep(number, self._solutions[number - self._first])
            for number in told:
                self._drawn.pop(number, None)
            self._generation += 1
            self._next, self._extras = self._first, 0
            self._solutions, self._costs = [], {}

    def state_dict(self) -> dict[str, Any]:
        """Raise an error, because the library has its state as objects only.

        Raises:
            InputError: always.
        """
        raise InputError(
            "The state of CMA-ES cannot be saved, because the cma library has it as objects; run "
            "it again with the same rng, which repeats it exactly."
        )
