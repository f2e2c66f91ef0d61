"""Checkpoint space: models of any size as recipes of their seeds."""

from __future__ import annotations

import copy
import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from m2n2lab.checkpoint.checks.preflight import preflight
from m2n2lab.checkpoint.derived_tensors import DerivedTensors, described
from m2n2lab.checkpoint.inner_products import Gram
from m2n2lab.checkpoint.io.adapters.source import Source
from m2n2lab.checkpoint.io.checkpoint import NOTHING_KNOWN, Known
from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.checkpoint.io.folder import read_json
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.io.parallel import Progress, no_progress
from m2n2lab.checkpoint.io.problems import Collector, Problems
from m2n2lab.checkpoint.name_map import NameMap
from m2n2lab.checkpoint.picture_options import PictureOptions
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.record.merge_record import Record, used_files
from m2n2lab.checkpoint.save import save
from m2n2lab.checkpoint.special_tokens import checked_tokenizer, with_token_ids
from m2n2lab.checkpoint.tokens.tokenizers import extended_tokenizer
from m2n2lab.checkpoint.tokens.vocabulary import Mode
from m2n2lab.core.population import Member
from m2n2lab.core.spaces.derived import Derived
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.shares import linear_shares, shares_at, shares_of
from m2n2lab.core.spaces.slerp import angle, split_point
from m2n2lab.core.spaces.stretches import check_stretches
from m2n2lab.core.spaces.tensor_rule import TensorRule
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, choose, device_name

if TYPE_CHECKING:
    from m2n2lab.checkpoint.live.live_module import LiveModule
    from m2n2lab.core.spaces.recalibration import Recalibration, RecalibrationData

Granularity = Literal["model", "tensor"]

UNRELATED_DEGREES = 80.0
"""Angle from which models pass for unrelated; fine-tuned ones are within a few degrees."""

OPPOSITE_DEGREES = 150.0
"""Angle from which models cancel each other."""

MAX_CACHED_PRODUCTS = 256
"""Pairs of recipes with derived vectors whose inner products are kept."""


class CheckpointSpace:
    """Merges of checkpoints on disk; members are recipes, a few numbers for a model of any size.

    ::

        space = m2n2lab.CheckpointSpace("WizardMath-7B", "AgentEvol-7B")
        child = space.merge(*space.seeds, split=space.size // 2, mix=0.3)
        space.save(child, "merged/")

    Floating-point buffers, such as BatchNorm statistics, are merged beside the vector, by lerp (see
    ``m2n2lab.core.spaces.buffers``); integer tensors and constants are the first seed's. What is
    scored, in eval mode, is what is saved.

    Args:
        seeds: at least two checkpoints: folders, ``.safetensors`` files or hub ids; or a list.
            ``"BASE+ADAPTER:0.8"`` is a seed with an adapter, such as a LoRA, at strength 0.8; one
            such seed alone can be saved as a model of its own.
        components: components of diffusers pipelines to merge.
        granularity: ``"model"``, one angle for the whole vector, as in the paper; or
            ``"tensor"``, an angle for each tensor.
        dtype: dtype of results, such as ``"bfloat16"``; the first seed's by default.
        vocab: for vocabularies that differ, ``"refuse"``, or merge the rows that all seeds have
            and keep no others (``"common"``), all that any seed has (``"union"``) or those of
            the ``"first"``.
        tokenizer: number of the seed that provides the tokenizer of saved models and, of
            pipelines, the text encoders that are not merged; by default the first or, if
            vocabularies differ, the one whose tokens the result has.
        variant: variant of files to read where a seed has it, such as ``"fp16"``; saved models
            keep its names. By default plain files are read, or the only variant's, and saved
            models have plain names.
        trust_remote_code: whether code that comes with a model may be run. Without, a pipeline
            with a class of its own is built of the classes of diffusers for its denoiser.
        map: names of the first seed's tensors and of those of other seeds that are merged into
            them, as for ``preflight``.
        device: device of the model that tasks score, ``"cpu"`` or ``"cuda"``.
        module: the module to write weights into, which also says which tensors are buffers, beyond
            those of torch's own layers, and which are one under two names; by default the first
            seed is loaded with transformers or diffusers when a model is first materialised.
        parts_from: of picture models, number of the seed that ``"vae"``, ``"schedule"`` or, of
            single files, ``"ema"`` and ``"text_encoder"`` are taken from where they are not merged,
            or ``None`` to leave them out; by default they are the first seed's.
        channels: ``"common"`` merges a model for inpainting with one that is not, in the input
            channels that both have, and keeps the others of the first seed.
        config: pipeline, a folder or hub id, whose configs and tokenizers single files are drawn
            with; by default the first one of their family on the hub.
        recalibrate: data on which the BatchNorm statistics of every model, seeds included, are
            computed anew before it is scored, as for ``DenseSpace``; for a ``module``. They are
            saved with the model, and in its recipe.
        progress: called with the number of bytes converted or read since the last call, while
            seeds are opened.

    Raises:
        Problems: the checkpoints cannot be merged; all reasons at once.
        InputError: an option is unknown.
    """

    can_mutate = False
    """Noise on every weight cannot be written as a recipe."""

    recalibration: Recalibration | None

    def __init__(
        self,
        *seeds: str | Path | Sequence[str | Path],
        components: Sequence[str] | None = None,
        granularity: Granularity = "model",
        dtype: str | None = None,
        vocab: Mode = "refuse",
        tokenizer: int | None = None,
        device: str = "cpu",
        module: Any = None,
        variant: str | None = None,
        trust_remote_code: bool = False,
        map: NameMap | None = None,
        parts_from: Mapping[str, int | None] | None = None,
        channels: str = "refuse",
        config: str | Path | None = None,
        recalibrate: RecalibrationData | None = None,
        progress: Progress = no_progress,
    ) -> None:
        listed = len(seeds) == 1 and isinstance(seeds[0], (list, tuple))
        sources: Any = seeds[0] if listed else seeds
        found = preflight(
            sources,
            components=components,
            dtype=dtype,
            vocab=vocab,
            progress=progress,
            variant=variant,
            trust_remote_code=trust_remote_code,
            map=map,
            pictures=PictureOptions(
                parts_from or {}, channels, None if config is None else str(config)
            ),
            known=_knowledge(module),
        )
        if found.plan is None:
            raise Problems(*found.problems)
        self._open(found.plan, granularity, tokenizer, device, module, progress)
        if recalibrate is not None:
            from m2n2lab.core.spaces.recalibration import Recalibration  # late: it imports torch
            from m2n2lab.core.spaces.space import checked_device

            self.recalibration = Recalibration(recalibrate, module, checked_device(device))

    @classmethod
    def of(
        cls,
        plan: Plan,
        granularity: Granularity = "model",
        tokenizer: int | None = None,
        progress: Progress = no_progress,
    ) -> CheckpointSpace:
        """Return the space of checkpoints that passed ``preflight``.

        Raises:
            Problems: a seed holds NaN or infinity.
            InputError: an option is unknown.
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
        count = len(self.plan.seeds)
        self.seeds = tuple(
            Recipe.seed(k, count, self.size, self.plan.buffers.size) for k in range(count)
        )
        self.device = device_name(device)
        self._tokenizer = checked_tokenizer(self.plan, tokenizer)
        self.given_module = module is not None
        self.recalibration = None
        self._module = module
        self._live: LiveModule | None = None
        self._loading = threading.Lock()
        files = used_files(self.plan, self._tokenizer)
        if self.plan.base.kind == "transformers":  # refused before any weight is read
            for name in ("config.json", "generation_config.json"):
                settings = read_json(self.plan.base.path / name, Collector())
                with_token_ids(self.plan, self._tokenizer, settings, name)
        self._hashes = Hashes(
            (path for names in files for path in names.values()), opened=self.plan.opened
        )
        self._kept_gram: Gram | None = None
        if measured and count > 1:  # one seed alone has no angles
            self._kept_gram = Gram.open(self.plan, self._hashes, progress)
        self._offsets = np.array(self.layout.offsets)
        self.derived = DerivedTensors(self.plan)
        self._products_lock = threading.Lock()
        self._kept_products: OrderedDict[tuple[Recipe, Recipe], Floats] = OrderedDict()

    def twin(self) -> CheckpointSpace:
        """Return a space of the same seeds, which are not read again, with a module of its own.

        Both can be used at once by different threads. A module that was given is shared.
        """
        twin = type(self).__new__(type(self))  # a copy would be pickled, and read the seeds again
        twin.__dict__.update(self.__dict__, _live=None, _loading=threading.Lock())
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the paths or hub ids of the seeds, for another process or machine."""
        plan, base = self.plan, self.plan.base
        sources = [str(Source.parse(seed.id).absolute()) for seed in plan.seeds]
        dtype = None if plan.dtype is None else TORCH_NAMES[plan.dtype]
        found = {
            "components": base.components,
            "dtype": dtype,
            "vocab": plan.vocab,
            "variant": plan.variant,
            "trust_remote_code": plan.trust_remote_code,
            "map": plan.map,
            "pictures": plan.pictures,
            "known": base.used_knowledge,
        }
        return _opened, (
            type(self),
            sources,
            found,
            self.granularity,
            self._tokenizer,
            self.device,
            self._module,
            self.recalibration,
        )

    @property
    def _gram(self) -> Gram:
        """Inner products of the seeds; read on demand in workers, which rarely need them."""
        if self._kept_gram is None:
            self._kept_gram = Gram.open(self.plan, self._hashes, no_progress)
        return self._kept_gram

    @property
    def names(self) -> tuple[str, ...]:
        """(K,) names of the seeds in views: the shortest ends of paths or hub ids that differ.

        The whole path or id if one or two parts do not suffice.
        """
        sources = [Source.parse(seed.id) for seed in self.plan.seeds]
        for length in (1, 2):
            end = partial(_end, length=length)
            names = tuple(str(source.moved(end)) for source in sources)
            if len(set(names)) == len(sources):
                return names
        return tuple(Path(seed.id).as_posix() for seed in self.plan.seeds)

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of the tokenizer that encodes prompts and decodes answers."""
        folder, rows = self.plan.seeds[self._tokenizer].path, self.plan.vocabulary
        if rows is None or not rows.added or self._tokenizer != rows.tokenizer:
            return folder
        return extended_tokenizer(folder, rows.added)

    def merge(self, a: Recipe, b: Recipe, split: int, mix: float) -> Recipe:
        """Return the split-point SLERP: f_mix before ``split``, f_{1−mix} from it on."""
        return self.merge_stretches(a, b, [0, split, self.size], [mix, 1.0 - mix])

    def merge_stretches(
        self, a: Recipe, b: Recipe, edges: Sequence[int], mixes: Sequence[float]
    ) -> Recipe:
        """Return the SLERP of two recipes with a mix for each stretch.

        Args:
            a: recipe of parent A.
            b: recipe of parent B.
            edges: (E+1,) non-decreasing indices from 0 to N.
            mixes: (E,) share of B on each stretch, in [0, 1].

        Raises:
            InputError: ``edges`` do not run from 0 to N, or there is not one mix per stretch.
        """
        check_stretches(edges, len(mixes), self.size)
        ends = np.asarray(edges)
        buffers = self._blend_buffers([a, b], edges, linear_shares(mixes))
        if self.granularity == "model":
            omega = self.angle(a, b)
            factors = [split_point(omega, mix)[:2] for mix in mixes]
            return a.combine(b, edges, factors).with_buffers(buffers)
        omegas = self.angles(a, b)
        cuts = np.unique(np.concatenate((self._offsets, ends)))
        tensors = np.searchsorted(self._offsets, cuts[:-1], side="right") - 1
        stretch = np.searchsorted(ends, cuts[:-1], side="right") - 1
        factors = [
            split_point(omegas[t], mixes[e])[:2]
            for t, e in zip(tensors.tolist(), stretch.tolist(), strict=True)
        ]
        return a.combine(b, cuts, factors).with_buffers(buffers)

    def _blend_buffers(
        self, genomes: Sequence[Recipe], edges: Sequence[int], shares: Floats
    ) -> Recipe | None:
        """Return the recipe of a child's buffers with shares (E, K) of genomes (K,)."""
        found = [genome.buffers for genome in genomes if genome.buffers is not None]
        if len(found) < len(genomes):
            return None
        rows = shares_at(edges, shares, self.plan.places)
        return Recipe.blend(found, self.plan.buffers.offsets, rows)

    def blend(
        self,
        genomes: Sequence[Recipe],
        edges: Sequence[int],
        factors: ArrayLike,
        shares: Floats | None = None,
    ) -> Recipe:
        """Return Σ_k f_ek · recipe_k on each stretch e.

        Args:
            genomes: (K,) recipes.
            edges: (E+1,) non-decreasing indices from 0 to N.
            factors: (E, K).
            shares: (E, K) of their buffers; by default ``shares_of`` the factors.

        Raises:
            InputError: ``edges`` do not run from 0 to N, or there is not one row of factors per
                stretch.
        """
        table = np.asarray(factors, np.float64)
        check_stretches(edges, len(table), self.size)
        of_buffers = shares_of(table) if shares is None else shares
        child = Recipe.blend(genomes, edges, table)
        return child.with_buffers(self._blend_buffers(genomes, edges, of_buffers))

    def per_tensor(
        self,
        rule: TensorRule,
        genomes: Sequence[Recipe],
        edges: Sequence[int],
        mixes: Sequence[float],
        seed: int,
        tensors: Collection[str] | None = None,
    ) -> Recipe:
        """Return the recipe of a derived vector, whose tensors a rule computes on demand.

        The recipe describes how: by the rule's name and parameters, and by the arguments. On
        demand, memory for the largest tensor of every input in float64 is needed, beyond a cache
        and what the rule needs itself (see ``DerivedTensors``).

        Args:
            rule: a crossover with a name or a class that can be imported; computes a tensor.
            genomes: its inputs.
            edges: (E+1,) non-decreasing indices from 0 to N.
            mixes: (E,) share of B on each stretch.
            seed: of the rule's random numbers.
            tensors: names of those that are computed, by default all; others are the first
                genome's.

        Raises:
            InputError: ``edges`` do not run from 0 to N, there is not one mix per stretch, or the
                rule could not be made again from a recipe.
        """
        check_stretches(edges, len(mixes), self.size)
        chosen = [tensors is None or name in tensors for name in self.layout.shapes]
        names = None
        if tensors is not None:
            names = [name for name, is_in in zip(self.layout.shapes, chosen, strict=True) if is_in]
        inputs = [genome.with_buffers(None) for genome in genomes]
        made = Recipe.of(Derived(described(rule), inputs, edges, mixes, seed, names))
        factors = [[0.0, 1.0] if is_in else [1.0, 0.0] for is_in in chosen]
        child = Recipe.blend([inputs[0], made], self._offsets, factors)
        parents = [genomes[0], genomes[:2][-1]]
        return child.with_buffers(self._blend_buffers(parents, edges, linear_shares(mixes)))

    def angle_within(self, a: Recipe, b: Recipe, ranges: Sequence[tuple[int, int]]) -> float:
        """Return the angle ω in radians between two recipes' weights in ranges of whole tensors."""
        starts = [start for start, _ in ranges], [stop for _, stop in ranges]
        first, last = (np.searchsorted(self._offsets, indices) for indices in starts)
        inside = np.zeros(len(self._offsets) - 1, bool)
        for i, j in zip(first.tolist(), last.tolist(), strict=True):
            inside[i:j] = True
        return angle(*self._products(a, b)[:, inside].sum(axis=1).tolist())

    def mutate(self, genome: Recipe, sigma: float, seed: int, decay: float = 0.0) -> Recipe:
        """Refuse: noise on every weight cannot be written as a recipe.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"mutation must be 0 for checkpoints, got {sigma}; use mutation=0, or a DenseSpace for "
            f"models small enough to be kept whole."
        )

    def angle(self, a: Recipe, b: Recipe) -> float:
        """Return the angle ω between two recipes' whole vectors in radians."""
        return angle(*self._products(a, b).sum(axis=1).tolist())

    def angles(self, a: Recipe, b: Recipe) -> list[float]:
        """Return the angle of each tensor (T,) in radians, in the layout's order."""
        return [angle(*row) for row in self._products(a, b).T.tolist()]

    def distances(self, a: Recipe, b: Recipe) -> list[float]:
        """Return ‖B − A‖ / ‖A‖ of each tensor (T,), in the layout's order; ∞ where A is 0."""
        found = []
        for aa, bb, ab in self._products(a, b).T.tolist():
            square = max(aa + bb - 2 * ab, 0.0)
            found.append(math.sqrt(square / aa) if aa else math.inf if bb else 0.0)
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on merges of the seeds: on their files, and on angles that promise little."""
        found = list(self.plan.notes)
        base, *others = self.seeds
        for seed, recipe in zip(self.plan.seeds[1:], others, strict=True):
            degrees = math.degrees(self.angle(base, recipe))
            pair = f"{self.plan.base.id} and {seed.id}"
            if degrees > OPPOSITE_DEGREES:
                found.append(
                    f"The weights of {pair} are opposite (ω = {degrees:.1f}°), so a merge cancels "
                    f"them: it is near zero."
                )
            elif degrees > UNRELATED_DEGREES:
                found.append(
                    f"The weights of {pair} are unrelated (ω = {degrees:.1f}°): these models were "
                    f"hardly fine-tuned from one base, and a merge is seldom of use."
                )
        return tuple(found)

    def _products(self, a: Recipe, b: Recipe) -> Floats:
        """Return ⟨A,A⟩, ⟨B,B⟩ and ⟨A,B⟩ of each tensor, (3, T)."""
        if not a.derived and not b.derived:
            return self._seed_products(a, b)
        with self._products_lock:
            kept = self._kept_products.get((a, b))
        if kept is None:
            kept = self._all_products(a, b)
            with self._products_lock:
                self._kept_products[a, b] = kept
                if len(self._kept_products) > MAX_CACHED_PRODUCTS:
                    self._kept_products.popitem(last=False)
        return kept

    def _all_products(self, a: Recipe, b: Recipe) -> Floats:
        """Return ``_products``; weights are made for tensors in which derived vectors are used."""
        from m2n2lab.checkpoint.kernels import products  # takes a second to import

        sums = self._seed_products(a, b)
        for number, name in enumerate(self.layout.shapes):
            ends = self._offsets[number : number + 2].tolist()
            if a.derived_between(*ends) or b.derived_between(*ends):
                x, y = self.derived.merged(a, name), self.derived.merged(b, name)
                (xx, xy), (_, yy) = products([x, y]).tolist()
                sums[:, number] = xx, yy, xy
        return sums

    def _seed_products(self, a: Recipe, b: Recipe) -> Floats:
        """Return ``_products`` of the parts of recipes that are no derived vectors."""
        cuts = np.unique(np.concatenate((a.breaks, b.breaks, self._offsets)))
        gram = self._gram.between(cuts)
        x, y = (recipe.refine(cuts)[:, : recipe.seeds] for recipe in (a, b))
        rows = [np.einsum("sk,skl,sl->s", p, gram, q) for p, q in ((x, x), (y, y), (x, y))]
        starts = np.searchsorted(cuts, self._offsets[:-1])
        sums = np.add.reduceat(np.array(rows), starts, axis=1)
        # Rounding may leave a sum of squares slightly below zero.
        sums[:2] = np.maximum(sums[:2], 0.0)
        return np.asarray(sums)

    def materialise(self, genome: Recipe) -> Any:
        """Write a recipe's weights into the live module or pipeline; return that same object.

        Raises:
            InputError: the module cannot be loaded, or lacks tensors of the seeds; or the recipe
                lacks their buffers; or a seed has changed.
        """
        self._check_buffers(genome)
        self._hashes.check()
        with self._loading:
            if self._live is None:
                from m2n2lab.checkpoint.live.live_module import LiveModule, load_module

                module = self._module
                if module is None:
                    module = load_module(self.plan, self.device, self._tokenizer)
                self._live = LiveModule(self.plan, module, self.derived, self.recalibration)
        return self._live.set_weights(genome)

    def genome(self, model: Any) -> Recipe:
        """Return the recipe of packed arrays (see ``pack``), or check a recipe from outside.

        Raises:
            InputError: ``model`` is no recipe of these seeds.
        """
        model = model.genome if isinstance(model, Member) else model
        recipe = _unpacked(model) if isinstance(model, Mapping) else model
        if not isinstance(recipe, Recipe):
            raise InputError(
                f"A model in this space must be a Recipe of its seeds, got {type(model).__name__}; "
                f"to merge another checkpoint, open the space with it as one more seed."
            )
        if (recipe.size, recipe.seeds) != (self.size, len(self.seeds)):
            raise InputError(
                f"A recipe in this space must have {self.size:,} parameters and {len(self.seeds)} "
                f"seeds, got {recipe.size:,} and {recipe.seeds}; use a recipe of these seeds."
            )
        self._check_buffers(recipe)
        return recipe

    def _check_buffers(self, recipe: Recipe) -> None:
        found, expected = recipe.buffers, self.plan.buffers.size
        if (0 if found is None else found.size) != expected:
            raise InputError(
                f"A recipe in this space must have {expected:,} entries of buffers, such as "
                f"BatchNorm statistics, got {'none' if found is None else f'{found.size:,}'}; use "
                f"space.seeds and space.merge_stretches, or start a run of version 0.1 anew."
            )

    def model(self, genome: Recipe, device: str = "cpu") -> Any:
        """Return a module or pipeline of the caller's own: loaded again, or a copy of the given.

        Raises:
            InputError: as ``materialise``; or there is no such device.
        """
        self._hashes.check()
        from m2n2lab.checkpoint.live.live_module import LiveModule, load_module

        if self._module is None:
            module = load_module(self.plan, device, self._tokenizer)
            return LiveModule(self.plan, module, self.derived).set_weights(genome)
        from m2n2lab.core.spaces.space import checked_device  # late, because it imports torch

        with self._loading:
            module = copy.deepcopy(self._module)
        module = module.to(checked_device(device))
        live = LiveModule(self.plan, module, self.derived, self.recalibration)
        return live.set_weights(genome)

    @property
    def recalibrated_on(self) -> str | None:
        """Checksum of the data, or name of the function, of ``recalibrate``; ``None`` without."""
        return None if self.recalibration is None else self.recalibration.identity

    def record(self, genome: Recipe, made: str = "") -> Record:
        """Return the record that reproduces a recipe's model, with the SHA-256 of all files used.

        Raises:
            InputError: a seed's file cannot be read.
        """
        return self._draft(self.plan, genome, made).complete(self.plan, self._hashes.wait())

    def _draft(self, plan: Plan, genome: Recipe, made: str) -> Record:
        """Return the record of a recipe, without hashes."""
        record = Record.of(plan, genome, self._tokenizer, made)
        if self.recalibration is None:
            return record
        from m2n2lab.core.spaces.recalibration import statistics  # late, because it imports torch

        anew = {
            name: value.flatten().tolist()
            for name, value in statistics(self.materialise(genome))
            if name in plan.merged_sizes
        }
        return replace(record, recalibrated=self.recalibrated_on, statistics=anew)

    def pack(self, genome: Recipe) -> dict[str, Any]:
        """Return a recipe as arrays, its breaks and coefficients; ``genome`` is the inverse.

        With derived vectors, return what ``Recipe.to_json`` does.
        """
        if genome.derived:
            return genome.to_json()
        packed: dict[str, Any] = {"breaks": genome.breaks, "coef": genome.coef}
        if genome.buffers is not None:
            packed |= {f"buffer_{key}": part for key, part in self.pack(genome.buffers).items()}
        return packed

    def save(
        self,
        model: Member | Recipe,
        path: str | Path,
        made: str = "",
        progress: Progress = no_progress,
        form: str | None = None,
    ) -> None:
        """Save a member, or its recipe, as a folder that loads as its seeds do.

        Args:
            model: the member or recipe.
            path: the folder to make; it must not exist, or be empty. A name that ends in
                ``.safetensors`` makes one file, if the first seed is one or a pipeline.
            made: origin of the recipe as a sentence, for the card.
            progress: called with the number of bytes read and written since the last call.
            form: of picture models, ``"file"``, ``"folder"`` or ``"diffusers"``: one file, the
                files of the first seed in a folder, or a pipeline; by default as ``path`` says.

        Raises:
            InputError: the folder cannot be written; nothing is left behind then.
        """
        plan = self.plan
        if form is not None:
            plan = replace(plan, pictures=replace(plan.pictures, form=form))
        recipe = self.genome(model.genome if isinstance(model, Member) else model)
        record = self._draft(plan, recipe, made)
        save(plan, recipe, path, self._hashes, record, progress, self.derived)


def _end(place: str, length: int) -> str:
    """Return the last parts of a path or hub id."""
    return "/".join(Path(place).as_posix().split("/")[-length:])


def _knowledge(module: Any) -> Known:
    """Return what the given module, if any, says of the tensors."""
    if module is None:
        return NOTHING_KNOWN
    from m2n2lab.checkpoint.live.live_module import knowledge  # torch takes a second to import

    return knowledge(module)


def _unpacked(packed: Mapping[Any, Any]) -> Recipe | Mapping[Any, Any]:
    """Return the recipe of packed arrays; other mappings as they are."""
    if "vectors" in packed:
        return Recipe.from_json(packed)
    names, own = {"breaks", "coef"}, {"buffer_breaks", "buffer_coef"}
    if set(packed) == names:
        return Recipe(packed["breaks"], packed["coef"])
    if set(packed) == names | own:
        buffers = Recipe(packed["buffer_breaks"], packed["buffer_coef"])
        return Recipe(packed["breaks"], packed["coef"], buffers)
    return packed


def _opened(
    space_type: type[CheckpointSpace],
    sources: Sequence[str],
    options: Mapping[str, Any],
    granularity: Granularity,
    tokenizer: int,
    device: str,
    module: Any,
    recalibration: Recalibration | None,
) -> CheckpointSpace:
    """Open an unpickled space; its seeds were checked for NaN where it was made."""
    found = preflight(sources, **options)
    if found.plan is None:
        raise Problems(*found.problems)
    space = space_type.__new__(space_type)
    space._open(found.plan, granularity, tokenizer, device, module, no_progress, measured=False)
    space.recalibration = recalibration
    return space
