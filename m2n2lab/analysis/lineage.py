"""Who came from whom, and what each is made of: every child that ever lived in one search.

A lineage watches an evolver from outside. Children that never lived leave no trace in it, so a
step that changes nothing costs next to nothing.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable
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
"""Equal stretches of the flat vector that a painting tells apart."""

MOMENTS = 200
"""Moments, the present one included, whose mean shares are remembered, however long the run."""

NOBODY = -1
"""Stands for an id, row, split or death that is not there."""

_COLUMNS = {
    "id": "q",
    "born": "q",
    "died": "q",
    "parent_a": "q",
    "parent_b": "q",
    "row_a": "i",  # of the parents, where they are known
    "row_b": "i",
    "of_b": "d",  # share of B in it; 0 where there is no B
    "kin": "i",  # children that live or are ancestors of the living
    "lane": "i",
    "split": "q",
    "mix": "d",
    "score": "d",
    "by_hand": "b",
}
"""Columns and their types, as in the ``array`` module: quick to read one by one, and small."""


class Life(NamedTuple):
    """One member that lives or lived."""

    id: int
    born: int  # step; 0 for a seed
    died: int | None  # step; None while it lives
    parents: tuple[int, ...]
    score: float
    by_hand: bool  # a person chose something of it, or it came from outside
    split: int | None
    mix: float | None
    shares: Floats  # (K + 1,) of each seed and, last, of what came from no seed


LONGEST_NAME = 40
"""Characters of a seed's name that are shown."""


def seed_names(space: Space) -> tuple[str, ...]:
    """Return what views call the seeds of a space (K,): as itself says, or by their numbers."""
    own: tuple[str, ...] = getattr(space, "names", ())
    many = len(space.seeds)
    if len(own) != many:
        return tuple(f"seed {k}" for k in range(many))
    return tuple(plain(name, LONGEST_NAME) for name in own)


class Lineage:
    """Every member that ever lived, and what share each seed has in it.

        lineage = Lineage(evolver)
        evolver.subscribe(lineage.observe)
        evolver.run(1_000)
        lineage.painting(evolver.best.id)    # (BINS, K + 1)

    A *painting* tells for each of ``BINS`` stretches of the flat vector how much of it came from
    each of the K seeds and, in a last column, from no seed: a model from outside, or a member
    whose birth was not watched. A child has the share of B that the mix gives B (w before the
    split, 1 − w from it on) of B's painting, and the rest of A's; a recipe knows its own. Mutation
    is not shown. Of the dead only the mean is kept, some 115 bytes a member in all for two seeds.

    Not to be shared between threads: ask it in the one that steps. A search that is reset or
    loaded needs a new lineage.

    Args:
        evolver: the search to watch, from how it stands now.
        members: who lived when it began, where that is not now.
        began: step after which it began, likewise.

    Attributes:
        names: (K + 1,) what views call the seeds and, last, what came from none.
    """

    def __init__(
        self, evolver: Evolver, members: Iterable[Member] | None = None, began: int | None = None
    ) -> None:
        self.seeds = len(evolver.space.seeds)
        self.names = (*seed_names(evolver.space), "outside")
        self.now = evolver.generation if began is None else began
        self.lanes = 0
        self._archive = evolver.archive
        self._size = evolver.space.size
        self._columns: dict[str, array[Any]] = {n: array(kind) for n, kind in _COLUMNS.items()}
        self._shares = array("d")  # K + 1 a row
        self._alive: dict[int, int] = {}  # rows by id
        self._painted: dict[int, Floats] = {}  # (BINS, K + 1) of the living by id
        self._gone: tuple[int, Floats] | None = None  # row and painting of the last that died
        self._pure = [self._pure_painting(k) for k in range(self.seeds + 1)]
        self._began = self.now
        self._moments: list[tuple[int, Floats]] = []  # step, mean shares (K + 1,)
        self._every = 1  # steps between two moments
        self._line: tuple[int, NDArray[np.intp], Floats] | None = None  # the last asked for
        for member in evolver.archive.members if members is None else members:
            painting = self._first_painting(member)
            self._add(member.id, member.born, member.parents, None, member.score, painting, None)

    # -- watching ------------------------------------------------------------------------------

    def observe(self, generation: Generation) -> None:
        """Take in one generation; made for ``evolver.subscribe``."""
        verdict, step = generation.verdict, generation.step
        if verdict.accepted:
            self.birth(
                step, generation.child, generation.proposal, verdict.score, verdict.displaced
            )
        self.now = step

    def birth(
        self, step: int, id: int, proposal: Proposal | None, score: float, displaced: int | None
    ) -> None:
        """Take in a child that lives from ``step`` on, and whom it displaced."""
        self._remember(step)
        self.now = step
        painting = self._child_painting(id, proposal)
        parents = proposal.parents if proposal else ()
        # The child first: whom it displaces may be its parent.
        self._add(id, step, parents, proposal, score, painting, displaced)
        if displaced is not None:
            self._bury(displaced, step)

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
        """Add a member that lives from now on, in the lane of whom it displaces."""
        columns, row = self._columns, len(self)
        place = None if displaced is None else self._alive.get(displaced)
        if place is None:
            lane, self.lanes = self.lanes, self.lanes + 1
        else:
            lane = columns["lane"][place]
        a, b = (*parents, NOBODY, NOBODY)[:2]
        row_a, row_b = self._find(a), self._find(b)
        split = proposal.split if proposal else None
        mix = proposal.mix if proposal else None
        of_b = 0.0
        if b != NOBODY and split is not None and mix is not None:
            of_b = (split * mix + (self._size - split) * (1.0 - mix)) / self._size
        values = (
            *(id, born, NOBODY, a, b, row_a, row_b, of_b, 0, lane),
            *(NOBODY if split is None else split, math.nan if mix is None else mix, score),
            bool(proposal.by_hand) if proposal else born > 0,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        painting.flags.writeable = False
        self._shares.extend((painting.sum(axis=0) / BINS).tolist())
        self._alive[id], self._painted[id] = row, painting
        self._hold(row)

    def _bury(self, id: int, step: int) -> None:
        """Let a member die."""
        row = self._alive.pop(id, None)
        if row is not None:
            self._gone = row, self._painted.pop(id)
            self._columns["died"][row] = step
            if self._columns["kin"][row] == 0:
                self._release(row)

    def forget_last(self) -> None:
        """Take back the last generation, as ``History`` does; at most once after each."""
        columns, row = self._columns, len(self) - 1
        if columns["born"][row] == self.now > self._began:
            if self._gone is not None and columns["died"][self._gone[0]] == self.now:
                back, painting = self._gone
                columns["died"][back] = NOBODY
                self._alive[columns["id"][back]] = back
                self._painted[columns["id"][back]] = painting
                if columns["kin"][back] == 0:
                    self._hold(back)
            else:
                self.lanes -= 1
            self._release(row)
            id = columns["id"][row]
            del self._alive[id], self._painted[id], self._shares[-(self.seeds + 1) :]
            for column in columns.values():
                column.pop()
            self._line = self._gone = None
        self.now -= 1

    def _hold(self, row: int) -> None:
        """Count a member that now lives, or has descendants that do, with its parents."""
        kin, died, todo = self._columns["kin"], self._columns["died"], [row]
        while todo:
            for parent in self._parent_rows(todo.pop()):
                kin[parent] += 1
                if kin[parent] == 1 and died[parent] != NOBODY:
                    todo.append(parent)

    def _release(self, row: int) -> None:
        """Take back what ``_hold`` counted, for a member that died without such descendants."""
        kin, died, todo = self._columns["kin"], self._columns["died"], [row]
        while todo:
            for parent in self._parent_rows(todo.pop()):
                kin[parent] -= 1
                if kin[parent] == 0 and died[parent] != NOBODY:
                    todo.append(parent)

    def _parent_rows(self, row: int) -> list[int]:
        """Return the rows of a member's parents, as far as they are known."""
        rows = (self._columns["row_a"][row], self._columns["row_b"][row])
        return [parent for parent in rows if parent != NOBODY]

    # -- what a member is made of --------------------------------------------------------------

    def _pure_painting(self, k: int) -> Floats:
        """Return the painting of seed k; that of a model from outside for k = K."""
        painting = np.zeros((BINS, self.seeds + 1))
        painting[:, k] = 1.0
        painting.flags.writeable = False
        return painting

    def _first_painting(self, member: Member) -> Floats:
        """Return the painting of a member whose birth was not watched."""
        if isinstance(member.genome, Recipe):
            return _recipe_painting(member.genome)
        seed = not member.parents and member.born == 0 and member.id < self.seeds
        return self._pure[member.id if seed else self.seeds]

    def _child_painting(self, id: int, proposal: Proposal | None) -> Floats:
        """Return the painting of a child that was just let in."""
        genome = self._archive[id].genome if id in self._archive else None
        if isinstance(genome, Recipe):
            return _recipe_painting(genome)
        if proposal is None or not proposal.parents:
            return self._pure[self.seeds]
        a, *others = (self._parent_painting(parent) for parent in proposal.parents)
        if not others or proposal.split is None or proposal.mix is None:
            return a
        return merged_painting(a, others[0], proposal.split, proposal.mix, self._size)

    def _parent_painting(self, id: int) -> Floats:
        """Return the painting of a parent, which brute force may choose among the dead."""
        if id in self._painted:
            return self._painted[id]
        if 0 <= id < self.seeds:
            return self._pure[id]
        return self.painting(id) if id in self else self._pure[self.seeds]

    def painting(self, id: int) -> Floats:
        """Return the share of each seed in each stretch of a member, (BINS, K + 1); read-only.

        Of the dead only the mean is known, and every stretch has it.

        Raises:
            InputError: no such member ever lived.
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
        """Remember the mean shares at every moment before ``step`` that is not yet passed."""
        moments = self._moments
        at = moments[-1][0] + self._every if moments else self._began
        if at >= step:
            return
        shares = self.mean_shares
        while at < step:
            moments.append((at, shares))
            if len(moments) == MOMENTS:
                del moments[1::2]
                self._every *= 2
            at = moments[-1][0] + self._every

    @property
    def mean_shares(self) -> Floats:
        """(K + 1,) mean share of each seed, and of what came from none, over the living."""
        living = np.array([self._shares_of(row) for row in self._alive.values()])
        mean: Floats = living.mean(axis=0)
        return mean

    def moments(self) -> list[tuple[int, Floats]]:
        """Return up to ``MOMENTS`` steps and mean shares: evenly spaced ones and, last, now."""
        self._remember(self.now)
        # A step that was taken back may have left a moment that is now.
        before = [moment for moment in self._moments if moment[0] < self.now]
        return [*before, (self.now, self.mean_shares)]

    # -- who came from whom --------------------------------------------------------------------

    def column(self, name: str) -> NDArray[Any]:
        """Return one of ``_COLUMNS`` of all that ever lived, by birth (n,); a copy."""
        return np.array(self._columns[name])

    def __len__(self) -> int:
        return len(self._columns["id"])

    def __contains__(self, id: object) -> bool:
        return isinstance(id, int) and self._find(id) != NOBODY

    def __getitem__(self, id: int) -> Life:
        """Return one member, living or dead.

        Raises:
            InputError: no such member ever lived.
        """
        row = self._row(id)
        values = {name: column[row] for name, column in self._columns.items()}
        parents = (values["parent_a"], values["parent_b"])
        return Life(
            id=id,
            born=values["born"],
            died=None if values["died"] == NOBODY else values["died"],
            parents=tuple(parent for parent in parents if parent != NOBODY),
            score=values["score"],
            by_hand=bool(values["by_hand"]),
            split=None if values["split"] == NOBODY else values["split"],
            mix=None if math.isnan(values["mix"]) else values["mix"],
            shares=self._shares_of(row),
        )

    def line(self, id: int) -> tuple[NDArray[np.intp], Floats]:
        """Return the rows of a member's ancestors and, last, its own (n,), and what each gave.

        That is the share of the member that came through each ancestor (n,): 1 for itself, for A
        and B what the mix gives them, and so on back. It does not depend on where in the vector.

        Raises:
            InputError: no such member ever lived.
        """
        if self._line is None or self._line[0] != id:
            own = self._row(id)
            row_a, row_b, of_b = (self._columns[name] for name in ("row_a", "row_b", "of_b"))
            gave = [-1.0] * own + [1.0]  # below 0 who is no ancestor
            for row in range(own, -1, -1):  # children before their parents, who are older
                share = gave[row]
                if share >= 0.0:
                    for parent, part in ((row_a[row], 1.0 - of_b[row]), (row_b[row], of_b[row])):
                        if parent != NOBODY:
                            gave[parent] = max(gave[parent], 0.0) + part * share
            shares = np.array(gave)
            rows = np.flatnonzero(shares >= 0.0)
            self._line = id, rows, shares[rows]
        return self._line[1:]

    def _find(self, id: int) -> int:
        """Return the row of a member, or ``NOBODY``."""
        row = self._alive.get(id)
        if row is None:
            ids = self._columns["id"]  # rising, because ids are given away in order
            row = bisect_left(ids, id)
            if row == len(ids) or ids[row] != id:
                return NOBODY
        return row

    def _row(self, id: int) -> int:
        row = self._find(id)
        if row == NOBODY:
            raise InputError(
                f"There was never a member {id!r}, or nobody watched; choose one that lives, such "
                f"as {next(reversed(self._alive), 'a seed')}."
            )
        return row


def _recipe_painting(recipe: Recipe) -> Floats:
    """Return the painting of a recipe; where it has nothing of any seed, it is from outside."""
    shares = recipe.paint(BINS)
    return np.column_stack((shares, 1.0 - shares.sum(axis=1)))


def merged_painting(a: Floats, b: Floats, split: int, mix: float, size: int) -> Floats:
    """Return the painting (BINS, K + 1) of a child of A and B with these paintings.

    The share of B is ``mix`` before the split and ``1 - mix`` from it on; the stretch in which the
    split falls has each in proportion to its length there.

    Args:
        a, b: (BINS, K + 1) of the parents.
        split: index in [0, size].
        mix: w in [0, 1].
        size: N, length of the flat vector.
    """
    where = split * BINS / size
    whole = int(where)
    of_b = np.full((BINS, 1), 1.0 - mix)
    of_b[:whole] = mix
    if whole < BINS:
        of_b[whole] += (where - whole) * (2.0 * mix - 1.0)
    child: Floats = (1.0 - of_b) * a + of_b * b
    return child
