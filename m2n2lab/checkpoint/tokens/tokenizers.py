"""Tokenizers on disk in whatever form: their tokens by id, and on what two of them disagree.

Merged embeddings make sense only if ids stand for the same tokens. Tokens are read from the files
themselves, so nothing need be installed; texts are encoded only where files differ.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from m2n2lab.checkpoint.io.folder import read_json
from m2n2lab.checkpoint.io.hashes import cache_folder
from m2n2lab.checkpoint.io.problems import Collector
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.files import MAX_TEXT_BYTES, read_file, read_text

TEXTS = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many in May.",
    "Question: what is 3 + 4.5?\nAnswer: 3 + 4.5 = 7.5\n#### 7.5",
    "Below is an instruction.\n\n### Instruction:\nWrite a response.\n\n### Response: Let's think.",
    "def square(x):\n    return x ** 2  # größer, 東京",
    "Thought: find it. search[red shoes, size 10] click[Buy Now]",
)
"""Texts on which tokenizers are compared."""

TOKENIZER_FILE = re.compile(
    r"(tokenizer|vocab|merges|special_tokens|added_tokens|chat_template|spiece|sentencepiece).*"
    r"|.*\.(model|tiktoken|spm|jinja)"
)
"""Names of a tokenizer's files."""

ENCODING_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt")
MODEL_SUFFIXES = (".model", ".tiktoken", ".spm")
"""Files that say how a text is encoded."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a tokenizer.

    Attributes:
        by_id: every token by its id.
        base: number of ids of its own vocabulary; tokens from there on were added later.
        flags: how added tokens are treated, by id, as ``tokenizer.json`` has it.
    """

    by_id: Mapping[int, str]
    base: int
    flags: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Ids by token."""
        return {token: id for id, token in self.by_id.items()}


def read_tokens(folder: Path) -> Tokens | None:
    """Return the tokens of a folder's tokenizer; ``None`` if it has none that can be read."""
    data = read_json(folder / "tokenizer.json", Collector())
    model = data.get("model")
    tokens = _of_model(model.get("vocab") if isinstance(model, dict) else None)
    flags: dict[int, Mapping[str, Any]] = {}
    listed = data.get("added_tokens")
    added = [t for t in listed if isinstance(t, dict)] if isinstance(listed, list) else []
    if not data:
        tokens = _slow(folder)
        about = read_json(folder / "tokenizer_config.json", Collector())
        decoder = about.get("added_tokens_decoder")
        if isinstance(decoder, dict):
            added += [
                {**value, "id": int(id)}
                for id, value in decoder.items()
                if isinstance(value, dict) and re.fullmatch(r"[0-9]{1,9}", id)
            ]
        names = read_json(folder / "added_tokens.json", Collector())
        added += [{"id": id, "content": token} for token, id in names.items()]
    base = max(tokens, default=-1) + 1
    for token in added:
        id, text = token.get("id"), token.get("content")
        if isinstance(id, int) and isinstance(text, str):
            tokens[id] = text
            flags.setdefault(id, token)
    return Tokens(tokens, base, flags) if tokens else None


def _of_model(vocabulary: Any) -> dict[int, str]:
    if isinstance(vocabulary, dict):
        return {id: token for token, id in vocabulary.items() if isinstance(id, int)}
    if isinstance(vocabulary, list):  # Unigram: pairs of token and score, by id
        pairs = enumerate(vocabulary)
        return {id: str(pair[0]) for id, pair in pairs if isinstance(pair, list) and pair}
    return {}


def _slow(folder: Path) -> dict[int, str]:
    """Return the tokens of a tokenizer without ``tokenizer.json``."""
    if found := _of_model(read_json(folder / "vocab.json", Collector())):
        return found
    try:
        lines = read_text(folder / "vocab.txt").splitlines()
        if lines:
            return dict(enumerate(lines))
    except (OSError, UnicodeDecodeError):
        pass
    for path in sorted(folder.glob("*")):
        if path.suffix in MODEL_SUFFIXES and path.is_file():
            data = read_file(path, MAX_TEXT_BYTES)
            try:
                return _pieces(data)
            except (ValueError, IndexError):  # the other form that is called .model
                pass
            try:
                return _ranks(data)
            except ValueError:
                continue
    return {}


def _pieces(data: bytes) -> dict[int, str]:
    """Return the pieces of a sentencepiece model, a message of Protocol Buffers.

    Raises:
        ValueError, IndexError: it is none.
    """
    found = []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):  # ModelProto.pieces
            text = next(v for n, v in _fields(value) if n == 1)  # SentencePiece.piece
            if not isinstance(text, bytes):
                raise ValueError
            found.append(text.decode())
    if not found:
        raise ValueError
    return dict(enumerate(found))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a message of Protocol Buffers."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length = varint()
        if length is None or at + length > len(data) or number == 0:
            raise ValueError
        yield number, data[at : at + length]
        at += length


def _ranks(data: bytes) -> dict[int, str]:
    """Return the tokens of a tiktoken file, written as byte-level tokenizers write them.

    Raises:
        ValueError: it is none.
    """
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    letters = {**{b: chr(b) for b in printed}, **{b: chr(256 + k) for k, b in enumerate(others)}}
    found = {}
    for line in data.splitlines():
        if line.strip():
            token, rank = line.split()
            raw = base64.b64decode(token, validate=True)
            found[int(rank)] = "".join(letters[byte] for byte in raw)
    if not found:
        raise ValueError
    return found


def first_clash(a: Tokens, b: Tokens, common: int | None = None) -> int | None:
    """Return the first id below ``common`` that stands for other tokens in two tokenizers."""
    return next(
        (
            id
            for id in sorted(a.by_id.keys() & b.by_id.keys())
            if (common is None or id < common) and a.by_id[id] != b.by_id[id]
        ),
        None,
    )


def says_clash(a: Tokens, b: Tokens, id: int) -> str:
    """Return the sentence's part that names a token on which two tokenizers disagree."""
    return f"token {id} is {a.by_id[id]!r} in one and {b.by_id[id]!r} in the other"


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds files of a tokenizer."""
    return bool(_encoding_files(folder))


def _encoding_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    if (folder / "tokenizer.json").is_file():
        return {"tokenizer.json": folder / "tokenizer.json"}
    found = {
        path.name: path
        for path in folder.iterdir()
        if path.name in ENCODING_FILES or path.suffix in MODEL_SUFFIXES
    }
    about = folder / "tokenizer_config.json"
    return {**found, about.name: about} if found and about.is_file() else found


def encoding_difference(a: Path, b: Path) -> str | None:
    """Describe a text that the tokenizers of two folders encode differently; ``None`` if none.

    Raises:
        OSError, ValueError: the texts could not be encoded, so nothing is known.
    """
    mine, its = _encoding_files(a), _encoding_files(b)
    if mine.keys() == its.keys() and all(
        read_file(path, MAX_TEXT_BYTES) == read_file(its[name], MAX_TEXT_BYTES)
        for name, path in mine.items()
    ):
        return None
    for text, x, y in zip(TEXTS, _encoded(a), _encoded(b), strict=True):
        if x != y:
            at = next((k for k, (i, j) in enumerate(zip(x, y, strict=False)) if i != j), 0)
            return (
                f"{text[:30]!r}… is encoded as {x[at : at + 4]}… in one and as {y[at : at + 4]}… "
                f"in the other"
            )
    return None


def _encoded(folder: Path) -> list[list[int]]:
    """Return the ids of each of ``TEXTS``, without tokens that begin or end a text.

    Raises:
        ValueError: the tokenizer cannot be loaded.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
            fast.no_padding()
            fast.no_truncation()
            return [list(fast.encode(text, add_special_tokens=False).ids) for text in TEXTS]
        from transformers import AutoTokenizer

        loaded: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        return [
            list(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])
            for text in TEXTS
        ]
    except Exception as error:  # both libraries raise many classes
        raise ValueError(str(error)) from error


def extend(folder: Path, added: Mapping[int, tuple[str, Mapping[str, Any]]]) -> None:
    """Add tokens to the files of a tokenizer.

    Args:
        folder: its folder.
        added: tokens and their flags by id; the ids follow those that the tokenizer has.
    """
    entries = {id: _entry(token, flags) for id, (token, flags) in added.items()}
    path = folder / "tokenizer.json"
    if data := read_json(path, Collector()):
        data["added_tokens"] = [
            *(data.get("added_tokens") or ()),
            *({"id": id, **entry} for id, entry in entries.items()),
        ]
        path.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    about = read_json(path, Collector())
    if "added_tokens_decoder" in about or not data:
        decoder = {str(id): entry for id, entry in entries.items()}
        about["added_tokens_decoder"] = {**about.get("added_tokens_decoder", {}), **decoder}
        path.write_text(json.dumps(about, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    path = folder / "added_tokens.json"
    if path.is_file() or not data:
        names = {**read_json(path, Collector()), **{token: id for id, (token, _) in added.items()}}
        path.write_text(json.dumps(names, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def extended_tokenizer(folder: Path, added: Mapping[int, tuple[str, Mapping[str, Any]]]) -> Path:
    """Return a folder in the user's cache with a copy of a tokenizer that has further tokens.

    Raises:
        InputError: the cache cannot be written.
    """
    files = {
        path.name: read_file(path, MAX_TEXT_BYTES)
        for path in sorted(folder.iterdir())
        if path.is_file() and TOKENIZER_FILE.fullmatch(path.name)
    }
    digest = hashlib.sha256(repr([*files.items(), *added.items()]).encode()).hexdigest()
    home = cache_folder("tokenizers")
    place = home / digest[:32]
    if place.is_dir():
        return place
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".partial-") as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            for name, content in files.items():
                (made / name).write_bytes(content)
            extend(made, added)
            with suppress(FileExistsError):  # another process has just made the same
                made.rename(place)
    except OSError as error:
        if place.is_dir():
            return place
        raise InputError(
            f"{place} could not be written: {error.strerror or error}; free some space, or choose "
            f"another folder with the variable M2N2LAB_CACHE."
        ) from error
    return place


def _entry(token: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    known = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "content": token,
        **{name: bool(flags.get(name, value)) for name, value in known.items()},
        "special": bool(flags.get("special", True)),
    }
