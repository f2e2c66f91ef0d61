"""Inner products of the seeds, block by block: all that angles between recipes depend on.

The angle of two recipes follows from ⟨θ_k, θ_l⟩ over the stretches between their breaks. Sums over
whole blocks are computed once, in one pass over the files; a break inside a block costs reading
part of that block, once. The angle of two descendants of 7B models then takes milliseconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2n2lab.checkpoint.io.hashes import Hashes, cache_folder, when_ready, write_cache
from m2n2lab.checkpoint.io.parallel import (
    CHUNK_ELEMENTS,
    Progress,
    chunks,
    no_progress,
    run_in_threads,
)
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.utils.arrays import Floats

BLOCK_ELEMENTS = 1 << 18
"""Elements of a block. Blocks do not cross tensors, so sums of small tensors stay accurate."""

MAX_CACHED_BREAKS = 100_000
"""Breaks inside blocks whose sums are kept before the cache is cleared."""


class Gram:
    """Inner products of K seeds over any stretch of the flat vector.

    Args:
        plan: the seeds.
        sums: (B, K, K) running sums in each tensor: 0 at its start, then after each block.
    """

    def __init__(self, plan: Plan, sums: Floats) -> None:
        self.plan = plan
        self._sums = sums
        self._names = tuple(plan.sizes)
        self._first = np.concatenate(
            ([0], np.cumsum([*_rows(plan).values()]))
        )  # row of each tensor's initial zero
        self._ends = np.concatenate((np.zeros_like(sums[:1]), sums[self._first[1:] - 1]))
        self._starts = np.array(plan.layout.offsets)
        self._row: dict[int, int] = {}  # break inside a tensor → row of ``_inside``
        self._inside = np.empty((64, *sums.shape[1:]))
        self._lock = threading.Lock()  # previews and the search ask from different threads

    @classmethod
    def build(cls, plan: Plan, progress: Progress = no_progress) -> Gram:
        """Compute all inner products in one pass over the seeds.

        Args:
            plan: the seeds.
            progress: called with the number of bytes read since the last call.

        Raises:
            Problems: a seed holds NaN or infinity.
        """
        from m2n2lab.checkpoint.kernels import products  # takes a second to import

        many = len(plan.seeds)
        rows = {name: np.zeros((count, many, many)) for name, count in _rows(plan).items()}

        def work(job: tuple[str, int, int]) -> int:
            name, start, stop = job
            for low in range(start, stop, BLOCK_ELEMENTS):
                high = min(low + BLOCK_ELEMENTS, stop)
                sums = products(plan.sources(name, low, high))
                if not np.isfinite(sums).all():
                    plan.check_finite(name, low, high)
                rows[name][low // BLOCK_ELEMENTS + 1] = sums
            return plan.bytes_read(name, start, stop)

        assert CHUNK_ELEMENTS % BLOCK_ELEMENTS == 0
        jobs = [(name, *chunk) for name, size in plan.sizes.items() for chunk in chunks(size)]
        run_in_threads(jobs, work, progress)
        return cls(plan, np.concatenate([np.cumsum(part, axis=0) for part in rows.values()]))

    @classmethod
    def open(cls, plan: Plan, hashes: Hashes, progress: Progress = no_progress) -> Gram:
        """Load the products from the cache, or compute and cache them.

        Raises:
            Problems: a seed holds NaN or infinity.
        """
        if hashes.ready:
            path = _path(plan, hashes.wait())
            sums = _load(path)
            shape = (sum(_rows(plan).values()), *2 * [len(plan.seeds)])
            if sums is not None and sums.shape == shape:
                progress(plan.read)
                return cls(plan, sums)
        gram = cls.build(plan, progress)

        def keep(digests: Mapping[Path, str]) -> None:
            hashes.check(thorough=True)  # these are the products of what was hashed
            buffer = io.BytesIO()
            np.save(buffer, gram._sums, allow_pickle=False)
            # Written atomically: two processes that build it write the same bytes.
            write_cache(_path(plan, digests), buffer.getvalue())

        when_ready(hashes, keep)
        return gram

    def between(self, breaks: NDArray[np.int64]) -> Floats:
        """Return ⟨θ_k, θ_l⟩ (S, K, K) over the stretches between ``breaks`` (S+1,).

        No stretch may cross tensors: ``breaks`` contain all offsets between them.
        """
        tensor = np.searchsorted(self._starts, breaks, side="right") - 1
        seam = self._starts[tensor] == breaks
        before = np.zeros((len(breaks), *self._sums.shape[1:]))
        before[seam] = self._ends[tensor[seam]]  # the whole tensor that ends at the break
        after = np.zeros_like(before)  # nothing of the one that begins there
        before[~seam] = after[~seam] = self._up_to(tensor[~seam], breaks[~seam])
        return before[1:] - after[:-1]

    def _up_to(self, tensors: NDArray[np.int64], breaks: NDArray[np.int64]) -> Floats:
        """Return the sums (n, K, K) from each tensor's start up to a break inside it."""
        with self._lock:
            if len(self._row) + len(breaks) > MAX_CACHED_BREAKS:
                self._row.clear()
            rows = [self._row.get(at, -1) for at in breaks.tolist()]
            if -1 in rows:
                rows = [
                    self._read(tensor, at) if row < 0 else row
                    for tensor, at, row in zip(tensors.tolist(), breaks.tolist(), rows, strict=True)
                ]
            return self._inside[rows]

    def _read(self, tensor: int, at: int) -> int:
        """Sum up to a new break and return its row of ``_inside``."""
        row = len(self._row)
        if row == len(self._inside):
            grown = np.empty((2 * row, *self._inside.shape[1:]))
            grown[:row] = self._inside
            self._inside = grown
        block, rest = divmod(at - int(self._starts[tensor]), BLOCK_ELEMENTS)
        self._inside[row] = self._sums[self._first[tensor] + block]
        if rest:
            from m2n2lab.checkpoint.kernels import products  # takes a second to import

            start = block * BLOCK_ELEMENTS
            self._inside[row] += products(
                self.plan.sources(self._names[tensor], start, start + rest)
            )
        self._row[at] = row
        return row


def _rows(plan: Plan) -> dict[str, int]:
    """Return the number of running sums of each tensor: 0 at its start, then one per block."""
    return {name: -(-size // BLOCK_ELEMENTS) + 1 for name, size in plan.sizes.items()}


def _path(plan: Plan, digests: Mapping[Path, str]) -> Path:
    key = {
        "block": BLOCK_ELEMENTS,
        "seeds": [
            [
                *(digests[file.path] for file in seed.files),
                *([a.strength, *map(digests.__getitem__, a.files)] for a in seed.adapters),
            ]
            for seed in plan.seeds
        ],
        "tensors": [[name, list(shape)] for name, shape in plan.layout.shapes.items()],
    }
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return cache_folder("gram") / f"{name}.npy"


def _load(path: Path) -> Floats | None:
    """Return cached sums; ``None`` if there are none or the file is damaged."""
    try:
        with path.open("rb") as file:
            sums = np.load(file, allow_pickle=False)
    except Exception:  # NumPy raises many classes for damaged files
        return None
    whole = isinstance(sums, np.ndarray) and sums.dtype == np.float64
    return sums if whole and np.isfinite(sums).all() else None
