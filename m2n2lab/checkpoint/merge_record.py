"""What is written of a merge beside its weights: enough to make the same bytes again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.folder import HELPERS, PICKLES
from m2n2lab.checkpoint.io.hashes import together
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.version import __version__

FORMAT = "m2n2lab recipe"
VERSION = 1
UNKNOWN = "0" * 64
"""Stands for a SHA-256 that is still being computed."""

_TOKENIZER = re.compile(
    r"(tokenizer|vocab|merges|special_tokens|added_tokens|chat_template|spiece|sentencepiece).*"
    r"|.*\.(model|tiktoken|spm|jinja)"
)
_BESIDE = re.compile(r".*\.(json|txt|model|jinja|spm|tiktoken|py)|(LICENSE|NOTICE|USE_POLICY).*")
_NOT_BESIDE = re.compile(r".*\.index(\.\w+)?\.json|recipe\.json|README\.md|adapter_config\.json")


@dataclass(frozen=True)
class Record:
    """Everything that a saved merge says about how it was made.

    Attributes:
        recipe: the combination of the seeds.
        seeds: for each seed its id, SHA-256, licence and the SHA-256 of the files used of it.
        components: the components of pipelines that were merged, or ``None``.
        dtype: the kind that was asked for, or ``None``.
        vocab: how vocabularies of different size were treated.
        tokenizer: number of the seed whose tokenizer files it has.
        made: how the recipe came about, in words.
        maker: the program and version that wrote it first.
    """

    recipe: Recipe
    seeds: tuple[Mapping[str, Any], ...]
    components: tuple[str, ...] | None
    dtype: str | None
    vocab: str
    tokenizer: int
    made: str = ""
    maker: str = field(default_factory=lambda: f"m2n2lab {__version__}")

    @classmethod
    def of(cls, plan: Plan, recipe: Recipe, tokenizer: int = 0, made: str = "") -> Record:
        """Return the record of a merge, its hashes still unknown."""
        seeds = tuple(
            {
                "id": seed.id,
                "sha256": UNKNOWN,
                "licence": seed.licence,
                "files": dict.fromkeys(names, UNKNOWN),
            }
            for seed, names in zip(plan.seeds, used(plan, tokenizer), strict=True)
        )
        pipeline = plan.base.kind == "diffusers"
        components = tuple(part.name for part in plan.base.parts) if pipeline else None
        vocab = "refuse" if plan.rows is None else "common"
        return cls(recipe, seeds, components, plan.dtype, vocab, tokenizer, made)

    def complete(self, plan: Plan, digests: Mapping[Path, str]) -> Record:
        """Return the record with the SHA-256 of every file."""
        seeds = []
        for told, names in zip(self.seeds, used(plan, self.tokenizer), strict=True):
            files = {name: digests[names[name]] for name in told["files"]}
            weights = {name: sha for name, sha in files.items() if name.endswith(".safetensors")}
            seeds.append({**told, "sha256": together(weights), "files": files})
        return replace(self, seeds=tuple(seeds))

    @property
    def text(self) -> str:
        """The record in one line, for the metadata of safetensors files."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    @property
    def pretty(self) -> str:
        """The record for people, for recipe.json."""
        lines = [
            f"  {json.dumps(key)}: {_lines(value) if key == 'recipe' else _indented(value)}"
            for key, value in self.to_json().items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values, with a check that shows whether they were edited."""
        told = {
            "format": FORMAT,
            "version": VERSION,
            "maker": self.maker,
            "made": self.made,
            "seeds": list(self.seeds),
            "components": self.components and list(self.components),
            "dtype": self.dtype,
            "vocab": self.vocab,
            "tokenizer": self.tokenizer,
            "recipe": self.recipe.to_json(),
        }
        return {**told, "check": _check(told)}

    @classmethod
    def read(cls, path: str | Path) -> Record:
        """Read what ``recipe.json`` says.

        Raises:
            InputError: it cannot be read, is no recipe of this format, or was edited.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"{path} must be a recipe.json, but it cannot be read: "
                f"{error.strerror or error}; check the path."
            ) from None
        except ValueError:
            data = None
        if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (
            FORMAT,
            VERSION,
        ):
            raise InputError(
                f"{path} must be a recipe.json of version {VERSION} that m2n2lab wrote, but it is "
                f"none; give the one inside a folder that m2n2lab merge made."
            )
        if data.pop("check", None) != _check(data):
            raise InputError(
                f"{path} must be as m2n2lab wrote it, but it was edited since; use an unedited "
                f"copy (the weights' safetensors headers hold one), or merge again."
            )
        recipe = Recipe.from_json(data.get("recipe"))
        try:
            seeds = tuple(data["seeds"])
            for seed in seeds:
                if not all(isinstance(sha, str) for sha in seed["files"].values()):
                    raise TypeError("hashes are no text")
                str(seed["id"]), str(seed["sha256"]), seed["licence"]
            components = data["components"] and tuple(map(str, data["components"]))
            record = cls(
                recipe,
                seeds,
                components,
                data["dtype"] and str(data["dtype"]),
                str(data["vocab"]),
                int(data["tokenizer"]),
                str(data["made"]),
                str(data["maker"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} must be a recipe.json that m2n2lab wrote, but a part of it is missing or "
                f"wrong ({error}); use an unedited copy."
            ) from None
        if recipe.seeds != len(seeds):
            raise InputError(
                f"{path} must name as many seeds as its recipe has, but it names {len(seeds)} and "
                f"the recipe has {recipe.seeds}; use an unedited copy."
            )
        return record


def _check(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _indented(value: object) -> str:
    return json.dumps(value, indent=2).replace("\n", "\n  ")


def _lines(recipe: Mapping[str, Any]) -> str:
    """Return a recipe's JSON with one line for each piece."""
    rows = ",\n      ".join(json.dumps(row) for row in recipe["coef"])
    return (
        f'{{\n    "size": {recipe["size"]},\n    "breaks": {json.dumps(recipe["breaks"])},\n'
        f'    "coef": [\n      {rows}\n    ]\n  }}'
    )


def copied(plan: Plan, tokenizer: int) -> list[tuple[Path, str]]:
    """Return the files that are copied into the result: where they lie, and their names in it.

    Everything that is text beside the base's weights; tokenizer files from the chosen seed; of
    pipelines also the components that are not merged.

    Raises:
        InputError: a tokenizer of a seed that is not there.
    """
    if tokenizer not in range(len(plan.seeds)):
        raise InputError(
            f"tokenizer must be the number of a seed from 0 to {len(plan.seeds) - 1}, but "
            f"{tokenizer!r} came; choose the seed whose tokenizer the result shall have."
        )
    base = plan.base
    if not base.path.is_dir():
        return []
    if base.kind == "diffusers":
        merged = {part.name for part in base.parts}
        return [
            (path, name)
            for path in sorted(base.path.rglob("*"))
            if path.is_file()
            and not any(piece.startswith(".") for piece in path.relative_to(base.path).parts)
            and _of_pipeline(name := path.relative_to(base.path).as_posix(), merged)
        ]
    chosen = plan.seeds[tokenizer]
    mine = [p for p in _beside(base) if chosen is base or not _TOKENIZER.fullmatch(p.name)]
    its = [p for p in _beside(chosen) if chosen is not base and _TOKENIZER.fullmatch(p.name)]
    return [(path, path.name) for path in (*mine, *its)]


def _beside(seed: Checkpoint) -> Iterator[Path]:
    if not seed.path.is_dir():
        return
    for path in sorted(seed.path.iterdir()):
        if path.is_file() and _BESIDE.fullmatch(path.name) and not _NOT_BESIDE.fullmatch(path.name):
            yield path


def _of_pipeline(name: str, merged: Sequence[str] | set[str]) -> bool:
    """Return whether a file of a pipeline is copied as it is."""
    folder, _, file = name.rpartition("/")
    if folder in merged or not folder:
        return bool(_BESIDE.fullmatch(file)) and not _NOT_BESIDE.fullmatch(file)
    suffix = Path(file).suffix
    return suffix not in PICKLES and file not in HELPERS


def used(plan: Plan, tokenizer: int) -> list[dict[str, Path]]:
    """Return for each seed the files that the result is made of, by name.

    Raises:
        InputError: a tokenizer of a seed that is not there.
    """
    found: list[dict[str, Path]] = [
        {seed.relative(file.path): file.path for file in seed.files} for seed in plan.seeds
    ]
    for path, name in copied(plan, tokenizer):
        for seed, files in zip(plan.seeds, found, strict=True):
            if path.is_relative_to(seed.path):
                files[name] = path
                break
    return found
