"""Process executor: workers are processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from m2n2lab.executors.base import Crew
from m2n2lab.executors.worker import Job, Lost, Result, Worker


class ProcessExecutor(Crew):
    """Scores children in processes of their own on this machine.

    ::

        with m2n2lab.ProcessExecutor(workers=2) as pool:
            evolver.run(1_000, executor=pool)

    A script that uses it needs the line ``if __name__ == "__main__":``, because each process
    imports the script.

    Args:
        workers, timeout, threads: as for ``Crew``.
    """

    def __init__(self, workers: int = 2, timeout: float | None = None, threads: int = 1) -> None:
        super().__init__(workers, timeout, threads)
        self._processes: dict[int, tuple[SpawnProcess, Connection]] = {}

    def _start(self, worker: int, packed: bytes) -> None:
        # Not forked: torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        own, other = context.Pipe()
        process = context.Process(target=_work, args=(other, self.threads), daemon=True)
        process.start()
        other.close()
        self._processes[worker] = process, own
        self._put(worker, packed)

    def _put(self, worker: int, value: bytes | Job) -> None:
        with contextlib.suppress(OSError):  # it has ended, which reading from it will show
            self._processes[worker][1].send(value)

    def _send(self, worker: int, job: Job) -> None:
        self._put(worker, job)

    def _wait(self, timeout: float) -> Iterator[tuple[int, Result]]:
        workers = {connection: worker for worker, (_, connection) in self._processes.items()}
        for connection in wait([*workers], timeout):
            worker = workers[connection]  # type: ignore[index]
            process, own = self._processes[worker]
            try:
                result: Result = own.recv()
            except (EOFError, OSError):
                process.join(1.0)
                result = Lost(f"its process ended with exit code {process.exitcode}")
            yield worker, result

    def _kill(self, worker: int) -> None:
        process, connection = self._processes.pop(worker)
        process.kill()
        process.join()
        connection.close()


def _work(connection: Connection, threads: int) -> None:
    """Score jobs until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the run drains
    with contextlib.suppress(EOFError, OSError):
        worker = Worker(connection.recv(), threads)
        connection.send(worker.ready())
        while True:
            connection.send(worker.score(connection.recv()))
