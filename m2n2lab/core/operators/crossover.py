"""Crossover: the weights of a child made of two parents', by SLERP with a split or otherwise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from m2n2lab.core.operators.operator import Operator
from m2n2lab.core.records import Proposal
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.shares import linear_shares
from m2n2lab.utils.errors import real_number, whole_number


class MergeSpace(Protocol):
    """A space, or the part of one that a group of tensors makes up, as a crossover sees it."""

    size: int
    """N, number of parameters."""
    layout: Layout
    """Names and shapes along the vector."""
    seeds: tuple[Any, ...]
    """Genomes of the models that the search starts from."""

    def angle(self, a: Any, b: Any) -> float:
        """Return the angle ω between two genomes in radians."""

    def merge_stretches(self, a: Any, b: Any, edges: Sequence[int], mixes: Sequence[float]) -> Any:
        """Return the SLERP of A and B with the share of B on each stretch between edges."""

    def blend(self, genomes: Sequence[Any], edges: Sequence[int], factors: Any) -> Any:
        """Return Σ_k f_ek · genome_k on each stretch e, with ``factors`` (E, K)."""

    def per_tensor(
        self,
        rule: Any,
        genomes: Sequence[Any],
        edges: Sequence[int],
        mixes: Sequence[float],
        seed: int,
    ) -> Any:
        """Return the genome whose tensors a ``TensorRule`` computes from those of ``genomes``."""


class Crossover(Operator, ABC):
    """A way to make a child of two parents.

    ::

        class Average(m2n2lab.Crossover):
            def __call__(self, a, b, proposal, space, rng):
                return space.blend([a, b], [0, space.size], [[0.5, 0.5]])
    """

    what = "crossover"

    @abstractmethod
    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return the genome of a child of genomes A and B, before any mutation.

        Args:
            a, b: the parents' genomes, which must not be changed.
            proposal: its ``split`` in [0, N] and ``mix`` in [0, 1].
            space: makes genomes of genomes: ``merge_stretches`` (SLERP), ``blend`` (sums), or
                ``per_tensor``; it is the part of a group of tensors if ``groups`` are given.
            rng: random numbers that are a function of the proposal's seed.
        """

    def shares(
        self, proposal: Proposal, layout: Layout, rng: np.random.Generator
    ) -> tuple[list[int], list[float]]:
        """Return edges (E+1,) and the share of B on each stretch (E,), for views.

        Args:
            proposal: the proposal.
            layout: the tensors that are merged.
            rng: the random numbers that ``__call__`` gets.
        """
        return stretches(proposal, layout.size)


def stretches(proposal: Proposal, size: int) -> tuple[list[int], list[float]]:
    """Return edges (3,) and the shares of B (2,) on either side of a proposal's split."""
    assert proposal.split is not None  # a proposal with two parents has both
    assert proposal.mix is not None
    return [0, proposal.split, size], [proposal.mix, 1.0 - proposal.mix]


@dataclass(frozen=True, repr=False)
class Slerp(Crossover, name="slerp"):
    """SLERP with one split, as in arXiv 2508.16204, §3.1: f_w before it and f_{1−w} after it.

    Args:
        reach: r; the mix in [0, 1] is stretched to [−r, 1 + r], so that a child can lie beyond
            either parent.
    """

    reach: float = 0.0

    def __post_init__(self) -> None:
        real_number("reach", self.reach, 0.0, 10.0)

    def stretched(self, mix: float) -> float:
        """Return a mix in [0, 1] stretched to [−r, 1 + r]; 0.5 stays."""
        return mix + self.reach * (2.0 * mix - 1.0)

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return f_mix(A, B) before the split and f_{1−mix}(A, B) from it on."""
        edges, _ = stretches(proposal, space.size)
        mix = self.stretched(float(proposal.mix or 0.0))
        return space.merge_stretches(a, b, edges, [mix, 1.0 - mix])


@dataclass(frozen=True, repr=False)
class Splits(Crossover, name="splits"):
    """SLERP with several splits, at each of which the shares of A and B are exchanged.

    Args:
        splits: their number; the first is the proposal's, the others are drawn.
        at: the places of the others, as fractions of the vector; none of them is drawn then.
    """

    splits: int = 3
    at: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        whole_number("splits", self.splits, 1)
        places = tuple(real_number("at", place, 0.0, 1.0) for place in self.at)
        object.__setattr__(self, "at", places)  # a list, if it is made of a description
        if places:
            object.__setattr__(self, "splits", len(places) + 1)

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return f_mix before the first split, f_{1−mix} up to the second, and so on."""
        return space.merge_stretches(a, b, *self.shares(proposal, space.layout, rng))

    def shares(
        self, proposal: Proposal, layout: Layout, rng: np.random.Generator
    ) -> tuple[list[int], list[float]]:
        """Return mix and 1 − mix by turns, between the splits in order."""
        (_, split, size), mixes = stretches(proposal, layout.size)
        if self.at:
            others = [round(place * size) for place in self.at]
        else:
            others = rng.integers(0, size, self.splits - 1).tolist()
        edges = [0, *sorted([split, *others]), size]
        return edges, [mixes[i % 2] for i in range(len(edges) - 1)]


@dataclass(frozen=True, repr=False)
class Lerp(Crossover, name="lerp"):
    """Weighted mean with one split: (1 − w)·A + w·B before it, w·A + (1 − w)·B after it."""

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return the weighted mean of A and B."""
        edges, mixes = stretches(proposal, space.size)
        return space.blend([a, b], edges, linear_shares(mixes))


@dataclass(frozen=True, repr=False)
class LayerMix(Crossover, name="per-layer"):
    """SLERP with a mix for each layer, around the proposal's on its side of the split.

    A layer is a run of tensors with the same name up to its first number, such as
    ``model.layers.7``. Its mix is w + ``spread`` · (u − ½), kept in [0, 1], with u uniform in
    [0, 1).

    Args:
        spread: width of the interval in which mixes lie; 0 is the paper's merge with a split
            between layers.
    """

    spread: float = 0.5

    def __post_init__(self) -> None:
        real_number("spread", self.spread, 0.0, 2.0)

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return the SLERP of A and B with a mix for each layer."""
        return space.merge_stretches(a, b, *self.shares(proposal, space.layout, rng))

    def shares(
        self, proposal: Proposal, layout: Layout, rng: np.random.Generator
    ) -> tuple[list[int], list[float]]:
        """Return the layers and their mixes."""
        (_, split, size), (before, after) = stretches(proposal, layout.size)
        starts = layer_starts(layout)
        noise = self.spread * (rng.random(len(starts)) - 0.5)
        mixes = np.where(np.array(starts) < split, before, after) + noise
        return [*starts, size], np.clip(mixes, 0.0, 1.0).tolist()


def layer_starts(layout: Layout) -> list[int]:
    """Return the first index of each layer: a run of tensors named alike up to a number."""
    starts, last = [], None
    for name, start in zip(layout.shapes, layout.offsets, strict=False):
        parts = name.split(".")
        number = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        # Without a number, weight and bias of one module belong together.
        layer = tuple(parts[:-1] if number is None else parts[: number + 1]) or (name,)
        if layer != last:
            starts.append(start)
        last = layer
    return starts
