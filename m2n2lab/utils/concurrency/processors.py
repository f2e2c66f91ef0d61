"""Processors that this process may use, torch's default number of threads, running processes."""

import ctypes
import os
import sys


def processors() -> int:
    """Return how many processors this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux; containers and batch systems grant a subset
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return the number of torch threads for small networks, which more than four slow down."""
    return min(processors(), 4)


_QUERY = 0x1000
"""Right to ask whether a process of Windows runs."""


def is_running(process: int) -> bool:
    """Return whether there is a process with a number."""
    if sys.platform == "win32":  # where the signal 0 ends it
        kernel = ctypes.WinDLL("kernel32")
        handle = kernel.OpenProcess(_QUERY, False, process)
        if handle:
            kernel.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
