"""Tasks that can be made again from a few words, in another process or on another day."""

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
"""Functions whose tasks can be made again; each is an extension slot ``task_<name>``."""


def remembered(factory: Callable[P, T]) -> Callable[P, T]:
    """Let the tasks of a factory know how they were made, where plain values say it."""

    @wraps(factory)
    def make(*args: P.args, **options: P.kwargs) -> T:
        task = factory(*args, **options)
        given = inspect.signature(factory).bind(*args, **options).arguments
        given |= given.pop("options", {})
        try:
            arguments = json.loads(json.dumps(given, default=_plain))
        except TypeError:  # a function or an object: only whoever gave it has it
            return task
        task.origin = {"task": factory.__name__, "arguments": arguments}
        return task

    return make


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.resolve())
    raise TypeError


def make_again(origin: Mapping[str, Any] | None) -> Task:
    """Return the task that an ``origin`` tells of.

    Raises:
        InputError: there is none, or the task's data are no longer there.
    """
    if origin is None:
        raise InputError(
            "A task must be one of m2n2lab.tasks to be made again, but this one was made of a "
            "function or of data of one's own; give it as task=."
        )
    if "tasks" in origin:
        return Tasks([make_again(part) for part in origin["tasks"]])
    name = choose("task", origin["task"], FACTORIES)
    task: Task = extension(f"task_{name}")(**origin["arguments"])
    return task
