"""Parts: the tensors that a merge touches, and the groups of them that are merged apart.

The paper merges the attention layers of image models apart from all others, as "chromosomes" with a
split and a mix each (arXiv 2508.16204, §4.3). Within a group the merge is what it is for a whole
model: the group's tensors, one after the other, are the vector, with an angle and a split of its
own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from m2n2lab.core.operators.crossover import Crossover
from m2n2lab.core.records import Proposal
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.shares import linear_shares, shares_of
from m2n2lab.core.spaces.slerp import slerp
from m2n2lab.core.spaces.tensor_rule import TensorRule
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError, described

Patterns = str | re.Pattern[str] | Sequence[str | re.Pattern[str]]

REGULAR = "re:"
"""Prefix of a pattern that is a regular expression and no glob."""


class Group:
    """A group of tensors that is merged as a vector of its own.

    Args:
        name: its name.
        layout: the whole vector.
        tensors: names of its tensors, in the layout's order.

    Attributes:
        size: number of its parameters, n.
        ranges: first index and end of each run of its tensors in the whole vector.
        layout: its own tensors, along its own vector.
    """

    def __init__(self, name: str, layout: Layout, tensors: Sequence[str]) -> None:
        self.name = name
        chosen = set(tensors)
        self.ranges: list[tuple[int, int]] = []
        for tensor, start, end in zip(
            layout.shapes, layout.offsets, layout.offsets[1:], strict=False
        ):
            if tensor in chosen and self.ranges and self.ranges[-1][1] == start:
                self.ranges[-1] = (self.ranges[-1][0], end)
            elif tensor in chosen:
                self.ranges.append((start, end))
        self.layout = Layout(
            {name: layout.shapes[name] for name in layout.shapes if name in chosen}
        )
        self.size = self.layout.size

    def own(self, index: int) -> int:
        """Return the number of the group's parameters before an index of the whole vector."""
        return sum(min(max(index - start, 0), end - start) for start, end in self.ranges)

    def whole(self, index: int) -> int:
        """Return the index in the whole vector of an index in [0, n] of the group's."""
        for start, end in self.ranges:
            if index < end - start:
                return start + index
            index -= end - start
        return self.ranges[-1][1]

    def stretches(self, edges: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yield the stretches between edges (E+1,) of its own vector: number, and whole indices."""
        offset, number = 0, 0
        for start, end in self.ranges:
            at = start
            while at < end:
                while edges[number + 1] <= offset + at - start:
                    number += 1
                stop = min(end, start + edges[number + 1] - offset)
                yield number, at, stop
                at = stop
            offset += end - start


class GroupView:
    """A space as the crossover of one group sees it: its vector is the group's.

    Genomes are those of the whole space; outside of the group the first one stays.
    """

    def __init__(self, space: Any, group: Group) -> None:
        self._space, self._group = space, group
        self.size, self.layout, self.seeds = group.size, group.layout, space.seeds

    def angle(self, a: Any, b: Any) -> float:
        """Return the angle ω in radians between the group's weights in two genomes."""
        angle: float = self._space.angle_within(a, b, self._group.ranges)
        return angle

    def merge_stretches(self, a: Any, b: Any, edges: Sequence[int], mixes: Sequence[float]) -> Any:
        """Return the SLERP of A and B with the share of B on each stretch of the group."""
        if getattr(self._space, "granularity", "model") == "model":
            omega = self.angle(a, b)
            factors = [slerp(omega, mix) for mix in mixes]
            return self.blend([a, b], edges, factors, linear_shares(mixes))
        omegas = dict(zip(self._space.layout.shapes, self._space.angles(a, b), strict=True))
        starts = list(self.layout.offsets)
        cuts = sorted({*starts, *edges})
        tensors = list(self.layout.shapes)
        shares = [mixes[int(np.searchsorted(edges, cut, side="right")) - 1] for cut in cuts[:-1]]
        factors = [
            slerp(omegas[tensors[int(np.searchsorted(starts, cut, side="right")) - 1]], mix)
            for cut, mix in zip(cuts, shares, strict=False)
        ]
        return self.blend([a, b], cuts, factors, linear_shares(shares))

    def blend(
        self,
        genomes: Sequence[Any],
        edges: Sequence[int],
        factors: Any,
        shares: Floats | None = None,
    ) -> Any:
        """Return Σ_k f_ek · genome_k on each stretch e of the group, and the first elsewhere.

        The buffers of the group's modules have ``shares`` (E, K), by default those of the factors.
        """
        table = np.asarray(factors, float)
        of_buffers = shares_of(table) if shares is None else shares
        ends, numbers = self._across(edges)
        first = np.eye(1, len(genomes))
        whole, own = (np.concatenate((rows, first))[numbers] for rows in (table, of_buffers))
        # Spaces of one's own need not know of buffers.
        more = {} if getattr(genomes[0], "buffers", None) is None else {"shares": own}
        return self._space.blend(genomes, ends, whole, **more)

    def per_tensor(
        self,
        rule: TensorRule,
        genomes: Sequence[Any],
        edges: Sequence[int],
        mixes: Sequence[float],
        seed: int,
    ) -> Any:
        """Return the genome whose tensors of the group a rule computes; others are the first's."""
        ends, numbers = self._across(edges)
        shares = [[*mixes, 0.0][number] for number in numbers]
        return self._space.per_tensor(rule, genomes, ends, shares, seed, set(self.layout.shapes))

    def _across(self, edges: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return edges over the whole vector, and the group's stretch between each two, −1 outside.

        Args:
            edges: (E+1,) of the group's own vector.
        """
        ends: list[int] = [0]
        numbers: list[int] = []
        for number, start, stop in self._group.stretches(edges):
            if start > ends[-1]:
                ends, numbers = [*ends, start], [*numbers, -1]
            ends, numbers = [*ends, stop], [*numbers, number]
        if ends[-1] < self._space.size:
            ends, numbers = [*ends, self._space.size], [*numbers, -1]
        return ends, numbers


class Cut(NamedTuple):
    """Split and mix of a group: an index of its own vector, and the share of B before it."""

    split: int
    mix: float


class Parts:
    """The tensors that a merge touches, in groups that are merged apart.

    A pattern is a glob such as ``"*attn*"``, or a regular expression behind ``"re:"``; it is
    compared with whole names of tensors. A tensor belongs to the first group with a pattern that
    fits.

    Args:
        layout: the tensors.
        groups: patterns by name of the group; one group of all tensors by default.
        include: patterns of the tensors that are merged; all by default.
        exclude: patterns of tensors that are not; they stay as they are in parent A.
        freeze: patterns of tensors that every child has from the first seed.

    Attributes:
        groups: the groups.
        untouched: tensors that stay as they are in parent A; ``None`` if there are none.
        frozen: tensors that stay as in the first seed; ``None`` if there are none.

    Raises:
        InputError: a pattern fits no tensor, a tensor is in no group, or none is left to be merged.
    """

    def __init__(
        self,
        layout: Layout,
        groups: Mapping[str, Patterns] | None = None,
        include: Patterns = (),
        exclude: Patterns = (),
        freeze: Patterns = (),
    ) -> None:
        names = list(layout.shapes)
        kept = set(names) if is_nothing(include) else matching("include", include, names)
        frozen = matching("freeze", freeze, names)
        kept -= matching("exclude", exclude, names) | frozen
        if not kept:
            raise InputError(
                f"At least one of the {len(names)} tensors must be merged, got include, exclude "
                f"and freeze that leave none; leave out fewer."
            )
        if not isinstance(groups, (Mapping, type(None))):
            raise InputError(
                f"groups must be patterns by name of the group, got {described(groups)}; give for "
                f"example groups={{'attention': '*attn*', 'rest': '*'}}."
            )
        left = [name for name in names if name in kept]
        members: dict[str, list[str]] = {}
        for group, patterns in (groups or {"all": "*"}).items():
            chosen = matching(f"group {group!r}", patterns, names)
            members[group] = [name for name in left if name in chosen]
            left = [name for name in left if name not in chosen]
        if left:
            raise InputError(
                f"Every merged tensor must be in a group, but {left[0]!r} is in none of "
                f"{', '.join(members)}; add a group such as rest='*', or exclude it."
            )
        self.groups = tuple(
            Group(name, layout, tensors) for name, tensors in members.items() if tensors
        )
        touched = {name for tensors in members.values() for name in tensors}
        others = [name for name in names if name not in touched and name not in frozen]
        self.untouched = Group("untouched", layout, others) if others else None
        self.frozen = Group("frozen", layout, sorted(frozen)) if frozen else None
        self.size = layout.size

    def beside(self) -> list[tuple[int, int, str]]:
        """Return what the proposal's split does not move: first index, end, and the reason."""
        _, *others = self.groups
        reasons = [(group, f"group {group.name}: a split of its own") for group in others]
        reasons += [(self.untouched, "stays as in A")] if self.untouched else []
        reasons += [(self.frozen, "stays as in the first seed")] if self.frozen else []
        return sorted((i, j, reason) for group, reason in reasons for i, j in group.ranges)

    def cuts(self, proposal: Proposal) -> list[Cut]:
        """Return split and mix of each group: the proposal's for the first, else from its seed.

        A split at N, the end of the whole vector, is none in any group.
        """
        assert proposal.split is not None
        assert proposal.mix is not None
        first, *others = self.groups
        cuts = [Cut(first.own(int(proposal.split)), float(proposal.mix))]
        for number, group in enumerate(others, start=1):
            u_split, u_mix = np.random.default_rng((proposal.seed, number)).random(2).tolist()
            split = group.size if proposal.split == self.size else int(u_split * group.size)
            cuts.append(Cut(split, u_mix))
        return cuts

    def cross(self, crossover: Crossover, a: Any, b: Any, proposal: Proposal, space: Any) -> Any:
        """Return the genome of a child of A and B, each group merged apart, before mutation."""
        child = a
        for group, own, rng in self._each(proposal):
            child = crossover(child, b, own, GroupView(space, group), rng)
        return self._with(child, space.seeds[0], self.frozen, space)

    def merge(self, a: Any, b: Any, mixes: Sequence[float], space: Any) -> Any:
        """Return the SLERP of A and B with a mix for each group, without a split."""
        child = a
        for group, mix in zip(self.groups, mixes, strict=True):
            child = GroupView(space, group).merge_stretches(child, b, [0, group.size], [mix])
        return self._with(child, space.seeds[0], self.frozen, space)

    def _each(self, proposal: Proposal) -> Iterator[tuple[Group, Proposal, np.random.Generator]]:
        """Yield each group, the proposal with its own split and mix, and its random numbers."""
        for number, (group, cut) in enumerate(zip(self.groups, self.cuts(proposal), strict=True)):
            own = replace(proposal, split=cut.split, mix=cut.mix)
            yield group, own, crossover_rng(proposal, number)

    def inheritance(
        self, crossover: Crossover, proposal: Proposal
    ) -> list[tuple[int, int, float, bool]]:
        """Return what a child has from whom: first index and end, share of B, whether frozen.

        The rest is parent A's, or for frozen stretches the first seed's.
        """
        found = []
        for group, own, rng in self._each(proposal):
            edges, shares = crossover.shares(own, group.layout, rng)
            found += [(i, j, shares[e], False) for e, i, j in group.stretches(edges)]
        frozen = self.frozen.ranges if self.frozen else []
        return sorted([*found, *((start, stop, 0.0, True) for start, stop in frozen)])

    def keep(self, child: Any, before: Any, space: Any) -> Any:
        """Return a mutated child with all that is not merged as it was before."""
        for group in (self.untouched, self.frozen):
            child = self._with(child, before, group, space)
        return child

    def _with(self, child: Any, source: Any, group: Group | None, space: Any) -> Any:
        if group is None:
            return child
        return GroupView(space, group).blend([child, source], [0, group.size], [[0.0, 1.0]])


def crossover_rng(proposal: Proposal, group: int = 0) -> np.random.Generator:
    """Return the random numbers of a crossover, a function of the proposal's seed."""
    return np.random.default_rng((proposal.seed, group, 1))


def is_nothing(given: Any) -> bool:
    """Return whether groups or patterns were left out: ``None`` or empty."""
    return given is None or (isinstance(given, (str, Sequence, Mapping)) and not given)


def plain_patterns(patterns: Patterns) -> list[str]:
    """Return patterns as a list of texts, regular expressions behind their prefix."""
    if is_nothing(patterns):
        return []
    is_list = isinstance(patterns, Sequence) and not isinstance(patterns, str)
    several: Any = patterns if is_list else [patterns]
    return [REGULAR + p.pattern if isinstance(p, re.Pattern) else p for p in several]


def matching(what: str, patterns: Patterns, names: Sequence[str]) -> set[str]:
    """Return the names that fit any of the patterns.

    Raises:
        InputError: a pattern is no text or regular expression, or fits none of the names.
    """
    found: set[str] = set()
    for pattern in plain_patterns(patterns):
        if not isinstance(pattern, str):
            raise InputError(
                f"{what} must be patterns of names of tensors, got {pattern!r}; give a glob such "
                f"as '*attn*', or a list of them."
            )
        if pattern.startswith(REGULAR):
            try:
                expression = re.compile(pattern.removeprefix(REGULAR))
            except re.error as error:
                raise InputError(
                    f"{what} must be a regular expression behind {REGULAR!r}, got {pattern!r} "
                    f"({error}); correct it."
                ) from error
            fits = {name for name in names if expression.fullmatch(name)}
        else:
            fits = {name for name in names if fnmatchcase(name, pattern)}
        if not fits:
            near = get_close_matches(pattern.strip("*"), names, 1, 0.3) or names[:1]
            raise InputError(
                f"{what} must fit a tensor, but {pattern!r} fits none of {len(names)}; tensors are "
                f"named as in {near[0]!r}."
            )
        found |= fits
    return found
