"""Replay: the order of asking and telling in an asynchronous run, and its repetition."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.core.early_rejection import Trial
from m2n2lab.core.records import Generation, Proposal
from m2n2lab.utils.class_paths import class_path
from m2n2lab.utils.errors import InputError, whole_number
from m2n2lab.utils.plain_values import plain_values

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver


Moment = tuple[int, Any]
"""Step and state of the generator, which every ask or tell changes."""


def _moment(evolver: Evolver) -> Moment:
    return evolver.generation, evolver.rng.bit_generator.state


class Arrivals:
    """A record of asking and telling, enough to repeat an asynchronous run bit for bit.

    It belongs to the run of one evolver from one step on. If the search is changed otherwise while
    children are in flight (by hand, or by steps taken back), the record cannot be replayed; if
    between runs, a pool begins another record.

    Attributes:
        events: 0 where a proposal was asked for; t where the t-th of them (from 1) was told; −t
            where it was dropped.
        seen: number of data points that were scored, by t, for children rejected early.
        again: t of dropped proposals that the next run asks for again.
        run: description of the run and of the state at its beginning (see ``describe_run``);
            ``None`` without events, and in records of earlier versions.
        complete: whether nothing else changed the search.
    """

    def __init__(self) -> None:
        self.events: list[int] = []
        self.seen: dict[int, int] = {}
        self.again: set[int] = set()
        self.run: dict[str, Any] | None = None
        self.complete = True
        self._asked = 0
        self._evolver: Callable[[], Evolver | None] = lambda: None  # whose run it is
        self._moment: Moment | None = None  # after the last event

    def continues(self, evolver: Evolver) -> bool:
        """Return whether events of this evolver can be added to those so far."""
        return not self.events or (self.complete and self._is_at(evolver))

    def _is_at(self, evolver: Evolver) -> bool:
        """Return whether the evolver is as the last event left it."""
        return self._evolver() is evolver and self._moment == _moment(evolver)

    @contextmanager
    def observing(self, evolver: Evolver) -> Iterator[None]:
        """Observe asking or telling within, and notice if anything else was done since the last."""
        with evolver.turn():
            if not self.events:
                self.run, self._evolver = describe_run(evolver), weakref.ref(evolver)
            elif not self._is_at(evolver):
                self.complete = False
            yield

    def asked(self) -> int:
        """Record that a proposal was asked for; return its number."""
        self._asked += 1
        self.events.append(0)
        self._keep_moment()
        return self._asked

    def told(self, number: int, seen: int | None = None) -> None:
        """Record that a proposal was told, with ``seen`` data points if not all were scored."""
        if seen is not None:
            self.seen[number] = seen
        self.events.append(number)
        self._keep_moment()

    def _keep_moment(self) -> None:
        evolver = self._evolver()
        self._moment = None if evolver is None else _moment(evolver)

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
            "run": self.run,
            "complete": self.complete,
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
            # Records of earlier versions have none of these.
            arrivals.again = {int(number) for number in state.get("again", ())}
            arrivals.run = None if state.get("run") is None else dict(state["run"])
            arrivals.complete = bool(state.get("complete", True))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                "A record of arrivals must be the events and seen of a state_dict, got "
                f"{str(state)[:60]!r}; give what state_dict returns."
            ) from None
        arrivals._asked = arrivals.events.count(0)
        return arrivals


def describe_run(evolver: Evolver) -> dict[str, Any]:
    """Return what decides a run's next steps, as plain values: what it is, and its state."""
    space, archive = evolver.space, evolver.archive
    seeds, state = hashlib.sha256(), hashlib.sha256()
    for seed in space.seeds:
        packed = space.pack(seed)
        for part in packed.values() if isinstance(packed, Mapping) else (packed,):
            seeds.update(np.asarray(part).tobytes())
    # Recipes of seeds are the same whatever the checkpoints; their angles are not.
    seeds.update(repr([space.angle(a, b) for a, b in pairwise(space.seeds)]).encode())
    members = archive.population.rows
    state.update(repr([member and member.id for member in members]).encode())
    state.update(archive.scores.tobytes())
    state.update(repr((evolver.born, evolver.rng.bit_generator.state)).encode())
    return {
        "method": evolver.method,
        "class": class_path(type(evolver)),
        "task": evolver.task.identity(),
        "space": class_path(type(space)),
        "recalibrate": getattr(space, "recalibrated_on", None),
        "seeds": seeds.hexdigest(),
        "options": plain_values(evolver.options),
        "step": evolver.generation,
        "state": state.hexdigest(),
    }


class Replayed:
    """An executor that repeats an asynchronous run in this thread, in its recorded order.

    ::

        evolver.run(1_000, executor=pool)
        again.run(1_000, executor=Replayed(pool.arrivals))    # again starts from the same state

    Args:
        arrivals: the record, from its beginning.

    Raises:
        InputError: the search was changed otherwise while the record was made.
    """

    def __init__(self, arrivals: Arrivals) -> None:
        if not arrivals.complete:
            raise InputError(
                "A record of arrivals must have all steps of its run, but others were taken while "
                "its pool ran; take steps by hand, or take them back, between runs."
            )
        self._run = arrivals.run
        self._evolver: Evolver | None = None
        self._moment: Moment | None = None  # after the last run
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
            InputError: the evolver is not in the state in which the record begins, or where this
                executor left it; or the record tells a child that was not asked for.
        """
        left = whole_number("steps", steps, 0)
        self._check(evolver)
        try:
            self._replay(evolver, left, until)
        finally:
            self._evolver, self._moment = evolver, _moment(evolver)

    def _check(self, evolver: Evolver) -> None:
        """Check that the record goes on from the evolver's present state."""
        if self._evolver is not None:
            if self._evolver is not evolver or self._moment != _moment(evolver):
                raise InputError(
                    "A replay must go on with the evolver that it began with, as it left it, got "
                    "another evolver or state; make another Replayed."
                )
            return
        if self._run is None:
            return
        found = describe_run(evolver)
        for name, value in self._run.items():
            if found.get(name) != value:
                raise InputError(
                    f"A record of arrivals must be replayed by the run that it belongs to, from "
                    f"step {self._run.get('step')}, got another {name}"
                    f"{_difference(value, found.get(name))}; make the evolver with the method, "
                    f"task, seeds and options of that run, and bring it to that step."
                )

    def _replay(
        self, evolver: Evolver, left: int, until: Callable[[Generation], bool] | None
    ) -> None:
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


def _difference(expected: Any, found: Any) -> str:
    """Return the difference of two descriptions as text; empty for checksums."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        names = [n for n in {**expected, **found} if expected.get(n) != found.get(n)]
        return "".join(f" ({n} {found.get(n)!r}, not {expected.get(n)!r})" for n in names[:1])
    if isinstance(expected, str) and len(expected) == hashlib.sha256().digest_size * 2:
        return ""
    return f" ({found!r}, not {expected!r})"
