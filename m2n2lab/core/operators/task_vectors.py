"""Task vectors: crossovers that add up what fine-tuning changed, the differences to a base model.

With the base θ_0 and τ_A = A − θ_0, τ_B = B − θ_0, and the share w of B on its side of the split,
A and B count 2 (1 − w) and 2 w, so that both count 1 for a mix of one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.operators.crossover import Crossover, MergeSpace, stretches
from m2n2lab.core.records import Proposal
from m2n2lab.core.spaces.tensor_rule import TensorRule
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, real_number, whole_number

BLOCK_ELEMENTS = 1 << 16
"""Elements computed at a time where each depends on no other, to need little memory."""


def _base(space: MergeSpace, number: int) -> Any:
    """Return the genome of the base model, a seed."""
    if not 0 <= number < len(space.seeds):
        raise InputError(
            f"base must be the number of a seed in [0, {len(space.seeds) - 1}], got {number}; give "
            f"the base model as one of the seeds."
        )
    return space.seeds[number]


@dataclass(frozen=True, repr=False)
class TaskArithmetic(Crossover, name="task-arithmetic"):
    """Task arithmetic (arXiv 2212.04089): θ_0 + λ (2 (1 − w) τ_A + 2 w τ_B).

    Args:
        base: number of the seed that is θ_0.
        scale: λ; 0.5 is the weighted mean, 1 adds both task vectors in full at a mix of one half.
    """

    base: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        whole_number("base", self.base, 0)
        real_number("scale", self.scale, 0.0, 10.0)

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return the base and the scaled task vectors of A and B."""
        edges, mixes = stretches(proposal, space.size)
        share = 2.0 * self.scale * np.array([[1.0 - mix, mix] for mix in mixes])
        factors = np.column_stack((share, 1.0 - share.sum(axis=1)))
        return space.blend([a, b, _base(space, self.base)], edges, factors)


@dataclass(frozen=True, repr=False)
class AddDifference(Crossover, name="add-difference"):
    """Add difference: A + λ w (B − C), what B has learnt since C, added to A.

    Args:
        base: number of the seed that is C.
        scale: λ.
    """

    base: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        whole_number("base", self.base, 0)
        real_number("scale", self.scale, -10.0, 10.0)

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return A and the scaled difference."""
        edges, mixes = stretches(proposal, space.size)
        factors = [[1.0, self.scale * mix, -self.scale * mix] for mix in mixes]
        return space.blend([a, b, _base(space, self.base)], edges, factors)


@dataclass(frozen=True, repr=False)
class SumOfThree(Crossover, name="sum-of-three"):
    """Weighted sum of three: (1 − s) ((1 − w) A + w B) + s C.

    Args:
        base: number of the seed that is C.
        share: s.
    """

    base: int = 0
    share: float = 1 / 3

    def __post_init__(self) -> None:
        whole_number("base", self.base, 0)
        real_number("share", self.share, 0.0, 1.0)

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return the weighted sum."""
        edges, mixes = stretches(proposal, space.size)
        rest = 1.0 - self.share
        factors = [[rest * (1.0 - mix), rest * mix, self.share] for mix in mixes]
        return space.blend([a, b, _base(space, self.base)], edges, factors)


@dataclass(frozen=True, repr=False)
class SparseTaskVectors(Crossover, TensorRule):
    """A crossover that keeps a part of the elements of the task vectors, tensor by tensor.

    Args:
        base: number of the seed that is θ_0.
        density: share of the elements that are kept, in (0, 1].
        scale: λ.
    """

    base: int = 0
    density: float = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        whole_number("base", self.base, 0)
        real_number("density", self.density, 1e-6, 1.0)
        real_number("scale", self.scale, 0.0, 10.0)

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return the base and what is kept of the task vectors of A and B."""
        edges, mixes = stretches(proposal, space.size)
        parents = [a, b, _base(space, self.base)]
        return space.per_tensor(self, parents, edges, mixes, int(rng.integers(1 << 53)))


@dataclass(frozen=True, repr=False)
class Ties(SparseTaskVectors, name="ties"):
    """TIES merging (arXiv 2306.01708): trim, elect a sign, and add what agrees with it.

    Of each tensor of τ_A and τ_B the ``density`` largest elements are kept. The sign of each
    element is that of their weighted sum, and the child has θ_0 + λ times the weighted mean of the
    elements with that sign.

    Args:
        base: number of the seed that is θ_0.
        density: share of the elements of a task vector that are kept, in (0, 1].
        scale: λ.
    """

    base: int = 0
    density: float = 0.2
    scale: float = 1.0

    def tensor(
        self, values: Sequence[Floats], share: Floats, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Return a tensor (n,) of the child of A, B and the base."""
        a, b, base = values
        changes = trimmed(a - base, self.density), trimmed(b - base, self.density)
        child = np.empty_like(base)
        for start in range(0, len(base), BLOCK_ELEMENTS):
            part = slice(start, start + BLOCK_ELEMENTS)
            child[part] = self._elected([t[part] for t in changes], share[part], base[part])
        return child

    def _elected(self, parts: Sequence[Floats], share: Floats, base: Floats) -> Floats:
        """Return the base and what trimmed task vectors agree on, element by element."""
        weights = [1.0 - share, share]
        sign = np.sign(sum(w * t for w, t in zip(weights, parts, strict=True)))
        agree = [(np.sign(t) == sign) & (t != 0.0) for t in parts]
        total = sum(w * m for w, m in zip(weights, agree, strict=True))
        sums = sum(w * t * m for w, t, m in zip(weights, parts, agree, strict=True))
        mean = np.divide(sums, total, out=np.zeros_like(base), where=total > 0.0)
        elected: Floats = base + self.scale * mean
        return elected


@dataclass(frozen=True, repr=False)
class Dare(SparseTaskVectors, name="dare"):
    """DARE (arXiv 2311.03099): drop elements of the task vectors at random, rescale the others.

    θ_0 + λ (2 (1 − w) m_A τ_A + 2 w m_B τ_B) / p, where each element of the masks m is 1 with
    probability p, the ``density``.

    Args:
        base: number of the seed that is θ_0.
        density: p, in (0, 1].
        scale: λ; 0.5 keeps the weights' size on average.
    """

    base: int = 0
    density: float = 0.5
    scale: float = 0.5

    def tensor(
        self, values: Sequence[Floats], share: Floats, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Return a tensor (n,) of the child of A, B and the base."""
        a, b, base = values
        of_a, of_b = rng.random((2, len(base))) < self.density
        change = (1.0 - share) * (a - base) * of_a + share * (b - base) * of_b
        child: Floats = base + (2.0 * self.scale / self.density) * change
        return child


def trimmed(change: Floats, density: float) -> Floats:
    """Return a tensor (n,) with all but the ⌈density · n⌉ largest elements, of equals the first."""
    keep = int(np.ceil(density * len(change)))
    if keep >= len(change):
        return change
    size = np.abs(change)
    least = np.partition(size, len(size) - keep)[len(size) - keep]
    chosen = size > least
    chosen[np.flatnonzero(size == least)[: keep - np.count_nonzero(chosen)]] = True
    return np.where(chosen, change, 0.0)
