"""Snapshot: all that a page shows of one moment of a search, and the builder of snapshots."""

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
from m2n2lab.core.history import COLUMNS

from .blind_vote import Ballot
from .gallery import GalleryData
from .readings import ReadingsData, reads_drawings
from .workbench import Answer, Workbench

if TYPE_CHECKING:
    from m2n2lab.analysis.formulas import FormulaData
    from m2n2lab.analysis.landscape import LandscapeData
    from m2n2lab.analysis.merge_preview import BenchData
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.records import Generation, Standing
    from m2n2lab.utils.progress import Progress

MEMBERS_SECONDS = 1.0
"""Least time between two updates of members and lineage, while the search runs."""

SPEED_WINDOW_SNAPSHOTS = 10
"""Snapshots over which the speed is measured."""

ACCEPTANCE_WINDOW_CHILDREN = 1_000
"""Children over which the shares accepted and saved are counted."""

MEMBER_FIELDS = ("members", "lineage", "shares", "chosen", "member")
"""Fields of a snapshot that describe members one by one."""


@dataclass(frozen=True)
class Past:
    """The archive as it was after a step; its fields are those of the ``Snapshot`` of that step."""

    step: int
    accepted: float
    best: int
    train: float
    test: float
    mean: float
    coverage: float
    size: int
    niches: NichesData
    attraction: AttractionData


@dataclass(frozen=True)
class Snapshot:
    """All that a page shows of one moment.

    Attributes:
        phase: ``"starting"``, ``"paused"``, ``"running"``, ``"stepping"`` (one step, then pause),
            ``"failed"`` or ``"closed"``.
        message: why it failed; empty otherwise.
        loading: what is being loaded, before there is a search.
        title: task, method and seed.
        answers_so_far: of a language model that is answering; ``None`` if none is.
        step: models submitted since the seeds.
        speed: steps per second over the last moments; while paused, of the last run.
        in_flight: label of the children that workers are scoring; empty if there are none.
        accepted: share of the last children that were accepted; NaN before the first.
        saved: share of their scores that early rejection left out; NaN if it is not used.
        best: id of the best member.
        train: its mean score.
        test: its held-out score; NaN without held-out data.
        mean: mean score of all members.
        coverage: share of data points that some member solves.
        size: members that fit into the archive.
        niches, attraction, curves: arrays of the three plots; the same objects as long as nothing
            in them changes.
        bench: parents and child as last previewed, or ``None``.
        note: why there is no preview, or the outcome of the last merge by hand.
        stale: whether a parent on the bench has died.
        merged: the merge of the child on the bench; ``None`` as long as it is a preview.
        undoable: whether the last step was a merge by hand.
        undo, redo: what these would take back or do again, as text; empty if there is nothing.
        slow: whether scoring a child takes too long for a preview at every movement of the hand.
        pending: whether the choice is not previewed yet, because that is slow.
        landscape: of the pair on the bench, as far as it is known.
        mapping: whether more of it is being evaluated.
        answers: some of the data points that match the filter, with the outputs of A, B and child.
        matching: number of data points that match the filter.
        formula: equations of the pair with their numbers; ``None`` while they are not shown.
        reads: whether members can read a drawing.
        readings: how they read it; ``None`` without one.
        draws: whether there can be a gallery.
        gallery: pictures of members; ``None`` until it is shown.
        ballot: two pictures for a blind vote; ``None`` before the first.
        members: table of the living members.
        lineage, shares: descent of members, and the share of each seed in the living ones.
        chosen: the member whose page is open; the best if none was chosen.
        member: that page.
        first: the earliest step that can be looked at again; ``None`` where none can.
        unrecorded_reason: why none can; empty otherwise.
        past: the archive of the step that is looked at, if that is not the present.
    """

    phase: str = "starting"
    message: str = ""
    loading: str = ""
    title: str = ""
    answers_so_far: Progress | None = None
    step: int = 0
    speed: float = 0.0
    in_flight: str = ""
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
    merged: Generation | None = None
    undoable: bool = False
    undo: str = ""
    redo: str = ""
    slow: bool = False
    pending: bool = False
    landscape: LandscapeData | None = None
    mapping: bool = False
    answers: tuple[Answer, ...] = ()
    matching: int = 0
    formula: FormulaData | None = None
    reads: bool = False
    readings: ReadingsData | None = None
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


class SnapshotBuilder:
    """Builds snapshots of one search, in its worker; what has not changed is not made again.

    Args:
        evolver: the search.
        lineage: of its members.
        bench: its bench.
        title: what the page calls the search.
        members: whether snapshots describe members one by one.
    """

    def __init__(
        self,
        evolver: Evolver,
        lineage: Lineage,
        bench: Workbench,
        title: str,
        members: bool = True,
    ) -> None:
        self._with_members = members
        self._evolver = evolver
        self._lineage = lineage
        self._bench = bench
        self._seeds = lineage.names[:-1]
        self._last = Snapshot(title=title)
        self._standing: Standing | None = None  # of the niches in the last snapshot
        self._opened: int | None = None  # the member whose page was shown last
        self._members_at = 0.0, -1  # time and step of the last members and lineage
        self._pinned: frozenset[int] = frozenset()  # among them
        records = evolver.records
        last = records.table(max(len(records) - ACCEPTANCE_WINDOW_CHILDREN, 0))
        accepted, unseen = (last[:, COLUMNS.index(name)] for name in ("accepted", "unseen"))
        self._accepted: deque[bool] = deque(accepted > 0, maxlen=ACCEPTANCE_WINDOW_CHILDREN)
        self._unseen: deque[int] = deque(unseen.astype(int), maxlen=ACCEPTANCE_WINDOW_CHILDREN)
        self._times: deque[tuple[float, int]] = deque(maxlen=SPEED_WINDOW_SNAPSHOTS)

    def count(self, generation: Generation) -> None:
        """Count whether a child was accepted, and how much of it was scored."""
        self._accepted.append(generation.accepted)
        self._unseen.append(generation.verdict.unseen)

    def build(self, phase: str, message: str, chosen: int | None, **more: Any) -> Snapshot:
        """Return a snapshot of the present.

        Args:
            phase, message: as in ``Snapshot``.
            chosen: the member whose page is open, if any.
            more: further fields of ``Snapshot``.
        """
        evolver, old = self._evolver, self._last
        archive, bench = evolver.archive, self._bench
        niches, attraction, mean = old.niches, old.attraction, old.mean
        if niches is None or archive.standing is not self._standing:
            self._standing = archive.standing
            niches, attraction = (
                niches_data(archive, evolver.task, self._seeds),
                attraction_data(archive, evolver.task, self._seeds),
            )
            mean = float(np.mean([member.score for member in archive.members]))
        step = evolver.generation
        self._last = Snapshot(
            phase=phase,
            message=message,
            title=old.title,
            step=step,
            speed=self._speed(phase, step),
            accepted=float(np.mean(self._accepted)) if self._accepted else float("nan"),
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
            merged=bench.merged,
            undoable=bench.undoable,
            undo=bench.acts.last,
            redo=bench.acts.next,
            landscape=bench.landscape,
            answers=bench.answers,
            matching=bench.matching,
            formula=bench.formula,
            reads=reads_drawings(evolver.task),
            readings=bench.readings,
            draws=bench.gallery.possible,
            gallery=bench.gallery.data,
            ballot=bench.blind_vote.ballot,
            **more,
            **self._describe_members(phase, chosen),
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

    def _describe_members(self, phase: str, chosen: int | None) -> dict[str, Any]:
        """Return members, lineage and the chosen member's page; the old ones while fresh enough."""
        if not self._with_members:
            return {}
        old, lineage, evolver = self._last, self._lineage, self._evolver
        if chosen not in lineage:
            chosen = None
        pinned = evolver.archive.pinned
        same = old.members is not None and chosen == self._opened and pinned == self._pinned
        now, (when, step) = time.monotonic(), self._members_at
        fresh = phase == "running" and now - when < MEMBERS_SECONDS
        if same and (fresh or step == evolver.generation):
            return {name: getattr(old, name) for name in MEMBER_FIELDS}
        self._members_at, self._opened = (now, evolver.generation), chosen
        self._pinned = pinned
        focus = evolver.archive.best.id if chosen is None else chosen
        page = old.member
        # An id is reused when a merge is undone, and a dead member may be alive again.
        known = page is not None and _birth(page.life) == _birth(lineage[focus])
        if page is None or not known or (page.accuracy is None and focus in evolver.archive):
            page = member_page(evolver, lineage, focus)
        values = (
            members_data(evolver.archive, evolver.task, lineage),
            lineage_data(lineage, focus),
            shares_data(lineage),
            focus,
            update_page(page, evolver, lineage),
        )
        return dict(zip(MEMBER_FIELDS, values, strict=True))


def _birth(life: Life) -> tuple[object, ...]:
    """Return what distinguishes one life from another."""
    return life.id, life.born, life.parents, life.score, life.split, life.mix
