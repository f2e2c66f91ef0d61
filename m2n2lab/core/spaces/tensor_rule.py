"""Tensor rule: how a tensor of a child is computed from whole tensors of other models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.utils.arrays import Floats


class TensorRule(ABC):
    """A rule that computes a tensor of the child from whole tensors of other models."""

    @abstractmethod
    def tensor(
        self, values: Sequence[Floats], share: Floats, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Return a tensor of the child (n,).

        Args:
            values: the same tensor (n,) of each model.
            share: (n,) the share of B.
            rng: random numbers, a function of the proposal's seed and of the tensor.
        """
