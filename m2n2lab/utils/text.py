"""Text for people: percentages, and names from outside made safe to print."""

from __future__ import annotations

import math
import re

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Characters that steer a terminal or turn the direction of a text, and halves of surrogate pairs,
which cannot be written."""


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

    The middle of a long text is cut; characters that could steer a terminal or turn a line around
    are replaced. It is not escaped.
    """
    if len(text) > max_chars:
        end = (max_chars - 1) // 2
        text = f"{text[: max_chars - 1 - end]}…{text[len(text) - end :]}"
    return _HIDDEN.sub("�", "".join(" " if sign.isspace() else sign for sign in text))


def visible(text: str, keep: str = "") -> str:
    r"""Return a text from outside with ``\x1b`` and the like in place of what could do harm.

    Args:
        text: the text.
        keep: characters that stay, such as line ends.
    """

    def escaped(found: re.Match[str]) -> str:
        sign = found[0]
        return sign if sign in keep else sign.encode("unicode_escape", "surrogatepass").decode()

    return _HIDDEN.sub(escaped, text)
