"""Atomic file writes, and checks of output paths before long work."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from m2n2lab.utils.errors import InputError, file_path


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a file under a temporary name beside ``path`` and rename it when it is complete.

    Raises:
        InputError: the folder is missing or not writable, or the disk is full; an older file of
            that name is kept.
    """
    target = file_path("path", path)
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
    """Create a folder if it is missing, and check that files can be written to it.

    Raises:
        InputError: it cannot be created or written to.
    """
    folder = file_path("path", path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{folder} must be a folder that can be written to, got: {error.strerror or error}; "
            f"choose another place."
        ) from error
    return folder


def check_unused(path: str | Path) -> None:
    """Check that nothing exists at ``path`` and that it can be written later.

    Raises:
        InputError: the path exists, or its folder cannot be written to.
    """
    target = Path(path)
    if os.path.lexists(target):
        raise InputError(f"{target} exists already; choose another name, or remove it.")
    writable_folder(target.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
