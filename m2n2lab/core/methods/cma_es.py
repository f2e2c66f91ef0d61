"""CMA-ES on the flat vector, or on mixes of the seeds a layer, with the ``cma`` library."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import numpy as np

from m2n2lab.core.archive import Capacity
from m2n2lab.core.evolver import MAX_UNTOLD, Evolver
from m2n2lab.core.operators.crossover import MergeSpace, layer_starts
from m2n2lab.core.records import Generation, Proposal
from m2n2lab.core.spaces.space import DenseSpace, Vector
from m2n2lab.core.task import Task
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number

Granularity = Literal["weights", "layer", "tensor", "group"]

MAX_FULL_COVARIANCE_WEIGHTS = 500
"""Numbers up to which CMA-ES learns a noticeable part of the covariance in a usual run."""

EXTRA = 1 << 40
"""Number from which on solutions beyond the ``population`` of a generation are counted."""

EXTRA_PER_GENERATION = 1 << 20
"""Numbers for the extra solutions of one generation."""


class CmaEs(Evolver):
    """CMA-ES as in the ``cma`` library; it maximises the mean score.

    It searches the weights of a ``DenseSpace`` or, in any space, the mixes of the seeds: SLERP with
    a mix in [0, 1] of its own for each layer, tensor or group of tensors. Of K seeds the second is
    merged into the first, the third into both, and so on, K − 1 mixes a layer, which are 1/2, 1/3
    and so on at the start. So models of any size are searched, checkpoints among them, whose
    members are recipes.

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
        task, seeds, options: as for ``Evolver``; the search starts from the seeds' mean, whose
            buffers all models have where weights are searched.
        sigma0: initial step size, by default 0.01 for weights and 0.2 for mixes.
        granularity: what is searched: the ``"weights"`` (by default in a ``DenseSpace``), or the
            mixes of each ``"layer"`` (by default elsewhere), ``"tensor"`` or ``"group"`` of
            ``groups``.
        population: solutions per generation.
        covariance: the learned part of it: ``"none"``, the ``"diagonal"`` or ``"full"``, which
            takes N² doubles (3 GB for the digits network); by default full for up to 500 weights
            and none for more.
    """

    method = "cma-es"
    own_operators = ("crossover", "mate", "replacement", "mutation", "warmup")
    lowest_leaves = False  # every child's mean score updates the distribution
    saves = False

    def __init__(
        self,
        task: Task,
        seeds: Any,
        *,
        sigma0: float | None = None,
        granularity: Granularity | None = None,
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
        if granularity is None:
            granularity = "weights" if isinstance(self.space, DenseSpace) else "layer"
        self._granularity = choose("granularity", granularity, get_args(Granularity))
        mixed = granularity != "weights"
        start = self._equal_mixes() if mixed else self._mean_weights()
        sigma0 = (0.2 if mixed else 0.01) if sigma0 is None else sigma0
        if covariance is None:
            covariance = "full" if len(start) <= MAX_FULL_COVARIANCE_WEIGHTS else "none"
        choose("covariance", covariance, ("none", "diagonal", "full"))
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
                "randn": self._randn,
                "seed": float("nan"),  # leave NumPy's global generator alone
                "bounds": [0.0, 1.0] if mixed else [None, None],
                "verbose": -9,
            },
        )
        self.options |= {"sigma0": sigma0, "population": population, "covariance": covariance}
        self.options["granularity"] = granularity
        self._normals: np.random.Generator = self.rng
        self._population = population
        self._generation = 0  # number of the distribution
        self._solutions: list[Floats] = []  # of the current generation
        self._next = 0  # number of the next solution to propose
        self._extras = 0  # number of extra solutions proposed in this generation
        self._costs: dict[int, float] = {}  # negated scores of this generation, by number
        self._drawn: dict[int, Floats] = {}  # extra solutions, and earlier ones that are not told
        self._expected: defaultdict[int, list[int]] = defaultdict(list)  # extras, by generation

    def _randn(self, *shape: int) -> Floats:
        """Return normal numbers for the library, from the search's own generator."""
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
        return self._genome(self._solution(proposal.seed))

    def _mean_weights(self) -> Floats:
        """Return the mean of the seeds' vectors.

        Raises:
            InputError: the models are no vectors, or only parts of them are to be merged.
        """
        if not isinstance(self.space, DenseSpace):
            raise InputError(
                f"CMA-ES of weights needs models that are vectors, got a "
                f"{type(self.space).__name__}; use granularity='layer' for it."
            )
        if self.parts is not None:
            raise InputError(
                "CMA-ES of weights changes all of them, got groups, include, exclude or freeze; "
                "leave them out, or use granularity='group'."
            )
        # Solutions have weights only; buffers are those of the point that the search starts from.
        self._buffers = self.space.mean_buffers(self.space.seeds)
        mean: Floats = np.mean([s.values for s in self.space.seeds], axis=0, dtype=np.float64)
        return mean

    def _equal_mixes(self) -> Floats:
        """Return the mixes of all layers: 1/2 for the second seed, 1/3 for the third, and so on.

        Raises:
            InputError: the space cannot merge stretches, or groups are given for another
                granularity or missing.
        """
        if not hasattr(self.space, "merge_stretches"):
            raise InputError(
                f"CMA-ES of mixes needs a space that merges stretches, got a "
                f"{type(self.space).__name__}; use granularity='weights'."
            )
        if self._granularity == "group":
            if self.parts is None:
                raise InputError(
                    "granularity='group' needs groups of tensors, got none; give groups=, or use "
                    "granularity='layer'."
                )
            layers = len(self.parts.groups)
        elif self.parts is not None:
            raise InputError(
                f"granularity={self._granularity!r} mixes all tensors, got groups, include, "
                f"exclude or freeze; use granularity='group', or leave them out."
            )
        else:
            layers = len(self._edges()) - 1
        return np.repeat(1.0 / np.arange(2, len(self.space.seeds) + 1), layers)

    def _edges(self) -> list[int]:
        """Return first index and end of the layers or tensors, one after the other."""
        layout = self.space.layout
        if self._granularity == "tensor":
            return list(layout.offsets)
        return [*layer_starts(layout), layout.size]

    def _genome(self, solution: Floats) -> Any:
        """Return the genome of a solution: the weights, or the seeds merged with these mixes."""
        if self._granularity == "weights":
            return self.space.genome(Vector(solution, self._buffers))
        child, *others = self.space.seeds
        for seed, mixes in zip(others, np.split(solution, len(others)), strict=True):
            if self.parts is not None:
                child = self.parts.merge(child, seed, mixes.tolist(), self.space)
            else:
                space = cast("MergeSpace", self.space)  # as checked
                child = space.merge_stretches(child, seed, self._edges(), mixes.tolist())
        return child

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
