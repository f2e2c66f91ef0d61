"""Shared models: searches over the same checkpoints read them once, and score the seeds once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from m2n2lab.config.builders import build_evolver, build_seeds, build_task, seeds_code, task_calls
from m2n2lab.config.settings import Settings
from m2n2lab.utils.concurrency.loading import report_loading

if TYPE_CHECKING:
    from m2n2lab.checkpoint import CheckpointSpace
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.task import Task

_LOCK = threading.Lock()
_BUILDING: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
_TASKS: WeakValueDictionary[str, Task] = WeakValueDictionary()
_SPACES: WeakValueDictionary[str, CheckpointSpace] = WeakValueDictionary()


class _Turn:
    """A lock that can be referred to weakly."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def open_shared(settings: Settings, task: Task) -> CheckpointSpace:
    """Return the space of a search's checkpoints, which searches over them share while it is kept.

    Args:
        settings: the search, whose models are checkpoints.
        task: its task.

    Raises:
        InputError: they cannot be merged, or the task cannot score them.
    """
    space: CheckpointSpace = build_seeds(settings, task)
    task.check_space(space)
    _SPACES[seeds_code(settings)] = space
    return space


def build_shared(settings: Settings, task: Task | None = None) -> Evolver:
    """Return the evolver of a search, which shares its task and seeds with others like it.

    What is shared is only read: each search writes its children into a model of its own. Searches
    over the same checkpoints are built one after another, so that all but the first find the
    answers of the seeds.

    Args:
        settings: the search.
        task: made already; by default that of another search, or a new one.

    Raises:
        InputError: as ``build_evolver``.
    """
    if not settings.checkpoints:
        return build_evolver(settings, task)
    source = seeds_code(settings)
    asked = f"{source} {' + '.join(map(str, task_calls(settings)))}"
    with _LOCK:
        turn = _BUILDING.setdefault(asked, _Turn())
    if turn.lock.locked():
        report_loading("waiting for another page that reads the same models")
    with turn.lock:
        report_loading("reading the data")
        task = task or _TASKS.get(asked) or build_task(settings)
        report_loading("reading the models")
        known = _SPACES.get(source)
        space = build_seeds(settings, task) if known is None else known.twin()
        evolver = build_evolver(settings, task, space)
        _TASKS[asked], _SPACES[source] = task, space
        return evolver
