"""The space of checkpoints: models of any size as recipes of their seeds."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2n2lab.checkpoint.checks import Vocabulary, preflight
from m2n2lab.checkpoint.inner_products import Gram
from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.io.parallel import Progress, nothing
from m2n2lab.checkpoint.io.problems import Problems
from m2n2lab.checkpoint.merge_record import Record, used
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.save import save
from m2n2lab.core.population import Member
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.slerp import angle, split_point
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, choose, device_name

if TYPE_CHECKING:
    from m2n2lab.checkpoint.live_module import Live

Granularity = Literal["model", "tensor"]


class CheckpointSpace:
    """Merges of checkpoints on disk, whose members are recipes: a few numbers for any model.

    ::

        space = m2n2lab.CheckpointSpace("WizardMath-7B", "AgentEvol-7B")
        child = space.merge(*space.seeds, split=space.size // 2, mix=0.3)
        space.save(child, "merged/")

    Args:
        seeds: at least two checkpoints: folders, ``.safetensors`` files or hub ids.
        components: of diffusers pipelines, the ones to merge.
        granularity: ``"model"``, one angle for the whole vector, as in the paper; or
            ``"tensor"``, an angle for each tensor.
        dtype: kind of numbers of results, such as ``"bfloat16"``; the first seed's by default.
        vocab: where vocabularies differ in size, ``"refuse"``, or keep the ``"common"`` rows.
        tokenizer: number of the seed whose tokenizer saved models get; by default the first or,
            where only common rows are kept, the one with fewest.
        device: where the model that tasks score lives, ``"cpu"`` or ``"cuda"``.
        module: the module to write weights into; by default the first seed is loaded with
            transformers or diffusers when a model is first materialised.
        progress: called with the bytes that were just read while the seeds are opened.

    Raises:
        Problems: all that speaks against merging these checkpoints, at once.
        InputError: options that do not exist.
    """

    def __init__(
        self,
        *seeds: str | Path,
        components: Sequence[str] | None = None,
        granularity: Granularity = "model",
        dtype: str | None = None,
        vocab: Vocabulary = "refuse",
        tokenizer: int | None = None,
        device: str = "cpu",
        module: Any = None,
        progress: Progress = nothing,
    ) -> None:
        found = preflight(seeds, components=components, dtype=dtype, vocab=vocab)
        if found.plan is None:
            raise Problems(*found.problems)
        self._open(found.plan, granularity, tokenizer, device, module, progress)

    @classmethod
    def of(
        cls,
        plan: Plan,
        granularity: Granularity = "model",
        tokenizer: int | None = None,
        progress: Progress = nothing,
    ) -> CheckpointSpace:
        """Return the space of checkpoints that ``preflight`` has already found to fit.

        Raises:
            Problems: a seed holds NaN or infinity.
            InputError: options that do not exist.
        """
        space = cls.__new__(cls)
        space._open(plan, granularity, tokenizer, "cpu", None, progress)
        return space

    def _open(
        self,
        plan: Plan,
        granularity: Granularity,
        tokenizer: int | None,
        device: str,
        module: Any,
        progress: Progress,
        measured: bool = True,
    ) -> None:
        self.plan = plan
        self.granularity = choose("granularity", granularity, ("model", "tensor"))
        self.layout = self.plan.layout
        self.size = self.layout.size
        many = len(self.plan.seeds)
        self.seeds = tuple(Recipe.seed(k, many, self.size) for k in range(many))
        self.device = device_name(device)
        self._tokenizer = self.plan.smallest if tokenizer is None else tokenizer
        self.given_module = module is not None
        self._module = module
        self._live: Live | None = None
        self._loading = threading.Lock()
        files = used(self.plan, self._tokenizer)
        self._hashes = Hashes(path for names in files for path in names.values())
        self._products_of: Gram | None = None
        if measured:
            self._products_of = Gram.open(self.plan, self._hashes, progress)
        self._offsets = np.array(self.layout.offsets)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process, or another machine, as the seeds' paths or hub ids."""
        plan, base = self.plan, self.plan.base
        sources = [str(s.path.absolute()) if Path(s.id).exists() else s.id for s in plan.seeds]
        components = [part.name for part in base.parts] if base.kind == "diffusers" else None
        vocab = "refuse" if plan.rows is None else "common"
        dtype = None if plan.dtype is None else TORCH_NAMES[plan.dtype]
        found = {"components": components, "dtype": dtype, "vocab": vocab}
        return _opened, (
            sources,
            found,
            self.granularity,
            self._tokenizer,
            self.device,
            self._module,
        )

    @property
    def _gram(self) -> Gram:
        """Products of the seeds; a worker, which only makes models, never asks for them."""
        if self._products_of is None:
            self._products_of = Gram.open(self.plan, self._hashes, nothing)
        return self._products_of

    @property
    def names(self) -> tuple[str, ...]:
        """(K,) what views call the seeds: the last part of a path or hub id that tells them apart.

        All of it where there is no such part.
        """
        ids = [Path(seed.id).as_posix() for seed in self.plan.seeds]
        for parts in (1, 2):
            names = tuple("/".join(id.split("/")[-parts:]) for id in ids)
            if len(set(names)) == len(ids):
                return names
        return tuple(ids)

    @property
    def tokenizer_folder(self) -> Path:
        """The seed whose tokenizer reads and writes what these models are asked and answer."""
        return self.plan.seeds[self._tokenizer].path

    def merge(self, a: Recipe, b: Recipe, split: int, mix: float) -> Recipe:
        """Return the split-point SLERP: f_mix before ``split``, f_{1−mix} from it on."""
        return self.merge_stretches(a, b, [0, split, self.size], [mix, 1.0 - mix])

    def merge_stretches(
        self, a: Recipe, b: Recipe, edges: Sequence[int], mixes: Sequence[float]
    ) -> Recipe:
        """Return f_mix of two recipes with a mix for each stretch.

        Args:
            a: recipe of parent A.
            b: recipe of parent B.
            edges: (E+1,) indices from 0 to N, never falling.
            mixes: (E,) share of B on each stretch, in [0, 1].

        Raises:
            InputError: edges that do not run from 0 to N, or not one mix for each stretch.
        """
        ends = np.asarray(edges)
        runs = ends.ndim == 1 and len(ends) > 1 and bool((np.diff(ends) >= 0).all())
        if not runs or (ends[0], ends[-1]) != (0, self.size) or len(mixes) != len(ends) - 1:
            raise InputError(
                f"edges must be whole numbers from 0 to {self.size} that never fall, with a mix "
                f"for each stretch between them, but {list(edges)} with {len(mixes)} mixes came; "
                f"give one edge more than mixes."
            )
        if self.granularity == "model":
            omega = self.angle(a, b)
            factors = [split_point(omega, mix)[:2] for mix in mixes]
            return a.combine(b, edges, factors)
        omegas = self.angles(a, b)
        cuts = np.unique(np.concatenate((self._offsets, ends)))
        tensors = np.searchsorted(self._offsets, cuts[:-1], side="right") - 1
        stretch = np.searchsorted(ends, cuts[:-1], side="right") - 1
        factors = [
            split_point(omegas[t], mixes[e])[:2]
            for t, e in zip(tensors.tolist(), stretch.tolist(), strict=True)
        ]
        return a.combine(b, cuts, factors)

    def mutate(self, genome: Recipe, sigma: float, seed: int, decay: float = 0.0) -> Recipe:
        """Refuse: noise on every weight cannot be written as a recipe.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"Checkpoints are merged without mutation, but mutation={sigma} came; use mutation=0, "
            f"or a DenseSpace for models small enough to be kept whole."
        )

    def angle(self, a: Recipe, b: Recipe) -> float:
        """Return the angle ω between two recipes' whole vectors in radians."""
        return angle(*self._products(a, b).sum(axis=1).tolist())

    def angles(self, a: Recipe, b: Recipe) -> list[float]:
        """Return the angle of each tensor (T,) in radians, in the layout's order."""
        return [angle(*row) for row in self._products(a, b).T.tolist()]

    def _products(self, a: Recipe, b: Recipe) -> Floats:
        """Return ⟨A,A⟩, ⟨B,B⟩ and ⟨A,B⟩ of each tensor, (3, T)."""
        cuts = np.unique(np.concatenate((a.breaks, b.breaks, self._offsets)))
        gram = self._gram.between(cuts)
        x, y = a.refine(cuts), b.refine(cuts)
        rows = [np.einsum("sk,skl,sl->s", p, gram, q) for p, q in ((x, x), (y, y), (x, y))]
        starts = np.searchsorted(cuts, self._offsets[:-1])
        sums = np.add.reduceat(np.array(rows), starts, axis=1)
        # A sum of squares that ought to be zero may come out a rounding error below it.
        sums[:2] = np.maximum(sums[:2], 0.0)
        return np.asarray(sums)

    def materialise(self, genome: Recipe) -> Any:
        """Return the live module, or pipeline, with a recipe's weights; the same object each time.

        Raises:
            InputError: the module cannot be loaded, or does not have the seeds' tensors.
        """
        with self._loading:
            if self._live is None:
                from m2n2lab.checkpoint.live_module import Live, load

                module = load(self.plan, self.device) if self._module is None else self._module
                self._live = Live(self.plan, module)
        return self._live.show(genome)

    def genome(self, model: Any) -> Recipe:
        """Return the recipe of what ``pack`` gave, or of a recipe from elsewhere.

        Raises:
            InputError: anything that is no recipe of these seeds.
        """
        packed = isinstance(model, Mapping) and set(model) == {"breaks", "coef"}
        recipe = Recipe(**model) if packed else model
        if not isinstance(recipe, Recipe):
            raise InputError(
                f"A model in this space must be a Recipe of its seeds, but {type(model).__name__} "
                f"came; to merge another checkpoint, open the space with it as one more seed."
            )
        if (recipe.size, recipe.seeds) != (self.size, len(self.seeds)):
            raise InputError(
                f"A recipe here must be of {self.size:,} parameters and {len(self.seeds)} seeds, "
                f"but one of {recipe.size:,} and {recipe.seeds} came; use a recipe of these seeds."
            )
        return recipe

    def record(self, genome: Recipe, made: str = "") -> Record:
        """Return all that makes a recipe's model again, with the SHA-256 of every seed's files.

        Raises:
            InputError: a seed's file cannot be read.
        """
        record = Record.of(self.plan, genome, self._tokenizer, made)
        return record.complete(self.plan, self._hashes.wait())

    def pack(self, genome: Recipe) -> dict[str, NDArray[Any]]:
        """Return what ``genome`` makes the same recipe of again: its breaks and coefficients."""
        return {"breaks": genome.breaks, "coef": genome.coef}

    def save(
        self, model: Member | Recipe, path: str | Path, made: str = "", progress: Progress = nothing
    ) -> None:
        """Write a member, or its recipe, as a folder that loads as its seeds do.

        Args:
            model: what to write.
            path: the folder to make; it must not exist, or be empty.
            made: how the recipe came about, for the card.
            progress: called with the bytes that were just read and written.

        Raises:
            InputError: it cannot be written; nothing is left behind then.
        """
        recipe = self.genome(model.genome if isinstance(model, Member) else model)
        record = Record.of(self.plan, recipe, self._tokenizer, made)
        save(self.plan, recipe, path, self._hashes, record, progress)


def _opened(
    sources: Sequence[str],
    options: Mapping[str, Any],
    granularity: Granularity,
    tokenizer: int,
    device: str,
    module: Any,
) -> CheckpointSpace:
    """Return a space where the same seeds are; their weights were looked at before."""
    found = preflight(sources, **options)
    if found.plan is None:
        raise Problems(*found.problems)
    space = CheckpointSpace.__new__(CheckpointSpace)
    space._open(found.plan, granularity, tokenizer, device, module, nothing, measured=False)
    return space
