"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from m2n2lab.utils.errors import InputError


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file under a temporary name beside ``path`` and rename it when it is complete.

    Raises:
        InputError: the folder is missing, not writable, or the disk is full; an older file of
            that name is kept then.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise InputError(
            f"{target} could not be written ({len(data):,} bytes): {error.strerror or error}; free "
            f"some space or choose another place. Nothing was left behind."
        ) from error


def writable_folder(path: str | Path) -> Path:
    """Make a folder if need be, and see that files can be written to it.

    Raises:
        InputError: it cannot be made or written to; found out before any long work starts.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{folder} must be a folder that can be written to, but: {error.strerror or error}; "
            f"choose another place."
        ) from error
    return folder


def free_place(path: str | Path) -> Path:
    """See that something can be written at ``path`` later on, where nothing is yet.

    Raises:
        InputError: something is there, or its folder cannot be written to.
    """
    place = Path(path)
    if os.path.lexists(place):
        raise InputError(f"{place} is there already; choose another name, or remove it.")
    writable_folder(place.parent)
    return place


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
