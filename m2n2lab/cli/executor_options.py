"""Where the command line has children scored: here, in processes of this machine, or on Ray."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from m2n2lab.utils.errors import InputError, choose, real_number, whole_number
from m2n2lab.utils.extras import missing
from m2n2lab.utils.processors import processors

if TYPE_CHECKING:
    from m2n2lab.executors import Crew

EXECUTORS = ("here", "processes", "ray")

# Options of every command that searches.
Executor = Annotated[
    str, typer.Option("--executor", help="Where children are scored: here, processes or ray.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="How many score at once; one for each core.")
]
Gpus = Annotated[
    float | None, typer.Option("--gpus-per-worker", help="GPUs, or a share of one; for ray.")
]
Address = Annotated[
    str | None, typer.Option("--address", help="Of a Ray cluster, such as auto; else one starts.")
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", help="Seconds for one child; then its worker goes.")
]


@dataclass(frozen=True)
class Place:
    """Where children are scored.

    Attributes:
        executor: one of ``EXECUTORS``.
        workers: how many; as many as there are cores by default.
        gpus: of each worker, on Ray.
        address: of a Ray cluster.
        timeout: seconds that one evaluation may take.
        threads: torch threads of each worker; one by default.

    Raises:
        InputError: options that do not go together, numbers that are too small, no Ray.
    """

    executor: str = "here"
    workers: int | None = None
    gpus: float | None = None
    address: str | None = None
    timeout: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        choose("executor", self.executor, EXECUTORS)
        ray = {"--gpus-per-worker": self.gpus, "--address": self.address}
        both = {"--workers": self.workers, "--timeout": self.timeout}
        foreign = {"here": ray | both, "processes": ray, "ray": {}}[self.executor]
        for option, value in foreign.items():
            if value is not None:
                fix = "processes or ray" if option in both else "ray"
                raise InputError(
                    f"{option} is for workers on {fix}, but {option} {value} came with --executor "
                    f"{self.executor}; leave it out, or give --executor {fix}."
                )
        if self.workers is not None:
            whole_number("workers", self.workers, 1)
        if self.timeout is not None:
            real_number("timeout", self.timeout, 1e-3)
        if self.gpus is not None:
            real_number("gpus_per_worker", self.gpus, 0.0)
        if self.executor == "ray" and find_spec("ray") is None:
            raise missing("--executor ray", "Ray", "ray", "give --executor processes")

    def crew(self) -> Crew | None:
        """Return the workers, which start with the first run; ``None`` for here."""
        if self.executor == "here":
            return None
        from m2n2lab.executors import ProcessExecutor, RayExecutor

        workers, threads = self.workers or processors(), self.threads or 1
        if self.executor == "processes":
            return ProcessExecutor(workers, self.timeout, threads)
        gpus = self.gpus or 0.0
        return RayExecutor(workers, self.address, gpus, timeout=self.timeout, threads=threads)

    def opened(self) -> AbstractContextManager[Crew | None]:
        """Return the workers for a ``with`` block, which end with it."""
        return self.crew() or nullcontext()
