"""Answer extraction: the number that a generated answer gives."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

Extraction = Literal["strict", "flexible"]

MAX_NUMBER_CHARS = 40
"""Longest number; anything longer comes from a model that repeats itself."""

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
# A minus after a digit, letter or bracket is a subtraction: "10-7" ends in 7, not in -7.
_NUMBER = re.compile(
    rf"""
    (?P<minus>(?<![\w.)\]])[-−–]\s?)?
    (?:[$€£]\s?)?
    (?P<inner>(?<=[$€£])[-−–])?
    (?:(?P<whole>\d+)\s+(?=\d+/\d))?
    (?P<number>{_DIGITS})
    (?:\s?/\s?(?P<below>(?:{_DIGITS})))?
    """,
    re.VERBOSE,
)
_LATEX = re.compile(r"\\[dt]?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}")
_MARK = "####"
_SAYS = re.compile(r"answer(?: is|:)", re.IGNORECASE)


def extract(answer: str, how: Extraction = "flexible") -> Fraction | None:
    """Return the number that an answer gives, or ``None``.

    ``"strict"`` takes the first number after the first ``####``, on the same line, as GSM8K's own
    answers write it. ``"flexible"`` also takes the first number after the last "the answer is" and,
    without either, the last number of all. Thousands separators, currency and percent signs are
    ignored; ``3/4`` and ``1 1/2`` are fractions.
    """
    _, mark, rest = answer.partition(_MARK)
    marked = _numbers(rest.split("\n")[0])[:1] if mark else []
    if marked or how == "strict":
        return marked[0] if marked else None
    says = [match.end() for match in _SAYS.finditer(answer)]
    stated = _numbers(answer[says[-1] :].strip().split("\n")[0])[:1] if says else []
    found = stated or _numbers(answer)[-1:]
    return found[0] if found else None


def _numbers(text: str) -> list[Fraction]:
    """Return all numbers in a text."""
    plain = _LATEX.sub(r"\1/\2", text)
    found = (_value(match) for match in _NUMBER.finditer(plain))
    return [value for value in found if value is not None]


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > MAX_NUMBER_CHARS:
        return None
    value = Fraction(match["number"].replace(",", ""))
    below = Fraction((match["below"] or "1").replace(",", ""))
    value = value / below if below else value
    value += int(match["whole"] or 0)
    return -value if match["minus"] or match["inner"] else value


def written(number: Fraction | None) -> str:
    """Format a number for display: as an integer, a finite decimal, or a fraction."""
    if number is None:
        return "no number"
    below = number.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    if below != 1:
        return str(number)
    return f"{float(number):.12g}" if number.denominator != 1 else str(number.numerator)
