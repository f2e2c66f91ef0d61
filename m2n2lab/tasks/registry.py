"""Registry of task factories, whose tasks can be rebuilt from plain values."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from m2n2lab.core.extensions import extension
from m2n2lab.core.task import Task, Tasks
from m2n2lab.utils.errors import InputError, choose

P = ParamSpec("P")
T = TypeVar("T", bound=Task)

FACTORIES = (
    "digits",
    "mnist",
    "gsm8k",
    "harness",
    "text2image",
    "webshop",
    "word_problems",
    "shop",
    "shapes",
)
"""Factories whose tasks can be rebuilt; each is an extension slot ``task_<name>``."""


def records_origin(factory: Callable[P, T]) -> Callable[P, T]:
    """Decorate a task factory: set ``origin`` of its tasks if all arguments are plain values."""

    @wraps(factory)
    def make(*args: P.args, **options: P.kwargs) -> T:
        task = factory(*args, **options)
        given = inspect.signature(factory).bind(*args, **options).arguments
        given |= given.pop("options", {})
        try:
            arguments = json.loads(json.dumps(given, default=_plain))
        except TypeError:  # a function or an object, which only the caller has
            return task
        task.origin = {"task": factory.__name__, "arguments": arguments}
        return task

    return make


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.resolve())
    raise TypeError


def make_again(origin: Mapping[str, Any] | None, batch: int | None = None) -> Task:
    """Rebuild a task from its ``origin``.

    Args:
        origin: the origin.
        batch: number of prompts or pictures scored together, on which no score depends; as before
            by default.

    Raises:
        InputError: ``origin`` is ``None``, or the task's data are no longer available; or it has
            no batches.
    """
    if origin is None:
        raise InputError(
            "A task must come from a factory of m2n2lab.tasks to be rebuilt, but this one was made "
            "from a function or from other data; give it as task=."
        )
    if "tasks" in origin:
        return Tasks([make_again(part, batch) for part in origin["tasks"]])
    name = choose("task", origin["task"], FACTORIES)
    factory = extension(f"task_{name}")
    changed = {} if batch is None else {"batch": batch}
    if changed and not inspect.signature(factory).parameters.keys() & {"batch", "options"}:
        raise InputError(
            f"batch is only used by tasks on checkpoints, got a run on {name!r}; leave it out."
        )
    task: Task = factory(**{**origin["arguments"], **changed})
    return task
