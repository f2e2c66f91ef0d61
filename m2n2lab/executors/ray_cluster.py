"""The Ray of this machine: its first user starts it, its last user ends it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from typing import Any

from m2n2lab.utils.processors import processors

STORE_BYTES = 200 * 2**20
"""Shared memory of a Ray that is started by this process: only the task passes through it."""

QUIET = {"logging_level": "ERROR", "log_to_driver": False}
"""Options of ``ray.init``: errors are reported by this package."""


class LocalRay:
    """The Ray that executors of this process share; a process can have one.

    Attributes:
        lock: held while it starts and ends, because executors may live in several threads.
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
            Exception: of any kind, if Ray does not start; nothing is left of it then.
        """
        with self.lock:
            if not ray.is_initialized():
                self._end(ray)  # other code has shut it down
                # Under a short name: sockets in it may have 107 characters in all.
                short = "/tmp" if os.path.isdir("/tmp") else None
                self.folder = tempfile.mkdtemp(prefix="ray", dir=short)
                try:
                    ray.init(
                        "local",
                        num_cpus=processors(),
                        include_dashboard=False,
                        object_store_memory=STORE_BYTES,
                        _temp_dir=self.folder,
                        **QUIET,
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
"""The one of this process."""
