"""Archive file: an archive as one safetensors file, which NumPy and PyTorch open by themselves.

It holds tensors ``ids`` and ``born`` (P,), ``parents`` (P, 2) with −1 for none, ``fitness`` (P,),
``scores`` (P, D) and, for dense models, ``vectors`` (P, N); members oldest first. Modules with
buffers have them in ``merged`` (P, M) and ``carried`` (P, C) (see ``Buffers``). Its metadata has
one JSON object, ``m2n2lab``: method, task, step, and the layout, name → shape, along a vector.
For modules it also holds their class; for checkpoints the members' recipes instead of vectors, and
the ids of their seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from m2n2lab.core.evolver import Evolver, checked_evolver
from m2n2lab.core.spaces.buffers import Buffers
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.space import DenseSpace, Vector
from m2n2lab.utils.class_paths import class_path
from m2n2lab.utils.errors import InputError, file_path
from m2n2lab.utils.files import open_regular, write_atomically
from m2n2lab.utils.json_text import parse_json
from m2n2lab.utils.version import __version__

if TYPE_CHECKING:
    from torch import nn

FORMAT, VERSION = "m2n2lab archive", 1
NO_PARENT = -1

_DTYPES = {
    "ids": ("I64",),
    "born": ("I64",),
    "parents": ("I64",),
    "fitness": ("F64",),
    "scores": ("BOOL", "F64"),
    "vectors": ("F32", "F64"),
    "merged": ("F32", "F64"),
    "carried": ("U8",),
}
"""Tensors of the file, and the safetensors dtypes that each may have."""


@dataclass(frozen=True, eq=False)
class SavedArchive:
    """Members as they were exported, oldest first.

    Attributes:
        ids: (P,) their ids.
        born: (P,) steps at which they entered the archive; 0 for seeds.
        parents: (P,) ids of their parents.
        fitness: (P,) their fitness.
        scores: (P, D) their scores.
        genomes: (P,) vectors (N,), recipes, or genomes of modules with buffers, which ``tell`` of
            an evolver in the same space takes.
        layout: names and shapes along a vector.
        about: method, task, step and maker, as plain values; for recipes also ``seeds``, and for
            modules the class of theirs, ``module``.
        modules: (P,) the models as modules, if one was given to load them into.
    """

    ids: NDArray[np.int64]
    born: NDArray[np.int64]
    parents: tuple[tuple[int, ...], ...]
    fitness: NDArray[np.float64]
    scores: NDArray[np.float64]
    genomes: list[Any]
    layout: Layout
    about: Mapping[str, Any]
    modules: list[nn.Module] | None = None

    @property
    def models(self) -> list[Any]:
        """(P,) models, which ``Evolver`` takes as seeds: modules, vectors (N,), or recipes.

        Raises:
            InputError: they are modules, but none was given to load them into.
        """
        if self.modules is not None:
            return self.modules
        if "module" in self.about:
            raise InputError(
                f"The models of this archive are modules of class {self.about['module']}, got no "
                f"module to load them into; give one of that class, "
                f"load_archive(path, module=…), or use genomes."
            )
        return self.genomes


def archive_bytes(evolver: Evolver) -> bytes:
    """Return the current archive as the bytes of a safetensors file.

    The search may go on meanwhile in another thread: the file is a consistent snapshot.

    Raises:
        InputError: the models of a custom space are neither vectors nor recipes.
    """
    evolver = checked_evolver(evolver)
    step, now, space = evolver.generation, evolver.archive.population, evolver.space
    members, scores = now.members, now.scores[now.order]
    parents = [(*member.parents, NO_PARENT, NO_PARENT)[:2] for member in members]
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "maker": f"m2n2lab {__version__}",
        "method": evolver.method,
        "task": evolver.task.name,
        "step": step,
        "layout": space.layout.shapes,
    }
    tensors: dict[str, NDArray[Any]] = {
        "ids": np.array([member.id for member in members], np.int64),
        "born": np.array([member.born for member in members], np.int64),
        "parents": np.array(parents, np.int64),
        "fitness": now.standing.fitness,
        "scores": scores.astype(np.bool_) if np.isin(scores, (0.0, 1.0)).all() else scores,
    }
    module = getattr(space, "module", None)
    if module is not None:
        metadata["module"] = class_path(type(module))
    genomes = [member.genome for member in members]
    if all(isinstance(genome, Recipe) for genome in genomes):
        metadata["recipes"] = [genome.to_json() for genome in genomes]
        metadata["seeds"] = [seed.id for seed in space.plan.seeds] if hasattr(space, "plan") else []
    else:
        buffers = [genome.buffers for genome in genomes if getattr(genome, "buffers", None)]
        vectors = [
            genome.values if buffers else np.asarray(space.pack(genome)) for genome in genomes
        ]
        if any(v.shape != (space.size,) or v.dtype.kind != "f" for v in vectors):
            raise InputError(
                f"Exported models must be vectors or recipes, got models of a "
                f"{type(space).__name__}; save each with the space's own save."
            )
        tensors["vectors"] = np.array(vectors)
        if buffers:
            tensors["merged"] = np.array([each.merged for each in buffers])
            tensors["carried"] = np.array([each.carried for each in buffers])
    return safetensors.numpy.save(tensors, {"m2n2lab": json.dumps(metadata)})


def save_archive(evolver: Evolver, path: str | Path) -> None:
    """Write the current archive (see ``archive_bytes``), completely or not at all.

    Raises:
        InputError: the file cannot be written; an older file of that name is kept then.
    """
    write_atomically(path, archive_bytes(evolver))


def load_archive(path: str | Path, module: nn.Module | None = None) -> SavedArchive:
    """Read an archive that ``save_archive`` wrote.

    ::

        saved = m2n2lab.load_archive("archive.safetensors")
        evolver = m2n2lab.Evolver(task, saved.models, mutation=0.01, rng=1)

    Args:
        path: the file.
        module: a module of the search's architecture, if its models are modules; ``models`` are
            copies of it with the members' weights, to be scored by the same task.

    Raises:
        InputError: ``module`` has another architecture, or the file does not exist or holds no
            complete archive.
    """
    path = file_path("path", path)
    try:
        with open_regular(path):  # its error says why, which that of safetensors does not
            pass
        with safe_open(path, "numpy") as file:
            about = parse_json((file.metadata() or {}).get("m2n2lab", "null"))
            if not isinstance(about, dict) or about.get("format") != FORMAT:
                raise ValueError("a safetensors file of another format")
            if about.get("version") != VERSION:
                raise ValueError(f"an archive of version {about.get('version')!r}")
            names = set(file.keys())
            tensors = {name: _tensor(file, name) for name in _DTYPES if name in names}
        saved = _archive(about, tensors)
    except OSError as error:
        raise InputError(
            f"{path} could not be read: {error.strerror or error}; choose an exported file."
        ) from error
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        found = str(error)
        if isinstance(error, SafetensorError):
            found = f"a damaged or incomplete file ({error})"
        elif isinstance(error, KeyError):
            found = f"an archive without {error.args[0]}"
        raise InputError(
            f"{path} must be an archive exported by m2n2lab {__version__}, got {found}; "
            f"export it again."
        ) from error
    return saved if module is None else replace(saved, modules=_modules(saved, module))


def _modules(saved: SavedArchive, module: nn.Module) -> list[nn.Module]:
    """Return copies of a module with the weights of each saved model.

    Raises:
        InputError: it has another architecture.
    """
    space = DenseSpace([*saved.genomes, *saved.genomes], module=module)  # also of one member
    if len(saved.layout.shapes) > 1 and saved.layout.shapes != space.layout.shapes:
        raise InputError(
            f"module must have the tensors of the archive's models "
            f"({', '.join(saved.layout.shapes)}), got "
            f"{', '.join(space.layout.shapes)}; give a module of the search's architecture."
        )
    return [space.model(genome) for genome in space.seeds[: len(saved.genomes)]]


def _tensor(file: Any, name: str) -> NDArray[Any]:
    """Return one of the tensors in ``_DTYPES``."""
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES[name]:
        raise ValueError(f"an archive with {name} of dtype {dtype}")
    tensor: NDArray[Any] = file.get_tensor(name)
    return tensor


def _archive(about: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> SavedArchive:
    """Return an archive whose parts fit together.

    Raises:
        ValueError: they do not; the message names what was found instead.
    """
    layout = _layout(about.pop("layout", None))
    count = len(tensors["ids"]) if tensors["ids"].ndim == 1 else 0
    shapes = {"ids": (), "born": (), "parents": (2,), "fitness": (), "vectors": (layout.size,)}
    for name, tensor in tensors.items():
        rest = shapes.get(name, tensor.shape[-1:])
        if count == 0 or tensor.shape != (count, *rest):
            raise ValueError(f"an archive with {name} of shape {tensor.shape}")
    recipes = about.pop("recipes", None)
    if not isinstance(about.get("module", ""), str):
        raise ValueError("an archive whose class of modules is no text")
    models: list[Any]
    if recipes is None:
        models = list(tensors["vectors"])
        if "merged" in tensors:
            rows = zip(models, tensors["merged"], tensors["carried"], strict=True)
            models = [Vector(values, Buffers(*found)) for values, *found in rows]
    else:
        models = _recipes(recipes)
        if len(models) != count or any(recipe.size != layout.size for recipe in models):
            raise ValueError(f"an archive with recipes of other models ({len(models)})")
    return SavedArchive(
        ids=tensors["ids"],
        born=tensors["born"],
        parents=tuple(
            tuple(id for id in pair if id != NO_PARENT) for pair in tensors["parents"].tolist()
        ),
        fitness=tensors["fitness"],
        scores=tensors["scores"].astype(np.float64),
        genomes=models,
        layout=layout,
        about=about,
    )


def _recipes(values: Any) -> list[Recipe]:
    try:
        return [Recipe.from_json(value) for value in (values if isinstance(values, list) else [])]
    except InputError:
        raise ValueError("an archive with an invalid recipe") from None


def _layout(shapes: Any) -> Layout:
    def is_shape(value: Any) -> bool:
        return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)

    if not isinstance(shapes, dict) or not all(map(is_shape, shapes.values())):
        raise ValueError("an archive whose layout has no shapes")
    return Layout(shapes)
