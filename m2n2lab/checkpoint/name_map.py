"""Name maps: tensors of a seed that stand for tensors of other names in the first seed.

A language model inside a vision-language model has the tensors of the language model itself, with
another prefix. Through a map such as ``language_model.model.*=model.*`` only these are merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from m2n2lab.checkpoint.io.checkpoint import Checkpoint, Part
from m2n2lab.checkpoint.io.names import EMBEDDINGS
from m2n2lab.checkpoint.io.problems import Collector, Problem
from m2n2lab.utils.errors import InputError

NameMap = str | Sequence[str] | Mapping[str, str]
"""Pairs ``FIRST=OTHER`` of names, or of patterns with one ``*``; or a dict of them."""

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
_OTHER_CONFIGS = ("vision_config", "audio_config", "vision_tower_config")
"""Entries of the config of a model that holds a language model, and other models beside it."""

_HEAD = re.compile(r"(.*\.)?(lm_head|embed_out|output_projection)\.weight")
"""Output heads, wherever they are."""


def name_pairs(given: NameMap | None) -> tuple[str, ...]:
    """Return the pairs ``FIRST=OTHER`` of a map.

    Raises:
        InputError: one is no pair of names or patterns.
    """
    listed = [given] if isinstance(given, str) else given or ()
    if isinstance(listed, Mapping):
        listed = [f"{first}={other}" for first, other in listed.items()]
    for pair in listed:
        first, equals, other = pair.partition("=")
        stars = {first.count("*"), other.count("*")}
        if not (first and equals and other) or "=" in other or stars not in ({0}, {1}):
            raise InputError(
                f"A map must be FIRST=OTHER, each with one * or none, got {pair!r}; write, for "
                f"example, language_model.model.*=model.*"
            )
    return tuple(listed)


def text_config(part: Part) -> Mapping[str, Any]:
    """Return the config of the language model that a model is or holds."""
    for name in _TEXT_CONFIGS:
        if isinstance(part.config.get(name), Mapping):
            found: Mapping[str, Any] = part.config[name]
            return found
    return part.config


def holds_language_model(part: Part) -> bool:
    """Return whether a model holds a language model, and others beside it."""
    return any(
        isinstance(part.config.get(name), Mapping) for name in (*_TEXT_CONFIGS, *_OTHER_CONFIGS)
    )


def align(
    seeds: Sequence[Checkpoint], pairs: tuple[str, ...], problems: Collector
) -> tuple[list[Checkpoint], tuple[str, ...]]:
    """Give the tensors of seeds the names that they have in the first one, where these differ.

    Args:
        seeds: the seeds.
        pairs: the map; without one, it is found for a language model and one that holds it.
        problems: what is wrong is added to it.

    Returns:
        The seeds, those with other names reduced to the tensors of the map, and the map.
    """
    base, *others = seeds
    used = dict.fromkeys(pairs)
    aligned = [base]
    for other in others:
        own = pairs or _found(base, other, problems)
        used.update(dict.fromkeys(own))
        aligned.append(_renamed(other, own))
    if pairs and not any(seed.mapped for seed in aligned):
        problems.add(
            Problem(
                file=", ".join(seed.id for seed in others),
                expected=f"tensors that the map names ({', '.join(pairs)})",
                found="none",
                fix="write it as FIRST=OTHER, by names that m2n2lab inspect lists",
            )
        )
    return aligned, tuple(used)


def firsts(names: Iterable[str], pairs: Sequence[str]) -> list[str]:
    """Return the names of the first seed's tensors that a map has."""
    patterns = [_pattern(pair.partition("=")[0]) for pair in pairs]
    return [name for name in names if any(pattern.fullmatch(name) for pattern in patterns)]


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", "(.*)"))


def _renamed(seed: Checkpoint, pairs: Sequence[str]) -> Checkpoint:
    """Return a seed with the tensors of a map only, by their names in the first seed."""
    rules = [pair.partition("=")[::2] for pair in pairs]
    patterns = [(first, _pattern(other)) for first, other in rules]

    def renamed(name: str) -> str | None:
        for first, pattern in patterns:
            if match := pattern.fullmatch(name):
                return first.replace("*", match[1]) if match.groups() else first
        return None

    parts = []
    for part in seed.parts:
        files = []
        for file in part.files:
            names = {name: new for name in file.entries if (new := renamed(part.full(name)))}
            entries = {new: file.entries[name] for name, new in names.items()}
            files.append(replace(file, entries=entries))
        parts.append(part._replace(files=tuple(files)))
    if not any(file.entries for part in parts for file in part.files):
        return seed
    tensors, modules = seed.changes.tensors, seed.changes.modules
    changes = replace(
        seed.changes,  # by adapters
        tensors={new: tensors[name] for name in tensors if (new := renamed(name))},
        modules={new: modules[name] for name in modules if (new := renamed(name))},
    )
    return replace(seed, parts=tuple(parts), changes=changes, mapped=True)


def _found(base: Checkpoint, other: Checkpoint, problems: Collector) -> tuple[str, ...]:
    """Return the map of two seeds one of which holds a model like the other; empty if none does.

    The language model is where the names below the prefix of an embedding are the same.
    """
    if (
        {base.kind, other.kind} != {"transformers"}
        or base.parts[0].architecture == other.parts[0].architecture
        or holds_language_model(base.parts[0]) == holds_language_model(other.parts[0])
    ):
        return ()
    mine, its = ([name for file in seed.files for name in file.entries] for seed in (base, other))
    known = set(mine)
    common: dict[tuple[str, str], int] = {}
    for table in filter(EMBEDDINGS.search, mine):
        for twin in filter(EMBEDDINGS.search, its):
            last = table.rpartition(".")[0].rpartition(".")[2] + ".weight"
            if twin.endswith(last):
                a, b = table.removesuffix(last), twin.removesuffix(last)
                count = sum(a + name[len(b) :] in known for name in its if name.startswith(b))
                common[f"{a}*", f"{b}*"] = count
    best = [pair for pair, count in common.items() if count == max(common.values())]
    if len(best) > 1:
        listed = ", ".join(f"{first}={second}" for first, second in best)
        problems.add(
            Problem(
                file=other.id,
                expected=f"one language model in common with {base.id}",
                found=f"several ({listed})",
                fix=f"choose with map= (--map '{'='.join(best[0])}')",
            )
        )
    if len(best) != 1 or max(common.values()) < 2:
        return ()
    pair = "=".join(best[0])
    mine, its = ([name for name in names if _HEAD.fullmatch(name)] for names in (mine, its))
    if len(mine) > 1 or len(its) > 1 or not (mine or its):
        return (pair,)
    # One that only one of them has is compared too, and refused as a tied one is.
    first, second = (mine or its)[0], (its or mine)[0]
    return (pair,) if _renamed_by(pair, second) == first else (f"{first}={second}", pair)


def _renamed_by(pair: str, name: str) -> str | None:
    first, _, other = pair.partition("=")
    match = _pattern(other).fullmatch(name)
    return first.replace("*", match[1]) if match else None
