"""Input errors: one sentence with what was expected, what was got and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Input that cannot be used; the message is one sentence meant for a person."""


def whole_number(name: str, value: Any, least: int) -> int:
    """Return ``value`` as an int >= ``least``.

    Raises:
        InputError: not an integer (booleans do not count as such), or too small.
    """
    try:
        number = None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number != value or number < least:
        raise InputError(
            f"{name} must be an integer >= {least}, got {value!r}; "
            f"give {name}={max(least, 1)} or more."
        )
    return number


def real_number(name: str, value: Any, low: float, high: float = float("inf")) -> float:
    """Return ``value`` as a float in ``[low, high]``.

    Raises:
        InputError: not a number, NaN, infinite, or outside the interval.
    """
    try:
        number = float("nan" if isinstance(value, str) else value)
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high or number in (float("inf"), float("-inf")):
        if high < float("inf"):
            expected = f"a number in [{low:g}, {high:g}]"
        else:
            expected = f"a finite number >= {low:g}"
        raise InputError(f"{name} must be {expected}, got {value!r}; choose one within the bounds.")
    return number


def choose(what: str, name: object, known: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``known``.

    Raises:
        InputError: an unknown name; the message lists the known ones and the closest.
    """
    names = list(known)
    if name in names:
        return str(name)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"There is no {what} named {str(name)!r}; {hint}choose one of: {', '.join(names)}."
    )


def device_name(name: object) -> str:
    """Return ``name`` if a device can have it; whether the device exists is checked on use.

    Raises:
        InputError: anything but ``"cpu"``, ``"cuda"`` and ``"cuda:1"``.
    """
    if isinstance(name, str) and re.fullmatch(r"cpu|cuda(:\d+)?", name):
        return name
    raise InputError(f"A device must be 'cpu' or 'cuda', got {name!r}; choose one of them.")


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message; the rest is for its developers."""
    return str(error).strip().split("\n")[0]
