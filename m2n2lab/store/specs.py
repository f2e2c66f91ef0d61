"""Specs: descriptions of a run's task and space as plain values, and how they are made again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2n2lab.checkpoint import CheckpointSpace
from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.core.methods.registry import METHODS, make_evolver
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.space import DenseSpace, Space, Vector
from m2n2lab.core.task import Task
from m2n2lab.store.codec import pack_genome
from m2n2lab.store.schema import StoreError
from m2n2lab.tasks.registry import make_again
from m2n2lab.utils.errors import InputError

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver


@dataclass(frozen=True)
class Seed:
    """A model that the space was made from.

    Attributes:
        name: the path or hub id of a checkpoint; the name of a vector, or ``seed k``.
        sha256: of the checkpoint's weights, or of the vector.
        genome: the vector as ``pack_genome`` packs it; ``None`` for checkpoints.
    """

    name: str
    sha256: str
    genome: bytes | None = None


def describe_task(task: Task) -> dict[str, Any]:
    """Return a description of a task, and its origin if that is known."""
    return {
        "name": task.name,
        "points": task.points,
        "graded": task.graded,
        "top": task.top,
        "identity": task.identity(),
        "origin": task.origin,
    }


def describe_space(space: Space) -> tuple[dict[str, Any], list[Seed]]:
    """Return a description of a space, and its seeds.

    Raises:
        InputError: the genomes of a custom space are neither vectors nor recipes, or a checkpoint
            cannot be read.
    """
    if isinstance(space, CheckpointSpace):
        first: Recipe = space.seeds[0]
        record = space.record(first).to_json()
        seeds = [Seed(seed["id"], seed["sha256"]) for seed in record["seeds"]]
        return {
            "kind": "checkpoint",
            "size": space.size,
            "module": space.given_module,
            "granularity": space.granularity,
            "device": space.device,
            **{key: record[key] for key in ("components", "dtype", "vocab", "tokenizer")},
        }, seeds
    packed = [pack_genome(seed) for seed in space.seeds]
    names = getattr(space, "names", ()) or [f"seed {k}" for k in range(len(packed))]
    seeds = [
        Seed(names[k], hashlib.sha256(genome[1:]).hexdigest(), genome)
        for k, genome in enumerate(packed)
    ]
    module = getattr(space, "module", None)
    return {
        "kind": "dense" if type(space) is DenseSpace else "own",
        "size": space.size,
        "module": module is not None,
        "layout": {name: list(shape) for name, shape in space.layout.shapes.items()},
        "device": str(getattr(space, "device", "cpu")),
        "dtype": str(getattr(space, "dtype", "float32")),
    }, seeds


def restore_task(recorded: dict[str, Any], task: Task | None) -> Task:
    """Return the task of a run: ``task``, or the recorded one made again.

    Raises:
        StoreError: it cannot be made again, or ``task`` is another one.
    """
    if task is None:
        try:
            task = make_again(recorded["origin"])
        except InputError as error:
            raise StoreError(str(error)) from error
    if task.identity() != recorded["identity"]:
        raise StoreError(
            f"The task must be the run's {recorded['name']!r} with {recorded['points']} data "
            f"points, got {task.name!r} with {task.points} or with other data; give the recorded "
            f"task."
        )
    return task


def restore_space(
    recorded: dict[str, Any],
    seeds: Sequence[Seed],
    vectors: Sequence[Vector | None],
    given: Sequence[Any] | NDArray[Any] | Space | None,
    task: Task,
) -> Space:
    """Return the space of a run, made from the seeds that are given or recorded.

    Args:
        recorded: the description from ``describe_space``.
        seeds: the recorded seeds.
        vectors: (K,) their vectors, for dense models.
        given: seeds or a space; ``None`` to make it again.
        task: the task that scores its models.

    Raises:
        StoreError: it cannot be made again, or the given seeds are others.
    """
    if given is not None:
        space = given if isinstance(given, Space) else task.space(given)
    elif recorded["module"] or recorded["kind"] == "own":
        raise StoreError(
            "The run's models are torch modules or of a custom space, whose code is not in the "
            "store; give the seeds as seeds=."
        )
    elif recorded["kind"] == "checkpoint":
        space = CheckpointSpace(
            *(_path_or_id(seed.name) for seed in seeds),
            components=recorded["components"],
            granularity=recorded["granularity"],
            dtype=TORCH_NAMES.get(recorded["dtype"] or ""),
            vocab=recorded["vocab"],
            tokenizer=recorded["tokenizer"],
            device=recorded["device"],
        )
    else:
        layout = Layout(recorded["layout"])
        values = [vector.values for vector in vectors if vector is not None]
        dense = DenseSpace(values, layout, recorded["device"], recorded["dtype"])
        dense.names = tuple(seed.name for seed in seeds)
        space = dense
    _, found = describe_space(space)
    for expected, seed in zip(seeds, found, strict=False):
        if expected.sha256 != seed.sha256:
            raise StoreError(
                f"The run's {expected.name} must have SHA-256 {expected.sha256:.12}…, got "
                f"{seed.sha256:.12}…; give the recorded seeds."
            )
    if len(seeds) != len(found) or space.size != recorded["size"]:
        raise StoreError(
            f"The run must have {len(seeds)} seeds of {recorded['size']:,} parameters, got "
            f"{len(found)} of {space.size:,}; give the recorded seeds."
        )
    return space


def _path_or_id(name: str) -> str:
    """Return the source of a checkpoint, in the system's spelling if it is a path."""
    return str(Path(name)) if Path(name).exists() else name


def restore_evolver(
    method: str,
    options: dict[str, Any],
    task: Task,
    space: Space,
    known: NDArray[np.float64],
    kind: type[Evolver],
) -> Evolver:
    """Return a new evolver whose seeds are not evaluated but have the scores ``known`` (K, D)."""
    if method in METHODS:
        return make_evolver(method, task, space, known=known, **options)
    if kind.method != method:
        raise StoreError(
            f"The class of evolvers must have the run's method {method!r}, got {kind.method!r}; "
            f"resume it with kind=, the class that made it."
        )
    return kind(task, space, known=known, **options)
