"""Stops of the tour: their texts, when each is done, and how the page does it itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from m2n2lab.analysis.landscape import LandscapeData
from m2n2lab.analysis.merge_preview import describe_gain
from m2n2lab.utils.text import percent

from ..session.orders import Mailbox
from ..session.session import Session
from ..session.snapshot import Snapshot
from ..session.workbench import Choice

FIRST_STEPS = 10
"""Children of the search that compete with the first one made by hand."""

NICHE_STEPS, SLOW_NICHE_STEPS = 500, 20
"""Steps after which niches have formed, and those to wait for if children take long."""

EXAMPLE_SPLIT, EXAMPLE_MIX = 0.3, 0.2
"""Split, as a share of the vector, and mix of a child that is mostly A before and B after it."""

NO_EFFECT_MIX = 0.5
"""Mix at which both sides of the split are alike."""

PAUSE_FIRST = "while the search runs, a parent may die."


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
        touch: whether the person touches the page, and has neither mouse nor keys.
    """

    session: Session
    snapshot: Snapshot
    step: int
    choice: Choice
    note: str = ""
    done: bool = False
    touch: bool = False

    @property
    def orders(self) -> Mailbox:
        """The orders of the search."""
        return self.session.orders

    def press(self, button: str, key: str = "") -> str:
        """Return a request to press a button, by its key too where there are keys."""
        if self.touch:
            return f"Tap {button}"
        return f"Press {button}, or {key}" if key else f"Press {button}"


def _never(now: Moment) -> bool:
    return False


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
        failed: returns whether what was done came to nothing good, so that it is not praised.
        pretrained: whether its search starts from two specialists, or from random networks.
    """

    title: str
    text: str
    section: str
    controls: tuple[str, ...]
    done: Callable[[Moment], bool]
    hint: Callable[[Moment], str]
    help: Callable[[Moment], None] | None
    failed: Callable[[Moment], bool] = _never
    pretrained: bool = True


# -- 1: submit the first child to the archive ----------------------------------------------------


def _merged(now: Moment) -> bool:
    return now.snapshot.undoable and now.snapshot.step > now.step


def _worse(now: Moment) -> bool:
    """Return whether the child that was merged died, or is no better than both of its parents."""
    merged, bench = now.snapshot.merged, now.snapshot.bench
    if merged is None or bench is None or not _merged(now):
        return False
    return not (merged.accepted and describe_gain(bench))


def _merge_hint(now: Moment) -> str:
    merged, bench = now.snapshot.merged, now.snapshot.bench
    if merged is not None and bench is not None and _worse(now):
        fate = merged.outcome if not merged.accepted else "It is no better than both parents."
        return f"{fate} {now.press('Undo')}, set the mix to 0.50, and merge again."
    if now.done:
        return describe_gain(bench) if merged is not None and bench is not None else now.note
    if now.snapshot.phase == "running":
        return f"{now.press('Pause')} first: {PAUSE_FIRST}"
    if bench is None:
        return "A moment: the two are put on the bench."
    if now.snapshot.stale:
        return "A parent no longer lives: pick another pair, then merge it."
    return f"{now.press('Merge')}."


def _merge(now: Moment) -> None:
    bench, pair = now.snapshot.bench, _strongest_pair(now.snapshot)
    _pause(now.orders)
    if now.snapshot.stale and pair:
        _choose(now, a=pair[0], b=pair[1])
    elif bench is not None:
        now.orders.command("merge", bench.proposal)


# -- 2: let children of the search compete with it -----------------------------------------------


def _stepped(now: Moment) -> bool:
    return now.snapshot.phase == "paused" and now.snapshot.step >= now.step + FIRST_STEPS


def _compete_hint(now: Moment) -> str:
    niches = now.snapshot.niches
    if now.done and niches is not None:
        many = len(niches.ids)
        room = f"room for {now.snapshot.size}, then whoever earns least leaves"
        return f"{many} members share the points now; there is {room}."
    if now.snapshot.phase == "running":
        return f"{now.press('Pause', 'the space key')}."
    return f"{now.press('×10')}: ten children of the search compete with yours."


def _compete(now: Moment) -> None:
    left = now.step + FIRST_STEPS - now.snapshot.step
    if left <= 0:
        now.orders.pause()
    elif not now.orders.running:
        now.orders.step(left)


# -- 3: choose two parents that complete each other ----------------------------------------------


def _picked(now: Moment) -> bool:
    choice = now.orders.choice
    by_hand = choice.a is not None and choice.b is not None and choice.seed is None
    return by_hand and choice is not now.choice  # the same pair may be picked again


def _pick_hint(now: Moment) -> str:
    if now.done:
        return f"{now.orders.choice.a} and {now.orders.choice.b} are on the bench."
    if now.snapshot.phase == "running":
        return f"{now.press('Pause')} first: {PAUSE_FIRST}"
    if _strongest_pair(now.snapshot) is None:
        return "Nobody is drawn to anybody here; go on to the next stop."
    return f"{'Tap' if now.touch else 'Click'} a strong cell."


def _pick(now: Moment) -> None:
    _pause(now.orders)
    if pair := _strongest_pair(now.snapshot):
        _choose(now, a=pair[0], b=pair[1])


# -- 4: choose what the child is made of ---------------------------------------------------------


def _chosen(now: Moment) -> bool:
    choice, before = now.orders.choice, now.choice
    changed = (choice.split, choice.mix) != (before.split, before.mix)
    return changed and _mix(now) != NO_EFFECT_MIX


def _mix(now: Moment) -> float | None:
    """Return the mix that is wanted on the bench or, without a wish, is there."""
    if now.orders.choice.mix is not None:
        return now.orders.choice.mix
    return now.snapshot.bench.proposal.mix if now.snapshot.bench else None


def _previewed(now: Moment) -> bool:
    """Return whether the bench shows what was chosen."""
    choice, bench = now.orders.choice, now.snapshot.bench
    return bench is not None and (
        choice.split in (None, bench.proposal.split) and choice.mix in (None, bench.proposal.mix)
    )


def _doomed(now: Moment) -> bool:
    bench = now.snapshot.bench
    previewed = _chosen(now) and _previewed(now)
    return previewed and bench is not None and not bench.verdict.accepted


def _split_hint(now: Moment) -> str:
    if _doomed(now):
        return "This child would not live: try another mix or split."
    if not now.done:
        if _mix(now) == NO_EFFECT_MIX:
            return "Move the mix away from 0.50: there the split changes nothing."
        how = "with a finger" if now.touch else "or move it with the arrow keys"
        return f"Drag the split, {how}."
    bench = now.snapshot.bench
    if bench is None or not _previewed(now):
        return "Chosen; what would come of it is still to be seen."
    return f"This child would live: it scores {percent(bench.means[2])}."


def _split(now: Moment) -> None:
    bench, known = now.snapshot.bench, now.snapshot.landscape
    if bench is None:
        return
    _pause(now.orders)
    split, mix = round(EXAMPLE_SPLIT * bench.size), EXAMPLE_MIX
    if known is not None and known.parents == bench.proposal.parents and (best := _best(known)):
        row, column = best
        if float(known.mixes[row]) != NO_EFFECT_MIX:
            split, mix = int(known.splits[column]), float(known.mixes[row])
    _choose(now, split=split, mix=mix)


# -- 5 and 6: let the search run for a while, then pause it --------------------------------------


def _goal(now: Moment) -> int:
    return now.step + (SLOW_NICHE_STEPS if now.snapshot.slow else NICHE_STEPS)


def _watched(now: Moment) -> bool:
    return now.snapshot.phase == "paused" and now.snapshot.step >= _goal(now)


def _run_hint(now: Moment) -> str:
    if now.snapshot.phase != "running":
        again = " again" if now.snapshot.step > now.step else ""
        return f"{now.press(f'Run{again}', 'the space key')}."
    if now.snapshot.step < _goal(now):
        return f"Watch, until step {_goal(now):,}."
    return f"{now.press('Pause', 'the space key')}."


def _search_hint(now: Moment) -> str:
    if not now.done:
        return _run_hint(now)
    return f"The best member solves {percent(now.snapshot.train)}, by merging alone."


def _niches_hint(now: Moment) -> str:
    if not now.done:
        return _run_hint(now)
    covered, best = percent(now.snapshot.coverage), percent(now.snapshot.train)
    return f"Niches: {covered} of the points are solved by some member, {best} by the best alone."


def _watch(now: Moment) -> None:
    left = _goal(now) - now.snapshot.step
    if left <= 0:
        now.orders.pause()
    elif now.orders.running or now.snapshot.phase != "running":  # else it takes them already
        now.orders.step(left)


STOPS = (
    Stop(
        title="Merge two specialists",
        text=(
            "A has learnt one half of the digits, B the other: neither reads even half of them. "
            "Merge mixes their weights into one child, without any training."
        ),
        section="Merge bench",
        controls=("Merge",),
        done=_merged,
        hint=_merge_hint,
        help=_merge,
        failed=_worse,
    ),
    Stop(
        title="Rewards are shared",
        text=(
            "Each row is a model, each column a data point. All who solve a point share one "
            "reward, so a cell is strong where few others solve it. That pays specialists, and "
            "they survive."
        ),
        section="Niches",
        controls=("×10",),
        done=_stepped,
        hint=_compete_hint,
        help=_compete,
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
        title="Choose mix and split",
        text=(
            "The strip is the child: mixed one way before the split, the other way after it. "
            "Move the mix and the split, and read whether the child would live."
        ),
        section="Merge bench",
        controls=("Mix, the share of B before the split", "split point"),
        done=_chosen,
        hint=_split_hint,
        help=_split,
        failed=_doomed,
    ),
    Stop(
        title="Let the search do it",
        text=(
            "The search does what you did, again and again: it draws parents by fitness and "
            "attraction, a split and a mix. Progress shows its best member, and what all members "
            "together solve."
        ),
        section="Progress",
        controls=("Run", "Pause"),
        done=_watched,
        hint=_search_hint,
        help=_watch,
    ),
    Stop(
        title="Second chapter: from scratch",
        text=(
            "These two are random networks, and nobody ever trains them. Merging and mutation "
            "alone have to find everything; watch the rows grow different. Your first search is "
            "kept beside this one."
        ),
        section="Niches",
        controls=("Run", "Pause"),
        done=_watched,
        hint=_niches_hint,
        help=_watch,
        pretrained=False,
    ),
    Stop(
        title="Go on by yourself",
        text=(
            "A child earns a share of the reward of each point it solves, and lives if somebody "
            "earns less. Landscape shows other splits of a pair, the Lineage tab who came from "
            "whom, and Undo takes back whatever was done last."
        ),
        section="Time",
        controls=("Undo",),
        done=_never,
        hint=lambda now: "Setup has other tasks and methods, and starts from what you choose.",
        help=None,
        pretrained=False,
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
