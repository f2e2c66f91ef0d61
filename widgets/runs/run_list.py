"""Run list: the runs of a visit and of the store, and what can be done with them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from m2n2lab.config.names import TASKS
from m2n2lab.config.settings import Settings
from m2n2lab.core.methods.registry import METHODS
from m2n2lab.store.labels import Labelled, label, labelled
from m2n2lab.utils.errors import InputError

from .browser_sessions import BROWSER_SESSIONS
from .run_store import REMOVED
from .runs import Run, Runs

REFRESH_SECONDS = 2.0
"""Time for which the runs of the store are remembered."""

MAX_LABEL_CHARS = 500
"""Longest name or note that is kept."""


@dataclass(frozen=True)
class Line:
    """One run of the list.

    Attributes:
        key: identifies it in the list.
        name, note: a person's.
        title, task, method: what was searched for, and how.
        steps: number of steps.
        best: held-out score of the best member; NaN if unknown.
        created: when it began, in UTC, as ISO 8601.
        place: ``"shown"``, ``"open"`` on this page, ``"elsewhere"`` on another, or ``"stored"``.
        pinned: whether it is kept however many runs there are.
        recorded: whether it is in the store.
    """

    key: str
    name: str
    note: str
    title: str
    task: str
    method: str
    steps: int
    best: float
    created: str
    place: str
    pinned: bool
    recorded: bool


class RunList:
    """The runs of a visit and of the store.

    Args:
        runs: those of the visit.

    Attributes:
        message: what was done last, or cannot be done.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.message = ""
        self._stored: list[Labelled] = []
        self._read = -REFRESH_SECONDS
        self._deleted: int | None = None  # number in the store of the run that was deleted last

    def lines(self, shown: Run) -> list[Line]:
        """Return the runs of the visit, then those of the store, the latest first."""
        stored: dict[int | None, Labelled] = {each.run: each for each in self._of_the_store()}
        found = []
        for run in reversed(self._runs.all):
            found.append(self._of_the_visit(run, stored.pop(_number(run), None), run is shown))
        for each in stored.values():
            held = self._runs.store and BROWSER_SESSIONS.holder(self._runs.store, each.run)
            found.append(
                Line(
                    f"stored-{each.run}", each.name, each.note, each.title, each.task, each.method,
                    each.last - each.start, each.test, each.created,
                    "elsewhere" if held and held[0].pages else "stored", each.pinned, True,
                )
            )  # fmt: skip
        return found

    def _of_the_visit(self, run: Run, stored: Labelled | None, shown: bool) -> Line:
        snapshot, settings = run.session.snapshot, run.settings
        own = self._runs.labels.get(run.number, {})
        if stored is not None and own:  # it was labelled before its first step
            self._label(f"open-{run.number}", **self._runs.labels.pop(run.number))
            stored = stored._replace(**own)
        return Line(
            key=f"open-{run.number}",
            name=stored.name if stored else run.name,
            note=stored.note if stored else own.get("note", ""),
            title=run.label,
            task=settings.task,
            method=settings.method,
            steps=snapshot.step - (run.session.recording.first or 0),
            best=snapshot.test,
            created=stored.created if stored else _iso(run.began),
            place="shown" if shown else "open",
            pinned=stored.pinned if stored else own.get("pinned", False),
            recorded=stored is not None,
        )

    def _of_the_store(self) -> list[Labelled]:
        store = self._runs.store
        if store is not None and time.monotonic() - self._read > REFRESH_SECONDS:
            self._read = time.monotonic()
            self._stored = labelled(store) if store.is_file() else []
        return self._stored

    @property
    def told(self) -> str:
        """What was done last, and how many runs were removed because there were too many."""
        gone = 0 if self._runs.store is None else REMOVED.get(self._runs.store, 0)
        text = f"{gone} of the oldest runs without a name or a pin were removed to make room."
        return f"{self.message} {text}".strip() if gone else self.message

    @property
    def undoable(self) -> bool:
        """Whether a run was deleted that can be had back."""
        return self._deleted is not None or self._runs.removed is not None

    def open(self, key: str, base: Settings) -> Run:
        """Return a run to be shown; one of the store goes on where it ended.

        Args:
            key: of the line.
            base: settings of which the device and the threads are used.

        Raises:
            InputError: there are too many runs already.
        """
        self.message = ""
        run = self._open_run(key)
        if run is not None:
            return run
        each = self._labelled(key)
        store, runs = self._runs.store, self._runs
        assert store is not None  # there is a line of it
        held = BROWSER_SESSIONS.holder(store, each.run)
        if held is not None and not held[0].pages:
            own = runs.adopt(replace(held[1], name=each.name))
            BROWSER_SESSIONS.take(*held)
            return own
        if held is not None:
            self.message = "Another page goes on with that run: this is a copy from its last step."
        return runs.open(each.run, _settings(each, base), each.name, copy=held is not None)

    def rename(self, key: str, name: str) -> Run | None:
        """Name a run; returns it as it is now if it is on the page."""
        name = name.strip()[:MAX_LABEL_CHARS]
        run = self._open_run(key)
        self._label(key, name=name)
        return None if run is None else self._runs.rename(run, name)

    def annotate(self, key: str, note: str) -> None:
        """Keep a note with a run."""
        self._label(key, note=note.strip()[:MAX_LABEL_CHARS])

    def pin(self, key: str, pinned: bool) -> None:
        """Keep a run however many there are, or no longer."""
        self._label(key, pinned=pinned)

    def delete(self, key: str, shown: Run) -> None:
        """Delete a run, until it is undone.

        Raises:
            InputError: it is on this page, or on another.
        """
        run = self._open_run(key)
        if run is shown:
            raise InputError("The run on the page cannot be deleted; show another one first.")
        number = self._store_number(key)
        store = self._runs.store
        if run is None and store is not None and number is not None:
            held = BROWSER_SESSIONS.holder(store, number)
            if held is not None and held[0].pages:
                raise InputError("Another page shows that run; close it there first.")
        self._deleted = number
        self._label(key, deleted=True)
        if run is not None:
            self._runs.remove(run, undoable=number is None)
        self.message = "The run is deleted."

    def undo(self) -> None:
        """Have back the run that was deleted last."""
        if self._deleted is not None and self._runs.store is not None:
            label(self._runs.store, self._deleted, deleted=False)
        self._deleted = None
        self._runs.undo_remove()
        self._read, self.message = -REFRESH_SECONDS, "The run is back."

    def _label(self, key: str, **fields: object) -> None:
        """Write a label of a run that is in the store; of another it is kept until it is there."""
        number, store, run = self._store_number(key), self._runs.store, self._open_run(key)
        if number is not None and store is not None:
            label(store, number, **fields)
        elif run is not None:
            self._runs.labels.setdefault(run.number, {}).update(fields)
        self._read = -REFRESH_SECONDS

    def _store_number(self, key: str) -> int | None:
        run = self._open_run(key)
        return int(key.rpartition("-")[2]) if run is None else _number(run)

    def _open_run(self, key: str) -> Run | None:
        where, _, number = key.partition("-")
        return self._runs.numbered(int(number)) if where == "open" else None

    def _labelled(self, key: str) -> Labelled:
        number = int(key.rpartition("-")[2])
        found = next((each for each in self._of_the_store() if each.run == number), None)
        if found is None:
            raise InputError("That run is not in the list any more.")
        return found


def _number(run: Run) -> int | None:
    return run.session.recording.number


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _settings(each: Labelled, base: Settings) -> Settings:
    """Return the settings of a recorded run: its own or, of another program's, what is known."""
    if each.settings:
        return base.from_json(each.settings)
    task = each.task if each.task in TASKS else base.task
    method = each.method if each.method in METHODS else base.method
    return Settings(task, method, device=base.device, threads=base.threads, label=each.title)
