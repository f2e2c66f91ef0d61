"""Writer: the one connection of the one process that may write a store."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from m2n2lab.store.schema import StoreError, StoreFile, connect, sqlite_errors
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.files import write_atomically

_open: dict[Path, Writer] = {}
_open_lock = threading.RLock()


class Writer:
    """A connection for writing, shared by all recorders of this process for one file.

    The lock is the operating system's, on a file beside the store; it is released when the
    process ends, however that ends.

    Attributes:
        path: the store.
        runs: numbers of the runs that are being recorded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: set[int] = set()
        self._users = 0
        self._thread_lock = threading.RLock()
        self._lock = FileLock(_beside(path, "lock"), thread_local=False)
        if not path.parent.is_dir():  # the lock would create it
            raise StoreError(
                f"The store {path} must be in a folder that exists, got {path.parent}; create it, "
                f"or choose another path."
            )
        if path.exists() and not path.is_file():
            raise StoreError(
                f"The store {path} must be a file, got a folder, pipe, socket or device; choose "
                f"another path."
            )
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"The store {path} must have one writer, but {_holder(path)} is writing to it; "
                f"wait for that to end, or choose another file."
            ) from None
        except OSError as error:
            raise StoreError(
                f"The store {path} must be a file that can be written, but the system says "
                f"{error.strerror or error}; choose another path."
            ) from error
        try:
            self._connection = connect(path, write=True)
            # A commit survives the end of the process; a power cut costs the last few at most.
            self._connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            self._lock.release()
            raise
        with suppress(InputError):  # the name only serves the error of a second writer
            # Not through a link of that name, which another user may have made.
            name = f"process {os.getpid()} on {socket.gethostname()}"
            write_atomically(_beside(path, "writer"), name)

    @classmethod
    def open(cls, path: Path) -> Writer:
        """Return the writer of a store; all callers in this process share one.

        Raises:
            StoreError: another process writes to it, or it cannot be opened.
        """
        path = path.resolve()
        with _open_lock:
            writer = _open.get(path) or cls(path)
            writer._users += 1
            _open[path] = writer
        return writer

    def close(self) -> None:
        """Release the writer; the last release closes the file."""
        with _open_lock:
            self._users -= 1
            if self._users == 0:
                del _open[self.path]
                self._connection.close()
                _beside(self.path, "writer").unlink(missing_ok=True)
                self._lock.release()

    @contextmanager
    def transaction(self) -> Iterator[StoreFile]:
        """Commit all that is written within, or nothing.

        Raises:
            StoreError: it cannot be written.
        """
        with self._thread_lock, sqlite_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def is_recorded(path: Path, run: int) -> bool:
    """Return whether this process is recording a run."""
    with _open_lock:
        writer = _open.get(path.resolve())
        return writer is not None and run in writer.runs


def in_use(path: Path) -> bool:
    """Return whether a running process writes to a store."""
    lock = FileLock(_beside(path, "lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}-{suffix}")


def _holder(path: Path) -> str:
    """Return a description of the process that writes to a store."""
    try:
        return _beside(path, "writer").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "another process"
