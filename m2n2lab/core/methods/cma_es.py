"""CMA-ES on the flat vector, with the ``cma`` library."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.archive import Capacity
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.records import Generation, Partial, Proposal
from m2n2lab.core.spaces.space import DenseSpace
from m2n2lab.core.task import Task
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number
from m2n2lab.utils.fair_locks import in_turn

MAX_FULL_COVARIANCE_WEIGHTS = 500
"""Weights up to which CMA-ES learns a noticeable part of the covariance in a usual run."""


class CmaEs(Evolver):
    """CMA-ES on the flat vector, as in the ``cma`` library; it maximises the mean score.

    Each step evaluates one solution; the distribution is updated after every ``population`` of
    them. The archive keeps the best models found, for the views. The step size is adapted by the
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
                "randn": lambda *shape: self.rng.standard_normal(shape),
                "seed": float("nan"),  # leave NumPy's global generator alone
                "verbose": -9,
            },
        )
        self.options |= {"sigma0": sigma0, "population": population, "covariance": covariance}
        self._solutions: list[NDArray[np.float64]] = []  # of the current generation
        self._first = 0  # number of its first solution
        self._next = 0  # number of the next solution to propose
        self._costs: dict[int, float] = {}  # negated scores of this generation, by number

    def _draw(self, u_a: float, u_b: float, u_split: float, u_mix: float, seed: int) -> Proposal:
        number = self._next
        if number >= self._first + len(self._solutions):
            if len(self._costs) < len(self._solutions):
                # Proposed solutions that have no score yet are proposed again.
                number = next(k for k in range(self._first, self._next) if k not in self._costs)
                return Proposal((), None, None, number)
            self._solutions, self._first = self._es.ask(), number
        self._next += 1
        return Proposal((), None, None, number)

    def _make(self, proposal: Proposal) -> Any:
        if proposal.parents:
            return super()._make(proposal)
        return self.space.genome(self._solution(proposal))

    def _solution(self, proposal: Proposal) -> NDArray[np.float64]:
        index = proposal.seed - self._first
        if not 0 <= index < len(self._solutions):
            raise InputError(
                f"Solution {proposal.seed} belongs to an earlier generation of CMA-ES; ask for a "
                f"new proposal."
            )
        return self._solutions[index]

    @in_turn
    def tell(
        self,
        child: Proposal | Any,
        scores: ArrayLike | Partial | None = None,
        *,
        genome: Any = None,
    ) -> Generation:
        """Let a child compete and, after the last of a generation, update the distribution."""
        generation = super().tell(child, scores, genome=genome)
        proposal = generation.proposal
        end = self._first + len(self._solutions)
        if proposal is not None and not proposal.parents and self._first <= proposal.seed < end:
            self._costs[proposal.seed] = -generation.verdict.score
            if len(self._costs) == len(self._solutions):
                self._es.tell(self._solutions, [self._costs[k] for k in sorted(self._costs)])
                self._first, self._solutions, self._costs = self._next, [], {}
        return generation

    def state_dict(self) -> dict[str, Any]:
        """Raise an error, because the library has its state as objects only.

        Raises:
            InputError: always.
        """
        raise InputError(
            "The state of CMA-ES cannot be saved, because the cma library has it as objects; run "
            "it again with the same rng, which repeats it exactly."
        )
