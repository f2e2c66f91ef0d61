"""m2n2lab: evolve merged models with M2N2, step by step and by hand.

Public names are imported when they are first used, so that ``import m2n2lab`` is quick.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from m2n2lab.core.extensions import provide
from m2n2lab.utils.lazy import lazy_names
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
    html="m2n2lab.viz.html:html_of",
    past="m2n2lab.store.reader:past",
    plots="m2n2lab.viz.accessor:Plots",
    progress="m2n2lab.viz.progress_bar:progress_bar",
    recorder="m2n2lab.store.recorder:Recorder",
    resume="m2n2lab.store.restore:resume",
    task_digits="m2n2lab.tasks.datasets:digits",
    task_mnist="m2n2lab.tasks.datasets:mnist",
    task_gsm8k="m2n2lab.tasks.language.gsm8k:gsm8k",
    task_harness="m2n2lab.tasks.language.harness:harness",
    task_text2image="m2n2lab.tasks.images.text2image:text2image",
    task_webshop="m2n2lab.tasks.shopping.webshop:webshop",
    task_word_problems="m2n2lab.zoo.language:word_problems",
    task_shop="m2n2lab.zoo.language:shop",
    task_shapes="m2n2lab.zoo.images:shapes",
)

# The module of each public name, imported when it is first used.
_HOMES = {
    "Archive": "m2n2lab.core.archive",
    "Blocks": "m2n2lab.core.operators.blocks",
    "Checkpoint": "m2n2lab.checkpoint",
    "CheckpointSpace": "m2n2lab.checkpoint",
    "Competition": "m2n2lab.core.operators.competition",
    "Console": "m2n2lab.widgets.notebook",
    "Crossover": "m2n2lab.core.operators.crossover",
    "DenseSpace": "m2n2lab.core.spaces.space",
    "Evolver": "m2n2lab.core.evolver",
    "Generation": "m2n2lab.core.records",
    "InputError": "m2n2lab.utils.errors",
    "Layout": "m2n2lab.core.spaces.layout",
    "METHODS": "m2n2lab.core.methods.registry",
    "MateChoice": "m2n2lab.core.operators.mate_choice",
    "Member": "m2n2lab.core.population",
    "Mutation": "m2n2lab.core.operators.mutation",
    "ProcessExecutor": "m2n2lab.executors",
    "Proposal": "m2n2lab.core.records",
    "RayExecutor": "m2n2lab.executors",
    "Recipe": "m2n2lab.core.spaces.recipe",
    "Replacement": "m2n2lab.core.operators.replacement",
    "Replayed": "m2n2lab.executors",
    "Sample": "m2n2lab.tasks",
    "Task": "m2n2lab.tasks",
    "Verdict": "m2n2lab.core.records",
    "analysis": "m2n2lab.analysis",
    "archive_bytes": "m2n2lab.store.archive_file",
    "compare": "m2n2lab.viz.draw_compare",
    "dashboard": "m2n2lab.widgets.notebook",
    "load_archive": "m2n2lab.store.archive_file",
    "make_evolver": "m2n2lab.core.methods.registry",
    "preflight": "m2n2lab.checkpoint",
    "push": "m2n2lab.checkpoint.record.upload",
    "rebuild": "m2n2lab.checkpoint",
    "register_method": "m2n2lab.core.methods.registry",
    "runs": "m2n2lab.store.frames",
    "save_archive": "m2n2lab.store.archive_file",
    "store": "m2n2lab.store",
    "tasks": "m2n2lab.tasks",
    "viz": "m2n2lab.viz",
    "zoo": "m2n2lab.zoo",
}
__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from m2n2lab import analysis, store, tasks, viz, zoo
    from m2n2lab.checkpoint import Checkpoint, CheckpointSpace, preflight, rebuild
    from m2n2lab.checkpoint.record.upload import push
    from m2n2lab.core.archive import Archive
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.methods.registry import METHODS, make_evolver, register_method
    from m2n2lab.core.operators.blocks import Blocks
    from m2n2lab.core.operators.competition import Competition
    from m2n2lab.core.operators.crossover import Crossover
    from m2n2lab.core.operators.mate_choice import MateChoice
    from m2n2lab.core.operators.mutation import Mutation
    from m2n2lab.core.operators.replacement import Replacement
    from m2n2lab.core.population import Member
    from m2n2lab.core.records import Generation, Proposal, Verdict
    from m2n2lab.core.spaces.layout import Layout
    from m2n2lab.core.spaces.recipe import Recipe
    from m2n2lab.core.spaces.space import DenseSpace
    from m2n2lab.executors import ProcessExecutor, RayExecutor, Replayed
    from m2n2lab.store.archive_file import archive_bytes, load_archive, save_archive
    from m2n2lab.store.frames import runs
    from m2n2lab.tasks import Sample, Task
    from m2n2lab.utils.errors import InputError
    from m2n2lab.viz.draw_compare import compare
    from m2n2lab.widgets.notebook import Console, dashboard


__getattr__, _names = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return ["__version__", *_names()]
