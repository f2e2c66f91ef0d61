"""Workers that are processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from m2n2lab.executors.pool import Crew
from m2n2lab.executors.worker import Job, Lost, Result, Worker


class ProcessExecutor(Crew):
    """Scores children in processes of their own on this machine.

    ::

        with m2n2lab.ProcessExecutor(workers=2) as pool:
            evolver.run(1_000, executor=pool)

    A script that uses it needs the line ``if __name__ == "__main__":``, because each process loads
    the script anew.

    Args:
        workers, timeout, threads: as for ``Crew``.
    """

    def __init__(self, workers: int = 2, timeout: float | None = None, threads: int = 1) -> None:
        super().__init__(workers, timeout, threads)
        self._processes: dict[int, tuple[SpawnProcess, Connection]] = {}

    def _start(self, worker: int, packed: bytes) -> None:
        # Not forked: torch's threads do not survive that.
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, self.threads), daemon=True)
        process.start()
        there.close()
        self._processes[worker] = process, here
        self._put(worker, packed)

    def _put(self, worker: int, value: bytes | Job) -> None:
        with contextlib.suppress(OSError):  # it has died, and reading from it will tell
            self._processes[worker][1].send(value)

    def _send(self, worker: int, job: Job) -> None:
        self._put(worker, job)

    def _wait(self, timeout: float) -> Iterator[tuple[int, Result]]:
        lines = {line: worker for worker, (_, line) in self._processes.items()}
        for line in wait([*lines], timeout):
            worker = lines[line]  # type: ignore[index]
            process, own = self._processes[worker]
            try:
                result: Result = own.recv()
            except (EOFError, OSError):
                process.join(1.0)
                result = Lost(f"its process ended with exit code {process.exitcode}")
            yield worker, result

    def _kill(self, worker: int) -> None:
        process, line = self._processes.pop(worker)
        process.kill()
        process.join()
        line.close()


def _work(line: Connection, threads: int) -> None:
    """Answer jobs until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the run drains
    with contextlib.suppress(EOFError, OSError):
        worker = Worker(line.recv(), threads)
        line.send(worker.ready())
        while True:
            line.send(worker.score(line.recv()))
