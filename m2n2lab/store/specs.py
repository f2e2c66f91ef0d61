"""Specs: a run's task, space and evolver as plain values, and how they are made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.checkpoint import CheckpointSpace
from m2n2lab.checkpoint.from_record import NOT_MOVED, moved_seeds
from m2n2lab.checkpoint.io.dtypes import TORCH_NAMES
from m2n2lab.core.arguments import checked_task
from m2n2lab.core.evolver import Evolver
from m2n2lab.core.methods.registry import METHODS, make_evolver, options_of
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.core.spaces.space import DenseSpace, Space, Vector
from m2n2lab.core.task import Task
from m2n2lab.store.codec import FLOAT_DTYPES, MODULE, pack_genome
from m2n2lab.store.schema import StoreError
from m2n2lab.tasks.registry import make_again
from m2n2lab.utils.class_paths import (
    class_name,
    class_path,
    constructor,
    is_custom,
    loaded_class,
    missing_class,
)
from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.plain_values import plain_value, plain_values

DENSE, CHECKPOINT = class_path(DenseSpace), class_path(CheckpointSpace)

MERGE_OPTIONS = (
    *("components", "dtype", "granularity", "map", "pictures", "tokenizer", "variant", "vocab"),
)
"""Fields of a space's description that decide what a merge is."""

OF_SEEDS = ("known", "device")
"""Options of evolvers that the space or the recorded scores of the seeds stand for."""


_DENSE_FIELDS: dict[str, Any] = {"layout": dict, "device": str, "dtype": str}
_CHECKPOINT_FIELDS: dict[str, Any] = {
    "granularity": str,
    "device": str,
    **dict.fromkeys(("components", "dtype", "vocab", "tokenizer"), object),
}


def read_task(text: str) -> dict[str, Any]:
    """Return the description that ``describe_task`` made, from its JSON.

    Raises:
        ValueError: it is no such thing.
    """
    return _with_fields(json.loads(text), {"name": str, "points": int, "identity": object})


def read_space(text: str) -> dict[str, Any]:
    """Return the description that ``describe_space`` made, from its JSON.

    Raises:
        ValueError: it is no such thing.
    """
    space = _with_fields(json.loads(text), {"kind": str, "size": int, "module": bool})
    own = _CHECKPOINT_FIELDS if space["kind"] == "checkpoint" else _DENSE_FIELDS
    return _with_fields(space, own)


def _with_fields(value: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object that has fields of these types.

    Raises:
        ValueError: it is no object, or lacks one.
    """
    if not isinstance(value, dict):
        raise ValueError("no object")
    for name, kind in fields.items():
        if name not in value or not isinstance(value[name], kind):
            raise ValueError(f"no {name}")
    return value


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
            "class": class_path(type(space)),
            "size": space.size,
            "module": space.given_module,
            "granularity": space.granularity,
            "device": space.device,
            **{key: record[key] for key in ("components", "dtype", "vocab", "tokenizer")},
            # Only where they are given, as in the record.
            **{
                key: record[key]
                for key in ("variant", "trust_remote_code", "map", "pictures")
                if key in record
            },
            **({} if space.recalibrated_on is None else {"recalibrate": space.recalibrated_on}),
        }, seeds
    packed = [pack_genome(seed) for seed in space.seeds]
    names = getattr(space, "names", ()) or [f"seed {k}" for k in range(len(packed))]
    seeds = [
        Seed(names[k], hashlib.sha256(genome[1:]).hexdigest(), genome)
        for k, genome in enumerate(packed)
    ]
    module, data = getattr(space, "module", None), getattr(space, "recalibrated_on", None)
    return {
        "kind": "dense" if type(space) is DenseSpace else "own",
        "class": class_path(type(space)),
        "size": space.size,
        "module": module is not None,
        "layout": {name: list(shape) for name, shape in space.layout.shapes.items()},
        "device": str(getattr(space, "device", "cpu")),
        "dtype": str(getattr(space, "dtype", "float32")),
        **({} if data is None else {"recalibrate": data}),
    }, seeds


class EvolverSpec(NamedTuple):
    """Description of an evolver.

    Attributes:
        method: its method.
        options: its options that are plain values.
        path: the path of its class; ``None`` in files of earlier versions.
        archive: the path of its archive's class; ``None`` likewise.
        missing: names of its other options.
    """

    method: str
    options: dict[str, Any]
    path: str | None
    archive: str | None
    missing: tuple[str, ...]

    @classmethod
    def of(cls, evolver: Evolver) -> EvolverSpec:
        """Return the description of an evolver."""
        options = plain_values(evolver.options)
        named = dict.fromkeys((*evolver.options, *options_of(type(evolver))))
        return cls(
            evolver.method,
            options,
            class_path(type(evolver)),
            class_path(type(evolver.archive)),
            tuple(name for name in named if name not in options and name not in OF_SEEDS),
        )

    def to_json(self) -> str:
        """Return options and classes as JSON."""
        classes = {"evolver": self.path, "archive": self.archive, "missing": self.missing}
        return json.dumps({**self.options, "class": classes})  # no option can have this name

    @classmethod
    def from_json(cls, method: str, text: str) -> EvolverSpec:
        """Return the description that ``to_json`` of this or an earlier version wrote.

        Raises:
            ValueError: it is no such thing.
        """
        fields = {"archive_size": int, "alpha": object, "capacity": object}
        options = _with_fields(json.loads(text), fields)
        found = options.pop("class", {})
        missing = tuple(found.get("missing", ()))
        return cls(method, options, found.get("evolver"), found.get("archive"), missing)


def restore_task(recorded: dict[str, Any], task: Task | None, batch: int | None = None) -> Task:
    """Return the task of a run: ``task``, or the recorded one made again.

    Args:
        recorded: the description from ``describe_task``.
        task: a task; ``None`` to make it again.
        batch: as for ``make_again``.

    Raises:
        StoreError: it cannot be made again, or ``task`` is another one.
    """
    if task is None:
        try:
            task = make_again(recorded["origin"], batch)
        except InputError as error:
            raise StoreError(str(error)) from error
    task = checked_task(task, None)
    if task.identity() != recorded["identity"]:
        raise StoreError(
            f"The task must be the run's {recorded['name']!r} with {recorded['points']} data "
            f"points, got {task.name!r} with {task.points} or with other data; give the recorded "
            f"task."
        )
    return task


# -- spaces ------------------------------------------------------------------------------------


def restore_space(
    recorded: dict[str, Any],
    seeds: Sequence[Seed],
    vectors: Sequence[Vector | None],
    given: Sequence[Any] | NDArray[Any] | Space | None,
    task: Task,
    moved: Mapping[str, str | Path] = NOT_MOVED,
    trusted: bool = False,
) -> Space:
    """Return the space of a run, made from the seeds that are given or recorded.

    Args:
        recorded: the description from ``describe_space``.
        seeds: the recorded seeds.
        vectors: (K,) their vectors, for dense models.
        given: seeds or a space; ``None`` to make it again.
        task: the task that scores its models.
        moved: the places of checkpoints that have moved, as for ``moved_seeds``.
        trusted: whether code that comes with checkpoints may be run.

    Raises:
        StoreError: it cannot be made again, or the given seeds or space are others.
    """
    if isinstance(given, Space):
        _check_class(recorded, given)
        space = given
    elif given is not None:
        path = _space_path(recorded)
        custom = path is None or is_custom(path)
        space = _made_again(recorded, given, trusted) if custom else task.space(given)
    elif recorded["module"]:
        raise StoreError(
            "The run's models are torch modules, which are not in the store; give the seeds as "
            "seeds=."
        )
    elif recorded["kind"] == "checkpoint":
        places = moved_seeds([_path_or_id(seed.name) for seed in seeds], moved)
        space = _made_again(recorded, places, trusted)
    else:
        values = [vector.values for vector in vectors if vector is not None]
        dense = _made_again(recorded, values, trusted)
        dense.names = tuple(seed.name for seed in seeds)
        space = dense
    described, found = describe_space(space)
    for before, seed in zip(seeds, found, strict=False):
        if before.sha256 != seed.sha256:
            if _lacks_buffers(before, seed):
                raise StoreError(
                    f"The run's models must have their buffers, such as BatchNorm statistics, but "
                    f"{before.name} was recorded without them by an earlier version, which "
                    f"scored all models with those of seed 0; start a new run."
                )
            raise StoreError(
                f"The run's {before.name} must have SHA-256 {before.sha256:.12}…, got "
                f"{seed.sha256:.12}…; give the recorded seeds."
            )
    if len(seeds) != len(found) or space.size != recorded["size"]:
        raise StoreError(
            f"The run must have {len(seeds)} seeds of {recorded['size']:,} parameters, got "
            f"{len(found)} of {space.size:,}; give the recorded seeds."
        )
    expected, got = (about.get("recalibrate") for about in (recorded, described))
    if expected != got:
        raise StoreError(
            f"The run's space must have recalibrate on {expected!s:.20}, got {got!s:.20}; give as "
            f"seeds= the space with the recorded data."
        )
    for name in MERGE_OPTIONS:
        if name in recorded and plain_value(described.get(name)) != recorded[name]:
            raise StoreError(
                f"The run's space must have {name}={recorded[name]!r}, got "
                f"{described.get(name)!r}; give a space with the recorded options."
            )
    return space


def _lacks_buffers(recorded: Seed, given: Seed) -> bool:
    """Return whether a seed is a vector where the given one has buffers."""
    tags = [seed.genome[:1] if seed.genome else b"" for seed in (recorded, given)]
    return tags[1] == MODULE and tags[0] in FLOAT_DTYPES


def _space_path(recorded: dict[str, Any]) -> str | None:
    """Return the path of a space's class; ``None`` for a custom one of an earlier version."""
    earlier = {"dense": DENSE, "checkpoint": CHECKPOINT}.get(recorded["kind"])
    path: str | None = recorded.get("class", earlier)
    return path


def _check_class(recorded: dict[str, Any], space: Space) -> None:
    """Check that a given space has the class of a run's space, or one that may be it.

    Raises:
        StoreError: it has another one.
    """
    path, given = _space_path(recorded), class_path(type(space))
    if path == given:
        return
    expected = None if path is None else _class_of(path)
    fits = is_custom(given) if expected is None else isinstance(space, expected)
    if not fits:
        name = "custom space" if path is None else class_name(path)
        raise StoreError(
            f"The run's space must be a {name}, got a {type(space).__name__}; give the space that "
            f"made the run as seeds=."
        )


def _made_again(
    recorded: dict[str, Any], models: Sequence[Any] | NDArray[Any], trusted: bool
) -> Any:
    """Return the space of these models, of the recorded class and options.

    Raises:
        StoreError: the class is not known, or its constructor takes other arguments.
    """
    path = _space_path(recorded)
    space_type = None if path is None else _class_of(path)
    if space_type is None:
        found, advice = ("a custom class", "") if path is None else missing_class(path)
        raise StoreError(
            f"The run's space must be given, because it is of {found}; {advice}give the space "
            f"itself, not a list, as seeds=."
        )
    base = CheckpointSpace if recorded["kind"] == "checkpoint" else DenseSpace
    needs_module = recorded["module"] and base is CheckpointSpace
    fits = issubclass(space_type, base) and constructor(space_type) is constructor(base)
    if needs_module or not fits:
        raise StoreError(
            f"The run's space must be given, because the arguments of {space_type.__name__} are "
            f"not in the store; give the space itself, not a list, as seeds=."
        )
    if recorded.get("trust_remote_code") and not trusted:
        raise StoreError(
            "The run's models run code that comes with them, which must be trusted anew; if you "
            "do, resume it with trust_remote_code=True (--trust-remote-code)."
        )
    if base is DenseSpace:
        return space_type(models, Layout(recorded["layout"]), recorded["device"], recorded["dtype"])
    return space_type(
        *models,
        components=recorded["components"],
        granularity=recorded["granularity"],
        dtype=TORCH_NAMES.get(recorded["dtype"] or ""),
        vocab=recorded["vocab"],
        tokenizer=recorded["tokenizer"],
        device=recorded["device"],
        variant=recorded.get("variant"),
        map=recorded.get("map"),
        trust_remote_code=recorded.get("trust_remote_code", False),
        **recorded.get("pictures", {}),
    )


def _path_or_id(name: str) -> str:
    """Return the source of a checkpoint, in the system's spelling if it is a path."""
    return str(Path(name)) if Path(name).exists() else name


# -- evolvers ----------------------------------------------------------------------------------


def restore_evolver(
    spec: EvolverSpec,
    task: Task,
    space: Space,
    known: NDArray[np.float64],
    kind: type[Evolver],
    given: Mapping[str, Any],
) -> Evolver:
    """Return a new evolver whose seeds are not evaluated but have known scores.

    Args:
        spec: the description of the run's evolver.
        task: its task.
        space: its space.
        known: (K, D) scores of the seeds.
        kind: its class, or a base of it.
        given: the options that are not in the description.

    Raises:
        StoreError: the class is not known or another one; options are missing, or the constructor
            does not take them.
    """
    for name in (*spec.missing, *given):
        if name not in given:
            raise StoreError(
                f"Option {name} of the run must be given, because its value is not in the store; "
                f"give it as options={{{name!r}: …}}, and add options of a class to "
                f"evolver.options, which are stored."
            )
        if name not in spec.missing:
            raise StoreError(
                f"options= must only have options that are not in the store "
                f"({', '.join(spec.missing) or 'none'}), got {name!r}; leave it out."
            )
    options = {**spec.options, **given}
    evolver_type = _evolver_class(spec, kind)
    try:
        if spec.method in METHODS and METHODS[spec.method].kind is evolver_type:
            evolver = make_evolver(spec.method, task, space, known=known, **options)
        else:
            if evolver_type.method != spec.method:
                options["method"] = spec.method
            evolver = evolver_type(task, space, known=known, **options)
    except TypeError as error:
        raise StoreError(
            f"{evolver_type.__name__} must take task, space, known and the run's options "
            f"{', '.join(options)}, got a TypeError ({first_line(error)}); pass on **options, and "
            f"let fixed options be defaults."
        ) from error
    made = EvolverSpec.of(evolver)
    for name, value in spec.options.items():
        if made.options.get(name) != value:
            raise StoreError(
                f"{evolver_type.__name__} must keep the run's option {name}={value!r}, got "
                f"{made.options.get(name)!r}; let it use what it is given."
            )
    return evolver


def _evolver_class(spec: EvolverSpec, kind: type[Evolver]) -> type[Evolver]:
    """Return the class of a run's evolver: the recorded one, or ``kind`` if that may be it.

    Raises:
        StoreError: it is not known, or ``kind`` is another one.
    """
    if spec.path == class_path(kind):
        return kind
    if spec.path is not None:
        found = _class_of(spec.path)
    else:
        found = METHODS[spec.method].kind if spec.method in METHODS else None
    if found is not None and issubclass(found, Evolver):
        if issubclass(found, kind):
            return found
        if issubclass(kind, found) and kind.method == found.method:
            return kind
        raise StoreError(
            f"The run's evolver must be a {found.__name__}, got {kind.__name__}; resume it with "
            f"{found.__name__}.resume(…) or kind={found.__name__}."
        )
    if kind.method == spec.method and is_custom(class_path(kind)):
        return kind
    if spec.path is None:
        raise StoreError(
            f"The class of evolvers must have the run's method {spec.method!r}, got "
            f"{kind.method!r}; resume it with kind=, the class that made it."
        )
    wanted, advice = missing_class(spec.path)
    name = class_name(spec.path)
    raise StoreError(
        f"The run's evolver must be of {wanted}, got {kind.__name__}; {advice}resume it with "
        f"{name}.resume(…) or kind={name}."
    )


def _class_of(path: str) -> type | None:
    """Return the class with a path if it is the lab's, a registered method's or imported."""
    return _classes().get(path) or loaded_class(path)


def _classes() -> dict[str, type]:
    """Return the lab's own classes of spaces and those of all methods, by path."""
    known = (DenseSpace, CheckpointSpace, *(method.kind for method in METHODS.values()))
    return {class_path(each): each for each in known}
