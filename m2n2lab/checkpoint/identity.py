"""What files are, by their SHA-256: computed beside other work, and remembered while they stay."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from m2n2lab.checkpoint.kinds import Bytes
from m2n2lab.checkpoint.work import WORKERS
from m2n2lab.errors import InputError
from m2n2lab.files import write_whole

if TYPE_CHECKING:
    from m2n2lab.checkpoint.digests import Stream

SETTLED = 2.0
"""Seconds after which a change of a file shows in its time stamp; younger ones are not trusted."""

READ = 1 << 22
"""Bytes of a file that are hashed at a time."""


def cache_folder(name: str) -> Path:
    """Return a folder for what can be computed again; ``M2N2LAB_CACHE`` moves it."""
    root = os.environ.get("M2N2LAB_CACHE") or platformdirs.user_cache_dir("m2n2lab")
    return Path(root) / name


def remember(path: Path, content: bytes) -> None:
    """Write a file into the cache; a cache that cannot be written only costs time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except (OSError, InputError):
        pass


class _File:
    """A file on its way to its SHA-256."""

    def __init__(self, path: Path, stream: Stream) -> None:
        self.path, self.stream = path, stream
        self.before = path.stat()
        self.settled = time.time() - self.before.st_mtime > SETTLED
        self._data, self._at = _mapped(path), 0

    @property
    def left(self) -> int:
        """Bytes that are not hashed yet."""
        return len(self._data) - self._at

    def read(self) -> Bytes:
        """Return the next bytes (``READ``,), or all that are left."""
        piece = self._data[self._at : self._at + READ]
        self._at += len(piece)
        return piece

    def end(self, rest: Bytes) -> str:
        """Return its SHA-256 and remember it."""
        digest = self.stream.end(rest)
        if self.settled:
            note = {**_stamp(self.path, self.before), "sha256": digest}
            remember(_note(self.path), json.dumps(note).encode())
        return digest


class Hashes:
    """SHA-256 of files, computed in the background from the moment this is made.

    Args:
        files: the files.
        trust: take what is remembered of files whose size and time stamp have not changed.
    """

    def __init__(self, files: Iterable[Path], trust: bool = True) -> None:
        self.done = 0  # bytes hashed so far
        self._found: dict[Path, str] = {}
        self._error: Exception | None = None
        wanted = list(dict.fromkeys(files))
        self._known = {path: digest for path in wanted if trust and (digest := _remembered(path))}
        self._lock = threading.Lock()
        self._idle: list[_File] = []  # those that no thread is at
        if new := [path for path in wanted if path not in self._known]:
            # Here, because it brings numba, which what is known and headers do without.
            from m2n2lab.checkpoint import digests

            self._digests = digests
            try:
                self._idle = [_File(path, digests.Stream()) for path in new]
            except OSError as error:
                self._error = error
        self._unfinished = len(self._idle)
        # Daemons: a process that ends early does not wait for them.
        self._threads = [
            threading.Thread(target=self._run, name="m2n2lab-hash", daemon=True)
            for _ in range(min(WORKERS, len(self._idle)))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def ready(self) -> bool:
        """Whether all is known without waiting."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self) -> Mapping[Path, str]:
        """Return the SHA-256 of every file, in hexadecimal.

        Raises:
            InputError: a file could not be read.
        """
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.1)  # in turns, so that Ctrl-C is heard
        if self._error is not None:
            raise InputError(
                f"A seed's file could not be read to its end: {self._error}; check the disk, or "
                f"copy it again."
            ) from self._error
        return {**self._known, **self._found}

    def _run(self) -> None:
        try:
            while files := self._take():
                self._go_on(files)
        except OSError as error:
            self._error = error

    def _take(self) -> list[_File]:
        """Return the files to go on with: a thread's share, and those with most left.

        So all of them end together, and as many are hashed at once as long as it can be.
        """
        with self._lock:
            share = min(self._digests.TOGETHER, -(-self._unfinished // len(self._threads)))
            self._idle.sort(key=lambda file: -file.left)
            taken, self._idle = self._idle[:share], self._idle[share:]
            return taken

    def _go_on(self, files: Sequence[_File]) -> None:
        pieces = [file.read() for file in files]
        full = [i for i, piece in enumerate(pieces) if len(piece) == READ]
        if full:
            self._digests.feed([files[i].stream for i in full], [pieces[i] for i in full])
        ended = {
            file.path: file.end(piece)
            for file, piece in zip(files, pieces, strict=True)
            if len(piece) < READ
        }
        with self._lock:
            self.done += sum(map(len, pieces))
            self._found |= ended
            self._unfinished -= len(ended)
            self._idle += [files[i] for i in full]


def together(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 for several files by name: that of ``sha256sum``'s lines, sorted.

    A single file keeps its own.
    """
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def when_ready(hashes: Hashes, action: Callable[[Mapping[Path, str]], object]) -> None:
    """Do something once all files are hashed, now or in the background."""

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


def _mapped(path: Path) -> Bytes:
    """Return a file's bytes (n,), mapped: as its weights are, and read without a copy."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return np.empty(0, np.uint8)
        found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_SEQUENTIAL"):  # a disk is read a tenth faster with it
        found.madvise(mmap.MADV_SEQUENTIAL)
    return np.frombuffer(found, np.uint8)


def _note(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return cache_folder("hashes") / f"{name}.json"


def _stamp(path: Path, status: os.stat_result) -> dict[str, Any]:
    return {
        "path": str(path.resolve()),
        "size": status.st_size,
        "changed": [status.st_mtime_ns, status.st_ctime_ns],  # the latter cannot be set back
        "inode": status.st_ino,
    }


def _remembered(path: Path) -> str | None:
    try:
        note = json.loads(_note(path).read_bytes())
        same = isinstance(note, dict) and all(
            note.get(key) == value for key, value in _stamp(path, path.stat()).items()
        )
        digest = note["sha256"] if same else None
    except (OSError, ValueError, KeyError):
        return None
    return digest if isinstance(digest, str) and len(digest) == 64 else None
