"""Problems with checkpoints: the file, what was expected, what was found, how to fix it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from m2n2lab.utils.errors import DISK_ERRORS, InputError
from m2n2lab.utils.text import visible


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One reason why checkpoints cannot be merged.

    Attributes:
        file: the file or folder at fault.
        tensor: the tensor at fault; ``None`` where the file as a whole is.
        expected: what was expected.
        found: what was found instead.
        fix: what to do about it.
        of_disk: whether the reason is a disk that is full, fails or can only be read.
    """

    file: str
    expected: str
    found: str
    fix: str
    tensor: str | None = None
    of_disk: bool = False

    def __str__(self) -> str:
        where = self.file + (f", tensor {self.tensor}" if self.tensor else "")
        # A name with a line break must not pass for another problem.
        return visible(f"{where}: expected {self.expected}, but found {self.found}; {self.fix}.")

    def with_names(self, names: Mapping[str, str]) -> Problem:
        """Return the problem with other names of files or folders, given by those it has."""
        texts = asdict(self)
        for old, new in names.items():
            texts = {
                key: text.replace(old, new) if isinstance(text, str) else text
                for key, text in texts.items()
            }
        return Problem(**texts)


class Problems(InputError):  # noqa: N818  # it holds several errors
    """All problems of one operation, reported at once.

    Attributes:
        problems: each of them.
    """

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        self.of_disk = any(problem.of_disk for problem in problems)
        if len(problems) == 1:
            super().__init__(str(problems[0]))
        else:
            lines = "".join(f"\n- {problem}" for problem in problems)
            super().__init__(f"{len(problems)} problems were found:{lines}")


def unreadable(path: Path, error: OSError) -> Problem:
    """Return the problem of a file or folder that the system refuses to read."""
    return Problem(
        file=str(path),
        expected="a readable file or folder",
        found=error.strerror or str(error),
        fix="check the path and its permissions",
        of_disk=error.errno in DISK_ERRORS,
    )


class Collector:
    """A list of distinct problems, so that all are reported before work stops."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, problem: Problem) -> None:
        """Add a problem unless it is listed already."""
        if problem not in self.found:
            self.found.append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add several problems."""
        for problem in problems:
            self.add(problem)

    def check(self) -> None:
        """Raise what was found.

        Raises:
            Problems: at least one problem was added.
        """
        if self.found:
            raise Problems(*self.found)
