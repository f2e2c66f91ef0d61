"""What a page sees of one moment of a search, and who takes that picture."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from m2n2lab.analysis.lineage import Life, Lineage
from m2n2lab.analysis.lineage_arrays import LineageData, SharesData, lineage_data, shares_data
from m2n2lab.analysis.maps import (
    AttractionData,
    CurvesData,
    NichesData,
    attraction_data,
    curves_data,
    niches_data,
)
from m2n2lab.analysis.members import MemberPage, MembersData, member_page, members_data, update_page

from .ballot import Ballot
from .gallery import GalleryData
from .workbench import Answer, Workbench

if TYPE_CHECKING:
    from m2n2lab.analysis.landscape import LandscapeData
    from m2n2lab.analysis.merge_preview import BenchData
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.records import Generation, Standing
    from m2n2lab.utils.progress import Progress

    from .run_recorder import Past

TELL_EVERY = 1.0
"""Least seconds between two looks at members and at lineage, while the search runs."""

SPEED_OVER = 10
"""Snapshots over which the speed is counted."""

PEOPLE = ("members", "lineage", "shares", "chosen", "member")
"""Fields of a snapshot that tell of members one by one."""


@dataclass(frozen=True)
class Snapshot:
    """All that a page shows of one moment.

    Attributes:
        phase: ``"starting"``, ``"paused"``, ``"running"``, ``"stepping"`` (one step, then pause),
            ``"failed"`` or ``"closed"``.
        message: why it failed, in words; empty otherwise.
        title: task, method and seed.
        answers_so_far: of a language model that is being asked; ``None`` where none is.
        step: models told since the seeds.
        speed: steps per second over the last moments; while paused, of the last run.
        elsewhere: how many children fly, where workers score them, in words.
        accepted: share of children that lived, of the last 1,000; NaN before the first.
        saved: share of their scores that early rejection left out; NaN where it is not used.
        best: id of the best member.
        train: its mean score.
        test: its held-out score; NaN without held-out data.
        mean: mean score of all members.
        coverage: share of data points that some member solves.
        size: members that fit into the archive.
        niches, attraction, curves: arrays of the three plots; the same objects as long as
            nothing in them changed.
        bench: parents and child as last previewed, or ``None``.
        note: why there is no preview, or what became of the last merge by hand.
        stale: whether a parent on the bench has died.
        undoable: whether the last thing that happened was a merge by hand.
        slow: whether a child takes too long to be scored at every movement of the hand.
        pending: whether what is chosen waits to be previewed, because that is slow.
        landscape: of the pair on the bench, as far as it is known.
        mapping: whether more of it is being evaluated.
        answers: data points with what A, B and the child make of them, some of those that match.
        matching: how many match the filter.
        draws: whether there can be a gallery.
        gallery: what members draw; ``None`` until somebody looks.
        ballot: two pictures between which a person chooses; ``None`` before that.
        members: the living in a table.
        lineage, shares: who came from whom, and how much of the living came from each seed.
        chosen: the member whose page is open; the best where nobody was chosen.
        member: that page.
        first: the earliest step that can be looked at again; ``None`` where none can.
        unrecorded_reason: why none can; empty otherwise.
        past: the archive of the step that is looked at, if that is not the present.
    """

    phase: str = "starting"
    message: str = ""
    title: str = ""
    answers_so_far: Progress | None = None
    step: int = 0
    speed: float = 0.0
    elsewhere: str = ""
    accepted: float = float("nan")
    saved: float = float("nan")
    best: int = 0
    train: float = float("nan")
    test: float = float("nan")
    mean: float = float("nan")
    coverage: float = float("nan")
    size: int = 1
    niches: NichesData | None = None
    attraction: AttractionData | None = None
    curves: CurvesData | None = None
    bench: BenchData | None = None
    note: str = ""
    stale: bool = False
    undoable: bool = False
    slow: bool = False
    pending: bool = False
    landscape: LandscapeData | None = None
    mapping: bool = False
    answers: tuple[Answer, ...] = ()
    matching: int = 0
    draws: bool = False
    gallery: GalleryData | None = None
    ballot: Ballot | None = None
    members: MembersData | None = None
    lineage: LineageData | None = None
    shares: SharesData | None = None
    chosen: int | None = None
    member: MemberPage | None = None
    first: int | None = None
    unrecorded_reason: str = ""
    past: Past | None = None

    @property
    def seen(self) -> Snapshot:
        """The same with the archive and the figures of the step that is looked at."""
        return self if self.past is None else replace(self, **vars(self.past))


class Camera:
    """Takes snapshots of one search, in its worker; what has not changed is not made again.

    Args:
        evolver: the search.
        lineage: who came from whom in it.
        bench: what is on its bench.
        title: what the page calls the search.
        people: whether it tells of members one by one.
    """

    def __init__(
        self,
        evolver: Evolver,
        lineage: Lineage,
        bench: Workbench,
        title: str,
        people: bool = True,
    ) -> None:
        self._tells = people
        self._evolver = evolver
        self._lineage = lineage
        self._bench = bench
        self._last = Snapshot(title=title)
        self._standing: Standing | None = None  # of the last picture of niches
        self._opened: int | None = None  # whose page was shown last
        self._told = 0.0, -1  # when members and lineage were shown last, and after which step
        self._lived: deque[bool] = deque(maxlen=1_000)
        self._unseen: deque[int] = deque(maxlen=1_000)
        self._times: deque[tuple[float, int]] = deque(maxlen=SPEED_OVER)

    def count(self, generation: Generation) -> None:
        """Note whether a child lived, and how much of it was scored."""
        self._lived.append(generation.accepted)
        self._unseen.append(generation.verdict.unseen)

    def take(self, phase: str, message: str, chosen: int | None, **more: Any) -> Snapshot:
        """Return a snapshot of now.

        Args:
            phase, message: as in ``Snapshot``.
            chosen: whose page is open, if somebody's.
            more: further fields of ``Snapshot``.
        """
        evolver, old = self._evolver, self._last
        archive, bench = evolver.archive, self._bench
        niches, attraction, mean = old.niches, old.attraction, old.mean
        if niches is None or archive.standing is not self._standing:
            self._standing = archive.standing
            niches, attraction = (
                niches_data(archive, evolver.task),
                attraction_data(archive, evolver.task),
            )
            mean = float(np.mean([member.score for member in archive.members]))
        step = evolver.generation
        self._last = Snapshot(
            phase=phase,
            message=message,
            title=old.title,
            step=step,
            speed=self._speed(phase, step),
            accepted=float(np.mean(self._lived)) if self._lived else float("nan"),
            saved=self._saved(),
            best=archive.best.id,
            train=archive.best.score,
            test=evolver.test,
            mean=mean,
            coverage=archive.coverage,
            size=archive.size,
            niches=niches,
            attraction=attraction,
            curves=old.curves if old.curves and step == old.step else curves_data(evolver),
            bench=bench.data,
            note=bench.note,
            stale=bench.stale,
            undoable=bench.undoable,
            landscape=bench.landscape,
            answers=bench.answers,
            matching=bench.matching,
            draws=bench.gallery.possible,
            gallery=bench.gallery.data,
            ballot=bench.booth.ballot,
            **more,
            **self._people(phase, chosen),
        )
        return self._last

    def _saved(self) -> float:
        """Return the share of scores that early rejection left out."""
        if self._evolver.rejection is None or not self._unseen:
            return float("nan")
        return float(np.mean(self._unseen)) / self._evolver.task.points

    def _speed(self, phase: str, step: int) -> float:
        """Return steps per second over the last moments; at rest those of the last run."""
        if phase != "running":
            self._times.clear()
            return self._last.speed
        now = time.monotonic()
        self._times.append((now, step))
        since, first = self._times[0]
        return (step - first) / (now - since) if now > since else self._last.speed

    def _people(self, phase: str, chosen: int | None) -> dict[str, Any]:
        """Return members, lineage and the chosen member's page; the old ones while fresh enough."""
        if not self._tells:
            return {}
        old, lineage, evolver = self._last, self._lineage, self._evolver
        if chosen not in lineage:
            chosen = None
        same = old.members is not None and chosen == self._opened
        now, (when, step) = time.monotonic(), self._told
        fresh = phase == "running" and now - when < TELL_EVERY
        if same and (fresh or step == evolver.generation):
            return {name: getattr(old, name) for name in PEOPLE}
        self._told, self._opened = (now, evolver.generation), chosen
        focus = evolver.archive.best.id if chosen is None else chosen
        page = old.member
        # A number is given anew when a merge is undone, and who was dead may live again.
        known = page is not None and _birth(page.life) == _birth(lineage[focus])
        if page is None or not known or (page.accuracy is None and focus in evolver.archive):
            page = member_page(evolver, lineage, focus)
        people = (
            members_data(evolver.archive, evolver.task, lineage),
            lineage_data(lineage, focus),
            shares_data(lineage),
            focus,
            update_page(page, evolver, lineage),
        )
        return dict(zip(PEOPLE, people, strict=True))


def _birth(life: Life) -> tuple[object, ...]:
    """Return what tells one life from another."""
    return life.id, life.born, life.parents, life.score, life.split, life.mix
