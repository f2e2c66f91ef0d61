"""The number that an answer comes to, read as a person would read it."""

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab.tasks.language.answer_extraction import extract, written

OUTPUTS = [
    # what a model wrote, strict, flexible
    ("She has 3+4=<<3+4=7>>7 apples.\n#### 7", "7", "7"),
    ("#### 1,234", "1234", "1234"),
    ("#### 1,234,567.50", "1234567.5", "1234567.5"),
    ("#### $18", "18", "18"),
    ("#### -5", "-5", "-5"),
    ("#### $-5", "-5", "-5"),
    ("#### -$5.25", "-5.25", "-5.25"),
    ("#### 25%", "25", "25"),
    ("####18 dollars over 7 days", "18", "18"),
    ("#### 18.", "18", "18"),
    ("#### 3/4", "3/4", "3/4"),
    ("#### 1 1/2 cups", "3/2", "3/2"),
    ("#### 9\n\nQuestion: Tom has 5 pens.\n#### 6", "9", "9"),
    ("#### \nso it is 12", None, "12"),
    ("#### none at all", None, None),
    ("The answer is: 42", None, "42"),
    ("The answer is $1,050.00, which he pays in 12 months.", None, "1050"),
    ("First the answer is 3. No: the answer is 4 because 9 is odd.", None, "4"),
    ("So 2 trays of 12 give 24 eggs", None, "24"),
    ("He is left with 10-7", None, "7"),
    ("It is colder now: -12 degrees", None, "-12"),
    ("x = −3", None, "-3"),
    ("Each gets $0.75.", None, "0.75"),
    ("Each gets .5 litres", None, "0.5"),
    ("That leaves \\frac{2}{3} of the cake", None, "2/3"),
    ("The numbers are 1,2 and 30", None, "30"),
    ("I do not know.", None, None),
    ("", None, None),
    ("He runs 5/0 miles", None, "5"),
    ("9" * 10_000, None, None),
    ("\x00\ud800 <script>alert(8)</script>", None, "8"),
    ("## 4 ### 5", None, "5"),
]


@pytest.mark.parametrize(("text", "strict", "flexible"), OUTPUTS)
def test_a_hand_written_output_comes_to_the_number_a_person_reads(text, strict, flexible):
    assert extract(text, "strict") == (strict and Fraction(strict))
    assert extract(text, "flexible") == (flexible and Fraction(flexible))


def test_all_official_gold_answers_come_to_themselves():
    data = os.environ.get("M2N2LAB_DATA")
    if not data:
        pytest.skip("M2N2LAB_DATA does not name a folder with gsm8k/")
    lines = (Path(data) / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == 1319
    for answer in answers:
        gold = Fraction(answer.rsplit("####", 1)[1].strip().replace(",", ""))
        assert extract(answer, "strict") == extract(answer, "flexible") == gold


@given(st.integers(-(10**9), 10**9), st.integers(0, 99), st.text(max_size=30))
def test_a_number_with_commas_and_cents_is_found_at_the_end_of_any_text(whole, cents, before):
    text = f"{before}\n#### {whole:,}.{cents:02d}" if "####" not in before else f"#### {whole:,}"
    found = extract(text, "strict")
    assert found == Fraction(text.rsplit("####", 1)[1].strip().replace(",", ""))


def test_a_number_of_forty_characters_is_an_answer_and_a_longer_one_is_not():
    assert extract("7" * 40) == extract("#### " + "7" * 40, "strict") == int("7" * 40)
    assert extract("7" * 41) is None
    assert extract("4 or " + "7" * 41) == 4


# What numbers are written with, among any other characters.
PIECES = st.sampled_from([*"0123456789٣.,/-−$€% \n{}x", "####", "\\frac", "answer is"])


@given(st.lists(PIECES | st.characters(), max_size=40).map("".join).map(lambda text: text[:40]))
def test_a_short_text_gives_a_number_exactly_where_it_holds_a_digit(text):
    found, marked = extract(text), extract(text, "strict")
    assert (found is not None) == any(character.isdecimal() for character in text)
    assert marked in (None, found)
    assert marked is None or "####" in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("7", "7"),
        ("-1234567", "-1234567"),
        ("3/4", "0.75"),
        ("2/3", "2/3"),
        ("1050.10", "1050.1"),
        (None, "no number"),
    ],
)
def test_a_number_is_written_as_people_write_it(number, text):
    assert written(number and Fraction(number)) == text
