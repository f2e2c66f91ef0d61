"""Space: the representation of models, their merge and mutation, and models made of genomes.

A *genome* is a space's representation of a model, opaque to the evolver.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import safetensors.torch
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from m2n2lab.core.population import Member
from m2n2lab.core.spaces.buffers import BufferLayout, Buffers
from m2n2lab.core.spaces.genomes import checked_genome
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.modules import check_module, copied, state_tensors
from m2n2lab.core.spaces.recalibration import Recalibration, RecalibrationData
from m2n2lab.core.spaces.shares import linear_shares, shares_of
from m2n2lab.core.spaces.slerp import angle, slerp, split_point
from m2n2lab.core.spaces.stretches import check_stretches
from m2n2lab.core.spaces.tensor_rule import TensorRule
from m2n2lab.core.spaces.vectors import flat_vector, listed_models
from m2n2lab.utils.arrays import Floats, Reals
from m2n2lab.utils.errors import InputError, choose, described, device_name
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


class Vector:
    """The genome of a dense model: its flat vector (N,), never changed in place.

    Attributes:
        values: (N,) the weights.
        buffers: those of its module; ``None`` where the module has none, or there is no module.
    """

    __slots__ = ("_square", "buffers", "values")

    def __init__(self, values: Reals, buffers: Buffers | None = None) -> None:
        self.values = values
        self.buffers = buffers
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

    Where the seeds are modules, a model is all of its state dict: buffers such as BatchNorm
    statistics are merged with the weights (see ``m2n2lab.core.spaces.buffers``). A model is scored
    in eval mode, and saved as it was scored.

    Args:
        seeds: at least two models: vectors (N,) or (K, N), torch modules of one architecture, whose
            parameters in ``named_parameters`` order are the vector, or their state dicts. Members
            of another search count as vectors.
        layout: names and shapes along the vector; those of the modules by default.
        device: where models are scored, ``"cpu"`` or ``"cuda"``.
        dtype: of the vectors and their arithmetic, ``"float32"`` or, slower, ``"float64"``.
        recalibrate: data on which the BatchNorm statistics of every model, seeds included, are
            computed anew before it is scored or saved: batches of inputs (of which the first
            element is taken if they are tuples, such as those of a DataLoader with targets), read
            once; or a function that runs the module it is given on such data.
        module: a module of the models' architecture, where none of the seeds is one; tasks score a
            copy of it with a model's weights.

    Attributes:
        names: (K,) names of the seeds in views; empty by default.

    Raises:
        InputError: there are fewer than two seeds, their sizes differ, a weight is NaN or infinite,
            the layout does not fit, there is no such device or dtype, a module cannot be merged,
            or there are no BatchNorm statistics to recalibrate.
    """

    def __init__(
        self,
        seeds: Sequence[Any] | NDArray[Any] | Tensor,
        layout: Layout | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        recalibrate: RecalibrationData | None = None,
        module: nn.Module | None = None,
    ) -> None:
        self.names: tuple[str, ...] = ()
        self.device = checked_device(device)
        self.dtype = np.dtype(choose("dtype for vectors", dtype, ("float32", "float64")))
        seeds = listed_models(seeds)
        if layout is not None and not isinstance(layout, Layout):
            raise InputError(
                f"layout must be a Layout, got {described(layout)}; make one of names and shapes: "
                f"m2n2lab.Layout({{'weight': (2, 3)}})."
            )
        self.module: nn.Module | None = None
        self.buffers: BufferLayout | None = None
        name = "the module"
        if module is None:
            found = ((k, seed) for k, seed in enumerate(seeds) if isinstance(seed, nn.Module))
            number, module = next(found, (None, None))
            name = f"seed {number}"
        if module is not None:
            if not isinstance(module, nn.Module):
                raise InputError(
                    f"module must be a torch module, got {described(module)}; give one of the "
                    f"seeds' architecture, or leave it out."
                )
            check_module(module, name)
            # A copy, so that showing a child never changes the caller's model.
            self.module = copied(module, name).to(self.device).eval()
            self.buffers = BufferLayout(module, self.dtype) or None
            layout = layout or Layout({n: p.shape for n, p in module.named_parameters()})
            self.size = layout.size
        else:
            self.size = len(flat_vector(_weights(seeds[0])))
        self.layout = layout or Layout({"vector": (self.size,)})
        if self.layout.size != self.size:
            raise InputError(
                f"The layout must cover the seeds' {self.size} parameters, got "
                f"{self.layout.size}; give the shapes of every tensor."
            )
        self.recalibration: Recalibration | None = None
        if recalibrate is not None:
            self.recalibration = Recalibration(recalibrate, self.module, self.device)
        self.seeds = tuple(self.genome(seed, f"seed {i}") for i, seed in enumerate(seeds))

    def genome(self, model: Any, name: str = "the model") -> Vector:
        """Return the genome of an external model (a copy of its weights and buffers).

        Args:
            model: a module or its state dict; a vector (N,), where modules have no buffers; the
                result of ``pack``; a member, or a genome, which is checked.
            name: its name in errors.

        Raises:
            InputError: the model has another size or architecture, or NaN or infinite weights.
        """
        model = model.genome if isinstance(model, Member) else model
        if isinstance(model, Vector):
            model = self.pack(model)
        if isinstance(model, Mapping) and self.module is not None and not _is_packed(model):
            model = self._loaded(model, name)
        if isinstance(model, nn.Module):
            self._check_architecture(model, name)
            parts = [flat_vector(p.detach().reshape(-1)) for p in model.parameters()]
            values = np.concatenate(parts)
            buffers = None if self.buffers is None else self.buffers.read(model, name)
        else:
            values, buffers = self._unpack(model, name)
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
        return Vector(values, buffers)

    def _unpack(self, model: Any, name: str) -> tuple[NDArray[Any], Buffers | None]:
        """Return the weights (N,) and buffers of a vector or of packed arrays (see ``pack``)."""
        packed = _is_packed(model)
        values = flat_vector(model["values"] if packed else model)
        if self.buffers is None:
            return values, None
        if not packed:
            raise InputError(
                f"A model must have the buffers that seed 0 has, such as "
                f"{self.buffers.first_name!r}, but {name} is weights alone; give a module or, in a "
                f"merge of your own, Vector(values, self.merge_buffers(a, b, edges, mixes)) of "
                f"m2n2lab.core.spaces."
            )
        merged, carried = (np.asarray(model[field]) for field in Buffers._fields)
        return values, self.buffers.checked(merged, carried, name)

    def _loaded(self, state: Mapping[str, Any], name: str) -> nn.Module:
        """Return a copy of the module with the tensors of a state dict."""
        assert self.module is not None  # as its caller has checked
        module = copied(self.module, "the module")
        try:
            module.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise InputError(
                f"A state dict must have the tensors of the {type(module).__name__}, but {name} "
                f"does not ({' '.join(str(error).split())}); give one of the same architecture."
            ) from error
        return module

    def _check_architecture(self, model: nn.Module, name: str) -> None:
        if self.module is not None:
            check_module(model, name)
        expected = self.layout.shapes
        shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
        if self.module is not None and shapes != expected:
            odd = next(n for n in {**expected, **shapes} if shapes.get(n) != expected.get(n))
            raise InputError(
                f"All models must have one architecture, but {name} has {odd!r} of shape "
                f"{shapes.get(odd)} where seed 0 has {expected.get(odd)}; merge models of the same "
                f"architecture."
            )
        if self.module is not None:
            (self.buffers or BufferLayout(self.module, self.dtype)).check(model, name)

    def angle(self, a: Vector, b: Vector) -> float:
        """Return the angle ω between two genomes in radians."""
        a, b = checked_genome(a, Vector), checked_genome(b, Vector)
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

        Buffers are merged by lerp (see ``merge_buffers``).

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
        return Vector(child, self.merge_buffers(a, b, (0, split, self.size), (mix, 1.0 - mix)))

    def merge_buffers(
        self, a: Vector, b: Vector, edges: Sequence[int], mixes: Sequence[float]
    ) -> Buffers | None:
        """Return the buffers of a child, by lerp; ``None`` if there are none.

        Args:
            a: parent A, whose integer and bool buffers the child has.
            b: parent B.
            edges: (E+1,) non-decreasing indices from 0 to N.
            mixes: (E,) share of B on each stretch between them; cut to [0, 1].
        """
        if self.buffers is None:
            return None
        return self._blend_buffers([a, b], edges, linear_shares(mixes))

    def _blend_buffers(
        self, genomes: Sequence[Vector], edges: Sequence[int], shares: Floats
    ) -> Buffers | None:
        """Return the buffers of a child with shares (E, K) of genomes (K,)."""
        found = [genome.buffers for genome in genomes if genome.buffers is not None]
        if self.buffers is None or len(found) < len(genomes):
            return None
        return self.buffers.merge(found, edges, shares)

    def mean_buffers(self, models: Sequence[Vector]) -> Buffers | None:
        """Return the mean of models' floating-point buffers, with the others of the first one."""
        found = [model.buffers for model in models if model.buffers is not None]
        return self.buffers.mean(found) if self.buffers is not None and found else None

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
        factors = [slerp(omega, mix) for mix in mixes]
        return self.blend([a, b], edges, factors, linear_shares(mixes))

    def blend(
        self,
        genomes: Sequence[Vector],
        edges: Sequence[int],
        factors: ArrayLike,
        shares: Floats | None = None,
    ) -> Vector:
        """Return Σ_k f_ek · genome_k on each stretch e.

        Args:
            genomes: (K,) genomes.
            edges: (E+1,) non-decreasing indices from 0 to N.
            factors: (E, K).
            shares: (E, K) of their buffers; by default ``shares_of`` the factors.

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
        if self.buffers is None:
            return Vector(child)
        of_buffers = shares_of(table) if shares is None else shares
        return Vector(child, self._blend_buffers(genomes, edges, of_buffers))

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
            genomes: its inputs, A and B first.
            edges: (E+1,) non-decreasing indices from 0 to N.
            mixes: (E,) share of B on each stretch, which is that of its buffers too.
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
        return Vector(child, self.merge_buffers(genomes[0], genomes[:2][-1], edges, mixes))

    def mutate(self, genome: Vector, sigma: float, seed: int, decay: float = 0.0) -> Vector:
        """Return (1 − decay)·genome + N(0, sigma²); the noise is a function of ``seed`` alone.

        Buffers stay as they are.

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
        return Vector(child, genome.buffers)

    @property
    def recalibrated_on(self) -> str | None:
        """Checksum of the data, or name of the function, of ``recalibrate``; ``None`` without."""
        return None if self.recalibration is None else self.recalibration.identity

    def materialise(self, genome: Vector) -> Any:
        """Return a tensor (N,) on the device or, where the seeds are modules, a module.

        On the CPU the tensor shares the genome's memory and must not be changed.
        """
        genome = checked_genome(genome, Vector)
        if self.module is None:
            return torch.from_numpy(genome.values).to(self.device)
        return self._fill(self.module, genome)

    def _fill(self, module: nn.Module, genome: Vector) -> nn.Module:
        """Return the module, in eval mode, with a genome's weights and buffers."""
        tensor = torch.from_numpy(genome.values).to(self.device)
        # Copies, because modules may change when used.
        with torch.no_grad():
            for parameter, part in zip(
                module.parameters(), self.layout.split(tensor).values(), strict=True
            ):
                parameter.copy_(part)
        if self.buffers is not None and genome.buffers is not None:
            self.buffers.write(genome.buffers, module)
        module.eval()  # a task may have changed that
        if self.recalibration is not None:
            self.recalibration.apply(module)
        return module

    def model(self, genome: Vector, device: str = "cpu") -> Any:
        """Return a model of the caller's own: a module or, without modules, a tensor (N,).

        Raises:
            InputError: there is no such device.
        """
        own = copy.copy(self)
        own.device = checked_device(device)
        if self.module is None:
            tensor: Tensor = own.materialise(genome)
            return tensor.clone()
        own.module = copied(self.module, "the module").to(own.device)
        return own.materialise(genome)

    def pack(self, genome: Vector) -> Any:
        """Return the vector (N,), or a dictionary of arrays: ``values`` and those of ``Buffers``.

        The method ``genome`` makes an equal genome of either.
        """
        genome = checked_genome(genome, Vector)
        if genome.buffers is None:
            return genome.values
        return {"values": genome.values, **genome.buffers._asdict()}

    def save(self, model: Member | Vector, path: str | Path) -> None:
        """Write a member, or its genome, as a safetensors file.

        Where the seeds are modules, it is the state dict of the module that is scored, which loads
        strictly into another; else the layout's tensors.

        Raises:
            InputError: the file cannot be written, or the module has state that is no tensor; no
                partial file is left.
        """
        genome = checked_genome(model.genome if isinstance(model, Member) else model, Vector)
        if self.module is None:
            parts = self.layout.split(torch.from_numpy(genome.values))
            tensors = {name: part.contiguous() for name, part in parts.items()}
        else:
            # Into a copy, because another thread may be scoring a child.
            tensors = state_tensors(self._fill(copied(self.module, "the module"), genome))
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


def _is_packed(model: Any) -> bool:
    """Return whether a model is packed arrays of weights and buffers (see ``DenseSpace.pack``)."""
    return isinstance(model, Mapping) and set(model) == {"values", *Buffers._fields}


def _weights(model: Any) -> Any:
    """Return the vector of a member or its genome; other models as they are."""
    genome = model.genome if isinstance(model, Member) else model
    return genome.values if isinstance(genome, Vector) else genome


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
