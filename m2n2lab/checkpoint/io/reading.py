"""Files that are read block by block, and that must not change meanwhile."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from m2n2lab.checkpoint.io.problems import Problem, Problems, unreadable
from m2n2lab.utils.file_access import read_at
from m2n2lab.utils.files import open_regular

MAX_OPEN_FILES = 64
"""Files that are kept open: a process may open few, and large models have many."""


BLOCK_BYTES = 1 << 18
"""Bytes of a file that are read at a time: they stay in a processor's cache."""


class Stamp(NamedTuple):
    """What the system says of a file's content; any change of that alters it.

    Attributes:
        inode: the number of the file, another one if it was replaced.
        size: its bytes.
        modified: time of the last write in nanoseconds.
        changed: the same, which no program can set back.
    """

    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file that was asked for its status."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class SeedFile:
    """A file of a seed, each block of which is checked after it was read.

    Blocks are read into memory rather than mapped: access to a mapped file that another program
    makes shorter would end the process.

    Attributes:
        path: the file.
        stamp: its stamp when it was opened, or when its content was last checked.
    """

    def __init__(self, path: Path, stamp: Stamp | None = None) -> None:
        self.path = path
        self.stamp = Stamp.of(path.stat()) if stamp is None else stamp
        self._opened: _Open | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": None}  # a copy opens the file by itself

    @property
    def is_unchanged(self) -> bool:
        """Whether the file at its path is as it was."""
        try:
            return Stamp.of(self.path.stat()) == self.stamp
        except OSError:
            return False

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from an offset on.

        Raises:
            Problems: the file has changed or cannot be read.
        """
        try:
            opened = self._open()
            done = read_at(opened.number, buffer, offset)
            stamp = Stamp.of(os.fstat(opened.number))
        except OSError as error:
            self._opened = None
            raise Problems(unreadable(self.path, error)) from None
        if done < len(buffer) or stamp != self.stamp:
            self._opened = None
            raise self.changed(stamp)

    def _open(self) -> _Open:
        with _lock:
            opened = self._opened
            if opened is None:
                opened = self._opened = _Open(self.path)
                _with_open_files.append(weakref.ref(self))
                if len(_with_open_files) > MAX_OPEN_FILES:
                    oldest = _with_open_files.popleft()()
                    if oldest is not None:
                        oldest._opened = None  # another thread may read from it yet
            return opened

    def blocks(self) -> Iterator[memoryview]:
        """Yield the file's content in blocks, of which each replaces the one before.

        Raises:
            Problems: as ``read_into``.
        """
        buffer = memoryview(bytearray(min(BLOCK_BYTES, self.stamp.size)))
        for start in range(0, self.stamp.size, BLOCK_BYTES):
            block = buffer[: self.stamp.size - start]
            self.read_into(block, start)
            yield block

    def changed(self, stamp: Stamp | None = None) -> Problems:
        """Return the problem of a file that is no longer as it was."""
        found = "none" if stamp is None else "another one"
        if stamp is not None and stamp.size != self.stamp.size:
            found = f"one of {stamp.size:,} bytes"
        return Problems(
            Problem(
                file=str(self.path),
                expected=f"the file of {self.stamp.size:,} bytes that was opened, unchanged",
                found=found,
                fix="wait until nothing writes to it, and start again",
            )
        )


class _Open:
    """A file that is open until nothing uses it any longer."""

    def __init__(self, path: Path) -> None:
        with open_regular(path) as file:
            self.number = os.dup(file.fileno())

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


_with_open_files: deque[weakref.ref[SeedFile]] = deque()
"""Those that have a file open, the first one opened first."""

_lock = threading.Lock()
