"""Plan of a merge: its seeds, the tensors of the result, their order and dtypes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from m2n2lab.checkpoint.io.checkpoint import Checkpoint, sort_key
from m2n2lab.checkpoint.io.dtypes import DTYPE_BYTES, DTYPES, EIGHT_BITS, WIDE, not_finite
from m2n2lab.checkpoint.io.folder import weight_name
from m2n2lab.checkpoint.io.names import TABLES
from m2n2lab.checkpoint.io.parallel import PIECE_ELEMENTS, chunks
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.checkpoint.io.reading import SeedFile
from m2n2lab.checkpoint.io.single_file_names import part_of
from m2n2lab.checkpoint.picture_options import NO_PICTURE_OPTIONS, PictureOptions
from m2n2lab.checkpoint.tokens.vocabulary import Vocabulary
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array

NO_TENSORS = Layout({})


@dataclass(frozen=True)
class Plan:
    """Checkpoints that can be merged, as ``preflight`` found.

    Attributes:
        seeds: the K checkpoints; the first is the base.
        layout: names and shapes along the flat vector (N,).
        dtypes: dtypes of the result's tensors by name, such as ``"BF16"``.
        vocabulary: rows of tables of tokens if the seeds' vocabularies differ, or ``None``. The
            flat vector has those common to all; further ones follow in the result.
        dtype: the requested dtype, or ``None`` for those of the base.
        notes: remarks on the result.
        buffers: names and shapes of the M entries of buffers, which are merged beside the vector.
        variant: the requested variant, whose file names the result keeps; ``None`` for plain names.
        trust_remote_code: whether code that comes with a model may be run, and is kept.
        map: pairs of names of tensors in the base and in other seeds, if these differ.
        pictures: what results of picture models have that is not merged.
        channels: number of input channels that all seeds have, of denoisers' first layers of which
            the base has more, for inpainting. The flat vector has the common ones.
    """

    seeds: tuple[Checkpoint, ...]
    layout: Layout
    dtypes: Mapping[str, str]
    vocabulary: Vocabulary | None = None
    dtype: str | None = None
    buffers: Layout = NO_TENSORS
    notes: tuple[str, ...] = ()
    variant: str | None = None
    trust_remote_code: bool = False
    map: tuple[str, ...] = ()
    pictures: PictureOptions = NO_PICTURE_OPTIONS
    channels: Mapping[str, int] = field(default_factory=dict)

    @property
    def base(self) -> Checkpoint:
        """The first seed, which provides file names, config and carried tensors."""
        return self.seeds[0]

    @property
    def opened(self) -> tuple[SeedFile, ...]:
        """The files of the seeds' weights."""
        return tuple(file.source for seed in self.seeds for file in seed.files)

    def result_name(self, file: str) -> str:
        """Return the name that a file of weights in a folder has in the result."""
        name = weight_name(file)
        return file if name is None or name.variant == self.variant else name.plain

    @property
    def common_dtype(self) -> str:
        """The dtype in which most of the result's weights are kept, such as ``"F16"``.

        Of 8-bit floats, the dtype of a module that computes with them.
        """
        sizes: dict[str, int] = {}
        for name, size in self.sizes.items():
            if self.dtypes[name] not in EIGHT_BITS:
                sizes[self.dtypes[name]] = sizes.get(self.dtypes[name], 0) + size
        if not sizes:
            return WIDE
        return max(sizes, key=lambda dtype: sizes[dtype])

    @property
    def rows(self) -> int | None:
        """Rows of the result's tables of tokens if vocabularies differ, or ``None``."""
        return None if self.vocabulary is None else self.vocabulary.total

    @property
    def vocab(self) -> str:
        """What is done with vocabularies that differ; ``"refuse"`` if they do not."""
        return "refuse" if self.vocabulary is None else self.vocabulary.mode

    @cached_property
    def offsets(self) -> dict[str, int]:
        """First index of each tensor in the flat vector."""
        return dict(zip(self.layout.shapes, self.layout.offsets, strict=False))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of elements of each tensor of the flat vector."""
        return _sizes(self.layout)

    @cached_property
    def buffer_sizes(self) -> dict[str, int]:
        """Number of elements of each buffer that is merged."""
        return _sizes(self.buffers)

    @cached_property
    def merged_sizes(self) -> dict[str, int]:
        """Number of elements of each tensor that is merged, weights and buffers."""
        return {**self.sizes, **self.buffer_sizes}

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Index i_b in [0, N) of each buffer: its mix is that of the vector there.

        It is the last index of the weights in the buffer's own module or, if that has none, of
        the weights before it in the order of names.
        """
        ends = dict(zip(self.sizes, self.layout.offsets[1:], strict=True))
        own = {name.rpartition(".")[0]: end for name, end in ends.items()}
        keys = [sort_key(name) for name in self.sizes]
        places = []
        for name in self.buffers.shapes:
            before = self.layout.offsets[bisect_left(keys, sort_key(name))]
            places.append(max(own.get(name.rpartition(".")[0], before) - 1, 0))
        return tuple(places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor that is merged, with rows that not all seeds have."""
        if name in self.buffer_sizes:
            return self.buffers.shapes[name]
        shape = self.layout.shapes[name]
        if name in self.channels:
            return self.base.entry(name).shape
        if self.vocabulary is None or name not in self._tables:
            return shape
        return (self.vocabulary.total, *shape[1:])

    def elements(self, name: str) -> int:
        """Return the number of elements of a merged tensor of the result."""
        return math.prod(self.shape(name))

    @cached_property
    def _tables(self) -> frozenset[str]:
        """Names of the tables of tokens whose rows differ."""
        rows = self.vocabulary
        assert rows is not None  # it is only asked for then
        return frozenset(
            name
            for name, shape in self.layout.shapes.items()
            if TABLES.search(name)
            and shape[:1] == (rows.common,)
            and all(
                seed.entry(name).shape[0] == size
                for seed, size in zip(self.seeds, rows.sizes, strict=True)
            )
        )

    def bytes(self, name: str) -> int:
        """Return the size in bytes of a tensor of the result, merged or carried."""
        if name in self.merged_sizes:
            return self.elements(name) * DTYPE_BYTES[self.dtypes[name]]
        seed = self.provider(name)
        return (
            seed.entry(name).size * 8 if seed.has_broken_positions(name) else seed.entry(name).bytes
        )

    @property
    def carried(self) -> tuple[str, ...]:
        """Names of the tensors that are copied: no weights, or not in all seeds."""
        floats = (*self.base.merged, *self.base.buffers)
        own = (*self.base.carried, *(name for name in floats if name not in self.merged_sizes))
        return (*(name for name in own if not self.is_left_out(name)), *self.added)

    def provider(self, name: str) -> Checkpoint:
        """Return the seed that a tensor is copied from."""
        return self.seeds[self._chosen.get(part_of(name)) or 0]

    @cached_property
    def _chosen(self) -> dict[str, int | None]:
        """Number of the seed that each chosen part of a single file is copied from."""
        if not self.base.is_picture_file:
            return {}
        return self.pictures.chosen_parts

    def is_left_out(self, name: str) -> bool:
        """Return whether the result does not have a tensor of the base that is not merged."""
        part = part_of(name)
        if part in self._chosen:
            number = self._chosen[part]
            return number is None or name not in self.seeds[number].names
        return self.is_obsolete(name)

    @cached_property
    def added(self) -> tuple[str, ...]:
        """Names of the tensors of other seeds that are copied beside those of the base."""
        return tuple(
            name
            for part, number in self._chosen.items()
            if number
            for name in self.seeds[number].names
            if part_of(name) == part and name not in self.base.names
        )

    def is_obsolete(self, name: str) -> bool:
        """Return whether a tensor of the base is of no use in the result, such as a scale."""
        return self.base.beside_scaled.get(name) in self.merged_sizes

    @property
    def read(self) -> int:
        """Bytes of the merged weights of all seeds."""
        return sum(self.bytes_read(name, 0, size) for name, size in self.sizes.items())

    @property
    def written(self) -> int:
        """Bytes of the result's weights."""
        return sum(map(self.bytes, (*self._written, *self.carried)))

    @property
    def _written(self) -> tuple[str, ...]:
        """Names of the merged tensors as often as they are written."""
        return (*self.merged_sizes, *self.base.aliases.values())

    @property
    def cost(self) -> int:
        """Bytes read and written to save a result."""
        read = sum(self.bytes_read(name, 0, self.merged_sizes[name]) for name in self._written)
        return read + self.written + sum(map(self.bytes, self.carried))

    @cached_property
    def _stored(self) -> dict[str, tuple[Array, ...]]:
        return {
            name: tuple(self._common(seed.stored(name), seed, name) for seed in self.seeds)
            for name in self.merged_sizes
        }

    @cached_property
    def _mapped(self) -> dict[str, tuple[Array, ...]]:
        return {
            name: tuple(self._common(seed.array(name), seed, name) for seed in self.seeds)
            for name in self.merged_sizes
        }

    def _common(self, array: Array, seed: Checkpoint, name: str) -> Array:
        """Return a seed's tensor, of which the first elements are merged."""
        if name not in self.channels or len(array) == self.merged_sizes[name]:
            return array
        common = array[:].reshape(seed.entry(name).shape)[:, : self.channels[name]]
        return np.ascontiguousarray(common).reshape(-1)

    def sources(
        self,
        name: str,
        start: int,
        stop: int,
        seeds: Iterable[int] | None = None,
        mapped: bool = False,
    ) -> tuple[Array, ...]:
        """Return elements ``start..stop`` of a tensor of some seeds, by default of all K.

        They are read, or computed; if ``mapped``, views into mapped files (see
        ``TensorFile.array``).

        Raises:
            Problems: a seed's file has changed or cannot be read.
        """
        arrays = self._mapped[name] if mapped else self._stored[name]
        numbers = range(len(arrays)) if seeds is None else seeds
        return tuple([arrays[k][start:stop] for k in numbers])

    def bytes_read(self, name: str, start: int, stop: int) -> int:
        """Return the bytes that elements ``start..stop`` of a tensor take in the seeds' files."""
        stop = min(stop, self.merged_sizes[name])
        each = (DTYPE_BYTES[seed.entry(name).dtype] for seed in self.seeds)
        return max(stop - start, 0) * sum(each)

    def result_into(
        self,
        recipe: Recipe,
        name: str,
        start: int,
        stop: int,
        out: Array,
        derived: Sequence[Array] = (),
        mapped: bool = False,
    ) -> None:
        """Write elements ``start..stop`` of a tensor of the result: as ``merge_into``.

        Of a first layer with more channels than are merged, the others are the base's.
        """
        if name not in self.channels:
            self.merge_into(recipe, name, start, stop, out, derived, mapped)
            return
        from m2n2lab.checkpoint.kernels import blend  # late, as below

        common = np.empty(self.sizes[name], out.dtype)
        self.merge_into(recipe, name, 0, len(common), common, derived)
        whole = np.empty(self.elements(name), out.dtype)
        blend([self.base.stored(name)[:]], [1.0], whole)
        whole = whole.reshape(self.shape(name))
        whole[:, : self.channels[name]] = common.reshape(self.layout.shapes[name])
        out[:] = whole.reshape(-1)[start:stop]

    def merge_into(
        self,
        recipe: Recipe,
        name: str,
        start: int,
        stop: int,
        out: Array,
        derived: Sequence[Array] = (),
        mapped: bool = False,
    ) -> None:
        """Merge elements ``start..stop`` of a tensor by the recipe and write them into ``out``.

        Elements beyond the flat vector's are rows for tokens that not all seeds have.

        Args:
            recipe: the recipe.
            name: the tensor.
            start: first element.
            stop: end.
            out: (stop − start,) of any of ``DTYPES``.
            derived: the whole tensor of each derived vector of the recipe, or an empty array where
                it is not used (see ``DerivedTensors.of``).
            mapped: read mapped files (see ``sources``), which is faster.

        Raises:
            Problems: a seed holds NaN or infinity there or has changed, or the result does not fit
                its dtype.
        """
        size = self.merged_sizes[name]
        if stop > size:
            low = max(start, size)
            self._merge_further_rows(recipe, name, low, stop, out[low - start :])
            if start >= size:
                return
            out, stop = out[: size - start], size
        # Imported late: numba takes a second, and reading headers does not need it.
        from m2n2lab.checkpoint.kernels import blend

        if name in self.buffer_sizes:
            self._merge_buffer(recipe, name, start, stop, out)
            return
        base = self.offsets[name]
        for first, last, coef in recipe.pieces(base + start, base + stop):
            needed = [k for k, factor in enumerate(coef.tolist()) if factor != 0.0] or [0]
            if self._unchanged(name, needed):
                needed, coef = needed[:1], np.ones(len(coef))
            seeds = [k for k in needed if k < len(self.seeds)]
            for low, high in self._steps(first - base, last - base, mapped):
                sources = self.sources(name, low, high, seeds, mapped)
                sources += tuple(
                    [derived[k - len(self.seeds)][low:high] for k in needed[len(seeds) :]]
                )
                part = out[low - start : high - start]
                if not blend(sources, coef[needed].tolist(), part):
                    self.check_finite(name, low, high)
                    raise _too_large(name, part, low + (not_finite(part) or 0))

    def _steps(self, start: int, stop: int, mapped: bool) -> Iterable[tuple[int, int]]:
        """Return the ranges of elements that are read, or computed of adapters, at a time."""
        if mapped and not any(seed.adapters for seed in self.seeds):
            return [(start, stop)]
        return [(start + low, start + high) for low, high in chunks(stop - start, PIECE_ELEMENTS)]

    def _unchanged(self, name: str, seeds: Sequence[int]) -> bool:
        """Return whether a tensor stays as it is, being the same in some seeds, two or more.

        SLERP's factors do not sum to one, and would scale it. Of single files, these are all equal
        tensors; of pipelines, those of components in which all are equal, such as text encoders
        that were not trained. All else is merged as one flat vector, as in the paper.
        """
        if len(seeds) < 2 or max(seeds) >= len(self.seeds):
            return False
        if self.base.is_picture_file:
            return self._equal(name, seeds)
        if self.base.kind != "diffusers":
            return False
        component = f"{name.partition('/')[0]}/"
        mine = (other for other in self.sizes if other.startswith(component))
        return all(self._equal(other, seeds) for other in mine)

    def _equal(self, name: str, seeds: Sequence[int]) -> bool:
        """Return whether a tensor is the same in some seeds."""
        for seed in seeds[1:]:
            pair = name, seeds[0], seed
            if pair not in self._compared:
                self._compared[pair] = self._is_same(*pair)
            if not self._compared[pair]:
                return False
        return True

    def _is_same(self, name: str, first: int, second: int) -> bool:
        """Return whether two seeds have the same values of a tensor, in whatever dtypes."""
        from m2n2lab.checkpoint.kernels import blend  # late, as above

        a, b = self._stored[name][first], self._stored[name][second]
        for start, stop in chunks(self.merged_sizes[name]):
            parts = a[start:stop], b[start:stop]
            if parts[0].dtype == parts[1].dtype:
                if not np.array_equal(*parts):
                    return False
                continue
            values = np.empty((2, stop - start))
            for part, row in zip(parts, values, strict=True):
                blend([part], [1.0], row)
            if not np.array_equal(*values):
                return False
        return True

    @cached_property
    def _compared(self) -> dict[tuple[str, int, int], bool]:
        return {}

    def _merge_buffer(self, recipe: Recipe, name: str, start: int, stop: int, out: Array) -> None:
        """Merge elements ``start..stop`` of a buffer; those equal in all seeds stay as they are.

        Raises:
            Problems: as ``merge_into``.
        """
        from m2n2lab.checkpoint.kernels import blend

        offset = self.buffers.offsets[list(self.buffers.shapes).index(name)]
        assert recipe.buffers is not None  # as the space has checked
        sources = self.sources(name, start, stop)
        constant = np.empty_like(out)
        blend(sources[:1], [1.0], constant)
        values = np.empty((len(sources), stop - start))  # exact, whatever the seeds' dtypes
        for source, row in zip(sources, values, strict=True):
            blend([source], [1.0], row)
        same = (values == values[0]).all(axis=0)
        for low, high, coef in recipe.buffers.pieces(offset + start, offset + stop):
            here = slice(low - offset - start, high - offset - start)
            needed = np.flatnonzero(coef)
            blend([sources[k][here] for k in needed], coef[needed].tolist(), out[here])
        out[same] = constant[same]  # infinite ones too, as in masks of attention
        bad = not_finite(np.where(same, np.zeros_like(out), out))
        if bad is not None:
            self.check_finite(name, start, stop)
            raise _too_large(name, out, start + bad)

    def _merge_further_rows(
        self, recipe: Recipe, name: str, start: int, stop: int, out: Array
    ) -> None:
        """Write elements beyond those that all seeds have: rows of the seeds that have them.

        Several seeds that have a row are averaged by their shares at the last common one; what
        comes from derived vectors there counts for none of them.
        """
        from m2n2lab.checkpoint.kernels import blend  # late, as above

        assert self.vocabulary is not None  # otherwise there are no such elements
        width = math.prod(self.layout.shapes[name][1:])
        last = self.offsets[name] + self.sizes[name] - 1
        (_, _, coef), *_ = recipe.pieces(last, last + 1)
        for run in self.vocabulary.runs:
            low, high = run.start * width, (run.start + run.rows) * width
            low, high = max(low, start), min(high, stop)
            if low >= high:
                continue
            shares = [max(float(coef[seed]), 0.0) for seed, _ in run.owners]
            if not sum(shares):
                shares = [1.0] * len(shares)
            sources = [
                self.seeds[seed].stored(name)[
                    low + (first - run.start) * width : high + (first - run.start) * width
                ]
                for seed, first in run.owners
            ]
            used = [k for k, share in enumerate(shares) if share]
            part = out[low - start : high - start]
            weights = [shares[k] / sum(shares) for k in used]
            if not blend([sources[k] for k in used], weights, part):
                bad = [k for k in used if not_finite(sources[k]) is not None]
                if bad:
                    seed = self.seeds[run.owners[bad[0]][0]]
                    at = low + (not_finite(sources[bad[0]]) or 0)
                    raise Problems(_not_finite(seed.file(name), name, f"{at:,}"))
                raise _too_large(name, part, low + (not_finite(part) or 0))

    def check_finite(self, name: str, start: int, stop: int) -> None:
        """Check that elements ``start..stop`` of a tensor are finite in all seeds.

        Raises:
            Problems: a seed has NaN or infinity; the first such element of each seed is named.
        """
        found = []
        for seed, source in zip(self.seeds, self.sources(name, start, stop), strict=True):
            at = not_finite(source)
            if at is not None:
                where = self._locate(name, start + at)
                found.append(_not_finite(seed.file(name), name, f"{start + at:,} ({where})"))
        if found:
            raise Problems(*found)

    def _locate(self, name: str, index: int) -> str:
        """Return an element of a tensor that is merged as text."""
        if name in self.sizes:
            return self.layout.locate(self.offsets[name] + index)
        return Layout({name: self.shape(name)}).locate(index)


def _sizes(layout: Layout) -> dict[str, int]:
    """Return the number of elements of each tensor."""
    starts, ends = layout.offsets, layout.offsets[1:]
    return {
        name: end - start for name, start, end in zip(layout.shapes, starts, ends, strict=False)
    }


def _not_finite(file: Path, name: str, where: str) -> Problem:
    return Problem(
        file=str(file),
        tensor=name,
        expected="finite numbers",
        found=f"NaN or infinity at element {where}",
        fix="repair this checkpoint or leave it out",
    )


def _too_large(name: str, result: Array, index: int) -> Problems:
    dtype = next(name for name, held in DTYPES.items() if held == result.dtype)
    return Problems(
        Problem(
            file="the result",
            tensor=name,
            expected=f"numbers within the range of {dtype}",
            found=f"a larger one at element {index:,}",
            fix="choose a wider dtype for the output, such as bf16 or fp32",
        )
    )
