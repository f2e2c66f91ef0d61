"""What a page can ask of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .gallery import Looking
from .workbench import VOTES, Choice, Filter

if TYPE_CHECKING:
    from m2n2lab.records import Proposal

PACES = {"full speed": 0.0, "20 steps/s": 0.05, "2 steps/s": 0.5}
"""Seconds that a step takes at least, by name."""

COMMANDS = ("merge", "undo", "propose", "preview", *VOTES)
"""What can be done with the bench: tell the child to the archive, take that back, put the search's
next proposal on it, preview what is on it where that is slow, or choose between pictures."""


@dataclass(frozen=True)
class Orders:
    """What the page has asked for, replaced as a whole under the session's lock."""

    running: bool = False
    steps: int = 0
    pace: float = 0.0
    filter: Filter = field(default_factory=Filter)
    choice: Choice = field(default_factory=Choice)
    chosen: int | None = None
    mapping: bool | None = None
    attended: bool = True
    past: int | None = None
    looking: Looking | None = None
    commands: tuple[tuple[str, Proposal | None], ...] = ()
    halted: bool = False
    closed: bool = False

    @property
    def stepping(self) -> bool:
        """Whether another step is to be taken."""
        return self.running or self.steps > 0

    @property
    def busy(self) -> bool:
        """Whether more than one step is to be taken: nobody looks closely then."""
        return self.running or self.steps > 1
