"""Checkpoints on the Hugging Face hub: the files of one that are needed, and their local copy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from glob import escape
from pathlib import Path, PurePosixPath

from m2n2lab.checkpoint.io.problems import Problem, Problems
from m2n2lab.utils.errors import first_line
from m2n2lab.utils.extras import install_command

HUB_PATTERNS = (
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "*.jinja",
    "*.py",
    "*.md",
    "LICENSE*",
    "NOTICE*",
)
"""Files of a checkpoint on the hub that are downloaded."""

TEXT_PATTERNS = ["*.json", "*.txt", "*.model"]
"""Configs and tokenizers of a pipeline on the hub."""

PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""Weights that are downloaded from a folder without safetensors."""

_ELSEWHERE = re.compile(r"(^|/)(original|checkpoint-\d+|global_step\d+|runs|logs|onnx|\.[^/]*)/")
"""Folders with second copies of the weights, or with states of the training."""

_NOT_NEEDED = re.compile(
    r"consolidated.*"
    r"|(optimizer|scheduler|rng_state|training_args|scaler|trainer_state)([._-].*)?"
)
"""Files with second copies of the weights, or with states of the training."""


def from_hub(id: str, texts: bool = False) -> Path:
    """Return the local copy of a checkpoint on the Hugging Face hub.

    Args:
        id: ``owner/name`` or ``owner/name@revision``.
        texts: whether only its configs and tokenizers are needed, not its weights.

    Raises:
        Problems: there is no such path or checkpoint, or it cannot be downloaded.
    """
    name, _, revision = id.partition("@")
    found = "no such file or folder"
    fix = "check the path"
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        try:
            from huggingface_hub import snapshot_download

            patterns = TEXT_PATTERNS if texts else _patterns(name, revision or None)
            return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
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


def _patterns(name: str, revision: str | None) -> list[str]:
    """Return the files to download; patterns if the hub does not list them, as without network."""
    from huggingface_hub import HfApi

    try:
        listed = HfApi().list_repo_files(name, revision=revision)
    except Exception:  # the download itself reports what is wrong, or finds the local copy
        return list(HUB_PATTERNS)
    return [escape(file) for file in needed_files(listed)]


def needed_files(listed: Iterable[str]) -> list[str]:
    """Return the files of a model that merging needs.

    These are its safetensors, or its pickles where a folder has no safetensors, and all text files;
    no second copies of the weights and no states of its training.
    """
    files = [
        file
        for file in listed
        if not _ELSEWHERE.search(file) and not _NOT_NEEDED.fullmatch(PurePosixPath(file).name)
    ]
    have = {str(PurePosixPath(file).parent) for file in files if file.endswith(".safetensors")}
    return [
        file
        for file in files
        if _matches(file, HUB_PATTERNS)
        or (str(PurePosixPath(file).parent) not in have and _matches(file, PICKLE_PATTERNS))
    ]


def _matches(file: str, patterns: Sequence[str]) -> bool:
    return any(PurePosixPath(file).match(pattern) for pattern in patterns)


def hub_commit(path: Path) -> str | None:
    """Return the commit of a local copy from the hub; ``None`` for other folders."""
    place = path.absolute()
    from_cache = place.parent.name == "snapshots" and place.parents[1].name.startswith("models--")
    return place.name if from_cache else None
