"""Long work in pieces: on all processors, with progress, and over at once when it is stopped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from m2n2lab.utils.processors import processors

Job = TypeVar("Job")
Progress = Callable[[int], object]
"""Called with the number of bytes that were just done."""

CHUNK = 1 << 22
"""Elements done at a time: large enough that Python's own time does not count, small enough that
stopping is immediate and that all threads end together."""

PIECE = 1 << 19
"""Elements computed before they are written into a file: they are still in a cache then."""

LOOK_EVERY = 0.05
"""Most seconds between two reports of progress."""

WORKERS = min(16, processors())
"""Threads. On 16 cores so many merge 54 GB/s, eight 35, 24 again 43; ``copy_`` moves 71."""


def nothing(done: int) -> None:
    """Report no progress."""


def spread(jobs: Iterable[Job], work: Callable[[Job], int], progress: Progress = nothing) -> None:
    """Do all jobs in threads, whose work returns the bytes it did.

    Progress is reported from the calling thread. Whatever is raised there or in a job, such as
    KeyboardInterrupt, ends the work before it is raised again.
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

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="m2n2lab") as pool:
        try:
            running = {pool.submit(take) for _ in range(WORKERS)}
            while running:
                # Not at every job: what a thread is woken for keeps the others from theirs.
                ended, running = wait(running, LOOK_EVERY, FIRST_EXCEPTION)
                for thread in ended:
                    thread.result()
                while done:
                    progress(done.popleft())
        except BaseException:
            stop.set()
            raise


def chunks(size: int, most: int = CHUNK) -> Iterable[tuple[int, int]]:
    """Return the stretches, ``most`` long at most, that ``size`` elements are done in."""
    return [(start, min(start + most, size)) for start in range(0, size, most)]
