"""Single files as pipelines: drawn with, and what each of their tensors is in a pipeline.

A file holds weights alone. Configs, tokenizers and the scheduler, and components that the file does
not have, are those of a pipeline of its family in diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.checkpoint.io.folder import read_json, variants_of
from m2n2lab.checkpoint.io.hub import from_hub
from m2n2lab.checkpoint.io.picture_layouts import (
    FAMILIES,
    Form,
    Held,
    family_of_file,
    family_of_pipeline,
    layout,
)
from m2n2lab.checkpoint.io.problems import Collector, Problems
from m2n2lab.checkpoint.io.single_file_names import PREFIX, common_name
from m2n2lab.checkpoint.pipelines import Pipeline, component_class, described
from m2n2lab.utils.errors import InputError


@dataclass(frozen=True)
class FilePipeline:
    """A single file, and the pipeline whose configs it is used with.

    Attributes:
        file: the file.
        family: its family, one of ``FAMILIES``.
        folder: the pipeline.
        pipeline: the same without weights.
        of_file: components whose weights are those of the file.
    """

    file: Checkpoint
    family: str
    folder: Path
    pipeline: Pipeline
    of_file: tuple[str, ...]

    @classmethod
    def of(cls, file: Checkpoint, config: str | None) -> FilePipeline:
        """Return the pipeline of a file.

        Args:
            file: the file.
            config: a pipeline, as a folder or a hub id; by default the first of its family.

        Raises:
            InputError: the file is of no known family, or the pipeline of another one, or it lacks
                components that the file does not have.
        """
        family = family_of_file({name: file.entry(name).shape for name in file.names})
        if family is None:
            known = ", ".join(about.title for about in FAMILIES.values())
            raise InputError(
                f"{file.id} must be a single file of {known} to be used as a pipeline, but its "
                f"tensors have other names; give a pipeline's folder."
            )
        about = FAMILIES[family]
        prefixes = {about.denoiser: PREFIX, "vae": "first_stage_model.", **about.texts}
        there = tuple(
            component
            for component, prefix in prefixes.items()
            if any(name.startswith(prefix) for name in file.names)
        )
        folder = _config_folder(file, config or about.config, len(there) == len(prefixes))
        pipeline = described(folder, own_code=False)
        configs = {
            name: read_json(place / "config.json", Collector())
            for name, place in pipeline.folders.items()
        }
        if (found := family_of_pipeline(configs)) != family:
            other = FAMILIES[found].title if found else pipeline.class_name
            raise InputError(
                f"The config of {file.id} must be a pipeline of {about.title}, but {folder} is one "
                f"of {other}; give another with config (--config)."
            )
        for name in prefixes:
            if name in pipeline.folders and name not in there and not _has_weights(folder / name):
                raise InputError(
                    f"{file.id} has no {name}, and neither has {folder}; give a whole pipeline "
                    f"with config (--config)."
                )
        return cls(file, family, folder, pipeline, tuple(n for n in there if n in pipeline.folders))

    def held(self, modules: Mapping[str, nn.Module]) -> dict[str, Held]:
        """Return what the file's tensors are in modules of its components, by common name.

        Raises:
            InputError: the file lacks tensors, or has them in another shape.
        """
        shapes = {
            component: {n: tuple(t.shape) for n, t in modules[component].state_dict().items()}
            for component in self.of_file
        }
        found = layout(self.family, shapes)
        held = {common_name(name): each for name, each in found.held.items()}
        lost = [f"{component}/{name}" for component, name in found.unknown]
        wrong = [
            name
            for name, each in held.items()
            if name not in self.file.names or self.file.entry(name).shape != each.shape
        ]
        if lost or wrong:
            name = (lost or wrong)[0]
            got = self.file.entry(name).shape if wrong and name in self.file.names else "none"
            expected = held[name].shape if wrong and not lost else "single files have"
            raise InputError(
                f"{self.file.id} must have the tensors of {self.folder}, such as {name} of shape "
                f"{expected}, got {got}; give the pipeline that it was made of with config "
                f"(--config)."
            )
        return held


def _config_folder(file: Checkpoint, config: str, whole: bool) -> Path:
    if (Path(config) / "model_index.json").is_file():
        return Path(config)
    try:
        folder = config if Path(config).is_dir() else from_hub(config, texts=whole)
    except Problems as error:
        raise InputError(
            f"{file.id} needs the configs and tokenizers of a pipeline to be used as one, but "
            f"{config} could not be had ({error.problems[0].found}); give a folder of its family "
            f"with config (--config)."
        ) from None
    if not (Path(folder) / "model_index.json").is_file():
        raise InputError(
            f"config (--config) must be a pipeline with a model_index.json, got {config}; give its "
            f"folder or hub id."
        )
    return Path(folder)


def _has_weights(folder: Path) -> bool:
    return bool(variants_of(folder)) if folder.is_dir() else False


# -- modules -----------------------------------------------------------------------------------


class _Undrawn(TorchFunctionMode):
    """Construction of modules whose weights are not drawn at random, as they are overwritten."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def empty_module(pipeline: Pipeline, component: str, device: str = "cpu") -> nn.Module:
    """Return a component of a pipeline without weights, built from its config."""
    library, name = pipeline.components[component]
    built: Any = component_class(library, name)
    folder = pipeline.folders[component]
    with torch.device(device), _Undrawn():
        if library == "transformers":
            module: nn.Module = built(built.config_class.from_pretrained(folder))
        else:
            module = built.from_config(built.load_config(folder))
    return module.eval()


def draw_with(about: FilePipeline, dtype: str) -> Any:
    """Return the pipeline of a file, whose own components have no weights yet.

    Args:
        about: the file.
        dtype: dtype of all components, such as ``"F16"``.
    """
    from m2n2lab.checkpoint.live.live_pipeline import assembled, load_component

    kept = getattr(torch, TORCH_NAMES[dtype])
    components: dict[str, Any] = {}
    for name, folder in about.pipeline.folders.items():
        library, class_name = about.pipeline.components[name]
        if name in about.of_file:
            # Not diffusers' own conversion, which warns of it.
            components[name] = nn.Module.to(empty_module(about.pipeline, name), kept)
        else:
            built = component_class(library, class_name)
            components[name] = load_component(built, folder, kept, None)
    return assembled(about.pipeline, about.folder, components)


Targets = dict[str, list[tuple[Tensor, Form]]]
"""Tensors of a pipeline whose rows make up a tensor of a file, by its common name."""


def targets(about: FilePipeline, model: Any) -> Targets:
    """Return where the tensors of a file are in a pipeline.

    Raises:
        InputError: they do not fit.
    """
    modules = {component: getattr(model, component) for component in about.of_file}
    states = {component: module.state_dict() for component, module in modules.items()}
    return {
        name: [(states[component][inner].detach(), form) for component, inner, form in held.tensors]
        for name, held in about.held(modules).items()
    }


def scatter(value: Tensor, into: Sequence[tuple[Tensor, Form]]) -> None:
    """Copy a tensor of a file into those of a pipeline that its rows are for."""
    value = value.to(into[0][0].dtype)  # few operations exist in 8 bits
    start = 0
    for tensor, form in into:
        rows = value
        if len(into) > 1:
            rows, start = value[start : start + len(tensor)], start + len(tensor)
        tensor.copy_(arranged(rows, form).reshape(tensor.shape))


def arranged(rows: Tensor, form: Form) -> Tensor:
    """Return rows of a file as a pipeline has them, or the other way round."""
    if form == "halves swapped":
        return torch.cat(rows.chunk(2)[::-1])
    return rows.T if form == "transposed" else rows
