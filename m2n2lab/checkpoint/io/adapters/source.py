"""Sources: a checkpoint, and the adapters that are added to it, written ``BASE+ADAPTER:0.8``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from m2n2lab.utils.errors import InputError, real_number

_STRENGTH = re.compile(r"(?P<place>.+):(?P<number>-?(\d+\.?\d*|\.\d+)(e-?\d+)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """What a seed is made of.

    Attributes:
        base: path or hub id of a checkpoint.
        adapters: path or hub id, and strength, of each adapter, in the order in which they are
            added.
    """

    base: str
    adapters: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, text: str | Path) -> Source:
        """Return the source of a text; a path that exists is never split.

        Raises:
            InputError: an adapter has no name, or a strength that is no number.
        """
        text = str(text)
        if "+" not in text or Path(text).exists():
            return cls(text)
        base, rest = _next(text.split("+"))
        adapters = []
        while rest:
            place, rest = _next(rest)
            if not place or not base:
                raise InputError(
                    f"A seed with adapters must be written BASE+ADAPTER or BASE+ADAPTER:0.8, got "
                    f"{text!r}; name the base before each + and an adapter after it."
                )
            adapters.append(_with_strength(place))
        return cls(base, tuple(adapters))

    def __str__(self) -> str:
        added = (
            f"+{place}" if strength == 1.0 else f"+{place}:{strength!r}".removesuffix(".0")
            for place, strength in self.adapters
        )
        return self.base + "".join(added)

    def moved(self, find: Callable[[str], str]) -> Source:
        """Return the source with another path or hub id for the base and each adapter."""
        return Source(
            find(self.base), tuple((find(place), number) for place, number in self.adapters)
        )

    def absolute(self) -> Source:
        """Return the source with absolute paths."""
        return self.moved(lambda place: str(Path(place).absolute()) if _exists(place) else place)


def _exists(place: str) -> bool:
    return Path(place).exists()


def _next(pieces: list[str]) -> tuple[str, list[str]]:
    """Return the first place in pieces between plus signs, which paths may hold, and the rest."""
    for count in range(len(pieces), 1, -1):
        place = "+".join(pieces[:count])
        match = _STRENGTH.fullmatch(place)
        if _exists(place) or (match and _exists(match["place"])):
            return place, pieces[count:]
    return pieces[0], pieces[1:]


def _with_strength(text: str) -> tuple[str, float]:
    if _exists(text):
        return text, 1.0
    if match := _STRENGTH.fullmatch(text):
        return match["place"], real_number("strength", float(match["number"]), -1e6, 1e6)
    place, colon, rest = text.rpartition(":")
    if colon and _exists(place):
        raise InputError(
            f"The strength of an adapter must be a number, got {rest!r} for {place}; write "
            f"{place}:0.8."
        )
    return text, 1.0
