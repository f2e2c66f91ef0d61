"""Buffers: the state of a torch module beside its parameters, such as BatchNorm statistics.

The floating-point buffers of a child are merged as a group of their own, by lerp, because SLERP
would scale variances:

    b = (1 − t)·b_A + t·b_B,  with t = w if i_b < c, else 1 − w, cut to [0, 1]

Here w is the mix, c the split, and i_b the place of the buffer in the flat vector: the index of the
last parameter of its module or, if that has none, of the modules before it (in checkpoints, whose
order is that of names, of the tensors before it). Entries in which A and B are equal stay as they
are. Integer and bool buffers are A's. None of them is part of the vector whose angle ω is measured,
and none is mutated. Sums of several models that are no SLERP have buffers with ``shares_of`` their
factors.

Only buffers in the state dict count: others (``persistent=False``) stay those of seed 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m2n2lab.core.spaces.shares import shares_at
from m2n2lab.utils.arrays import Floats, Reals
from m2n2lab.utils.errors import InputError

_NO_BYTES = np.empty(0, np.uint8)

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Dtypes of tensors that can be merged."""


class Buffers(NamedTuple):
    """The buffers of one model, never changed in place.

    Attributes:
        merged: (M,) entries of its floating-point buffers, one buffer after the other.
        carried: (C,) bytes of its integer and bool buffers, likewise.
    """

    merged: Reals
    carried: NDArray[np.uint8]


class BufferLayout:
    """Names, dtypes and shapes of a module's buffers, in module order.

    Args:
        module: the module of seed 0.
        dtype: of merged entries.

    Attributes:
        merged: names and shapes of its floating-point buffers.
        carried: names, dtypes and shapes of its integer and bool buffers.
        places: the index i_b of each merged buffer, in [0, N).

    Raises:
        InputError: an entry of seed 0 is NaN or beyond the dtype.
    """

    def __init__(self, module: nn.Module, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.merged: dict[str, tuple[int, ...]] = {}
        self.carried: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        self._entries = _entries(module)
        places, ends = [], _ends(module)
        for name, (held, shape) in self._entries.items():
            if held in FLOATS:
                self.merged[name] = shape
                places.append(max(ends[name.rpartition(".")[0]] - 1, 0))
            else:
                self.carried[name] = (held, shape)
        self.places = np.array(places, np.int64)
        self._sizes = [prod(shape) for shape in self.merged.values()]
        self._first: Reals | None = None
        self._first = self.read(module, "seed 0").merged

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def first_name(self) -> str:
        """Name of the first buffer."""
        return next(iter(self._entries))

    def check(self, module: nn.Module, name: str) -> None:
        """Check that a module has these buffers.

        Raises:
            InputError: one is missing, superfluous, or of another shape or dtype.
        """
        found = _entries(module)
        for buffer in {**self._entries, **found}:
            mine, its = self._entries.get(buffer), found.get(buffer)
            if _form(mine) != _form(its):
                raise InputError(
                    f"All models must have one architecture, but {name} has "
                    f"{_about(buffer, its)} where seed 0 has {_about(buffer, mine)}; merge models "
                    f"of the same architecture."
                )

    def read(self, module: nn.Module, name: str) -> Buffers:
        """Return copies of the buffers of a module that passed ``check``.

        Raises:
            InputError: as ``checked``.
        """
        tensors = dict(module.named_buffers())
        parts = [tensors[key].detach().cpu().reshape(-1).double().numpy() for key in self.merged]
        carried = [_bytes(tensors[key]) for key in self.carried]
        buffers = np.concatenate([np.empty(0), *parts]), np.concatenate([_NO_BYTES, *carried])
        return self.checked(*buffers, name)

    def checked(self, merged: NDArray[Any], carried: NDArray[Any], name: str) -> Buffers:
        """Return the buffers with these entries (M,) and bytes (C,).

        Infinite entries may only be where seed 0 has the same, as in masks of attention.

        Raises:
            InputError: there are more or fewer, or an entry is NaN, infinite or beyond the dtype.
        """
        sizes = (
            sum(self._sizes),
            sum(d.itemsize * prod(shape) for d, shape in self.carried.values()),
        )
        if (merged.shape, carried.shape) != ((sizes[0],), (sizes[1],)):
            raise InputError(
                f"The buffers of {name} must have {sizes[0]:,} entries to merge and {sizes[1]:,} "
                f"bytes to carry, got shapes {merged.shape} and {carried.shape}; give the buffers "
                f"of a model of the same architecture."
            )
        with np.errstate(over="ignore"):  # entries beyond float32 become infinite and are refused
            values: Reals = merged.astype(self.dtype)
        expected = values if self._first is None else self._first
        bad = np.flatnonzero(~np.isfinite(values) & (np.isfinite(merged) | (values != expected)))
        if len(bad):
            at = int(np.searchsorted(np.cumsum(self._sizes), bad[0], side="right"))
            raise InputError(
                f"Buffers must be finite, but {name} has {merged[bad[0]]} in "
                f"{list(self.merged)[at]!r}; repair or leave out this model."
            )
        return Buffers(values, carried.astype(np.uint8))

    def merge(self, models: Sequence[Buffers], edges: Sequence[int], shares: Floats) -> Buffers:
        """Return the buffers of a child, whose integer and bool ones are the first model's.

        Args:
            models: (K,) buffers.
            edges: (E+1,) non-decreasing indices of the flat vector, from 0 to N.
            shares: (E, K) of each model on the stretches between them.
        """
        rows = np.repeat(shares_at(edges, shares, self.places), self._sizes, axis=0)  # (M, K)
        first = models[0].merged
        total = np.zeros(len(first))
        equal = np.ones(len(first), bool)
        with np.errstate(invalid="ignore"):  # infinite entries, which are equal
            for column, model in zip(rows.T, models, strict=True):
                total += column * model.merged
                equal &= model.merged == first
        merged: Reals = np.where(equal, first, total.astype(self.dtype))
        return Buffers(merged, models[0].carried)

    def mean(self, models: Sequence[Buffers]) -> Buffers:
        """Return the mean of floating-point buffers, and the others of the first model."""
        merged = np.mean([model.merged for model in models], axis=0, dtype=np.float64)
        return Buffers(merged.astype(self.dtype), models[0].carried)

    def write(self, buffers: Buffers, module: nn.Module) -> None:
        """Write buffers into a module of this architecture."""
        tensors = dict(module.named_buffers())
        start = 0
        with torch.no_grad():
            for (name, shape), size in zip(self.merged.items(), self._sizes, strict=True):
                part = torch.from_numpy(buffers.merged[start : start + size])
                tensors[name].copy_(part.view(shape))
                start += size
            start = 0
            for name, (held, shape) in self.carried.items():
                size = held.itemsize * prod(shape)
                # A copy, because an integer must not straddle two of them in memory.
                raw = torch.from_numpy(buffers.carried[start : start + size].copy())
                tensors[name].copy_(raw.view(held).view(shape))
                start += size


def _entries(module: nn.Module) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return the dtype and shape of each buffer in the module's state dict."""
    saved: Mapping[str, Any] = module.state_dict()
    return {
        name: (buffer.dtype, tuple(buffer.shape))
        for name, buffer in module.named_buffers()
        if name in saved
    }


def _ends(module: nn.Module) -> dict[str, int]:
    """Return the number of parameters up to the end of each module, in module order."""
    ends: dict[str, int] = {}
    seen: set[int] = set()
    count = 0
    for name, part in module.named_modules():
        for parameter in part.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                count += parameter.numel()
        ends[name] = count
    return ends


def _form(entry: tuple[torch.dtype, tuple[int, ...]] | None) -> object:
    """Return what must be equal in all models: buffers of any floating-point dtype are merged."""
    return None if entry is None else (entry[0] in FLOATS or entry[0], entry[1])


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    flat = tensor.detach().cpu().contiguous().view(-1)
    raw: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return raw


def _about(name: str, entry: tuple[torch.dtype, tuple[int, ...]] | None) -> str:
    if entry is None:
        return f"no buffer {name!r}"
    return f"a buffer {name!r} of {str(entry[0]).removeprefix('torch.')} and shape {entry[1]}"
