"""Pipelines of diffusers: of which plain classes one consists, and who provides each component.

A ``model_index.json`` names the class of the pipeline and of each component. Some name classes of
their own repository, such as Japanese Stable Diffusion XL, whose code would have to be run. Such a
pipeline is described by the plain class of diffusers for its denoiser instead.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2n2lab.checkpoint.io.folder import read_json
from m2n2lab.checkpoint.io.problems import Collector
from m2n2lab.checkpoint.picture_options import FOLDER_PARTS
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.extras import missing

if TYPE_CHECKING:
    from m2n2lab.checkpoint.plan import Plan

PLAIN_CLASSES = {
    "FluxTransformer2DModel": "FluxPipeline",
    "PixArtTransformer2DModel": "PixArtSigmaPipeline",
    "QwenImageTransformer2DModel": "QwenImagePipeline",
    "SanaTransformer2DModel": "SanaPipeline",
    "SD3Transformer2DModel": "StableDiffusion3Pipeline",
    "UNet2DConditionModel": "StableDiffusionPipeline",
}
"""Pipelines of diffusers by the class of their denoiser."""

XL = "StableDiffusionXLPipeline"
"""The pipeline of a UNet2DConditionModel that is conditioned on sizes and a pooled text."""

DENOISERS = ("unet", "transformer", "prior", "decoder")
TEXT_SLOTS = re.compile(r"(text_encoder|tokenizer)(_\d+)?")
TOKENIZER_SLOTS = re.compile(r"tokenizer(_\d+)?")

NULL_ENCODER, NULL_TOKENIZER = "text_encoder_2", "tokenizer_2"
"""Components that are made, with zero weights, where a pipeline in the shape of SDXL has one text
encoder alone; its own code fills the rest of the denoiser's input with zeros."""

_LIBRARIES = ("diffusers", "transformers")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline without its weights.

    Attributes:
        class_name: its class in diffusers.
        components: library and class of each component; those that are absent are left out.
        values: its other settings, such as ``force_zeros_for_empty_prompt``.
        folders: the folder of each component; none for those that are made.
        rewritten: whether ``model_index.json`` differs from that of the first seed.
        null: widths of the second text encoder that is made: hidden and pooled; or ``None``.
    """

    class_name: str
    components: Mapping[str, tuple[str, str]]
    values: Mapping[str, Any]
    folders: Mapping[str, Path]
    rewritten: bool = False
    null: tuple[int, int] | None = None

    def index(self, original: Mapping[str, Any]) -> dict[str, Any]:
        """Return the contents of its model_index.json; absent components are ``[null, null]``."""
        absent = {name: [None, None] for name, about in original.items() if about == [None, None]}
        version = {key: value for key, value in original.items() if key == "_diffusers_version"}
        present = {name: list(about) for name, about in self.components.items()}
        return {
            "_class_name": self.class_name,
            **version,
            **dict(sorted({**self.values, **absent, **present}.items())),
        }


def has_own_code(index: Mapping[str, Any]) -> bool:
    """Return whether a model_index.json names classes that are not in the libraries."""
    name = index.get("_class_name")
    if not isinstance(name, str):
        return True
    if any(library is not None and not is_plain(library) for library, _ in _listed(index)):
        return True
    if name == XL or name in PLAIN_CLASSES.values():  # without importing diffusers
        return False
    return not hasattr(_diffusers(), name)


def describe(plan: Plan, texts_from: int = 0) -> Pipeline | None:
    """Return the pipeline of a merge; ``None`` if the first seed has no model_index.json.

    Args:
        plan: the seeds, pipelines of diffusers.
        texts_from: number of the seed that provides tokenizers, and text encoders that are not
            merged.

    Raises:
        InputError: a seed's own class has no counterpart in diffusers, or the seed that shall
            provide the texts has none.
    """
    base = plan.base.path
    if not (base / "model_index.json").is_file():
        return None
    pipeline = _with_parts(plan, described(base, plan.trust_remote_code))
    if texts_from == 0:
        return pipeline
    source = plan.seeds[texts_from]
    if not (source.path / "model_index.json").is_file():
        raise InputError(
            f"Seed {texts_from} must be a pipeline to provide the text encoders, but {source.id} "
            f"has no model_index.json; choose another seed."
        )
    other = described(source.path, own_code=False)
    merged = {part.name for part in plan.base.parts}
    slots = TOKENIZER_SLOTS if any(map(TEXT_SLOTS.fullmatch, merged)) else TEXT_SLOTS
    own, its = _slots(pipeline, slots), _slots(other, slots)
    if not its or other.class_name != pipeline.class_name:
        raise InputError(
            f"Seed {texts_from} must have the text encoders of a {pipeline.class_name}, but "
            f"{source.id} is a {other.class_name} with {', '.join(sorted(its)) or 'none'}; choose "
            f"another seed."
        )
    kept = {name: about for name, about in pipeline.components.items() if name not in own}
    folders = {name: folder for name, folder in pipeline.folders.items() if name not in own}
    return replace(
        pipeline,
        components={**kept, **{name: other.components[name] for name in its}},
        folders={**folders, **{n: other.folders[n] for n in its if n in other.folders}},
        # Whether an empty prompt is zeros or a text of its own, its text encoders have learnt.
        values={**pipeline.values, **{k: v for k, v in other.values.items() if "prompt" in k}},
        rewritten=True,
        null=other.null if slots is TEXT_SLOTS else pipeline.null,
    )


def _with_parts(plan: Plan, pipeline: Pipeline) -> Pipeline:
    """Return a pipeline with the VAE and the scheduler of those seeds that are to provide them."""
    for key, number in plan.pictures.parts_from.items():
        if not number:
            continue
        name, source = FOLDER_PARTS[key], plan.seeds[number].path
        if (source / "model_index.json").is_file():
            about = described(source, own_code=False).components.get(name)
        else:
            about = None
        pipeline = replace(
            pipeline,
            components={**pipeline.components, name: about or pipeline.components[name]},
            folders={**pipeline.folders, name: source / name},
            rewritten=pipeline.rewritten or about not in (None, pipeline.components.get(name)),
        )
    return pipeline


def _slots(pipeline: Pipeline, pattern: re.Pattern[str]) -> set[str]:
    return {name for name in pipeline.components if pattern.fullmatch(name)}


def described(folder: Path, own_code: bool) -> Pipeline:
    """Return the pipeline of a folder, with plain classes unless its own code may be run.

    Raises:
        InputError: its own class has no counterpart in diffusers.
    """
    index = read_json(folder / "model_index.json", Collector())
    components = {
        name: (str(about[0]), str(about[1]))
        for name, about in index.items()
        if isinstance(about, list) and len(about) == 2 and None not in about and name[0] != "_"
    }
    values = {
        name: value
        for name, value in index.items()
        if not name.startswith("_") and not isinstance(value, list)
    }
    # Components whose folder is absent, such as a safety checker that was not downloaded.
    there = {name: about for name, about in components.items() if (folder / name).is_dir()}
    folders = {name: folder / name for name in there}
    if own_code or not has_own_code(index):
        name = index.get("_class_name")
        name = str(name[-1] if isinstance(name, list) else name)
        return Pipeline(name, there, values, folders)
    class_name, denoiser = _plain_class(folder, index)
    accepted = inspect.signature(getattr(_diffusers(), class_name).__init__).parameters
    plain = {
        name: about for name, about in there.items() if name in accepted and is_plain(about[0])
    }
    null = None
    if class_name == XL and "text_encoder" in plain and NULL_ENCODER not in plain:
        # With a projection, diffusers would take its pooled text for that of the second encoder.
        plain["text_encoder"] = ("transformers", "CLIPTextModel")
        plain[NULL_ENCODER] = ("transformers", "CLIPTextModelWithProjection")
        plain[NULL_TOKENIZER] = ("transformers", "PreTrainedTokenizerFast")
        null = _null_widths(folder, denoiser)
    needed = [
        name
        for name, parameter in accepted.items()
        if parameter.default is inspect.Parameter.empty and name != "self" and name not in plain
    ]
    if lost := [name for name in needed if name in components and name not in plain]:
        raise InputError(
            f"{folder} must have components of diffusers or transformers, but {lost[0]} is a class "
            f"of its own code, which is not run; if you trust it, use trust_remote_code=True "
            f"(--trust-remote-code)."
        )
    return Pipeline(
        class_name,
        plain,
        {name: value for name, value in values.items() if name in accepted},
        {name: path for name, path in folders.items() if name in plain},
        rewritten=True,
        null=null,
    )


def _plain_class(folder: Path, index: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the class of diffusers for a pipeline with its own code, and its denoiser's config.

    Raises:
        InputError: there is none.
    """
    for name in DENOISERS:
        config = read_json(folder / name / "config.json", Collector())
        plain = PLAIN_CLASSES.get(str(config.get("_class_name")))
        if plain is not None:
            return (XL if config.get("addition_embed_type") == "text_time" else plain), config
    raise InputError(
        f"{folder} must be a pipeline of a class in diffusers, but {index.get('_class_name')} is "
        f"code of its own, which is not run; if you trust it, use trust_remote_code=True "
        f"(--trust-remote-code)."
    )


def _null_widths(folder: Path, denoiser: Mapping[str, Any]) -> tuple[int, int]:
    """Return the hidden and the pooled width of the text encoder that is made."""
    text = read_json(folder / "text_encoder" / "config.json", Collector())
    crossed = denoiser.get("cross_attention_dim")
    width = (crossed if isinstance(crossed, int) else 0) - int(text.get("hidden_size") or 0)
    sizes = 6 * int(denoiser.get("addition_time_embed_dim") or 0)
    pooled = int(denoiser.get("projection_class_embeddings_input_dim") or 0) - sizes
    if width < 1 or pooled < 1:
        raise InputError(
            f"{folder} must have a text encoder narrower than its denoiser's {crossed} inputs, as "
            f"the rest of them is filled with zeros, got {text.get('hidden_size')}; if you trust "
            f"its own code, use trust_remote_code=True (--trust-remote-code)."
        )
    return width, pooled


def _listed(index: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [
        (about[0], about[1])
        for name, about in index.items()
        if isinstance(about, list) and len(about) == 2 and not name.startswith("_")
    ]


def is_plain(library: str) -> bool:
    """Return whether a library of model_index.json is one of the installed ones.

    Pipelines' own components, such as safety checkers, are listed under the pipeline's package in
    diffusers; classes in a repository are listed under the name of a file.
    """
    if library in _LIBRARIES:
        return True
    return library.isidentifier() and hasattr(_diffusers().pipelines, library)


def _diffusers() -> Any:
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise missing("the pipeline", error.name or "diffusers", "images") from error


def component_class(library: str, name: str) -> Any:
    """Return the class of a component.

    Raises:
        InputError: the library has no such class.
    """
    where = library if library in _LIBRARIES else f"diffusers.pipelines.{library}"
    found = getattr(importlib.import_module(where), name, None)
    if found is None:
        raise InputError(
            f"model_index.json must name classes that are installed, but {library} has no {name}; "
            f"install a newer {library}."
        )
    return found
