"""GSM8K's problems, from its files or from the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from m2n2lab.tasks.datasets import TRAIN_SHARE
from m2n2lab.tasks.language.answer_extraction import extract
from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.files import read_text
from m2n2lab.utils.json_text import parse_json

HUB = "openai/gsm8k"


class Problem(NamedTuple):
    """A word problem and its worked answer, which ends in ``#### number``."""

    question: str
    answer: str


Parts = tuple[list[Problem], list[Problem]]


def fetch() -> Parts:
    """Fetch GSM8K's two parts from the hub.

    Raises:
        InputError: the hub cannot be reached.
    """
    try:
        import datasets

        parts: Any = datasets.load_dataset(HUB, "main")
        train, test = (dict(enumerate(parts[name], start=1)) for name in ("train", "test"))
        return _problems(train, HUB), _problems(test, HUB)
    except InputError:
        raise
    except Exception as error:  # whatever the network raises, the fallback is the same
        reason = first_line(error)
        raise InputError(
            f"GSM8K could not be fetched from the hub ({type(error).__name__}: {reason}); give a "
            f"folder with train.jsonl and test.jsonl instead."
        ) from error


def read(path: Path) -> Parts:
    """Read the two parts in a folder, or split one file into two.

    Raises:
        InputError: a file is missing, empty or in another format.
    """
    files = [path / "train.jsonl", path / "test.jsonl"] if path.is_dir() else [path]
    there = [file for file in files if file.is_file()]
    if not there:
        expected = " or ".join(file.name for file in files) if path.is_dir() else "such file"
        raise InputError(
            f"{path} must be a folder with train.jsonl and test.jsonl, or one such file, but there "
            f"is no {expected}; check the path."
        )
    parts = [_problems(_rows(file), str(file)) for file in there]
    if len(parts) == 2:
        return parts[0], parts[1]
    cut = max(int(len(parts[0]) * TRAIN_SHARE), 1)
    return parts[0][:cut], parts[0][cut:]


def _rows(path: Path) -> dict[int, Any]:
    """Return the value in each line of a file, by the line's number."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read ({error}); get it again.") from error
    rows = {}
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                rows[number] = parse_json(line)
        except ValueError as error:
            raise InputError(
                f"{path} must hold a JSON object in each line, but line {number} is not one "
                f"({error}); get it again."
            ) from error
    return rows


def _problems(rows: Mapping[int, Any], where: str) -> list[Problem]:
    """Return rows with a question and an answer, by their numbers, as problems."""
    found = []
    for number, row in rows.items():
        known = row if isinstance(row, Mapping) else {}
        question, answer = known.get("question"), known.get("answer")
        if not isinstance(question, str) or not isinstance(answer, str):
            raise InputError(
                f"{where} must hold problems with a question and an answer, but line "
                f"{number} is {str(row)[:60]!r}; use GSM8K's own format."
            )
        if extract(answer, "strict") is None:
            raise InputError(
                f"{where} must hold answers that end in '#### ' and a number, but that in line "
                f"{number} is {answer[-60:]!r}; write it as GSM8K does."
            )
        found.append(Problem(question, answer))
    if not found:
        raise InputError(f"{where} must hold problems, but it is empty; get it again.")
    return found
