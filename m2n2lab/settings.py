"""What to search: the choices that the command line and the dashboard make in the same words."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2n2lab.errors import InputError, choose, whole_number

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.tasks.classify import Classify

TASKS = ("digits", "mnist")
"""Tasks that can be chosen by name."""

SCRATCH_MUTATION = 0.01
"""Standard deviation of the mutation from scratch; pre-trained seeds have none (the paper's)."""


def default_threads() -> int:
    """Return torch threads for small networks: more than four cost more than they give."""
    return min(os.cpu_count() or 1, 4)


@dataclass(frozen=True)
class Settings:
    """A search that can be made again: task, method, seed and what differs from the defaults.

    Attributes:
        task: one of ``TASKS``.
        method: one of ``METHODS``.
        seed: of everything random.
        pretrained: start from two specialists, each trained on half of the classes, and do not
            mutate; otherwise from two random networks.
        data: folder of MNIST's IDX files.
        hidden: widths of the hidden layers.
        device: ``"cpu"`` or ``"cuda"``.
        threads: torch threads.
        options: further options of the method, such as ``archive_size``.
    """

    task: str = "digits"
    method: str = "m2n2"
    seed: int = 0
    pretrained: bool = False
    data: Path | None = None
    hidden: tuple[int, ...] = (256,)
    device: str = "cpu"
    threads: int = field(default_factory=default_threads)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The search in a few words."""
        start = " · pre-trained" if self.pretrained else ""
        return f"{self.task} · {self.method} · seed {self.seed}{start}"

    def check(self) -> None:
        """See that names and numbers can be used, before anything heavy is loaded.

        Raises:
            InputError: an unknown task or method, numbers out of bounds, data for digits.
        """
        from m2n2lab.baselines import METHODS

        choose("task", self.task, TASKS)
        choose("method", self.method, METHODS)
        whole_number("seed", self.seed, 0)
        whole_number("threads", self.threads, 1)
        if self.data is not None and self.task != "mnist":
            raise InputError(
                f"Only the mnist task reads a data folder, but one came for {self.task!r}; leave "
                f"it out or choose task mnist."
            )

    def make_task(self) -> Classify:
        """Return the task.

        Raises:
            InputError: as ``check``, and what the task's data raise.
        """
        from m2n2lab import tasks

        self.check()
        if self.task == "mnist":
            return tasks.mnist(self.data, hidden=self.hidden, device=self.device)
        return tasks.digits(hidden=self.hidden, device=self.device)

    def make(self, task: Classify | None = None) -> Evolver:
        """Return the evolver.

        Args:
            task: what ``make_task`` made before; searches can share it.

        Raises:
            InputError: what the task, the seeds or the method refuse.
        """
        from m2n2lab.baselines import make_evolver

        task = task or self.make_task()
        make_seeds = task.trained_seeds if self.pretrained else task.random_seeds
        seeds = make_seeds(rng=self.seed)
        mutation = 0.0 if self.pretrained else SCRATCH_MUTATION
        options = {"mutation": mutation, **self.options}
        return make_evolver(self.method, task, seeds, rng=self.seed, **options)
