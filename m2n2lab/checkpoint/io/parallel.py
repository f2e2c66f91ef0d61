"""Parallel loops over chunks: on all processors, with progress, and stopped at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from m2n2lab.utils.concurrency.processors import processors

Job = TypeVar("Job")
Progress = Callable[[int], object]
"""Called with the number of bytes processed since the last call."""

CHUNK_ELEMENTS = 1 << 22
"""Elements processed at a time: enough to hide Python's overhead, few enough that stopping is
immediate and all threads end together."""

PIECE_ELEMENTS = 1 << 19
"""Elements computed before they are written into a file, while they are still in a cache."""

REPORT_SECONDS = 0.05
"""Longest time between two reports of progress."""

THREADS = min(16, processors())
"""Number of threads. On 16 cores 16 merge 54 GB/s, 8 merge 35, 24 merge 43; ``copy_`` moves 71."""


def no_progress(done: int) -> None:
    """Report no progress."""


def run_in_threads(
    jobs: Iterable[Job], work: Callable[[Job], int], progress: Progress = no_progress
) -> None:
    """Run ``work`` on all jobs in threads; it returns the number of bytes it processed.

    Progress is reported from the calling thread. An exception there or in a job, KeyboardInterrupt
    included, stops all threads before it is raised again.
    """
    left, done = deque(jobs), deque[int]()
    stop = threading.Event()

    def take() -> None:
        while not stop.is_set():
            try:
                job = left.popleft()
            except IndexError:
                return
            done.append(work(job))

    with ThreadPoolExecutor(THREADS, thread_name_prefix="m2n2lab") as pool:
        try:
            running = {pool.submit(take) for _ in range(THREADS)}
            while running:
                # Polled rather than signalled for each job, which would slow down the threads.
                ended, running = wait(running, REPORT_SECONDS, FIRST_EXCEPTION)
                for thread in ended:
                    thread.result()
                while done:
                    progress(done.popleft())
        except BaseException:
            stop.set()
            raise


def chunks(size: int, length: int = CHUNK_ELEMENTS) -> Iterable[tuple[int, int]]:
    """Split ``size`` elements into ranges (start, stop) of at most ``length``."""
    return [(start, min(start + length, size)) for start in range(0, size, length)]
