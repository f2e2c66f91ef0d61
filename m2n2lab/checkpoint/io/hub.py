"""Checkpoints on the Hugging Face hub: the files of one that are needed, and their local copy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Literal

from m2n2lab.checkpoint.io.folder import hub_id, weight_name
from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.utils.errors import first_line
from m2n2lab.utils.extras import install_command

HUB_PATTERNS = (
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.model",
    "tokenizer.model.*",
    "*.bpe",
    "*.spm",
    "*.tiktoken",
    "*.jinja",
    "*.py",
    "*.md",
    "LICENSE*",
    "NOTICE*",
)
"""Files of a checkpoint on the hub that are downloaded."""

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""Ends of names of files with weights."""

Outline = Literal["headers", "configs"]

HEADERS_AT_A_TIME = 8
"""Headers of files on the hub that are read at the same time."""

LISTING_SECONDS = 20
"""Time for the hub to list the files of a checkpoint."""

TEXT_PATTERNS = ["*.json", "*.txt", "*.model"]
"""Configs and tokenizers of a pipeline on the hub."""

PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""Weights that are downloaded from a folder without safetensors."""

_ELSEWHERE = re.compile(r"(^|/)(original|checkpoint-\d+|global_step\d+|runs|logs|onnx|\.[^/]*)/")
"""Folders with second copies of the weights, or with states of the training."""

_NOT_NEEDED = re.compile(
    r"consolidated.*"
    r"|(optimizer|scheduler|rng_state|scaler)([._-].*)?\.(pt|pth|bin|safetensors)"
    r"|(training_args|trainer_state)\..*"
)
"""Files with second copies of the weights, or with states of the training."""


def from_hub(id: str, variant: str | None = None, texts: bool = False) -> Path:
    """Return the local copy of a checkpoint on the Hugging Face hub.

    Args:
        id: ``owner/name`` or ``owner/name@revision``.
        variant: the variant of the weights that is downloaded where it is there.
        texts: whether only its configs and tokenizers are needed, not its weights.

    Raises:
        Problems: there is no such path or checkpoint, or it cannot be downloaded.
    """
    name, revision = _name_and_revision(id)
    found = "no such file or folder"
    fix = "check the path"
    if name:
        try:
            from huggingface_hub import snapshot_download

            patterns = TEXT_PATTERNS
            if not texts:
                patterns = [escape(file) for file in _listed(name, revision, variant)]
            patterns = patterns or list(HUB_PATTERNS)  # as without network
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        except ImportError:
            fix = f"check the path or, for hub ids, run: {install_command('llm')}"
        except Exception as error:  # the network and the hub raise many classes
            found += f", and the hub says: {first_line(error).rstrip('.') or type(error).__name__}"
            fix = "check the name and the connection, or give the path of a local copy"
    raise Problems(
        Problem(
            file=id,
            expected="a folder, a .safetensors file or a hub id",
            found=found,
            fix=fix,
        )
    )


def outline(id: str, folder: Path, variant: str | None = None) -> Outline | None:
    """Make a copy of a checkpoint on the hub that has all but the weights themselves.

    Of its safetensors files it has the headers, and holes for the rest; so it can be checked, with
    a few requests for any size, whether the checkpoint can be merged, before it is downloaded.

    Args:
        id: a path or a hub id.
        folder: where it is made.
        variant: as for ``from_hub``.

    Returns:
        What it has: ``"headers"``, or only ``"configs"`` of a checkpoint in pickles. ``None`` for
        a local path, a checkpoint that is here already, or one that cannot be read, of which
        downloading it says what is wrong; then there is no copy.
    """
    name, revision = _name_and_revision(id)
    if not name or Path(id).exists():
        return None
    try:
        from huggingface_hub import snapshot_download, try_to_load_from_cache

        listed = _listed(name, revision, variant)
        weights = [file for file in listed if PurePosixPath(file).suffix in WEIGHT_SUFFIXES]
        here = [try_to_load_from_cache(name, file, revision=revision) for file in weights]
        if not weights or all(isinstance(path, str) for path in here):
            return None
        if "adapter_config.json" in listed:  # small, and its base is asked for first
            return None
        texts = [escape(file) for file in listed if file not in weights]
        copy = Path(snapshot_download(name, revision=revision, allow_patterns=texts))
        for file in set(listed) - set(weights):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).symlink_to((copy / file).resolve())
        headers = [file for file in weights if file.endswith(".safetensors")]
        with ThreadPoolExecutor(HEADERS_AT_A_TIME) as pool:
            list(pool.map(lambda file: _write_header(name, revision, file, folder), headers))
    except Exception:  # as above
        return None
    return "headers" if headers else "configs"


def _write_header(name: str, revision: str | None, file: str, folder: Path) -> None:
    """Write a safetensors file with the header of one on the hub, and a hole for its tensors."""
    from huggingface_hub import HfApi

    found = HfApi().parse_safetensors_file_metadata(name, file, revision=revision)
    tensors = {
        tensor: {"dtype": about.dtype, "shape": about.shape, "data_offsets": about.data_offsets}
        for tensor, about in found.tensors.items()
    }
    header = json.dumps({"__metadata__": found.metadata, **tensors}).encode()
    end = max((about.data_offsets[1] for about in found.tensors.values()), default=0)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    with open(folder / file, "wb") as handle:
        handle.write(len(header).to_bytes(8, "little") + header)
        handle.truncate(8 + len(header) + end)


def _name_and_revision(id: str) -> tuple[str, str | None]:
    """Return name and revision of a hub id; ``""`` for what cannot be one."""
    name, _, revision = id.partition("@")
    return name if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) else "", revision or None


def _listed(name: str, revision: str | None, variant: str | None) -> list[str]:
    """Return the files to download; none if the hub does not list them, as without network."""
    from huggingface_hub import HfApi

    try:
        # Not list_repo_files, which tries again for a minute where there is no network.
        about = HfApi().model_info(name, revision=revision, timeout=LISTING_SECONDS)
    except Exception:  # the download itself reports what is wrong, or finds the local copy
        return []
    return needed_files((file.rfilename for file in about.siblings or ()), variant)


def needed_files(listed: Iterable[str], variant: str | None = None) -> list[str]:
    """Return the files of a model that merging needs.

    These are its safetensors, or its pickles where a folder has no safetensors, and all text files;
    no second copies of the weights, such as other variants, and no states of its training.
    """
    files = [
        file
        for file in listed
        if not _ELSEWHERE.search(file) and not _NOT_NEEDED.fullmatch(PurePosixPath(file).name)
    ]
    folders: dict[str, list[str]] = {}
    for file in files:
        folders.setdefault(str(PurePosixPath(file).parent), []).append(PurePosixPath(file).name)
    if "model_index.json" not in folders.get(".", ()) and any(
        name.endswith(WEIGHT_SUFFIXES) for name in folders.get(".", ())
    ):  # one model: weights elsewhere are other forms of it, but those of numbered modules
        folders = {
            name: names
            for name, names in folders.items()
            if name == "."
            or re.fullmatch(r"\d+_\w+", name)
            or not any(each.endswith(WEIGHT_SUFFIXES) for each in names)
        }
    return [
        file
        for file in files
        if (names := folders.get(str(PurePosixPath(file).parent)))
        and not _is_other_variant(PurePosixPath(file).name, names, variant)
        and (
            _matches(file, HUB_PATTERNS)
            or (
                _matches(file, PICKLE_PATTERNS)
                and not any(name.endswith(".safetensors") for name in names)
            )
        )
    ]


def _is_other_variant(name: str, names: Sequence[str], wanted: str | None) -> bool:
    """Return whether a file holds weights of a variant that is not read, as in ``folder``."""
    there = {found.variant for each in names if (found := weight_name(each)) and not found.is_index}
    mine = weight_name(name)
    if mine is None or len(there) < 2:
        return False
    chosen = wanted if wanted in there else None
    return chosen in there and mine.variant != chosen


def _matches(file: str, patterns: Sequence[str]) -> bool:
    return any(PurePosixPath(file).match(pattern) for pattern in patterns)


def hub_commit(path: Path) -> str | None:
    """Return the commit of a local copy from the hub; ``None`` for other folders."""
    return path.absolute().name if hub_id(path) else None
