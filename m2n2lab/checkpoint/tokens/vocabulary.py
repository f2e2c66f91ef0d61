"""Vocabularies of different size: which rows a merge has, from which seeds, for which tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from m2n2lab.checkpoint.tokens.tokenizers import Tokens, first_clash, says_clash

Mode = Literal["refuse", "common", "union", "first"]
MODES: tuple[Mode, ...] = ("refuse", "common", "union", "first")
"""What to do with vocabularies of different size: refuse them, merge the rows that all have and
keep no others, or those that any seed has, or those of the first."""


@dataclass(frozen=True)
class Run:
    """Successive rows of a merge's tables beyond the common ones.

    Attributes:
        start: the first of them in the result.
        rows: how many.
        owners: seeds that have them, each with its number of the first of these rows.
    """

    start: int
    rows: int
    owners: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Vocabulary:
    """Rows of a merge's tables of tokens, for seeds whose vocabularies differ.

    Attributes:
        mode: one of ``MODES``.
        sizes: (K,) rows of each seed.
        common: number of rows, from the first, that are merged of all seeds.
        runs: the further rows in order.
        tokenizer: number of the seed whose tokenizer fits.
        added: tokens to add to that tokenizer: token and flags by id.
        tokens: (K,) the tokens of each seed's tokenizer, as far as known.
    """

    mode: Mode
    sizes: tuple[int, ...]
    common: int
    runs: tuple[Run, ...]
    tokenizer: int
    added: Mapping[int, tuple[str, Mapping[str, Any]]]
    tokens: tuple[Tokens | None, ...]

    @property
    def total(self) -> int:
        """Number of rows of the result."""
        return self.common + sum(run.rows for run in self.runs)

    def id_of(self, seed: int, id: int) -> int | None:
        """Return the result's id of a token of a seed; ``None`` if it has no row there."""
        if id < self.common:
            return id
        for run in self.runs:
            for owner, first in run.owners:
                if owner == seed and first <= id < first + run.rows:
                    return run.start + id - first
        return None


class CannotArrangeError(Exception):
    """Vocabularies that cannot be merged; the message says on what they disagree."""


def arrange(sizes: Sequence[int], tokens: Sequence[Tokens | None], mode: Mode) -> Vocabulary:
    """Return the rows of a merge.

    Args:
        sizes: (K,) rows of each seed.
        tokens: (K,) their tokens, as far as known.
        mode: ``"common"``, ``"union"`` or ``"first"``.

    Raises:
        CannotArrangeError: the seeds disagree on tokens that are not only added ones.
    """
    common = min(sizes)
    for b, other in enumerate(tokens):
        for a, one in enumerate(tokens[:b]):
            if one is None or other is None:
                continue
            clash = first_clash(one, other, min(sizes[a], sizes[b]))
            if clash is None:
                continue
            if clash < max(one.base, other.base):
                raise CannotArrangeError(says_clash(one, other, clash))
            common = min(common, clash)
    if mode == "common":
        return _common(sizes, tokens, common)
    carrier, added = (0, {}) if mode == "first" else _carrier(sizes, tokens, common)
    known = tokens[carrier]
    named = {**(known.by_id if known else {}), **{id: token for id, (token, _) in added.items()}}
    total = max(sizes[carrier], max(added, default=-1) + 1)
    owned = [(row, _owners(row, sizes, tokens, named, carrier)) for row in range(common, total)]
    runs = tuple(_joined(owned))
    return Vocabulary(mode, tuple(sizes), common, runs, carrier, added, tuple(tokens))


def _common(sizes: Sequence[int], tokens: Sequence[Tokens | None], common: int) -> Vocabulary:
    order = sorted(range(len(sizes)), key=lambda k: (sizes[k], k))
    fits = [k for k in order if not beyond(tokens[k], common, sizes[k])]
    if not fits:
        found = tokens[order[0]]
        token = min(beyond(found, common, sizes[order[0]]))
        name = found.by_id[token] if found else ""
        raise CannotArrangeError(
            f"no seed's tokenizer does with the {common:,} common rows (token {token} is {name!r})"
        )
    return Vocabulary("common", tuple(sizes), common, (), fits[0], {}, tuple(tokens))


def beyond(tokens: Tokens | None, rows: int, size: int) -> list[int]:
    """Return the ids that have a row in a seed of ``size`` rows but none among ``rows``."""
    return [id for id in tokens.by_id if rows <= id < size] if tokens else []


def _carrier(
    sizes: Sequence[int], tokens: Sequence[Tokens | None], common: int
) -> tuple[int, dict[int, tuple[str, Mapping[str, Any]]]]:
    """Return the seed whose tokenizer the result has, and the tokens to add to it."""
    order = sorted(range(len(sizes)), key=lambda k: (-sizes[k], k))
    for k in order:  # one that has all tokens at their places
        mine = tokens[k]
        if all(
            other is None
            or j == k
            or (
                mine is not None
                and all(mine.by_id.get(id) == other.by_id[id] for id in beyond(other, common, n))
            )
            or (mine is None and n <= sizes[k])
            for j, (other, n) in enumerate(zip(tokens, sizes, strict=True))
        ):
            return k, {}
    # The first whose own tokens all have rows, with the others' tokens added.
    able = [k for k, own in enumerate(tokens) if own is not None and max(own.by_id) < sizes[k]]
    if not able:
        raise CannotArrangeError("no seed's tokenizer has a row for each of its tokens")
    carrier = able[0]
    own = tokens[carrier]
    assert own is not None  # as chosen
    there = own.ids
    added: dict[int, tuple[str, Mapping[str, Any]]] = {}
    following = max(own.by_id) + 1
    for other, n in zip(tokens, sizes, strict=True):
        for id in sorted(beyond(other, common, n)):
            assert other is not None  # it has tokens
            token = other.by_id[id]
            if token not in there:
                there[token] = following
                added[following] = (token, other.flags.get(id, {}))
                following += 1
    return carrier, added


def _owners(
    row: int,
    sizes: Sequence[int],
    tokens: Sequence[Tokens | None],
    named: Mapping[int, str],
    carrier: int,
) -> tuple[tuple[int, int], ...]:
    """Return the seeds that have a row of the result, with its number in each."""
    token = named.get(row)
    found = []
    for k, (size, known) in enumerate(zip(sizes, tokens, strict=True)):
        id: int | None = row
        if known is not None:
            id = row if token is None and row not in known.by_id else known.ids.get(token or "")
        if id is not None and id < size:
            found.append((k, id))
    # A token without a row in any seed, or a row without a token: the tokenizer's seed has it.
    return tuple(found) or ((carrier, min(row, sizes[carrier] - 1)),)


def _joined(owned: Sequence[tuple[int, tuple[tuple[int, int], ...]]]) -> Iterator[Run]:
    """Yield runs of rows whose owners have them in a row too."""
    start = 0
    for k in range(1, len(owned) + 1):
        length = k - start
        follows = k < len(owned) and owned[k][1] == tuple(
            (seed, first + length) for seed, first in owned[start][1]
        )
        if not follows:
            yield Run(owned[start][0], length, owned[start][1])
            start = k
