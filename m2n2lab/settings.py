"""What to search: the choices that the command line and the dashboard make in the same words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2n2lab.errors import InputError, choose, real_number, whole_number

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver
    from m2n2lab.tasks.classify import Classify

TASKS = ("digits", "mnist")
"""Tasks that can be chosen by name."""

SCRATCH_MUTATION = 0.01
"""Standard deviation of the mutation from scratch; pre-trained seeds have none (the paper's)."""


ADJUSTABLE = ("archive_size", "alpha", "mutation")
"""Options of a method that can be asked for."""

ASKED = ("task", "method", "seed", "pretrained", *ADJUSTABLE)
"""What an address may ask for."""

LARGEST_ARCHIVE = 200
"""Members that an address may ask for."""


def _number(name: str, text: str) -> int | float:
    """Return a number from text.

    Raises:
        InputError: it is none.
    """
    try:
        return float(text) if not text.strip().lstrip("-").isdecimal() else int(text)
    except ValueError:
        raise InputError(
            f"{name} must be a number, but {text[:40]!r} came; give one in digits."
        ) from None


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
    def start(self) -> str:
        """What the search starts from, in words."""
        return "pre-trained" if self.pretrained else "from scratch"

    @property
    def title(self) -> str:
        """The search in a few words."""
        start = f" · {self.start}" if self.pretrained else ""
        return f"{self.task} · {self.method} · seed {self.seed}{start}"

    def asked(self, query: Mapping[str, str]) -> Settings:
        """Return these settings with what an address asks for: a search that a link can share.

        Only what is safe to take from a stranger is: no paths, no devices, no threads.

        Args:
            query: any of ``task``, ``method``, ``seed``, ``pretrained``, ``archive_size``,
                ``alpha`` and ``mutation``, as text; empty texts and other names are left out.

        Raises:
            InputError: a value that cannot be used.
        """
        given = {name: text for name, text in query.items() if name in ASKED and text != ""}
        options = dict(self.options)
        for name in ADJUSTABLE:
            if name in given:
                options[name] = _number(name, given[name])
        if "archive_size" in options:
            # A stranger's page shares this computer.
            size = whole_number("archive_size", options["archive_size"], 2)
            options["archive_size"] = int(real_number("archive_size", size, 2, LARGEST_ARCHIVE))
        seed = whole_number("seed", _number("seed", given.get("seed", str(self.seed))), 0)
        task = choose("task", given.get("task", self.task), self.tasks)
        changed = replace(
            self,
            task=task,
            method=given.get("method", self.method),
            seed=seed,
            pretrained=given.get("pretrained", "1" if self.pretrained else "0") == "1",
            options=options,
        )
        changed.check()
        return changed

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be chosen here without naming a folder."""
        return tuple(dict.fromkeys((self.task, "digits")))

    def query(self) -> dict[str, str]:
        """Return what ``asked`` makes these settings of again."""
        texts = {name: str(value) for name, value in self.options.items() if name in ASKED}
        start = {"pretrained": "1"} if self.pretrained else {}
        return {
            "task": self.task,
            "method": self.method,
            "seed": str(self.seed),
            **start,
            **texts,
        }

    def code(self, steps: int) -> str:
        """Return Python that makes the same search again, to be run in a notebook."""
        seeds = "trained_seeds" if self.pretrained else "random_seeds"
        mutation = 0.0 if self.pretrained else SCRATCH_MUTATION
        options = {"mutation": mutation, **self.options}
        words = "".join(f", {name}={value!r}" for name, value in options.items())
        widths = "" if self.hidden == (256,) else f"hidden={self.hidden!r}"
        return (
            f"import m2n2lab as lab\n\n"
            f"task = lab.tasks.{self.task}({widths})\n"
            f"seeds = task.{seeds}(rng={self.seed})\n"
            f'evolver = lab.make_evolver("{self.method}", task, seeds, rng={self.seed}{words})\n'
            f"evolver.run({steps})\n"
        )

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
