"""Stops of the tour: their texts, when each is done, and how the page does it itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from m2n2lab.analysis.landscape import LandscapeData

from ..session.orders import Mailbox
from ..session.session import Session
from ..session.snapshot import Snapshot
from ..session.workbench import Choice

NICHE_STEPS, SLOW_NICHE_STEPS = 500, 20
"""Steps after which niches have formed, and those to wait for if children take long."""

EXAMPLE_SPLIT, EXAMPLE_MIX = 0.3, 0.2
"""Split, as a share of the vector, and mix of a child that is mostly A before and B after it."""

PAUSE_FIRST = "Press Pause first: while the search runs, a parent may die."


@dataclass(frozen=True)
class Moment:
    """The state by which a stop is judged: the present, and how it was when the stop was opened.

    Attributes:
        session: the search.
        snapshot: what the page shows of it.
        step: of the search when the stop was opened.
        choice: of pair, split and mix then.
        note: the last note of the bench since the tour began.
        done: whether the person has done what the stop asks.
    """

    session: Session
    snapshot: Snapshot
    step: int
    choice: Choice
    note: str = ""
    done: bool = False

    @property
    def orders(self) -> Mailbox:
        """The orders of the search."""
        return self.session.orders


@dataclass(frozen=True)
class Stop:
    """One stop of the tour.

    Attributes:
        title: a few words.
        text: two or three sentences.
        section: ``aria-label`` of the section of the page that it is about.
        controls: names of controls, of which one is to be used; if empty, the section itself is.
        done: returns whether the person has done what is asked.
        hint: returns a sentence on what to do next, or on what was done.
        help: does what is asked for the person, without waiting; ``None`` if nothing is asked.
    """

    title: str
    text: str
    section: str
    controls: tuple[str, ...]
    done: Callable[[Moment], bool]
    hint: Callable[[Moment], str]
    help: Callable[[Moment], None] | None


# -- 1: let the search run until niches have formed, then pause it -------------------------------


def _goal(now: Moment) -> int:
    return now.step + (SLOW_NICHE_STEPS if now.snapshot.slow else NICHE_STEPS)


def _watched(now: Moment) -> bool:
    return now.snapshot.phase == "paused" and now.snapshot.step >= _goal(now)


def _watch_hint(now: Moment) -> str:
    if now.done:
        return "Strong cells are niches: few can do this, so it pays well."
    if now.snapshot.phase != "running":
        again = " again" if now.snapshot.step > now.step else ""
        return f"Press Run{again}, or the space key."
    if now.snapshot.step < _goal(now):
        return f"Watch the rows grow different, until step {_goal(now):,}."
    return "Niches have formed. Press Pause, or the space key."


def _watch(now: Moment) -> None:
    left = _goal(now) - now.snapshot.step
    if left <= 0:
        now.orders.pause()
    elif now.orders.running or now.snapshot.phase != "running":  # else it takes them already
        now.orders.step(left)


# -- 2: choose two parents that complete each other ----------------------------------------------


def _picked(now: Moment) -> bool:
    choice = now.orders.choice
    by_hand = choice.a is not None and choice.b is not None and choice.seed is None
    return by_hand and choice is not now.choice  # the same pair may be picked again


def _pick_hint(now: Moment) -> str:
    if now.done:
        return f"{now.orders.choice.a} and {now.orders.choice.b} are on the bench."
    if now.snapshot.phase == "running":
        return PAUSE_FIRST
    if _strongest_pair(now.snapshot) is None:
        return "Nobody is drawn to anybody here; go on to the next stop."
    return "Click a strong cell."


def _pick(now: Moment) -> None:
    _pause(now.orders)
    if pair := _strongest_pair(now.snapshot):
        _choose(now, a=pair[0], b=pair[1])


# -- 3: choose what the child is made of ---------------------------------------------------------


def _chosen(now: Moment) -> bool:
    choice, before = now.orders.choice, now.choice
    return (choice.split, choice.mix) != (before.split, before.mix)


def _split_hint(now: Moment) -> str:
    if not now.done:
        return "Drag the split, or move it with the arrow keys."
    bench, choice = now.snapshot.bench, now.orders.choice
    if bench is None or choice.split not in (None, bench.proposal.split):
        return "Chosen; what would come of it is still to be seen."
    return "This child would live." if bench.verdict.accepted else "This child would not live."


def _split(now: Moment) -> None:
    bench, known = now.snapshot.bench, now.snapshot.landscape
    if bench is None:
        return
    _pause(now.orders)
    if known is not None and known.parents == bench.proposal.parents and (best := _best(known)):
        row, column = best
        _choose(now, split=int(known.splits[column]), mix=float(known.mixes[row]))
    else:
        _choose(now, split=round(EXAMPLE_SPLIT * bench.size), mix=EXAMPLE_MIX)


# -- 4: submit the child to the archive ----------------------------------------------------------


def _merged(now: Moment) -> bool:
    return now.snapshot.undoable and now.snapshot.step > now.step


def _merge_hint(now: Moment) -> str:
    if now.done:
        return "The child has been judged."
    if now.snapshot.phase == "running":
        return PAUSE_FIRST
    if now.snapshot.stale:
        return "A parent no longer lives: pick another pair, then press Merge."
    return "Press Merge."


def _merge(now: Moment) -> None:
    bench, pair = now.snapshot.bench, _strongest_pair(now.snapshot)
    _pause(now.orders)
    if now.snapshot.stale and pair:
        _choose(now, a=pair[0], b=pair[1])
    elif bench is not None:
        now.orders.command("merge", bench.proposal)


# -- 5: read the outcome; the person ends the tour -----------------------------------------------


def _never(now: Moment) -> bool:
    return False


def _why_hint(now: Moment) -> str:
    return now.note or "Nothing has been merged by hand yet; go back one stop."


STOPS = (
    Stop(
        title="Watch niches form",
        text=(
            "Each row is a model, each column a data point. All who solve a point share one "
            "reward, so a cell is strong where few others solve it. That pays specialists, and "
            "they survive."
        ),
        section="Niches",
        controls=("Run", "Pause"),
        done=_watched,
        hint=_watch_hint,
        help=_watch,
    ),
    Stop(
        title="Pick two parents",
        text=(
            "A strong cell is a pair that should meet: its column B solves much that its row A "
            "gets wrong. The search draws mates this way; now you do."
        ),
        section="Attraction",
        controls=(),
        done=_picked,
        hint=_pick_hint,
        help=_pick,
    ),
    Stop(
        title="Choose the split",
        text=(
            "The strip is the child: mixed one way before the split, the other way after it. "
            "Drag the split and the mix, and read whether the child would live. At a mix of 0.50 "
            "both sides are alike, and the split makes no difference."
        ),
        section="Merge bench",
        controls=("split point",),
        done=_chosen,
        hint=_split_hint,
        help=_split,
    ),
    Stop(
        title="Make the child",
        text=(
            "Merge puts the child into the archive. There it competes with all others, and "
            "whoever earns least has to go: perhaps the child itself. You can take it back."
        ),
        section="Merge bench",
        controls=("Merge",),
        done=_merged,
        hint=_merge_hint,
        help=_merge,
    ),
    Stop(
        title="Why it lived or died",
        text=(
            "A child earns a share of the reward of each point it solves, and lives if somebody "
            "earns less. Landscape shows other splits of this pair, the Lineage tab who came from "
            "whom, and Undo takes the merge back."
        ),
        section="Merge bench",
        controls=("Undo",),
        done=_never,
        hint=_why_hint,
        help=None,
    ),
)


# -- shared by the stops -------------------------------------------------------------------------


def _pause(orders: Mailbox) -> None:
    """Pause a running search."""
    if orders.running:
        orders.pause()


def _choose(now: Moment, **fields: int | float) -> None:
    """Change the choice on the bench, and have it previewed even if that is slow."""
    now.orders.choose(**fields)
    if now.snapshot.slow:
        now.orders.command("preview")


def _strongest_pair(snapshot: Snapshot) -> tuple[int, int] | None:
    """Return the A and B of the strongest cell of the attraction matrix."""
    data = snapshot.attraction
    if data is None or np.isnan(data.worth).all():
        return None
    row, column = divmod(int(np.nanargmax(data.worth)), len(data.ids))
    return data.ids[row], data.ids[column]


def _best(known: LandscapeData) -> tuple[int, int] | None:
    """Return the best cell of a landscape, if it is better than the parents in the corners."""
    corners = known.scores[np.ix_((0, -1), (0, -1))]
    if known.best is None or known.scores[known.best] <= np.nanmax(corners):
        return None
    return known.best
