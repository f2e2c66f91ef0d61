"""Live pipeline: a pipeline of diffusers whose components all have one dtype, wherever they lie."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.checkpoint.io.folder import chosen_variant, read_json, weight_name
from m2n2lab.checkpoint.io.problems import Collector
from m2n2lab.checkpoint.pipelines import (
    NULL_ENCODER,
    NULL_TOKENIZER,
    Pipeline,
    component_class,
    describe,
    is_plain,
)
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.files import temporary_folder

NULL_TOKENS = ("<unk>", "<pad>", "</s>")
"""Tokens of the tokenizer that is made: every word is the first one."""


def load_pipeline(plan: Plan, texts_from: int = 0) -> Any:
    """Load the pipeline of the first seed, in the dtype of most of the merged weights.

    Args:
        plan: the seeds.
        texts_from: number of the seed that provides tokenizers, and text encoders that are not
            merged.

    Raises:
        InputError: the first seed is no whole pipeline, or a class or folder is missing.
    """
    pipeline = describe(plan, texts_from)
    if pipeline is None:
        raise InputError(
            f"The first seed must be a whole pipeline to draw with, but {plan.base.id} has no "
            f"model_index.json; name a pipeline first."
        )
    dtype = getattr(torch, TORCH_NAMES[plan.common_dtype])
    components: dict[str, Any] = {}
    if pipeline.null is not None:
        components.update(null_encoder(pipeline, plan.common_dtype))
    for name, folder in pipeline.folders.items():
        library, class_name = pipeline.components[name]
        if not plan.trust_remote_code or is_plain(library):
            component = component_class(library, class_name)
            components[name] = load_component(component, folder, dtype, plan.variant)
    if plan.trust_remote_code:
        return _load_with_its_code(plan, dtype, components)
    return assembled(pipeline, plan.base.path, components)


def assembled(pipeline: Pipeline, folder: Path, components: dict[str, Any]) -> Any:
    """Return a pipeline of components; those that it can do without may be absent.

    Args:
        pipeline: its class and settings.
        folder: where it is described.
        components: its components by name.

    Raises:
        InputError: a component is missing.
    """
    import diffusers

    pipeline_class = getattr(diffusers, pipeline.class_name)
    index = read_json(folder / "model_index.json", Collector())
    absent = (name for name, about in index.items() if about == [None, None])
    optional = {*absent, *getattr(pipeline_class, "_optional_components", ())}
    for name, parameter in inspect.signature(pipeline_class.__init__).parameters.items():
        needed = parameter.default is inspect.Parameter.empty and name != "self"
        if needed and name not in components:
            if name not in optional:
                raise InputError(
                    f"{folder} must have a component {name} to draw as a "
                    f"{pipeline.class_name}, but has none; download or copy it as well."
                )
            components[name] = None
    return pipeline_class(**pipeline.values, **components)


def load_component(component: Any, folder: Path, dtype: torch.dtype, variant: str | None) -> Any:
    """Load a component; a model in the given dtype, from whichever variant is there."""
    if not issubclass(component, torch.nn.Module):
        return component.from_pretrained(folder)
    with _plain_names(folder, variant) as plain, warnings.catch_warnings():
        # All versions take torch_dtype, and the newest ones would rather be given dtype.
        warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
        return component.from_pretrained(plain, torch_dtype=dtype).eval()


@contextmanager
def _plain_names(folder: Path, variant: str | None) -> Iterator[Path]:
    """Yield a folder with a component's files under plain names, which every library finds."""
    read = chosen_variant(folder, variant)
    if read is None:
        yield folder
        return
    with temporary_folder() as temporary:
        for path in folder.iterdir():
            name = weight_name(path.name)
            if name is not None and name.variant != read:
                continue
            target = Path(temporary, path.name if name is None else name.plain)
            if name is not None and name.is_index:
                target.write_text(_plain_index(path), encoding="utf-8")
            else:
                target.symlink_to(path.resolve())
        yield Path(temporary)


def _plain_index(path: Path) -> str:
    index = read_json(path, Collector())
    names = {file: weight_name(file) for file in index["weight_map"].values()}
    plain = {file: file if name is None else name.plain for file, name in names.items()}
    places = {tensor: plain[file] for tensor, file in index["weight_map"].items()}
    return json.dumps({**index, "weight_map": places})


def _load_with_its_code(plan: Plan, dtype: torch.dtype, components: dict[str, Any]) -> Any:
    """Load a pipeline and those of its components that are code of its own repository."""
    import diffusers

    pipeline: Any = diffusers.DiffusionPipeline
    base = plan.base
    index = read_json(base.path / "model_index.json", Collector())
    absent = {name: None for name, about in index.items() if about == [None, None]}
    source = base.path if Path(base.id).exists() else base.id  # its code is on the hub
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
        return pipeline.from_pretrained(
            source, torch_dtype=dtype, trust_remote_code=True, **{**absent, **components}
        )


def null_encoder(pipeline: Pipeline, dtype: str) -> dict[str, Any]:
    """Return a second text encoder whose outputs are zeros, and a tokenizer for it.

    It gives pipelines in the shape of SDXL that have one text encoder alone the zeros that their
    own code appends, by plain classes.

    Args:
        pipeline: a pipeline with ``null``.
        dtype: dtype of its weights, such as ``"F16"``.
    """
    from tokenizers import Tokenizer, models
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokenizer_class: Any = component_class("transformers", "PreTrainedTokenizerFast")

    assert pipeline.null is not None
    width, pooled = pipeline.null
    length = _text_length(pipeline)
    config = CLIPTextConfig(
        vocab_size=len(NULL_TOKENS),
        hidden_size=width,
        intermediate_size=1,
        projection_dim=pooled,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=length,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    encoder: Any = CLIPTextModelWithProjection(config)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    words = Tokenizer(models.WordLevel({token: k for k, token in enumerate(NULL_TOKENS)}, "<unk>"))
    tokenizer = tokenizer_class(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="</s>",
        model_max_length=length,
    )
    encoder = encoder.to(getattr(torch, TORCH_NAMES[dtype])).eval()
    return {NULL_ENCODER: encoder, NULL_TOKENIZER: tokenizer}


def _text_length(pipeline: Pipeline) -> int:
    """Return the number of tokens of a prompt, to which both text encoders' outputs are padded."""
    config = read_json(pipeline.folders["text_encoder"] / "config.json", Collector())
    about = read_json(pipeline.folders["tokenizer"] / "tokenizer_config.json", Collector())
    longest = int(config.get("max_position_embeddings") or 77)
    return min(int(about.get("model_max_length") or longest), longest)
