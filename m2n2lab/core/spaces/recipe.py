"""Recipe: a model of any size as a few coefficients of its seeds, closed under merging.

SLERP with a split point multiplies each parent by one constant on either side of the split, so
every descendant of K seeds is a piecewise-constant linear combination of them. A recipe is that
combination: a child of a 7B model is a few kilobytes, and its weights are made only on demand.

Merges that no coefficients can express add *derived* vectors, which are made on demand as well, to
the seeds (see ``derived``): a recipe is then a combination of both, and still closed under merging.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.extensions import extension
from m2n2lab.core.spaces.derived import SHARE_BINS, Derived, lineage
from m2n2lab.core.spaces.slerp import Coefficients
from m2n2lab.utils.errors import InputError, whole_number

_FIELDS: tuple[tuple[str, type | tuple[type, ...], int, str], ...] = (
    ("size", int, 0, "an integer"),
    ("breaks", int, 1, "a list of integers"),
    ("coef", (int, float), 2, "a list of rows of numbers"),
)
"""Fields of a recipe in JSON: name, type of the numbers, depth of the list, description."""


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Recipe:
    """A model as its seeds' coefficients: θ[i] = Σ_k coef[s,k]·θ_k[i], breaks[s] ≤ i < breaks[s+1].

    ::

        a, b = Recipe.seed(0, 2, size), Recipe.seed(1, 2, size)
        child = a.combine(b, *split_factors(split, size, split_point(omega, mix)))

    Two recipes are equal when their breaks and coefficients are; ``simplify`` gives every model
    one form.

    Attributes:
        breaks: (S+1,) int64, increasing from 0 to the number of parameters N; read-only.
        coef: (S, K + V) float64, one row for each piece and one column for each seed, then for each
            derived vector; read-only.
        buffers: the recipe of the model's M entries of buffers, which are merged otherwise (see
            ``m2n2lab.core.spaces.buffers``); ``None`` where models have none.
        derived: (V,) the derived vectors; most recipes have none.

    Raises:
        InputError: the breaks do not increase from 0, the coefficients have another shape or
            are not finite, or a derived vector has other seeds.
    """

    breaks: NDArray[np.int64]
    coef: NDArray[np.float64]
    buffers: Recipe | None
    derived: tuple[Derived, ...]

    def __init__(
        self,
        breaks: ArrayLike,
        coef: ArrayLike,
        buffers: Recipe | None = None,
        derived: Sequence[Derived] = (),
    ) -> None:
        cuts = _cuts("breaks", breaks)
        table = _table("coef", coef, len(cuts) - 1)
        cuts.flags.writeable = table.flags.writeable = False
        object.__setattr__(self, "breaks", cuts)
        object.__setattr__(self, "coef", table)
        object.__setattr__(self, "buffers", buffers)
        object.__setattr__(self, "derived", tuple(derived))
        for vector in self.derived:
            if (vector.size, vector.seeds) != (self.size, self.seeds):
                raise InputError(
                    f"derived must be vectors of the same seeds, got one of {vector.size:,} "
                    f"parameters and {vector.seeds} seeds for {self.size:,} and {self.seeds}; give "
                    f"one column of coef for each seed, then for each of them."
                )

    @classmethod
    def seed(cls, k: int, seeds: int, size: int, buffers: int = 0) -> Recipe:
        """Return the recipe of seed ``k`` in [0, ``seeds``), with ``size`` parameters.

        ``buffers`` is M, the number of entries of its buffers.

        Raises:
            InputError: there is no such seed, or the size is below 1.
        """
        row = np.zeros((1, whole_number("seeds", seeds, 1)))
        row[0, _within("k", k, 0, row.shape[1] - 1)] = 1.0
        own = cls.seed(k, seeds, buffers) if buffers else None
        return cls([0, whole_number("size", size, 1)], row, own)

    @classmethod
    def of(cls, vector: Derived) -> Recipe:
        """Return the recipe that is a derived vector."""
        return cls([0, vector.size], np.eye(1, vector.seeds + 1, vector.seeds), None, [vector])

    @property
    def size(self) -> int:
        """Number of parameters, N."""
        return int(self.breaks[-1])

    @property
    def segments(self) -> int:
        """Number of pieces, S."""
        return len(self.coef)

    @property
    def seeds(self) -> int:
        """Number of seeds, K."""
        return int(self.coef.shape[1]) - len(self.derived)

    @property
    def ancestry(self) -> NDArray[np.float64]:
        """Share of each seed in the whole model, (K,); see ``paint``."""
        return self.paint(1).reshape(-1)

    def combine(self, other: Recipe, edges: ArrayLike, factors: ArrayLike) -> Recipe:
        """Return the child of A (this recipe) and B (``other``), simplified and without buffers.

        child[i] = f·A[i] + g·B[i] = Σ_k (f·a_k + g·b_k)·θ_k[i], with the factors f and g of the
        interval that contains i; ``split_factors`` has those of the merge in arXiv 2508.16204,
        §3.1.

        Args:
            other: B.
            edges: (E+1,) integers from 0 to N, non-decreasing; empty intervals are dropped.
            factors: (E, 2), the factors f of A and g of B on each interval.

        Raises:
            InputError: ``other`` has other seeds or another size; edges or factors are malformed.
        """
        return Recipe.blend([self, other], edges, factors)

    @classmethod
    def blend(cls, recipes: Sequence[Recipe], edges: ArrayLike, factors: ArrayLike) -> Recipe:
        """Return the sum of recipes with factors for each interval, simplified.

        Args:
            recipes: (M,) recipes of the same seeds.
            edges: (E+1,) integers from 0 to N, non-decreasing; empty intervals are dropped.
            factors: (E, M), the factor of each recipe on each interval.

        Raises:
            InputError: the recipes have different seeds or sizes; edges or factors are malformed.
        """
        first, *others = recipes
        for other in others:
            if (other.size, other.seeds) != (first.size, first.seeds):
                raise InputError(
                    f"other must have {first._extent()}, got {other._extent()}; combine recipes of "
                    f"the same seeds."
                )
        ends = _cuts("edges", edges, first.size, may_repeat=True)
        table = _table("factors", factors, len(ends) - 1, len(recipes))
        derived = tuple(dict.fromkeys(vector for recipe in recipes for vector in recipe.derived))
        cuts = np.unique(np.concatenate((*(recipe.breaks for recipe in recipes), ends)))
        factor = table[_floor(ends, cuts[:-1])]  # (S', M)
        coef = factor[:, :1] * first._rows(cuts[:-1], derived)
        for m, other in enumerate(others, start=1):
            coef = coef + factor[:, m : m + 1] * other._rows(cuts[:-1], derived)
        return cls(cuts, coef, None, derived).simplify()

    def refine(self, breaks: ArrayLike) -> NDArray[np.float64]:
        """Return the coefficients (S', K + V) on finer pieces, cut at ``breaks`` (S'+1,).

        Raises:
            InputError: ``breaks`` do not increase from 0 to N, or leave out one of the recipe's.
        """
        cuts = _cuts("breaks", breaks, self.size)
        missing = self.breaks[cuts[np.searchsorted(cuts, self.breaks)] != self.breaks]
        if missing.size:
            raise InputError(
                f"breaks must contain all {self.breaks.size:,} breaks of the recipe, got them "
                f"without {missing[0]:,}; refine at the union of both."
            )
        return self._rows(cuts[:-1])

    def simplify(self) -> Recipe:
        """Return the same model without breaks between equal coefficients.

        Derived vectors without a coefficient are left out; the others stay in their order.
        """
        if self.derived:
            kept = self.derived_between(0, self.size)
            if len(kept) < len(self.derived):
                rows = self._rows(self.breaks[:-1], kept)
                return Recipe(self.breaks, rows, self.buffers, kept).simplify()
        starts = np.concatenate(([True], np.any(self.coef[1:] != self.coef[:-1], axis=1)))
        if starts.all():
            return self
        breaks, coef = self.breaks[np.append(starts, True)], self.coef[starts]
        return Recipe(breaks, coef, self.buffers, self.derived)

    def with_buffers(self, buffers: Recipe | None) -> Recipe:
        """Return the same recipe with other buffers."""
        return Recipe(self.breaks, self.coef, buffers, self.derived)

    def at(self, index: int) -> NDArray[np.float64]:
        """Return the coefficients (K + V,) of one parameter.

        Raises:
            InputError: the index lies outside [0, N − 1].
        """
        return self._rows(_within("index", index, 0, self.size - 1))

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
        """Return the pieces of [start, stop) in order: first index, end, coefficients (K + V,).

        Raises:
            InputError: the bounds are not 0 ≤ start ≤ stop ≤ N.
        """
        start = _within("start", start, 0, self.size)
        stop = _within("stop", stop, start, self.size)
        first = int(_floor(self.breaks, start))
        end = int(np.searchsorted(self.breaks, stop)) if start < stop else first
        cuts = np.clip(self.breaks[first : end + 1], start, stop).tolist()
        return zip(cuts[:-1], cuts[1:], self.coef[first:end], strict=True)

    def derived_between(self, start: int, stop: int) -> tuple[Derived, ...]:
        """Return the derived vectors with a coefficient in [start, stop)."""
        if not self.derived:
            return ()
        first, end = int(_floor(self.breaks, start)), int(np.searchsorted(self.breaks, stop))
        _, columns = np.nonzero(self.coef[first:end, self.seeds :])
        return tuple(self.derived[column] for column in np.unique(columns).tolist())

    def paint(self, bins: int) -> NDArray[np.float64]:
        """Return the share of each seed in ``bins`` equal intervals of the vector, (bins, K).

        A parameter's share of seed k is |c_k| / Σ_l |c_l|, or 0 where all are 0; a bin has the mean
        over its parameters. Bin i spans [i·N/bins, (i+1)·N/bins) and may contain fractions of
        parameters. The share of a derived vector is divided as ``Derived.shares`` says.

        Raises:
            InputError: ``bins`` is below 1.
        """
        bins = whole_number("bins", bins, 1)
        weight = np.abs(self.coef)
        # Scaled so that the largest is 1 and the sum cannot overflow.
        weight /= np.maximum(weight.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        total = weight.sum(axis=1, keepdims=True)
        share = weight / np.where(total > 0.0, total, 1.0)  # (S, K + V)
        # In units of 1/bins of a parameter every edge is an integer, exact in doubles.
        finer = SHARE_BINS if self.derived else 1
        breaks = self.breaks * float(bins * finer)
        edges = np.arange(bins + 1, dtype=np.float64) * self.size * finer
        known = np.arange(SHARE_BINS + 1 if self.derived else 0, dtype=np.float64)
        known *= self.size * bins
        cuts = np.unique(np.concatenate((breaks, edges, known)))
        share = share[_floor(breaks, cuts[:-1])]
        if self.derived:
            places, seeds = _floor(known, cuts[:-1]), self.seeds
            own = share[:, :seeds].copy()
            for column, vector in enumerate(self.derived, start=seeds):
                own += share[:, column : column + 1] * vector.shares[places]
            share = own
        weighted = share * np.diff(cuts)[:, np.newaxis]
        sums = np.add.reduceat(weighted, np.searchsorted(cuts, edges[:-1]), axis=0)
        return np.asarray(sums / (self.size * finer), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain values, which JSON represents exactly.

        Derived vectors, and those that they are computed from, follow as a list ``vectors``, each
        after its inputs; the field ``derived`` has their numbers in it.
        """
        numbers = lineage(self.derived)
        found = {"size": self.size, **self.fields(numbers)}
        if numbers:
            found["vectors"] = [vector.to_json(numbers) for vector in numbers]
        return found

    def fields(self, numbers: Mapping[Derived, int]) -> dict[str, Any]:
        """Return its parts as plain values, derived vectors as their numbers."""
        found: dict[str, Any] = {"breaks": self.breaks.tolist(), "coef": self.coef.tolist()}
        if self.derived:
            found["derived"] = [numbers[vector] for vector in self.derived]
        if self.buffers is not None:
            found["buffers"] = self.buffers.to_json()
        return found

    @classmethod
    def from_json(cls, data: Any) -> Recipe:
        """Return the recipe that ``to_json`` wrote.

        Raises:
            InputError: a field is missing, has another type, or contradicts another field.
        """
        fields = data if isinstance(data, Mapping) else {}
        for name, types, depth, expected in _FIELDS:
            if not _is_nested_list(fields.get(name), types, depth):
                raise InputError(
                    f"A recipe's {name} must be {expected}, got {reprlib.repr(fields.get(name))}; "
                    f"give what to_json wrote."
                )
        vectors: list[Derived] = []
        if not isinstance(fields.get("vectors", []), list):
            raise InputError(
                f"A recipe's vectors must be a list, got {reprlib.repr(fields['vectors'])}; give "
                f"what to_json wrote."
            )
        for one in fields.get("vectors", []):
            vectors.append(
                Derived.from_json(one, lambda part: cls._of(part, fields["size"], vectors))
            )
        return cls._of(fields, fields["size"], vectors)

    @classmethod
    def _of(cls, fields: Mapping[str, Any], size: int, vectors: Sequence[Derived]) -> Recipe:
        """Return the recipe with these ``fields``."""
        breaks, numbers = _cuts("breaks", fields["breaks"], size), fields.get("derived", [])
        if not _is_nested_list(numbers, int, 1) or not all(0 <= n < len(vectors) for n in numbers):
            raise InputError(
                f"A recipe's derived must be numbers of its vectors, got {reprlib.repr(numbers)}; "
                f"give what to_json wrote."
            )
        buffers = fields.get("buffers")
        return cls(
            breaks,
            fields["coef"],
            None if buffers is None else cls.from_json(buffers),
            [vectors[number] for number in numbers],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recipe):
            return NotImplemented
        equal = np.array_equal(self.breaks, other.breaks) and np.array_equal(self.coef, other.coef)
        return equal and self.buffers == other.buffers and self.derived == other.derived

    def __hash__(self) -> int:
        # −0.0 equals 0.0 and must have the same hash; adding 0.0 turns it into 0.0.
        numbers = self.breaks.tobytes(), (self.coef + 0.0).tobytes()
        return hash((*numbers, self.buffers, *self.derived))

    def __copy__(self) -> Recipe:
        return self

    def __deepcopy__(self, memo: object) -> Recipe:
        return self

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if self.derived:  # as a list: pickle would go as deep as the ancestry
            return Recipe.from_json, (self.to_json(),)
        # Unpickled arrays are writeable; the constructor makes them read-only again.
        return Recipe, (self.breaks, self.coef, self.buffers)

    def _repr_html_(self) -> str:
        html: str = extension("html")(self)
        return html

    def __repr__(self) -> str:
        shares = " + ".join(f"{share:.0f} %" for share in 100.0 * self.ancestry)
        return f"Recipe({self._extent()} in {_count(self.segments, 'piece')}: {shares})"

    def _rows(
        self, index: int | NDArray[np.int64], derived: tuple[Derived, ...] | None = None
    ) -> NDArray[np.float64]:
        """Return the coefficients of parameters, in columns for these derived vectors if given."""
        rows: NDArray[np.float64] = self.coef[_floor(self.breaks, index)]
        if derived is None or derived == self.derived:
            return rows
        places = {vector: self.seeds + place for place, vector in enumerate(derived)}
        wide = np.zeros((len(rows), self.seeds + len(derived)))
        wide[:, : self.seeds] = rows[:, : self.seeds]
        for column, vector in enumerate(self.derived, start=self.seeds):
            if vector in places:
                wide[:, places[vector]] = rows[:, column]
        return wide

    def _extent(self) -> str:
        return f"{_count(self.size, 'parameter')} of {_count(self.seeds, 'seed')}"


def split_factors(
    split: int, size: int, coefficients: Coefficients
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the edges (3,) and factors (2, 2) of a split-point merge, for ``Recipe.combine``.

    child[i] = f_w[i] for i < split and f_{1−w}[i] for i ≥ split (arXiv 2508.16204, §3.1).

    Raises:
        InputError: the split lies outside [0, size].
    """
    split = _within("split", split, 0, whole_number("size", size, 1))
    return np.array([0, split, size]), np.array(coefficients).reshape(2, 2)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _floor(edges: NDArray[Any], index: ArrayLike) -> NDArray[np.int64]:
    """Return the number of the interval that contains each index; empty intervals contain none."""
    return np.asarray(np.searchsorted(edges, index, side="right") - 1)


def _within(name: str, value: Any, low: int, high: int) -> int:
    number = whole_number(name, value, low)
    if number > high:
        raise InputError(
            f"{name} must be an integer <= {high}, got {value!r}; give one in [{low}, {high}]."
        )
    return number


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:
        raise InputError(
            f"{name} must be an array, got rows of different lengths; make them equally long."
        ) from None


def _cuts(
    name: str, values: ArrayLike, size: int | None = None, may_repeat: bool = False
) -> NDArray[np.int64]:
    """Return a checked copy of cut points (S+1,) from 0 to ``size``, or to any if ``None``."""
    cuts = _array(name, values)
    if cuts.ndim != 1 or len(cuts) < 2 or cuts.dtype.kind not in "iu":
        got = f"{cuts.dtype} of shape {cuts.shape}"
    elif cuts[0] != 0 or size not in (None, cuts[-1]):
        got = f"{cuts[0]} to {cuts[-1]}"
    else:
        cuts = cuts.astype(np.int64)
        falls = cuts[1:] < cuts[:-1] if may_repeat else cuts[1:] <= cuts[:-1]
        if not falls.any():
            return cuts
        at = int(np.argmax(falls))
        got = f"{cuts[at]} followed by {cuts[at + 1]}"
    order = "non-decreasing" if may_repeat else "increasing"
    end = "the number of parameters" if size is None else str(size)
    raise InputError(
        f"{name} must be two or more {order} integers from 0 to {end}, got {got}; "
        f"sort them{'' if may_repeat else ', without repeats'} and include both ends."
    )


def _table(
    name: str, values: ArrayLike, rows: int, columns: int | None = None
) -> NDArray[np.float64]:
    """Return a checked copy of finite numbers (rows, columns), or of any width if ``None``."""
    table = _array(name, values)
    fits = table.ndim == 2 and len(table) == rows and table.shape[1] == (columns or table.shape[1])
    if not fits or table.size == 0 or table.dtype.kind not in "iuf":
        got = f"{table.dtype} of shape {table.shape}"
    else:
        table = table.astype(np.float64, order="C")
        bad = table[~np.isfinite(table)]
        if not bad.size:
            return table
        got = f"{bad[0]}"
    raise InputError(
        f"{name} must be finite numbers of shape ({rows}, {columns or 'seeds'}), got {got}; "
        f"give one row of them for each interval between two cuts."
    )


def _is_nested_list(value: Any, types: type | tuple[type, ...], depth: int) -> bool:
    """Return whether ``value`` is a number, or lists nested ``depth`` times around numbers."""
    if depth:
        return isinstance(value, list) and all(
            _is_nested_list(item, types, depth - 1) for item in value
        )
    return isinstance(value, types) and not isinstance(value, bool)
