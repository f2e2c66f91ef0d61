"""Arrays of a lineage for drawings: family tree, paintings and the seeds' shares over time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.analysis.lineage import MISSING, Lineage
from m2n2lab.core.archive import Archive
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.utils.arrays import Floats

MAX_OLD_BIRTHS = 300
"""Maximum number of older births shown of each group: ancestors of members, ancestors of the
focus, children made by hand. Those that were members longest are chosen."""

RECENT_BIRTHS = 150
"""Births in the recent part of a lineage."""

SLOPE_SHARE = 0.012
"""Width of an edge's slope as a share of the shown steps."""

MAX_HIDDEN_GENERATIONS = 1000
"""Maximum number of hidden generations that an edge between two shown members skips."""


class SharesData(NamedTuple):
    """The mean share of each seed in the members, over time."""

    steps: NDArray[np.int64]  # (n,)
    shares: Floats  # (n, K + 1), rows sum to 1; the last column is of no seed
    names: tuple[str, ...]  # (K + 1,) of the columns


def shares_data(lineage: Lineage) -> SharesData:
    """Return the seeds' mean shares in the members at evenly spaced moments and now."""
    steps, shares = zip(*lineage.moments(), strict=True)
    return SharesData(np.array(steps, np.int64), np.array(shares), lineage.names)


class PaintingData(NamedTuple):
    """The members' paintings along the flat vector, the fittest first."""

    ids: tuple[int, ...]  # (P,)
    shares: Floats  # (P, BINS, K + 1) of each seed and, last, of no seed; sum to 1
    borders: NDArray[np.float64]  # (T - 1,) borders of tensors, as shares of the vector
    names: tuple[str, ...]  # (K + 1,) of the seeds and, last, of no seed


def painting_data(archive: Archive, layout: Layout, lineage: Lineage) -> PaintingData:
    """Return the members' paintings.

    Raises:
        InputError: the lineage did not observe this archive.
    """
    rows = np.argsort(-archive.fitness, kind="stable")
    ids = tuple(archive.ids[row] for row in rows)
    borders = np.array(layout.offsets[1:-1]) / max(layout.offsets[-1], 1)
    paintings = np.array([lineage.painting(id) for id in ids])
    return PaintingData(ids, paintings, borders, lineage.names)


class LineageData(NamedTuple):
    """Present and displaced members by birth, in lanes along time, and edges to their parents.

    A child takes the lane of the member that it displaced, so members of one lane follow each other
    and no member changes its lane.
    """

    ids: NDArray[np.int64]  # (n,)
    born: NDArray[np.int64]  # (n,) step
    ended: NDArray[np.int64]  # (n,) step at which it was displaced; now for members
    lane: NDArray[np.int32]  # (n,) from 0, in [0, lanes)
    score: Floats  # (n,)
    parents: NDArray[np.int64]  # (n, 2) ids, −1 where there is none
    alive: NDArray[np.bool_]  # (n,)
    by_hand: NDArray[np.bool_]  # (n,)
    gave: Floats  # (n,) share in the focus: 1 for itself, 0 for members that are no ancestors
    edges: NDArray[np.intp]  # (e, 2) positions of parent and child in the arrays above
    given: Floats  # (e,) share of the focus along each edge
    direct: NDArray[np.bool_]  # (e,) parent and child; otherwise hidden members lie between
    focus: int | None
    lanes: int
    since: int  # step at which the last RECENT_BIRTHS births begin
    now: int


def lineage_data(lineage: Lineage, focus: int | None = None, last: int = 400) -> LineageData:
    """Return the part of a lineage that can be shown.

    These are the members, the seeds, the ``last`` births and up to ``MAX_OLD_BIRTHS`` older ones
    each of the ancestors of members, the ancestors of the focus and the children made by hand. An
    edge from a hidden parent starts at the nearest shown ancestor, along the parents with the
    larger share.

    Args:
        lineage: the lineage.
        focus: id of the member whose ancestors are marked.
        last: number of last births, which are always shown.

    Raises:
        InputError: there never was a member ``focus``.
    """
    ids, born, died, by_hand = map(lineage.column, ("id", "born", "died", "by_hand"))
    count, by_hand = len(ids), by_hand.astype(np.bool_)
    alive = died == MISSING
    ended = np.where(alive, lineage.now, died)
    gave = np.zeros(count)
    shown = alive | (born == 0)
    shown[max(count - last, 0) :] = True
    if focus is not None:
        line, shares = lineage.line(focus)
        gave[line] = shares
        shown[line[-1]] = True
    for group in (lineage.column("active_children") > 0, gave > 0.0, by_hand):
        old = np.flatnonzero(group & ~shown)
        if len(old) > MAX_OLD_BIRTHS:
            old = old[np.argpartition(born[old] - ended[old], MAX_OLD_BIRTHS)[:MAX_OLD_BIRTHS]]
        shown[old] = True
    where = np.flatnonzero(shown)
    edges, given, direct = _edges(lineage, shown, where, gave)
    return LineageData(
        ids=ids[where],
        born=born[where],
        ended=ended[where],
        lane=lineage.column("lane")[where],
        score=lineage.column("score")[where],
        parents=np.column_stack([lineage.column(p)[where] for p in ("parent_a", "parent_b")]),
        alive=alive[where],
        by_hand=by_hand[where],
        gave=gave[where],
        edges=edges,
        given=given,
        direct=direct,
        focus=focus,
        lanes=lineage.lanes,
        since=int(born[count - RECENT_BIRTHS]) if count > RECENT_BIRTHS else 0,
        now=lineage.now,
    )


def _edges(
    lineage: Lineage, shown: NDArray[np.bool_], where: NDArray[np.intp], gave: Floats
) -> tuple[NDArray[np.intp], Floats, NDArray[np.bool_]]:
    """Return edges between shown rows: positions in ``where`` (e, 2), shares (e,), direct (e,).

    Args:
        lineage: the lineage.
        shown: (rows,) which rows are shown.
        where: (n,) these rows.
        gave: (rows,) share of each in the focus.
    """
    row_a, row_b, of_b = map(lineage.column, ("row_a", "row_b", "of_b"))
    parents = np.concatenate((row_a[where], row_b[where]))
    given = np.concatenate((gave[where] * (1.0 - of_b[where]), gave[where] * of_b[where]))
    child = np.tile(np.arange(len(where)), 2)
    above = parents.copy()
    hidden = np.flatnonzero((above != MISSING) & ~shown[above])
    for _ in range(MAX_HIDDEN_GENERATIONS):
        if not len(hidden):
            break
        at = above[hidden]
        above[hidden] = up = np.where(of_b[at] > 0.5, row_b[at], row_a[at])
        hidden = hidden[(up != MISSING) & ~shown[up]]
    drawn = (above != MISSING) & shown[above]
    keys = np.searchsorted(where, above[drawn]) * len(where) + child[drawn]
    edges, number = np.unique(keys, return_inverse=True)
    total: Floats = np.bincount(number, given[drawn], len(edges)).astype(np.float64)
    direct = np.bincount(number, (above == parents)[drawn], len(edges)) > 0
    return np.column_stack(np.divmod(edges, len(where))), total, direct


class LineageGeometry(NamedTuple):
    """Marks of a lineage in steps and lanes, the first lane on top; the strongest are last."""

    start: float  # of the shown span of steps
    end: float
    y: Floats  # (n,) of all members
    lives: NDArray[np.intp]  # members with a part of their lives in the span
    births: NDArray[np.intp]  # members born in it
    edges: NDArray[np.intp]  # edges to these
    lines: dict[str, NDArray[np.float64]]  # x0, y0, x1, y1 of the lives
    links: dict[str, NDArray[np.float64]]  # x0, y0, x1, y1 of the edges


def lineage_geometry(data: LineageData, whole: bool = False) -> LineageGeometry:
    """Return lives as lines along time, and edges from a parent's line to the child's birth.

    Args:
        data: the lineage to draw.
        whole: span the whole run, otherwise the last ``RECENT_BIRTHS`` births.
    """
    start = 0.0 if whole else float(data.since)
    span = max(data.now - start, 1.0)
    y: Floats = data.lanes - data.lane.astype(np.float64) - 0.5
    lives = np.flatnonzero(data.ended >= start)
    lives = lives[np.lexsort((data.alive[lives], data.gave[lives]))]
    births = np.flatnonzero(data.born >= start)
    parent, child = data.edges.T
    edges = np.flatnonzero(data.born[child] >= start)
    edges = edges[np.argsort(data.given[edges], kind="stable")]
    parent, child = parent[edges], child[edges]
    leave = np.minimum(data.born[child] - SLOPE_SHARE * span, data.ended[parent])
    return LineageGeometry(
        start=start - 0.02 * span,
        end=data.now + 0.02 * span,
        y=y,
        lives=lives,
        births=births,
        edges=edges,
        lines={
            "x0": np.maximum(data.born[lives], start - 0.02 * span),
            "y0": y[lives],
            "x1": data.ended[lives].astype(np.float64),
            "y1": y[lives],
        },
        links={
            "x0": np.maximum(leave, data.born[parent]),
            "y0": y[parent],
            "x1": data.born[child].astype(np.float64),
            "y1": y[child],
        },
    )


def member_at(data: LineageData, x: float, y: float, whole: bool = False) -> int | None:
    """Return the id of the member whose line is nearest to a point of the drawing, or ``None``."""
    around = lineage_geometry(data, whole)
    lives = around.lives
    if not len(lives):
        return None
    span = around.end - around.start
    beside = np.maximum(np.maximum(data.born[lives] - x, x - data.ended[lives]), 0.0) / span
    above = np.abs(around.y[lives] - y) / max(data.lanes, 1)
    # Where one life ends and the next begins in the same lane, the one that begins.
    nearest = np.lexsort((-data.born[lives], beside + above))[0]
    return int(data.ids[lives[nearest]])
