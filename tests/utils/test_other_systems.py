"""Merges, stores, workers and the page without the calls that Windows or macOS lack."""

import ctypes
import errno
import io
import mmap
import os
import shutil
import sys
import types
import urllib.request

import numpy as np
import pytest
from browsing import free_port, serving
from helpers.stores import same, search, small
from typer.testing import CliRunner

from m2n2lab import ProcessExecutor, store
from m2n2lab.cli import print_any_text
from m2n2lab.cli.entry import app
from m2n2lab.utils.concurrency.processors import is_running, processors
from m2n2lab.utils.file_access import read_at, rename_folder, write_at

MISSING = {
    "macOS": {os: ["posix_fallocate", "sched_getaffinity"], mmap: ["MADV_SEQUENTIAL"]},
    "Windows": {
        os: [
            *("pwrite", "pwritev", "pread", "preadv", "posix_fallocate", "sched_getaffinity"),
            *("O_DIRECTORY", "fork", "forkpty", "killpg"),
        ],
        mmap: ["PROT_READ", "MAP_SHARED", "MADV_SEQUENTIAL"],
    },
}
"""Names that systems lack, by module; each is what the project uses, or could come to use."""


def taken_away(system, patch):
    """Let this process behave as on another system, as far as its calls go."""
    for module, names in MISSING[system].items():
        for name in names:
            patch.delattr(module, name, raising=False)
    if system != "Windows":
        return
    patch.setattr(shutil, "_use_fd_functions", False)  # Python's own, which opens folders
    whole_open, whole_fsync, whole_rename = os.open, os.fsync, os.rename

    def open_file(path, flags, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return whole_open(path, flags, *rest, **options)

    def fsync(handle):
        import fcntl

        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        whole_fsync(handle)

    def rename(old, new):
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, "File exists", new)
        whole_rename(old, new)

    patch.setattr(os, "open", open_file)
    patch.setattr(os, "fsync", fsync)
    patch.setattr(os, "rename", rename)


@pytest.fixture(params=MISSING)
def elsewhere(request, monkeypatch):
    taken_away(request.param, monkeypatch)
    return request.param


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_merge_is_the_same_on_every_system_and_fills_an_empty_folder(seeds, monkeypatch):
    def merged(out):
        (seeds / out).mkdir()
        done = CliRunner().invoke(app, ["merge", "a", "b", "-o", out, "--split", "0.3"])
        assert done.exit_code == 0, done.output
        return (seeds / out / "model.safetensors").read_bytes()

    wanted = merged("here")
    for system in MISSING:
        with monkeypatch.context() as patch:
            taken_away(system, patch)
            assert merged(system) == wanted
    assert not [path for path in seeds.iterdir() if path.name.startswith(".")]


def test_a_store_resumes_and_is_copied_on_every_system(elsewhere, task, db, tmp_path):
    search(task).run(6, store=db)
    evolver = store.resume(db, task=task)
    evolver.run(4, store=db)
    assert same(search(task).run(10), evolver)
    store.backup(db, tmp_path / "copy.db")
    assert same(store.resume(tmp_path / "copy.db", task=task), evolver)


def test_files_are_read_and_written_at_any_position(elsewhere, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    with path.open("r+b") as file:
        write_at(file.fileno(), b"there", 500)
        write_at(file.fileno(), b"here", 3)
        buffer = memoryview(bytearray(7))
        assert read_at(file.fileno(), buffer, 499) == 7
        assert bytes(buffer) == b"\0there\0"
        assert read_at(file.fileno(), buffer, 996) == 4  # the file ends there
    assert path.read_bytes()[3:7] == b"here"


def test_a_full_folder_is_never_replaced(elsewhere, tmp_path):
    made, full = tmp_path / "made", tmp_path / "full"
    made.mkdir()
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(OSError, match="not empty"):
        rename_folder(made, full)
    assert (full / "file").exists()


def test_processors_are_counted_without_affinities(elsewhere):
    assert processors() == os.cpu_count()


def test_asking_windows_whether_a_process_runs_does_not_end_it(monkeypatch):
    calls = []
    kernel = types.SimpleNamespace(
        OpenProcess=lambda rights, inherit, number: number == 7,
        CloseHandle=lambda handle: calls.append(handle),
    )
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda name: kernel, raising=False)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("the process was signalled"))
    assert (is_running(7), is_running(8)) == (True, False)
    assert calls == [True]


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_a_console_of_an_old_encoding_shows_what_it_can(encoding, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    print_any_text()
    print("mutation 数 done", flush=True)
    assert written.getvalue().split() == [b"mutation", b"?", b"done"]


@pytest.mark.slow
def test_workers_start_without_fork(elsewhere):
    task = small()
    with ProcessExecutor(1) as pool:
        found = search(task).run(5, executor=pool)
    assert np.array_equal(found.archive.ids, search(task).run(5).archive.ids)


@pytest.mark.slow
@pytest.mark.parametrize("system", MISSING)
def test_the_lab_is_served(system, tmp_path):
    names = {module.__name__: names for module, names in MISSING[system].items()}
    code = (
        f"import importlib, sys, torch\n"  # which chooses by the name of the system
        f"for module, names in {names!r}.items():\n"
        f"    for name in names:\n"
        f"        vars(importlib.import_module(module)).pop(name, None)\n"
        f"from m2n2lab.cli import program\n"
        f"sys.argv = ['m2n2lab', 'serve', '--port', sys.argv[1]]\n"
        f"program()\n"
    )
    port = free_port()
    command = [sys.executable, "-c", code, str(port)]
    with serving(command, port, tmp_path / "log"):
        page = urllib.request.urlopen(f"http://localhost:{port}/", timeout=60).read()
    assert b"<h1>m2n2lab</h1>" in page
