"""SHA-256 of files, computed in the background and cached while the files are unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from m2n2lab.checkpoint.io.parallel import THREADS
from m2n2lab.checkpoint.io.problems import Problems
from m2n2lab.checkpoint.io.reading import SeedFile
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


class Hashes:
    """SHA-256 of files, computed in background threads that start at once.

    Args:
        files: the files.
        trust: use cached digests of files whose size and time stamps are unchanged.
        opened: those of the files that are open already; they must not have changed since.

    Attributes:
        done: bytes of the files that have been hashed.
    """

    def __init__(
        self, files: Iterable[Path], trust: bool = True, opened: Iterable[SeedFile] = ()
    ) -> None:
        self.done = 0
        self._found: dict[Path, str] = {}
        self._error: OSError | Problems | None = None
        self._lock = threading.Lock()
        self._files: list[SeedFile] = []
        self._left: list[SeedFile] = []
        known = {file.path: file for file in opened}
        try:
            for path in dict.fromkeys(files):
                file = known.get(path) or SeedFile(path)
                self._files.append(file)
                if trust and (digest := _cached_digest(file)):
                    self._found[path] = digest
                else:
                    self._left.append(file)
        except OSError as error:
            self._error = error
            self._left.clear()
        now = time.time()
        self._fresh = {file for file in self._left if not _is_settled(file, now)}
        self._left.sort(key=lambda file: file.stamp.size)  # the longest are popped first
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
            InputError: a file could not be read, or changed meanwhile.
        """
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.1)  # short waits, so that Ctrl-C is handled
        if isinstance(self._error, Problems):
            raise self._error
        if self._error is not None:
            raise InputError(
                f"A seed's file could not be read to its end: {self._error}; check the disk, or "
                f"copy it again."
            ) from self._error
        return dict(self._found)

    def copy(self, path: Path, target: Path) -> None:
        """Copy one of the files as it was hashed.

        Raises:
            Problems: it has changed since or cannot be read.
            OSError: the copy cannot be written.
        """
        file = next(file for file in self._files if file.path == path)
        with target.open("xb") as made:
            for block in file.blocks():
                made.write(block)

    def check(self, thorough: bool = False) -> None:
        """Check that all files are as they were; a file that only got another time counts as such.

        Args:
            thorough: read files again that had been written so shortly before they were opened
                that a further change may have left their time as it was.

        Raises:
            InputError: one has changed or cannot be read.
        """
        for file in self._files:
            if file.is_unchanged and not (thorough and file in self._fresh):
                continue
            digest = self.wait()[file.path]
            try:
                now = SeedFile(file.path)
            except OSError:
                raise file.changed() from None
            if _digest(now) != digest:
                raise file.changed(now.stamp)
            file.stamp = now.stamp
            if _is_settled(file, time.time()):
                self._fresh.discard(file)

    def _run(self) -> None:
        while file := self._next():
            try:
                digest = _digest(file)
            except Problems as error:
                self._error = error
                return
            if file not in self._fresh:
                note = {**_note(file), "sha256": digest}
                write_cache(_cache_path(file.path), json.dumps(note).encode())
            with self._lock:
                self.done += file.stamp.size
                self._found[file.path] = digest

    def _next(self) -> SeedFile | None:
        with self._lock:
            return self._left.pop() if self._left else None


def _digest(file: SeedFile) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        Problems: it changed since it was opened or cannot be read.
    """
    found = hashlib.sha256()
    for block in file.blocks():
        found.update(block)  # other threads run meanwhile
    return found.hexdigest()


def _is_settled(file: SeedFile, now: float) -> bool:
    """Return whether a file is so old that any later change alters its stamp."""
    return now - file.stamp.modified / 1e9 > SETTLED_SECONDS


def combined_digest(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 for several files: that of the sorted lines of ``sha256sum``.

    A single file keeps its own digest.
    """
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def when_ready(hashes: Hashes, action: Callable[[Mapping[Path, str]], object]) -> None:
    """Call ``action`` with all digests once they are known, now or in the background.

    An ``InputError``, such as that of a file that could not be read, ends it.
    """

    def wait() -> None:
        with suppress(InputError):
            action(hashes.wait())

    if hashes.ready:
        wait()
    else:
        threading.Thread(target=wait, name="m2n2lab-hash", daemon=True).start()


def _cache_path(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return cache_folder("hashes") / f"{name}.json"


def _note(file: SeedFile) -> dict[str, Any]:
    return {
        "path": str(file.path.resolve()),
        "size": file.stamp.size,
        "changed": [file.stamp.modified, file.stamp.changed],
        "inode": file.stamp.inode,
    }


def _cached_digest(file: SeedFile) -> str | None:
    try:
        note = json.loads(_cache_path(file.path).read_bytes())
        same = isinstance(note, dict) and all(
            note.get(key) == value for key, value in _note(file).items()
        )
        digest = note["sha256"] if same else None
    except (OSError, ValueError, KeyError):
        return None
    return digest if isinstance(digest, str) and len(digest) == 64 else None
