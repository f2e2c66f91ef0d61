"""Workers that are Ray actors: on this machine, or on all machines of a cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from m2n2lab.errors import InputError, real_number
from m2n2lab.executors.pool import Crew
from m2n2lab.executors.ray_cluster import HERE, QUIET
from m2n2lab.executors.worker import Job, Lost, Result, Worker

STARTS = 3
"""Tries to start Ray here: on a busy machine it gives up waiting for its own parts."""

log = logging.getLogger("m2n2lab")


class RayExecutor(Crew):
    """Scores children on Ray actors.

    ::

        with m2n2lab.RayExecutor(workers=8, gpus_per_worker=1, address="auto") as pool:
            evolver.run(1_000, executor=pool)

    Checkpoints are opened on each node by the paths or hub ids that they have here, so they must
    lie in a shared folder, or in the hub's cache of each node; genomes alone are sent.

    Args:
        workers, timeout, threads: as for ``Crew``.
        address: of a cluster, such as ``"auto"`` on one of its nodes; by default a Ray that is
            running in this process already, or else one on this machine, which all executors of
            this process share and the last ``close`` ends.
        gpus_per_worker: share of a GPU, or GPUs, that each worker has to itself; 0 shows it none.
        cpus_per_worker: CPU cores that each worker counts for, where others may want some too:
            on a Ray that was not started here.

    Raises:
        InputError: numbers out of bounds; later, if Ray is not installed or not to be reached.
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
        self._calls: dict[Any, int] = {}  # what is waited for → worker
        self._shared: tuple[bytes, Any] | None = None  # the task here, and in Ray's store

    def _start(self, worker: int, packed: bytes) -> None:
        ray = self._connected()
        cpus = 0.0 if self in HERE.users else self.cpus  # all of this machine is ours to share
        if not self._actors:
            self._check_gpus(ray.cluster_resources().get("GPU", 0.0))
        if self._shared is None or self._shared[0] is not packed:
            self._shared = packed, ray.put(packed)
        kind = ray.remote(num_cpus=cpus, num_gpus=self.gpus, max_restarts=0)(Worker)
        actor = kind.remote(self._shared[1], self.threads)
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
                words = str(error).strip().splitlines() or [type(error).__name__]
                result = Lost(words[0].rstrip("."))
            yield worker, result

    def _kill(self, worker: int) -> None:
        import ray

        self._calls = {call: other for call, other in self._calls.items() if other != worker}
        actor = self._actors.pop(worker)
        if ray.is_initialized():
            ray.kill(actor)

    def _connected(self) -> Any:
        """Return the library, connected to a Ray.

        Raises:
            InputError: it is not installed, or the cluster cannot be reached.
        """
        try:
            import ray
        except ImportError as error:
            raise InputError(
                "RayExecutor needs Ray, which is not installed; install m2n2lab with its extra "
                "'ray', or use ProcessExecutor on this machine."
            ) from error
        with HERE.lock:
            if not ray.is_initialized() or (HERE.users and self.address is None):
                self._connect(ray)
        return ray

    def _connect(self, ray: Any) -> None:
        """Reach the cluster, or have the Ray that is or will be here."""
        for attempt in range(STARTS):
            try:
                if self.address is None:
                    HERE.start(ray, self)
                else:
                    ray.init(self.address, **QUIET)
                return
            except Exception as error:  # Ray raises all sorts, and bare ones
                ray.shutdown()
                if attempt < STARTS - 1 and self.address is None:
                    log.warning("Ray did not start (%s); trying again.", error)
                    continue
                where = "on this machine" if self.address is None else f"at {self.address!r}"
                words = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
                raise InputError(
                    f"RayExecutor must reach Ray {where}, but that failed ({words}); see that it "
                    f"runs there, or use ProcessExecutor on this machine."
                ) from error

    def _check_gpus(self, there: float) -> None:
        """See that workers find the GPUs they are to have; a cluster may grow, so there it warns.

        Raises:
            InputError: on this machine no worker would ever start.
        """
        if there >= self.workers * self.gpus:
            return
        where = "this machine" if self.address is None else f"the cluster at {self.address!r}"
        found = f"{self.gpus:g} GPUs for each worker were asked for, but {where} has {there:g}"
        if self.gpus > there and self.address is None:
            raise InputError(
                f"{found} in all; give each worker a share that is there, such as 0.5."
            )
        log.warning("%s in all: workers wait until some are free.", found)

    def close(self) -> None:
        """End all workers and, if nobody else needs it, the Ray that was started here."""
        super().close()
        self._calls.clear()
        self._shared = None
        if self in HERE.users:
            import ray

            HERE.leave(ray, self)
