"""JSON from outside, with limits that keep it from doing harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from m2n2lab.utils.files import read_text

MAX_DEPTH = 100
"""Lists and objects within each other; no file of a model or data set has nearly as many."""

Pairs = Callable[[list[tuple[str, Any]]], Any]


def parse_json(text: str | bytes, pairs: Pairs | None = None) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the text, in UTF-8 if it is bytes.
        pairs: makes an object of its names and values; a dictionary by default.

    Raises:
        ValueError: it is not JSON, nested too deeply, or has half of a surrogate pair, which is no
            character and cannot be written.
    """
    decoded = text.decode("utf-8") if isinstance(text, bytes) else text
    try:
        value = json.loads(decoded, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _depth(value) > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if "\\ud" in decoded or "\\uD" in decoded:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("text with half of a surrogate pair") from None
    return value


def _depth(value: Any) -> int:
    """Return how many lists and objects are within each other."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [
            child for each in level for child in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def read_json_file(path: str | Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        OSError: it cannot be read, is no regular file or too long.
        ValueError: as ``parse_json``.
    """
    return parse_json(read_text(path))
