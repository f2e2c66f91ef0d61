"""Ray executor: workers are Ray actors on this machine, or on those of a cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from m2n2lab.executors.base import Crew
from m2n2lab.executors.ray_cluster import LOCAL_RAY, QUIET_OPTIONS
from m2n2lab.executors.worker import Job, Lost, Result, Worker
from m2n2lab.utils.errors import InputError, first_line, real_number
from m2n2lab.utils.extras import missing

MAX_START_TRIES = 3
"""Tries to start Ray on this machine: on a busy one, Ray may time out on its own processes."""

log = logging.getLogger("m2n2lab")


class RayExecutor(Crew):
    """Scores children on Ray actors.

    ::

        with m2n2lab.RayExecutor(workers=8, gpus_per_worker=1, address="auto") as pool:
            evolver.run(1_000, executor=pool)

    Checkpoints are opened on each node by the same paths or hub ids as in this process, so they
    must be in a shared folder, or in the hub's cache of each node; only genomes are sent.

    Args:
        workers, timeout, threads: as for ``Crew``.
        address: of a cluster, such as ``"auto"`` on one of its nodes; by default the Ray that this
            process is already connected to, or else one on this machine, which all executors of
            this process share and the last ``close`` ends.
        gpus_per_worker: GPUs, or a share of one, for each worker; with 0 it sees none.
        cpus_per_worker: CPU cores that each worker counts for, on a Ray that was not started by
            this process.

    Raises:
        InputError: an argument is out of bounds; when a run begins, Ray is not installed or cannot
            be reached.
    """

    def __init__(
        self,
        workers: int = 8,
        address: str | None = None,
        gpus_per_worker: float = 0,
        cpus_per_worker: float = 1,
        timeout: float | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(workers, timeout, threads)
        self.address = address
        self.gpus = real_number("gpus_per_worker", gpus_per_worker, 0.0)
        self.cpus = real_number("cpus_per_worker", cpus_per_worker, 0.0)
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, int] = {}  # pending call → worker
        self._shared: tuple[bytes, Any] | None = None  # the packed task, its reference in Ray

    def _start(self, worker: int, packed: bytes) -> None:
        ray = self._connected()
        cpus = 0.0 if self in LOCAL_RAY.users else self.cpus  # this Ray serves no others
        if not self._actors:
            self._check_gpus(ray.cluster_resources().get("GPU", 0.0))
        if self._shared is None or self._shared[0] is not packed:
            self._shared = packed, ray.put(packed)
        actor_class = ray.remote(num_cpus=cpus, num_gpus=self.gpus, max_restarts=0)(Worker)
        actor = actor_class.remote(self._shared[1], self.threads)
        self._actors[worker] = actor
        self._calls[actor.ready.remote()] = worker

    def _send(self, worker: int, job: Job) -> None:
        self._calls[self._actors[worker].score.remote(job)] = worker

    def _wait(self, timeout: float) -> Iterator[tuple[int, Result]]:
        import ray

        done, _ = ray.wait([*self._calls], num_returns=len(self._calls), timeout=0)
        if not done:
            done, _ = ray.wait([*self._calls], timeout=timeout)
        for call in done:
            worker = self._calls.pop(call)
            try:
                result: Result = ray.get(call)
            except ray.exceptions.RayError as error:
                result = Lost(_reason(error))
            yield worker, result

    def _kill(self, worker: int) -> None:
        import ray

        self._calls = {call: other for call, other in self._calls.items() if other != worker}
        actor = self._actors.pop(worker)
        if ray.is_initialized():
            ray.kill(actor)

    def _connected(self) -> Any:
        """Return the module ``ray``, connected to a cluster.

        Raises:
            InputError: Ray is not installed, or the cluster cannot be reached.
        """
        try:
            import ray
        except ImportError as error:
            alternative = "use ProcessExecutor on this machine"
            raise missing("RayExecutor", "Ray", "ray", alternative) from error
        with LOCAL_RAY.lock:
            if not ray.is_initialized() or (LOCAL_RAY.users and self.address is None):
                self._connect(ray)
        return ray

    def _connect(self, ray: Any) -> None:
        """Connect to the cluster, or to the Ray of this machine, which is started if needed.

        Raises:
            InputError: neither can be reached.
        """
        for attempt in range(MAX_START_TRIES):
            try:
                if self.address is None:
                    LOCAL_RAY.acquire(ray, self)
                else:
                    ray.init(self.address, **QUIET_OPTIONS)
                return
            except Exception as error:  # Ray raises exceptions of any class
                ray.shutdown()
                if attempt < MAX_START_TRIES - 1 and self.address is None:
                    log.warning("Ray did not start (%s); trying again.", error)
                    continue
                place = "on this machine" if self.address is None else f"at {self.address!r}"
                raise InputError(
                    f"RayExecutor must reach Ray {place}, but that failed ({_reason(error)}); "
                    f"check that it runs there, or use ProcessExecutor on this machine."
                ) from error

    def _check_gpus(self, available: float) -> None:
        """Check that there are GPUs for all workers; warn if only some can start, or none yet.

        Raises:
            InputError: on this machine, not even one worker could start; a cluster may grow.
        """
        if available >= self.workers * self.gpus:
            return
        place = "this machine" if self.address is None else f"the cluster at {self.address!r}"
        found = f"{self.gpus:g} GPUs for each worker were requested, but {place} has {available:g}"
        if self.gpus > available and self.address is None:
            raise InputError(f"{found} in all; give each worker a smaller share, such as 0.5.")
        log.warning("%s in all: workers wait until some are free.", found)

    def close(self) -> None:
        """End all workers and, with its last user, the Ray that this process started."""
        super().close()
        self._calls.clear()
        self._shared = None
        if self in LOCAL_RAY.users:
            import ray

            LOCAL_RAY.release(ray, self)


def _reason(error: Exception) -> str:
    """Return the first line of an error's text without its full stop, or else its class."""
    return (first_line(error) or type(error).__name__).rstrip(".")
