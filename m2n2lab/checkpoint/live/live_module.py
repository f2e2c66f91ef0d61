"""Live module: a PyTorch module or pipeline whose weights are overwritten by any recipe."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from m2n2lab.checkpoint.derived_tensors import DerivedTensors
from m2n2lab.checkpoint.io.checkpoint import NOTHING_KNOWN, Known
from m2n2lab.checkpoint.io.dtypes import EIGHT_BITS, FROM_TORCH
from m2n2lab.checkpoint.io.parallel import chunks
from m2n2lab.checkpoint.live.as_loaded import Loading, Rearranged
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.special_tokens import all_ends
from m2n2lab.core.spaces.recalibration import Recalibration, statistics
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.space import checked_device
from m2n2lab.utils.arrays import Array
from m2n2lab.utils.concurrency.loading import loading
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.extras import missing

if TYPE_CHECKING:
    from m2n2lab.checkpoint.io.checkpoint import Part
    from m2n2lab.checkpoint.live.single_file_pipeline import FilePipeline, Targets

Job = TypeVar("Job")
Target = Tensor | Rearranged
"""What weights of a tensor of a file are written into."""

TORCH_DTYPES = {dtype: getattr(torch, name) for name, dtype in FROM_TORCH.items()}
SAFETENSORS_DTYPES = {getattr(torch, name): dtype for name, dtype in FROM_TORCH.items()}

CARRIED_DTYPES = {
    **{dtype: key for key, dtype in SAFETENSORS_DTYPES.items()},
    **{"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16},
    **{"I32": torch.int32, "I64": torch.int64, "C64": torch.complex64},
}
"""Dtypes of tensors that are carried, by their names in safetensors."""


class LiveModule:
    """A module, or a pipeline of modules, that can be given the weights of any recipe.

    Args:
        plan: the seeds.
        model: a module with the tensors of the flat vector under their names, or an object with
            a module for each component; its weights are overwritten in place.
        derived: makes the tensors of derived vectors; new by default.
        recalibration: computes BatchNorm statistics anew for all weights.

    Raises:
        InputError: a tensor is missing in the module, or has another shape or dtype.
    """

    def __init__(
        self,
        plan: Plan,
        model: Any,
        derived: DerivedTensors | None = None,
        recalibration: Recalibration | None = None,
    ) -> None:
        self.plan = plan
        self._recalibration = recalibration
        self._derived = derived or DerivedTensors(plan)
        self.model = model
        self._file: FilePipeline | None = None
        if plan.base.is_picture_file and not isinstance(model, nn.Module):
            self._init_file()
            return
        self._parts = [
            getattr(model, part.name) if part.name else model for part in plan.base.parts
        ]
        if plan.rows is not None:
            for module in self._parts:
                if hasattr(module, "resize_token_embeddings"):
                    module.resize_token_embeddings(plan.rows, mean_resizing=False)
        carried = set(plan.base.carried)
        self._targets = self._found_targets()
        for name, tensor in _places(plan, self._parts):
            if name in carried and isinstance(tensor, Tensor):
                _carry(plan, name, tensor.detach())
        _add_ends(plan, model)

    def _init_file(self) -> None:
        """Copy what is not merged of a single file into the components of a pipeline."""
        from m2n2lab.checkpoint.live.single_file_pipeline import FilePipeline, scatter

        self._file = FilePipeline.of(self.plan.base, self.plan.pictures.config)
        self._parts = [getattr(self.model, name) for name in self._file.of_file]
        for name, into in self._scattered().items():
            if name not in self.plan.merged_sizes and not self.plan.is_left_out(name):
                value = _carried(self.plan, name)
                if value is not None:
                    scatter(value, into)

    def _scattered(self) -> Targets:
        from m2n2lab.checkpoint.live.single_file_pipeline import targets

        assert self._file is not None  # it is only asked for then
        return targets(self._file, self.model)

    def _found_targets(self) -> dict[str, Target]:
        """Return the tensors that weights are written into, by name."""
        return {
            name: _checked(self.plan, name, tensor, self._parts)
            for name, tensor in _places(self.plan, self._parts)
            if name in self.plan.merged_sizes
        }

    def set_weights(self, recipe: Recipe) -> Any:
        """Write a recipe's weights into the model, each rounded once, and return the model.

        The model is in eval mode then, and its attributes ``recipe`` and ``plan`` are the recipe
        and that of the seeds.

        Raises:
            Problems: a seed holds NaN or infinity, or a result does not fit its dtype.
            InputError: a derived vector cannot be made.
        """
        if self._file is not None:
            return self._set_weights_of_file(recipe)
        # A pipeline may have moved its modules, such as a VAE to another dtype and back.
        self._targets = self._found_targets()

        def work(job: tuple[str, int, int], derived: Sequence[Array]) -> int:
            name, start, stop = job
            target = self._targets[name]
            if isinstance(target, Rearranged):
                whole = torch.empty(stop - start, dtype=TORCH_DTYPES[self.plan.dtypes[name]])
                self.plan.result_into(
                    recipe, name, start, stop, _numpy(whole), derived, mapped=True
                )
                target.write(whole.view(self.plan.shape(name)))
                return whole.nbytes
            flat = target.view(-1)[start:stop] if target.is_contiguous() else target
            # Rounded as it is saved, so that a saved model is the same in the module's dtype.
            dtype = TORCH_DTYPES[self.plan.dtypes[name]]
            if flat.device.type == "cpu" and flat is not target and dtype == target.dtype:
                self.plan.result_into(recipe, name, start, stop, _numpy(flat), derived, mapped=True)
            else:  # on a GPU, scattered in memory, or of another dtype
                stage = torch.empty(stop - start, dtype=dtype, pin_memory=flat.is_cuda)
                self.plan.result_into(
                    recipe, name, start, stop, _numpy(stage), derived, mapped=True
                )
                flat.copy_(stage.view(flat.shape))
            return flat.nbytes

        jobs = [
            (name, *piece)
            for name, size in ((name, self.plan.elements(name)) for name in self.plan.merged_sizes)
            for piece in (chunks(size) if _in_pieces(self._targets[name]) else [(0, size)])
        ]
        return self._filled(recipe, jobs, lambda job: job[0], work)

    def _set_weights_of_file(self, recipe: Recipe) -> Any:
        from m2n2lab.checkpoint.live.single_file_pipeline import scatter

        places = self._scattered()

        def work(name: str, derived: Sequence[Array]) -> int:
            dtype = TORCH_DTYPES[self.plan.dtypes[name]]
            stage = torch.empty(self.plan.elements(name), dtype=dtype)
            self.plan.result_into(recipe, name, 0, len(stage), _numpy(stage), derived)
            scatter(stage.view(self.plan.shape(name)), places[name])
            return stage.nbytes

        # Some tensors of a file are for nothing that draws, such as a projection of texts.
        names = [name for name in self.plan.merged_sizes if name in places]
        return self._filled(recipe, names, lambda name: name, work)

    def _filled(
        self,
        recipe: Recipe,
        jobs: Sequence[Job],
        tensor: Callable[[Job], str],
        work: Callable[[Job, Sequence[Array]], int],
    ) -> Any:
        """Run the jobs that write a recipe's weights into the model, and return the model."""
        for module in self._parts:
            if isinstance(module, nn.Module):
                module.eval()  # a task may have changed that
        self.model.recipe = None  # an interrupted model must not pass for a complete one
        with torch.no_grad():
            self._derived.run(recipe, jobs, tensor, work)
        if self._recalibration is not None:
            self._recalibration.apply(self.model)
            for name, value in statistics(self.model):  # rounded as they are saved
                if name in self.plan.merged_sizes:
                    value.copy_(value.to(TORCH_DTYPES[self.plan.dtypes[name]]))
        self.model.recipe, self.model.plan = recipe, self.plan
        return self.model


def _in_pieces(target: Target) -> bool:
    """Return whether parts of a tensor can be written one by one."""
    return isinstance(target, Tensor) and target.is_contiguous()


def _numpy(tensor: Tensor) -> Array:
    """Return a CPU tensor as an array of one of ``DTYPES`` that shares its memory."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    if tensor.dtype in (torch.float16, torch.float8_e5m2):
        return tensor.view(torch.int16 if tensor.itemsize == 2 else torch.int8).numpy()
    if tensor.dtype == torch.float8_e4m3fn:
        return tensor.view(torch.uint8).numpy()
    return tensor.numpy()


def _places(plan: Plan, modules: Sequence[Any]) -> Iterator[tuple[str, Target | None]]:
    """Yield the name of each tensor of the base, and what it is in the modules of the parts."""
    for part, module in zip(plan.base.parts, modules, strict=True):
        state = module.state_dict()
        as_saved = _as_in_files(module, state)
        as_loaded = Loading(module, state)
        heads = sorted({key.partition(".")[0] for key in state})
        for file in part.files:
            for name, entry in file.entries.items():
                full = part.full(name)
                shape = plan.shape(full) if full in plan.merged_sizes else entry.shape
                # Libraries have put parts of models one level deeper or higher since some were
                # saved.
                moved = (name.partition(".")[2], *(f"{head}.{name}" for head in heads))
                found = [
                    as_saved.get(name),
                    *(state.get(key) for key in _variants(name, module)),
                    state.get(as_loaded.name(name)),
                ]
                there = [tensor for tensor in found if tensor is not None]
                there += [state[key] for key in moved if key in state and state[key].shape == shape]
                fits = (tensor for tensor in there if tuple(tensor.shape) == shape)
                best: Target | None = next(fits, None)
                if best is None:
                    best = as_loaded.rearranged(name, shape)
                yield full, there[0] if best is None and there else best


def _variants(name: str, module: Any) -> tuple[str, ...]:
    """Return a tensor's possible names: those of a model saved without its head have no prefix."""
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    return name, prefix + name, name.removeprefix(prefix)


def _checked(plan: Plan, name: str, target: Target | None, modules: Sequence[Any]) -> Target:
    """Return what to write into.

    Raises:
        InputError: there is none, or it has another shape or dtype.
    """
    shape = plan.shape(name)
    if isinstance(target, Rearranged):
        return target
    if target is None and any(
        Loading(module, module.state_dict()).is_changed(name.rpartition("/")[2])
        for module in modules
        if isinstance(module, nn.Module)
    ):
        raise InputError(
            f"A model that is scored must have each tensor of its files, but transformers puts "
            f"{name} of {plan.base.id} together with others in another form when it loads it, so "
            f"that merged weights cannot be written into it; merge these models without a search "
            f"(m2n2lab merge), or give a module with this tensor: CheckpointSpace(…, module=…)."
        )
    if target is None or tuple(target.shape) != shape or target.dtype not in SAFETENSORS_DTYPES:
        got = "none" if target is None else f"{target.dtype} {tuple(target.shape)}"
        raise InputError(
            f"The module must have a tensor {name.rpartition('/')[2]} of shape {shape}, got "
            f"{got}; give the module that {plan.base.id} is loaded into."
        )
    return target.detach()


def _carry(plan: Plan, name: str, tensor: Tensor) -> None:
    """Write a tensor that is carried, as it is saved, into the module; where it fits."""
    if tuple(tensor.shape) == plan.base.entry(name).shape:
        value = _carried(plan, name)
        if value is not None:
            tensor.copy_(value)


def _carried(plan: Plan, name: str) -> Tensor | None:
    """Return a tensor that is copied; ``None`` if torch has no such dtype, or it is empty."""
    seed = plan.provider(name)
    entry = seed.entry(name)
    dtype = CARRIED_DTYPES.get(entry.dtype)
    if dtype is None or not entry.size:
        return None
    if seed.has_broken_positions(name):
        values = torch.arange(entry.size)
    elif name in seed.scaled:
        values = torch.from_numpy(seed.stored(name)[:])
    else:
        values = torch.frombuffer(bytearray(seed.raw(name)), dtype=dtype)
    return values.view(entry.shape)


def knowledge(module: Any) -> Known:
    """Return what a module says of its tensors, under the names that they may have in a file."""
    if not isinstance(module, nn.Module):  # a pipeline: its files know those of torch's modules
        return NOTHING_KNOWN
    saved = module.state_dict().keys()
    buffers = dict(module.named_buffers(remove_duplicate=False))
    tensors = {**dict(module.named_parameters(remove_duplicate=False)), **buffers}
    first: dict[int, str] = {}
    ties: dict[str, str] = {}
    for name, tensor in tensors.items():
        main = first.setdefault(id(tensor), name)
        if main != name and name in saved:
            ties |= dict(zip(_variants(name, module), _variants(main, module), strict=True))
    names = {
        variant
        for name, buffer in buffers.items()
        if name in saved and buffer.dtype in SAFETENSORS_DTYPES
        for variant in _variants(name, module)
    }
    return Known(frozenset(names), ties)


class _WithoutCopies(TorchFunctionMode):
    """Operations on tensors, of which ``contiguous`` copies nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.contiguous:
            return args[0]
        return func(*args, **(kwargs or {}))


def _as_in_files(module: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a module's tensors by their names in files, as views into the module's memory.

    A module of transformers may have other names and forms than its files: the experts of a
    mixture, say, are one tensor. Transformers' own conversion for saving, without copies,
    yields the parts of it that each tensor of a file belongs to.
    """
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # an earlier version, whose modules are as their files
        return {}
    if not hasattr(module, "base_model_prefix"):
        return {}
    own = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    with _WithoutCopies():
        found = revert_weight_conversion(module, dict(state))
    return {
        name: tensor
        for name, tensor in found.items()
        if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() in own
    }


def _add_ends(plan: Plan, model: Any) -> None:
    """Let the tokens that end an answer of any seed end those of the model."""
    settings = getattr(model, "generation_config", None)
    if settings is None or plan.base.kind != "transformers":
        return
    own = settings.eos_token_id
    listed = own if isinstance(own, list) else [] if own is None else [own]
    ends = list(dict.fromkeys([*listed, *all_ends(plan)]))
    settings.eos_token_id = ends or None


def load_module(plan: Plan, device: str, texts_from: int = 0) -> Any:
    """Load the base with transformers or diffusers.

    Args:
        plan: the seeds.
        device: ``"cpu"`` or ``"cuda"``.
        texts_from: number of the seed that provides a pipeline's tokenizers, and the text encoders
            that are not merged.

    Raises:
        InputError: the base is a single file, its class is unknown, the device is not available, or
            a library is not installed.
    """
    checked_device(device)
    base = plan.base
    with loading(f"loading {base.path.name}"):
        return _load(plan, device, texts_from)


def _load(plan: Plan, device: str, texts_from: int) -> Any:
    base = plan.base
    try:
        if base.kind == "diffusers":
            from m2n2lab.checkpoint.live.live_pipeline import load_pipeline

            pipeline = load_pipeline(plan, texts_from)
            return pipeline if device == "cpu" else pipeline.to(device)
        if base.is_picture_file:
            from m2n2lab.checkpoint.live.single_file_pipeline import FilePipeline, draw_with

            about = FilePipeline.of(base, plan.pictures.config)
            pipeline = draw_with(about, plan.common_dtype)
            return pipeline if device == "cpu" else pipeline.to(device)
        narrow = any(base.entry(name).dtype in EIGHT_BITS for name in plan.sizes)
        dtype = "auto" if plan.dtype is None and not narrow else TORCH_DTYPES[plan.common_dtype]
        part, trusted = base.parts[0], plan.trust_remote_code
        return _load_part(part, base.path, dtype, trusted).to(device).eval()
    except ImportError as error:
        extra = "images" if "diffusers" in (base.kind, error.name) else "llm"
        package = error.name or "an optional package"
        raise missing(base.id, package, extra, "give a module of your own") from error


def _load_part(part: Part, path: Path, dtype: Any, trusted: bool) -> Any:
    name = part.architecture
    is_diffusers = "_class_name" in part.config
    library = importlib.import_module("diffusers" if is_diffusers else "transformers")
    options = {"dtype": dtype}
    if is_diffusers:
        options = {} if dtype == "auto" else {"torch_dtype": dtype}
    model_class = getattr(library, name, None) if name else None
    if not is_diffusers and not part.config.get("architectures") and "model_type" in part.config:
        model_class = library.AutoModelForCausalLM  # a config that names a family, but no class
    of_its_own = [each for each in part.config.get("auto_map", ()) if each.startswith("AutoModel")]
    if model_class is None and of_its_own and path.is_dir():
        if not trusted:
            raise InputError(
                f"{path} must be of a class of transformers to be loaded, got {name}, which is "
                f"code that comes with the model and is not run; if you trust it, use "
                f"trust_remote_code=True (--trust-remote-code)."
            )
        chosen = "AutoModelForCausalLM"
        model_class = getattr(library, chosen if chosen in of_its_own else of_its_own[0])
        options["trust_remote_code"] = True
    if model_class is None or not path.is_dir():
        raise InputError(
            f"{path} must name a class of transformers or diffusers in its config to be loaded, "
            f"got {name or 'none'}; give the module yourself: CheckpointSpace(…, module=…)."
        )
    if not is_diffusers and (path / "generation_config.json").is_file():
        try:
            library.GenerationConfig.from_pretrained(path)
        except ValueError:  # settings that contradict each other must not stop a search
            options["generation_config"] = library.GenerationConfig()
    return model_class.from_pretrained(path, **options)
