"""Merges saved as adapters: their difference to the base, in factors of a given rank.

Each tensor that an adapter of the seeds changes is merged whole, as it would be saved, and its
difference to the base's is cut to the given rank by its singular values, the best such cut there is
in the sum of squares. Tensors that were trained as a whole are saved whole. All other tensors stay
the base's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from m2n2lab.checkpoint.io.adapters.adapter import CONFIG, FILES
from m2n2lab.checkpoint.io.adapters.changes import Replacement, widened
from m2n2lab.checkpoint.io.adapters.deltas import matrix
from m2n2lab.checkpoint.io.adapters.keys import PEFT_PREFIX
from m2n2lab.checkpoint.io.adapters.source import Source
from m2n2lab.checkpoint.io.checkpoint import CONV1D_MODELS, Checkpoint
from m2n2lab.checkpoint.io.names import EMBEDDINGS
from m2n2lab.checkpoint.io.parallel import Progress, no_progress
from m2n2lab.checkpoint.io.tensor_file import make_header
from m2n2lab.checkpoint.record.merge_record import Record
from m2n2lab.checkpoint.record.model_card import adapter_lines, cell
from m2n2lab.checkpoint.save import atomic_folder
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array, Floats
from m2n2lab.utils.errors import InputError, whole_number

if TYPE_CHECKING:
    from m2n2lab.checkpoint.space import CheckpointSpace

DEFAULT_RANK = 16

EXACT_SIZE = 512
"""Shorter side of a matrix up to which all its singular values are computed."""


class SavedTensor(NamedTuple):
    """A tensor of a merge that was saved as an adapter.

    Attributes:
        name: its full name.
        norm: Frobenius norm of its difference to the base's.
        error: norm of what the saved factors lack of that, as a share; 0 if it was saved whole.
    """

    name: str
    norm: float
    error: float


def save_as_adapter(
    space: CheckpointSpace,
    recipe: Recipe,
    out: str | Path,
    rank: int = DEFAULT_RANK,
    made: str = "",
    progress: Progress = no_progress,
) -> list[SavedTensor]:
    """Save a merge of adapters of one base as an adapter of that base, in PEFT's form.

    That of a pipeline has the form of diffusers, which is PEFT's with the components' names.

    Args:
        space: its seeds are one base, with adapters.
        recipe: their combination.
        out: the folder to make; it does not exist until it is complete.
        rank: rank r of the factors.
        made: origin of the recipe as a sentence, for the card.
        progress: called with the number of bytes of each tensor of the base.

    Returns:
        How well each tensor is approximated.

    Raises:
        InputError: the seeds are not one base with adapters, a tensor cannot be kept in this form,
            or the folder cannot be written.
        Problems: the folder exists and is not empty, or a seed holds NaN or infinity.
    """
    whole_number("rank", rank, 1)
    base = _base(space)
    record = space.record(recipe, made)
    modules = {name: own for seed in space.plan.seeds for name, own in seed.changes.modules.items()}
    changed = {name for seed in space.plan.seeds for name in seed.changes.tensors}
    tensors: dict[str, Array] = {}
    saved, low, whole = [], set[str](), set[str]()
    for name in space.plan.layout.shapes:
        if name not in changed:
            continue
        entry = base.entry(name)
        merged = space.derived.merged(recipe, name)
        difference = merged - widened(base.stored(name)[:])
        module = modules[name]
        if any(_is_trained(seed, name) for seed in space.plan.seeds):
            norm = float(np.linalg.norm(difference))
            tensors[name] = merged.astype(np.float32).reshape(entry.shape)
            saved.append(SavedTensor(name, norm, 0.0))
            whole.add(name)
        else:
            form = _form(base, name)
            left, right = _factors(_turned(difference, entry.shape, form), rank)
            saved.append(_judged(name, _turned(difference, entry.shape, form), left, right))
            tensors |= _named(_key(base, name, module), left, right, entry.shape, form)
            low.add(module)
        progress(entry.bytes)
    tensors = _with_whole(base, tensors, whole, modules, low)
    with atomic_folder(Path(out)) as folder:
        if base.kind == "diffusers":
            _write(folder / FILES[2], tensors, record)
        else:
            trained = sorted(modules[name] for name in whole if name.endswith(".weight"))
            biases = any(name.endswith(".bias") for name in whole)
            config = _config(base, rank, sorted(low), trained, biases)
            (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            _write(folder / FILES[0], tensors, record)
        (folder / "recipe.json").write_text(record.pretty, encoding="utf-8")
        (folder / "README.md").write_text(_card(base, record, rank, saved), encoding="utf-8")
    return saved


def overall_error(saved: Sequence[SavedTensor]) -> float:
    """Return the norm of what the saved tensors lack together, as a share of their differences."""
    norm = math.sqrt(sum(each.norm**2 for each in saved))
    lack = math.sqrt(sum((each.norm * each.error) ** 2 for each in saved))
    return lack / norm if norm else 0.0


def _base(space: CheckpointSpace) -> Checkpoint:
    """Return the base that all seeds have.

    Raises:
        InputError: they have several, or no adapters, or it is a single file of a picture model.
    """
    first, *others = space.plan.seeds
    fix = "write the seeds as BASE+A BASE+B, or leave --as-adapter out"
    for seed in others:
        if seed.path.resolve() != first.path.resolve():
            raise InputError(
                f"A merge that is saved as an adapter must be of adapters of one base, got "
                f"{Source.parse(first.id).base} and {Source.parse(seed.id).base}; {fix}."
            )
    if not any(seed.adapters for seed in space.plan.seeds):
        raise InputError(
            f"A merge that is saved as an adapter must have seeds with adapters, got none; {fix}."
        )
    if first.is_picture_file:
        raise InputError(
            f"A merge that is saved as an adapter must have a folder as its base, got the single "
            f"file {first.path}; name a folder of diffusers, or leave --as-adapter out."
        )
    return first.base


def _is_trained(seed: Checkpoint, name: str) -> bool:
    """Return whether an adapter of a seed has a tensor as a whole, or it has no two axes."""
    changes = seed.changes.tensors.get(name, ())
    whole = (change for change in changes if isinstance(change, Replacement))
    return len(seed.entry(name).shape) < 2 or any(_differs(seed.base, name, one) for one in whole)


def _differs(base: Checkpoint, name: str, change: Replacement) -> bool:
    """Return whether a whole tensor is another than the base's, of which PEFT saves copies."""
    start, stop, offset = change.stretch.start, change.stretch.stop, change.stretch.offset
    trained = change.delta.values(offset, offset + stop - start)
    return not np.array_equal(trained, widened(base.array(name)[start:stop]))


def _form(base: Checkpoint, name: str) -> str:
    """Return how factors of a tensor are kept: ``"embedding"``, ``"transposed"`` or ``""``."""
    if EMBEDDINGS.search(name):
        return "embedding"
    is_conv1d = base.parts[0].config.get("model_type") in CONV1D_MODELS
    return "transposed" if is_conv1d else ""


def _turned(values: Floats, shape: tuple[int, ...], form: str) -> Floats:
    """Return a tensor as the matrix that is the product of its factors."""
    found = values.reshape(matrix(shape))
    return found.T if form else found


def _factors(values: Floats, rank: int) -> tuple[Array, Array]:
    """Return B (rows, r) and A (r, columns), of which B·A is the best approximation."""
    count = min(rank, *values.shape)
    if min(values.shape) <= EXACT_SIZE:
        u, s, v = np.linalg.svd(values, full_matrices=False)
    else:
        from sklearn.utils.extmath import randomized_svd  # takes a second to import

        u, s, v = randomized_svd(values, count, n_oversamples=16, n_iter=6, random_state=0)
    root = np.sqrt(s[:count])
    left = np.zeros((values.shape[0], rank), np.float32)
    right = np.zeros((rank, values.shape[1]), np.float32)
    left[:, :count] = u[:, :count] * root
    right[:count] = root[:, None] * v[:count]
    return left, right


def _judged(name: str, values: Floats, left: Array, right: Array) -> SavedTensor:
    norm = float(np.linalg.norm(values))
    lack = float(np.linalg.norm(values - left.astype(np.float64) @ right.astype(np.float64)))
    return SavedTensor(name, norm, lack / norm if norm else 0.0)


def _key(base: Checkpoint, name: str, module: str) -> str:
    """Return what a file of the adapter calls the module of a tensor."""
    if base.kind != "diffusers":
        return PEFT_PREFIX + module
    component, _, inside = name.rpartition(".")[0].partition("/")
    return f"{component}.{inside}"


def _named(
    key: str, left: Array, right: Array, shape: tuple[int, ...], form: str
) -> dict[str, Array]:
    """Return factors under PEFT's names, in its shapes."""
    if form == "embedding":
        return {f"{key}.lora_embedding_A": right, f"{key}.lora_embedding_B": left}
    ones = (1,) * (len(shape) - 2)
    return {
        f"{key}.lora_A.weight": right.reshape(len(right), *(shape[1:] if ones else (-1,))),
        f"{key}.lora_B.weight": left.reshape(*left.shape, *ones),
    }


def _with_whole(
    base: Checkpoint,
    tensors: dict[str, Array],
    whole: set[str],
    modules: Mapping[str, str],
    low: set[str],
) -> dict[str, Array]:
    """Return the tensors with those that are saved whole under PEFT's names.

    Raises:
        InputError: the base is a pipeline, whose adapters have no place for them.
    """
    if whole and base.kind == "diffusers":
        raise InputError(
            f"A merge of LoRAs of a pipeline must change weights by factors alone to be saved as "
            f"an adapter, but {min(whole)} is changed as a whole; leave --as-adapter out."
        )
    found = {name: value for name, value in tensors.items() if name not in whole}
    for name in sorted(whole):
        module, end = modules[name], name.rpartition(".")[2]
        inside = ".base_layer" if module in low else ""
        found[f"{PEFT_PREFIX}{module}{inside}.{end}"] = tensors[name]
    return found


def _config(
    base: Checkpoint, rank: int, low: Sequence[str], trained: Sequence[str], biases: bool
) -> dict[str, Any]:
    """Return PEFT's config; α is r, so that factors are not scaled."""
    id = str(Path(base.id).absolute()) if Path(base.id).exists() else base.id
    is_causal = base.parts[0].architecture.endswith("ForCausalLM")
    return {
        "base_model_name_or_path": id,
        "bias": "all" if biases else "none",
        "fan_in_fan_out": base.parts[0].config.get("model_type") in CONV1D_MODELS,
        "inference_mode": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": list(trained) or None,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": list(low),
        "task_type": "CAUSAL_LM" if is_causal else None,
    }


def _write(path: Path, tensors: Mapping[str, Array], record: Record) -> None:
    named = dict(sorted(tensors.items()))
    shapes = {name: ("F32", value.shape) for name, value in named.items()}
    with path.open("xb") as file:
        file.write(make_header(shapes, {"format": "pt", "m2n2lab": record.text}))
        for value in named.values():
            file.write(np.ascontiguousarray(value).tobytes())


def _card(base: Checkpoint, record: Record, rank: int, saved: Sequence[SavedTensor]) -> str:
    return "\n".join(_card_lines(base, record, rank, saved)) + "\n"


def _card_lines(
    base: Checkpoint, record: Record, rank: int, saved: Sequence[SavedTensor]
) -> Iterator[str]:
    library = "diffusers" if base.kind == "diffusers" else "peft"
    yield from ("---", f"library_name: {library}")
    if "commit" in record.seeds[0]:
        yield from ("base_model:", f"- {json.dumps(base.id.partition('@')[0])}")
    yield from ("tags:", "- merge", "- m2n2", "- lora", "---", "", "# A merged adapter", "")
    yield (
        f"Made by {record.maker} from {len(record.seeds)} seeds of one base, without training"
        + (f": {cell(record.made)}." if record.made else ".")
    )
    yield from adapter_lines(record)
    yield from (
        "",
        f"The merge's difference to the base was cut to rank {rank} by its singular values. What "
        f"is lost of it, as a share of its norm, is {overall_error(saved):.3%} in all:",
        *("", "| tensor | norm of the difference | lost |", "|---|---:|---:|"),
    )
    for each in saved:
        yield f"| {cell(each.name)} | {each.norm:.4g} | {each.error:.3%} |"
    yield from (
        "",
        "All other tensors are the base's. With the seeds at hand, `m2n2lab rebuild recipe.json -o "
        "FOLDER` makes the whole model, without that loss.",
    )
