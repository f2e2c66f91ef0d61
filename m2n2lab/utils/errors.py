"""Input errors: one sentence with what was expected, what was got and what to do."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from m2n2lab.utils.text import visible


class InputError(ValueError):
    """Input that cannot be used; the message is one sentence meant for a person.

    Names from files are shown in it without characters that could steer a terminal.

    Attributes:
        of_disk: whether the reason is known to be a disk (see ``is_of_disk``).
    """

    of_disk = False

    def __init__(self, message: str = "") -> None:
        super().__init__(visible(message, keep="\n\t"))


DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""What the system says of a disk that is full, that can only be read or that fails."""


def is_of_disk(error: BaseException) -> bool:
    """Return whether the reason of an error is a disk that is full, fails or can only be read."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return True
    if isinstance(error, InputError) and error.of_disk:
        return True
    return error.__cause__ is not None and is_of_disk(error.__cause__)


MAX_REPR_CHARS = 60
"""Longest value that is quoted in a message."""


def described(value: object) -> str:
    """Return what a value is, as text for a message: ``None``, ``'abc'``, ``a list``."""
    if value is None or isinstance(value, (str, int, float, os.PathLike)):
        text = repr(value)
        return text if len(text) <= MAX_REPR_CHARS else f"{text[: MAX_REPR_CHARS - 1]}…"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    shape = getattr(value, "shape", None)
    of = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
    return f"{'an' if name[0] in 'AEIOUaeio' else 'a'} {name}{of}"


def whole_number(name: str, value: Any, least: int) -> int:
    """Return ``value`` as an int >= ``least``.

    Raises:
        InputError: not an integer (booleans do not count as such), or too small.
    """
    try:
        number = None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last one is torch's
        number = None
    if number is None or number != value or number < least:
        raise InputError(
            f"{name} must be an integer >= {least}, got {described(value)}; "
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
    except (TypeError, ValueError, RuntimeError):
        number = float("nan")
    if not low <= number <= high or number in (float("inf"), float("-inf")):
        if high < float("inf"):
            expected = f"a number in [{low:g}, {high:g}]"
        else:
            expected = f"a finite number >= {low:g}"
        raise InputError(
            f"{name} must be {expected}, got {described(value)}; choose one within the bounds."
        )
    return number


def choose(what: str, name: object, known: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``known``.

    Raises:
        InputError: an unknown name; the message lists the known ones and the closest.
    """
    names = list(known)
    if isinstance(name, str) and name in names:
        return name
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"There is no {what} named {str(name)!r}; {hint}choose one of: {', '.join(names)}."
    )


def exception_classes(name: str, value: Any) -> tuple[type[Exception], ...]:
    """Return ``value``, an exception class or a tuple of them, as a tuple.

    Raises:
        InputError: anything else.
    """
    classes = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(each, type) and issubclass(each, Exception) for each in classes):
        raise InputError(
            f"{name} must be an exception class or a tuple of them, got {value!r}; give for "
            f"example {name}=RuntimeError."
        )
    return classes


def checked_flag(name: str, value: Any) -> bool:
    """Return ``value``, checked to be true or false.

    Raises:
        InputError: it is anything else.
    """
    # By name: NumPy's booleans count, and NumPy is not imported here.
    is_flag = type(value).__name__ in ("bool", "bool_") or (
        isinstance(value, int) and value in (0, 1)
    )
    if not is_flag:
        raise InputError(
            f"{name} must be True or False, got {described(value)}; choose one of them."
        )
    return bool(value)


def checked_function(name: str, value: Any, takes: str) -> Callable[..., Any]:
    """Return ``value`` if it can be called.

    Args:
        name: its name as an argument.
        value: the function.
        takes: what it is called with, such as ``"a generation"``.

    Raises:
        InputError: it cannot be called.
    """
    if not callable(value):
        raise InputError(
            f"{name} must be a function of {takes}, got {described(value)}; give a function, or "
            f"leave {name} out."
        )
    function: Callable[..., Any] = value
    return function


def file_path(name: str, value: Any) -> Path:
    """Return ``value``, text or a path, as a path.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(
            f"{name} must be a path, got {described(value)}; give it as text or a pathlib.Path."
        )
    return Path(value)


def device_name(name: object) -> str:
    """Return the name of a device, given as text or by torch; it is checked on use if it exists.

    Raises:
        InputError: anything but ``"cpu"``, ``"cuda"`` and ``"cuda:1"``.
    """
    if re.fullmatch(r"cpu|cuda(:\d+)?", text := str(name)):
        return text
    raise InputError(f"A device must be 'cpu' or 'cuda', got {name!r}; choose one of them.")


def message_of(error: BaseException) -> str:
    """Return the text of any exception, also of one whose own method for it fails."""
    try:
        return str(error)
    except Exception:
        return "its text could not be made"


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message; the rest is for its developers."""
    return message_of(error).strip().split("\n")[0]
