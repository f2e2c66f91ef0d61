"""Special tokens of a merge: its config, generation config and tokenizer name tokens with rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.folder import read_json
from m2n2lab.checkpoint.io.problems import Collector
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.tokens.tokenizers import Tokens
from m2n2lab.checkpoint.tokens.vocabulary import beyond
from m2n2lab.utils.errors import InputError

OPTIONAL_IDS = ("pad", "bos", "sep", "cls", "mask", "unk")
"""Special tokens that a model need not have."""


def checked_tokenizer(plan: Plan, number: int | None) -> int:
    """Return the seed whose tokenizer a result has: the chosen one, or the one that fits.

    Raises:
        InputError: tokens of the chosen one have no rows in the result.
    """
    rows = plan.vocabulary
    if number is None:
        return 0 if rows is None else rows.tokenizer
    if rows is None or number not in range(len(plan.seeds)):  # which copied_files refuses
        return number
    tokens, result = rows.tokens[number], rows.tokens[rows.tokenizer]
    named = {} if result is None else dict(result.by_id)
    named.update({id: token for id, (token, _) in rows.added.items()})
    for id in sorted(beyond(tokens, rows.common, rows.sizes[number])):
        assert tokens is not None  # it has tokens
        if id >= rows.total or named.get(id) != tokens.by_id[id]:
            other = plan.seeds[rows.tokenizer].id
            raise InputError(
                f"The tokenizer must be one whose tokens have rows in the result, but token {id} "
                f"of {plan.seeds[number].id}, {tokens.by_id[id]!r}, has none among the "
                f"{rows.total:,} rows of vocab={rows.mode!r}; choose the tokenizer of {other}, or "
                f"vocab='union'."
            )
    return number


def end_tokens(seed: Checkpoint) -> tuple[int, ...]:
    """Return the tokens that end an answer of a model, by its settings and its tokenizer."""
    if not seed.path.is_dir():
        return ()
    listed: list[Any] = []
    for name in ("generation_config.json", "config.json"):
        settings = read_json(seed.path / name, Collector())
        text = settings.get("text_config")
        for each in (settings, text if isinstance(text, dict) else {}):
            value = each.get("eos_token_id")
            listed += value if isinstance(value, list) else [value]
    found = [id for id in listed if isinstance(id, int) and not isinstance(id, bool) and id >= 0]
    return tuple(dict.fromkeys(found))


def all_ends(plan: Plan) -> list[int]:
    """Return the tokens that end an answer of any seed, as ids of the result with a row."""
    found: list[int] = []
    for k, seed in enumerate(plan.seeds):
        ids = end_tokens(seed)
        if plan.vocabulary is not None:
            ids = tuple(i for id in ids if (i := plan.vocabulary.id_of(k, id)) is not None)
        found += ids
    return list(dict.fromkeys(found))


def special_token(folder: Path, name: str, tokens: Tokens | None) -> int | None:
    """Return the id of a tokenizer's special token, such as ``"pad"``, as far as known."""
    about = read_json(folder / "tokenizer_config.json", Collector())
    value = about.get(f"{name}_token")
    if value is None:
        value = read_json(folder / "special_tokens_map.json", Collector()).get(f"{name}_token")
    text = value.get("content") if isinstance(value, dict) else value
    return tokens.ids.get(text) if tokens and isinstance(text, str) else None


def with_token_ids(
    plan: Plan, tokenizer: int, settings: Mapping[str, Any], file: str
) -> dict[str, Any]:
    """Return a config, or generation config, whose tokens fit a result's rows and tokenizer.

    Args:
        plan: the seeds.
        tokenizer: number of the seed whose tokenizer the result has.
        settings: the settings of the base.
        file: the name of their file.

    Raises:
        InputError: a token that the model needs has no row.
    """
    rows, seed = plan.vocabulary, plan.seeds[tokenizer]
    if not seed.path.is_dir() or (rows is None and tokenizer == 0):
        return dict(settings)
    its: Mapping[str, Any] = {}
    if tokenizer:
        its = read_json(seed.path / file, Collector()) or read_json(
            seed.path / "config.json", Collector()
        )
    known = rows.tokens[tokenizer] if rows else None

    def fits(id: Any) -> bool:
        return rows is None or not isinstance(id, int) or id < rows.total

    def mended(key: str, value: Any) -> Any:
        if isinstance(value, list):
            kept = [id for id in value if fits(id)]
            if kept or not value or key.startswith(("suppress", "begin_suppress")):
                return kept
        elif fits(value):
            return value
        name = key.removesuffix("_token_id")
        own = special_token(seed.path, name, known)
        if own is not None and fits(own):
            return own
        if name in OPTIONAL_IDS:
            return None
        assert rows is not None  # otherwise all fit
        raise InputError(
            f"{key} of {file} must be a token with a row in the result, got {value} for "
            f"{rows.total:,} rows with vocab={rows.mode!r}; choose vocab='union', which keeps it, "
            f"or another tokenizer."
        )

    def change(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for key, value in own.items():
            if isinstance(value, dict):
                inner = other.get(key)
                changed[key] = change(value, inner if isinstance(inner, dict) else {})
            elif key.endswith(("_token_id", "_token_index", "suppress_tokens")):
                chosen = other.get(key, value) if value is not None or key in other else value
                changed[key] = mended(key, chosen)
            else:
                changed[key] = value
        return changed

    return change(settings, its)
