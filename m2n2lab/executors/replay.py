"""Replay: the order of asking and telling in an asynchronous run, and its repetition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from m2n2lab.core.early_rejection import Trial
from m2n2lab.core.records import Generation, Proposal
from m2n2lab.utils.errors import InputError, whole_number

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver


class Arrivals:
    """A record of asking and telling, enough to repeat an asynchronous run bit for bit.

    Attributes:
        events: 0 where a proposal was asked for; t where the t-th of them (from 1) was told; −t
            where it was dropped.
        seen: number of data points that were scored, by t, for children rejected early.
        again: t of dropped proposals that the next run asks for again.
    """

    def __init__(self) -> None:
        self.events: list[int] = []
        self.seen: dict[int, int] = {}
        self.again: set[int] = set()
        self._asked = 0

    def asked(self) -> int:
        """Record that a proposal was asked for; return its number."""
        self._asked += 1
        self.events.append(0)
        return self._asked

    def told(self, number: int, seen: int | None = None) -> None:
        """Record that a proposal was told, with ``seen`` data points if not all were scored."""
        if seen is not None:
            self.seen[number] = seen
        self.events.append(number)

    def dropped(self, number: int, again: bool = False) -> None:
        """Record that a proposal will not be told, unless it is asked for ``again``."""
        if again:
            self.again.add(number)
        self.events.append(-number)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for ``of``, which JSON can hold."""
        return {
            "events": [*self.events],
            "seen": {str(k): v for k, v in self.seen.items()},
            "again": sorted(self.again),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Arrivals:
        """Return the record with a state from ``state_dict``.

        Raises:
            InputError: ``state`` is not one.
        """
        arrivals = cls()
        try:
            arrivals.events = [int(event) for event in state["events"]]
            arrivals.seen = {int(k): int(v) for k, v in state["seen"].items()}
            # Records of earlier versions have none.
            arrivals.again = {int(number) for number in state.get("again", ())}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                "A record of arrivals must be the events and seen of a state_dict, got "
                f"{str(state)[:60]!r}; give what state_dict returns."
            ) from None
        arrivals._asked = arrivals.events.count(0)
        return arrivals


class Replayed:
    """An executor that repeats an asynchronous run in this thread, in its recorded order.

    ::

        evolver.run(1_000, executor=pool)
        again.run(1_000, executor=Replayed(pool.arrivals))    # again starts from the same state

    Args:
        arrivals: the record, from its beginning.
    """

    def __init__(self, arrivals: Arrivals) -> None:
        self._events = arrivals.events
        self._seen = arrivals.seen
        self._again = arrivals.again
        self._position = self._asked = 0
        self._in_flight: dict[int, tuple[Proposal, Any, Trial | None]] = {}

    def run(
        self,
        evolver: Evolver,
        steps: int,
        until: Callable[[Generation], bool] | None = None,
        catch: tuple[type[Exception], ...] = (),
        retries: int = 0,
    ) -> None:
        """Take up to ``steps`` steps, as far as the record goes.

        What was caught or tried again is in the record, so ``catch`` and ``retries`` have no use.

        Raises:
            InputError: the record tells a child that was not asked for.
        """
        left = whole_number("steps", steps, 0)
        while left and self._position < len(self._events):
            event = self._events[self._position]
            if event == 0:
                proposal = evolver.ask()
                self._asked += 1
                trial = evolver.rejection.trial(proposal) if evolver.rejection else None
                self._in_flight[self._asked] = proposal, evolver.breed(proposal), trial
            elif abs(event) not in self._in_flight:
                raise InputError(
                    f"A record of arrivals must name proposals that are in flight, got {event} "
                    f"at position {self._position}; give a record from its beginning."
                )
            elif event > 0:
                generation = self._tell(evolver, event)
                left -= 1
                if until is not None and until(generation):
                    left = 0
            else:
                proposal, *_ = self._in_flight.pop(-event)
                if -event in self._again:
                    evolver.put_back(proposal)
            self._position += 1

    def _tell(self, evolver: Evolver, number: int) -> Generation:
        """Score a proposal as in the recorded run, and tell the evolver."""
        proposal, genome, trial = self._in_flight.pop(number)
        model = evolver.space.materialise(genome)
        if trial is None:
            return evolver.tell(proposal, evolver.task.evaluate(model), genome=genome)
        # In the same chunks: rounding may depend on which points are computed together.
        points = self._seen.get(number, evolver.task.points)
        while trial.seen < points:
            indices = trial.upcoming()
            trial.add(indices, evolver.task.evaluate(model, indices))
        return evolver.tell(proposal, trial.scores, genome=genome)
