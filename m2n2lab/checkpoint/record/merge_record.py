"""Record of a merge: what is saved beside the weights, enough to reproduce the same bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from m2n2lab.checkpoint.io.adapters.source import Source
from m2n2lab.checkpoint.io.checkpoint import NOTHING_KNOWN, Checkpoint, Known
from m2n2lab.checkpoint.io.folder import chosen_variant, weight_name
from m2n2lab.checkpoint.io.hashes import combined_digest
from m2n2lab.checkpoint.io.hub import hub_commit
from m2n2lab.checkpoint.io.names import PICKLE_SUFFIXES, TRAINING_FILES
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.checkpoint.picture_options import NO_PICTURE_OPTIONS, PictureOptions
from m2n2lab.checkpoint.pipelines import Pipeline, describe
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.checkpoint.tokens.tokenizers import TOKENIZER_FILE
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.errors import InputError, file_path
from m2n2lab.utils.json_text import read_json_file
from m2n2lab.utils.version import __version__

FORMAT = "m2n2lab recipe"
VERSION = 1
DERIVED_VERSION = 2
"""Version of records whose recipe has derived vectors, which version 1 did not know."""
UNKNOWN_SHA256 = "0" * 64
"""Placeholder for a SHA-256 that is still being computed."""

_SIDE_FILE = re.compile(
    r".*\.(json|txt|model|jinja|spm|tiktoken|bpe|py)|tokenizer\.model\..*"
    r"|(LICENSE|NOTICE|USE_POLICY).*"
)
CHAT_TEMPLATES = "additional_chat_templates"
"""Folder of a tokenizer's further chat templates."""

_NOT_SIDE_FILE = re.compile(r".*\.index(\.\w+)?\.json|recipe\.json|README\.md|adapter_config\.json")


@dataclass(frozen=True)
class Record:
    """Description of how a saved merge was made.

    Attributes:
        recipe: the combination of the seeds.
        seeds: id, SHA-256 and licence of each seed, and the SHA-256 of its files that were used;
            of those from the hub the commit too, of those with adapters the base, and id, strength
            and licence of each adapter.
        components: the components of pipelines that were merged, or ``None``.
        dtype: the requested dtype, or ``None`` for that of the first seed.
        vocab: how vocabularies of different size were treated.
        tokenizer: number of the seed that provided the tokenizer files and, of pipelines, the text
            encoders that were not merged.
        made: origin of the recipe as a sentence.
        maker: the program and version that first wrote it.
        known: what the module said of the tensors (see ``Checkpoint``); ``None`` in recipes of
            version 0.1 for models with buffers, which it did not merge.
        variant: the requested variant of the files, or ``None``.
        trust_remote_code: whether a pipeline's class of its own was kept.
        map: pairs of names of tensors in the first seed and in others, if these differ.
        pictures: whose parts the result of picture models has.
        recalibrated: checksum of the data on which BatchNorm statistics were computed anew, or name
            of the function.
        statistics: these statistics by tensor, which take the place of merged ones.
    """

    recipe: Recipe
    seeds: tuple[Mapping[str, Any], ...]
    components: tuple[str, ...] | None
    dtype: str | None
    vocab: str
    tokenizer: int
    made: str = ""
    maker: str = field(default_factory=lambda: f"m2n2lab {__version__}")
    known: Known | None = NOTHING_KNOWN
    variant: str | None = None
    trust_remote_code: bool = False
    map: tuple[str, ...] = ()
    pictures: PictureOptions = NO_PICTURE_OPTIONS
    recalibrated: str | None = None
    statistics: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, recipe: Recipe, tokenizer: int = 0, made: str = "") -> Record:
        """Return the record of a merge, with placeholders for all hashes."""
        seeds = tuple(
            {
                "id": seed.id,
                **({"commit": commit} if (commit := hub_commit(seed.source or seed.path)) else {}),
                **_adapters_json(seed),
                "sha256": UNKNOWN_SHA256,
                "licence": seed.licence,
                "files": dict.fromkeys(names, UNKNOWN_SHA256),
            }
            for seed, names in zip(plan.seeds, used_files(plan, tokenizer), strict=True)
        )
        return cls(
            recipe,
            seeds,
            plan.base.components,
            plan.dtype,
            plan.vocab,
            tokenizer,
            made,
            known=plan.base.used_knowledge,
            variant=plan.variant,
            trust_remote_code=plan.trust_remote_code,
            map=plan.map,
            pictures=plan.pictures,
        )

    def complete(self, plan: Plan, digests: Mapping[Path, str]) -> Record:
        """Return the record with the SHA-256 of every file."""
        seeds = []
        for seed, names in zip(self.seeds, used_files(plan, self.tokenizer), strict=True):
            files = {name: digests[names[name]] for name in seed["files"]}
            weights = {n: sha for n, sha in files.items() if n.endswith((".safetensors", ".sft"))}
            seeds.append({**seed, "sha256": combined_digest(weights), "files": files})
        return replace(self, seeds=tuple(seeds))

    @property
    def absolute_paths(self) -> list[str]:
        """Seeds and adapters that were given as absolute paths, which say where they were."""
        sources = [source_of(seed) for seed in self.seeds]
        ids = [id for each in sources for id in (each.base, *(name for name, _ in each.adapters))]
        return list(dict.fromkeys(id for id in ids if Path(id).is_absolute()))

    @property
    def text(self) -> str:
        """The record as one line of JSON, for the metadata of safetensors files."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    @property
    def pretty(self) -> str:
        """The record as indented JSON, for recipe.json."""
        lines = [
            f"  {json.dumps(key)}: {_lines(value) if key == 'recipe' else _indented(value)}"
            for key, value in self.to_json().items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values, with a checksum that detects edits."""
        fields = {
            "format": FORMAT,
            "version": DERIVED_VERSION if self.recipe.derived else VERSION,
            "maker": self.maker,
            "made": self.made,
            "seeds": list(self.seeds),
            "components": self.components and list(self.components),
            "dtype": self.dtype,
            "vocab": self.vocab,
            "tokenizer": self.tokenizer,
            # Absent unless given, so that the bytes of all other merges stay as they were.
            **({} if self.variant is None else {"variant": self.variant}),
            **({"trust_remote_code": True} if self.trust_remote_code else {}),
            **({"map": list(self.map)} if self.map else {}),
            **({"pictures": self.pictures.to_json()} if self.pictures else {}),
            **_known_json(self.known),
            **(
                {"recalibrated": self.recalibrated, "statistics": dict(self.statistics)}
                if self.recalibrated
                else {}
            ),
            "recipe": self.recipe.to_json(),
        }
        return {**fields, "check": _checksum(fields)}

    @classmethod
    def read(cls, path: str | Path) -> Record:
        """Read a record from ``recipe.json``.

        Raises:
            InputError: the file cannot be read, is no recipe of this format, or was edited.
        """
        try:
            data = read_json_file(file_path("recipe", path))
        except OSError as error:
            raise InputError(
                f"{path} must be a recipe.json, but it cannot be read: "
                f"{error.strerror or error}; check the path."
            ) from None
        except ValueError:
            data = None
        known = [(FORMAT, VERSION), (FORMAT, DERIVED_VERSION)]
        if not isinstance(data, dict) or (data.get("format"), data.get("version")) not in known:
            raise InputError(
                f"{path} must be a recipe.json of version {VERSION} or {DERIVED_VERSION} that "
                f"m2n2lab wrote, but it is not; give the one in a folder that m2n2lab merge made."
            )
        if data.pop("check", None) != _checksum(data):
            raise InputError(
                f"{path} must be as m2n2lab wrote it, but it has been edited; use an unedited "
                f"copy (the weights' safetensors headers hold one), or merge again."
            )
        recipe = Recipe.from_json(data.get("recipe"))
        try:
            seeds = tuple(data["seeds"])
            for seed in seeds:
                if not all(isinstance(sha, str) for sha in seed["files"].values()):
                    raise TypeError("hashes must be text")
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
                _known(data, recipe),
                None if data.get("variant") is None else str(data["variant"]),
                data.get("trust_remote_code") is True,
                tuple(map(str, data.get("map", ()))),
                PictureOptions.from_json(data.get("pictures", {})),
                None if data.get("recalibrated") is None else str(data["recalibrated"]),
                {str(k): [*map(float, v)] for k, v in dict(data.get("statistics", {})).items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} must be a recipe.json that m2n2lab wrote, but a field is missing or wrong "
                f"({error}); use an unedited copy."
            ) from None
        if recipe.seeds != len(seeds):
            raise InputError(
                f"{path} must name as many seeds as its recipe has, got {len(seeds)} and "
                f"{recipe.seeds}; use an unedited copy."
            )
        return record


def _adapters_json(seed: Checkpoint) -> dict[str, Any]:
    """Return the base and the adapters of a seed as plain values; nothing without adapters."""
    if not seed.adapters:
        return {}
    adapters = [
        {
            "id": adapter.id,
            "strength": adapter.strength,
            "licence": adapter.licence,
            **({"commit": adapter.commit} if adapter.commit else {}),
        }
        for adapter in seed.adapters
    ]
    return {"base": Source.parse(seed.id).base, "adapters": adapters}


def source_of(seed: Mapping[str, Any]) -> Source:
    """Return what a seed of a record is made of."""
    adapters = ((str(each["id"]), float(each["strength"])) for each in seed.get("adapters", ()))
    return Source(str(seed.get("base", seed["id"])), tuple(adapters))


def _known_json(known: Known | None) -> dict[str, Any]:
    """Return what a module said of the tensors as plain values; nothing for most models."""
    found = {"buffers": sorted(known.buffers), "ties": dict(known.ties)} if known else {}
    return {key: value for key, value in found.items() if value}


def _known(data: Mapping[str, Any], recipe: Recipe) -> Known | None:
    ties = {str(name): str(first) for name, first in dict(data.get("ties", {})).items()}
    if recipe.buffers is None and not ties:  # without buffers both versions do the same
        return None
    return Known(frozenset(map(str, data.get("buffers", ()))), ties)


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _indented(value: object) -> str:
    return json.dumps(value, indent=2).replace("\n", "\n  ")


def _lines(recipe: Mapping[str, Any]) -> str:
    """Return a recipe's JSON with one line for each piece, and for each derived vector."""
    rows = ",\n      ".join(json.dumps(row) for row in recipe["coef"])
    text = (
        f'{{\n    "size": {recipe["size"]},\n    "breaks": {json.dumps(recipe["breaks"])},\n'
        f'    "coef": [\n      {rows}\n    ]'
    )
    for name in ("derived", "buffers"):  # in the order of to_json, which the checksum covers
        if name in recipe:
            text += f',\n    "{name}": {json.dumps(recipe[name])}'
    if "vectors" in recipe:
        vectors = ",\n      ".join(json.dumps(vector) for vector in recipe["vectors"])
        text += f',\n    "vectors": [\n      {vectors}\n    ]'
    return text + "\n  }"


class CopiedFile(NamedTuple):
    """A file of a seed that is copied into the result.

    Attributes:
        path: the file.
        name: its name in the result, relative to it.
        key: its name in the seed, relative to it.
    """

    path: Path
    name: str
    key: str


def copied_files(plan: Plan, tokenizer: int) -> list[CopiedFile]:
    """Return the files that are copied into the result.

    These are all text files beside the base's weights, the tokenizer files of the chosen seed and,
    for pipelines, the components that are not merged.

    Raises:
        InputError: ``tokenizer`` is not the number of a seed, or the pipeline cannot be described.
        Problems: one is a link that leads out of its seed.
    """
    files = _listed_files(plan, tokenizer)
    problems = [problem for file in files if (problem := _leads_elsewhere(plan, file.path))]
    if problems:
        raise Problems(*problems)
    return files


def _listed_files(plan: Plan, tokenizer: int) -> list[CopiedFile]:
    if tokenizer not in range(len(plan.seeds)):
        raise InputError(
            f"tokenizer must be the number of a seed from 0 to {len(plan.seeds) - 1}, got "
            f"{tokenizer!r}; choose the seed whose tokenizer the result shall have."
        )
    base = plan.base
    if not base.path.is_dir():
        return []
    if base.kind == "diffusers":
        return list(_copied_of_pipeline(plan, describe(plan, tokenizer)))
    chosen = plan.seeds[tokenizer]
    return [
        CopiedFile(path, key, key)
        for seed in dict.fromkeys((base.path, chosen.path))
        for path in _side_files(seed)
        if (seed == chosen.path) is bool(TOKENIZER_FILE.fullmatch(path.name)) or base is chosen
        for key in [path.relative_to(seed).as_posix()]
    ]


def _leads_elsewhere(plan: Plan, path: Path) -> Problem | None:
    """Return the problem of a link to a file that is not the seed's, such as a secret one.

    The hub's cache keeps its files beside the folders that link to them; weights are often linked.
    """
    if not path.is_symlink():
        return None
    target = path.resolve()
    sources = [place for seed in plan.seeds for place in (seed.path, seed.source) if place]
    own = [place if place.is_dir() else place.parent for place in map(Path.resolve, sources)]
    own += [place.parents[1] for place in own if place.parent.name == "snapshots"]
    if any(place in target.parents for place in own) or (
        path.suffix == target.suffix == ".safetensors"
    ):
        return None
    return Problem(
        file=str(path),
        expected="a file of the model's own, since it is copied into the result",
        found=f"a link to {target}",
        fix="put the file itself there if it is meant, or remove the link",
    )


def _copied_of_pipeline(plan: Plan, pipeline: Pipeline | None) -> Iterator[CopiedFile]:
    base = plan.base.path
    merged = {
        part.folder.relative_to(base).as_posix().removeprefix(".") for part in plan.base.parts
    }
    rewritten = pipeline is not None and pipeline.rewritten
    folders = pipeline.folders if pipeline is not None else {}
    for path in _visible(base):
        name = path.relative_to(base).as_posix()
        component, _, rest = name.partition("/")
        if not _is_copied(name, merged) or _is_other_variant(plan, path, base):
            continue
        if not rest and rewritten and (name == "model_index.json" or path.suffix == ".py"):
            continue
        if rest and folders.get(component, None if rewritten else base / component) != (
            base / component
        ):
            continue
        yield _copied(plan, path, base)
    for component, folder in folders.items():
        if folder.parent == base or component in merged:
            continue
        for path in _visible(folder):
            if _is_kept(path) and not _is_other_variant(plan, path, folder.parent):
                yield _copied(plan, path, folder.parent)


def _visible(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below it, without hidden ones."""
    for path in sorted(folder.rglob("*")):
        hidden = any(piece.startswith(".") for piece in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _is_other_variant(plan: Plan, path: Path, top: Path) -> bool:
    """Return whether a component's file holds weights of a variant that is not read."""
    name = weight_name(path.name)
    if name is None or path.parent == top:
        return False
    return name.variant != chosen_variant(path.parent, plan.variant)


def _copied(plan: Plan, path: Path, seed: Path) -> CopiedFile:
    key = path.relative_to(seed)
    return CopiedFile(path, key.with_name(plan.result_name(path.name)).as_posix(), key.as_posix())


def _side_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a model that its loaders read beside its weights."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if (
            path.is_file()
            and _SIDE_FILE.fullmatch(path.name)
            and not _NOT_SIDE_FILE.fullmatch(path.name)
        ):
            yield path
    for name in side_folders(folder):
        files = list(_visible(folder / name))
        whole = any(path.suffix == ".safetensors" for path in files)
        yield from (p for p in files if not whole or p.suffix not in PICKLE_SUFFIXES)


def side_folders(folder: Path) -> list[str]:
    """Return the sub-folders of a model that its loaders read.

    These are further chat templates, the modules that ``modules.json`` of sentence-transformers
    lists, and packages of a model's own code.
    """
    try:
        listed = read_json_file(folder / "modules.json")
    except (OSError, ValueError):
        listed = []
    modules = [
        module["path"]
        for module in (listed if isinstance(listed, list) else ())
        if isinstance(module, dict) and isinstance(module.get("path"), str)
    ]
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    found = {CHAT_TEMPLATES, *modules, *packages}
    # No path may lead out of the folder or be the folder itself.
    inside = (name for name in found if re.fullmatch(r"\w[\w.-]*", name))
    return sorted(name for name in inside if (folder / name).is_dir())


def _is_copied(name: str, merged: Sequence[str] | set[str]) -> bool:
    """Return whether a file of a pipeline is copied unchanged."""
    folder, _, file = name.rpartition("/")
    if folder in merged or not folder:
        return bool(_SIDE_FILE.fullmatch(file)) and not _NOT_SIDE_FILE.fullmatch(file)
    return _is_kept(Path(file))


def _is_kept(path: Path) -> bool:
    return path.suffix not in PICKLE_SUFFIXES and path.name not in TRAINING_FILES


def used_files(plan: Plan, tokenizer: int) -> list[dict[str, Path]]:
    """Return the files of each seed that the result is made of, by name.

    Raises:
        InputError: ``tokenizer`` is not the number of a seed.
    """
    found: list[dict[str, Path]] = [
        {seed.relative(file.path): file.path for file in seed.files} for seed in plan.seeds
    ]
    for seed, files in zip(plan.seeds, found, strict=True):
        for number, adapter in enumerate(seed.adapters, 1):
            files |= {f"+{number}/{path.name}": path for path in adapter.files}
    for path, _, key in copied_files(plan, tokenizer):
        for seed, files in zip(plan.seeds, found, strict=True):
            if path == seed.path / key:
                files[key] = path
                break
    return found
