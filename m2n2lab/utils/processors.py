"""Processors of this process, and threads that make good use of them."""

import os


def processors() -> int:
    """Return how many processors this process may use, which may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux; containers and batch systems give a part
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return torch threads for small networks: more than four cost more than they give."""
    return min(processors(), 4)
