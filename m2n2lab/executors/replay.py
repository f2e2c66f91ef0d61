"""In which order the children of an asynchronous run came in, and the run again from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from m2n2lab.errors import InputError, whole_number
from m2n2lab.records import Generation, Proposal
from m2n2lab.rejection import Trial

if TYPE_CHECKING:
    from m2n2lab.evolver import Evolver


class Arrivals:
    """A record of asking and telling, enough to take an asynchronous run again, bit for bit.

    Attributes:
        events: 0 where a proposal was asked for; t where the t-th of them (from 1) was told; −t
            where it was dropped.
        seen: data points that were scored, by t, of children that were given up early.
    """

    def __init__(self) -> None:
        self.events: list[int] = []
        self.seen: dict[int, int] = {}
        self._asked = 0

    def asked(self) -> int:
        """Record that a proposal was asked for; returns its number."""
        self._asked += 1
        self.events.append(0)
        return self._asked

    def told(self, number: int, seen: int | None = None) -> None:
        """Record that a proposal was told, and of how many data points if not of all."""
        if seen is not None:
            self.seen[number] = seen
        self.events.append(number)

    def dropped(self, number: int) -> None:
        """Record that a proposal will never be told."""
        self.events.append(-number)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON holds too, for ``of``."""
        return {"events": [*self.events], "seen": {str(k): v for k, v in self.seen.items()}}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Arrivals:
        """Return the record of a ``state_dict``.

        Raises:
            InputError: it is none.
        """
        arrivals = cls()
        try:
            arrivals.events = [int(event) for event in state["events"]]
            arrivals.seen = {int(k): int(v) for k, v in state["seen"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                "A record of arrivals must have lists of events and seen, as state_dict gives, but "
                f"{str(state)[:60]!r} came; give that."
            ) from None
        arrivals._asked = arrivals.events.count(0)
        return arrivals


class Replayed:
    """Takes an asynchronous run again in this thread, in the order in which children came then.

    ::

        evolver.run(1_000, executor=pool)
        again.run(1_000, executor=Replayed(pool.arrivals))    # again stood where evolver began

    Args:
        arrivals: the record, from its beginning.
    """

    def __init__(self, arrivals: Arrivals) -> None:
        self._events = arrivals.events
        self._seen = arrivals.seen
        self._at = self._asked = 0
        self._flying: dict[int, tuple[Proposal, Any, Trial | None]] = {}

    def run(
        self, evolver: Evolver, steps: int, until: Callable[[Generation], bool] | None = None
    ) -> None:
        """Take up to ``steps`` steps, as far as the record goes.

        Raises:
            InputError: a child is told that was never asked for.
        """
        left = whole_number("steps", steps, 0)
        while left and self._at < len(self._events):
            event = self._events[self._at]
            if event == 0:
                proposal = evolver.ask()
                self._asked += 1
                trial = evolver.rejection.trial(proposal) if evolver.rejection else None
                self._flying[self._asked] = proposal, evolver.breed(proposal), trial
            elif abs(event) not in self._flying:
                raise InputError(
                    f"A record of arrivals must name proposals that are in flight, but {event} "
                    f"came at place {self._at}; give the record of one executor from its beginning."
                )
            elif event > 0:
                generation = self._tell(evolver, event)
                left -= 1
                if until is not None and until(generation):
                    left = 0
            else:
                del self._flying[-event]
            self._at += 1

    def _tell(self, evolver: Evolver, number: int) -> Generation:
        """Score and tell a proposal as it was told."""
        proposal, genome, trial = self._flying.pop(number)
        model = evolver.space.materialise(genome)
        if trial is None:
            return evolver.tell(proposal, evolver.task.evaluate(model), genome=genome)
        # The same chunks again: a model's rounding may depend on what is computed together.
        many = self._seen.get(number, evolver.task.points)
        while trial.seen < many:
            indices = trial.upcoming()
            trial.add(indices, evolver.task.evaluate(model, indices))
        return evolver.tell(proposal, trial.scores, genome=genome)
