"""What can be asked of a search, from any thread; none of it waits for a step."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from m2n2lab.errors import choose

from .gallery import Looking
from .orders import COMMANDS, PACES, Orders
from .workbench import Choice, Filter

if TYPE_CHECKING:
    from m2n2lab.records import Proposal


class Commands:
    """Orders that a worker takes when it comes to them."""

    def __init__(self) -> None:
        self._orders = Orders()
        self._wake = threading.Condition()

    def run(self) -> None:
        """Step until told to pause."""
        self._order(running=True, halted=False)

    def pause(self) -> None:
        """Stop after the step that is under way, or within it where a model is answering."""
        self._order(running=False, steps=0, halted=True)

    def toggle(self) -> None:
        """Pause, or run: whatever was ordered last, however far the worker is."""
        if self.running:
            self.pause()
        else:
            self.run()

    def step(self, count: int = 1) -> None:
        """Take ``count`` more steps, then pause; a running search pauses after them."""
        with self._wake:  # a reentrant lock: nobody adds steps in between
            self._order(running=False, halted=False, steps=self._orders.steps + count)

    def pace(self, name: str) -> None:
        """Set how fast a running search steps, by a name of ``PACES``."""
        self._order(pace=PACES[name])

    def filter(self, wanted: Filter) -> None:
        """Set which data points are shown."""
        self._order(filter=wanted)

    def choose(self, **parts: int | float | None) -> None:
        """Change what is on the bench: ``a``, ``b``, ``split``, ``mix``.

        It is previewed at once, or when ``preview`` is ordered where that is slow.
        """
        with self._wake:
            choice = replace(self._orders.choice, **parts)  # type: ignore[arg-type]
            if parts.keys() & {"a", "b"} and "seed" not in parts:
                choice = replace(choice, seed=None)
            self._order(choice=choice)

    def select(self, member: int) -> None:
        """Open a member's page and follow its ancestors."""
        self._order(chosen=member)

    def look(self, step: int | None) -> None:
        """Show the archive as it was after a step, or, for ``None``, as it is."""
        if step != self._orders.past:
            self._order(past=step)

    def look_at(self, looking: Looking | None) -> None:
        """Set what is wanted of the gallery, which is drawn only for who looks at it."""
        if looking != self._orders.looking:
            self._order(looking=looking)

    def map(self, on: bool) -> None:
        """Go on with the landscape of the pair on the bench, or leave it as it is."""
        self._order(mapping=on)

    def command(self, name: str, shown: Proposal | None = None) -> None:
        """Order one of ``COMMANDS``, to be done between two steps.

        Args:
            name: which.
            shown: for a merge, the proposal that the page shows; another one, put on the bench by
                somebody else meanwhile, is not merged.

        Raises:
            InputError: an unknown one.
        """
        order = choose("command", name, COMMANDS), shown
        with self._wake:
            self._order(commands=(*self._orders.commands, order))

    def attend(self) -> None:
        """Say that somebody can see it from now on."""
        if not self._orders.attended:
            self._order(attended=True)

    def close(self) -> None:
        """Ask the worker to end; returns at once."""
        self._order(closed=True)

    @property
    def running(self) -> bool:
        """Whether the search was told to run or to take more steps, however far the worker is."""
        return self._orders.stepping

    @property
    def past(self) -> int | None:
        """The step that the page wants to see, however far the worker is; ``None`` for now."""
        return self._orders.past

    @property
    def choice(self) -> Choice:
        """What the page wants on the bench, however far the worker is."""
        return self._orders.choice

    def _order(self, **wishes: Any) -> None:
        with self._wake:
            self._orders = replace(self._orders, **wishes)
            self._wake.notify_all()
