"""Plan of a merge: its seeds, the tensors of the result, their order and dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.dtypes import DTYPE_BYTES, DTYPES, not_finite
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array


@dataclass(frozen=True)
class Plan:
    """Checkpoints that can be merged, as ``preflight`` found.

    Attributes:
        seeds: the K checkpoints; the first is the base.
        layout: names and shapes along the flat vector (N,).
        dtypes: dtypes of the result's tensors by name, such as ``"BF16"``.
        rows: rows of the result's vocabulary if only those common to all seeds are kept; ``None``
            if the seeds agree.
        dtype: the requested dtype, or ``None`` for those of the base.
    """

    seeds: tuple[Checkpoint, ...]
    layout: Layout
    dtypes: Mapping[str, str]
    rows: int | None = None
    dtype: str | None = None

    @property
    def base(self) -> Checkpoint:
        """The first seed, which provides file names, config and carried tensors."""
        return self.seeds[0]

    @property
    def smallest(self) -> int:
        """Number of the seed with fewest rows, whose tokenizer fits the common ones."""
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
        """Return the size in bytes of a tensor of the result, merged or carried."""
        if name in self.sizes:
            return self.sizes[name] * DTYPE_BYTES[self.dtypes[name]]
        return self.base.entry(name).bytes

    @property
    def read(self) -> int:
        """Bytes of the merged weights of all seeds."""
        return sum(
            size * DTYPE_BYTES[seed.entry(name).dtype]
            for name, size in self.sizes.items()
            for seed in self.seeds
        )

    @property
    def written(self) -> int:
        """Bytes of the result's weights."""
        return sum(map(self.bytes, (*self.sizes, *self.base.carried)))

    @property
    def cost(self) -> int:
        """Bytes read and written to save a result."""
        return self.read + self.written + sum(map(self.bytes, self.base.carried))

    @cached_property
    def _arrays(self) -> dict[str, tuple[Array, ...]]:
        # Tables with more rows than the result lose the last ones: rows are added at the end.
        return {
            name: tuple(seed.array(name)[:size] for seed in self.seeds)
            for name, size in self.sizes.items()
        }

    def sources(self, name: str, start: int, stop: int) -> tuple[Array, ...]:
        """Return elements ``start..stop`` of a tensor of every seed: K arrays, read on access."""
        return tuple([array[start:stop] for array in self._arrays[name]])

    def merge_into(
        self,
        recipe: Recipe,
        name: str,
        start: int,
        stop: int,
        out: Array,
        derived: Sequence[Array] = (),
    ) -> None:
        """Merge elements ``start..stop`` of a tensor by the recipe and write them into ``out``.

        Args:
            recipe: the recipe.
            name: the tensor.
            start: first element.
            stop: end.
            out: (stop − start,) of any of ``DTYPES``.
            derived: the whole tensor of each derived vector of the recipe, or an empty array where
                it is not used (see ``DerivedTensors.of``).

        Raises:
            Problems: a seed holds NaN or infinity there, or the result does not fit its dtype.
        """
        # Imported late: numba takes a second, and reading headers does not need it.
        from m2n2lab.checkpoint.kernels import blend

        base = self.offsets[name]
        for low, high, coef in recipe.pieces(base + start, base + stop):
            low, high = low - base, high - base
            needed = [k for k, factor in enumerate(coef.tolist()) if factor != 0.0] or [0]
            sources = self.sources(name, low, high)
            sources += tuple([values[low:high] for values in derived])
            part = out[low - start : high - start]
            if not blend([sources[k] for k in needed], coef[needed].tolist(), part):
                self.check_finite(name, low, high)
                dtype = next(name for name, held in DTYPES.items() if held == part.dtype)
                raise Problems(
                    Problem(
                        file="the result",
                        tensor=name,
                        expected=f"numbers within the range of {dtype}",
                        found=f"a larger one at element {low + (not_finite(part) or 0):,}",
                        fix="choose a wider dtype for the output, such as bf16 or fp32",
                    )
                )

    def check_finite(self, name: str, start: int, stop: int) -> None:
        """Check that elements ``start..stop`` of a tensor are finite in all seeds.

        Raises:
            Problems: a seed has NaN or infinity; the first such element of each seed is named.
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
