"""What is wrong with a checkpoint, in one form: where, what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from m2n2lab.utils.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One reason why checkpoints cannot be merged.

    Attributes:
        file: the file or folder at fault.
        tensor: the tensor at fault, if it is one.
        expected: what was expected.
        found: what came.
        fix: what to do about it.
    """

    file: str
    expected: str
    found: str
    fix: str
    tensor: str | None = None

    def __str__(self) -> str:
        where = self.file + (f", tensor {self.tensor}" if self.tensor else "")
        return f"{where}: expected {self.expected}, but found {self.found}; {self.fix}."


class Problems(InputError):  # noqa: N818  # it holds several
    """Everything that is wrong, found at once.

    Attributes:
        problems: each of them.
    """

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        if len(problems) == 1:
            super().__init__(str(problems[0]))
        else:
            lines = "".join(f"\n- {problem}" for problem in problems)
            super().__init__(f"{len(problems)} problems were found:{lines}")


def unreadable(path: Path, error: OSError) -> Problem:
    """Return what is wrong with a file or folder that the system does not let read."""
    return Problem(
        file=str(path),
        expected="a readable file or folder",
        found=error.strerror or str(error),
        fix="check the path and its permissions",
    )


class Collector:
    """Gathers problems, so that all are named before work stops."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, problem: Problem) -> None:
        """Note one problem."""
        if problem not in self.found:
            self.found.append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note several problems."""
        for problem in problems:
            self.add(problem)

    def check(self) -> None:
        """Stop here if anything was found.

        Raises:
            Problems: all of it.
        """
        if self.found:
            raise Problems(*self.found)
