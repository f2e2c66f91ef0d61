"""Checkpoint: the tensors of a model on disk and their order, without reading any weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

from m2n2lab.checkpoint.io.adapters.adapter import (
    Adapter,
    Changes,
    adapter_folder,
    base_of,
    changes_of,
    open_adapter,
)
from m2n2lab.checkpoint.io.adapters.changes import AdaptedTensor
from m2n2lab.checkpoint.io.adapters.keys import is_adapter
from m2n2lab.checkpoint.io.adapters.source import Source
from m2n2lab.checkpoint.io.dtypes import DTYPES
from m2n2lab.checkpoint.io.folder import (
    find_unmergeable,
    read_headers,
    read_json,
    stated_licence,
    unsupported_format,
    weight_files,
)
from m2n2lab.checkpoint.io.hub import from_hub
from m2n2lab.checkpoint.io.names import EMBEDDINGS, HEADS, is_head
from m2n2lab.checkpoint.io.parallel import Progress, no_progress
from m2n2lab.checkpoint.io.pickles import as_safetensors
from m2n2lab.checkpoint.io.problems import Collector, Problem, Problems, unreadable
from m2n2lab.checkpoint.io.scales import Scaled, beside_scales, scales
from m2n2lab.checkpoint.io.single_file_names import (
    MERGED_PARTS,
    PARTS_OF_COMPONENTS,
    PREFIX,
    common_names,
    part_of,
)
from m2n2lab.checkpoint.io.tensor_file import Entry, TensorFile
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.utils.arrays import Array
from m2n2lab.utils.errors import file_path

Kind = Literal["transformers", "diffusers", "file"]

MERGED_COMPONENTS = re.compile(r"(unet|transformer|text_encoder)(_\d+)?|prior|decoder")
"""Components of a pipeline that are merged by default; the rest, such as the VAE that all SDXL
models share, is taken from the first seed."""

CONSTANTS = re.compile(
    r"(^|[./])(inv_freq|original_inv_freq|masked_bias|causal_mask|position_ids"
    r"|num_batches_tracked|relative_position_index)$"
)
"""Names of tensors that are no weights whatever their dtype: they are carried, not merged."""

BUFFERS = re.compile(
    r"(^|[./])(running_mean|running_var|parametrizations\.\w+\.\d+\.(_u|_v|base))$"
)
"""Names of the floating-point buffers of torch: BatchNorm, and spectral and orthogonal
parametrisations. They are merged by lerp."""

STATISTICS = re.compile(r"(^|[./])running_(mean|var)$")
"""Names of buffers that were carried, not merged, by version 0.1."""

SPECTRAL_NORM = re.compile(r"(.*)_[uv]$")
"""Names that are buffers of the old spectral norm if there is a tensor with ``_orig`` too."""

CAUSAL_MASKS = re.compile(r"(^|[./])(attn|attention)\.bias$")
"""Names of causal masks in GPT-2 and GPT-NeoX; they have four dimensions."""


CONV1D_MODELS = ("decision_transformer", "gpt2", "imagegpt", "openai-gpt")
"""Families whose linear layers have transposed weights, by their name in configs."""


class Known(NamedTuple):
    """What is known of tensors from the module that they are for; names are those within a part.

    Attributes:
        buffers: floating-point buffers.
        ties: second names of tensors that the module has once, with the first name.
    """

    buffers: frozenset[str] = frozenset()
    ties: Mapping[str, str] = MappingProxyType({})


NOTHING_KNOWN = Known()


class Part(NamedTuple):
    """One model of a checkpoint: the whole of it, or a component of a pipeline.

    Attributes:
        name: ``""`` or, in a pipeline, the component, such as ``"unet"``.
        folder: the folder of its config and files.
        config: its config.json.
        files: the files of its weights.
        names: the common name of each tensor of a picture model's single file; otherwise empty.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    files: tuple[TensorFile, ...]
    names: Mapping[str, str] = MappingProxyType({})

    @property
    def architecture(self) -> str:
        """The class named by its config, or ``""``."""
        classes = self.config.get("architectures") or [self.config.get("_class_name")]
        return str(classes[0] or self.config.get("model_type") or "")

    def full(self, tensor: str) -> str:
        """Return a tensor's name, prefixed with the component, or its common name."""
        return f"{self.name}/{tensor}" if self.name else self.names.get(tensor, tensor)


@dataclass(frozen=True)
class Checkpoint:
    """A model in safetensors: a transformers or diffusers folder, or a single file.

    Its flat vector is the concatenation of all tensors that can be merged, sorted by component and
    by name, with numbers in numerical order (``layers.2`` before ``layers.10``) and the output head
    last, whatever their order in the files. Integer tensors and constants such as masks are
    *carried*: copied, never merged. Floating-point buffers such as BatchNorm statistics are merged,
    but no part of the vector. A head that shares its weights with the embedding appears once, as
    the embedding.

    ::

        checkpoint = Checkpoint.open("my-model")
        checkpoint.layout.shapes           # tensor name → shape, in flat order
        checkpoint.array("model.norm.weight")

    Attributes:
        id: the path or hub id that was opened.
        path: the folder or file.
        kind: ``"transformers"``, ``"diffusers"`` (a pipeline) or ``"file"``.
        parts: the models whose tensors form the flat vector.
        source: the folder or file with the pickles that ``path`` was converted from, or ``None``.
        known: what a module says of the tensors; ``None`` if no buffers are merged, as version 0.1
            did.
        adapters: what is added to the tensors of the files.
        changes: what that changes.
        merged_parts: parts that are merged of a picture model's single file.
        mapped: whether it has only the tensors that stand for some of another checkpoint, by their
            names there (see ``name_map``).
    """

    id: str
    path: Path
    kind: Kind
    parts: tuple[Part, ...]
    source: Path | None = None
    known: Known | None = NOTHING_KNOWN
    adapters: tuple[Adapter, ...] = ()
    changes: Changes = field(default_factory=Changes)
    merged_parts: tuple[str, ...] = MERGED_PARTS
    mapped: bool = False

    @classmethod
    def open(
        cls,
        source: str | Path,
        components: Sequence[str] | None = None,
        progress: Progress = no_progress,
        variant: str | None = None,
    ) -> Checkpoint:
        """Open a checkpoint by its headers; weights stay on the disk.

        Args:
            source: a folder, a file, or ``owner/name`` (``owner/name@revision``) on the Hugging
                Face hub, which is downloaded unless it is in the local cache. Pickles
                (``pytorch_model.bin``, ``.pt``, ``.ckpt``) are converted into safetensors once.
                Adapters such as LoRAs are added as ``BASE+ADAPTER`` or, with another strength,
                ``BASE+ADAPTER:0.8``; a folder with ``adapter_config.json`` finds its base itself.
            components: components of a diffusers pipeline to merge; by default the denoiser and
                the text encoders.
            progress: called with the number of bytes converted since the last call.
            variant: the variant of the files to read where it is there, such as ``"fp16"``.

        Raises:
            Problems: the checkpoint cannot be merged; all reasons at once.
        """
        problems = Collector()
        checkpoint = scan(source, components, problems, progress, variant=variant)
        problems.check()
        assert checkpoint is not None  # otherwise there were problems
        return checkpoint

    @cached_property
    def _locations(self) -> dict[str, tuple[Part, TensorFile, str]]:
        return {
            part.full(name): (part, file, name)
            for part in self.parts
            for file in part.files
            for name in file.entries
        }

    @cached_property
    def tied(self) -> dict[str, str]:
        """Heads stored although they are tied to the embedding: name → embedding's name."""
        found = {}
        for part in self.parts:
            if part.config.get("tie_word_embeddings") is not True:
                continue
            names = [part.full(name) for file in part.files for name in file.entries]
            tables = [name for name in names if EMBEDDINGS.search(name)]
            for name in filter(HEADS.search, names):
                shapes = {self.entry(table).shape: table for table in reversed(tables)}
                if self.entry(name).shape in shapes:
                    found[name] = shapes[self.entry(name).shape]
        return found

    @property
    def is_bare(self) -> bool:
        """Whether it is a denoiser's single file without a prefix."""
        return any(
            full == PREFIX + name for part in self.parts for name, full in part.names.items()
        )

    @property
    def names(self) -> Iterable[str]:
        """Names of all tensors."""
        return self._locations

    @property
    def components(self) -> tuple[str, ...] | None:
        """The components that are merged, of pipelines and where they were chosen for a file."""
        if self.kind == "diffusers":
            return tuple(part.name for part in self.parts)
        if self.merged_parts == MERGED_PARTS:
            return None
        names = {part: name for name, part in reversed(PARTS_OF_COMPONENTS.items())}
        return tuple(names[part] for part in self.merged_parts)

    @cached_property
    def scaled(self) -> dict[str, str]:
        """Weights in 8-bit floats that have scales: name → name of the scale."""
        return {
            part.full(name): part.full(scale)
            for part in self.parts
            for file in part.files
            for name, scale in scales(file.entries).items()
        }

    @cached_property
    def beside_scaled(self) -> dict[str, str]:
        """Scales, and what else is there for such weights alone: name → name of a weight."""
        return beside_scales(self._locations, self.scaled) if self.scaled else {}

    @property
    def is_picture_file(self) -> bool:
        """Whether it is a single file of a picture model."""
        return any(part.names for part in self.parts)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Second names of tensors that the module has once: name → first name.

        They are saved as the tensor of the first name, so that files load strictly.
        """
        ties, found = (self.known or NOTHING_KNOWN).ties, {}
        for name, (part, _, inside) in self._locations.items():
            first = part.full(ties.get(inside, inside))
            if first == name or first not in self._locations or self.tied.keys() & {name, first}:
                continue
            mine, its = self.entry(name), self.entry(first)
            alike = (mine.dtype, mine.shape) == (its.dtype, its.shape)
            if alike and mine.dtype in DTYPES and mine.size and not _is_constant(first, its):
                found[name] = first
        return found

    @cached_property
    def merged(self) -> tuple[str, ...]:
        """Names of the tensors of the flat vector, in order."""
        buffers = set(self.buffers)
        return tuple(name for name in self._floats if name not in buffers)

    @cached_property
    def buffers(self) -> tuple[str, ...]:
        """Names of the buffers that are merged, in the order of the vector."""
        if self.known is None:
            return ()
        return tuple(name for name in self._floats if self._is_buffer(name))

    @cached_property
    def used_knowledge(self) -> Known | None:
        """What is known of the tensors as far as it matters, in a form to be recorded."""
        if self.known is None:
            return None
        own = (self._locations[name][2] for name in self.buffers if not self._is_torchs(name))
        inside = {name: self._locations[name][2] for name in (*self.aliases, *self._floats)}
        ties = {inside[name]: inside[first] for name, first in self.aliases.items()}
        return Known(frozenset(own), ties)

    def _is_buffer(self, name: str) -> bool:
        known = (self.known or NOTHING_KNOWN).buffers
        return self._locations[name][2] in known or self._is_torchs(name)

    def _is_torchs(self, name: str) -> bool:
        """Return whether a tensor is a buffer of torch's own modules, by its name."""
        spectral = SPECTRAL_NORM.match(name)
        old = spectral is not None and f"{spectral[1]}_orig" in self._locations
        return old or BUFFERS.search(name) is not None

    @cached_property
    def _floats(self) -> tuple[str, ...]:
        """Names of the tensors that are merged, as weights or as buffers, in order."""
        found = [
            name
            for name in self._locations
            if self.entry(name).dtype in DTYPES
            and self.entry(name).size
            and not _is_constant(name, self.entry(name))
            and name not in self.tied
            and name not in self.aliases
            and name not in self.beside_scaled
            and not (self.is_picture_file and part_of(name) not in self.merged_parts)
        ]
        if self.known is None:
            found = [name for name in found if not STATISTICS.search(name)]
        return tuple(sorted(found, key=sort_key))

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """Names of the tensors that are copied, not merged."""
        merged = {*self._floats, *self.tied, *self.aliases, *self.beside_scaled}
        return tuple(name for name in self._locations if name not in merged)

    @cached_property
    def layout(self) -> Layout:
        """Names and shapes along the flat vector."""
        return Layout({name: self.entry(name).shape for name in self.merged})

    @property
    def licence(self) -> str | None:
        """The licence stated in its model card, or ``None``."""
        return stated_licence(self.path if self.path.is_dir() else self.path.parent)

    def entry(self, name: str) -> Entry:
        """Return dtype, shape and position of a tensor."""
        _, file, inside = self._locations[name]
        return file.entries[inside]

    def has_broken_positions(self, name: str) -> bool:
        """Return whether a tensor holds position ids as floats, as merging programs leave them."""
        entry = self.entry(name)
        return name.endswith("position_ids") and entry.dtype in DTYPES and entry.shape[:-1] == (1,)

    def file(self, name: str) -> Path:
        """Return the file that holds a tensor."""
        return self._locations[name][1].path

    def array(self, name: str) -> Array:
        """Return a tensor of the flat vector as a flat, read-only view into its mapped file.

        Of weights with scales, and of those that adapters change, the values are computed for those
        elements that are read.
        """
        _, file, inside = self._locations[name]
        values = file.array(inside)
        if name in self.scaled:
            _, where, scale = self._locations[self.scaled[name]]
            values = cast("Array", Scaled(values, where.array(scale)))
        changes = self.changes.tensors.get(name)
        return cast("Array", AdaptedTensor(values, changes)) if changes else values

    @property
    def base(self) -> Checkpoint:
        """The same checkpoint without adapters."""
        return replace(self, adapters=(), changes=Changes())

    def stored(self, name: str) -> Array:
        """Return a tensor as ``array`` does, but read when it is sliced (see ``Stored``)."""
        _, file, inside = self._locations[name]
        values = cast("Array", file.stored(inside))
        if name in self.scaled:
            _, where, scale = self._locations[self.scaled[name]]
            values = cast("Array", Scaled(values, where.stored(scale)[:]))
        changes = self.changes.tensors.get(name)
        return cast("Array", AdaptedTensor(values, changes)) if changes else values

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> memoryview:
        """Return bytes ``start..stop`` of any tensor, by default all.

        Raises:
            Problems: its file has changed or cannot be read.
        """
        _, file, inside = self._locations[name]
        return file.raw(inside, start, stop)

    @property
    def files(self) -> tuple[TensorFile, ...]:
        """The files of all parts."""
        return tuple(file for part in self.parts for file in part.files)

    def relative(self, path: Path) -> str:
        """Return a file's path relative to the checkpoint."""
        return path.name if path == self.path else path.relative_to(self.path).as_posix()


def sort_key(name: str) -> tuple[Any, ...]:
    """Return the sorting key of a tensor: by component, heads last, numbers by their value."""
    component, _, rest = name.rpartition("/")
    pieces = re.split(r"(\d+)", rest)
    numbers = [(1, int(piece), piece) if piece.isdecimal() else (0, 0, piece) for piece in pieces]
    return component, bool(HEADS.search(name)), numbers, name


def _is_constant(name: str, entry: Entry) -> bool:
    return bool(CONSTANTS.search(name) or (len(entry.shape) == 4 and CAUSAL_MASKS.search(name)))


def scan(
    source: str | Path | Source,
    components: Sequence[str] | None,
    problems: Collector,
    progress: Progress = no_progress,
    known: Known | None = NOTHING_KNOWN,
    variant: str | None = None,
) -> Checkpoint | None:
    """Open a checkpoint and collect every problem; return ``None`` if nothing could be opened."""
    if not isinstance(source, Source):
        # Text stays as it is written: a path would lose the ./ of ./a.
        text = source if isinstance(source, str) else str(file_path("A checkpoint", source))
        source = Source.parse(text)
    path = Path(source.base)
    try:
        if not path.exists():
            path = from_hub(source.base, variant)
        if folder := adapter_folder(path):
            own = Source(base_of(folder), ((source.base, 1.0), *source.adapters))
            return scan(own, components, problems, progress, known, variant)
        given, path = path, as_safetensors(path, progress)
        if path.is_file() and (refused := unsupported_format(path)):
            problems.add(refused)
            return None
        kind, parts = _open_parts(path, components, problems, variant)
    except Problems as wrong:
        problems.extend(wrong.problems)
        return None
    except OSError as error:
        problems.add(unreadable(path, error))
        return None
    for part in parts:
        if not part.config and is_adapter(each for f in part.files for each in f.entries.items()):
            problems.extend(_without_base(file) for file in part.files)
            return None
        find_unmergeable(part.folder, part.config, part.files, problems)
    if not any(part.files for part in parts):
        return None
    source_of = None if path == given else given
    merged: tuple[str, ...] = MERGED_PARTS
    if components and any(part.names for part in parts):
        chosen = (PARTS_OF_COMPONENTS.get(name, "") for name in _listed(components))
        merged = tuple(dict.fromkeys(filter(None, chosen)))
    found = Checkpoint(source.base, path, kind, parts, source_of, known, merged_parts=merged)
    return with_adapters(found, source, problems, progress)


def with_adapters(
    base: Checkpoint, source: Source, problems: Collector, progress: Progress
) -> Checkpoint:
    """Return a checkpoint with the adapters of its source, if any; add what is wrong."""
    if not source.adapters:
        return base
    opened = [open_adapter(id, strength, problems, progress) for id, strength in source.adapters]
    adapters = tuple(adapter for adapter in opened if adapter is not None)
    changes = changes_of(
        adapters,
        source.base,
        {name: base.entry(name) for name in base.merged},
        base.array,
        problems,
        is_picture=base.kind == "diffusers" or base.is_picture_file,
        is_conv1d=base.parts[0].config.get("model_type") in CONV1D_MODELS,
        is_tied=base.kind == "transformers" and _has_tied_head(base),
    )
    notes = [note for adapter in adapters for note in _other_texts(base, adapter)]
    changes = replace(changes, notes=(*changes.notes, *notes))
    return replace(base, id=str(source), adapters=adapters, changes=changes)


def _has_tied_head(base: Checkpoint) -> bool:
    """Return whether a model that writes texts has no head but its embedding."""
    part = base.parts[0]
    writes = part.architecture.endswith(("LMHeadModel", "ForCausalLM", "ForConditionalGeneration"))
    return writes and not any(is_head(name.removesuffix(".weight")) for name in base.merged)


def _other_texts(base: Checkpoint, adapter: Adapter) -> Iterator[str]:
    """Yield remarks on a tokenizer or chat template beside an adapter that is not the base's."""
    if base.kind != "transformers" or adapter.config_file is None:
        return
    for name in ("tokenizer.json", "tokenizer.model", "chat_template.jinja"):
        own, its = (folder / name for folder in (base.path, adapter.folder))
        if its.is_file() and not (own.is_file() and own.read_bytes() == its.read_bytes()):
            yield f"{adapter.id} has another {name} than its base, whose files the result keeps."


def _without_base(adapter: TensorFile) -> Problem:
    place = adapter.path
    return Problem(
        file=str(place),
        tensor=next(iter(adapter.entries)),
        expected="a whole model",
        found="an adapter such as a LoRA, which is only a difference to one",
        fix=f"add it to its base as BASE+{place}, or as BASE+{place}:0.8 with another strength",
    )


def _listed(components: Sequence[str]) -> Sequence[str]:
    return [components] if isinstance(components, str) else components


def _open_parts(
    path: Path, components: Sequence[str] | None, problems: Collector, variant: str | None
) -> tuple[Kind, tuple[Part, ...]]:
    chosen = None if components is None else _listed(components)
    if path.is_file():
        files = read_headers([path], problems)
        names = common_names(name for file in files for name in file.entries)
        if files:
            _require(path, chosen, list(PARTS_OF_COMPONENTS) if names else [], problems)
        return "file", (Part("", path.parent, {}, files, names),)
    index = read_json(path / "model_index.json", problems)
    known = [name for name in index if not name.startswith("_") and (path / name).is_dir()]
    known = known or _component_folders(path)
    if not known and not index:
        # The folder of one component is that component where only one is merged.
        part = _open_part("", path, problems, variant)
        if chosen and len(set(chosen)) == 1 and "_class_name" in part.config:
            return "diffusers", (part._replace(name=chosen[0]),)
        if not part.config:
            names = common_names(name for file in part.files for name in file.entries)
            part = part._replace(names=names)
        _require(path, chosen, list(PARTS_OF_COMPONENTS) if part.names else known, problems)
        return ("transformers" if part.config else "file"), (part,)
    _require(path, chosen, known, problems)
    chosen = chosen or [name for name in known if MERGED_COMPONENTS.fullmatch(name)]
    if not chosen:
        problems.add(_nothing_chosen(path, known))
    return "diffusers", tuple(
        _open_part(name, path / name, problems, variant)
        for name in sorted(set(chosen))
        if name in known
    )


def _require(
    path: Path, chosen: Sequence[str] | None, known: Sequence[str], problems: Collector
) -> None:
    """Report chosen components that a checkpoint does not have."""
    for name in chosen or ():
        if name not in known:
            problems.add(
                Problem(
                    file=str(path),
                    expected=f"a component {name!r}",
                    found=f"only {', '.join(known)}" if known else "none",
                    fix="choose among these" if known else "leave components out",
                )
            )


def _component_folders(path: Path) -> list[str]:
    """Return the components of a repository that has no model_index.json and no model beside them.

    Fine-tuned denoisers are published so: a folder ``unet`` and nothing else.
    """
    if any(path.glob("*.safetensors")) or (path / "config.json").exists():
        return []
    found = sorted(folder for folder in path.iterdir() if (folder / "config.json").is_file())
    return [folder.name for folder in found if MERGED_COMPONENTS.fullmatch(folder.name)]


def _nothing_chosen(path: Path, known: Sequence[str]) -> Problem:
    return Problem(
        file=str(path),
        expected="a denoiser or a text encoder",
        found=f"only {', '.join(known)}" if known else "no component",
        fix="choose components" if known else "download or copy it again",
    )


def _open_part(name: str, folder: Path, problems: Collector, variant: str | None) -> Part:
    config = read_json(folder / "config.json", problems)
    return Part(name, folder, config, weight_files(folder, problems, variant))
