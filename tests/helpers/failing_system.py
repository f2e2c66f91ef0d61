"""A program in which each call of the system that touches a file fails once: see ``tried``.

``failing_calls.c`` stands between the program and the C library, so that the writes of Python, of
SQLite and of the lab itself fail alike.
"""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_calls.c")

OPERATIONS = ("write", "flush", "rename", "read")
"""Those that can fail, in the order of the library."""

ACTIONS = ("merge", "merge into a file", "store", "export", "archive", "backup", "resume")
"""What can be tried: all that writes files of a person's, and a store that is read."""


def tried(action, operation, folder):
    """Let every call of an operation fail during an action, alone and with all after it.

    Args:
        action: one of ``ACTIONS``.
        operation: one of ``OPERATIONS``.
        folder: an empty folder.

    Returns:
        the numbers of calls, of those that failed, and of failures with nothing, or all, made.
    """
    library = folder / "failing.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    work = folder / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "helpers.failing_system", action, operation],
        cwd=work,
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "PYTHONPATH": os.pathsep.join((str(SOURCE.parents[1]), *sys.path)),
            "M2N2LAB_CACHE": str(work / "cache"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# -- in that program -----------------------------------------------------------------------------


class Merge:
    """Two small seeds merged by the command line."""

    def __init__(self, name, suffix=""):
        import torch

        from helpers.checkpoints import tensors

        self.seeds = [f"{seed}/model.safetensors" if suffix else seed for seed in "ab"]
        self.name = name
        for k, seed in enumerate("ab"):
            draw = torch.Generator().manual_seed(k)
            weights = {f"w{i}": torch.randn(40, generator=draw) for i in range(3)}
            tensors(Path(seed, "model.safetensors"), weights)
            Path(seed, "config.json").write_text("{}")
        self.before = set(os.listdir())
        time.sleep(2.1)  # files that are newer are hashed twice

    def clear(self):
        for path in Path().glob("out*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree("cache", ignore_errors=True)

    def do(self):
        from helpers.merges import run

        status, _, error = run("merge", *self.seeds, "-o", self.name, "--mix", "0.3")
        assert status in (0, 2, 3), error
        return status == 0

    def made(self):
        made = set(os.listdir()) - self.before - {"cache"}
        files = sorted(path for path in Path().rglob("*") if path.parts[0] in made)
        return {str(path): path.read_bytes() for path in files if path.is_file()} or None


class File:
    """A file that is written in place of an older one."""

    def __init__(self, write):
        self.write, self.path = write, Path("result")
        self.before = set(os.listdir()) | {"result"}

    def clear(self):
        self.path.write_bytes(b"older")

    def do(self):
        return self.write(self.path)

    def made(self):
        left = set(os.listdir()) - self.before
        assert not {name for name in left if not name.startswith("runs.db")}, left
        content = self.path.read_bytes()
        return None if content == b"older" else content


class Backup(File):
    """A copy of a store, which replaces nothing."""

    def clear(self):
        self.path.unlink(missing_ok=True)

    def made(self):
        from m2n2lab import store

        if not self.path.exists():
            return None
        assert store.check(self.path).is_whole
        return b""


class Recording:
    """A search that is recorded in batches."""

    def __init__(self):
        from helpers.stores import search, small

        self.task = small()
        self.steps = {0: search(self.task)}

    def clear(self):
        for path in Path().glob("runs.db*"):
            path.unlink()

    def do(self):
        from helpers.stores import search
        from m2n2lab import store

        evolver = search(self.task)
        recorder = store.record(evolver, "runs.db", batch=10)
        try:
            with recorder:
                evolver.run(45)
        finally:
            recorder.abandon()
        return True

    def made(self):
        from helpers.stores import same, search
        from m2n2lab import store

        try:
            found = store.check("runs.db")
        except store.StoreError as error:
            if "empty" in str(error) or "no such file" in str(error):
                return None
            raise
        assert found.is_whole
        if not found.runs:
            return None
        evolver = store.resume("runs.db", task=self.task)
        if evolver.generation not in self.steps:
            self.steps[evolver.generation] = search(self.task).run(evolver.generation)
        assert same(self.steps[evolver.generation], evolver)
        return evolver.generation


class Resumption(Recording):
    """A recorded search that is read."""

    def __init__(self):
        super().__init__()
        self.clear()
        super().do()

    def clear(self):
        self.read = None

    def do(self):
        from m2n2lab import store

        self.read = store.resume("runs.db", task=self.task)
        return True

    def made(self):
        from helpers.stores import same, search

        if self.read is None:
            return None
        assert same(search(self.task).run(45), self.read)
        return 45


def _action(name):
    from helpers.merges import run
    from helpers.stores import search, small
    from m2n2lab import save_archive, store

    if name.startswith("merge"):
        return Merge("out") if name == "merge" else Merge("out.safetensors", ".safetensors")
    if name == "store":
        return Recording()
    if name == "resume":
        return Resumption()
    evolver = search(small()).run(30, store="runs.db")
    if name == "archive":
        return File(lambda path: save_archive(evolver, path) or True)
    if name == "backup":
        return Backup(lambda path: store.backup("runs.db", path) or True)
    return File(lambda path: run("export", "runs.db", 1, "--csv", path)[0] == 0)


def _main(name, operation):
    warnings.simplefilter("ignore")
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.end_failures.restype = ctypes.c_long
    action, which = _action(name), OPERATIONS.index(operation)

    def attempt(number, code=0, goes_on=False):
        from m2n2lab import InputError

        action.clear()
        well = False
        library.fail_calls(os.getcwd().encode(), which, number, code, goes_on)
        try:
            with contextlib.suppress(InputError):
                well = action.do()
        finally:
            calls = library.end_failures()
        return calls, well, action.made()

    attempt(0)
    calls, well, whole = attempt(0)
    assert well
    assert whole is not None
    counts = {"calls": calls, "failed": 0, "absent": 0, "complete": 0}
    for number in range(1, calls + 1):
        for goes_on in (False, True):
            for code in (errno.EIO, errno.ENOSPC):
                _, well, made = attempt(number, code, goes_on)
                # Of a store, what there is was checked as it was read.
                assert made in (None, whole) or name == "store", (number, goes_on)
                assert not well or made == whole, (number, goes_on)
                counts["failed"] += not well
                counts["complete" if made == whole else "absent"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
