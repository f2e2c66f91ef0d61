"""What a run is about, in plain values, and the same task, space and evolver made of them."""

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
    """A model that the space was made of.

    Attributes:
        name: the path or hub id of a checkpoint; the name of a vector, or ``seed k``.
        sha256: of the checkpoint's weights, or of the vector.
        genome: the vector as ``pack_genome`` packs it; ``None`` of checkpoints.
    """

    name: str
    sha256: str
    genome: bytes | None = None


def task_words(task: Task) -> dict[str, Any]:
    """Return what a task is, and how it is made again where that is known."""
    return {
        "name": task.name,
        "points": task.points,
        "graded": task.graded,
        "top": task.top,
        "identity": task.identity(),
        "origin": task.origin,
    }


def space_words(space: Space) -> tuple[dict[str, Any], list[Seed]]:
    """Return what a space is, and its seeds.

    Raises:
        InputError: a space of one's own with other genomes than vectors or recipes, a checkpoint
            that cannot be read.
    """
    if isinstance(space, CheckpointSpace):
        first: Recipe = space.seeds[0]
        record = space.record(first).to_json()
        seeds = [Seed(told["id"], told["sha256"]) for told in record["seeds"]]
        about = {key: record[key] for key in ("components", "dtype", "vocab", "tokenizer")}
        given = space.given_module
        return {
            "kind": "checkpoint",
            "size": space.size,
            "module": given,
            "granularity": space.granularity,
            "device": space.device,
            **about,
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


def made_task(words: dict[str, Any], task: Task | None) -> Task:
    """Return the task of a run: ``task``, or the same one made again.

    Raises:
        StoreError: it cannot be made again, or another one came.
    """
    if task is None:
        try:
            task = make_again(words["origin"])
        except InputError as error:
            raise StoreError(str(error)) from error
    if task.identity() != words["identity"]:
        raise StoreError(
            f"The run's task is {words['name']!r} with {words['points']} data points, but another "
            f"one came ({task.name!r} with {task.points}, or other data); give the task that was "
            f"recorded."
        )
    return task


def made_space(
    words: dict[str, Any],
    seeds: Sequence[Seed],
    vectors: Sequence[Vector | None],
    given: Sequence[Any] | NDArray[Any] | Space | None,
    task: Task,
) -> Space:
    """Return the space of a run: made of the seeds that were given, or of those recorded.

    Args:
        words: as ``space_words`` has it.
        seeds: as recorded.
        vectors: (K,) the seeds' own, of dense models.
        given: seeds or a space; ``None`` to make it again.
        task: what scores its models.

    Raises:
        StoreError: it cannot be made again, or other seeds came.
    """
    if given is not None:
        space = given if isinstance(given, Space) else task.space(given)
    elif words["module"] or words["kind"] == "own":
        raise StoreError(
            "The run's models are torch modules or of a space of one's own, whose code is not in "
            "the store; give the seeds as seeds=."
        )
    elif words["kind"] == "checkpoint":
        space = CheckpointSpace(
            *(_place(seed.name) for seed in seeds),
            components=words["components"],
            granularity=words["granularity"],
            dtype=TORCH_NAMES.get(words["dtype"] or ""),
            vocab=words["vocab"],
            tokenizer=words["tokenizer"],
            device=words["device"],
        )
    else:
        layout = Layout(words["layout"])
        values = [vector.values for vector in vectors if vector is not None]
        dense = DenseSpace(values, layout, words["device"], words["dtype"])
        dense.names = tuple(seed.name for seed in seeds)
        space = dense
    _, found = space_words(space)
    for known, seed in zip(seeds, found, strict=False):
        if known.sha256 != seed.sha256:
            raise StoreError(
                f"The run's {known.name} has SHA-256 {known.sha256:.12}…, but the one that came "
                f"has {seed.sha256:.12}…; give the seeds as they were recorded."
            )
    if len(seeds) != len(found) or space.size != words["size"]:
        raise StoreError(
            f"The run has {len(seeds)} seeds of {words['size']:,} parameters, but {len(found)} of "
            f"{space.size:,} came; give the seeds as they were recorded."
        )
    return space


def _place(name: str) -> str:
    """Return where a checkpoint is: what was given, as a path where it is one."""
    return str(Path(name)) if Path(name).exists() else name


def made_evolver(
    method: str,
    options: dict[str, Any],
    task: Task,
    space: Space,
    known: NDArray[np.float64],
    kind: type[Evolver],
) -> Evolver:
    """Return a new evolver, its seeds not evaluated but scored as ``known`` (K, D)."""
    if method in METHODS:
        return make_evolver(method, task, space, known=known, **options)
    if kind.method != method:
        raise StoreError(
            f"The run is of method {method!r}, which is none of m2n2lab's; resume it with "
            f"its own class of evolvers."
        )
    return kind(task, space, known=known, **options)
