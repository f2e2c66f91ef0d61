"""Live module: a PyTorch module or pipeline whose weights are overwritten by any recipe."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from m2n2lab.checkpoint.derived_tensors import DerivedTensors
from m2n2lab.checkpoint.io.dtypes import FROM_TORCH
from m2n2lab.checkpoint.io.parallel import chunks
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.space import checked_device
from m2n2lab.utils.arrays import Array
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.extras import missing

if TYPE_CHECKING:
    from m2n2lab.checkpoint.io.checkpoint import Part

SAFETENSORS_DTYPES = {getattr(torch, name): dtype for name, dtype in FROM_TORCH.items()}


class LiveModule:
    """A module, or a pipeline of modules, that can be given the weights of any recipe.

    Args:
        plan: the seeds.
        model: a module with the tensors of the flat vector under their names, or an object with
            a module for each component; its weights are overwritten in place.
        derived: makes the tensors of derived vectors.

    Raises:
        InputError: a tensor is missing in the module, or has another shape or dtype.
    """

    def __init__(self, plan: Plan, model: Any, derived: DerivedTensors) -> None:
        self.plan = plan
        self._derived = derived
        self.model = model
        self._targets = dict(_targets(plan, model))

    def set_weights(self, recipe: Recipe) -> Any:
        """Write a recipe's weights into the model, each rounded once, and return the model.

        The model's attribute ``recipe`` is set to the recipe.

        Raises:
            Problems: a seed holds NaN or infinity, or a result does not fit its dtype.
            InputError: a derived vector cannot be made.
        """

        def work(job: tuple[str, int, int], derived: Sequence[Array]) -> int:
            name, start, stop = job
            target = self._targets[name]
            flat = target.view(-1)[start:stop] if target.is_contiguous() else target
            if flat.device.type == "cpu" and flat is not target:
                self.plan.merge_into(recipe, name, start, stop, _numpy(flat), derived)
            else:  # on a GPU, or scattered in memory
                stage = torch.empty(stop - start, dtype=target.dtype, pin_memory=flat.is_cuda)
                self.plan.merge_into(recipe, name, start, stop, _numpy(stage), derived)
                flat.copy_(stage.view(flat.shape))
            return flat.nbytes

        jobs = [
            (name, *piece)
            for name, size in self.plan.sizes.items()
            for piece in (chunks(size) if self._targets[name].is_contiguous() else [(0, size)])
        ]
        self.model.recipe = None  # an interrupted model must not pass for a complete one
        with torch.no_grad():
            self._derived.run(recipe, jobs, lambda job: job[0], work)
        self.model.recipe = recipe
        return self.model


def _numpy(tensor: Tensor) -> Array:
    """Return a CPU tensor as an array of one of ``DTYPES`` that shares its memory."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    if tensor.dtype == torch.float16:
        return tensor.view(torch.int16).numpy()
    return tensor.numpy()


def _targets(plan: Plan, model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of the model with its name in the plan."""
    for part in plan.base.parts:
        module = getattr(model, part.name) if part.name else model
        if plan.rows is not None and hasattr(module, "resize_token_embeddings"):
            module.resize_token_embeddings(plan.rows, mean_resizing=False)
        state = module.state_dict()
        prefix = f"{getattr(module, 'base_model_prefix', '')}."
        for file in part.files:
            for name in file.entries:
                full = part.full(name)
                if full not in plan.sizes:
                    continue
                # Tensors of a model saved without its head have no prefix.
                found = (state.get(key) for key in (name, prefix + name, name.removeprefix(prefix)))
                tensor = next((value for value in found if value is not None), None)
                shape = plan.layout.shapes[full]
                if (
                    tensor is None
                    or tuple(tensor.shape) != shape
                    or tensor.dtype not in SAFETENSORS_DTYPES
                ):
                    got = "none" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
                    raise InputError(
                        f"The module must have a tensor {name} of shape {shape}, got "
                        f"{got}; give the module that {plan.base.id} is loaded into."
                    )
                yield full, tensor.detach()


def load_module(plan: Plan, device: str) -> Any:
    """Load the base with transformers or diffusers.

    Raises:
        InputError: the base is a single file, its class is unknown, the device is not available, or
            a library is not installed.
    """
    checked_device(device)
    dtype = next((key for key, name in SAFETENSORS_DTYPES.items() if name == plan.dtype), "auto")
    base = plan.base
    try:
        if base.kind == "diffusers":
            import diffusers

            pipeline: Any = diffusers.DiffusionPipeline
            index = json.loads((base.path / "model_index.json").read_text(encoding="utf-8"))
            # Components that were absent when it was saved, such as the zoo's VAE, must be named.
            absent = {name: None for name, about in index.items() if about == [None, None]}
            torch_dtype = None if dtype == "auto" else dtype
            loaded = pipeline.from_pretrained(base.path, torch_dtype=torch_dtype, **absent)
            return loaded.to(device)
        return _load_part(base.parts[0], base.path, dtype).to(device).eval()
    except ImportError as error:
        extra = "images" if "diffusers" in (base.kind, error.name) else "llm"
        package = error.name or "an optional package"
        raise missing(base.id, package, extra, "give a module of your own") from error


def _load_part(part: Part, path: Path, dtype: Any) -> Any:
    name = part.architecture
    is_diffusers = "_class_name" in part.config
    library = importlib.import_module("diffusers" if is_diffusers else "transformers")
    options = {"dtype": dtype}
    if is_diffusers:
        options = {} if dtype == "auto" else {"torch_dtype": dtype}
    model_class = getattr(library, name, None) if name else None
    if model_class is None or not path.is_dir():
        raise InputError(
            f"{path} must name a class of transformers or diffusers in its config to be loaded, "
            f"got {name or 'none'}; give the module yourself: CheckpointSpace(…, module=…)."
        )
    return model_class.from_pretrained(path, **options)
