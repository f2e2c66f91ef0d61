"""Mutation: a random change of a child's weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m2n2lab.core.operators.operator import Operator
from m2n2lab.utils.errors import real_number

if TYPE_CHECKING:
    from m2n2lab.core.spaces.space import Space


class Mutation(Operator, ABC):
    """A random change of a child's weights, the same for the same seed."""

    what = "mutation"

    @abstractmethod
    def __call__(self, genome: Any, space: Space, seed: int) -> Any:
        """Return the mutated genome, a function of the genome and of ``seed``."""


@dataclass(frozen=True, repr=False)
class Noise(Mutation, name="noise"):
    """Normal noise on every weight: (1 − λ)·genome + N(0, σ²).

    Args:
        sigma: σ.
        decay: λ, the share of each weight that is lost first.
    """

    sigma: float = 0.01
    decay: float = 0.0

    def __post_init__(self) -> None:
        real_number("sigma", self.sigma, 0.0)
        real_number("decay", self.decay, 0.0, 1.0)

    def __call__(self, genome: Any, space: Space, seed: int) -> Any:
        """Return (1 − λ)·genome + N(0, σ²)."""
        return space.mutate(genome, self.sigma, seed, self.decay)
