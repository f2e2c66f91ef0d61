"""Lineage: the ancestry of every member that one search ever had, and its seeds' shares.

A lineage observes an evolver. Rejected children leave no trace in it, so a step that changes
nothing costs next to nothing.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2n2lab.core.population import Member
from m2n2lab.core.records import Generation, Proposal
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.text import plain

if TYPE_CHECKING:
    from m2n2lab.core.evolver import Evolver
    from m2n2lab.core.spaces.space import Space


BINS = 48
"""Equal intervals of the flat vector in a painting."""

MAX_MOMENTS = 200
"""Maximum number of moments with recorded mean shares, the present one included."""

MISSING = -1
"""A missing id, row, split or step of death."""

_COLUMNS = {
    "id": "q",
    "born": "q",
    "died": "q",
    "parent_a": "q",
    "parent_b": "q",
    "row_a": "i",  # of the parents, if known
    "row_b": "i",
    "of_b": "d",  # share of B in the child; 0 without B
    "active_children": "i",  # number of children that are members or ancestors of members
    "lane": "i",
    "split": "q",
    "mix": "d",
    "score": "d",
    "by_hand": "b",
}
"""Columns and their types in the ``array`` module, which is compact and fast to read by element."""


class Life(NamedTuple):
    """One present or displaced member."""

    id: int
    born: int  # step; 0 for a seed
    died: int | None  # step at which it was displaced; None for a member
    parents: tuple[int, ...]
    score: float
    by_hand: bool  # a part of the proposal was chosen by hand, or the model is external
    split: int | None
    mix: float | None
    shares: Floats  # (K + 1,) of each seed and, last, of external models


MAX_NAME_CHARS = 40
"""Maximum length of a seed's name in views."""


def seed_names(space: Space) -> tuple[str, ...]:
    """Return the names of a space's seeds in views (K,): the space's own, or by number."""
    own: tuple[str, ...] = getattr(space, "names", ())
    count = len(space.seeds)
    if len(own) != count:
        return tuple(f"seed {k}" for k in range(count))
    return tuple(plain(name, MAX_NAME_CHARS) for name in own)


def called(id: int, seeds: Sequence[str]) -> str:
    """Return what a member is called in views: a seed by its name, all others by their number.

    Args:
        id: the member's.
        seeds: (K,) names of the seeds (see ``seed_names``); seeds that have none stay numbers.
    """
    return seeds[id] if id < len(seeds) and seeds[id] != f"seed {id}" else str(id)


class Lineage:
    """All present and displaced members of a search, and the share of each seed in them.

        lineage = Lineage(evolver)
        evolver.subscribe(lineage.observe)
        evolver.run(1_000)
        lineage.painting(evolver.best.id)    # (BINS, K + 1)

    A *painting* has for each of ``BINS`` intervals of the flat vector the share of each of the K
    seeds and, in a last column, of no seed: of an external model, or of a member whose birth was
    not observed. A child has B's painting times the share of B (w before the split, 1 − w from it
    on), plus A's times the rest; a recipe has its own. Mutation is not shown. For displaced members
    only the mean is kept, some 115 bytes per member in all for two seeds.

    A lineage is not thread-safe: use it in the thread that steps. A search that is reset or loaded
    needs a new lineage.

    Args:
        evolver: the search to observe, from its present state on.
        members: the members when the lineage begins; the present ones by default.
        began: step after which the lineage begins; the present one by default.

    Attributes:
        names: (K + 1,) names of the columns of paintings: the seeds and, last, no seed.
        now: the last observed step.
        can_forget: whether that step can be forgotten (see ``forget_last``).
        lanes: number of lanes; a child takes the lane of the member that it displaced.
    """

    def __init__(
        self, evolver: Evolver, members: Iterable[Member] | None = None, began: int | None = None
    ) -> None:
        self.seeds = len(evolver.space.seeds)
        self.names = (*seed_names(evolver.space), "outside")
        self.now = evolver.generation if began is None else began
        self.lanes = 0
        self._archive = evolver.archive
        self._inheritance = evolver.inheritance
        self._size = evolver.space.size
        self._columns: dict[str, array[Any]] = {n: array(code) for n, code in _COLUMNS.items()}
        self._shares = array("d")  # K + 1 a row
        self._alive: dict[int, int] = {}  # rows by id
        self._painted: dict[int, Floats] = {}  # (BINS, K + 1) of the members by id
        self._gone: tuple[int, Floats] | None = None  # row and painting of the last displaced one
        self._pure = [self._pure_painting(k) for k in range(self.seeds + 1)]
        self._began = self.now
        self.can_forget = False  # the last generation
        self._moments: list[tuple[int, Floats]] = []  # step, mean shares (K + 1,)
        self._every = 1  # steps between two moments
        self._line: tuple[int, NDArray[np.intp], Floats] | None = None  # the last result of line
        for member in evolver.archive.members if members is None else members:
            painting = self._first_painting(member)
            self._add(member.id, member.born, member.parents, None, member.score, painting, None)

    # -- observing -----------------------------------------------------------------------------

    def observe(self, generation: Generation) -> None:
        """Add one generation; made for ``evolver.subscribe``."""
        verdict, step = generation.verdict, generation.step
        if verdict.accepted:
            self.birth(
                step, generation.child, generation.proposal, verdict.score, verdict.displaced
            )
        self.now = step
        self.can_forget = True

    def birth(
        self, step: int, id: int, proposal: Proposal | None, score: float, displaced: int | None
    ) -> None:
        """Add a child that is a member from ``step`` on, and remove the member it displaced."""
        self._remember(step)
        self.now = step
        painting = self._child_painting(id, proposal)
        parents = proposal.parents if proposal else ()
        # The child first, because the displaced member may be its parent.
        self._add(id, step, parents, proposal, score, painting, displaced)
        if displaced is not None:
            self._record_death(displaced, step)

    def _add(
        self,
        id: int,
        born: int,
        parents: tuple[int, ...],
        proposal: Proposal | None,
        score: float,
        painting: Floats,
        displaced: int | None,
    ) -> None:
        """Add a member, in the lane of the one it displaces."""
        columns, row = self._columns, len(self)
        old = None if displaced is None else self._alive.get(displaced)
        if old is None:
            lane, self.lanes = self.lanes, self.lanes + 1
        else:
            lane = columns["lane"][old]
        a, b = (*parents, MISSING, MISSING)[:2]
        row_a, row_b = self._find(a), self._find(b)
        split = proposal.split if proposal else None
        mix = proposal.mix if proposal else None
        of_b = 0.0
        if b != MISSING and split is not None and mix is not None:
            stretches = self._inheritance(proposal) if proposal else []
            of_b = sum((j - i) * share for i, j, share, _ in stretches) / self._size
        values = (
            *(id, born, MISSING, a, b, row_a, row_b, of_b, 0, lane),
            *(MISSING if split is None else split, math.nan if mix is None else mix, score),
            bool(proposal.by_hand) if proposal else born > 0,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        painting.flags.writeable = False
        self._shares.extend((painting.sum(axis=0) / BINS).tolist())
        self._alive[id], self._painted[id] = row, painting
        self._count_descendant(row)

    def _record_death(self, id: int, step: int) -> None:
        """Record that a member is displaced."""
        row = self._alive.pop(id, None)
        if row is not None:
            self._gone = row, self._painted.pop(id)
            self._columns["died"][row] = step
            if self._columns["active_children"][row] == 0:
                self._discount_descendant(row)

    def forget_last(self) -> None:
        """Undo the last generation, as ``History.forget_last``; at most once after each."""
        columns, row = self._columns, len(self) - 1
        if columns["born"][row] == self.now > self._began:
            if self._gone is not None and columns["died"][self._gone[0]] == self.now:
                back, painting = self._gone
                columns["died"][back] = MISSING
                self._alive[columns["id"][back]] = back
                self._painted[columns["id"][back]] = painting
                if columns["active_children"][back] == 0:
                    self._count_descendant(back)
            else:
                self.lanes -= 1
            self._discount_descendant(row)
            id = columns["id"][row]
            del self._alive[id], self._painted[id], self._shares[-(self.seeds + 1) :]
            for column in columns.values():
                column.pop()
            self._line = self._gone = None
        self.now -= 1
        self.can_forget = False

    def _count_descendant(self, row: int) -> None:
        """Count a new member, or a new ancestor of members, as an active child of its parents."""
        active, died, todo = self._columns["active_children"], self._columns["died"], [row]
        while todo:
            for parent in self._parent_rows(todo.pop()):
                active[parent] += 1
                if active[parent] == 1 and died[parent] != MISSING:
                    todo.append(parent)

    def _discount_descendant(self, row: int) -> None:
        """Undo ``_count_descendant`` for a displaced member without active children."""
        active, died, todo = self._columns["active_children"], self._columns["died"], [row]
        while todo:
            for parent in self._parent_rows(todo.pop()):
                active[parent] -= 1
                if active[parent] == 0 and died[parent] != MISSING:
                    todo.append(parent)

    def _parent_rows(self, row: int) -> list[int]:
        """Return the rows of a member's known parents."""
        rows = (self._columns["row_a"][row], self._columns["row_b"][row])
        return [parent for parent in rows if parent != MISSING]

    # -- paintings -----------------------------------------------------------------------------

    def _pure_painting(self, k: int) -> Floats:
        """Return the painting of seed k, or of an external model for k = K."""
        painting = np.zeros((BINS, self.seeds + 1))
        painting[:, k] = 1.0
        painting.flags.writeable = False
        return painting

    def _first_painting(self, member: Member) -> Floats:
        """Return the painting of a member whose birth was not observed."""
        if isinstance(member.genome, Recipe):
            return _recipe_painting(member.genome)
        seed = not member.parents and member.born == 0 and member.id < self.seeds
        return self._pure[member.id if seed else self.seeds]

    def _child_painting(self, id: int, proposal: Proposal | None) -> Floats:
        """Return the painting of a child that was just admitted."""
        genome = self._archive[id].genome if id in self._archive else None
        if isinstance(genome, Recipe):
            return _recipe_painting(genome)
        if proposal is None or not proposal.parents:
            return self._pure[self.seeds]
        a, *others = (self._parent_painting(parent) for parent in proposal.parents)
        if not others or proposal.split is None or proposal.mix is None:
            return a
        origins = self._inheritance(proposal)
        return merged_painting(a, others[0], self._pure[0], origins, self._size)

    def _parent_painting(self, id: int) -> Floats:
        """Return the painting of a parent, which with brute force may be a displaced seed."""
        if id in self._painted:
            return self._painted[id]
        if 0 <= id < self.seeds:
            return self._pure[id]
        return self.painting(id) if id in self else self._pure[self.seeds]

    def painting(self, id: int) -> Floats:
        """Return the share of each seed in each interval of a member, (BINS, K + 1); read-only.

        For displaced members only the mean is known, and all intervals have it.

        Raises:
            InputError: there never was such a member.
        """
        row = self._row(id)
        if id in self._painted:
            return self._painted[id]
        return np.broadcast_to(self._shares_of(row), (BINS, self.seeds + 1))

    def _shares_of(self, row: int) -> Floats:
        width = self.seeds + 1
        return np.array(self._shares[row * width : (row + 1) * width])

    # -- the seeds' shares over time -----------------------------------------------------------

    def _remember(self, step: int) -> None:
        """Record the mean shares at every moment before ``step`` that is not recorded yet."""
        moments = self._moments
        at = moments[-1][0] + self._every if moments else self._began
        if at >= step:
            return
        shares = self.mean_shares
        while at < step:
            moments.append((at, shares))
            if len(moments) == MAX_MOMENTS:
                del moments[1::2]
                self._every *= 2
            at = moments[-1][0] + self._every

    @property
    def mean_shares(self) -> Floats:
        """(K + 1,) mean share of each seed, and of no seed, over the members."""
        members = np.array([self._shares_of(row) for row in self._alive.values()])
        mean: Floats = members.mean(axis=0)
        return mean

    def moments(self) -> list[tuple[int, Floats]]:
        """Return up to ``MAX_MOMENTS`` steps and mean shares: evenly spaced ones and, last, now."""
        self._remember(self.now)
        # After an undone step the last recorded moment may be the present step.
        before = [moment for moment in self._moments if moment[0] < self.now]
        return [*before, (self.now, self.mean_shares)]

    # -- ancestry ------------------------------------------------------------------------------

    def column(self, name: str) -> NDArray[Any]:
        """Return a copy of one of ``_COLUMNS`` of all members ever, by birth (n,)."""
        return np.array(self._columns[name])

    def __len__(self) -> int:
        return len(self._columns["id"])

    def __contains__(self, id: object) -> bool:
        return isinstance(id, int) and self._find(id) != MISSING

    def __getitem__(self, id: int) -> Life:
        """Return one present or displaced member.

        Raises:
            InputError: there never was such a member.
        """
        row = self._row(id)
        values = {name: column[row] for name, column in self._columns.items()}
        parents = (values["parent_a"], values["parent_b"])
        return Life(
            id=id,
            born=values["born"],
            died=None if values["died"] == MISSING else values["died"],
            parents=tuple(parent for parent in parents if parent != MISSING),
            score=values["score"],
            by_hand=bool(values["by_hand"]),
            split=None if values["split"] == MISSING else values["split"],
            mix=None if math.isnan(values["mix"]) else values["mix"],
            shares=self._shares_of(row),
        )

    def line(self, id: int) -> tuple[NDArray[np.intp], Floats]:
        """Return the rows of a member's ancestors and, last, its own (n,), and their shares.

        The share of an ancestor (n,) is the part of the member that comes through it: 1 for the
        member itself, the share in the child for A and B, and so on back, as a mean over the
        vector.

        Raises:
            InputError: there never was such a member.
        """
        if self._line is None or self._line[0] != id:
            own = self._row(id)
            row_a, row_b, of_b = (self._columns[name] for name in ("row_a", "row_b", "of_b"))
            gave = [-1.0] * own + [1.0]  # below 0 for members that are no ancestors
            for row in range(own, -1, -1):  # children before their parents, which are older
                share = gave[row]
                if share >= 0.0:
                    for parent, part in ((row_a[row], 1.0 - of_b[row]), (row_b[row], of_b[row])):
                        if parent != MISSING:
                            gave[parent] = max(gave[parent], 0.0) + part * share
            shares = np.array(gave)
            rows = np.flatnonzero(shares >= 0.0)
            self._line = id, rows, shares[rows]
        return self._line[1:]

    def _find(self, id: int) -> int:
        """Return the row of a member, or ``MISSING``."""
        row = self._alive.get(id)
        if row is None:
            ids = self._columns["id"]  # increasing, because ids are assigned in order
            row = bisect_left(ids, id)
            if row == len(ids) or ids[row] != id:
                return MISSING
        return row

    def _row(self, id: int) -> int:
        row = self._find(id)
        if row == MISSING:
            raise InputError(
                f"There was never a member {id!r}, or it was not observed; choose a present one, "
                f"such as {next(reversed(self._alive), 'a seed')}."
            )
        return row


def _recipe_painting(recipe: Recipe) -> Floats:
    """Return the painting of a recipe; without any seed its share is in the last column."""
    shares = recipe.paint(BINS)
    return np.column_stack((shares, 1.0 - shares.sum(axis=1)))


def merged_painting(
    a: Floats,
    b: Floats,
    frozen: Floats,
    stretches: Iterable[tuple[int, int, float, bool]],
    size: int,
) -> Floats:
    """Return the painting (BINS, K + 1) of a child of A and B with these paintings.

    Intervals with parts of several stretches have their mean, weighted by length.

    Args:
        a, b: (BINS, K + 1) of the parents.
        frozen: (BINS, K + 1) of the model whose frozen tensors every child has.
        stretches: first index, end, share of B, whether frozen, as ``Evolver.inheritance``; the
            rest is A's.
        size: N, length of the flat vector.
    """
    of_b, of_frozen = np.zeros((BINS, 1)), np.zeros((BINS, 1))
    bins = np.arange(BINS)
    for start, stop, share, is_frozen in stretches:
        ends = np.minimum(stop * BINS / size, bins + 1.0)
        part = np.maximum(ends - np.maximum(start * BINS / size, bins), 0.0)[:, None]
        if is_frozen:
            of_frozen += part
        else:
            of_b += share * part
    child: Floats = (1.0 - of_b - of_frozen) * a + of_b * b + of_frozen * frozen
    return child
