"""Builders of a search by name: its task, its seeds and its evolver, or Python code for them."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from m2n2lab.config.names import DEFAULT_VOCAB, IMAGE_TASKS, LANGUAGE_TASKS, NETWORK_TASKS
from m2n2lab.utils.concurrency.loading import report_loading
from m2n2lab.utils.progress import Progress, Watch

if TYPE_CHECKING:
    from m2n2lab.checkpoint.io.parallel import Progress as ShowBytes
    from m2n2lab.config.settings import Settings
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.task import Task

CHECKPOINT_OPTIONS = {"archive_size": 10}
"""Default options of a search over checkpoints: a small archive, as an evaluation takes seconds."""


class Call(NamedTuple):
    """A call of a public function of m2n2lab, to be made or to be written as code.

    Attributes:
        name: the function's name, such as ``tasks.digits``.
        kwargs: its arguments by name.
        args: its arguments by position.
    """

    name: str
    kwargs: dict[str, Any]
    args: tuple[str, ...] = ()

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        return f"lab.{self.name}({', '.join(arguments)})"

    def make(self, **more: Any) -> Any:
        """Make the call, with further arguments that are not part of it; return its result."""
        module, _, function = f"m2n2lab.{self.name}".rpartition(".")
        return getattr(importlib.import_module(module), function)(*self.args, **self.kwargs, **more)


def task_calls(settings: Settings) -> list[Call]:
    """Return a call for each task; the tasks of several calls are added."""
    amounts = settings.amounts
    if settings.task in IMAGE_TASKS:
        scorer = {} if settings.scorer is None else {"scorer": settings.scorer}
        if settings.data is None:
            return [Call("zoo.shapes", {**amounts, **scorer, **settings.drawing})]
        given = {"data": str(settings.data), **amounts, **scorer, **settings.drawing}
        return [Call("tasks.text2image", given)]
    if settings.task not in LANGUAGE_TASKS:
        widths = {} if settings.hidden == (256,) else {"hidden": settings.hidden}
        data = {} if settings.data is None else {"folder": str(settings.data)}
        device = {} if settings.device == "cpu" else {"device": settings.device}
        return [Call(f"tasks.{settings.task}", {**data, **widths, **device})]
    return [_language_call(settings, name) for name in settings.task.split("+")]


def _language_call(settings: Settings, name: str) -> Call:
    given = {**settings.amounts, **settings.asking}
    if name != "gsm8k":
        given.pop("shots", None)
    if not settings.models:
        return Call({"gsm8k": "zoo.word_problems", "webshop": "zoo.shop"}[name], given)
    style = settings.style
    if name == "webshop":
        return Call("tasks.webshop", {**given, **({"style": "chat"} if style == "chat" else {})})
    data = {} if settings.data is None else {"data": str(settings.data)}
    return Call("tasks.gsm8k", {**data, **given, **({} if style is None else {"style": style})})


def build_task(settings: Settings) -> Task:
    """Return the task of a search.

    Raises:
        InputError: the settings or the task's data cannot be used.
    """
    settings.check()
    first, *rest = [call.make() for call in task_calls(settings)]
    for other in rest:
        first = first + other
    task: Task = first
    return task


def _space_call(settings: Settings) -> Call:
    """Return the call for the space of a task whose seeds are checkpoints."""
    device = {} if settings.device == "cpu" else {"device": settings.device}
    if settings.task in IMAGE_TASKS:
        if not settings.models:
            return Call("zoo.image_specialists", device)
    elif not settings.models:
        return Call("zoo.language_pair", device)
    vocab = None if settings.task in IMAGE_TASKS else settings.vocab or DEFAULT_VOCAB
    given = {
        "components": settings.components or None,
        "dtype": settings.dtype,
        "variant": settings.variant,
        "tokenizer": settings.text_encoder_from if settings.draws else settings.tokenizer,
        "trust_remote_code": settings.trust_remote_code or None,
        "vocab": vocab,
        "map": settings.map or None,
    }
    pictures = dict(settings.pictures)
    if settings.draws and settings.models[0].endswith((".safetensors", ".sft")):
        # A file has no tokenizer, but the text encoders may be another's.
        number = given.pop("tokenizer")
        if number is not None:
            pictures["parts_from"] = {**pictures.get("parts_from", {}), "text_encoder": number}
    options = {name: value for name, value in given.items() if value is not None}
    return Call("CheckpointSpace", {**options, **pictures, **device}, settings.models)


def seeds_code(settings: Settings) -> str:
    """Return Python code for the seeds; the task is the variable ``task``."""
    if settings.task in NETWORK_TASKS:
        method = "trained_seeds" if settings.pretrained else "random_seeds"
        return f"task.{method}(rng={settings.seed})"
    return str(_space_call(settings))


def build_seeds(settings: Settings, task: Any, progress: ShowBytes | None = None) -> Any:
    """Return the seeds of a search on ``task``, or a space with them.

    Args:
        settings: the search.
        task: its task.
        progress: called with the number of bytes of checkpoints converted or read since the last
            call.
    """
    if settings.task not in NETWORK_TASKS:
        reports = progress is not None and bool(settings.models)
        return _space_call(settings).make(**({"progress": progress} if reports else {}))
    if not settings.pretrained:
        return task.random_seeds(rng=settings.seed)
    space = task.space(task.trained_seeds(rng=settings.seed))
    half = (len(task.classes) + 1) // 2
    halves = (task.classes[:half], task.classes[half:])
    space.names = tuple(f"{task.name} {classes[0]}–{classes[-1]}" for classes in halves)
    return space


def method_options(settings: Settings) -> dict[str, Any]:
    """Return the options of the method, with defaults for such a search."""
    if settings.checkpoints:
        return {**_small_archive(settings.method), **settings.options}
    return {"mutation": settings.default_mutation, **settings.options}


def _small_archive(method: str) -> dict[str, Any]:
    """Return ``CHECKPOINT_OPTIONS``, unless the method has an archive of a size of its own."""
    from m2n2lab.core.methods.registry import default_options

    own = default_options(method)["archive_size"] != default_options("m2n2")["archive_size"]
    return {} if own else CHECKPOINT_OPTIONS


def used_options(settings: Settings) -> dict[str, Any]:
    """Return the values of all options of a search, as far as the method names a default."""
    from m2n2lab.core.methods.registry import METHODS, default_options

    fixed = METHODS[settings.method].options
    return {**default_options(settings.method), **method_options(settings), **fixed}


def build_evolver(
    settings: Settings,
    task: Task | None = None,
    seeds: Any = None,
    progress: ShowBytes | None = None,
) -> Evolver:
    """Return the evolver of a search.

    Args:
        settings: the search.
        task: a task from ``build_task``; searches can share it.
        seeds: seeds from ``build_seeds``, which no other search uses.
        progress: as for ``build_seeds``.

    Raises:
        InputError: the task, the seeds or the options of the method cannot be used.
    """
    from m2n2lab.core.methods.registry import make_evolver  # late, because it imports torch

    report_loading("reading the data")
    task = task or build_task(settings)
    if seeds is None:
        report_loading("reading the models" if settings.checkpoints else "making the networks")
        seeds = build_seeds(settings, task, progress)
    with _reported(task):
        options = method_options(settings)
        return make_evolver(settings.method, task, seeds, rng=settings.seed, **options)


@contextmanager
def _reported(task: Task) -> Iterator[None]:
    """Report how far the models that a search starts from have been scored."""
    mine = threading.get_ident()

    def report(progress: Progress) -> None:
        if threading.get_ident() == mine:  # a task may be shared
            report_loading(f"scoring the models, {progress.words}")

    end = task.watch(Watch(report))
    try:
        yield
    finally:
        end()


def code_of(settings: Settings, steps: int) -> str:
    """Return Python code that repeats a search in a notebook."""
    options = {"rng": settings.seed, **method_options(settings)}
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return (
        f"import m2n2lab as lab\n\n"
        f"task = {' + '.join(map(str, task_calls(settings)))}\n"
        f"seeds = {seeds_code(settings)}\n"
        f'evolver = lab.make_evolver("{settings.method}", task, seeds, {arguments})\n'
        f"evolver.run({steps})\n"
    )
