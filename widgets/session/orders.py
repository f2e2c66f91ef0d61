"""Orders: what pages ask of a search, in a mailbox that its worker empties."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from m2n2lab.utils.errors import choose

from .gallery import Looking
from .workbench import VOTES, Choice, Filter

if TYPE_CHECKING:
    from m2n2lab.core.records import Proposal

PACES = {"full speed": 0.0, "20 steps/s": 0.05, "2 steps/s": 0.5}
"""Seconds that a step takes at least, by name."""

COMMANDS = ("merge", "undo", "propose", "preview", *VOTES)
"""What can be done with the bench: merge the child into the archive, take that back, put the
search's next proposal on it, preview what is on it where that is slow, or choose between
pictures."""


@dataclass(frozen=True)
class Orders:
    """All that is asked of a search at one moment.

    Attributes:
        running: step until another order.
        steps: steps to take, if it is not running.
        pace: least seconds of a step while it is running.
        filter: which data points are shown.
        choice: what is wanted on the bench.
        chosen: the member whose page is open; ``None`` for the best.
        mapping: whether the landscape is filled in; ``None`` where that was not ordered.
        attended: whether a page shows the search.
        past: the step that is looked back at; ``None`` for the present.
        looking: what is wanted of the gallery; ``None`` where it is not shown.
        commands: what is done once with the bench, and for a merge the proposal that was shown.
        halted: stop an evaluation that is under way.
        closed: end the worker.
    """

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
        """Whether more than one step is to be taken, so that none of them is looked at closely."""
        return self.running or self.steps > 1


class Mailbox:
    """The orders of one search: its worker takes them, all others give them and never wait.

    Attributes:
        now: the orders, replaced as a whole.
        taken: the orders that the worker took last, without what is done once.
    """

    def __init__(self) -> None:
        self.now = Orders()
        self.taken = self.now
        self._changed = threading.Condition()  # its lock is reentrant

    # -- from any thread -------------------------------------------------------------------------

    def run(self) -> None:
        """Step until a pause is ordered."""
        self._order(running=True, halted=False)

    def pause(self) -> None:
        """Stop after the step that is under way, or within it where a model is answering."""
        self._order(running=False, steps=0, halted=True)

    def toggle(self) -> None:
        """Pause, or run: the opposite of the last order, however far the worker is."""
        if self.running:
            self.pause()
        else:
            self.run()

    def step(self, count: int = 1) -> None:
        """Take ``count`` more steps, then pause; a running search pauses after them."""
        with self._changed:  # no steps are added in between
            self._order(running=False, halted=False, steps=self.now.steps + count)

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
        with self._changed:
            choice = replace(self.now.choice, **parts)  # type: ignore[arg-type]
            if parts.keys() & {"a", "b"} and "seed" not in parts:
                choice = replace(choice, seed=None)
            self._order(choice=choice)

    def select(self, member: int) -> None:
        """Open a member's page and follow its ancestors."""
        self._order(chosen=member)

    def look(self, step: int | None) -> None:
        """Show the archive as it was after a step, or, for ``None``, as it is."""
        if step != self.now.past:
            self._order(past=step)

    def look_at(self, looking: Looking | None) -> None:
        """Set what is wanted of the gallery, which is drawn only while a page shows it."""
        if looking != self.now.looking:
            self._order(looking=looking)

    def map(self, on: bool) -> None:
        """Go on with the landscape of the pair on the bench, or leave it as it is."""
        self._order(mapping=on)

    def command(self, name: str, shown: Proposal | None = None) -> None:
        """Order one of ``COMMANDS``, to be done between two steps.

        Args:
            name: which.
            shown: for a merge, the proposal that the page shows; another one, put on the bench
                from another page meanwhile, is not merged.

        Raises:
            InputError: an unknown one.
        """
        order = choose("command", name, COMMANDS), shown
        with self._changed:
            self._order(commands=(*self.now.commands, order))

    def attend(self, on: bool = True) -> None:
        """Set whether a page shows the search."""
        if self.now.attended != on:
            self._order(attended=on)

    def close(self) -> None:
        """Ask the worker to end."""
        self._order(closed=True)

    @property
    def running(self) -> bool:
        """Whether a run or more steps are ordered, however far the worker is."""
        return self.now.stepping

    @property
    def past(self) -> int | None:
        """The step that the page wants to see, however far the worker is; ``None`` for now."""
        return self.now.past

    @property
    def choice(self) -> Choice:
        """What the page wants on the bench, however far the worker is."""
        return self.now.choice

    def notify(self) -> None:
        """Have a waiting worker check again whether it should wait."""
        with self._changed:
            self._changed.notify_all()

    # -- from the worker -------------------------------------------------------------------------

    def take(self) -> Orders:
        """Return the orders, and take off them what is done once."""
        with self._changed:
            orders = self.now
            if orders.steps or orders.commands:
                self.now = replace(orders, steps=max(orders.steps - 1, 0), commands=())
            self.taken = self.now
        return orders

    @property
    def new(self) -> bool:
        """Whether there are other orders than those that were taken last."""
        return self.now is not self.taken

    def wait(self, seconds: float | None = None, until: Callable[[], bool] | None = None) -> None:
        """Wait for new orders.

        Args:
            seconds: how long at most.
            until: what else ends the wait; checked when ``notify`` is called.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.new or (until is not None and until()), seconds)

    def rest(self) -> None:
        """Withdraw what would be gone on with: a step or a preview has failed."""
        self._order(running=False, steps=0, mapping=False)

    def put(self, choice: Choice, over: tuple[Choice, ...] | None = None) -> None:
        """Replace what is wanted on the bench.

        Args:
            choice: what is wanted instead.
            over: replace one of these only, as others are newer; by default any.
        """
        with self._changed:
            if over is None or self.now.choice in over:
                self._order(choice=choice)

    def stop_looking(self, step: int) -> None:
        """Withdraw the order to look back at a step, unless there is another one by now."""
        with self._changed:
            if self.now.past == step:
                self._order(past=None)

    def _order(self, **wishes: Any) -> None:
        with self._changed:
            self.now = replace(self.now, **wishes)
            self._changed.notify_all()
