"""Grade-school word problems in GSM8K's own form, made by code from a seed.

Each takes one to three steps with numbers up to 100. Which part a problem belongs to is decided by
its words alone, so no problem to train on is ever asked in a test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Literal, NamedTuple

from m2n2lab.tasks.language.gsm8k_data import Problem
from m2n2lab.utils.errors import choose, whole_number

Part = Literal["train", "search", "test"]

MAX_NUMBER = 100
"""No number in a problem, or in its answer, is above this."""

PEOPLE = (
    *(("Mia", "she"), ("Tom", "he"), ("Ana", "she"), ("Ben", "he"), ("Zoe", "she"), ("Max", "he")),
    *(("Eva", "she"), ("Leo", "he"), ("Ida", "she"), ("Sam", "he"), ("Amy", "she"), ("Jon", "he")),
)
THINGS = (
    *("apples", "books", "cards", "coins", "cookies", "pens", "shells", "stamps", "toys", "eggs"),
    *("stickers", "marbles", "flowers", "balloons", "pencils", "beads"),
)


class Step(NamedTuple):
    """One thing that happens.

    Attributes:
        sign: of the operation.
        number: its second operand.
        words: what happens, with ``{who}``, ``{they}``, ``{friend}``, ``{k}`` and ``{what}``.
    """

    sign: str
    number: int
    words: str


ORDER = ("First", "Then", "Last")
"""What the sentences of a problem, and the lines of its answer, begin with: so small a model finds
the sentence that a line needs by such a word, not by counting."""

MORE = (
    "{they} buys {k} more.",
    "{friend} gives {who} {k} {what}.",
    "{they} finds {k} more {what}.",
    "{they} gets {k} {what} as a present.",
)
FEWER = (
    "{they} gives {k} to {friend}.",
    "{they} loses {k} {what}.",
    "{they} sells {k} of them.",
    "{k} of the {what} are taken by {friend}.",
)
TIMES = (
    "{they} gets {k} times as many {what} as before.",
    "{friend} brings enough to have {k} times as many.",
    "there are {k} times as many {what}.",
)
SHARED = (
    "{they} puts them into {k} equal boxes and keeps one box.",
    "{they} shares them equally among {k} friends, and {friend} is one of them.",
    "{they} splits the {what} into {k} equal groups and takes one.",
)
ENDS = {
    "+": "How many {what} does {who} have now?",
    "-": "How many {what} are left?",
    "*": "How many {what} are there now?",
    "/": "How many {what} is that?",
}


def _add(draw: random.Random, have: int) -> Step | None:
    if have >= MAX_NUMBER:
        return None
    return Step("+", draw.randint(1, min(MAX_NUMBER - have, 50)), draw.choice(MORE))


def _take(draw: random.Random, have: int) -> Step | None:
    return Step("-", draw.randint(1, have - 1), draw.choice(FEWER)) if have > 1 else None


def _times(draw: random.Random, have: int) -> Step | None:
    most = min(MAX_NUMBER // have, 9)
    return Step("*", draw.randint(2, most), draw.choice(TIMES)) if most >= 2 else None


def _share(draw: random.Random, have: int) -> Step | None:
    ways = [k for k in range(2, 11) if have % k == 0 and have > k]
    return Step("/", draw.choice(ways), draw.choice(SHARED)) if ways else None


STEP_MAKERS: tuple[Callable[[random.Random, int], Step | None], ...] = (_add, _take, _times, _share)
RESULT: dict[str, Callable[[int, int], int]] = {
    "+": int.__add__,
    "-": int.__sub__,
    "*": int.__mul__,
    "/": int.__floordiv__,
}


def problem(draw: random.Random) -> Problem:
    """Return one problem of one to three steps."""
    (who, they), (friend, _) = draw.sample(PEOPLE, 2)
    what = draw.choice(THINGS)
    have = draw.randint(2, 60)
    named = {"who": who, "they": they, "friend": friend, "what": what}
    told, worked = [f"{who} has {have} {what}."], []
    sign = "+"
    for order in ORDER[: draw.randint(1, 3)]:
        step = None
        while step is None:
            step = draw.choice(STEP_MAKERS)(draw, have)
        sign, number, words = step
        told.append(f"{order} {words.format(k=number, **named)}")
        now = RESULT[sign](have, number)
        worked.append(f"{order} {have}{sign}{number}=<<{have}{sign}{number}={now}>>{now}")
        have = now
    told.append(ENDS[sign].format(**named))
    return Problem(" ".join(told), "\n".join([*worked, f"#### {have}"]))


def part_of(found: Problem) -> Part:
    """Return the part that a problem belongs to: a tenth each to search on and to test."""
    number = sha256(found.question.encode()).digest()[0] % 10
    return "test" if number == 0 else "search" if number == 1 else "train"


def problems(part: Part, seed: int = 0) -> Iterator[Problem]:
    """Yield different problems of one part without end.

    Raises:
        InputError: no such part, a negative seed.
    """
    choose("part", part, ("train", "search", "test"))
    draw = random.Random(f"problems {whole_number('seed', seed, 0)}")
    seen: set[str] = set()
    while True:
        found = problem(draw)
        if part_of(found) == part and found.question not in seen:
            seen.add(found.question)
            yield found


def sample_problems(part: Part, count: int, seed: int = 0) -> list[Problem]:
    """Return ``count`` different problems of one part."""
    return list(islice(problems(part, seed), whole_number("count", count, 0)))
