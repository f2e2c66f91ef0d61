"""Plain values: values that JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np


def plain_value(value: Any) -> Any:
    """Return a value as JSON holds it: tuples as lists, NumPy's numbers as Python's.

    Raises:
        TypeError: it holds a function or another object.
    """
    return json.loads(json.dumps(value, default=_number))


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the named values that JSON can hold."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        with suppress(TypeError, ValueError):  # a function or another object
            found[name] = plain_value(value)
    return found


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is no plain value")
