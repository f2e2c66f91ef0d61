"""Text for people: percentages, and names from outside made safe to print."""

from __future__ import annotations

import math
import unicodedata


def percent(value: float) -> str:
    """Return a share as ``71.1 %``, or a dash where it is not known."""
    return "–" if math.isnan(value) else f"{value:.1%}".replace("%", " %")


def plain(text: str, most: int) -> str:
    """Return a text from outside as one line of at most ``most`` characters.

    A long one loses its middle; control characters, which could steer a terminal, are shown as a
    mark. It is not escaped.
    """
    if len(text) > most:
        end = (most - 1) // 2
        text = f"{text[: most - 1 - end]}…{text[len(text) - end :]}"
    line = (" " if sign.isspace() else sign for sign in text)
    return "".join("�" if unicodedata.category(sign) == "Cc" else sign for sign in line)
