"""File access at any position, flushed, and renamed: the same on systems that lack a call for it.

Windows has no ``pread`` and ``pwrite``, opens files as text by default, flushes only what is open
for writing and no folders, and does not rename a folder onto an empty one.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

BINARY = getattr(os, "O_BINARY", 0)
"""Flag of ``os.open`` without which Windows translates line ends."""

_positions = threading.Lock()
"""Held where a position has to be set before a file is read or written there."""


def write_at(file: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of an open file; threads may do so at the same time."""
    view = memoryview(data)
    while view:
        if hasattr(os, "pwrite"):
            done = os.pwrite(file, view, offset)
        else:
            with _positions:
                os.lseek(file, offset, os.SEEK_SET)
                done = os.write(file, view)
        view, offset = view[done:], offset + done


def read_at(file: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer with the bytes from ``offset`` on; returns how many there were.

    Threads may do so at the same time.
    """
    done = 0
    while done < len(buffer):
        if hasattr(os, "preadv"):
            count = os.preadv(file, [buffer[done:]], offset + done)
        else:
            with _positions:
                os.lseek(file, offset + done, os.SEEK_SET)
                part = os.read(file, len(buffer) - done)
            count = len(part)
            buffer[done : done + count] = part
        if not count:
            break
        done += count
    return done


def reserve(file: int, length: int) -> None:
    """Set the length of an open file and, where the system can, allocate it on the disk.

    A full disk is then noticed before any work is done, and several threads write several times
    faster than into a growing file.
    """
    try:
        os.posix_fallocate(file, 0, length)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        os.ftruncate(file, length)


def flush(path: str | Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: the disk is full or failed.
    """
    folders = hasattr(os, "O_DIRECTORY")  # whether they can be opened
    if not folders and os.path.isdir(path):
        return
    handle = os.open(path, os.O_RDONLY if folders else os.O_RDWR | BINARY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot flush folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not os.path.isdir(path):
            raise
    finally:
        os.close(handle)


def rename_folder(folder: Path, target: Path) -> None:
    """Rename a folder; an empty folder of the new name is replaced.

    Raises:
        OSError: it cannot be renamed, for example because the other one is not empty.
    """
    try:
        os.rename(folder, target)
    except (FileExistsError, PermissionError):
        if not target.is_dir():
            raise
        os.rmdir(target)  # only an empty one
        os.rename(folder, target)
