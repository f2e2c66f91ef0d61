"""The one process that may write a store; a dead one holds nobody up."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from m2n2lab.store.schema import StoreError, connect, sentences

_open: dict[Path, Writer] = {}
_opening = threading.RLock()


class Writer:
    """A connection that writes, shared by all that this process records in one file.

    The lock is the operating system's, on a file beside the store; it ends with its process,
    however that ends.

    Attributes:
        path: the store.
        runs: numbers of the runs that are being recorded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: set[int] = set()
        self._users = 0
        self._turn = threading.RLock()
        self._lock = FileLock(_beside(path, "lock"), thread_local=False)
        if not path.parent.is_dir():  # the lock would make it
            raise StoreError(
                f"The store {path} must be in a folder, but there is none at {path.parent}; make "
                f"it, or choose another place."
            )
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"The store {path} can have one writer, but {_holder(path)} is writing to it; wait "
                f"for its end, or choose another file."
            ) from None
        except OSError as error:
            raise StoreError(
                f"The store {path} must be a file that can be written, but: "
                f"{error.strerror or error}; choose another place."
            ) from error
        try:
            self._connection = connect(path, write=True)
            # A commit survives the end of the process; a power cut costs the last ones at most.
            self._connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            self._lock.release()
            raise
        with suppress(OSError):  # the name only serves whoever is refused
            _beside(path, "writer").write_text(f"process {os.getpid()} on {socket.gethostname()}")

    @classmethod
    def open(cls, path: Path) -> Writer:
        """Return the writer of a store, the same for all who ask in this process.

        Raises:
            StoreError: another process writes to it, or it cannot be opened.
        """
        path = path.resolve()
        with _opening:
            writer = _open.get(path) or cls(path)
            writer._users += 1
            _open[path] = writer
        return writer

    def close(self) -> None:
        """Let go of it; the last one who does so closes the file."""
        with _opening:
            self._users -= 1
            if self._users == 0:
                del _open[self.path]
                self._connection.close()
                _beside(self.path, "writer").unlink(missing_ok=True)
                self._lock.release()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all that is done within, or nothing.

        Raises:
            StoreError: it cannot be written.
        """
        with self._turn, sentences(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def in_use(path: Path) -> bool:
    """Return whether a living process writes to a store."""
    lock = FileLock(_beside(path, "lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}-{what}")


def _holder(path: Path) -> str:
    """Return who writes to a store, in words."""
    try:
        return _beside(path, "writer").read_text()
    except OSError:
        return "another process"
