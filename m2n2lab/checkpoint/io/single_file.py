"""Single files beside folders of pipelines: read in place as the components that are merged.

Names, fused tensors and forms are those of ``picture_layouts``: the tensors that a folder has are
found in the file, and nothing is converted or copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from m2n2lab.checkpoint.io.adapters.source import Source
from m2n2lab.checkpoint.io.checkpoint import Checkpoint, Known, Part
from m2n2lab.checkpoint.io.dtypes import DTYPES
from m2n2lab.checkpoint.io.folder import find_unmergeable, read_headers, read_json
from m2n2lab.checkpoint.io.picture_layouts import (
    FAMILIES,
    Form,
    family_of_file,
    family_of_pipeline,
    layout,
)
from m2n2lab.checkpoint.io.problems import Collector, Problem
from m2n2lab.checkpoint.io.scales import scales
from m2n2lab.checkpoint.io.single_file_names import common_name, common_names
from m2n2lab.checkpoint.io.tensor_file import DTYPE_BITS, Entry, TensorFile
from m2n2lab.utils.arrays import Array

SUFFIXES = (".safetensors", ".sft")


@dataclass(frozen=True)
class MappedFile(TensorFile):
    """A single file whose tensors are those of a component, as parts of its own.

    Attributes:
        forms: tensors that the file has in another form.
    """

    forms: Mapping[str, Form] = field(default_factory=dict)

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> memoryview:
        """Return a tensor's bytes; those in another form are small, and arranged in memory."""
        form, entry = self.forms.get(name), self.entries[name]
        if form is None or not entry.size:
            return super().raw(name, start, stop)
        return self._arranged(super().raw(name), form, entry)[start:stop]

    def _arranged(self, raw: memoryview, form: Form, entry: Entry) -> memoryview:
        if form == "halves swapped":
            half = len(raw) // 2
            return memoryview(bytes(raw[half:]) + bytes(raw[:half]))
        bits = np.frombuffer(raw, f"V{DTYPE_BITS[entry.dtype] // 8}").reshape(entry.shape[::-1])
        return memoryview(bits.T.tobytes())

    def array(self, name: str) -> Array:
        """Return a tensor of one of ``DTYPES`` as a flat, read-only array."""
        if name not in self.forms:
            return super().array(name)
        return np.frombuffer(self.raw(name), DTYPES[self.entries[name].dtype])


def is_single_file(source: str | Path) -> bool:
    """Return whether a source is a safetensors file, perhaps with adapters."""
    base = Path(Source.parse(source).base)
    return base.suffix in SUFFIXES and base.is_file()


def open_as_components(
    source: str | Path, like: Checkpoint, problems: Collector, known: Known | None
) -> Checkpoint | None:
    """Open a single file as the components of a pipeline that are merged.

    Args:
        source: the file.
        like: the pipeline.
        problems: what is wrong is added to it.
        known: as for ``scan``.
    """
    path = Path(source)
    files = read_headers([path], problems)
    if not files:
        return None
    own = files[0]
    find_unmergeable(path.parent, {}, files, problems)
    names = common_names(own.entries)
    family = family_of_file({full: own.entries[name].shape for name, full in names.items()})
    expected = _family_of(like)
    if family is None or (expected is not None and family != expected):
        wanted = FAMILIES[expected].title if expected else "a known family"
        problems.add(
            Problem(
                file=str(source),
                expected=f"a single file of {wanted}, as {like.id} is",
                found=f"one of {FAMILIES[family].title}" if family else "one of no known layout",
                fix="merge models of one architecture, or folders with folders",
            )
        )
        return None
    if scales(own.entries):
        problems.add(
            Problem(
                file=str(source),
                expected="weights without scales beside folders",
                found="8-bit floats with scales",
                fix=f"make it a folder: m2n2lab convert {source} -o FOLDER --config {like.id}",
            )
        )
        return None
    found = [(each.name, _part(own, names, family, each)) for each in like.parts]
    parts = [part for _, part in found if part is not None]
    if lost := [name for name, part in found if part is None]:
        there = ", ".join(part.name for part in parts)
        problems.add(
            Problem(
                file=str(source),
                expected=f"{', '.join(lost)}, as {like.id} has",
                found=f"only {there}" if there else "none",
                fix=f"choose components that all have (--component {there or 'unet'})",
            )
        )
        return None
    return Checkpoint(str(source), path, "diffusers", tuple(parts), None, known) if parts else None


def _part(
    file: TensorFile,
    names: Mapping[str, str],
    family: str,
    like: Part,
) -> Part | None:
    """Return a component of a file with the names that a folder's has; ``None`` if it has none."""
    shapes = {n: entry.shape for each in like.files for n, entry in each.entries.items()}
    inside = {full: name for name, full in names.items()}
    entries, forms = {}, {}
    for full, held in layout(family, {like.name: shapes}).held.items():
        entry = file.entries.get(inside.get(common_name(full), ""))
        if entry is None or not entry.shape:
            continue
        start, rows = entry.start, entry.bytes // max(entry.shape[0], 1)
        for _, name, form in held.tensors:
            alone = len(held.tensors) == 1
            count = entry.shape[0] if alone else shapes[name][0]
            # Of other widths than the folder's it is told, not read.
            shape = shapes[name] if entry.shape == held.shape else (count, *entry.shape[1:])
            stop = entry.stop if alone else start + count * rows
            entries[name] = Entry(entry.dtype, shape, start, stop)
            if form != "as it is":
                forms[name] = form
            start = stop
    if not entries:
        return None
    mapped = MappedFile(file.path, entries, file.metadata, file.source, forms)
    return Part(like.name, like.folder, like.config, (mapped,))


def _family_of(pipeline: Checkpoint) -> str | None:
    """Return the family of a whole pipeline; ``None`` of components alone."""
    if not (pipeline.path / "model_index.json").is_file():
        return None
    folders = (folder for folder in pipeline.path.iterdir() if folder.is_dir())
    return family_of_pipeline(
        {folder.name: read_json(folder / "config.json", Collector()) for folder in folders}
    )
