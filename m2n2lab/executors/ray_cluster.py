"""A Ray on this machine: whoever needs it first starts it, whoever is there last ends it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from typing import Any

from m2n2lab.processors import processors

STORE = 200 * 2**20
"""Bytes of shared memory of a Ray that is started here: only the task passes through it."""

QUIET = {"logging_level": "ERROR", "log_to_driver": False}
"""Options of ``ray.init``: what goes wrong is told by us."""


class LocalRay:
    """The Ray that executors of this process share; a process can have one.

    Attributes:
        lock: held while it starts and ends, which executors in several threads may ask for.
        users: who needs it.
        folder: its own, while it runs.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users: set[object] = set()
        self.folder: str | None = None

    def start(self, ray: Any, user: object) -> None:
        """Start it, if it does not run, and have one more user.

        Raises:
            Exception: of any kind, if Ray does not start; nothing is left of it then.
        """
        with self.lock:
            if not ray.is_initialized():
                self._end(ray)  # what somebody else has shut down
                # Under a short name: sockets in it may have 107 characters in all.
                short = "/tmp" if os.path.isdir("/tmp") else None
                self.folder = tempfile.mkdtemp(prefix="ray", dir=short)
                try:
                    ray.init(
                        "local",
                        num_cpus=processors(),
                        include_dashboard=False,
                        object_store_memory=STORE,
                        _temp_dir=self.folder,
                        **QUIET,
                    )
                except BaseException:
                    self._end(ray)
                    raise
            self.users.add(user)

    def leave(self, ray: Any, user: object) -> None:
        """Have one user less; with the last one it ends."""
        with self.lock:
            self.users.discard(user)
            if not self.users and self.folder is not None:
                self._end(ray)

    def _end(self, ray: Any) -> None:
        ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


HERE = LocalRay()
"""That of this process."""
