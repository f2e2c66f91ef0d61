"""Derived vector: a vector that a rule computes from recipes, tensor by tensor, as plain values.

TIES and DARE trim and drop single weights, which no few coefficients can express. Their child is
described by what it is computed from: the rule with its parameters, the input recipes, and the
proposal's numbers. From these the same weights are made at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, real_number, whole_number
from m2n2lab.utils.plain_values import plain_value

SHARE_BINS = 256
"""Equal intervals of the vector in which the shares of seeds in a derived vector are known."""


class Derived:
    """A vector that a rule computes from recipes; never changed, equal to others by its content.

    Args:
        rule: description of the rule as ``Operator.description`` gives it.
        inputs: the recipes from whose tensors it computes those of the vector.
        edges: (E+1,) non-decreasing indices from 0 to N.
        mixes: (E,) share of B on each stretch.
        seed: of the rule's random numbers.
        tensors: names of the tensors that are computed; all if ``None``. The vector is not used
            elsewhere.

    Attributes:
        key: SHA-256 of all of the above.

    Raises:
        InputError: the rule's description is not of plain values, the inputs differ in size or
            seeds, or edges and mixes do not fit.
    """

    def __init__(
        self,
        rule: Mapping[str, Any],
        inputs: Sequence[Any],
        edges: Sequence[int],
        mixes: Sequence[float],
        seed: int,
        tensors: Sequence[str] | None = None,
    ) -> None:
        self.rule: dict[str, Any] = plain_value(dict(rule))
        self.inputs = tuple(inputs)
        sizes = {(recipe.size, recipe.seeds) for recipe in self.inputs}
        if len(sizes) != 1:
            raise InputError(
                f"inputs must be recipes of the same seeds, got {len(self.inputs)} recipes of "
                f"{len(sizes)} sizes; give at least one, all of one space."
            )
        ((self.size, self.seeds),) = sizes
        ends = [whole_number("edges", edge, 0) for edge in edges]
        if ends != sorted(ends) or ends[:1] != [0] or ends[-1:] != [self.size]:
            raise InputError(
                f"edges must be non-decreasing from 0 to {self.size}, got {ends[:3]} …; give the "
                f"ends of all stretches."
            )
        if len(mixes) != len(ends) - 1:
            raise InputError(
                f"mixes must be {len(ends) - 1} numbers, one for each stretch, got {len(mixes)}; "
                f"give one edge more than mixes."
            )
        stretches = [
            (stop, real_number("mixes", mix, -1e300, 1e300))
            for start, stop, mix in zip(ends, ends[1:], mixes, strict=False)
            if start < stop
        ]
        self.edges = (0, *(stop for stop, _ in stretches))
        self.mixes = tuple(mix for _, mix in stretches)
        self.seed = whole_number("seed", seed, 0)
        self.tensors = None if tensors is None else tuple(tensors)
        self.key = self._digest()

    def _digest(self) -> str:
        plain = [self.rule, self.edges, self.mixes, self.seed, self.tensors]
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for recipe in self.inputs:
            digest.update(json.dumps([vector.key for vector in recipe.derived]).encode())
            digest.update(recipe.breaks.astype("<i8").tobytes())
            digest.update((recipe.coef + 0.0).astype("<f8").tobytes())  # −0.0 equals 0.0
        return digest.hexdigest()

    @property
    def shares(self) -> Floats:
        """Share of each seed in ``SHARE_BINS`` equal intervals, (SHARE_BINS, K).

        The mean of those of the first two inputs, A and B, weighted by their shares on the stretch,
        as for other merges; or those of the only input. A base model does not count.
        """
        if "_shares" not in vars(self):
            for vector in lineage([self]):  # in this order no call goes deeper than one level
                vector._shares  # noqa: B018  # kept from now on
        return self._shares

    @cached_property
    def _shares(self) -> Floats:
        a, *others = (recipe.paint(SHARE_BINS) for recipe in self.inputs[:2])
        if not others:
            return np.asarray(a)
        bins = np.arange(SHARE_BINS + 1) * (self.size / SHARE_BINS)
        sums = np.concatenate(([0.0], np.cumsum(np.diff(self.edges) * np.clip(self.mixes, 0, 1))))
        of_b = np.diff(np.interp(bins, self.edges, sums))[:, np.newaxis] / (self.size / SHARE_BINS)
        return np.asarray((1.0 - of_b) * a + of_b * others[0])

    def to_json(self, numbers: Mapping[Derived, int]) -> dict[str, Any]:
        """Return the vector as plain values, with other derived vectors by their numbers."""
        return {
            "rule": self.rule,
            "inputs": [recipe.fields(numbers) for recipe in self.inputs],
            "edges": list(self.edges),
            "mixes": list(self.mixes),
            "seed": self.seed,
            "tensors": None if self.tensors is None else list(self.tensors),
        }

    @classmethod
    def from_json(cls, data: Any, recipe: Callable[[Any], Any]) -> Derived:
        """Return the vector that ``to_json`` wrote; ``recipe`` makes its inputs.

        Raises:
            InputError: a field is missing, has another type, or contradicts another field.
        """
        try:
            names = data["tensors"]
            if names is not None and not all(isinstance(name, str) for name in names):
                raise TypeError("tensors must be names")
            return cls(
                data["rule"],
                [recipe(one) for one in data["inputs"]],
                data["edges"],
                data["mixes"],
                data["seed"],
                names,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"A derived vector must be as to_json wrote it, but a field is missing or wrong "
                f"({error}); use an unedited copy."
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Derived) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __copy__(self) -> Derived:
        return self

    def __deepcopy__(self, memo: object) -> Derived:
        return self

    def __repr__(self) -> str:
        return f"Derived({self.rule} of {len(self.inputs)} recipes: {self.key[:12]})"


def _inputs(vector: Derived) -> Iterable[Derived]:
    return (other for recipe in vector.inputs for other in recipe.derived)


def lineage(
    vectors: Iterable[Derived], inputs: Callable[[Derived], Iterable[Derived]] = _inputs
) -> dict[Derived, int]:
    """Return vectors and all that they are computed from, each once and after those it needs.

    Args:
        vectors: the vectors.
        inputs: gives those that one is computed from.

    Returns:
        The vectors and their numbers in this order.
    """
    found: dict[Derived, int] = {}
    todo = [(vector, False) for vector in reversed(list(vectors))]
    while todo:  # no recursion: a search of thousands of steps has ancestries as deep
        vector, is_ready = todo.pop()
        if vector in found:
            continue
        if is_ready:
            found[vector] = len(found)
            continue
        todo.append((vector, True))
        todo += [(other, False) for other in reversed(list(inputs(vector))) if other not in found]
    return found
