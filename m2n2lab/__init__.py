"""m2n2lab: evolve merged models with M2N2, step by step and by hand.

Public names are imported when they are first used, so that ``import m2n2lab`` is quick.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from m2n2lab.core.extensions import provide
from m2n2lab.utils.version import __version__

# torch's threads spin while they wait for each other: a millisecond, in which a browser or a second
# search on the same cores makes a digits step twelve times slower. Threads that sleep at once take
# 1.7 times as long for a step when nothing else runs. GNU's, which can be told, spin for some
# microseconds and then sleep: nine tenths of the speed, and half of it beside a busy process. Only
# heard if torch is not loaded yet; values of the user's own stay.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# What core offers by name and packages above it do: see ``m2n2lab.core.extensions``.
provide(
    html="m2n2lab.display:html_of",
    plots="m2n2lab.viz.accessor:Plots",
    recorder="m2n2lab.store.recorder:Recorder",
    resume="m2n2lab.store.resuming:resume",
    task_digits="m2n2lab.tasks.data:digits",
    task_mnist="m2n2lab.tasks.data:mnist",
    task_gsm8k="m2n2lab.tasks.gsm8k:gsm8k",
    task_harness="m2n2lab.tasks.harness:harness",
    task_text2image="m2n2lab.tasks.text2image:text2image",
    task_webshop="m2n2lab.tasks.webshop:webshop",
    task_word_problems="m2n2lab.zoo.language:word_problems",
    task_shop="m2n2lab.zoo.language:shop",
    task_shapes="m2n2lab.zoo.images:shapes",
)

_HOMES = {
    "Archive": "archive",
    "Checkpoint": "checkpoint",
    "CheckpointSpace": "checkpoint",
    "Console": "widgets.console",
    "DenseSpace": "spaces",
    "Evolver": "evolver",
    "Generation": "records",
    "InputError": "errors",
    "Layout": "layout",
    "METHODS": "core.methods.registry",
    "Member": "population",
    "ProcessExecutor": "executors",
    "Proposal": "records",
    "RayExecutor": "executors",
    "Recipe": "recipe",
    "Replayed": "executors",
    "Sample": "tasks",
    "Task": "tasks",
    "Verdict": "records",
    "archive_bytes": "exporting",
    "compare": "drawing_compare",
    "dashboard": "widgets.inline",
    "load_archive": "exporting",
    "make_evolver": "core.methods.registry",
    "preflight": "checkpoint",
    "rebuild": "checkpoint",
    "save_archive": "exporting",
}
__all__ = ["__version__", "store", "tasks", "zoo", *_HOMES]

if TYPE_CHECKING:
    from m2n2lab import store, tasks, zoo
    from m2n2lab.archive import Archive
    from m2n2lab.checkpoint import Checkpoint, CheckpointSpace, preflight, rebuild
    from m2n2lab.core.methods.registry import METHODS, make_evolver
    from m2n2lab.drawing_compare import compare
    from m2n2lab.errors import InputError
    from m2n2lab.evolver import Evolver
    from m2n2lab.executors import ProcessExecutor, RayExecutor, Replayed
    from m2n2lab.exporting import archive_bytes, load_archive, save_archive
    from m2n2lab.layout import Layout
    from m2n2lab.population import Member
    from m2n2lab.recipe import Recipe
    from m2n2lab.records import Generation, Proposal, Verdict
    from m2n2lab.spaces import DenseSpace
    from m2n2lab.tasks import Sample, Task
    from m2n2lab.widgets.console import Console
    from m2n2lab.widgets.inline import dashboard


def __getattr__(name: str) -> Any:
    if name in ("store", "tasks", "zoo"):
        return importlib.import_module(f"m2n2lab.{name}")
    if name in _HOMES:
        try:
            return getattr(importlib.import_module(f"m2n2lab.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            if error.name not in ("anywidget", "ipywidgets"):
                raise
            from m2n2lab.errors import InputError

            raise InputError(
                f"m2n2lab.{name} is shown with {error.name}, which is not installed; install "
                f"m2n2lab with its extra 'notebooks'."
            ) from error
    raise AttributeError(f"module 'm2n2lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
