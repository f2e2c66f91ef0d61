"""Upload: a saved merge pushed to a repository on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from m2n2lab.checkpoint.record.merge_record import Record
from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.extras import missing

_WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]
"""Files of an earlier upload that are removed unless the new one has them."""


def push(
    folder: str | Path, name: str, *, private: bool = True, message: str = "Upload a merged model"
) -> str:
    """Upload a saved merge to a repository on the hub, which is made if it does not exist.

    It is one commit of all files in the folder but hidden ones; weights of an earlier upload that
    the folder does not have are removed by it, other files stay. Who uploads is who has logged in
    with ``hf auth login``, or the owner of the token in the variable ``HF_TOKEN``.

    Args:
        folder: a folder that ``m2n2lab merge``, ``evolve --save`` or ``space.save`` made.
        name: ``user/name`` of the repository.
        private: whether a repository that is made is seen by its owner alone.
        message: that of the commit.

    Returns:
        The address of the repository.

    Raises:
        InputError: the folder holds no merge, or the hub does not accept it.
    """
    place = Path(folder)
    Record.read(place / "recipe.json")
    if not (place / "README.md").is_file() or not any(place.rglob("*.safetensors")):
        raise InputError(
            f"{place} must hold a whole merge, with its card and weights, but some are not there; "
            f"save it again."
        )
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InputError(f"A repository must be USER/NAME, got {name!r}; write, say, me/my-merge.")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise missing("push", "huggingface_hub", "llm") from error
    hub = HfApi()
    try:
        made = hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=place,
            commit_message=message,
            ignore_patterns=[".*", "*/.*"],
            delete_patterns=_WEIGHTS,
        )
    except Exception as error:  # the network and the hub raise many classes
        reason = first_line(error).rstrip(".") or type(error).__name__
        raise InputError(
            f"{place} could not be uploaded to {name}, and the hub says: {reason}; check the name "
            f"and the connection, and log in with: hf auth login."
        ) from error
    return str(made)
