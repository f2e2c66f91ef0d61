"""Processors that this process may use, and torch's default number of threads."""

import os


def processors() -> int:
    """Return how many processors this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux; containers and batch systems grant a subset
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return the number of torch threads for small networks, which more than four slow down."""
    return min(processors(), 4)
