"""Space: the representation of models, their merge and mutation, and models made of genomes.

A *genome* is a space's representation of a model, opaque to the evolver.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import safetensors.torch
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from m2n2lab.core.population import Member
from m2n2lab.core.spaces.layout import Layout, check_stretches
from m2n2lab.core.spaces.slerp import angle, slerp, split_point
from m2n2lab.core.spaces.tensor_rule import TensorRule
from m2n2lab.utils.errors import InputError, choose, device_name
from m2n2lab.utils.files import write_atomically


@runtime_checkable
class Space(Protocol):
    """A representation of models by genomes, which are never changed in place."""

    size: int
    """N, number of parameters of the flat vector."""
    layout: Layout
    """Names and shapes along the flat vector."""
    seeds: tuple[Any, ...]
    """Genomes of the models that a search starts from."""

    def merge(self, a: Any, b: Any, split: int, mix: float) -> Any:
        """Return the genome of the split-point SLERP of two genomes."""

    def mutate(self, genome: Any, sigma: float, seed: int, decay: float = 0.0) -> Any:
        """Return (1 − decay)·genome plus normal noise of standard deviation ``sigma``."""

    def angle(self, a: Any, b: Any) -> float:
        """Return the angle ω between two genomes in radians."""

    def materialise(self, genome: Any) -> Any:
        """Return the model that a task scores; valid until the next call."""

    def genome(self, model: Any) -> Any:
        """Return the genome of an external model."""

    def pack(self, genome: Any) -> Any:
        """Return plain values from which the method ``genome`` makes an equal genome."""

    def save(self, model: Any, path: str | Path) -> None:
        """Write the model of a member, or of its genome, to a file."""


Reals = NDArray[np.float32] | NDArray[np.float64]
"""An array of float32 or of float64."""


class Vector:
    """The genome of a dense model: its flat vector (N,), never changed in place."""

    __slots__ = ("_square", "values")

    def __init__(self, values: Reals) -> None:
        self.values = values
        self._square: float | None = None

    @property
    def square(self) -> float:
        """⟨θ,θ⟩, computed on first use: most children are rejected before they need it."""
        if self._square is None:
            self._square = _inner(self.values, self.values)
        return self._square


def _near_one(values: Reals) -> Reals:
    """Return values (N,) times the power of two that takes the largest near 1: a like angle.

    The product is exact, so that inner products neither overflow nor vanish.
    """
    largest = float(np.abs(values).max())
    if largest == 0.0:
        return values
    scaled: Reals = np.ldexp(values.astype(np.float64), -np.frexp(largest)[1])
    return scaled


def _overflow(step: str) -> InputError:
    return InputError(
        f"Weights must stay finite, got one beyond the range of numbers after {step}; scale "
        f"the seeds down, or choose a smaller mutation."
    )


def _inner(a: Reals, b: Reals, dtype: type | None = None) -> float:
    # einsum and not @: BLAS splits long vectors over threads, which changes the order of the sum.
    return float(np.einsum("i,i", a, b, dtype=dtype))


SINGLE_PRECISION_SQUARES = (1e-28, 1e38)
"""Bounds of ⟨θ,θ⟩ within which float32 gives inner products: beyond, squares overflow or vanish."""

OVERFLOW_RAISES: dict[str, Any] = {"over": "raise", "invalid": "raise"}
"""NumPy's error state in which the processor's own flags show a weight that became infinite."""

MAX_NOISE = 1e36
"""Largest standard deviation of mutation: noise beyond float32 would be infinite."""

MAX_SINGLE_PRECISION_RADIANS = 2.0
"""Angle beyond which inner products need double precision. Towards π SLERP divides by an ever
smaller sin ω: a cosine rounded to 3e-8 would give exactly opposite models, which need a lerp,
factors of thousands."""


class DenseSpace:
    """Models as whole vectors of equal length: for small models.

    Vectors stay in main memory and their arithmetic is NumPy's, whose calls cost a third of
    torch's on vectors of this size; only the model that is scored goes to the device. So the
    same seed also gives the same models on any device.

    Args:
        seeds: at least two models: vectors (N,) or (K, N), or torch modules of one architecture,
            whose parameters in ``named_parameters`` order are the vector.
        layout: names and shapes along the vector; those of the modules by default.
        device: where models are scored, ``"cpu"`` or ``"cuda"``.
        dtype: of the vectors and their arithmetic, ``"float32"`` or, slower, ``"float64"``.

    Attributes:
        names: (K,) names of the seeds in views; empty by default.

    Raises:
        InputError: there are fewer than two seeds, their sizes differ, a weight is NaN or infinite,
            the layout does not fit, or there is no such device or dtype.
    """

    def __init__(
        self,
        seeds: Sequence[Any] | NDArray[Any] | Tensor,
        layout: Layout | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.names: tuple[str, ...] = ()
        self.device = checked_device(device)
        self.dtype = np.dtype(choose("dtype for vectors", dtype, ("float32", "float64")))
        if not isinstance(seeds, (Sequence, np.ndarray, Tensor)):
            raise InputError(
                f"A merge needs at least two seeds in a list or a matrix, got "
                f"{type(seeds).__name__}; list the models."
            )
        if len(seeds) < 2:
            raise InputError(
                f"A merge needs at least two seeds, got {len(seeds)}; add another model."
            )
        self.module: nn.Module | None = None
        first = seeds[0]
        if isinstance(first, nn.Module):
            # A copy, so that showing a child never changes the caller's model.
            self.module = copy.deepcopy(first).to(self.device).eval()
            layout = layout or Layout({n: p.shape for n, p in first.named_parameters()})
            self.size = layout.size
        else:
            self.size = len(_flat(first))
        self.layout = layout or Layout({"vector": (self.size,)})
        if self.layout.size != self.size:
            raise InputError(
                f"The layout must cover the seeds' {self.size} parameters, got "
                f"{self.layout.size}; give the shapes of every tensor."
            )
        self.seeds = tuple(self.genome(seed, f"seed {i}") for i, seed in enumerate(seeds))

    def genome(self, model: Any, name: str = "the model") -> Vector:
        """Return the genome of an external model (a copy of its weights).

        Raises:
            InputError: the model has another size or architecture, or NaN or infinite weights.
        """
        if isinstance(model, nn.Module):
            self._check_architecture(model, name)
            parts = [_flat(p.detach().reshape(-1)) for p in model.parameters()]
            values = np.concatenate(parts)
        else:
            values = _flat(model)
        if len(values) != self.size:
            raise InputError(
                f"All models must have {self.size} parameters as seed 0 has, but {name} has "
                f"{len(values)}; merge models of the same architecture."
            )
        with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused
            values = values.astype(self.dtype)  # a copy
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InputError(
                f"Weights must be finite, but {name} has {values[bad[0]]} at index {bad[0]} "
                f"({self.layout.locate(int(bad[0]))}); repair or leave out this model."
            )
        return Vector(values)

    def _check_architecture(self, model: nn.Module, name: str) -> None:
        expected = self.layout.shapes
        shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
        if self.module is not None and shapes != expected:
            odd = next(n for n in {**expected, **shapes} if shapes.get(n) != expected.get(n))
            raise InputError(
                f"All models must have one architecture, but {name} has {odd!r} of shape "
                f"{shapes.get(odd)} where seed 0 has {expected.get(odd)}; merge models of the same "
                f"architecture."
            )

    def angle(self, a: Vector, b: Vector) -> float:
        """Return the angle ω between two genomes in radians."""
        low, high = SINGLE_PRECISION_SQUARES
        if low <= a.square <= high and low <= b.square <= high:
            omega = angle(a.square, b.square, _inner(a.values, b.values))
            # ω = 0 is parallel, or a rounding error away from it.
            if 0.0 < omega < MAX_SINGLE_PRECISION_RADIANS:
                return omega
        x, y = _near_one(a.values), _near_one(b.values)
        return angle(*(_inner(p, q, np.float64) for p, q in ((x, x), (y, y), (x, y))))

    def merge(self, a: Vector, b: Vector, split: int, mix: float) -> Vector:
        """Return the split-point SLERP: f_mix before ``split``, f_{1−mix} from it on.

        Raises:
            InputError: a weight leaves the range of the dtype.
        """
        c = split_point(self.angle(a, b), mix)
        x, y = a.values, b.values
        child = np.empty_like(x)
        try:
            with np.errstate(**OVERFLOW_RAISES):
                np.multiply(x[:split], c.a_before, out=child[:split])
                child[:split] += y[:split] * c.b_before
                np.multiply(x[split:], c.a_after, out=child[split:])
                child[split:] += y[split:] * c.b_after
        except FloatingPointError:
            raise _overflow("a merge") from None
        return Vector(child)

    def merge_stretches(
        self, a: Vector, b: Vector, edges: Sequence[int], mixes: Sequence[float]
    ) -> Vector:
        """Return the SLERP of two genomes with a mix for each stretch.

        Args:
            a: parent A.
            b: parent B.
            edges: (E+1,) non-decreasing indices from 0 to N.
            mixes: (E,) share of B on each stretch, in [0, 1].

        Raises:
            InputError: ``edges`` do not run from 0 to N, there is not one mix per stretch, or a
                weight leaves the range of the dtype.
        """
        omega = self.angle(a, b)
        return self.blend([a, b], edges, [slerp(omega, mix) for mix in mixes])

    def blend(self, genomes: Sequence[Vector], edges: Sequence[int], factors: ArrayLike) -> Vector:
        """Return Σ_k f_ek · genome_k on each stretch e.

        Args:
            genomes: (K,) genomes.
            edges: (E+1,) non-decreasing indices from 0 to N.
            factors: (E, K).

        Raises:
            InputError: ``edges`` do not run from 0 to N, there is not one row of factors per
                stretch, or a weight leaves the range of the dtype.
        """
        table = np.asarray(factors, np.float64)
        check_stretches(edges, len(table), self.size)
        child = np.zeros_like(genomes[0].values)
        try:
            with np.errstate(**OVERFLOW_RAISES):
                for start, stop, row in zip(edges, edges[1:], table.tolist(), strict=False):
                    for genome, factor in zip(genomes, row, strict=True):
                        if factor == 1.0 and row.count(0.0) == len(row) - 1:
                            child[start:stop] = genome.values[start:stop]  # exactly, -0.0 as well
                        elif factor != 0.0:
                            child[start:stop] += genome.values[start:stop] * factor
        except FloatingPointError:
            raise _overflow("a merge") from None
        return Vector(child)

    def angle_within(self, a: Vector, b: Vector, ranges: Sequence[tuple[int, int]]) -> float:
        """Return the angle ω in radians between two genomes' weights in ranges of the vector."""
        x, y = (
            Vector(np.concatenate([genome.values[i:j] for i, j in ranges])) for genome in (a, b)
        )
        return self.angle(x, y)

    def per_tensor(
        self,
        rule: TensorRule,
        genomes: Sequence[Vector],
        edges: Sequence[int],
        mixes: Sequence[float],
        seed: int,
        tensors: Collection[str] | None = None,
    ) -> Vector:
        """Return the genome whose tensors a rule computes from those of ``genomes``.

        Args:
            rule: computes a tensor, in float64.
            genomes: its inputs.
            edges: (E+1,) non-decreasing indices from 0 to N.
            mixes: (E,) share of B on each stretch.
            seed: of the rule's random numbers.
            tensors: names of those that are computed, by default all; others are the first
                genome's.

        Raises:
            InputError: as ``blend``.
        """
        check_stretches(edges, len(mixes), self.size)
        share = np.repeat(np.asarray(mixes, np.float64), np.diff(edges))
        child = genomes[0].values.copy()
        offsets = self.layout.offsets
        for number, (name, start, stop) in enumerate(
            zip(self.layout.shapes, offsets, offsets[1:], strict=False)
        ):
            if tensors is None or name in tensors:
                values = [genome.values[start:stop].astype(np.float64) for genome in genomes]
                rng = np.random.default_rng((seed, number))
                child[start:stop] = finite(rule.tensor(values, share[start:stop], rng), self.dtype)
        return Vector(child)

    def mutate(self, genome: Vector, sigma: float, seed: int, decay: float = 0.0) -> Vector:
        """Return (1 − decay)·genome + N(0, sigma²); the noise is a function of ``seed`` alone.

        Raises:
            InputError: a weight leaves the range of float32, or ``sigma`` is above ``MAX_NOISE``.
        """
        if sigma > MAX_NOISE:
            raise InputError(
                f"mutation must be at most {MAX_NOISE:g}, so that weights stay finite, got "
                f"{sigma:g}; choose a smaller one."
            )
        # torch's normals take a third of the time of NumPy's. A generator for each call, so that
        # threads can share a space.
        draw = torch.Generator().manual_seed(seed)
        noise: Reals = torch.empty(self.size).normal_(0.0, sigma, generator=draw).numpy()
        child = noise.astype(self.dtype, copy=False)
        try:
            with np.errstate(**OVERFLOW_RAISES):
                child += genome.values if decay == 0.0 else (1.0 - decay) * genome.values
        except FloatingPointError:
            raise _overflow("mutation") from None
        return Vector(child)

    def materialise(self, genome: Vector) -> Any:
        """Return a tensor (N,) on the device or, where the seeds are modules, a module.

        On the CPU the tensor shares the genome's memory and must not be changed.
        """
        tensor = torch.from_numpy(genome.values)
        if self.device.type != "cpu":
            tensor = tensor.to(self.device)
        if self.module is None:
            return tensor
        # Copies, because modules may change when used.
        with torch.no_grad():
            for parameter, part in zip(
                self.module.parameters(), self.layout.split(tensor).values(), strict=True
            ):
                parameter.copy_(part)
        return self.module

    def pack(self, genome: Vector) -> Reals:
        """Return the vector (N,), of which the method ``genome`` makes an equal genome."""
        return genome.values

    def save(self, model: Member | Vector, path: str | Path) -> None:
        """Write a member, or its genome, as a safetensors file with the layout's tensor names.

        Raises:
            InputError: the file cannot be written; no partial file is left.
        """
        genome: Vector = model.genome if isinstance(model, Member) else model
        parts = self.layout.split(torch.from_numpy(genome.values))
        tensors = {name: part.contiguous() for name, part in parts.items()}
        write_atomically(
            path, safetensors.torch.save(tensors, {"format": "pt", "made_by": "m2n2lab"})
        )


def finite(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values of a merge as another dtype.

    Raises:
        InputError: one is beyond its range.
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(values).astype(dtype)
    if not np.isfinite(rounded).all():
        raise _overflow("a merge")
    return rounded


def _flat(model: Any) -> NDArray[Any]:
    """Return a vector-like model as a flat array."""
    if isinstance(model, Tensor):
        # NumPy has no bfloat16; float64 is kept, to be checked before it is rounded.
        model = model.detach().cpu()
        model = model.float() if model.dtype == torch.bfloat16 else model
    array = np.asarray(model)
    if array.dtype.kind == "c":
        raise InputError(
            f"Weights must be real numbers, got {array.dtype}; give real and imaginary parts as "
            f"weights of their own, for example by torch.view_as_real."
        )
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.number):
        raise InputError(
            f"A model must be one flat vector of numbers or a torch module, got "
            f"{type(model).__name__} of shape {array.shape}; flatten its weights."
        )
    return array


def checked_device(name: str) -> torch.device:
    """Return a torch device that exists.

    Raises:
        InputError: the name is unknown, or there is no such CUDA GPU.
    """
    device = torch.device(device_name(name))
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"only {count} CUDA GPUs" if count else "no CUDA GPU"
        raise InputError(f"Device {name!r} is not available: this machine has {found}; use 'cpu'.")
    return device
