"""Names of tensors, which come from outside and may be long."""

from __future__ import annotations

from functools import lru_cache

from m2n2lab.utils.text import plain

LONGEST_NAME = 48
"""Characters of a tensor's name that are shown."""


@lru_cache(maxsize=4)
def short_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of tensors, none too long to be shown."""
    return tuple(plain(name, LONGEST_NAME) for name in names)
