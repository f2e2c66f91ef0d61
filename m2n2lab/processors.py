"""How many processors there are for us."""

import os


def processors() -> int:
    """Return how many processors this process may use, which may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux; containers and batch systems give a part
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
