"""What a search by name starts from: its task and its seeds, made here or written as Python."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from m2n2lab.errors import choose

if TYPE_CHECKING:
    from m2n2lab.config.settings import Settings
    from m2n2lab.tasks.base import Task

NETWORKS = ("digits", "mnist")
"""Tasks whose seeds are small networks, made at once."""

LANGUAGE = ("gsm8k", "webshop", "gsm8k+webshop")
"""Tasks whose seeds are checkpoints of language models: given ones, or those of the zoo."""

PICTURES = ("text2image",)
"""Tasks whose seeds are pipelines of diffusers: given ones, or those of the zoo."""

STYLES = ("plain", "alpaca", "chat")
"""How a language model can be asked; ``plain`` is ReAct in the shop."""


class Call(NamedTuple):
    """A call of one of the lab's own functions, to be made or to be shown.

    Attributes:
        name: of the function, as ``tasks.digits``.
        options: what is given to it by name.
        given: what is given to it first.
    """

    name: str
    options: dict[str, Any]
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [*map(repr, self.given), *(f"{k}={v!r}" for k, v in self.options.items())]
        return f"lab.{self.name}({', '.join(words)})"

    def make(self) -> Any:
        """Return what the call returns."""
        module, _, function = f"m2n2lab.{self.name}".rpartition(".")
        return getattr(importlib.import_module(module), function)(*self.given, **self.options)


def task_calls(settings: Settings) -> list[Call]:
    """Return a call for each task; several are added up."""
    limit = {} if settings.limit is None else {"limit": settings.limit}
    if settings.task in PICTURES:
        scorer = {} if settings.scorer is None else {"scorer": settings.scorer}
        if settings.data is None:
            return [Call("zoo.shapes", {**limit, **scorer})]
        return [Call("tasks.text2image", {"data": str(settings.data), **limit, **scorer})]
    if settings.task not in LANGUAGE:
        widths = {} if settings.hidden == (256,) else {"hidden": settings.hidden}
        data = {} if settings.data is None else {"folder": str(settings.data)}
        device = {} if settings.device == "cpu" else {"device": settings.device}
        return [Call(f"tasks.{settings.task}", {**data, **widths, **device})]
    return [_language_call(settings, name, limit) for name in settings.task.split("+")]


def _language_call(settings: Settings, name: str, limit: dict[str, Any]) -> Call:
    if not settings.models:
        return Call({"gsm8k": "zoo.word_problems", "webshop": "zoo.shop"}[name], limit)
    style = settings.style
    if name == "webshop":
        return Call("tasks.webshop", {**limit, **({"style": "chat"} if style == "chat" else {})})
    data = {} if settings.data is None else {"data": str(settings.data)}
    return Call("tasks.gsm8k", {**data, **limit, **({} if style is None else {"style": style})})


def make_task(settings: Settings) -> Task:
    """Return the task of a search."""
    first, *rest = [call.make() for call in task_calls(settings)]
    for other in rest:
        first = first + other
    task: Task = first
    return task


def _space_call(settings: Settings) -> Call:
    """Return the call for the space of a task whose seeds are checkpoints."""
    device = {} if settings.device == "cpu" else {"device": settings.device}
    if settings.task in PICTURES:
        if not settings.models:
            return Call("zoo.image_specialists", device)
    elif not settings.models:
        return Call("zoo.language_pair", device)
    parts = {"components": settings.components} if settings.components else {}
    return Call("CheckpointSpace", {**parts, **device}, settings.models)


def seeds_code(settings: Settings) -> str:
    """Return Python for the seeds, where the task is called ``task``."""
    if settings.task in NETWORKS:
        kind = "trained_seeds" if settings.pretrained else "random_seeds"
        return f"task.{kind}(rng={settings.seed})"
    return str(_space_call(settings))


def make_seeds(settings: Settings, task: Any) -> Any:
    """Return the seeds of a search on ``task``, or the space that has them."""
    if settings.task not in NETWORKS:
        return _space_call(settings).make()
    if not settings.pretrained:
        return task.random_seeds(rng=settings.seed)
    space = task.space(task.trained_seeds(rng=settings.seed))
    half = (len(task.classes) + 1) // 2
    parts = (task.classes[:half], task.classes[half:])
    space.names = tuple(f"{task.name} {part[0]}–{part[-1]}" for part in parts)
    return space


def checked_style(style: str | None) -> str | None:
    """Return a prompt style, or ``None`` where the task's own is meant.

    Raises:
        InputError: an unknown one.
    """
    return None if style is None else choose("prompt style", style, STYLES)
