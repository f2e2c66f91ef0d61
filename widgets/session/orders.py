"""Orders: what pages ask of a search, in a mailbox that its worker reads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from m2n2lab.utils.errors import choose

from .gallery import GalleryRequest
from .workbench import VOTES, Choice, Filter, FormulaRequest

if TYPE_CHECKING:
    from m2n2lab.core.records import Proposal

PACES = {"full speed": 0.0, "20 steps/s": 0.05, "2 steps/s": 0.5}
"""Least seconds of a step, by name."""

COMMANDS = ("merge", "undo", "propose", "preview", "save", "pin", "unpin", "redo", *VOTES)
"""Commands to the bench: merge the child into the archive, undo what was done last, put the
search's next proposal on the bench, preview what is on it where that is slow, save a model, pin a
member or no longer, redo what was undone, or vote between pictures."""

MOVES = ("undo", "redo")
"""Commands that move the search to another state, for which it pauses."""

Object: TypeAlias = "Proposal | int | None"
"""What a command is about: for a merge the proposal that was shown; for a pin a member's id; for a
model to be saved a member's id, the proposal of a child, or ``None`` for the best."""


@dataclass(frozen=True)
class Orders:
    """All that is asked of a search at one moment.

    Attributes:
        running: step until something else is ordered.
        steps: steps to take, if it is not running.
        pace: least seconds of a step while it is running.
        filter: which data points are shown.
        choice: the pair, split and mix wanted on the bench.
        chosen: the member whose page is open; ``None`` for the best.
        mapping: whether to fill in the landscape; ``None`` if nothing was ordered.
        attended: whether a page shows the search.
        past: the step whose archive is shown; ``None`` for the present.
        gallery: what to draw; ``None`` while the gallery is not shown.
        formula: which equations to compute; ``None`` while they are not shown.
        sketch: a drawing to be read (see ``readings_data``); ``None`` while none is shown.
        commands: each is carried out once, with what it is about.
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
    gallery: GalleryRequest | None = None
    formula: FormulaRequest | None = None
    sketch: tuple[int, ...] | None = None
    commands: tuple[tuple[str, Object], ...] = ()
    halted: bool = False
    closed: bool = False

    @property
    def stepping(self) -> bool:
        """Whether another step is ordered."""
        return self.running or self.steps > 0

    @property
    def busy(self) -> bool:
        """Whether more than one step is ordered, so that no single one is looked at closely."""
        return self.running or self.steps > 1


class Mailbox:
    """The orders of one search: its worker takes them; other threads give them and never wait.

    Attributes:
        now: the orders, replaced as a whole.
        taken: the orders that the worker took last, without its commands and the step taken.
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
        """Stop after the current step, or within it if a model is answering."""
        self._order(running=False, steps=0, halted=True)

    def toggle(self) -> None:
        """Pause or run: the opposite of the last order, even before the worker has followed it."""
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

    def choose(self, **fields: int | float | None) -> None:
        """Change fields of the choice on the bench: ``a``, ``b``, ``split``, ``mix``.

        It is previewed at once, or, where that is slow, when ``preview`` is ordered.
        """
        with self._changed:
            choice = replace(self.now.choice, **fields)  # type: ignore[arg-type]
            if fields.keys() & {"a", "b"} and "seed" not in fields:
                choice = replace(choice, seed=None)
            self._order(choice=choice)

    def select(self, member: int) -> None:
        """Open a member's page and follow its ancestors."""
        self._order(chosen=member)

    def view_step(self, step: int | None) -> None:
        """Show the archive as it was after a step, or, for ``None``, as it is now."""
        if step != self.now.past:
            self._order(past=step)

    def view_gallery(self, request: GalleryRequest | None) -> None:
        """Set what the gallery shows; it is drawn only while a page shows it."""
        if request != self.now.gallery:
            self._order(gallery=request)

    def view_formula(self, request: FormulaRequest | None) -> None:
        """Set which equations are shown; they are computed only while a page shows them."""
        if request != self.now.formula:
            self._order(formula=request)

    def view_sketch(self, ink: tuple[int, ...] | None) -> None:
        """Set the drawing that members read; they read it only while a page shows that."""
        if ink != self.now.sketch:
            self._order(sketch=ink)

    def map(self, on: bool) -> None:
        """Map the landscape of the pair on the bench further, or stop."""
        self._order(mapping=on)

    def command(self, name: str, about: Object = None) -> None:
        """Order one of ``COMMANDS``, carried out between two steps.

        Args:
            name: the command.
            about: for a merge, the proposal that the page shows; if another page has put another
                one on the bench meanwhile, that is not merged. For a model to be saved, or a member
                to be pinned, which.

        Raises:
            InputError: no such command.
        """
        order = choose("command", name, COMMANDS), about
        pause: dict[str, Any] = {"running": False, "steps": 0} if name in MOVES else {}
        with self._changed:
            self._order(commands=(*self.now.commands, order), **pause)

    def attend(self, on: bool = True) -> None:
        """Set whether a page shows the search."""
        if self.now.attended != on:
            self._order(attended=on)

    def close(self) -> None:
        """Ask the worker to end."""
        self._order(closed=True)

    @property
    def running(self) -> bool:
        """Whether steps are ordered, even before the worker takes them."""
        return self.now.stepping

    @property
    def past(self) -> int | None:
        """The step that is ordered to be shown; ``None`` for the present."""
        return self.now.past

    @property
    def choice(self) -> Choice:
        """What is ordered to be on the bench."""
        return self.now.choice

    def notify(self) -> None:
        """Have a waiting worker check again whether it should wait."""
        with self._changed:
            self._changed.notify_all()

    # -- from the worker -------------------------------------------------------------------------

    def take(self) -> Orders:
        """Return the orders, and remove their commands and one step."""
        with self._changed:
            orders = self.now
            if orders.steps or orders.commands:
                self.now = replace(orders, steps=max(orders.steps - 1, 0), commands=())
            self.taken = self.now
        return orders

    @property
    def new(self) -> bool:
        """Whether orders have changed since they were taken last."""
        return self.now is not self.taken

    def wait(self, seconds: float | None = None, until: Callable[[], bool] | None = None) -> None:
        """Wait for new orders.

        Args:
            seconds: most time to wait.
            until: another condition that ends the wait; checked when ``notify`` is called.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.new or (until is not None and until()), seconds)

    def withdraw(self) -> None:
        """Withdraw steps and mapping: a step or a preview has failed."""
        self._order(running=False, steps=0, mapping=False)

    def replace_choice(self, choice: Choice, old: tuple[Choice, ...] | None = None) -> None:
        """Replace the choice on the bench.

        Args:
            choice: the new one.
            old: replace only one of these, as any other is newer; by default any.
        """
        with self._changed:
            if old is None or self.now.choice in old:
                self._order(choice=choice)

    def leave_step(self, step: int) -> None:
        """Withdraw the order to show a step, unless another one is ordered by now."""
        with self._changed:
            if self.now.past == step:
                self._order(past=None)

    def _order(self, **changes: Any) -> None:
        with self._changed:
            self.now = replace(self.now, **changes)
            self._changed.notify_all()
