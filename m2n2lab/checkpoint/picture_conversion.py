"""Conversion of picture models: a pipeline's folder into one file, and one file into a folder.

Weights are copied, never changed, tensor by tensor: names, fusions and forms are those of
``io.picture_layouts``.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.dtypes import DTYPES, TORCH_NAMES, WIDE
from m2n2lab.checkpoint.io.folder import read_json, weight_files, weight_name
from m2n2lab.checkpoint.io.parallel import Progress, no_progress
from m2n2lab.checkpoint.io.picture_layouts import (
    FAMILIES,
    Form,
    Held,
    family_of_pipeline,
    layout,
)
from m2n2lab.checkpoint.io.problems import Collector
from m2n2lab.checkpoint.io.tensor_file import DTYPE_BITS, TensorFile, make_header
from m2n2lab.checkpoint.pipelines import described
from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from m2n2lab.checkpoint.live.single_file_pipeline import FilePipeline

PIECE_BYTES = 1 << 24
"""Bytes copied at a time."""

MARKERS = {
    "v_pred": ("prediction_type", "v_prediction"),
    "ztsnr": ("rescale_betas_zero_snr", True),
}
"""Empty tensors by which single files say how they were trained, and what schedulers say then."""


def write_file(
    folder: Path, out: Path, metadata: Mapping[str, str], progress: Progress = no_progress
) -> None:
    """Write a pipeline's folder as one file in the layout of ComfyUI.

    Args:
        folder: the pipeline.
        out: the file, which is written in place.
        metadata: of its header.
        progress: called with the number of bytes read and written since the last call.

    Raises:
        InputError: files of its family do not have all that it has.
        Problems: its weights cannot be read.
    """
    files, family = _opened(folder)
    places = {
        (component, name): file
        for component, each in files.items()
        for file in each
        for name in file.entries
    }
    shapes = {
        component: {name: entry.shape for file in each for name, entry in file.entries.items()}
        for component, each in files.items()
    }
    found = layout(family, shapes)
    if found.unknown:
        component, name = found.unknown[0]
        raise InputError(
            f"{folder} must have the tensors of a single file of {FAMILIES[family].title}, but "
            f"{component} has {name}; keep it as a folder."
        )
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json", Collector())
    says = [key for key, (name, value) in MARKERS.items() if scheduler.get(name) == value]
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, held in found.held.items():
        dtypes = {places[c, inner].entries[inner].dtype for c, inner, _ in held.tensors}
        if len(dtypes) > 1:
            raise InputError(
                f"{folder} must have one dtype in the tensors of {name}, got "
                f"{' and '.join(sorted(dtypes))}; choose one with dtype (--dtype)."
            )
        tensors[name] = dtypes.pop(), held.shape
    if family in ("sd1", "sd2", "sdxl", "refiner"):
        tensors |= dict.fromkeys(says, ("F32", (0,)))
    header = make_header(tensors, {"format": "pt", **metadata})
    with out.open("wb") as file:
        file.write(header)
        for held in found.held.values():
            for component, name, form in held.tensors:
                source = places[component, name]
                entry = source.entries[name]
                for part in _arranged(source.raw(name), entry.dtype, entry.shape, form):
                    file.write(part)
                    progress(2 * len(part))


def _opened(folder: Path) -> tuple[dict[str, tuple[TensorFile, ...]], str]:
    """Return the weights of a pipeline's components, and its family.

    Raises:
        InputError: it is of no family that has single files.
    """
    pipeline = described(folder, own_code=False)
    configs = {
        name: read_json(place / "config.json", Collector())
        for name, place in pipeline.folders.items()
    }
    family = family_of_pipeline(configs)
    if family is None or pipeline.null is not None:
        known = ", ".join(about.title for about in FAMILIES.values())
        raise InputError(
            f"{folder} must be a pipeline of {known} to become one file, but it is a "
            f"{pipeline.class_name} for which none are known; keep it as a folder."
        )
    about = FAMILIES[family]
    problems = Collector()
    files = {
        name: weight_files(place, problems)
        for name, place in pipeline.folders.items()
        if name in (about.denoiser, "vae", *about.texts)
    }
    problems.check()
    return files, family


def _arranged(
    raw: memoryview | bytes, dtype: str, shape: tuple[int, ...], form: Form
) -> Iterator[memoryview | bytes]:
    """Yield the bytes of a tensor in the form that the other layout has."""
    if form == "transposed" and len(raw):
        bits = np.frombuffer(raw, f"V{DTYPE_BITS[dtype] // 8}").reshape(shape)
        raw = bits.T.tobytes()
    middle = len(raw) // 2 if form == "halves swapped" else 0
    for low, high in ((middle, len(raw)), (0, middle)):
        for start in range(low, high, PIECE_BYTES):
            yield raw[start : min(start + PIECE_BYTES, high)]


# -- one file as a folder ----------------------------------------------------------------------


def write_folder(
    file: Checkpoint, config: str | None, out: Path, progress: Progress = no_progress
) -> None:
    """Write a single file as a pipeline's folder.

    Args:
        file: the file.
        config: the pipeline whose configs, tokenizers and other components it gets; by default the
            first of its family.
        out: the folder, which is written in place.
        progress: called with the number of bytes read and written since the last call.

    Raises:
        InputError: the file is of no known family, or the pipeline is another.
    """
    from m2n2lab.checkpoint.live.single_file_pipeline import FilePipeline, empty_module

    about = FilePipeline.of(file, config)
    modules = {name: empty_module(about.pipeline, name, "meta") for name in about.of_file}
    held = about.held(modules)
    _copy_configs(about, out)
    for component in about.of_file:
        library, _ = about.pipeline.components[component]
        stem = "model" if library == "transformers" else "diffusion_pytorch_model"
        shapes = {n: tuple(t.shape) for n, t in modules[component].state_dict().items()}
        place = out / component / f"{stem}.safetensors"
        dtype = _write_component(about, held, component, shapes, place, progress)
        if library == "transformers":
            path = out / component / "config.json"
            settings = read_json(path, Collector())
            named = {k: TORCH_NAMES[dtype] for k in ("dtype", "torch_dtype") if settings.get(k)}
            _write_json(path, {**settings, **named})
    says = {MARKERS[key][0]: MARKERS[key][1] for key in MARKERS if key in file.names}
    path = out / "scheduler" / "scheduler_config.json"
    if says and path.is_file():
        _write_json(path, {**read_json(path, Collector()), **says})


def _copy_configs(about: FilePipeline, out: Path) -> None:
    """Copy all files of the pipeline but the weights that the single file has."""
    for component, folder in about.pipeline.folders.items():
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or (component in about.of_file and weight_name(path.name)):
                continue
            target = out / component / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    original = read_json(about.folder / "model_index.json", Collector())
    out.mkdir(parents=True, exist_ok=True)
    _write_json(out / "model_index.json", about.pipeline.index(original))


def _write_component(
    about: FilePipeline,
    held: Mapping[str, Held],
    component: str,
    shapes: Mapping[str, tuple[int, ...]],
    out: Path,
    progress: Progress,
) -> str:
    """Write the weights of a component; return the dtype that most of its tensors have."""
    rows: dict[str, tuple[str, memoryview | bytes, Form]] = {}
    for full, each in held.items():
        if each.tensors[0][0] != component:
            continue
        dtype, raw = _stored(about.file, full)
        start = 0
        for _, name, form in each.tensors:
            part = (
                len(raw) // each.shape[0] * shapes[name][0] if len(each.tensors) > 1 else len(raw)
            )
            rows[name] = dtype, raw[start : start + part], form
            start += part
    class_name = about.pipeline.components[component][1]
    tensors = {
        _hub_name(class_name, name): (dtype, shapes[name]) for name, (dtype, _, _) in rows.items()
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as handle:
        handle.write(make_header(tensors, {"format": "pt"}))
        for name, (dtype, raw, form) in rows.items():
            # In the file's own shape, of which the form is the opposite.
            shape = shapes[name][::-1] if form == "transposed" else shapes[name]
            for piece in _arranged(raw, dtype, shape, form):
                handle.write(piece)
                progress(2 * len(piece))
    counts = Counter(dtype for dtype, _, _ in rows.values())
    return counts.most_common(1)[0][0]


def _stored(file: Checkpoint, name: str) -> tuple[str, memoryview | bytes]:
    """Return the dtype and the bytes of a tensor; times its scale, if it has one."""
    if name not in file.scaled:
        return file.entry(name).dtype, file.raw(name)
    from m2n2lab.checkpoint.kernels import blend  # takes a second to import

    values = np.empty(file.entry(name).size, DTYPES[WIDE])
    blend([file.stored(name)[:]], [1.0], values)
    return WIDE, values.tobytes()


def _hub_name(class_name: str, name: str) -> str:
    """Return the name that a text encoder's tensor has on the hub, which every version reads."""
    if not class_name.startswith("CLIP") or name.startswith(("text_model.", "text_projection.")):
        return name
    return f"text_model.{name}"


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
