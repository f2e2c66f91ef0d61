"""Executor options: children are scored in this process, in several processes, or on Ray."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

from m2n2lab.cli.shared_options import WORKERS, option
from m2n2lab.utils.concurrency.processors import processors
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number
from m2n2lab.utils.extras import missing

if TYPE_CHECKING:
    from m2n2lab.executors import Crew

EXECUTORS = ("here", "processes", "ray")

# Options of all commands that run a search.
Executor = Annotated[
    str,
    option(
        WORKERS,
        "--executor",
        help="here (score children in this process), processes or ray.",
    ),
]
Workers = Annotated[
    int | None, option(WORKERS, "--workers", help="Number of workers; one per core by default.")
]
Gpus = Annotated[
    float | None,
    option(WORKERS, "--gpus-per-worker", help="GPUs per worker, or a share of one; for ray."),
]
Address = Annotated[
    str | None,
    option(
        WORKERS,
        "--address",
        help="Address of a Ray cluster, such as auto; else one is started.",
    ),
]
Timeout = Annotated[
    float | None,
    option(WORKERS, "--timeout", help="Seconds to score one child; its worker is replaced then."),
]
Threads = Annotated[int | None, option(WORKERS, "--threads", help="Number of torch threads.")]


@dataclass(frozen=True)
class ExecutorOptions:
    """Options of the executor that scores children.

    Attributes:
        executor: one of ``EXECUTORS``.
        workers: number of workers; one per core by default.
        gpus: GPUs of each worker, on Ray.
        address: address of a Ray cluster.
        timeout: seconds that one evaluation may take.
        threads: torch threads of each worker; one by default.

    Raises:
        InputError: options exclude each other, a number is too small, or Ray is not installed.
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
        unused = {"here": ray | both, "processes": ray, "ray": {}}[self.executor]
        for name, value in unused.items():
            if value is not None:
                users = "processes or ray" if name in both else "ray"
                raise InputError(
                    f"{name} {value} needs --executor {users}, got --executor "
                    f"{self.executor}; leave it out, or change the executor."
                )
        if self.workers is not None:
            whole_number("workers", self.workers, 1)
        if self.timeout is not None:
            real_number("timeout", self.timeout, 1e-3)
        if self.gpus is not None:
            real_number("gpus_per_worker", self.gpus, 0.0)
        if self.executor == "ray" and find_spec("ray") is None:
            raise missing("--executor ray", "Ray", "ray", "give --executor processes")

    def make_executor(self) -> Crew | None:
        """Return the executor, whose workers start with the first run; ``None`` for ``"here"``."""
        if self.executor == "here":
            return None
        from m2n2lab.executors import ProcessExecutor, RayExecutor

        workers, threads = self.workers or processors(), self.threads or 1
        if self.executor == "processes":
            return ProcessExecutor(workers, self.timeout, threads)
        gpus = self.gpus or 0.0
        return RayExecutor(workers, self.address, gpus, timeout=self.timeout, threads=threads)

    def opened(self) -> AbstractContextManager[Crew | None]:
        """Return the executor for a ``with`` block, at the end of which its workers end."""
        return self.make_executor() or nullcontext()
