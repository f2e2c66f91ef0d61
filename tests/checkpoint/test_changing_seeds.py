"""Seeds that other programs write to, cut or replace while they are merged."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import tensors
from helpers.merges import equal, merged, run, weights

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.checkpoint import Problems
from m2n2lab.checkpoint.from_record import rebuild
from m2n2lab.checkpoint.io import reading
from m2n2lab.checkpoint.io.hashes import Hashes


def older(*folders):
    """Let files be so old that any change alters their time."""
    for path in (path for folder in folders for path in Path(folder).rglob("*")):
        os.utime(path, (1e9, 1e9))


def overwrite(path, times=True):
    """Change a byte of the last tensor, and perhaps set the time of the change back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    if not times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def lengthen(path):
    with path.open("ab") as file:
        file.write(b"more")


def replace(path):
    shutil.copy(path, path.with_suffix(".new"))
    overwrite(path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


CHANGES = {
    "overwritten": overwrite,
    "overwritten, and its time set back": lambda path: overwrite(path, times=False),
    "cut": cut,
    "emptied": empty,
    "lengthened": lengthen,
    "replaced": replace,
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("file", ["a/model.safetensors", "b/model.safetensors", "a/config.json"])
@pytest.mark.parametrize("moment", ["before", "while it is written", "when all is written"])
def test_a_merge_of_a_seed_that_changes_ends_with_a_sentence_and_leaves_nothing(
    moment, file, change, seeds, monkeypatch
):
    older("a", "b")
    space = CheckpointSpace("a", "b")
    space.record(space.seeds[0])  # all is hashed
    calls = []

    def disturb(done):
        calls.append(done)
        if len(calls) == 1:
            CHANGES[change](Path(file))

    if moment == "before":
        disturb(0)
    elif moment == "when all is written":
        check = Hashes.check

        def checking(self, thorough=False):
            if thorough:
                disturb(0)
            check(self, thorough)

        monkeypatch.setattr(Hashes, "check", checking)
    progress = disturb if moment == "while it is written" else lambda done: None
    child = space.merge(*space.seeds, split=space.size // 2, mix=0.3)
    listed = sorted(os.listdir())
    with pytest.raises(Problems, match=f"{file}: expected .* but found "):
        space.save(child, "out", progress=progress)
    assert calls
    assert sorted(os.listdir()) == listed


@pytest.mark.parametrize("change", ["cut", "emptied", "overwritten"])
def test_a_seed_that_changes_between_two_blocks_is_noticed_at_once(change, seeds, monkeypatch):
    space = CheckpointSpace("a", "b")
    space.record(space.seeds[0])
    read, blocks = reading.SeedFile.read_into, []

    def reads(self, buffer, offset):
        blocks.append(self.path)
        if len(blocks) == 3:
            CHANGES[change](Path("b/model.safetensors"))
        read(self, buffer, offset)

    monkeypatch.setattr(reading.SeedFile, "read_into", reads)
    with pytest.raises(Problems, match=r"b/model.safetensors: expected the file of"):
        space.save(space.merge(*space.seeds, split=9, mix=0.3), "out")
    assert not Path("out").exists()


def test_a_seed_that_only_got_another_time_is_the_same(seeds):
    older("a", "b")
    space = CheckpointSpace("a", "b")
    space.record(space.seeds[0])
    for path in Path("a").iterdir():
        path.touch()
    os.chmod("b/model.safetensors", 0o444)
    space.save(space.seeds[1], "out")
    assert equal(weights("out"), weights("b"))


def test_a_change_within_one_tick_of_the_clock_is_noticed(seeds, monkeypatch):
    # As if the clock of the file system stood still since the seeds were written.
    stamps = {}

    def of(status):
        return stamps.setdefault(status.st_ino, reading.Stamp(status.st_ino, status.st_size, 0, 0))

    monkeypatch.setattr(reading.Stamp, "of", of)
    monkeypatch.setattr("m2n2lab.checkpoint.io.hashes._is_settled", lambda file, now: False)
    space = CheckpointSpace("a", "b")
    space.record(space.seeds[0])
    overwrite(Path("a/model.safetensors"))
    with pytest.raises(Problems, match=r"a/model.safetensors: expected the file of"):
        space.save(space.seeds[1], "out")
    assert not Path("out").exists()


@pytest.mark.parametrize("change", ["cut", "emptied", "overwritten", "removed"])
def test_a_live_model_of_a_seed_that_changed_is_refused(change, seeds):
    space = CheckpointSpace("a", "b", module=torch.nn.ParameterDict())
    CHANGES[change](Path("b/model.safetensors"))
    with pytest.raises(Problems, match=r"b/model.safetensors: expected the file of"):
        space.materialise(space.seeds[0])
    with pytest.raises(Problems, match=r"b/model.safetensors: expected the file of"):
        space.model(space.seeds[0])


DISTURBED = """
import json, os, sys
from m2n2lab.checkpoint import CheckpointSpace, kernels  # before the forks
from m2n2lab.cli import main

function, action, *numbers = sys.argv[1:]
whole = open("b/model.safetensors", "rb").read()
for number in numbers:
    open("b/model.safetensors", "wb").write(whole)
    child = os.fork()
    if child == 0:
        sys.stderr.flush()
        sys.stdout = sys.stderr = open("said", "w", buffering=1)
        call, left = getattr(os, function), [int(number)]

        def disturbing(*args):
            left[0] -= 1
            if left[0] == 0:
                exec(action)
            return call(*args)

        setattr(os, function, disturbing)
        sys.argv = ["m2n2lab", "merge", "a", "b", "-o", "out"]
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, open("said").read(), sorted(os.listdir())]))
"""


def disturbed(function, action, *numbers):
    """Return status, words and files of merges with an action at a call of a system function."""
    command = [sys.executable, "-c", DISTURBED, function, action, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_seed_that_is_cut_at_any_read_is_a_sentence_and_no_bus_error(seeds, monkeypatch):
    monkeypatch.setenv("M2N2LAB_CACHE", str(seeds / "own"))
    found = disturbed("preadv", 'os.truncate("b/model.safetensors", 100)', 1, 4, 9, 20, 40)
    assert len(found) == 5
    for status, words, names in found:
        assert status == 2, words
        assert "Error: b/model.safetensors: expected " in words
        assert "Traceback" not in words
        assert names == ["a", "b", "own", "said"]


@pytest.mark.parametrize(
    "signal",
    [
        signal.SIGHUP,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGTERM)),
    ],
)
def test_signals_end_a_merge_quietly_and_leave_nothing(signal, seeds):
    found = disturbed("pwrite", f"os.kill(os.getpid(), {signal:d})", 1, 2, 5, 20)
    assert len(found) == 4
    for status, words, names in found:
        assert status == 128 + signal, words
        assert "Traceback" not in words
        assert names == ["a", "b", "said"]


def test_signals_while_the_program_starts_are_quiet():
    ready = "from m2n2lab.cli import program; import os, sys, builtins\n"
    ready += "real = builtins.__import__\n"
    ready += "def importing(name, *rest):\n"
    ready += "    if name == 'typer': os.kill(os.getpid(), int(sys.argv[1]))\n"
    ready += "    return real(name, *rest)\n"
    ready += "builtins.__import__ = importing\nprogram()"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        done = subprocess.run(
            [sys.executable, "-c", ready, str(int(number))], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (128 + number, "")


def test_what_is_merged_is_what_the_recipe_says_although_a_seed_changes_later(seeds):
    merged()
    overwrite(Path("a/model.safetensors"))
    with pytest.raises(Problems, match=r"a/model.safetensors: expected the file model.safetensors"):
        rebuild("out/recipe.json", "again")


@pytest.mark.parametrize("place", ["a/out", "a/deep/down/out", "b/../b/out", "link/out"])
def test_a_result_is_never_made_inside_a_seed(place, seeds):
    Path("link").symlink_to("b")
    before = sorted(Path().rglob("*"))
    status, _, stderr = run("merge", "a", "b", "-o", place)
    assert status == 2
    assert "expected a folder for the result outside of the seeds" in stderr
    space = CheckpointSpace("a", "b")
    with pytest.raises(InputError, match="outside of the seeds, but found one inside"):
        space.save(space.seeds[0], place)
    assert sorted(Path().rglob("*")) == before


def test_a_folder_inside_a_seed_is_known_where_names_differ_by_case_alone(seeds, monkeypatch):
    Path("A").symlink_to("a")  # as on macOS and Windows, whose paths keep the case that was given
    monkeypatch.setattr(Path, "resolve", Path.absolute)
    with pytest.raises(InputError, match="outside of the seeds, but found one inside"):
        CheckpointSpace("a", "b").save(CheckpointSpace("a", "b").seeds[0], "A/out")
    assert not Path("a/out").exists()


def test_a_single_file_may_be_made_beside_a_seed_that_is_one(here):
    for k, name in enumerate("ab"):
        tensors(Path(f"{name}.safetensors"), {"w": torch.full((8,), float(k + 1))})
    merged("a.safetensors", "b.safetensors", out="c.safetensors")
    assert Path("c.safetensors").exists()
