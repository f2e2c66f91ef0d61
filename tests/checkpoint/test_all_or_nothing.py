import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import tensors
from helpers.merges import equal, files, merged, run, weights
from rich.progress import Progress

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.checkpoint import Problems


def test_a_full_disk_is_one_sentence_and_leaves_nothing(seeds, monkeypatch):
    before = sorted(Path().rglob("*"))
    done, write = [], os.pwrite

    def full(*arguments):
        done.append(arguments)
        if len(done) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", full)
    status, _, stderr = run("merge", "a", "b", "-o", "deep/down/out")
    assert status == 3
    error = stderr.partition("Error: ")[2]
    assert "deep/down/out could not be written: No space left on device; free some space" in error
    assert len(error.strip().splitlines()) == 1
    assert len(done) > 5
    assert sorted(Path().rglob("*")) == before


def test_ctrl_c_leaves_nothing(seeds, monkeypatch):
    before = sorted(Path().rglob("*"))
    pressed = []

    def press(*arguments):
        if any(path.name.endswith(".partial") for path in Path().iterdir()):
            pressed.append(arguments)
            raise KeyboardInterrupt

    space = CheckpointSpace("a", "b", progress=press)
    with pytest.raises(KeyboardInterrupt):
        space.save(space.seeds[0], "out", progress=press)
    assert sorted(Path().rglob("*")) == before
    monkeypatch.setattr(Progress, "advance", press)
    status, _, stderr = run("merge", "a", "b", "-o", "out")
    assert status == 130
    assert "Traceback" not in stderr
    assert len(pressed) == 2
    assert sorted(Path().rglob("*")) == before


def test_a_folder_that_is_there_is_never_touched(seeds):
    Path("out").mkdir()
    Path("out/mine").write_text("precious")
    with pytest.raises(Problems, match="expected a new or empty folder for the result"):
        merged()
    assert files("out") == [Path("mine")]


def test_an_empty_folder_becomes_the_result(seeds):
    Path("out").mkdir()
    assert Path("recipe.json") in files(merged())


def test_a_result_is_not_written_twice_at_once(seeds):
    space = CheckpointSpace("a", "b")
    refused = []

    def again(done):
        if not refused:
            with pytest.raises(InputError, match="is being written already") as caught:
                space.save(space.seeds[1], "out")
            refused.append(caught)

    space.save(space.seeds[0], "out", progress=again)
    assert refused
    assert equal(weights("out"), weights("a"))


def test_leftovers_of_this_process_number_are_swept(seeds):
    # In a container, the merge after a killed one often has the same number.
    space = CheckpointSpace("a", "b")
    left = []
    space.save(space.seeds[0], "x[1]", progress=lambda done: left.extend(Path().glob(".x*")))
    left[0].mkdir()
    (left[0] / "half").touch()
    shutil.rmtree("x[1]")
    space.save(space.seeds[0], "x[1]")
    assert equal(weights("x[1]"), weights("a"))
    assert not list(Path().glob(".*"))


def test_leftovers_of_processes_that_are_gone_are_swept_and_no_others(seeds):
    space = CheckpointSpace("a", "b")
    left = []
    space.save(space.seeds[0], "out", progress=lambda done: left.extend(Path().glob(".out*")))
    shutil.rmtree("out")
    wait = [sys.executable, "-c", "input()"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE) as living:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        mine = f"-{os.getpid()}."
        of_lives, of_gone = (
            Path(left[0].name.replace(mine, f"-{process.pid}.")) for process in (living, gone)
        )
        others = [Path(".out.elsewhere-1.partial"), Path(f"{left[0].name}.mine")]
        of_other_names = [Path(f".other{path.name[4:]}") for path in (left[0], of_gone)]
        for folder in (left[0], of_lives, of_gone, *others, *of_other_names):
            folder.mkdir()
        space.save(space.seeds[0], "out")
        assert living.poll() is None  # it was asked for, and not harmed
        living.communicate(b"\n")
        assert living.returncode == 0
    assert sorted(Path().glob(".*")) == sorted([of_lives, *others])
    assert equal(weights("out"), weights("a"))


KILLS = """
import filecmp, json, os, random, shutil, signal, sys, threading, time
from pathlib import Path
from m2n2lab.cli import main

out, reference, count = Path("out"), Path("reference"), int(sys.argv[1])

def merge(name):
    sys.argv = ["m2n2lab", "merge", "a", "b", "--mix", "0.3", "-o", name]
    try:
        main()
    except SystemExit as end:
        return end.code or 0

def start():
    child = os.fork()
    if child == 0:
        os._exit(merge("out"))
    return child

def left():
    return [path.name for path in Path().glob(".*.partial")]

def begun():
    return left() or out.exists()  # a quick one is whole before anybody looks

def wait(sign):
    deadline = time.time() + 60
    while time.time() < deadline and not sign():
        time.sleep(0.0002)

def complete():
    names = sorted(path.name for path in reference.iterdir())
    return sorted(path.name for path in out.iterdir()) == names and all(
        filecmp.cmp(reference / name, out / name, shallow=False) for name in names
    )

merge("reference")  # all is imported and compiled before the forks
wait(lambda: threading.active_count() == 1)
began = time.perf_counter()
child = start()
wait(begun)
preparing = time.perf_counter() - began
os.waitpid(child, 0)
usual = time.perf_counter() - began
shutil.rmtree(out)
draw = random.Random(3)
for i in range(count):
    child = start()
    if 20 * i < 7 * count:
        time.sleep(usual * draw.random())
    elif 20 * i < 17 * count:
        wait(begun)
        time.sleep((usual - preparing) * draw.random())
    else:
        wait(out.exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    there, leftover = out.exists(), bool(left())
    whole = there and complete()
    shutil.rmtree(out, ignore_errors=True)
    assert os.waitpid(start(), 0)[1] == 0  # the next one succeeds, and cleans up
    print(json.dumps([there, whole, leftover, complete() and not left()]), flush=True)
    shutil.rmtree(out)
"""


def killed(count):
    """Kill merges; return of each whether a result was there, whole, and left over."""
    draw = torch.Generator().manual_seed(0)
    for name in "ab":
        made = {f"w{i}": torch.randn(600, 1000, generator=draw).bfloat16() for i in range(4)}
        tensors(Path(name, "model.safetensors"), made)
        Path(name, "config.json").write_text("{}")
    command = [sys.executable, "-c", KILLS, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3_000)
    assert done.returncode == 0, done.stderr
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) == count
    for there, whole, leftover, after in kills:
        assert there == whole  # nothing, or all
        assert not (there and leftover)
        assert after
    assert any(leftover for _, _, leftover, _ in kills)
    whole = sum(there for there, *_ in kills)
    assert 0.1 * count <= whole <= 0.9 * count
    return whole


@pytest.mark.slow
def test_a_killed_merge_leaves_nothing_or_all_and_the_next_one_cleans_up(here):
    killed(20)


@pytest.mark.slow
def test_200_kills_of_merges_leave_nothing_or_all(here, capsys):
    whole = killed(200)
    with capsys.disabled():
        print(f"\n200 kills of merges: {200 - whole} absent, {whole} complete, 0 partial")
