"""Names of tensors from outside, which may be long."""

from __future__ import annotations

from functools import lru_cache

from m2n2lab.utils.text import plain

MAX_NAME_CHARS = 48
"""Shown of a tensor's name."""


@lru_cache(maxsize=4)
def short_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of tensors, shortened."""
    return tuple(plain(name, MAX_NAME_CHARS) for name in names)
