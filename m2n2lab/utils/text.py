"""Text for people: percentages, and names from outside made safe to print."""

from __future__ import annotations

import math
import unicodedata


def percent(value: float) -> str:
    """Return a share as ``71.1 %``, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.1%}".replace("%", " %")


def duration(seconds: float) -> str:
    """Return a time as ``0:42``, ``12:05`` or, from an hour, ``1:02:03``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain(text: str, max_chars: int) -> str:
    """Return a text from outside as one line of at most ``max_chars`` characters.

    The middle of a long text is cut; control characters, which could steer a terminal, are
    replaced. It is not escaped.
    """
    if len(text) > max_chars:
        end = (max_chars - 1) // 2
        text = f"{text[: max_chars - 1 - end]}…{text[len(text) - end :]}"
    line = (" " if sign.isspace() else sign for sign in text)
    return "".join("�" if unicodedata.category(sign) == "Cc" else sign for sign in line)
