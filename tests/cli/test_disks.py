"""Disks that are full or can only be read: the reason, exit status 3, and nothing left."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from helpers.faults import failing
from helpers.merges import run
from helpers.stores import search

from m2n2lab import InputError, store
from m2n2lab.utils.files import write_atomically

DISK = [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO]


@pytest.fixture
def recorded(task, here):
    search(task).run(5, store="runs.db")
    return here


@pytest.mark.parametrize("code", DISK)
@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_an_export_onto_a_failing_disk_has_exit_status_3(option, code, recorded):
    before = sorted(os.listdir())
    with failing("fsync", 1, code):
        status, _, error = run("export", "runs.db", 1, option, "out")
    assert status == 3
    assert os.strerror(code) in error
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("option", ["--out", "--save"])
def test_a_result_that_does_not_fit_on_the_disk_has_exit_status_3(option, here):
    with failing("fsync", 1, errno.ENOSPC):
        status, _, error = run("evolve", "--from-scratch", "--steps", 1, option, "out")
    assert status == 3
    assert "No space left on device" in error
    assert not [path for path in Path().rglob("*") if path.is_file()]


def test_a_store_on_a_disk_that_can_only_be_read_has_exit_status_3(here):
    with mock.patch("filelock.FileLock.acquire", side_effect=OSError(errno.EROFS, "Read-only")):
        status, _, error = run("evolve", "--steps", 1, "--store", "new.db")
    assert status == 3
    assert "must be a file that can be written, but the system says Read-only" in error


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_output_onto_a_full_disk_is_one_sentence(recorded):
    command = [sys.executable, "-m", "m2n2lab", "runs", "runs.db"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert done.stderr == (
        "Error: The output could not be written: No space left on device; free some space.\n"
    )


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_nothing_but_a_file_is_replaced_or_made_a_store(kind, task, here):
    if kind == "pipe":
        os.mkfifo("x")
    elif kind == "folder":
        os.mkdir("x")
    else:
        os.symlink("/dev/null", "x")
    with pytest.raises(InputError, match="x could not be written"):
        write_atomically("x", "text")
    with pytest.raises(store.StoreError, match="must be a file, got a folder, pipe, socket or"):
        search(task).run(1, store="x")
    assert os.listdir() == ["x"]


@pytest.mark.skipif(not os.path.islink("/dev/stdout"), reason="a link of Linux")
def test_a_link_among_the_devices_is_not_replaced_by_a_file():
    with pytest.raises(InputError, match=r"could not be written .*A pipe, socket or device"):
        write_atomically("/dev/stdout", "text")
    assert os.path.islink("/dev/stdout")


def test_ctrl_c_while_a_file_is_written_leaves_nothing(here):
    with (
        contextlib.suppress(KeyboardInterrupt),
        mock.patch.object(os, "fsync", side_effect=KeyboardInterrupt),
    ):
        write_atomically("x", "text")
    assert not os.listdir()
