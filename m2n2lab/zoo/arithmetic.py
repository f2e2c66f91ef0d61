"""Generated word problems for grade school, in GSM8K's format and from a seed.

Each takes one to three steps with numbers up to 100. The part of a problem depends on its text
alone, so no training problem occurs in a test.
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
"""Largest number in a problem or its answer."""

PEOPLE = (
    *(("Mia", "she"), ("Tom", "he"), ("Ana", "she"), ("Ben", "he"), ("Zoe", "she"), ("Max", "he")),
    *(("Eva", "she"), ("Leo", "he"), ("Ida", "she"), ("Sam", "he"), ("Amy", "she"), ("Jon", "he")),
)
THINGS = (
    *("apples", "books", "cards", "coins", "cookies", "pens", "shells", "stamps", "toys", "eggs"),
    *("stickers", "marbles", "flowers", "balloons", "pencils", "beads"),
)


class Step(NamedTuple):
    """One step of a problem.

    Attributes:
        sign: the operator.
        number: its second operand.
        sentence: template with ``{person}``, ``{pronoun}``, ``{friend}``, ``{k}`` and ``{things}``.
    """

    sign: str
    number: int
    sentence: str


ORDER = ("First", "Then", "Last")
"""First words of the sentences of a problem and of the lines of its answer, with which so small a
model finds the sentence for a line; it cannot count them."""

MORE = (
    "{pronoun} buys {k} more.",
    "{friend} gives {person} {k} {things}.",
    "{pronoun} finds {k} more {things}.",
    "{pronoun} gets {k} {things} as a present.",
)
FEWER = (
    "{pronoun} gives {k} to {friend}.",
    "{pronoun} loses {k} {things}.",
    "{pronoun} sells {k} of them.",
    "{k} of the {things} are taken by {friend}.",
)
TIMES = (
    "{pronoun} gets {k} times as many {things} as before.",
    "{friend} brings enough to have {k} times as many.",
    "there are {k} times as many {things}.",
)
SHARED = (
    "{pronoun} puts them into {k} equal boxes and keeps one box.",
    "{pronoun} shares them equally among {k} friends, and {friend} is one of them.",
    "{pronoun} splits the {things} into {k} equal groups and takes one.",
)
ENDS = {
    "+": "How many {things} does {person} have now?",
    "-": "How many {things} are left?",
    "*": "How many {things} are there now?",
    "/": "How many {things} is that?",
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
    divisors = [k for k in range(2, 11) if have % k == 0 and have > k]
    return Step("/", draw.choice(divisors), draw.choice(SHARED)) if divisors else None


STEP_MAKERS: tuple[Callable[[random.Random, int], Step | None], ...] = (_add, _take, _times, _share)
RESULT: dict[str, Callable[[int, int], int]] = {
    "+": int.__add__,
    "-": int.__sub__,
    "*": int.__mul__,
    "/": int.__floordiv__,
}


def problem(draw: random.Random) -> Problem:
    """Return one problem of one to three steps."""
    (person, pronoun), (friend, _) = draw.sample(PEOPLE, 2)
    things = draw.choice(THINGS)
    have = draw.randint(2, 60)
    fields = {"person": person, "pronoun": pronoun, "friend": friend, "things": things}
    sentences, worked = [f"{person} has {have} {things}."], []
    sign = "+"
    for order in ORDER[: draw.randint(1, 3)]:
        step = None
        while step is None:
            step = draw.choice(STEP_MAKERS)(draw, have)
        sign, number, sentence = step
        sentences.append(f"{order} {sentence.format(k=number, **fields)}")
        now = RESULT[sign](have, number)
        worked.append(f"{order} {have}{sign}{number}=<<{have}{sign}{number}={now}>>{now}")
        have = now
    sentences.append(ENDS[sign].format(**fields))
    return Problem(" ".join(sentences), "\n".join([*worked, f"#### {have}"]))


def part_of(found: Problem) -> Part:
    """Return the part of a problem: a tenth each for the search and the test."""
    number = sha256(found.question.encode()).digest()[0] % 10
    return "test" if number == 0 else "search" if number == 1 else "train"


def problems(part: Part, seed: int = 0) -> Iterator[Problem]:
    """Yield distinct problems of one part without end.

    Raises:
        InputError: the part is unknown, or the seed negative.
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
    """Return ``count`` distinct problems of one part."""
    return list(islice(problems(part, seed), whole_number("count", count, 0)))
