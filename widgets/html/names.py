"""Names of tensors from outside, which may be long."""

from __future__ import annotations

import re
from functools import lru_cache

from m2n2lab.utils.text import plain

MAX_NAME_CHARS = 48
"""Shown of a tensor's name."""


_LAYER = re.compile(r"([Wb])(\d+)")
"""Name of a tensor of a plain network."""


@lru_cache(maxsize=4)
def short_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of tensors, shortened; those of a plain network in words."""
    layers = [_LAYER.fullmatch(name) for name in names]
    if not all(layers):
        return tuple(plain(name, MAX_NAME_CHARS) for name in names)
    last = max(int(layer[2]) for layer in layers if layer)
    return tuple(_words(layer[1], int(layer[2]), last) for layer in layers if layer)


def _words(kind: str, number: int, last: int) -> str:
    """Return the name of a layer, or of its bias."""
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
    ordinal = ordinals[number - 1] if 0 < number <= len(ordinals) else f"{number}th"
    place = "output" if number == last else ordinal
    return f"{place} {'layer' if kind == 'W' else 'bias'}"
