"""Atomic file writes, and checks of output paths before long work."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from m2n2lab.utils.errors import InputError, file_path
from m2n2lab.utils.file_access import flush

_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Lets a pipe be opened at once, where there is such a thing."""


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a file under a temporary name beside ``path`` and rename it when it is complete.

    Raises:
        InputError: the folder is missing or not writable, or the disk is full; an older file of
            that name is kept. Or there is a device, pipe or folder of that name.
    """
    target = file_path("path", path)
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        if os.path.realpath(target.parent) == "/dev":  # also where a device is a link to a file
            raise _no_file()
        with contextlib.suppress(FileNotFoundError):
            _check_regular(os.stat(target))
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if not isinstance(error, OSError):
            raise
        raise InputError(
            f"{target} could not be written ({len(data):,} bytes): {error.strerror or error}; free "
            f"some space or choose another place. Nothing was left behind."
        ) from error


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read it, but nothing on which reading could hang, such as a pipe.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """

    def opener(name: str, flags: int) -> int:
        _check_regular(os.stat(name))  # before it is opened: that alone can move a device
        handle = os.open(name, flags | _NO_WAIT)
        try:
            _check_regular(os.fstat(handle))
        except OSError:
            os.close(handle)
            raise
        return handle

    return open(path, "rb", opener=opener)


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise _no_file()


def _no_file() -> OSError:
    return OSError(errno.EINVAL, "A pipe, socket or device, not a file")


MAX_TEXT_BYTES = 1 << 28
"""Longest text that is read as a whole."""


def read_text(path: str | Path, errors: str = "strict") -> str:
    """Return the text of a file in UTF-8.

    Raises:
        OSError: it cannot be read, is no regular file or too long.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_file(path, MAX_TEXT_BYTES).decode("utf-8", errors)


def read_file(path: str | Path, most: int) -> bytes:
    """Return a file's content.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is no regular file or too long.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"More than {most:,} bytes")
    return content


def flush_folder(folder: Path) -> None:
    """Wait until all files and folders in a folder are on the disk, the folder itself last.

    Raises:
        OSError: the disk is full or failed.
    """
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(Path(parent, name))
        flush(parent)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is removed at the end of the block.

    Raises:
        InputError: the system has no place for temporary files that can be written to.
    """
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise InputError(
            f"There must be a place for temporary files, but one cannot be made: "
            f"{error.strerror or error}; free some space, or set TMPDIR to another folder."
        ) from error
    with folder as name:
        yield Path(name)


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
