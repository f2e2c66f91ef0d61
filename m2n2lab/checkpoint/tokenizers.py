"""Comparison of tokenizers: merged embeddings make sense only if ids stand for the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from m2n2lab.checkpoint.io.folder import read_json
from m2n2lab.checkpoint.io.problems import Collector

if TYPE_CHECKING:
    from m2n2lab.checkpoint.io.checkpoint import Checkpoint


def disagreement(a: Checkpoint, b: Checkpoint, common: int | None) -> str | None:
    """Describe the first id below ``common`` on which two tokenizers disagree; ``None`` if none.

    Only ``tokenizer.json`` is compared; unless both have one, nothing is known.
    """
    if a.kind != "transformers" or b.kind != "transformers":
        return None
    mine, its = _tokens(a.path / "tokenizer.json"), _tokens(b.path / "tokenizer.json")
    if not mine or not its:
        return None
    for id in sorted(mine.keys() & its.keys()):
        if common is not None and id >= common:
            break
        if mine[id] != its[id]:
            return f"token {id} is {mine[id]!r} in one and {its[id]!r} in the other"
    return None


def _tokens(path: Path) -> dict[int, str]:
    """Return the tokens of a ``tokenizer.json`` by id."""
    data = read_json(path, Collector())
    model = data.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    tokens: dict[int, str] = {}
    if isinstance(vocabulary, dict):
        tokens = {id: token for token, id in vocabulary.items() if isinstance(id, int)}
    elif isinstance(vocabulary, list):  # Unigram: pairs of token and score, by id
        pairs = enumerate(vocabulary)
        tokens = {id: str(pair[0]) for id, pair in pairs if isinstance(pair, list) and pair}
    added = data.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("id"), int):
            tokens[token["id"]] = str(token.get("content"))
    return tokens
