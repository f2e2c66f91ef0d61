"""SHA-256 of files, computed in the background and cached while the files are unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from m2n2lab.checkpoint.io.mapping import map_file
from m2n2lab.checkpoint.io.parallel import THREADS
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.files import write_atomically

SETTLED_SECONDS = 2.0
"""Age in seconds at which a time stamp is trusted: a later change is sure to alter it."""


def cache_folder(name: str) -> Path:
    """Return a folder for cached results; the variable ``M2N2LAB_CACHE`` moves it."""
    root = os.environ.get("M2N2LAB_CACHE") or platformdirs.user_cache_dir("m2n2lab")
    return Path(root) / name


def write_cache(path: Path, content: bytes) -> None:
    """Write a file into the cache; failures are ignored, since they only cost time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except (OSError, InputError):
        pass


class _File:
    """A file to hash, as it was when this object was made.

    Attributes:
        path: its path.
        data: its content.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = (
            path.stat()
        )  # first: a later change is then seen when the digest is looked up
        self.data = map_file(path)
        self._settled = time.time() - self._before.st_mtime > SETTLED_SECONDS

    def digest(self) -> str:
        """Return its SHA-256 in hexadecimal and cache it."""
        digest = hashlib.sha256(self.data).hexdigest()  # other threads run meanwhile
        if self._settled:
            note = {**_stamp(self.path, self._before), "sha256": digest}
            write_cache(_cache_path(self.path), json.dumps(note).encode())
        return digest


class Hashes:
    """SHA-256 of files, computed in background threads that start at once.

    Args:
        files: the files.
        trust: use cached digests of files whose size and time stamps are unchanged.

    Attributes:
        done: bytes of the files that have been hashed.
    """

    def __init__(self, files: Iterable[Path], trust: bool = True) -> None:
        self.done = 0
        self._found: dict[Path, str] = {}
        self._error: OSError | None = None
        self._lock = threading.Lock()
        self._left: list[_File] = []
        try:
            for path in dict.fromkeys(files):
                if trust and (digest := _cached_digest(path)):
                    self._found[path] = digest
                else:
                    self._left.append(_File(path))
        except OSError as error:
            self._error = error
            self._left.clear()
        self._left.sort(key=lambda file: len(file.data))  # the longest are popped first
        # Daemons, so that a process that ends early does not wait for them.
        self._threads = [
            threading.Thread(target=self._run, name="m2n2lab-hash", daemon=True)
            for _ in range(min(THREADS, len(self._left)))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def ready(self) -> bool:
        """Whether all files are hashed."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self) -> Mapping[Path, str]:
        """Return the SHA-256 of every file, in hexadecimal.

        Raises:
            InputError: a file could not be read.
        """
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.1)  # short waits, so that Ctrl-C is handled
        if self._error is not None:
            raise InputError(
                f"A seed's file could not be read to its end: {self._error}; check the disk, or "
                f"copy it again."
            ) from self._error
        return dict(self._found)

    def _run(self) -> None:
        while file := self._next():
            try:
                digest = file.digest()
            except OSError as error:
                self._error = error
                return
            with self._lock:
                self.done += len(file.data)
                self._found[file.path] = digest

    def _next(self) -> _File | None:
        with self._lock:
            return self._left.pop() if self._left else None


def combined_digest(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 for several files: that of the sorted lines of ``sha256sum``.

    A single file keeps its own digest.
    """
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def when_ready(hashes: Hashes, action: Callable[[Mapping[Path, str]], object]) -> None:
    """Call ``action`` with all digests once they are known, now or in the background."""

    def wait() -> None:
        try:
            digests = hashes.wait()
        except InputError:
            return
        action(digests)

    if hashes.ready:
        wait()
    else:
        threading.Thread(target=wait, name="m2n2lab-hash", daemon=True).start()


def _cache_path(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return cache_folder("hashes") / f"{name}.json"


def _stamp(path: Path, status: os.stat_result) -> dict[str, Any]:
    return {
        "path": str(path.resolve()),
        "size": status.st_size,
        "changed": [status.st_mtime_ns, status.st_ctime_ns],  # ctime cannot be set back
        "inode": status.st_ino,
    }


def _cached_digest(path: Path) -> str | None:
    try:
        note = json.loads(_cache_path(path).read_bytes())
        same = isinstance(note, dict) and all(
            note.get(key) == value for key, value in _stamp(path, path.stat()).items()
        )
        digest = note["sha256"] if same else None
    except (OSError, ValueError, KeyError):
        return None
    return digest if isinstance(digest, str) and len(digest) == 64 else None
