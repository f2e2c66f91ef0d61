"""What a merge of some checkpoints will be: tensors, their order, and the numbers they end as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.dtypes import BYTES, DTYPES, not_finite
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array


@dataclass(frozen=True)
class Plan:
    """Checkpoints that fit together, as ``preflight`` found.

    Attributes:
        seeds: the K checkpoints; the first is the base that names files and what is carried.
        layout: names and shapes along the flat vector (N,).
        kinds: what the tensors of the result are, such as ``"BF16"``, by name.
        rows: how many rows the result's vocabulary has, where seeds' differ and only the rows
            that all have are kept; ``None`` where they agree.
        dtype: the kind that was asked for, or ``None`` for that of the base.
    """

    seeds: tuple[Checkpoint, ...]
    layout: Layout
    kinds: Mapping[str, str]
    rows: int | None = None
    dtype: str | None = None

    @property
    def base(self) -> Checkpoint:
        """The seed whose files, config and carried tensors the result has."""
        return self.seeds[0]

    @property
    def smallest(self) -> int:
        """Number of the seed with fewest rows: its tokenizer fits wherever rows were cut."""
        totals = [sum(seed.entry(name).size for name in self.sizes) for seed in self.seeds]
        return totals.index(min(totals))

    @cached_property
    def offsets(self) -> dict[str, int]:
        """First index of each tensor in the flat vector."""
        return dict(zip(self.layout.shapes, self.layout.offsets, strict=False))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of elements of each tensor."""
        ends = self.layout.offsets[1:]
        return {
            name: end - start for (name, start), end in zip(self.offsets.items(), ends, strict=True)
        }

    def bytes(self, name: str) -> int:
        """Return how many bytes a tensor of the result has, be it merged or carried."""
        if name in self.sizes:
            return self.sizes[name] * BYTES[self.kinds[name]]
        return self.base.entry(name).bytes

    @property
    def read(self) -> int:
        """Bytes of all seeds' weights that are merged."""
        return sum(
            size * BYTES[seed.entry(name).kind]
            for name, size in self.sizes.items()
            for seed in self.seeds
        )

    @property
    def written(self) -> int:
        """Bytes of the result's weights."""
        return sum(map(self.bytes, (*self.sizes, *self.base.carried)))

    @property
    def cost(self) -> int:
        """Bytes that are read and written to save a result."""
        return self.read + self.written + sum(map(self.bytes, self.base.carried))

    @cached_property
    def _arrays(self) -> dict[str, tuple[Array, ...]]:
        # Tables with more rows than the result are cut at their end, which is where rows are added.
        return {
            name: tuple(seed.array(name)[:size] for seed in self.seeds)
            for name, size in self.sizes.items()
        }

    def sources(self, name: str, start: int, stop: int) -> tuple[Array, ...]:
        """Return elements ``start..stop`` of a tensor of every seed: K arrays, not yet read."""
        return tuple([array[start:stop] for array in self._arrays[name]])

    def paint(self, recipe: Recipe, name: str, start: int, stop: int, out: Array) -> None:
        """Write elements ``start..stop`` of a tensor, as the recipe makes them, into ``out``.

        Raises:
            Problems: a seed holds NaN or infinity there, or the result does not fit its kind.
        """
        # Imported late: numba takes a second, and headers are read without it.
        from m2n2lab.checkpoint.kernels import blend

        base = self.offsets[name]
        for low, high, coef in recipe.pieces(base + start, base + stop):
            low, high = low - base, high - base
            needed = [k for k, factor in enumerate(coef.tolist()) if factor != 0.0] or [0]
            sources = self.sources(name, low, high)
            part = out[low - start : high - start]
            if not blend([sources[k] for k in needed], coef[needed].tolist(), part):
                self.check_finite(name, low, high)
                kind = next(kind for kind, dtype in DTYPES.items() if dtype == part.dtype)
                raise Problems(
                    Problem(
                        file="the result",
                        tensor=name,
                        expected=f"numbers within the range of {kind}",
                        found=f"a larger one at element {low + (not_finite(part) or 0):,}",
                        fix="choose a wider dtype for the output, such as bf16 or fp32",
                    )
                )

    def check_finite(self, name: str, start: int, stop: int) -> None:
        """See that all seeds are finite in a stretch of a tensor.

        Raises:
            Problems: the first number of each seed that is not.
        """
        found = []
        for seed, source in zip(self.seeds, self.sources(name, start, stop), strict=True):
            at = not_finite(source)
            if at is not None:
                found.append(
                    Problem(
                        file=str(seed.file(name)),
                        tensor=name,
                        expected="finite numbers",
                        found=f"NaN or infinity at element {start + at:,} "
                        f"({self.layout.locate(self.offsets[name] + start + at)})",
                        fix="repair this checkpoint or leave it out",
                    )
                )
        if found:
            raise Problems(*found)
