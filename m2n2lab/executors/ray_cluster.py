"""Local Ray: a Ray on this machine that its first user starts and its last user ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from typing import Any

from m2n2lab.utils.concurrency.processors import processors

OBJECT_STORE_BYTES = 200 * 2**20
"""Shared memory of a Ray that this process starts: only the task is stored in it."""

QUIET_OPTIONS = {"logging_level": "ERROR", "log_to_driver": False}
"""Options of ``ray.init``: errors are reported by this package."""


class LocalRay:
    """The Ray that executors of this process share; a process can have one.

    Attributes:
        lock: held while it starts and ends, because executors may run in several threads.
        users: executors that need it.
        folder: its temporary files, while it runs.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users: set[object] = set()
        self.folder: str | None = None

    def acquire(self, ray: Any, user: object) -> None:
        """Add a user, and start Ray if it does not run.

        Raises:
            Exception: of any class, if Ray does not start; it is shut down again before.
        """
        with self.lock:
            if not ray.is_initialized():
                self._end(ray)  # other code has shut it down
                # A short path, because that of a socket in it may have at most 107 characters.
                parent = "/tmp" if os.path.isdir("/tmp") else None
                self.folder = tempfile.mkdtemp(prefix="ray", dir=parent)
                try:
                    ray.init(
                        "local",
                        num_cpus=processors(),
                        include_dashboard=False,
                        object_store_memory=OBJECT_STORE_BYTES,
                        _temp_dir=self.folder,
                        **QUIET_OPTIONS,
                    )
                except BaseException:
                    self._end(ray)
                    raise
            self.users.add(user)

    def release(self, ray: Any, user: object) -> None:
        """Remove a user; with the last one Ray ends."""
        with self.lock:
            self.users.discard(user)
            if not self.users and self.folder is not None:
                self._end(ray)

    def _end(self, ray: Any) -> None:
        ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


LOCAL_RAY = LocalRay()
"""The instance of this process."""
